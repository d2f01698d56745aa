"""Trials: treatment × seed, each a chain of stages with a signature. What is pending is what the store lacks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ablate.design import Treatment, treatments
from ablate.identity import signature
from ablate.recipe import Part, Recipe
from ablate.spec import Study
from ablate.store import Record, Store

FORMAT = "ablate stage 1"
"""Part of every signature. Raised when the engine computes something else from the same settings."""


@dataclass(frozen=True)
class Trial:
    """One treatment with one seed. `signatures` has one entry per stage; the last one names the trial's record."""

    treatment: Treatment
    seed: int
    probes: tuple[Part, ...]
    signatures: tuple[str, ...]

    @property
    def signature(self) -> str:
        return self.signatures[-1]

    @property
    def name(self) -> str:
        return f"{self.treatment.label} s{self.seed}"

    @property
    def steps(self) -> int:
        return sum(stage.settings.steps for stage in self.treatment.recipe.stages)

    @property
    def probe_keys(self) -> dict[str, str]:
        """Probe -> content hash of its settings; a record answers a probe only if the hashes agree."""
        return {probe.level: signature(probe.identity()) for probe in self.probes}

    def order(self) -> dict[str, Any]:
        """All that a worker needs to run this trial, as JSON values."""
        probes = [probe.plain() for probe in self.probes]
        return {
            "name": self.name, "seed": self.seed, "recipe": self.treatment.recipe.plain(), "probes": probes,
            "probe_keys": self.probe_keys, "signatures": list(self.signatures),
        }  # fmt: skip


def chain(recipe: Recipe, seed: int) -> tuple[str, ...]:
    """Signatures of a recipe's stages: each covers the recipe, the seed, the stage's settings and its parent."""
    found: list[str] = []
    for stage in recipe.stages:
        parent = found[-1] if found else None
        stage_identity = {"name": stage.name, **stage.settings.identity()}
        found.append(signature([FORMAT, recipe.identity(), stage_identity, seed, parent]))
    return tuple(found)


def expand(study: Study) -> list[Trial]:
    """All trials in the order of insight: the baseline with all seeds, every treatment's first seed, then the rest."""
    rows = treatments(study)
    pairs = [(rows[0], seed) for seed in study.seeds]
    pairs += [(row, seed) for seed in study.seeds for row in rows[1:]]
    return [Trial(row, seed, study.probes, chain(row.recipe, seed)) for row, seed in pairs]


def answers(record: Record | None, trial: Trial) -> bool:
    """Whether a record holds all that a trial asks for. A diverged trial is a result too."""
    if record is None:
        return False
    return record.status == "diverged" or trial.probe_keys.items() <= record.probes.items()


def pending(trials: Iterable[Trial], store: Store) -> list[Trial]:
    """The trials that the store does not answer yet, none twice."""
    distinct = {trial.signature: trial for trial in trials}
    return [trial for trial in distinct.values() if not answers(store.stage(trial.signature).record(), trial)]


def planned_steps(trials: Iterable[Trial]) -> tuple[int, int]:
    """Training steps with nothing shared, and with equal stages run once."""
    trials = list(trials)
    distinct = {
        mark: stage.settings.steps
        for trial in trials
        for mark, stage in zip(trial.signatures, trial.treatment.recipe.stages, strict=True)
    }
    return sum(trial.steps for trial in trials), sum(distinct.values())
