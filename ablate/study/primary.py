"""The metrics that a study's comparisons are planned for: one for all, or one for each factor."""

from collections.abc import Sequence

from ablate.errors import KeyPath, Problem, nearest
from ablate.recipe.paths import full_path
from ablate.recipe.recipe import Part
from ablate.recipe.synonyms import synonym
from ablate.slots import registry
from ablate.study.document import Document
from ablate.study.factors import Factor
from ablate.study.probes import every_probe, reported
from ablate.study.schema import StudyFile

DEFAULT = "default"
"""The key of the metric of comparisons in which several factors change, or one without a metric of its own."""

ONE_CHANGE = {"one_at_a_time", "ladder"}
"""Designs in which every treatment differs from its reference in one factor."""


def default_metric(file: StudyFile) -> str | None:
    """The metric of comparisons that no factor's own is for; None if the file names none."""
    return file.primary if isinstance(file.primary, str) else file.primary.get(DEFAULT)


def check_primary(document: Document, file: StudyFile, probes: tuple[Part, ...], *, complete: bool) -> list[Problem]:
    """Whether probes report the primary metrics. Unless all probes are known, one that is not may report them."""
    named: dict[KeyPath, str] = {("primary",): file.primary} if isinstance(file.primary, str) else {}
    if isinstance(file.primary, dict):
        if not file.primary:
            text = "primary: expected a metric, or a mapping of factors to metrics such as {default: psnr}, found {}"
            return [document.problem(("primary",), text)]
        named = {("primary", factor): metric for factor, metric in file.primary.items()}
    names = [*reported(probes)]
    known = names if complete else [metric.name for level in every_probe() for metric in level.metrics]
    wrong = {path: metric for path, metric in named.items() if metric not in known}
    return [
        document.problem(
            path, f"{'.'.join(map(str, path))}: none of the probes reports '{metric}'{_hint(metric, names, known)}"
        )
        for path, metric in wrong.items()
    ]


def _hint(metric: str, names: Sequence[str], known: Sequence[str]) -> str:
    """The way out of a metric that no probe of the study reports. `names`: those that its probes report."""
    reporting = [level.name for level in every_probe() if metric in [one.name for one in level.metrics]]
    if metric in registry.levels("probe"):
        listed = ", ".join(one.name for one in registry.level("probe", metric).metrics)
        return f"; it is a probe, whose metrics are {listed}"
    if probe := synonym("probe", metric):
        listed = ", ".join(one.name for one in registry.level("probe", probe).metrics)
        return f"; probe '{probe}' reports {listed}"
    if reporting:
        return f"; add probe '{reporting[0]}', which does{nearest('', names)}"
    return nearest(metric, known)


def read_primaries(
    document: Document, file: StudyFile, factors: Sequence[Factor], problems: list[Problem]
) -> dict[str, str]:
    """Factor -> its metric, for the factors that have one; adds what is wrong with them to `problems`."""
    if isinstance(file.primary, str):
        return {}
    path_of = {full_path(factor.path): factor.path for factor in factors}
    metrics: dict[str, str] = {}
    before = len(problems)
    for name, metric in file.primary.items():
        path = path_of.get(full_path(name))
        if path in metrics:
            message = f"primary: '{name}' is '{path}', which has a metric already"
            problems.append(document.problem(("primary", name), message, at_key=True))
        elif path:
            metrics[path] = metric
        elif name != DEFAULT:
            hint = nearest(name, [*path_of.values(), DEFAULT])
            message = f"primary: the study does not vary '{name}'{hint}"
            problems.append(document.problem(("primary", name), message, at_key=True))
    if not file.primary or DEFAULT in file.primary or len(problems) > before:
        return metrics
    if reason := _needs_default(file, factors, metrics):
        message = f"primary: the key '{DEFAULT}' is missing; {reason}"
        problems.append(document.problem(("primary",), message, at_key=True))
    return metrics


def _needs_default(file: StudyFile, factors: Sequence[Factor], metrics: dict[str, str]) -> str:
    """Why a study needs a metric that belongs to no factor; empty if it does not."""
    if without := [factor.path for factor in factors if factor.path not in metrics]:
        their = "its" if len(without) == 1 else "their"
        return f"it is the metric of {', '.join(without)}, without one of {their} own"
    several = [design for design in file.design if design not in ONE_CHANGE]
    if several and len(factors) > 1:
        return f"it is the metric of treatments in which several factors change, as design '{several[0]}' has them"
    if file.nuisance:
        return "it is the metric that nuisance settings are tuned for"
    return ""
