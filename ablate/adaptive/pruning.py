"""Pruning during a sweep: a treatment is judged by its first trial, and all its seeds are stopped or none.

Each decision is stored in a file of the study and is final: a trial that reaches a rung again after a kill gets the
same decision. Otherwise a decision depends only on the curves in the store.
"""

from collections.abc import Iterable, Set
from dataclasses import asdict
from typing import Any

from ablate.identity import canonical
from ablate.plan.plan import Plan
from ablate.plan.tree import Node
from ablate.plan.trials import Trial, read_step_log
from ablate.store.files import read_json, write_json
from ablate.store.folders import Store
from ablate.study.pruning import Curve, Pruning
from ablate.study.study import Study


def read_pruned(study: Study, store: Store) -> dict[str, str]:
    """Signature of a treatment's first trial -> why the treatment was stopped, by the study's present rule."""
    if study.pruning is None:
        return {}
    decisions = _read_decisions(study, study.pruning, store)
    return {signature: reason for signature, rungs in decisions.items() for reason in rungs.values() if reason}


class Pruner:
    """Decides which treatments of a study are stopped early."""

    def __init__(self, plan: Plan, pruning: Pruning):
        self.plan = plan
        self.study = plan.study
        self.store = plan.store
        self.pruning = pruning

    def may_be_pruned(self, trial: Trial, under_way: Set[str], trials: Iterable[Trial]) -> bool:
        """Whether the trial's treatment may still be pruned: its first trial, which is another one, waits or runs.

        `under_way`: signatures of the stages that wait or run. `trials`: all trials of the sweep.
        """
        if trial.role != "trial" or trial.treatment.is_baseline or self._is_first(trial):
            return False
        label = trial.treatment.label
        first = (other for other in trials if self._is_first(other) and other.treatment.label == label)
        return any(not under_way.isdisjoint(other.signatures) for other in first)

    def reason_to_stop(self, node: Node, step: int, trials: Iterable[Trial]) -> str:
        """Why the treatment of a stage, now at step `step` of its trial, must be stopped; empty if it continues.

        The baseline and stages that trials of several treatments need are never stopped.
        """
        trial = node.trial
        shared = len({each.treatment.label for each in node.trials}) > 1
        eligible = self._is_first(trial) and not trial.treatment.is_baseline and not shared
        if not eligible or step >= trial.steps or not self.pruning.is_rung(step):
            return ""
        curve = self._curve(trial)
        if step not in curve:
            return ""
        decisions = _read_decisions(self.study, self.pruning, self.store)
        if str(step) not in decisions.get(trial.signature, {}):
            first = {each.signature: each for each in [*self.plan.trials, *trials] if self._is_first(each)}
            others = [each for each in first.values() if each.signature != trial.signature]
            finished = [self._curve(each) for each in others if self._is_finished(each)]
            reason = self.pruning.objection(step, curve, [self._curve(each) for each in others], finished)
            decisions.setdefault(trial.signature, {})[str(step)] = reason
            path = self.store.study(self.study.name, self.study.variant).rungs
            write_json(path, {"by": canonical(asdict(self.pruning)), "judged": decisions})
        return str(decisions[trial.signature][str(step)])

    def _is_first(self, trial: Trial) -> bool:
        return trial.role == "trial" and trial.seed == self.study.seeds[0]

    def _is_finished(self, trial: Trial) -> bool:
        record = self.store.stage(trial.signature).record()
        return record is not None and record.status == "done"

    def _curve(self, trial: Trial) -> Curve:
        column = self.pruning.column
        lines = read_step_log(trial, self.store)
        return {int(line["step"]): self.pruning.loss(line[column]) for line in lines if column in line}


def _read_decisions(study: Study, pruning: Pruning, store: Store) -> dict[str, Any]:
    """Signature -> rung -> why the treatment was stopped there, empty if it continued.

    Decisions by another rule than the present one are left out.
    """
    stored = read_json(store.study(study.name, study.variant).rungs) or {}
    decisions: dict[str, Any] = stored["judged"] if stored.get("by") == canonical(asdict(pruning)) else {}
    return decisions
