"""The main job: what is pending is run, recorded and mirrored; then the tables and the report are written."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ablate import console, strict_yaml
from ablate.agenda import Event, Source
from ablate.identity import signature
from ablate.preflight import fits, preflight, prepare_data, try_models
from ablate.pruner import Pruner
from ablate.replicates import more_seeds
from ablate.schedule import Resources, run_inline, run_ray
from ablate.spec import Study, load_study, read_study
from ablate.stale import set_aside
from ablate.store import Store, is_remote, read_json, whole, write_json
from ablate.strict_yaml import Problem, StudyError
from ablate.suggest import Explorer, each_level
from ablate.trials import Trial, expand, pending, planned_steps
from ablate.tuning import Tuner, known_trials, recall, trials_to_come

if TYPE_CHECKING:
    from ablate.track import Mirror, NoMirror
    from analysis.table import Table

TABLES = {"md": "markdown", "tex": "latex", "csv": "csv"}
UI_URL = "http://127.0.0.1:5000"
FOLLOW_S = 10.0
"""How often the step metrics of a running trial are mirrored."""


@dataclass(frozen=True)
class Sweep:
    """How a sweep ended."""

    table: "Table"
    files: dict[str, Path]
    ran: int
    failed: dict[str, str]
    links: dict[str, str]


def find_study(reference: str, store: Store, scale: str | None, overrides: tuple[str, ...], *, gpu: bool) -> Study:
    """A study by its file, or by its name in the store as it was last run; with what its search has tried by now.

    Raises StudyError.
    """
    if Path(reference).suffix in {".yaml", ".yml"} or Path(reference).exists():
        return recall(load_study(Path(reference), scale, overrides, gpu=gpu), store)
    studies = store.studies()
    if reference not in studies or (scale and scale not in studies[reference]):
        held = ", ".join(f"{name} ({' '.join(scales)})" for name, scales in studies.items()) or "none"
        wanted = f"study '{reference}'" + (f" at scale '{scale}'" if scale else "")
        raise StudyError([Problem(str(store.root), 0, 0, f"the store holds no {wanted}; it holds: {held}")])
    folder = store.study(reference, scale or studies[reference][0])
    card = read_json(folder.card)
    document = strict_yaml.parse(folder.source.read_text(encoding="utf-8"), str(folder.source))
    named = None if card["scale"] == "base" else card["scale"]
    return recall(read_study(document, named, (*card["overrides"], *overrides), gpu=gpu), store)


def check_name(study: Study, store: Store) -> None:
    """Raise StudyError if the store holds another study, that is another question, under this name."""
    for scale in store.studies().get(study.name, []):
        card = read_json(store.study(study.name, scale).card)
        if card["question"].split() != study.question.split():
            message = (
                f"the store {store.root} holds another study named '{study.name}', which asks: {card['question']!r} "
                f"(from {card['file']}); rename this one or use another --store"
            )
            raise StudyError([study.document.problem(("study",), message)])


def write_card(study: Study, trials: list[Trial], store: Store) -> None:
    """Keep the study as it is run, so that its name alone finds it again."""
    folder = store.study(study.name, study.scale)
    before = read_json(folder.card) or {}
    with whole(folder.source) as temporary:
        temporary.write_text(study.document.text, encoding="utf-8")
    card = {
        "name": study.name, "question": study.question, "file": study.document.file, "scale": study.scale,
        "overrides": list(study.overrides), "trials": [trial.signature for trial in trials],
    }  # fmt: skip
    write_json(folder.card, {**card, "mirrored": before.get("mirrored")})


def sweep(
    study: Study, store: Store, resources: Resources, uri: str, screen: Console, *, inline: bool, redo: bool = False
) -> Sweep:
    """Run what the store lacks of a study. Raises StudyError or StoreError before anything starts.

    `redo`: run again, too, what other code has made.
    """
    store.check()
    study = more_seeds(recall(study, store), store)
    stale = set_aside(known_trials(study, store), store) if redo else []
    if redo:
        screen.print(f"{len(stale)} trials made by other code, set aside in {store.root / 'stale'}", soft_wrap=True)
        study = more_seeds(recall(study, store), store)
    trials, source = known_trials(study, store), source_of(study, store)
    todo, more = pending(trials, store), trials_to_come(study, store)
    check_name(study, store)
    samples = todo + (each_level(study) if more else [])
    preflight(study, samples)
    if samples:
        if skipped := prepare_data(study, samples, store):
            screen.print(f"data: {len(skipped)} damaged files left out: {', '.join(skipped[:5])}", soft_wrap=True)
        try_models(study, samples)
    write_card(study, trials, store)
    announce(study, trials, todo, more, screen)
    mirror = open_mirror(study, trials, bool(todo or source), store, uri)
    seen, ran = {trial.signature for trial in trials} | store.held(), len(todo)
    with mirror, console.Progress(trials, todo, store, study.metrics[study.primary], screen, more) as progress:
        run, follow = run_inline if inline else run_ray, follower(mirror, progress)
        while todo or source:
            pruner = Pruner(study, study.pruning, store) if study.pruning else None
            run(todo, store, resources, follow, source, pruner)
            study, source = recall(study, store), None
            tried = {trial.signature for trial in known_trials(study, store)}
            study = more_seeds(study, store)
            trials = known_trials(study, store)
            todo = [trial for trial in pending(trials, store) if trial.signature not in tried]
            for trial in todo:
                follow(Event("suggested", trial))
    write_card(study, trials, store)
    table, files = write_results(study, expand(study), store)
    failed = {trial.name: store.stage(trial.signature).failure() for trial in pending(trials, store)}
    links = close_mirror(mirror, study, trials, store, table, files, uri)
    ran += sum(trial.signature not in seen for trial in trials)
    return Sweep(table, files, ran, failed, links)


def source_of(study: Study, store: Store) -> Source | None:
    """What tells the rest of the trials as others end; None where all are known."""
    source = Tuner(study, store) if study.tuning else Explorer(study, store, fits) if study.search else None
    return source if source and source.left else None


def announce(study: Study, trials: list[Trial], todo: list[Trial], more: int, screen: Console) -> None:
    """One line on what is about to happen."""
    planned, distinct = planned_steps(trials)
    steps = f"{planned} steps" if planned == distinct else f"{distinct} distinct steps of {planned} planned"
    what = f"{len(trials)} trials ({steps}), {len(todo)} to run"
    what += f", {more} at most whose settings depend on these" if more else ""
    screen.print(f"{study.name} at scale {study.scale} ({study.scale_reason}): {what}", soft_wrap=True)


def follower(mirror: "Mirror | NoMirror", progress: console.Progress) -> Callable[[Event], None]:
    """What the driver does with each event: mirror it, show it."""
    followed: dict[str, float] = {}

    def notify(event: Event) -> None:
        if event.kind == "suggested":
            mirror.add(event.trial)
        elif event.kind == "started":
            mirror.start(event.trial)
        elif event.kind == "progress":
            now = time.monotonic()
            if now - followed.setdefault(event.trial.signature, now) > FOLLOW_S:
                followed[event.trial.signature] = now
                mirror.follow(event.trial)
        elif event.kind != "interrupted":
            mirror.finish(event.trial)
        progress.notice(event)

    return notify


def write_results(study: Study, trials: list[Trial], store: Store) -> tuple["Table", dict[str, Path]]:
    """Write the study's table in every format, and its report; gives the table, and format -> file."""
    from analysis.report import write_report
    from analysis.results import gather

    folder, results = store.study(study.name, study.scale), gather(study, trials, store)
    files = {form: folder.table(suffix) for suffix, form in TABLES.items()}
    for form, path in files.items():
        with whole(path) as temporary:
            temporary.write_text(getattr(results.table, form)(), encoding="utf-8")
    write_report(results, folder.report)
    return results.table, {**files, "report": folder.report}


