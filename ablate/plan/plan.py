"""A study expanded into treatments, trials and stages: made once for what is known of it, then handed down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ablate.plan.known import NOTHING, Known
from ablate.plan.treatments import Listing, Treatment, list_rows, resolve
from ablate.plan.tree import Node, stage_tree, trained_signatures
from ablate.plan.trials import Trial, pending, trials_of
from ablate.store.folders import Store
from ablate.study.study import Study


@dataclass(frozen=True, eq=False)
class Plan:
    """What a study comes to, given what its results have added so far.

    `trials` are the rows of its tables, treatment × seed, in the order in which they are worth running. `tuning` are
    the trials that serve to choose the nuisance settings of a treatment; `tunings` has the plan of each treatment's
    tuning, by the treatment's label. `pending` and `trained` say what the store held when they were first asked for.
    """

    study: Study
    known: Known
    store: Store
    listing: Listing
    treatments: list[Treatment]
    trials: list[Trial]
    tuning: list[Trial] = field(default_factory=list)
    tunings: Mapping[str, "Plan"] = field(default_factory=dict)

    @cached_property
    def ready(self) -> list[Trial]:
        """The trials whose settings are known by now, those of the tuning included: what can be run."""
        return [*self.tuning, *(trial for trial in self.trials if trial.treatment.nuisance is not None)]

    @cached_property
    def nodes(self) -> list[Node]:
        """The tree of all stages of `ready`, finished or not."""
        return stage_tree(self.ready)

    @cached_property
    def held(self) -> list[Trial]:
        """The trials of `ready` of which the store holds anything."""
        signatures = self.store.stage_signatures()
        return [trial for trial in self.ready if not signatures.isdisjoint(trial.marks)] if signatures else []

    @cached_property
    def pending(self) -> list[Trial]:
        """The trials of `ready` that the store has no results of, each signature once."""
        return pending(self.ready, self.store)

    @cached_property
    def trained(self) -> set[str]:
        """Signatures of the stages and forks of `ready` whose training is over."""
        return trained_signatures(self.held, self.store)


def make_plan(study: Study, store: Store, known: Known = NOTHING, listing: Listing | None = None) -> Plan:
    """The plan of a study with what is known of it. `listing`: its rows, where they are there already.

    Raises StudyError when levels contradict each other in a combination, and as `list_rows` does.
    """
    rows = listing or list_rows(study, known)
    treatments = resolve(study, known, rows)
    return Plan(study, known, store, rows, treatments, trials_of(study, known, treatments))
