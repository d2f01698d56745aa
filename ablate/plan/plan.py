"""A study expanded into treatments, trials and stages. A command makes the plan once and passes it on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ablate.plan.collector import gc_paused
from ablate.plan.known import NOTHING, Known
from ablate.plan.stale import Stale, find_stale
from ablate.plan.treatments import Listing, Treatment, list_rows, resolve
from ablate.plan.tree import Node, stage_tree, trained_signatures
from ablate.plan.trials import Trial, pending, trials_of
from ablate.store.folders import Store
from ablate.study.study import Study


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """The treatments and trials of a study, given what its results have added so far (`known`).

    `trials`: treatment × seed, the trials of its tables, in the order in which they are run. `tuning_trials`: the
    trials that choose the nuisance settings of treatments. `tuning_plans`: label of a treatment -> the plan of its
    tuning. `stored`, `pending`, `stale` and `trained` are read from the store on first use and then stay as they are.
    """

    study: Study
    known: Known
    store: Store
    listing: Listing
    treatments: list[Treatment]
    trials: list[Trial]
    tuning_trials: list[Trial] = field(default_factory=list)
    tuning_plans: Mapping[str, "Plan"] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<plan of {self.study.name} at scale {self.study.scale}: {len(self.trials)} trials>"

    @cached_property
    def ready(self) -> list[Trial]:
        """The trials that can be run because all their settings are known, tuning trials included."""
        return [*self.tuning_trials, *(trial for trial in self.trials if trial.treatment.nuisance is not None)]

    @cached_property
    def nodes(self) -> list[Node]:
        """The tree of all stages of `ready`, whether they have ended or not."""
        return stage_tree(self.ready)

    @cached_property
    def stored(self) -> list[Trial]:
        """The trials of `ready` of which the store has at least one stage or fork."""
        signatures = self.store.stage_signatures()
        return [trial for trial in self.ready if not signatures.isdisjoint(trial.all_signatures)] if signatures else []

    @cached_property
    def pending(self) -> list[Trial]:
        """The trials of `ready` whose results the store lacks, each signature once."""
        return pending(self.ready, self.store)

    @cached_property
    def stale(self) -> Stale:
        """The trials of `ready` that are stale, or were begun before their data changed."""
        stored = {trial.signature for trial in self.stored}
        return find_stale(self.stored, [trial for trial in self.pending if trial.signature in stored], self.store)

    @cached_property
    def trained(self) -> set[str]:
        """Signatures of the stages and forks of `ready` whose training has ended."""
        return trained_signatures(self.stored, self.store)


@gc_paused()
def make_plan(study: Study, store: Store, known: Known = NOTHING, listing: Listing | None = None) -> Plan:
    """The plan of a study. `listing`: the result of `list_rows`, if it has been called already.

    Raises StudyError when levels contradict each other in a combination, and as `list_rows` does.
    """
    listing = listing or list_rows(study, known)
    treatments = resolve(study, known, listing)
    return Plan(study, known, store, listing, treatments, trials_of(study, known, treatments))
