"""Trials: treatment × seed, each a chain of stages with a signature. What is pending is what the store lacks.

Equal signatures compute the same and are run once, so the chains of a study's trials grow together into a tree.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ablate.identity import canonical, signature
from ablate.plan.footprint import configuration
from ablate.plan.known import NOTHING, Known
from ablate.plan.labels import format_level
from ablate.plan.signatures import Fork, forks, stage_signatures
from ablate.plan.treatments import Treatment, treatments
from ablate.recipe.recipe import Part
from ablate.recipe.stages import Stage
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.study import Study

UNTUNED = "not tuned yet"
"""In place of a parent: no stage has the signature of a trial whose settings are still to be found."""


Order = dict[str, Any]
"""What a worker is to run, as JSON values: see `Trial.order`."""


@dataclass(frozen=True)
class Trial:
    """One treatment with one seed. `signatures` has one entry per stage; the last one names the trial's record.

    `forks`: of each stage, the points up to which some other trial of the study computes the same, in order.
    """

    treatment: Treatment
    seed: int
    probes: tuple[Part, ...]
    signatures: tuple[str, ...]
    role: Literal["trial", "tuning"] = "trial"
    """A trial in tuning serves to choose the nuisance settings of its treatment and enters no table."""
    pruned: str = ""
    """Why its treatment was stopped early; empty if it was not."""
    forks: tuple[tuple[Fork, ...], ...] = ()

    @property
    def signature(self) -> str:
        return self.signatures[-1]

    @property
    def name(self) -> str:
        nuisance = self.treatment.nuisance or {}
        settings = " ".join(f"{path.split('.')[-1]}={format_level(level)}" for path, level in nuisance.items())
        return f"{self.treatment.label}{f' [{settings}]' if self.role == 'tuning' else ''} s{self.seed}"

    @property
    def steps(self) -> int:
        return sum(stage.settings.steps for stage in self.treatment.recipe.stages)

    @property
    def places(self) -> list[tuple[str, Stage, tuple[Fork, ...]]]:
        """Of each stage its signature, the stage, and the forks within it."""
        each = self.forks or ((),) * len(self.signatures)
        return list(zip(self.signatures, self.treatment.recipe.stages, each, strict=True))

    @property
    def marks(self) -> list[str]:
        """Signatures of its stages and forks."""
        return [*self.signatures, *(fork.signature for inner in self.forks for fork in inner)]

    @property
    def probe_keys(self) -> dict[str, str]:
        """Probe -> content hash of its settings; a record answers a probe only if the hashes agree."""
        return {probe.level: signature(probe.identity()) for probe in self.probes}

    def order(self) -> Order:
        """All that a worker needs to run this `trial`, of so many `steps`, up to its stage `last`.

        Of that stage it makes the steps up to `until`, going on from those of the fork `origin` where it names one. A
        trial whose own stage is the last is then recorded. `needs`: of each stage its key for `ablate.needs`.
        """
        probes, stages = [probe.plain() for probe in self.probes], self.treatment.recipe.stages
        return {
            "name": self.name, "seed": self.seed, "recipe": self.treatment.recipe.plain(), "probes": probes,
            "probe_keys": self.probe_keys, "signatures": list(self.signatures), "trial": self.signature,
            "steps": self.steps, "last": self.signature, "until": stages[-1].settings.steps, "origin": None,
            "role": self.role, "needs": [configuration(self.treatment.recipe, stage) for stage in stages],
        }  # fmt: skip


def expand(study: Study, known: Known = NOTHING) -> list[Trial]:
    """All trials of a study; see `trials_of`. Raises StudyError as `treatments` does."""
    return trials_of(study, known, treatments(study, known))


def trials_of(study: Study, known: Known, rows: Sequence[Treatment]) -> list[Trial]:
    """All trials of these treatments of a study, the baseline first.

    The order is that of insight: the baseline with all seeds, then the first seed of every treatment, then the other
    seeds. A treatment is pruned with all its seeds, by the results of its first trial.
    """
    pairs = [(rows[0], seed) for seed in _seeds(study, known, rows[0])]
    pairs += [(row, seed) for seed in study.seeds for row in rows[1:] if seed in _seeds(study, known, row)]
    trials = [
        Trial(row, seed, study.probes, stage_signatures(row.recipe, seed, UNTUNED if row.nuisance is None else None))
        for row, seed in pairs
    ]
    tuned = [trial for trial in trials if trial.treatment.nuisance is not None]
    found = forks((trial.treatment.recipe, trial.seed, trial.signatures) for trial in tuned)
    trials = [_with_forks(trial, found) if found else trial for trial in trials]
    if not known.pruned:
        return trials
    pruned = {trial.treatment.label: known.pruned.get(trial.signature, "") for trial in reversed(trials)}
    return [replace(trial, pruned=pruned[trial.treatment.label]) for trial in trials]


def _seeds(study: Study, known: Known, row: Treatment) -> tuple[int, ...]:
    """The seeds that a treatment has by now."""
    if study.seed_bounds is None:
        return study.seeds
    return study.seeds[: known.replicates.get(canonical(row.changed), study.seed_bounds[0])]


def _with_forks(trial: Trial, found: dict[str, tuple[Fork, ...]]) -> Trial:
    within = tuple(found.get(mark, ()) for mark in trial.signatures)
    return replace(trial, forks=within) if any(within) else trial


def is_complete(record: Record | None, trial: Trial) -> bool:
    """Whether a record holds all that a trial asks for. A diverged trial is a result too."""
    if record is None:
        return False
    return record.status == "diverged" or trial.probe_keys.items() <= record.probes.items()


def read_step_log(trial: Trial, store: Store, after: int = 0) -> list[dict[str, float]]:
    """What training has logged beyond step `after`, over all stages; steps are counted from the first stage on.

    Training may go on meanwhile, so the last stage is read first: what it had logged came after all of the others.
    """
    found: list[dict[str, float]] = []
    for mark, stage, _ in reversed(trial.places):
        if stage.before + stage.settings.steps > after:
            lines = [{**line, "step": stage.before + line["step"]} for line in store.stage(mark).read_steps()]
            found = [*(line for line in lines if line["step"] > after), *found]
    return found


def pending(trials: Iterable[Trial], store: Store) -> list[Trial]:
    """The trials that the store does not answer yet, none twice; those that were pruned are over."""
    distinct = {trial.signature: trial for trial in trials if not trial.pruned}
    return [trial for trial in distinct.values() if not is_complete(store.stage(trial.signature).record(), trial)]
