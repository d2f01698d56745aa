"""Arguments and options that several commands share, and the study that they speak of."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ablate.schedule.resources import gpu_count
from ablate.store.files import parse_store
from ablate.store.folders import Store

screen = Console(stderr=True, highlight=False)


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file.")]


StudyArgument = typer.Argument(metavar="STUDY", help="A study's name in the store, or its file.")


StudyName = Annotated[str, StudyArgument]


StoreOption = Annotated[
    Path,
    typer.Option("--store", envvar="ABLATE_STORE", help="Where results live: a folder or s3://….", parser=parse_store),
]


Scale = Annotated[str | None, typer.Option("--scale", help="A scale of the study (default: gpu or cpu, by machine).")]


Set = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override one setting; repeatable.")]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


Tracking = Annotated[
    str | None,
    typer.Option("--tracking", envvar="MLFLOW_TRACKING_URI", help="MLflow URI, or none (default: in the store)."),
]


MaxHours = Annotated[
    float | None, typer.Option(help="Refuse if what is pending takes longer, in hours of one worker.", min=0)
]


MaxTrials = Annotated[int | None, typer.Option(help="Refuse if more trials are pending.", min=0)]


STORE = Path("runs")


def find(reference: str, scale: str | None, overrides: list[str] | None, store: Path) -> Any:
    """A study from its file or from the store."""
    from ablate.driver.studies import find_study

    return find_study(reference, Store(store), scale, tuple(overrides or ()), gpu=gpu_count() > 0)


def validated(reference: str, scale: str | None, overrides: list[str] | None, store: Path) -> Any:
    """A study from its file or from the store, checked as `ablate check` does. Prints notes to stderr.

    Raises StudyError, also where the store holds another study under its name.
    """
    from ablate.adaptive.tuning import recall
    from ablate.driver.preflight import validate
    from ablate.driver.studies import check_name, find_document

    found = find_document(reference, Store(store), scale, tuple(overrides or ()))
    checked = validate(found.document, found.scale, found.overrides, gpu=gpu_count() > 0)
    for note in checked.notes:
        screen.print(f"note: {note}", soft_wrap=True)
    check_name(checked.study, Store(store))
    return recall(checked.study, Store(store))
