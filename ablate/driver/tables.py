"""The table of a study, with the options of `ablate table` and of the Python API."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablate.analysis.records.frame import frame_of, trials_csv
from ablate.analysis.tables.build import build_table
from ablate.analysis.tables.options import check_metrics, read_options
from ablate.analysis.tables.table import Table
from ablate.errors import AblateError, UsageError, nearest
from ablate.plan.plan import Plan
from ablate.slots import registry


@dataclass(frozen=True)
class Look:
    """The appearance of a table, as a user gives it; see `analysis.tables.options.TableOptions`."""

    layout: str = "rows"
    bold: str = "best"
    decimals: str = ""
    caption: str = ""
    label: str = ""


def trials_table(plan: Plan, metrics: str | None, *, raw: bool = False) -> str:
    """The trials of a study as CSV. `metrics`: as in `study_table`. Raises UsageError for an unknown one."""
    known = plan.study.metrics
    names = None if metrics in {None, "all"} else str(metrics).split(",")
    try:
        check_metrics(names or (), known)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return trials_csv(frame_of(plan, raw=raw), names, known)


def study_table(
    plan: Plan,
    metrics: str | Sequence[str] | None,
    paper: str | None,
    look: Look,
    *,
    raw: bool = False,
    unpaired: bool = False,
    plain_t: bool | None = None,
    mixed: bool = False,
) -> Table:
    """The table of a study.

    `metrics`: their names, also as text with commas, or "all". `plain_t`: Student's t even where variances can be
    moderated; False: moderated variances, or an error. `mixed`: allow trials of different code or
    from different data.

    Raises UsageError for an unknown paper, metric or option, and for such trials where they are not allowed.
    """
    known = plan.study.metrics
    names = list(known) if metrics == "all" else metrics.split(",") if isinstance(metrics, str) else metrics
    try:
        if paper and paper not in registry.papers():
            raise UsageError(f"unknown paper '{paper}'{nearest(paper, registry.papers())}")
        options = read_options(look.layout, look.bold, look.decimals, look.caption, look.label, metrics=known)
        moderated = None if plain_t is None else not plain_t
        table = build_table(
            plan, names or None, paper, raw=raw, unpaired=unpaired, moderated=moderated, options=options
        )
    except AblateError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None
    if table.mixed and not mixed:
        way_out = "to compare them all the same, add --mixed-code (in Python: mixed_code=True)"
        raise UsageError(f"{table.mixed}; {way_out}")
    return table
