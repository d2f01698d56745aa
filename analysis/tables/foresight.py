"""What a study will be able to detect, from the noise in the results that the store already has."""

from dataclasses import replace

from ablate.analysis.records.frame import frame_of
from ablate.analysis.statistics.effects import analyse
from ablate.analysis.statistics.noise import Noise
from ablate.analysis.statistics.power import detectable
from ablate.plan.plan import Plan
from ablate.plan.planned import judged_by


def foresee(plan: Plan) -> dict[str, Noise]:
    """Metric of planned comparisons -> its noise so far, and what all seeds of the study will detect.

    The noise is that of the study's own trials, whichever study ran them; a metric is left out while no treatment
    shares two seeds with its reference, and everything is for a study that searches, which has no tests.
    """
    study = plan.study
    if study.search or not plan.stored:
        return {}
    references = {row.label: row.reference for row in plan.treatments if row.reference}
    judged = judged_by(study, plan.treatments)
    analysis = analyse(frame_of(plan), study.metrics, judged, references, study.seed_bounds)
    seeds = len(study.seeds)
    return {
        name: replace(
            noise,
            detectable=detectable(
                noise.sd, seeds, noise.planned, analysis.moderation.get(name), study.seed_bounds, noise.estimates
            ),
        )
        for name, noise in analysis.noises.items()
        if noise.sd > 0 and seeds > 1
    }
