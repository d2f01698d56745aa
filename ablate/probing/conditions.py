"""Conditions on metrics, such as `grid/const_fold8>0.25`, which make `ablate probe` a test."""

import difflib
import math
import operator
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


PATTERN = re.compile(r"\s*([\w/.-]+?)\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """A condition for failure: the metric compared with a bound. It also holds where the metric is NaN."""

    text: str
    metric: str
    comparison: str
    bound: float

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether the condition holds, so that the probe fails."""
        value = metrics[self.metric]
        return math.isnan(value) or bool(COMPARISONS[self.comparison](value, self.bound))


def parse(text: str, known: Collection[str]) -> Condition:
    """Parse a condition on one of the `known` metrics. Raises ValueError for another form or metric."""
    match = PATTERN.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        bound = float(match[3])
    except ValueError:
        raise ValueError(f"'{text}': expected METRIC>NUMBER, or >= < <=, such as 'grid/const_fold8>0.25'") from None
    if math.isnan(bound):
        raise ValueError(f"'{text}': nothing compares with NaN; a metric that is NaN fails every condition")
    metric = match[1]
    if metric not in known:
        close = difflib.get_close_matches(metric, known, n=3, cutoff=0.4)
        hint = f"; the nearest are {', '.join(close)}" if close else ""
        raise ValueError(f"'{text}': there is no metric '{metric}'{hint}")
    return Condition(text.strip(), metric, match[2], bound)
