"""Sequential seeds: after each analysis, one more seed for each treatment whose effect is not clear yet."""

from ablate.adaptive.recall import plan_study
from ablate.analysis.records.frame import tidy
from ablate.analysis.statistics.effects import analyse
from ablate.identity import canonical
from ablate.plan.plan import Plan
from ablate.plan.planned import judged_by
from ablate.plan.trials import pending
from ablate.store.files import write_json

UNDECIDED = {"within noise", "unclear", "no spread"}
"""Verdicts that more seeds may change."""


def add_seeds(plan: Plan) -> Plan:
    """The plan with one more seed for each treatment that needs it, or the same plan if none does.

    A treatment and its reference need another seed while the verdict is undecided, up to the
    study's upper bound. No seed is added while any trial is pending. A study resumed with a higher bound continues.
    """
    study = plan.study
    store = plan.store
    if study.seed_bounds is None or pending(plan.trials, store):
        return plan
    counts = {row.label: sum(trial.treatment.label == row.label for trial in plan.trials) for row in plan.treatments}
    references = {row.label: row.reference for row in plan.treatments if row.reference}
    judged = judged_by(study, plan.treatments)
    effects = analyse(tidy(plan.trials, store), study.metrics, judged, references, study.seed_bounds).effects

    wanted = dict(counts)
    for label, reference in references.items():
        if counts[label] < study.seed_bounds[1] and effects[label][judged[label]].verdict in UNDECIDED:
            wanted[label] = max(wanted[label], counts[label] + 1)
            wanted[reference] = max(wanted[reference], counts[label] + 1)
    if wanted == counts:
        return plan
    replicates = {canonical(row.changed): wanted[row.label] for row in plan.treatments}
    write_json(store.study(study.name, study.variant).replicates, replicates)
    return plan_study(study, store)
