"""Conditions on metrics, such as `grid/const_fold8>0.25`, that make an examination a test."""

import difflib
import math
import operator
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


FORM = re.compile(r"\s*([\w/.-]+?)\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """Holds where `metric` compares so with `bound`, and also where it is NaN: what cannot be told is not fine."""

    text: str
    metric: str
    comparison: str
    bound: float

    def holds(self, metrics: Mapping[str, float]) -> bool:
        value = metrics[self.metric]
        return math.isnan(value) or bool(COMPARISONS[self.comparison](value, self.bound))


def parse(text: str, known: Collection[str]) -> Condition:
    """A condition on one of the `known` metrics. Raises ValueError for another form or metric."""
    found = FORM.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        bound = float(found[3])
    except ValueError:
        raise ValueError(f"'{text}': expected METRIC>NUMBER, or >= < <=, such as 'grid/const_fold8>0.25'") from None
    if math.isnan(bound):
        raise ValueError(f"'{text}': nothing compares with NaN; a metric that is NaN fails every condition")
    if found[1] not in known:
        close = difflib.get_close_matches(found[1], known, n=3, cutoff=0.4)
        hint = f"; the nearest are {', '.join(close)}" if close else ""
        raise ValueError(f"'{text}': there is no metric '{found[1]}'{hint}")
    return Condition(text.strip(), found[1], found[2], bound)
