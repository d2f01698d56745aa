"""The comparisons that a study plans: which metric judges each treatment."""

from collections.abc import Iterable

from ablate.plan.treatments import Treatment
from ablate.study.study import Study


def judged_by(study: Study, treatments: Iterable[Treatment]) -> dict[str, str]:
    """Label of each treatment but the baseline -> the metric of its comparison with its reference.

    If the two differ in one factor for which the study names a metric, it is that one; else the primary metric.
    """
    known = {treatment.label: treatment for treatment in treatments}
    return {label: _metric(study, row, known[row.reference]) for label, row in known.items() if row.reference}


def _metric(study: Study, treatment: Treatment, reference: Treatment) -> str:
    changed = differing(treatment, reference)
    return study.primary_of.get(changed[0], study.primary) if len(changed) == 1 else study.primary


def differing(treatment: Treatment, reference: Treatment) -> list[str]:
    """Paths of the factors in which a treatment differs from its reference.

    A setting that exists on one side only goes with the factor that brings it.
    """
    changed = [path for path, level in treatment.levels.items() if level != reference.levels[path]]
    if len(changed) > 1:
        there = [path for path in changed if None not in (treatment.levels[path], reference.levels[path])]
        changed = there or changed
    return changed
