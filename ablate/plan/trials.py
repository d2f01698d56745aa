"""Trials: treatment × seed, each a sequence of stages with signatures. Pending are those without results in the store.

Stages with equal signatures compute the same and are run once, so the stages of a study's trials form a tree.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ablate.identity import canonical, signature
from ablate.plan.footprint import configuration
from ablate.plan.known import NOTHING, Known
from ablate.plan.labels import format_level
from ablate.plan.signatures import Fork, find_forks, stage_signatures
from ablate.plan.treatments import Treatment, treatments
from ablate.recipe.recipe import Part
from ablate.recipe.stages import Stage
from ablate.slots import registry
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.store.shrink import Keep
from ablate.study.study import Study

UNTUNED = "not tuned yet"
"""Takes the place of the first stage's parent in a trial that is not tuned yet, so no stage has such a signature."""


Order = dict[str, Any]
"""A work order: what a worker needs to run a stage, as JSON values. See `Trial.order`."""


@dataclass(frozen=True, repr=False)
class Trial:
    """One treatment with one seed. `signatures` has one entry per stage; the trial's record is stored under the last.

    `forks`: for each stage, its forks in order of steps; empty if no stage has any.
    """

    treatment: Treatment
    seed: int
    probes: tuple[Part, ...]
    signatures: tuple[str, ...]
    role: Literal["trial", "tuning"] = "trial"
    """A tuning trial is run to choose the nuisance settings of its treatment; it is not in any table."""
    pruned: str = ""
    """Why its treatment was stopped early; empty if it was not stopped."""
    forks: tuple[tuple[Fork, ...], ...] = ()
    keep: Keep = "all"
    """What the checkpoint of its last stage keeps once it is recorded."""

    def __repr__(self) -> str:
        return f"<trial {self.name}, {self.signature}>"

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
    def stages_with_forks(self) -> list[tuple[str, Stage, tuple[Fork, ...]]]:
        """The signature of each stage, the stage, and its forks."""
        forks = self.forks or ((),) * len(self.signatures)
        return list(zip(self.signatures, self.treatment.recipe.stages, forks, strict=True))

    @property
    def all_signatures(self) -> list[str]:
        """Signatures of the trial's stages and forks."""
        return [*self.signatures, *(fork.signature for forks in self.forks for fork in forks)]

    @property
    def probe_keys(self) -> dict[str, str]:
        """Probe -> content hash of its settings. A record holds a probe's results only if the hashes agree."""
        return {probe.level: signature(probe.identity()) for probe in self.probes}

    def order(self) -> Order:
        """Everything that a worker needs to run this trial.

        `trial`: the signature of the trial. `steps`: of all its stages together. `last`: the signature of the last
        stage to run. `until`: the step of that stage to train up to. `origin`: the signature of the fork of that stage
        to start from, or None. `needs`: for each stage, the key of its footprint, by `footprint.configuration`. The
        trial is probed and recorded only if `last` is `trial`. `code`: the key under which the store holds the own code
        that it needs; absent without any.
        """
        recipe = self.treatment.recipe
        probes = [probe.plain() for probe in self.probes]
        return {
            "name": self.name, "seed": self.seed, "recipe": recipe.plain(), "probes": probes,
            "probe_keys": self.probe_keys, "signatures": list(self.signatures), "trial": self.signature,
            "steps": self.steps, "last": self.signature, "until": recipe.stages[-1].settings.steps, "origin": None,
            "role": self.role, "needs": [configuration(recipe, stage) for stage in recipe.stages],
            **({"code": registry.own().shipped} if registry.own().shipped else {}),
        }  # fmt: skip


def expand(study: Study, known: Known = NOTHING) -> list[Trial]:
    """All trials of a study; see `trials_of`. Raises StudyError as `treatments` does."""
    return trials_of(study, known, treatments(study, known))


def trials_of(study: Study, known: Known, rows: Sequence[Treatment]) -> list[Trial]:
    """All trials of these treatments of a study, the baseline first.

    In the order in which they are run, the most informative first: the baseline with all seeds, then the first seed of
    every treatment, then the other seeds. If the first trial of a treatment is pruned, so are its other seeds.
    """
    pairs = [(rows[0], seed) for seed in _seeds(study, known, rows[0])]
    pairs += [(row, seed) for seed in study.seeds for row in rows[1:] if seed in _seeds(study, known, row)]
    trials = [
        Trial(
            row,
            seed,
            study.probes,
            stage_signatures(row.recipe, seed, UNTUNED if row.nuisance is None else None),
            keep=study.keep,
        )
        for row, seed in pairs
    ]
    tuned = [trial for trial in trials if trial.treatment.nuisance is not None]
    forks = find_forks((trial.treatment.recipe, trial.seed, trial.signatures) for trial in tuned)
    trials = [_with_forks(trial, forks) if forks else trial for trial in trials]
    if not known.pruned:
        return trials
    pruned = {trial.treatment.label: known.pruned.get(trial.signature, "") for trial in reversed(trials)}
    return [replace(trial, pruned=pruned[trial.treatment.label]) for trial in trials]


def _seeds(study: Study, known: Known, row: Treatment) -> tuple[int, ...]:
    """The seeds that a treatment has so far."""
    if study.seed_bounds is None:
        return study.seeds
    return study.seeds[: known.replicates.get(canonical(row.changed), study.seed_bounds[0])]


def _with_forks(trial: Trial, forks: dict[str, tuple[Fork, ...]]) -> Trial:
    own = tuple(forks.get(stage_signature, ()) for stage_signature in trial.signatures)
    return replace(trial, forks=own) if any(own) else trial


def is_complete(record: Record | None, trial: Trial) -> bool:
    """Whether a record holds the results of all probes of a trial. The record of a diverged trial is complete."""
    if record is None:
        return False
    return record.status == "diverged" or trial.probe_keys.items() <= record.probes.items()


def read_step_log(trial: Trial, store: Store, after: int = 0) -> list[dict[str, float]]:
    """What training has logged after step `after` in all stages; steps are counted from the first stage on.

    The last stage is read first. Otherwise, if training continues meanwhile, lines at the end of an earlier stage could
    be missed although later ones are read.
    """
    log: list[dict[str, float]] = []
    for stage_signature, stage, _ in reversed(trial.stages_with_forks):
        if stage.before + stage.settings.steps > after:
            lines = store.stage(stage_signature).read_steps()
            lines = [{**line, "step": stage.before + line["step"]} for line in lines]
            log = [*(line for line in lines if line["step"] > after), *log]
    return log


def pending(trials: Iterable[Trial], store: Store) -> list[Trial]:
    """The trials whose results the store lacks, each signature once. Pruned trials are never pending."""
    begun = store.begun()  # one listing instead of a file asked for by each of perhaps 100,000 trials

    def is_done(trial: Trial) -> bool:
        return trial.signature in begun and is_complete(store.stage(trial.signature).record(), trial)

    distinct = {trial.signature: trial for trial in trials if not trial.pruned}
    return [trial for trial in distinct.values() if not is_done(trial)]
