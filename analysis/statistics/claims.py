"""Claims of a paper as data. `judgements` judges them by our records.

A claim names two treatments, A and B, and says which has the higher metric, or that both are equal, or differ, within a
margin. Side B may also be a number, or another metric of A's treatment: a claim about one treatment. A claim about a
trend names its two ends and the setting `along` which it runs.

A claim about an artifact `requires` that the artifact is there: where nobody draws droplets, nothing can show that a
normalisation removes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from ablate.plan.labels import format_level
from ablate.slots.settings import Metric

Direction = Literal["A above B", "A below B", "A equals B", "A differs from B"]

Levels = Mapping[str, Any]
"""Factor path -> level. Everything not named is as in the context: `{}` is the baseline in the baseline's context."""


class Extreme(StrEnum):
    """A level that depends on the study: the smallest or largest value of a setting among its treatments.

    `LEAST` needs at least two different values.
    """

    LEAST = "least"
    MOST = "most"


@dataclass(frozen=True)
class Named:
    """The study's level of this name, with the study's settings; with default settings if it has several or none."""

    name: str


@dataclass(frozen=True)
class Requirement:
    """A condition without which a claim has nothing to be judged by: the mean of `metric` over the seeds is in bounds.

    `of`: the side of the claim that it is about, or levels that name a third treatment in the same context. Without a
    bound the mean must be at least the metric's smallest effect of interest, which a study can set.
    """

    metric: str
    of: Literal["A", "B"] | Levels = "B"
    at_least: float | None = None
    at_most: float | None = None

    def bounds(self, interest: float | None) -> tuple[float, float]:
        """The lowest and highest mean that meet it. `interest`: the metric's smallest effect of interest."""
        unbounded = self.at_least is None and self.at_most is None
        low = interest if unbounded else self.at_least
        return -float("inf") if low is None else low, float("inf") if self.at_most is None else self.at_most


@dataclass(frozen=True)
class Claim:
    """A claim of a paper about treatments `a` and `b`, in our words.

    `b`: a number if side B is a constant. `against`: the metric of side B, if it is not that of side A; the sides may
    then be the same treatment. `source`: where it stands in the paper. `said_by`: whether the paper says it or it is
    our own hypothesis about the same subject. `caveat`: what would speak against the claim's explanation, or what
    limits the comparison. `published`: the paper's own figure for A - B, in the metric's unit. `margin`: the largest
    difference that counts as equal, in the metric's unit; by default the metric's smallest effect of interest. `along`:
    if the claim is about a trend, the dotted path of the setting that changes from `b` to `a`; else empty. `of`: which
    number of a metric with a target is ordered, its distance to the target (as in the rows of a table) or its value;
    "equals" and "differs" always compare values.
    """

    id: str
    text: str
    a: Levels
    b: Levels | float
    metric: str
    direction: Direction
    source: str
    said_by: Literal["paper", "us"]
    caveat: str
    published: float | None = None
    margin: float | None = None
    along: str = ""
    against: str = ""
    of: Literal["distance", "value"] = "distance"
    requires: tuple[Requirement, ...] = ()

    @property
    def is_order(self) -> bool:
        """Whether it says which side is higher."""
        return self.direction in {"A above B", "A below B"}

    def orders_distances(self, metric: Metric) -> bool:
        """Whether it orders distances to the target of its metric, not values."""
        return metric.direction == "target" and self.is_order and self.of == "distance"

    @property
    def factors(self) -> tuple[str, ...]:
        """The paths of all factors whose levels it names."""
        sides = [self.a, self.b, *(required.of for required in self.requires)]
        return tuple(dict.fromkeys(path for levels in sides if isinstance(levels, Mapping) for path in levels))

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics that it needs."""
        names = [self.metric, self.against, *(required.metric for required in self.requires)]
        return tuple(dict.fromkeys(filter(None, names)))


def describe_levels(levels: Levels) -> str:
    """Levels in words: `loss.kl 0.01, norm scn`."""
    return ", ".join(f"{path} {format_level(level)}" for path, level in levels.items()) or "the baseline's levels"
