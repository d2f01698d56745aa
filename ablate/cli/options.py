"""Arguments and options that several commands share, and how they load a study."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from ablate.errors import StoreError, UsageError
from ablate.plan.commands import DEFAULT_STORE
from ablate.plan.plan import Plan
from ablate.slots import discover, registry
from ablate.store.folders import Store, open_store
from ablate.study.study import Study

screen = Console(stderr=True, highlight=False, markup=False, emoji=False)


def fail(message: str) -> NoReturn:
    """Say what is wrong, and exit with 2."""
    screen.print(message, style="red", soft_wrap=True)
    raise typer.Exit(2)


def complete_study(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Studies that a shell offers, with what they are: those of the store, files, examples."""
    from ablate.study.shipped import shipped

    store = Store(Path(ctx.params.get("store") or os.environ.get("ABLATE_STORE") or STORE))
    offered = dict.fromkeys(shipped(), "example")
    folder = Path(incomplete.rpartition("/")[0] or "/") if "/" in incomplete else Path()
    try:
        offered |= dict.fromkeys((str(path) for path in sorted(folder.glob("*.y*ml"))), "file")
        offered |= dict.fromkeys(store.studies() if ctx.command.name not in FILES_ONLY else (), "in the store")
    except OSError:  # a folder that cannot be read
        pass
    return [(name, what) for name, what in offered.items() if name.startswith(incomplete)]


FILES_ONLY = ("check",)
"""Commands that take a file or an example, and no name in the store."""


StudyFile = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY.yaml", help="A study file, or the name of an example study.", autocompletion=complete_study
    ),
]


StudyArgument = typer.Argument(
    metavar="STUDY", help="A study's name in the store, its file, or an example study.", autocompletion=complete_study
)


StudyName = Annotated[str, StudyArgument]


def read_store(location: str | Path) -> Path:
    """The root of the store that `--store` names. Exits with 2 for one that cannot be used."""
    try:
        return open_store(location).root
    except StoreError as error:  # the parser of an option must not raise ValueError, whose text is not shown
        fail(str(error))


StoreOption = Annotated[
    Path,
    typer.Option("--store", envvar="ABLATE_STORE", help="Store of results: a folder or s3://…", parser=read_store),
]


Scale = Annotated[str | None, typer.Option("--scale", help="Scale of the study (default: gpu or cpu, by machine).")]


Set = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a setting; repeatable.")]


ProbeSet = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="probes.PROBE.SETTING=VALUE", help="Give a setting of a probe that runs; repeatable."
    ),
]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


PlainT = Annotated[
    bool | None,
    typer.Option(
        "--plain-t/--moderated-t",
        help="Student's t, or variances moderated over rows (default: moderated from five seeds on).",
    ),
]


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


STORE = Path(DEFAULT_STORE)


Records = Annotated[
    Path | None,
    typer.Option(
        "--records", metavar="FILE", help="Results from a file (`table --format records`); STUDY may be left out."
    ),
]


def find_results(
    study: str | None, scale: str | None, overrides: list[str] | None, store: Path, records: Path | None
) -> Plan:
    """The plan of a study whose results are in a records file or else in the store. Prints notes to stderr."""
    if records is None:
        if study is None:
            raise UsageError("name a STUDY, or a file of results with --records FILE")
        return find(study, scale, overrides, store)
    from ablate.driver.records_file import plan_recorded
    from ablate.driver.studies import StudyRequest

    if study is None and (scale or overrides):
        raise UsageError("--scale and --set go with a STUDY; --records alone gives the study as it was run")
    wanted = StudyRequest(study, scale, tuple(overrides or ())) if study else None
    plan, notes = plan_recorded(wanted, records)
    print_notes(notes)
    return plan


def find(reference: str, scale: str | None, overrides: list[str] | None, store: Path) -> Plan:
    """The plan of a study from its file or from the store. Prints a note to stderr where there is one."""
    from ablate.adaptive.recall import plan_study
    from ablate.driver.studies import StudyRequest, find_study

    study, note = find_study(StudyRequest(reference, scale, tuple(overrides or ())), Store(store))
    print_notes([note] if note else [])
    return plan_study(study, Store(store))


def validated(reference: str, scale: str | None, overrides: list[str] | None, store: Path) -> Study:
    """A study from its file or from the store, checked as `ablate check` does. Prints notes to stderr.

    Raises StudyError, also where the store holds another study under its name.
    """
    from ablate.driver.studies import StudyRequest, find_document, validate_study

    found = find_document(StudyRequest(reference, scale, tuple(overrides or ())), Store(store))
    checked = validate_study(found, Store(store))
    print_notes([*([found.note] if found.note else []), *checked.notes])
    return checked.study


def store_option(store: Path) -> list[str]:
    """The words of a command line that name a store; none for the default one."""
    return [] if store == STORE else ["--store", str(store)]


def print_notes(notes: Iterable[str]) -> None:
    """Print notes to stderr."""
    for note in notes:
        screen.print(f"note: {note}", soft_wrap=True)
