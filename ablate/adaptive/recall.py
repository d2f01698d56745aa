"""Makes the plan of a study from its file and from what the store holds of it."""

from dataclasses import replace

from ablate.adaptive.pruning import read_pruned
from ablate.adaptive.search import read_suggestions
from ablate.adaptive.tuning import plan_tuning, tuned_levels, with_tuning
from ablate.identity import canonical
from ablate.plan.known import Known
from ablate.plan.plan import Plan, make_plan
from ablate.plan.treatments import list_rows
from ablate.slots import registry
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.study.study import Study


def plan_study(study: Study, store: Store) -> Plan:
    """The plan of a study, including what its results have added so far (see `Known`).

    Raises StudyError as `make_plan` does.
    """
    if study.document.own is not None:  # another study may have been read since
        registry.use(study.document.own)
    folder = store.study(study.name, study.variant)
    known = Known(
        searched=read_suggestions(study, store),
        pruned=read_pruned(study, store),
        replicates=(read_json(folder.replicates) or {}) if study.seed_bounds else {},
    )
    if study.tuning is None:
        return make_plan(study, store, known)

    listing = list_rows(study, known)
    tunings = {
        canonical(first.changed): plan_tuning(study, first.changed, store) for first, *_ in listing.rows.values()
    }
    tuned = {changed: tuned_levels(tuning) for changed, tuning in tunings.items()}
    known = replace(known, tuned={changed: levels for changed, levels in tuned.items() if levels is not None})
    return with_tuning(make_plan(study, store, known, listing), tunings)
