"""`ablate table`: the table of a study, or a paper's own table with VAEs measured for it."""

import sys
from typing import Annotated, Any

import typer

from ablate.cli.options import (
    STORE,
    Components,
    Json,
    PlainT,
    Records,
    Scale,
    Set,
    StoreOption,
    StudyArgument,
    find_results,
    screen,
)
from ablate.cli.output import emit, print_table
from ablate.errors import AblateError, UsageError, nearest

FORMS = ("markdown", "latex", "html", "csv", "records")


def table(
    study: Annotated[str | None, StudyArgument] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="markdown, latex, html, csv, or records: all results in a file for --records "
            "(default: as wide as the terminal; markdown in a pipe).",
        ),
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Comma-separated metrics, or 'all'.")] = None,
    trials: Annotated[bool, typer.Option("--trials", help="CSV with a row per trial, in place of the table.")] = False,
    layout: Annotated[str, typer.Option(help="rows, components (check marks) or matrix (two factors).")] = "rows",
    bold: Annotated[str, typer.Option(help="best, or indistinct: also all that a test cannot tell from it.")] = "best",
    decimals: Annotated[str, typer.Option(metavar="N | METRIC=N,…", help="Digits after the decimal point.")] = "",
    caption: Annotated[str, typer.Option(help="Caption to use; in LaTeX the generated one becomes a comment.")] = "",
    label: Annotated[str, typer.Option(help="LaTeX: label tab:LABEL instead of tab:STUDY.")] = "",
    columns: Annotated[int, typer.Option(help="LaTeX: number of columns of the paper, 1 or 2.", min=1, max=2)] = 1,
    packages: Annotated[str, typer.Option(help="LaTeX: multirow, siunitx, or both with a comma.")] = "",
    mixed: Annotated[
        bool, typer.Option("--mixed-code", help="Allow trials of different code, or from different data.")
    ] = False,
    unpaired: Annotated[bool, typer.Option("--unpaired", help="Dunnett's test, as if no seeds were shared.")] = False,
    plain_t: PlainT = None,
    raw: Annotated[bool, typer.Option("--raw", help="Metrics of the raw weights, not of their average.")] = False,
    paper: Annotated[str | None, typer.Option(help="Paper whose claims are judged (default: the study's).")] = None,
    number: Annotated[str | None, typer.Option("--table", help="Instead of STUDY: this table of --paper.")] = None,
    checkpoint: Annotated[list[str] | None, typer.Option(metavar="NAME=PATH", help="A VAE to measure for it.")] = None,
    images: Annotated[list[str] | None, typer.Option(metavar="NAME=DIR[@SIZE]", help="Pictures to measure on.")] = None,
    device: Annotated[str | None, typer.Option(help="Device for VAEs (default: cuda if there is one).")] = None,
    scale: Scale = None,
    set_: Set = None,
    components: Components = None,
    store: StoreOption = STORE,
    records: Records = None,
    as_json: Json = False,
) -> None:
    """Print a study's table and verdicts on a paper's claims, or a paper's own table with VAEs measured."""
    is_paper = study is None and records is None
    _check_form(form, is_paper=is_paper, trials=trials, as_json=as_json)
    if not is_paper and (number or checkpoint or images):
        raise UsageError("--table, --checkpoint and --images go without STUDY and --records")
    try:
        if form == "records" or trials:
            from ablate.driver.records_file import pack
            from ablate.driver.tables import trials_table

            plan = find_results(study, scale, set_, store, records)
            lines = pack(plan) if form == "records" else [trials_table(plan, metrics, raw=raw)]
            sys.stdout.writelines(lines)
            return
        if is_paper:
            from ablate.probing.paper_tables import paper_table

            built: Any = paper_table(paper, number, checkpoint or [], images or [], device, screen.print)
        else:
            from ablate.driver.tables import Look, study_table

            plan = find_results(study, scale, set_, store, records)
            look = Look(layout, bold, decimals, caption, label)
            built = study_table(plan, metrics, paper, look, raw=raw, unpaired=unpaired, plain_t=plain_t, mixed=mixed)
        used = _packages(packages)
    except AblateError:
        raise
    except (ValueError, ImportError) as error:
        raise UsageError(str(error)) from None
    if as_json:
        emit(built.json())
    elif form is None:
        print_table(built)
    else:
        print(built.latex(columns, used) if form == "latex" else getattr(built, form)())  # noqa: T201


def _check_form(form: str | None, *, is_paper: bool, trials: bool, as_json: bool) -> None:
    """Raise UsageError for a form that there is not, and for two that do not go together."""
    if form is not None and form not in FORMS:
        raise UsageError(f"--format '{form}'{nearest(form, FORMS)}")
    if trials and (is_paper or as_json or form not in {None, "csv"}):
        raise UsageError("--trials is CSV of the trials of one STUDY; leave out the other format")
    if form == "records" and (is_paper or as_json):
        raise UsageError("--format records is of one STUDY, and no other format goes with it")


def _packages(text: str) -> list[str]:
    from ablate.analysis.typeset.latex import PACKAGES

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PACKAGES:
            raise ValueError(f"package '{name}'{nearest(name, PACKAGES)}")
    return names
