"""Options of a table's appearance, as a user gives them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ablate.errors import nearest
from ablate.slots.settings import Metric

LAYOUTS = ("rows", "components", "matrix")
BOLD = ("best", "indistinct")


@dataclass(frozen=True)
class TableOptions:
    """Options of a table's appearance.

    `layout`: `rows` has a row per treatment, named by what it changes; `components` a check mark for each level that a
    treatment has; `matrix` one metric over the levels of two factors. `bold` marks the `best` mean of a column, or all
    means that are `indistinct` from the best by a test. `decimals`: metric -> digits after the point. `caption` and
    `label` replace the default ones if they are not empty.
    """

    layout: str = "rows"
    bold: str = "best"
    decimals: Mapping[str, int] = field(default_factory=dict)
    caption: str = ""
    label: str = ""

    def metric(self, metric: Metric) -> Metric:
        """The metric with the requested decimals."""
        return replace(metric, decimals=self.decimals.get(metric.name, metric.decimals))


def read_options(
    layout: str, bold: str, decimals: str, caption: str, label: str, metrics: Mapping[str, Metric]
) -> TableOptions:
    """The options of a command line. `decimals`: `2`, or `psnr=1,ssim=3`.

    Raises ValueError for an unknown layout, bold or metric, for wrong decimals, and for a label that LaTeX cannot have.
    """
    for name, value, valid in (("layout", layout, LAYOUTS), ("bold", bold, BOLD)):
        if value not in valid:
            raise ValueError(f"{name} '{value}'{nearest(value, valid)}")
    if bad := re.search(r"[^\w.:+/-]", label):
        raise ValueError(f"label '{label}': '{bad[0]}' is not allowed in a label")
    return TableOptions(layout, bold, _read_decimals(decimals, metrics), " ".join(caption.split()), label)


def _read_decimals(text: str, metrics: Mapping[str, Metric]) -> dict[str, int]:
    """Metric -> decimals; a number without a metric is for all metrics."""
    decimals: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, equals, count = part.rpartition("=")
        if not re.fullmatch(r"\d", count.strip()):
            raise ValueError(f"decimals '{part}': expected a number from 0 to 9, or METRIC=NUMBER")
        if equals:
            check_metrics([name], metrics)
        decimals |= dict.fromkeys([name] if equals else metrics, int(count))
    return decimals


def check_metrics(names: Sequence[str], metrics: Mapping[str, Metric]) -> None:
    """Raise ValueError, with the nearest name, for a metric that the study's probes do not report."""
    for name in names:
        if name not in metrics:
            raise ValueError(f"unknown metric '{name}'{nearest(name, metrics)}")
