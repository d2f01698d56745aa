"""Writes the outputs of a sweep: tables, a report, and a mirror in MLflow."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.identity import signature
from ablate.plan.plan import Plan
from ablate.redaction import redact, redact_addresses
from ablate.store import damage
from ablate.store.card import read_card
from ablate.store.files import atomic_write, is_remote, write_json
from ablate.store.folders import Store
from ablate.study.study import Study
from ablate.track.look import database_fault, database_file, holds
from ablate.track.texts import experiment_name

if TYPE_CHECKING:
    from ablate.analysis.tables.table import Table
    from ablate.track.mirror import Mirror, NoMirror

TABLES = {"md": "markdown", "tex": "latex", "csv": "csv"}


UI_URL = "http://127.0.0.1:5000"


def write_results(plan: Plan) -> tuple["Table", dict[str, Path]]:
    """Write the study's table in every format, and its report. Returns the table, and format -> file."""
    from ablate.analysis.report import write_report
    from ablate.analysis.study_results import gather

    folder = plan.store.study(plan.study.name, plan.study.variant)
    results = gather(plan)
    files = {form: folder.table(suffix) for suffix, form in TABLES.items()}
    for form, path in files.items():
        with atomic_write(path) as temporary:
            temporary.write_text(getattr(results.table, form)(), encoding="utf-8")
    write_report(results, folder.report)
    return results.table, {**files, "report": folder.report}


def open_mirror(plan: Plan, uri: str, *, runs: bool) -> "Mirror | NoMirror":
    """The MLflow mirror, or a `NoMirror` if MLflow is up to date or `uri` is "none". `runs`: whether trials run.

    A database in the store that is damaged is moved aside, and one that lacks the study's runs is written again.
    """
    from ablate.track.mirror import Mirror, NoMirror

    study = plan.study
    store = plan.store
    card = read_card(store.study(study.name, study.variant).card)
    if uri == "none":
        return NoMirror()
    if _artifacts(store, uri):
        _move_damaged_database(database_file(uri))
    noted = (card.get("mirrored") or {}).get("content") == _content(plan, uri)
    if noted and not runs and holds(uri, experiment_name(study), _finished(plan)) is not False:
        return NoMirror()
    return Mirror(uri, _artifacts(store, uri), study, plan.ready, store, plan.treatments)


def close_mirror(
    mirror: "Mirror | NoMirror", plan: Plan, table: "Table", files: dict[str, Path], uri: str
) -> dict[str, str]:
    """Mirror the tables and the report, and note in the store what MLflow shows. Returns name of a view -> URL."""
    folder = plan.store.study(plan.study.name, plan.study.variant)
    card = read_card(folder.card)
    mirror.finish_study(_texts(files), _note(plan.study, table))
    links = mirror.links(UI_URL)
    if links and holds(uri, experiment_name(plan.study), _finished(plan)) is False:
        sys.stderr.write(
            f"MLflow lacks runs of this study that were sent to {redact(uri)}: it was deleted or replaced meanwhile. "
            "The same command, or `ablate sync`, sends them again.\n"
        )
    elif links:
        write_json(folder.card, {**card, "mirrored": {"content": _content(plan, uri), "links": links}})
        return links
    return dict((card.get("mirrored") or {}).get("links", {}))


def _finished(plan: Plan) -> set[str]:
    """Signatures of the trials with a record."""
    return {trial.signature for trial in plan.ready if plan.store.stage(trial.signature).record()}


def _move_damaged_database(file: Path | None) -> None:
    if file and file.exists() and (fault := database_fault(file)):
        for part in sorted(file.parent.glob(f"{file.name}*")):  # with its write-ahead log
            damage.report(part, fault)
            damage.set_aside(part)


def _content(plan: Plan, uri: str) -> str:
    """Content hash of what MLflow shows of a plan."""
    trials = plan.ready
    where = redact_addresses(uri)
    return signature([where, [trial.signature for trial in trials], [trial.probe_keys for trial in trials[:1]]])


def resync(plan: Plan, uri: str) -> dict[str, str]:
    """Send to MLflow what it does not have yet of a study. Returns name of a view -> URL. Raises ServerError."""
    from ablate.track.mirror import sync

    study = plan.study
    store = plan.store
    table, files = write_results(plan)
    mirror = sync(
        uri, _artifacts(store, uri), study, plan.ready, store, _texts(files), _note(study, table), plan.treatments
    )
    return mirror.links(UI_URL)


def _artifacts(store: Store, uri: str) -> Path | None:
    """The store's folder for MLflow's artifacts; None if MLflow's data is not in a local store."""
    in_store = not is_remote(store.root) and uri == store.mlflow_uri
    return store.mlflow_artifacts if in_store else None


def _texts(files: dict[str, Path]) -> dict[str, str]:
    """Path of an artifact of the study in MLflow -> its text."""
    return {
        path.name if form == "report" else f"tables/{path.name}": path.read_text(encoding="utf-8")
        for form, path in files.items()
    }


def _note(study: Study, table: "Table") -> str:
    return f"{study.question}\n\n{table.markdown()}"
