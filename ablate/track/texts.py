"""What the mirror writes about a study and its runs, taken from the study and its records."""

from typing import Any

from ablate.plan.labels import format_level
from ablate.slots.settings import Metric
from ablate.store.record import Record
from ablate.study.scales import settle
from ablate.study.study import Study

LONGEST_CHANGES = 200
"""Characters of the changes by `--set` that the name of an experiment shows; in place of more it has their hash."""


def experiment_name(study: Study) -> str:
    """The study's name, with its scale and what `--set` changes: `vivat_losses (cpu, seeds=5)`."""
    changes = [f"{path}={format_level(value)}" for path, value in settle(study.overrides)]
    if sum(map(len, changes)) > LONGEST_CHANGES:
        changes = [study.variant.partition("+")[2]]
    details = ", ".join([*([study.scale] if study.scale != "base" else []), *changes])
    return f"{study.name} ({details})" if details else study.name


def resolved(study: Study) -> dict[str, Any]:
    """The study as JSON values, with scale, overrides and defaults applied."""
    return {
        "study": study.name, "question": study.question, "paper": study.paper, "scale": study.scale,
        "overrides": study.overrides, "design": study.designs, "seeds": study.seeds, "primary": study.primary,
        "primary_of": study.primary_of, "interest": study.interest,
        "factors": {factor.path: factor.levels for factor in study.factors},
        "probes": [probe.plain() for probe in study.probes], "baseline": study.baseline.plain(),
    }  # fmt: skip


def note(metric: Metric, record: Record, reference: Record | None, label: str | None) -> str:
    """The description of a run: the metric, and its difference from the reference treatment at the same seed.

    `reference`: the reference's record, if there is one yet; `label`: its treatment. Without a value of the metric, the
    status and the reason.
    """
    if metric.name not in record.metrics:
        return f"{record.status}: {record.reason}"
    value = record.metrics[metric.name]
    text = f"{metric.name} {value:.{metric.decimals}f} {metric.unit}"
    if reference and metric.name in reference.metrics:
        change = value - reference.metrics[metric.name]
        name = "the baseline" if label == "baseline" else f"'{label}'"
        text += f", {change:+.{metric.decimals}f} from {name} with the same seed"
    return text
