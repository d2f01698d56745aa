"""Arguments and options that several commands share, and the study that they speak of."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ablate import schedule
from ablate.store import Store, place

screen = Console(stderr=True, highlight=False)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="A study file.")]
StudyArgument = typer.Argument(metavar="STUDY", help="A study's name in the store, or its file.")
StudyName = Annotated[str, StudyArgument]
StoreOption = Annotated[
    Path, typer.Option("--store", envvar="ABLATE_STORE", help="Where results live: a folder or s3://….", parser=place)
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


def load(path: Path, scale: str | None, overrides: list[str] | None, *, gpu: bool) -> Any:
    """A study from its file."""
    from ablate.spec import load_study

    return load_study(path, scale, overrides or (), gpu=gpu)


def find(reference: str, scale: str | None, overrides: list[str] | None, store: Path) -> Any:
    """A study from its file or from the store."""
    from ablate.sweep import find_study

    return find_study(reference, Store(store), scale, tuple(overrides or ()), gpu=schedule.gpu_count() > 0)


def plan_within(
    study: Any,
    store: Path,
    hours: float | None,
    trials: int | None,
    *,
    measure: bool,
    threads: int = 1,
    redo: bool = False,
) -> dict[str, Any]:
    """The plan of a study; with a bound on its hours, measured where no trial tells how long one takes.

    Raises Exit, having said why, where it is above a bound.
    """
    from ablate import reports

    place = Store(store)
    summary = reports.plan(study, place, redo=redo)
    if measure or (hours is not None and summary["estimate_s"] is None):
        from ablate.cost import gpu_share
        from ablate.measure import measure as run

        summary = reports.plan(study, place, lambda kinds: run(kinds, place, threads, screen.print), redo=redo)
        if gpu := schedule.gpu_memory():
            summary["gpus_per_trial"] = gpu_share(summary["memory_bytes"], gpu)
    found = (summary["estimate_s"] or 0) / 3600
    said = []
    if trials is not None and summary["pending"] > trials:
        said.append(f"{summary['pending']} trials are pending, more than --max-trials {trials}")
    if hours is not None and found > hours:
        said.append(f"what is pending takes about {found:.3g} hours of one worker, more than --max-hours {hours:g}")
    if said:
        screen.print("; ".join(said), style="red", soft_wrap=True)
        raise typer.Exit(2)
    return summary
