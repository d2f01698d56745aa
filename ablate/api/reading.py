"""`ablate.results`: what the store holds of a study, as data frames, tables, figures and models."""

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ablate.adaptive.recall import plan_study
from ablate.analysis.figures import panels
from ablate.analysis.records.frame import frame_of
from ablate.analysis.study_results import StudyResults, gather
from ablate.analysis.tables.table import effect_numbers
from ablate.api.loading import Changes, LoadedStudy, Location, load
from ablate.api.shown import Drawing, ResultTable
from ablate.api.trial import TrialResult
from ablate.driver.overview import describe_trial
from ablate.driver.tables import Look, study_table
from ablate.errors import AblateError, UsageError, nearest
from ablate.plan.plan import Plan

if TYPE_CHECKING:
    import pandas as pd


class Results:
    """The results of a study so far; a later call of `ablate.results` has what was finished since.

    The frame, effects and figures are of one reading of the store, when one of them is first used. A table, claims, a
    trial and `failed` are read when they are asked for.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @cached_property
    def _gathered(self) -> StudyResults:
        return gather(self.plan)

    def frame(self, *, raw: bool = False) -> "pd.DataFrame":
        """One row per trial: treatment, factors, seed, status, metrics, gradient shares.

        `raw`: metrics of the weights as the optimiser left them, not of their average.
        """
        return frame_of(self.plan, raw=True) if raw else self._gathered.frame.copy()

    def effects(self) -> "pd.DataFrame":
        """One row per treatment and metric: mean, change from the reference with 95 % interval, p-values, verdict.

        `delta`, `low`, `high` and `p` are those of the change, paired by seed; `p_holm` is corrected for the number of
        comparisons, and is there only for the metric that a treatment is judged by. What the table warns of is a
        Python warning here.
        """
        import pandas as pd

        for warning in self._gathered.table.analysis.warnings:
            warnings.warn(warning, stacklevel=2)
        metrics = self.plan.study.metrics
        rows = [
            {
                "treatment": arm.treatment.label,
                "reference": arm.treatment.reference,
                "metric": name,
                "unit": metrics[name].unit,
                **effect_numbers(effect),
            }
            for arm in self._gathered.table.arms
            for name, effect in arm.effects.items()
        ]
        return pd.DataFrame(rows)

    def table(
        self,
        metrics: str | Sequence[str] | None = None,
        *,
        layout: str = "rows",
        bold: str = "best",
        decimals: int | Mapping[str, int] | None = None,
        caption: str = "",
        label: str = "",
        paper: str | None = None,
        raw: bool = False,
        unpaired: bool = False,
        plain_t: bool | None = None,
        mixed_code: bool = False,
    ) -> ResultTable:
        """The table of the study, with the options of `ablate table`. Raises UsageError for one that does not fit.

        `metrics`: names in the order of the columns, or "all". `decimals`: for all metrics, or metric -> decimals.
        """
        digits = {"": decimals} if isinstance(decimals, int) else decimals or {}
        text = ",".join(f"{name}={count}".removeprefix("=") for name, count in digits.items())
        look = Look(layout, bold, text, caption, label)
        table = study_table(
            self.plan, metrics, paper, look, raw=raw, unpaired=unpaired, plain_t=plain_t, mixed=mixed_code
        )
        return ResultTable(table)

    def claims(self, paper: str | None = None) -> "pd.DataFrame":
        """One row per claim of the study's paper, with its verdict over all contexts; those are in column `contexts`.

        `paper`: another paper. Raises UsageError for an unknown one, and where neither names one.
        """
        import pandas as pd

        if not (paper or self.plan.study.paper):
            raise UsageError(f"study '{self.plan.study.name}' names no paper; give one: claims(paper=…)")
        table = study_table(self.plan, None, paper, Look(), mixed=True)
        return pd.DataFrame(table.json()["claims"])

    def figure(self, kind: str = "effects", metrics: str | Sequence[str] = ()) -> Drawing:
        """A figure one column of a paper wide, of a kind that `ablate figure` draws.

        Raises UsageError for an unknown kind or metric, and where the study lacks the data.
        """
        names = [metrics] if isinstance(metrics, str) else list(metrics)
        try:
            panels(self._gathered, kind, names)
        except AblateError:
            raise
        except ValueError as error:
            raise UsageError(str(error)) from None
        return Drawing(self._gathered, kind, tuple(names))

    def trial(self, name: str, seed: int | None = None) -> TrialResult:
        """A trial by its name, such as "kl=1 s0", by its signature, or by its treatment and seed.

        Without a seed a treatment stands for its first one. Raises UsageError where there is no such trial.
        """
        trials = self.plan.ready
        wanted = name if seed is None else f"{name} s{seed}"
        for trial in trials:
            if wanted in {trial.name, trial.signature} or (seed is None and trial.treatment.label == name):
                store = self.plan.store
                return TrialResult(describe_trial(trial, store), store.stage(trial.signature))
        raise UsageError(f"there is no trial '{wanted}'{nearest(wanted, [trial.name for trial in trials])}")

    @property
    def failed(self) -> dict[str, str]:
        """Name of each failed trial -> why it failed."""
        store = self.plan.store
        folders = {trial.name: store.stage(trial.signature) for trial in self.plan.ready}
        return {name: folder.failure() for name, folder in folders.items() if folder.status() == "failed"}

    def __repr__(self) -> str:
        study = self.plan.study
        done = sum(self._gathered.has_ended)
        total = len(self.plan.trials)
        return f"{study.name} at scale {study.scale}: {done} of {total} trials done, primary metric {study.primary}"


def results(
    study: LoadedStudy | Location, store: Location | None = None, *, scale: str | None = None, set: Changes = ()
) -> Results:
    """The results of a study so far.

    `study`: its name in the store, its file, or what `ablate.load` gives. `store`, `scale` and `set` are those of
    `ablate.load`. Raises StudyError where there is no such study, StoreError for a store that cannot be used.
    """
    if not isinstance(study, LoadedStudy):
        study = load(study, scale=scale, set=set, store=store)
    elif store is not None or scale is not None or set:
        raise UsageError("results: a loaded study has its store, scale and changes already; give them to ablate.load")
    return Results(plan_study(study.spec, study.store))
