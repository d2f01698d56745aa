"""A study with all that its trials have left, as figures and the report need it."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ablate.analysis.records.frame import frame_of
from ablate.analysis.statistics.effects import Effect
from ablate.analysis.tables.build import build_table
from ablate.analysis.tables.table import Table
from ablate.plan.labels import colors
from ablate.plan.plan import Plan
from ablate.plan.treatments import Treatment
from ablate.plan.trials import Trial
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.study import Study

if TYPE_CHECKING:
    import pandas as pd

DRAWN = 40
"""Treatments that figures and the report show one by one."""


@dataclass(frozen=True)
class StudyResults:
    """A study, its trials in the order of insight, their tidy frame, and its table."""

    plan: Plan
    frame: "pd.DataFrame"
    table: Table

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
        return self.study.metrics[self.study.primary]

    @cached_property
    def treatments(self) -> dict[str, Treatment]:
        """Those that are drawn, by label, in the order of the table: all, or of many the baseline and those with the
        largest change of the primary metric."""
        arms = self.table.arms
        largest = sorted(arms[1:], key=lambda arm: -_size(arm.effects[self.study.primary]))
        drawn = {arms[0].treatment.label, *(arm.treatment.label for arm in largest[: DRAWN - 1])}
        return {arm.treatment.label: arm.treatment for arm in arms if arm.treatment.label in drawn}

    @property
    def not_drawn(self) -> int:
        """Treatments that are left out of figures."""
        return len(self.table.arms) - len(self.treatments)

    @cached_property
    def colors(self) -> dict[str, str]:
        """Treatment -> its colour, as in MLflow."""
        return colors({trial.treatment.label: trial.treatment for trial in self.trials}.values())

    def effect(self, label: str, metric: str) -> Effect:
        """What the table says of one metric of one treatment."""
        return self.table.analysis.effects[label][metric]

    def of(self, label: str) -> list[Trial]:
        """The trials of a treatment, a seed each."""
        return self._by_label[label]

    @cached_property
    def _by_label(self) -> dict[str, list[Trial]]:
        found: dict[str, list[Trial]] = {}
        for trial in self.trials:
            found.setdefault(trial.treatment.label, []).append(trial)
        return found


def gather(plan: Plan) -> StudyResults:
    """The results of a study as far as its trials have come."""
    frame = frame_of(plan)
    return StudyResults(plan, frame, build_table(plan, frame=frame))


def _size(effect: Effect) -> float:
    return abs(effect.change.mean) if math.isfinite(effect.change.mean) else -1.0
