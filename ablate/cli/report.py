"""The commands that make something to look at: a study's report, and figures for a paper."""

from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.options import STORE, Scale, Set, StoreOption, StudyName, find

KINDS = "effects, interaction, pareto, spectra, spectra_drawn, erasure, balance, diffusion, convergence or curves."


def report(
    study: StudyName,
    out: Annotated[Path | None, typer.Option(help="The HTML file to write (default: in the store).")] = None,
    scale: Scale = None,
    set_: Set = None,
    store: StoreOption = STORE,
) -> None:
    """Write one HTML page that needs no network: answer, table, effects, claims, curves, pictures, cost, failures."""
    from ablate.analysis.report import write_report
    from ablate.analysis.results import gather

    plan = find(study, scale, set_, store)
    target = out or plan.store.study(plan.study.name, plan.study.scale).report
    write_report(gather(plan), target)
    print(target)  # noqa: T201


def figure(
    study: StudyName,
    kind: Annotated[str, typer.Option(help=KINDS)],
    metric: Annotated[
        list[str] | None, typer.Option(help="Of this metric (default: the primary); two for pareto.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A .pdf or .svg file (default: STUDY-KIND.pdf).")] = None,
    scale: Scale = None,
    set_: Set = None,
    store: StoreOption = STORE,
) -> None:
    """Draw a figure as wide as a column of a paper, readable in grey print."""
    from ablate.analysis.figures import save_figure
    from ablate.analysis.results import gather

    plan = find(study, scale, set_, store)
    target = out or Path(f"{plan.study.name}-{kind}.pdf")
    try:
        save_figure(gather(plan), kind, metric or [], target)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    print(target)  # noqa: T201
