"""Arguments and options that several commands share, and how they load a study."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ablate.schedule.resources import gpu_count
from ablate.store.files import StoreError, check_access, parse_store
from ablate.store.folders import Store

screen = Console(stderr=True, highlight=False, markup=False, emoji=False)


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file, or the name of an example study.")]


StudyArgument = typer.Argument(metavar="STUDY", help="A study's name in the store, its file, or an example study.")


StudyName = Annotated[str, StudyArgument]


def read_store(location: str | Path) -> Path:
    """The root of the store that `--store` names. Exits with 2 for one that cannot be used."""
    try:
        root = parse_store(location)
        check_access(root)
    except StoreError as error:  # the parser of an option must not raise ValueError, whose text is not shown
        screen.print(str(error), style="red", soft_wrap=True)
        raise typer.Exit(2) from None
    return root


StoreOption = Annotated[
    Path,
    typer.Option("--store", envvar="ABLATE_STORE", help="Store of results: a folder or s3://…", parser=read_store),
]


Scale = Annotated[str | None, typer.Option("--scale", help="Scale of the study (default: gpu or cpu, by machine).")]


Set = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a setting; repeatable.")]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


Tracking = Annotated[
    str | None,
    typer.Option("--tracking", envvar="MLFLOW_TRACKING_URI", help="URI of MLflow, or none (default: in the store)."),
]


MaxHours = Annotated[
    float | None, typer.Option(help="Refuse if the pending work takes longer, in hours of one worker.", min=0)
]


MaxTrials = Annotated[int | None, typer.Option(help="Refuse if more trials than this are pending.", min=0)]


STORE = Path("runs")


def find(reference: str, scale: str | None, overrides: list[str] | None, store: Path) -> Any:
    """Load a study from its file or from the store."""
    from ablate.adaptive.recall import plan_study
    from ablate.driver.studies import find_study

    study = find_study(reference, Store(store), scale, tuple(overrides or ()), gpu=gpu_count() > 0)
    return plan_study(study, Store(store))


def validated(reference: str, scale: str | None, overrides: list[str] | None, store: Path) -> Any:
    """A study from its file or from the store, checked as `ablate check` does. Prints notes to stderr.

    Raises StudyError, also where the store holds another study under its name.
    """
    from ablate.driver.preflight import validate
    from ablate.driver.studies import check_name, find_document

    found = find_document(reference, Store(store), scale, tuple(overrides or ()))
    checked = validate(found.document, found.scale, found.overrides, gpu=gpu_count() > 0)
    for note in checked.notes:
        screen.print(f"note: {note}", soft_wrap=True)
    check_name(checked.study, Store(store))
    return checked.study