def open_mirror(study: Study, trials: list[Trial], runs: bool, store: Store, uri: str) -> "Mirror | NoMirror":
    """The MLflow mirror, or its no-op twin where MLflow already shows all there is."""
    from ablate.track import Mirror, NoMirror

    card = read_json(store.study(study.name, study.scale).card)
    shown = not runs and (card.get("mirrored") or {}).get("content") == _content(trials, uri)
    if shown or uri == "none":
        return NoMirror()
    return Mirror(uri, _artifacts(store, uri), study, trials, store)


def close_mirror(
    mirror: "Mirror | NoMirror",
    study: Study,
    trials: list[Trial],
    store: Store,
    table: "Table",
    files: dict[str, Path],
    uri: str,
) -> dict[str, str]:
    """Bring tables and report to MLflow and note in the store what it shows; gives the links."""
    folder = store.study(study.name, study.scale)
    card = read_json(folder.card)
    mirror.finish_study(_texts(files), _note(study, table))
    if links := mirror.links(UI_URL):
        write_json(folder.card, {**card, "mirrored": {"content": _content(trials, uri), "links": links}})
        return links
    return dict((card.get("mirrored") or {}).get("links", {}))


def _content(trials: list[Trial], uri: str) -> str:
    return signature([uri, [trial.signature for trial in trials], [trial.probe_keys for trial in trials[:1]]])


def resync(study: Study, store: Store, uri: str) -> dict[str, str]:
    """Mirror a study's records to MLflow again; gives the links. Raises what MLflow raises."""
    from ablate.track import sync

    trials = known_trials(study, store)
    table, files = write_results(study, expand(study), store)
    mirror = sync(uri, _artifacts(store, uri), study, trials, store, _texts(files), _note(study, table))
    return mirror.links(UI_URL)


def _artifacts(store: Store, uri: str) -> Path | None:
    in_store = not is_remote(store.root) and uri == store.mlflow_uri
    return store.mlflow_artifacts if in_store else None


def _texts(files: dict[str, Path]) -> dict[str, str]:
    """Path among the study's artifacts in MLflow -> text."""
    return {
        path.name if form == "report" else f"tables/{path.name}": path.read_text(encoding="utf-8")
        for form, path in files.items()
    }


def _note(study: Study, table: "Table") -> str:
    return f"{study.question}\n\n{table.markdown()}"
