"""What the mirror writes about a study and its runs, taken from the study and its records."""

from typing import Any

from ablate.slots.settings import Metric
from ablate.store.record import Record
from ablate.study.study import Study


def experiment_name(study: Study) -> str:
    """The name of a study's experiment in MLflow: that of the study and, unless it is the base, its scale."""
    return study.name if study.scale == "base" else f"{study.name} ({study.scale})"


def resolved(study: Study) -> dict[str, Any]:
    """The study as JSON values, with scale, overrides and defaults applied."""
    return {
        "study": study.name, "question": study.question, "paper": study.paper, "scale": study.scale,
        "overrides": study.overrides, "design": study.designs, "seeds": study.seeds, "primary": study.primary,
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
