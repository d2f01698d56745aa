"""The plan of a study as far as its results have come."""

from dataclasses import replace

from ablate.adaptive.pruning import read_pruned
from ablate.adaptive.search import read_suggestions
from ablate.adaptive.tuning import plan_tuning, tuned_levels, with_tuning
from ablate.identity import canonical
from ablate.plan.known import Known
from ablate.plan.plan import Plan, make_plan
from ablate.plan.treatments import list_rows
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.study.study import Study


def plan_study(study: Study, store: Store) -> Plan:
    """The plan of a study with what the store knows of it: what its search has suggested, its tuning has chosen and
    its pruning has stopped, and how many seeds its treatments have. Raises StudyError as `make_plan` does."""
    folder = store.study(study.name, study.scale)
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
    chosen = {treatment: tuned_levels(tuning) for treatment, tuning in tunings.items()}
    known = replace(known, tuned={key: levels for key, levels in chosen.items() if levels is not None})
    return with_tuning(make_plan(study, store, known, listing), tunings)
