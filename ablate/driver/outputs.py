"""What a sweep leaves behind: tables, a report, and a mirror in MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING

from ablate.identity import signature
from ablate.plan.plan import Plan
from ablate.store.files import atomic_write, is_remote, read_json, write_json
from ablate.store.folders import Store
from ablate.study.study import Study

if TYPE_CHECKING:
    from ablate.analysis.tables.table import Table
    from ablate.track.mirror import Mirror, NoMirror

TABLES = {"md": "markdown", "tex": "latex", "csv": "csv"}


UI_URL = "http://127.0.0.1:5000"


def write_results(plan: Plan) -> tuple["Table", dict[str, Path]]:
    """Write the study's table in every format, and its report; gives the table, and format -> file."""
    from ablate.analysis.report import write_report
    from ablate.analysis.results import gather

    folder = plan.store.study(plan.study.name, plan.study.scale)
    results = gather(plan)
    files = {form: folder.table(suffix) for suffix, form in TABLES.items()}
    for form, path in files.items():
        with atomic_write(path) as temporary:
            temporary.write_text(getattr(results.table, form)(), encoding="utf-8")
    write_report(results, folder.report)
    return results.table, {**files, "report": folder.report}


def open_mirror(plan: Plan, uri: str, *, runs: bool) -> "Mirror | NoMirror":
    """The MLflow mirror, or its no-op twin where MLflow already shows all there is. `runs`: whether anything is run."""
    from ablate.track.mirror import Mirror, NoMirror

    study, store = plan.study, plan.store
    card = read_json(store.study(study.name, study.scale).card)
    shown = not runs and (card.get("mirrored") or {}).get("content") == _content(plan, uri)
    if shown or uri == "none":
        return NoMirror()
    return Mirror(uri, _artifacts(store, uri), study, plan.ready, store)


def close_mirror(
    mirror: "Mirror | NoMirror", plan: Plan, table: "Table", files: dict[str, Path], uri: str
) -> dict[str, str]:
    """Bring tables and report to MLflow and note in the store what it shows; gives the links."""
    folder = plan.store.study(plan.study.name, plan.study.scale)
    card = read_json(folder.card)
    mirror.finish_study(_texts(files), _note(plan.study, table))
    if links := mirror.links(UI_URL):
        write_json(folder.card, {**card, "mirrored": {"content": _content(plan, uri), "links": links}})
        return links
    return dict((card.get("mirrored") or {}).get("links", {}))


def _content(plan: Plan, uri: str) -> str:
    trials = plan.ready
    return signature([uri, [trial.signature for trial in trials], [trial.probe_keys for trial in trials[:1]]])


def resync(plan: Plan, uri: str) -> dict[str, str]:
    """Mirror a study's records to MLflow again; gives the links. Raises what MLflow raises."""
    from ablate.track.mirror import sync

    study, store = plan.study, plan.store
    table, files = write_results(plan)
    mirror = sync(uri, _artifacts(store, uri), study, plan.ready, store, _texts(files), _note(study, table))
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
