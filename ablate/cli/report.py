"""`ablate report` and `ablate figure`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.options import (
    STORE,
    Components,
    PlainT,
    Records,
    Scale,
    Set,
    StoreOption,
    StudyArgument,
    find_results,
    screen,
)
from ablate.cli.output import print_answer
from ablate.errors import AblateError, UsageError

KINDS = (
    "answer, effects, interaction, pareto, pictures, spectra, spectra_drawn, erasure, balance, diffusion, convergence "
    "or curves."
)


def report(
    study: Annotated[str | None, StudyArgument] = None,
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write (default: in the store; STUDY.html with --records).")
    ] = None,
    plain_t: PlainT = None,
    scale: Scale = None,
    set_: Set = None,
    components: Components = None,
    store: StoreOption = STORE,
    records: Records = None,
) -> None:
    """Write one HTML page that needs no network: answer, table, effects, claims, curves, pictures, cost, failures."""
    from ablate.analysis.report import write_report
    from ablate.analysis.study_results import gather

    check_folder(out)
    plan = find_results(study, scale, set_, store, records)
    stored = plan.store.study(plan.study.name, plan.study.variant).report
    target = out or (Path(f"{plan.study.name}.html") if records else stored)
    try:
        found = gather(plan, moderated=None if plain_t is None else not plain_t)
    except AblateError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None
    with written(target):
        write_report(found, target)
    print_answer(found.table, screen)
    print(target)  # noqa: T201


def figure(
    kind: Annotated[str, typer.Option(help=KINDS)],
    study: Annotated[str | None, StudyArgument] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric to draw (default: the primary one). Give two for pareto.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File: .pdf, .svg or .png (default: STUDY-KIND.pdf).")] = None,
    scale: Scale = None,
    set_: Set = None,
    components: Components = None,
    store: StoreOption = STORE,
    records: Records = None,
) -> None:
    """Draw a figure one column of a paper wide, readable when printed in grey."""
    from ablate.analysis.figures import save_figure
    from ablate.analysis.study_results import gather

    check_folder(out)
    plan = find_results(study, scale, set_, store, records)
    target = out or Path(f"{plan.study.name}-{kind}.pdf")
    try:
        with written(target):
            save_figure(gather(plan), kind, metric or [], target)
    except ValueError as error:
        raise UsageError(str(error)) from None
    print(target)  # noqa: T201


@contextmanager
def written(target: Path) -> Iterator[None]:
    """Raise UsageError where the file cannot be written."""
    try:
        yield
    except OSError as error:
        if error.filename != str(target):
            raise
        raise UsageError(f"{target} cannot be written: {error.strerror}; name another file with --out") from None


def check_folder(out: Path | None) -> None:
    """Refuse a file to write that is a folder or whose folder does not exist, before anything is computed."""
    if out and out.is_dir():
        raise UsageError(f"--out {out}: it is a folder; name a file in it")
    if out and not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}; make it first")
