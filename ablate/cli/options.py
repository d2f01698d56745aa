"""Arguments and options that several commands share, and how they load a study."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ablate.schedule.resources import gpu_count
from ablate.slots import discover, registry
from ablate.store.files import StoreError, check_access, parse_store
from ablate.store.folders import Store

screen = Console(stderr=True, highlight=False)


StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file, or the name of an example study.")]


StudyArgument = typer.Argument(metavar="STUDY", help="A study's name in the store, its file, or an example study.")


StudyName = Annotated[str, StudyArgument]


def read_store(location: str | Path) -> Path:
    """The root of the store that `--store` names. Exits with 2 for one that cannot be used."""
    try:
        root = parse_store(location)
        check_access(root)
    except StoreError as error:  # the parser of an option must not raise ValueError, whose text is not shown
        screen.print(str(error), style="red", soft_wrap=True, markup=False)
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


def _name_components(paths: list[Path] | None) -> list[Path] | None:
    """Remember the folders of `--components`, which every study that is read from now on sees."""
    discover.given = tuple(paths or ())
    return paths


Components = Annotated[
    list[Path] | None,
    typer.Option(
        "--components",
        metavar="DIR",
        help="Folder of own levels, DIR/SLOT/LEVEL.py, beside components/ next to the study; repeatable.",
        callback=_name_components,
    ),
]


def use_own_levels() -> None:
    """Put own levels into effect for a command that reads no study: those in ./components and all named folders."""
    registry.use(discover.discover(Path.cwd()))


MaxHours = Annotated[
    float | None, typer.Option(help="Refuse if the pending work takes longer, in hours of one worker.", min=0)
]


MaxTrials = Annotated[int | None, typer.Option(help="Refuse if more trials than this are pending.", min=0)]


STORE = Path("runs")


def find(reference: str, scale: str | None, overrides: list[str] | None, store: Path) -> Any:
    """Load a study from its file or from the store."""
    from ablate.adaptive.recall import plan_study
    from ablate.driver.studies import find_document
    from ablate.study.study import read_study

    found = find_document(reference, Store(store), scale, tuple(overrides or ()))
    if found.note:
        screen.print(f"note: {found.note}", soft_wrap=True, markup=False)
    study = read_study(found.document, found.scale, found.overrides, gpu=gpu_count() > 0)
    return plan_study(study, Store(store))


def validated(reference: str, scale: str | None, overrides: list[str] | None, store: Path) -> Any:
    """A study from its file or from the store, checked as `ablate check` does. Prints notes to stderr.

    Raises StudyError, also where the store holds another study under its name.
    """
    from ablate.driver.preflight import validate
    from ablate.driver.studies import check_name, find_document

    found = find_document(reference, Store(store), scale, tuple(overrides or ()))
    checked = validate(found.document, found.scale, found.overrides, gpu=gpu_count() > 0)
    for note in [*checked.notes, *([found.note] if found.note else [])]:
        screen.print(f"note: {note}", soft_wrap=True, markup=False)
    check_name(checked.study, Store(store))
    return checked.study
