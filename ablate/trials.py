"""Trials: treatment × seed, each a chain of stages with a signature. What is pending is what the store lacks.

Equal signatures compute the same and are run once, so the chains of a study's trials grow together into a tree.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from ablate.design import Treatment, show, treatments
from ablate.forks import Fork, chain, forks
from ablate.identity import canonical, signature
from ablate.needs import configuration
from ablate.recipe import Part
from ablate.spec import Study
from ablate.stages import Stage
from ablate.store import Record, Store

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
        settings = " ".join(f"{path.split('.')[-1]}={show(level)}" for path, level in nuisance.items())
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


@dataclass(frozen=True)
class Node:
    """A stage in the tree of stages, or its first steps up to a fork.

    `through`: the trials that need it, in order. `parents`: the signatures of what to wait for. `origin`: the fork
    within the stage that it goes on from. `until`: the step at which it ends.
    """

    signature: str
    parents: tuple[str, ...]
    stage: Stage
    through: tuple[Trial, ...]
    until: int
    origin: Fork | None = None

    @property
    def trial(self) -> Trial:
        """The trial on whose behalf the stage is run: the one that ends with it, else the first that needs it."""
        return next((trial for trial in self.through if trial.signature == self.signature), self.through[0])

    @property
    def is_last(self) -> bool:
        """Whether a trial ends with this stage; it is probed and recorded then."""
        return self.trial.signature == self.signature

    @property
    def begins(self) -> int:
        """The steps of the stage that are made before."""
        return self.origin.step if self.origin else 0

    @property
    def steps(self) -> int:
        """The steps to make."""
        return self.until - self.begins

    def order(self) -> Order:
        """The trial's order, up to this stage; up to a fork without all that enters later."""
        order = self.trial.order()
        bounds = {"last": self.signature, "until": self.until, "origin": self.origin and self.origin.signature}
        if self.signature in self.trial.signatures:
            return {**order, **bounds}
        place = self.trial.treatment.recipe.stages.index(self.stage)
        recipe = self.trial.treatment.recipe.up_to(self.stage.before + self.until)
        plain = {**recipe.plain(), "stages": order["recipe"]["stages"][: place + 1]}
        marks = [*order["signatures"][:place], self.signature]
        needs = [*order["needs"][:place], configuration(recipe, self.stage)]
        return {**order, **bounds, "recipe": plain, "signatures": marks, "needs": needs}


def expand(study: Study) -> list[Trial]:
    """All trials in the order of insight: the baseline with all seeds, every treatment's first seed, then the rest.

    A treatment is pruned with all its seeds, by how its first trial did.
    """
    rows = treatments(study)
    pairs = [(rows[0], seed) for seed in _seeds(study, rows[0])]
    pairs += [(row, seed) for seed in study.seeds for row in rows[1:] if seed in _seeds(study, row)]
    trials = [
        Trial(row, seed, study.probes, chain(row.recipe, seed, UNTUNED if row.nuisance is None else None))
        for row, seed in pairs
    ]
    tuned = [trial for trial in trials if trial.treatment.nuisance is not None]
    found = forks((trial.treatment.recipe, trial.seed, trial.signatures) for trial in tuned)
    trials = [_with_forks(trial, found) if found else trial for trial in trials]
    if not study.pruned:
        return trials
    pruned = {trial.treatment.label: study.pruned.get(trial.signature, "") for trial in reversed(trials)}
    return [replace(trial, pruned=pruned[trial.treatment.label]) for trial in trials]


def _seeds(study: Study, row: Treatment) -> tuple[int, ...]:
    """The seeds that a treatment has by now."""
    if study.seed_bounds is None:
        return study.seeds
    return study.seeds[: study.replicates.get(canonical(row.changed), study.seed_bounds[0])]


def _with_forks(trial: Trial, found: dict[str, tuple[Fork, ...]]) -> Trial:
    within = tuple(found.get(mark, ()) for mark in trial.signatures)
    return replace(trial, forks=within) if any(within) else trial


def answers(record: Record | None, trial: Trial) -> bool:
    """Whether a record holds all that a trial asks for. A diverged trial is a result too."""
    if record is None:
        return False
    return record.status == "diverged" or trial.probe_keys.items() <= record.probes.items()


def logged(trial: Trial, store: Store, after: int = 0) -> list[dict[str, float]]:
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
    return [trial for trial in distinct.values() if not answers(store.stage(trial.signature).record(), trial)]


def tree(trials: Iterable[Trial], over: Collection[str] = ()) -> list[Node]:
    """The stages of these trials, each once, in the order of the trials and parents first.

    Nothing waits for a stage or fork whose training is `over`, and it is left out unless a trial ends with it. A fork
    that is not over is left out too where only one stage would go on from it.
    """
    trials = list(trials)
    used = _used(trials, over)
    nodes: dict[str, tuple[tuple[str, ...], Stage, int, Fork | None]] = {}
    through: dict[str, list[Trial]] = {}

    def add(mark: str, parents: tuple[str, ...], stage: Stage, until: int, origin: Fork | None, trial: Trial) -> None:
        nodes.setdefault(mark, (parents, stage, until, origin))
        through.setdefault(mark, []).append(trial)

    for trial in trials:
        before: tuple[str, ...] = ()
        for mark, stage, inner in trial.places:
            origin, parents = None, before
            for fork in inner if mark not in over else ():
                if fork.signature in over:
                    origin, parents = fork, before
                elif fork.signature in used:
                    add(fork.signature, parents, stage, fork.step, origin, trial)
                    origin, parents = fork, (*before, fork.signature)
            if mark not in over or mark == trial.signature:
                add(mark, parents, stage, stage.settings.steps, origin, trial)
            before = () if mark in over else (mark,)
    return [
        Node(mark, parents, stage, tuple(through[mark]), until, origin)
        for mark, (parents, stage, until, origin) in nodes.items()
    ]


def _used(trials: list[Trial], over: Collection[str]) -> set[str]:
    """Signatures of the forks that at least two of the stages and forks to be trained go on from."""
    after: dict[str, set[str]] = {}
    for trial in trials:
        for mark, _, inner in trial.places if trial.forks else ():
            if mark not in over:
                for fork, following in pairwise([*(fork.signature for fork in inner), mark]):
                    after.setdefault(fork, set()).add(following)
    return {fork for fork, following in after.items() if len(following) > 1}


def trained(trials: Iterable[Trial], store: Store) -> set[str]:
    """Signatures of the stages and forks whose training is over, by their checkpoints."""
    steps: dict[str, int] = {}
    for trial in trials:
        for mark, stage, inner in trial.places:
            steps[mark] = stage.settings.steps
            steps |= {fork.signature: fork.step for fork in inner}
    return {mark for mark in steps if store.stage(mark).has_ended(steps[mark])}


def planned_steps(trials: Iterable[Trial]) -> tuple[int, int]:
    """Training steps with nothing shared, and with those of equal stages and forks made once."""
    trials = list(trials)
    return sum(trial.steps for trial in trials), sum(node.steps for node in tree(trials))
