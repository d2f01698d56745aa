"""The results of a study, as figures and the report need them."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ablate.analysis.records.frame import frame_of
from ablate.analysis.statistics.effects import Effect
from ablate.analysis.tables.build import build_table
from ablate.analysis.tables.table import Table
from ablate.plan.colors import colors
from ablate.plan.labels import Names
from ablate.plan.plan import Plan
from ablate.plan.treatments import Treatment
from ablate.plan.trials import Trial
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.study import Study

if TYPE_CHECKING:
    import pandas as pd

MAX_DRAWN = 40
"""Most treatments that figures and the report show one by one."""


@dataclass(frozen=True, repr=False)
class StudyResults:
    """A study, its trials in the order in which they run, their tidy frame, and the study's table."""

    plan: Plan
    frame: "pd.DataFrame"
    table: Table

    def __repr__(self) -> str:
        return f"<results of {self.study.name} at scale {self.study.scale}>"

    @property
    def study(self) -> Study:
        return self.plan.study

    @property
    def trials(self) -> list[Trial]:
        return self.plan.trials

    @property
    def store(self) -> Store:
        return self.plan.store

    @property
    def primary(self) -> Metric:
        """The primary metric."""
        return self.study.metrics[self.study.primary]

    @property
    def has_ended(self) -> "pd.Series[bool]":
        """For each trial, whether it is done or has diverged."""
        return self.frame["status"].isin(["done", "diverged"])

    @cached_property
    def treatments(self) -> dict[str, Treatment]:
        """The treatments that are drawn, by label, in the order of the table.

        Of more than `MAX_DRAWN` these are the baseline and those with the largest changes of the primary metric.
        """
        arms = self.table.arms
        largest = sorted(arms[1:], key=lambda arm: -_size(arm.effects[self.study.primary]))
        drawn = {arms[0].treatment.label, *(arm.treatment.label for arm in largest[: MAX_DRAWN - 1])}
        return {arm.treatment.label: arm.treatment for arm in arms if arm.treatment.label in drawn}

    @property
    def not_drawn(self) -> int:
        """Number of treatments that are left out of figures."""
        return len(self.table.arms) - len(self.treatments)

    @cached_property
    def colors(self) -> dict[str, str]:
        """Treatment -> its colour, as in MLflow."""
        return colors(self.plan.treatments)

    @cached_property
    def names(self) -> Names:
        """The names under which factors, levels and treatments are shown."""
        return Names(self.study)

    def effect(self, label: str, metric: str) -> Effect:
        """The effect of the treatment with this label on one metric."""
        return self.table.analysis.effects[label][metric]

    def of(self, label: str) -> list[Trial]:
        """The trials of the treatment with this label, one per seed."""
        return self._by_label[label]

    @cached_property
    def _by_label(self) -> dict[str, list[Trial]]:
        by_label: dict[str, list[Trial]] = {}
        for trial in self.trials:
            by_label.setdefault(trial.treatment.label, []).append(trial)
        return by_label


def gather(plan: Plan, *, moderated: bool | None = None) -> StudyResults:
    """The results of a study so far. `moderated`: as in `build_table`."""
    frame = frame_of(plan)
    return StudyResults(plan, frame, build_table(plan, frame=frame, moderated=moderated))


def _size(effect: Effect) -> float:
    """Size of the mean change; below all others if it is not finite."""
    return abs(effect.change.mean) if math.isfinite(effect.change.mean) else -1.0
