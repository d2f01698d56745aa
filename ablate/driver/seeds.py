"""Sequential seeds: after each analysis of the results, one more seed for treatments that are not told apart yet."""

from dataclasses import replace

from ablate.analysis.records.frame import tidy
from ablate.analysis.statistics.effects import analyse
from ablate.identity import canonical
from ablate.plan.treatments import treatments
from ablate.plan.trials import expand, pending
from ablate.store.files import write_json
from ablate.store.folders import Store
from ablate.study.study import Study

OPEN = {"within noise", "unclear"}
"""Verdicts that more seeds may change."""


def more_seeds(study: Study, store: Store) -> Study:
    """The study with one seed more where that is due; as it is while any trial is pending, and when no more is due.

    Due is a seed for each treatment that the primary metric does not tell from its reference, up to the most, and for
    that reference. A study resumed with a greater bound goes on.
    """
    trials = expand(study)
    if study.seed_bounds is None or pending(trials, store):
        return study
    rows = {row.label: row for row in treatments(study)}
    counts = {label: sum(trial.treatment.label == label for trial in trials) for label in rows}
    references = {label: row.reference for label, row in rows.items() if row.reference}
    effects = analyse(tidy(trials, store), study.metrics, study.primary, references, study.seed_bounds).effects
    wanted = dict(counts)
    for label, reference in references.items():
        if counts[label] < study.seed_bounds[1] and effects[label][study.primary].verdict in OPEN:
            wanted[label] = max(wanted[label], counts[label] + 1)
            wanted[reference] = max(wanted[reference], counts[label] + 1)
    if wanted == counts:
        return study
    replicates = {canonical(rows[label].changed): n for label, n in wanted.items()}
    write_json(store.study(study.name, study.scale).replicates, replicates)
    return replace(study, replicates=replicates)
