"""Pruning as a sweep goes: a treatment is judged by its first trial, and stopped with all its seeds or not at all.

A judgement is kept in the store, in a file of the study, and stands: a trial that comes to a rung again after a kill
fares as before. Otherwise it follows from the curves in the store alone.
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
    """Signature of a treatment's first trial -> why the treatment was stopped; empty where the rule is another now."""
    if study.pruning is None:
        return {}
    judged = _judged(study, study.pruning, store)
    return {signature: text for signature, rungs in judged.items() for text in rungs.values() if text}


class Pruner:
    """Judges the trials of a study that prunes."""

    def __init__(self, plan: Plan, pruning: Pruning):
        self.plan = plan
        self.study = plan.study
        self.store = plan.store
        self.pruning = pruning

    def waits(self, trial: Trial, under_way: Set[str], trials: Iterable[Trial]) -> bool:
        """Whether it is not known yet that the trial is wanted: the first one of its treatment waits or runs."""
        if trial.role != "trial" or trial.treatment.is_baseline or self._is_first(trial):
            return False
        first = (one for one in trials if self._is_first(one) and one.treatment.label == trial.treatment.label)
        return any(not under_way.isdisjoint(one.signatures) for one in first)

    def judge(self, node: Node, step: int, trials: Iterable[Trial]) -> str:
        """Why the treatment whose trial has come to a step is to be stopped; empty if it goes on.

        A stage that trials of other treatments need is never stopped, nor is the baseline.
        """
        trial = node.trial
        shared = len({one.treatment.label for one in node.through}) > 1
        judged = self._is_first(trial) and not trial.treatment.is_baseline and not shared
        if not judged or step >= trial.steps or not self.pruning.is_rung(step):
            return ""
        own = self._curve(trial)
        if step not in own:
            return ""
        kept = _judged(self.study, self.pruning, self.store)
        if str(step) not in kept.get(trial.signature, {}):
            first = {one.signature: one for one in [*self.plan.trials, *trials] if self._is_first(one)}
            others = [one for one in first.values() if one.signature != trial.signature]
            finished = [self._curve(one) for one in others if self._is_finished(one)]
            text = self.pruning.objection(step, own, [self._curve(one) for one in others], finished)
            kept.setdefault(trial.signature, {})[str(step)] = text
            path = self.store.study(self.study.name, self.study.scale).rungs
            write_json(path, {"by": canonical(asdict(self.pruning)), "judged": kept})
        return str(kept[trial.signature][str(step)])

    def _is_first(self, trial: Trial) -> bool:
        return trial.role == "trial" and trial.seed == self.study.seeds[0]

    def _is_finished(self, trial: Trial) -> bool:
        record = self.store.stage(trial.signature).record()
        return record is not None and record.status == "done"

    def _curve(self, trial: Trial) -> Curve:
        column = self.pruning.column
        lines = read_step_log(trial, self.store)
        return {int(line["step"]): self.pruning.loss(line[column]) for line in lines if column in line}


def _judged(study: Study, pruning: Pruning, store: Store) -> dict[str, Any]:
    """Signature -> rung -> why it was stopped there, empty where it went on; nothing of what another rule decided."""
    known = read_json(store.study(study.name, study.scale).rungs) or {}
    judged: dict[str, Any] = known["judged"] if known.get("by") == canonical(asdict(pruning)) else {}
    return judged
