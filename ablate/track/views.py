"""Saved views of a study in MLflow's pages, and links that open them.

MLflow keeps a saved view in an experiment tag `mlflow.sharedViewState.<key>`: JSON with a name and a `state`, which is
"deflate;" and base64 of zlib-compressed JSON. The format is not documented; it was taken from MLflow 3.17. Another
major version gets no views and no links to them, and the mirror works without.
"""

import base64
import importlib.metadata
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ablate.plan.treatments import Treatment
from ablate.recipe.recipe import weight
from ablate.slots import registry
from ablate.slots.settings import Metric
from ablate.study.study import Study

State = dict[str, Any]


MAJOR = "3"
"""The major version of MLflow whose view format is written here."""


VIEW_TAG = "mlflow.sharedViewState."


TAG_LIMIT = 20_000
"""The longest experiment tag that MLflow accepts, in characters."""


PICTURES = "pictures"
"""Image keys are `pictures/<name>`; MLflow makes the part before the slash a section."""


BETTER = {"up": ", higher is better", "down": ", lower is better", "target": "", "none": ""}


IMAGES_SHOWN = 10
"""MLflow shows the pictures of the first ten runs in a list, in reverse order."""


REPORT = "report.html"
"""The path of the report among the study's artifacts."""


COMPARED = 10
"""How many runs MLflow's comparison page is opened with."""


TRIALS = "tags.`ablate.role` = 'trial'"


@dataclass(frozen=True)
class View:
    """A saved view. `charts`: whether it opens on the charts; otherwise it opens on the table of runs."""

    key: str
    name: str
    charts: bool
    state: State

    def tag(self, time_ms: int) -> tuple[str, str]:
        """The experiment tag that holds the view; equal views give equal text."""
        packed = base64.b64encode(zlib.compress(json.dumps(self.state, sort_keys=True).encode())).decode()
        value = {"name": self.name, "createdAt": time_ms, "updatedAt": time_ms, "state": f"deflate;{packed}"}
        return VIEW_TAG + self.key, json.dumps(value)

    def query(self) -> str:
        """The query of a link to the view. Without `workflowType` MLflow opens its pages for language models."""
        mode = {"compareRunsMode": "CHART"} if self.charts else {}
        return urlencode({"workflowType": "machine_learning", "viewStateShareKey": self.key, **mode})


def links(base_url: str, experiment_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Name -> link, for the saved views in an experiment's tags, a comparison, the study's page and its report."""
    root = f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs"
    result = {
        name: f"{root}?{View(f'ablate-{name}', '', charts, {}).query()}"
        for name, charts in {"runs": False, "charts": True, "images": True, "factors": True}.items()
        if f"{VIEW_TAG}ablate-{name}" in tags
    }
    if runs := tags.get("ablate.compared", "").split():
        compared, experiments = (json.dumps(ids, separators=(",", ":")) for ids in (runs, [experiment_id]))
        query = urlencode({"runs": compared, "experiments": experiments})
        result["compare"] = f"{base_url.rstrip('/')}/#/compare-runs?{query}"
    if "ablate.run" in tags:
        page = f"{root}/{tags['ablate.run']}"
        query = "workflowType=machine_learning"
        result["study"] = f"{page}?{query}"
        if "ablate.report" in tags:
            result["report"] = f"{page}/artifacts/{tags['ablate.report']}?{query}"
    return result


def is_supported() -> bool:
    """Whether the installed MLflow has the view format that is written here."""
    return importlib.metadata.version("mlflow").partition(".")[0] == MAJOR


def view_tags(
    study: Study, treatments: Mapping[str, Treatment], pictures: Iterable[str], time_ms: int
) -> dict[str, str]:
    """All views as experiment tags. `pictures`: the names known so far; `time_ms`: when the views were created."""
    views = [_runs(study), _charts(study, treatments), _images(study, treatments, pictures), _factors(study)]
    tags = dict(view.tag(time_ms) for view in views)
    return {key: value for key, value in tags.items() if len(value) <= TAG_LIMIT}


def leading_metrics(study: Study) -> list[Metric]:
    """The primary metric, then the first metric of every probe."""
    firsts = [registry.level("probe", probe.level).metrics[0] for probe in study.probes]
    primary = study.metrics[study.primary]
    return [primary, *(metric for metric in firsts if metric != primary)]


def _runs(study: Study) -> View:
    widths = {f"metrics.`{metric.name}`": 110 for metric in leading_metrics(study)}
    widths |= {f"params.`{factor.path}`": 130 for factor in study.factors} | {"params.`seed`": 80}
    widths |= {"tags.`ablate.status`": 120, "attributes.`Duration`": 100}
    table = {"selectedColumns": list(widths), "columnOrder": ["attributes.`Run Name`", *widths], "columnWidths": widths}
    return View("ablate-runs", "Runs", False, {**_state(study), **table})


def _charts(study: Study, treatments: Mapping[str, Treatment]) -> View:
    page = _Page()

    # Metrics: the primary one, then one per probe
    primary, *others = leading_metrics(study)
    page.section(f"{primary.name}{_unit(primary)}{BETTER[primary.direction]}", [_bar(primary)], columns=1)
    page.section("Other probes", [_bar(metric) for metric in others])

    # Curves of training
    losses = [treatment.recipe.losses for treatment in treatments.values()]
    terms = dict.fromkeys(f"train/{name}" for parts in losses for name, part in parts.items() if weight(part))
    page.section("Training", [_line(name) for name in ["train/loss", *terms]])
    quick = [probe.level for probe in study.probes if registry.level("probe", probe.level).cheap]
    firsts = [registry.level("probe", level).metrics[0] for level in quick]
    page.section("Probes during training", [_line(f"during/{metric.name}") for metric in firsts])
    page.collapsed(study)

    # Runs grouped by treatment
    tag = "ablate.treatment"
    state = {
        **_state(study), **page.state,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": tag}]},
        "groupsExpanded": {f"tag.{tag}.{label}": False for label in treatments},
    }  # fmt: skip
    return View("ablate-charts", "Charts by treatment", True, state)


def _images(study: Study, treatments: Mapping[str, Treatment], pictures: Iterable[str]) -> View:
    """The pictures of one run per treatment.

    MLflow shows the first ten runs of its list in reverse. So the list runs from the last treatment to the baseline,
    which is then shown first; with more than ten treatments it starts at the baseline, which would be cut off.
    """
    page = _Page()
    for name in _in_reading_order(pictures):
        chart = {"type": "IMAGE", "imageKeys": [f"{PICTURES}/{name}"], "showRunParams": False}
        page.section(name, [chart], columns=1, height=720)
    page.collapsed(study)
    state = {
        **_state(study), **page.state, "searchFilter": f"{TRIALS} AND params.`seed` = '{study.seeds[0]}'",
        "orderByKey": "tags.`ablate.order`", "orderByAsc": len(treatments) > IMAGES_SHOWN, "runListHidden": True,
    }  # fmt: skip
    return View("ablate-images", "Images", True, state)


def _factors(study: Study) -> View:
    page = _Page()
    paths = [factor.path for factor in study.factors]
    chart = {"type": "PARALLEL", "selectedParams": paths, "selectedMetrics": [study.primary], "showAllRuns": True}
    page.section("Factors", [chart], columns=1, height=560)
    page.collapsed(study)
    return View("ablate-factors", "Parallel coordinates", True, {**_state(study), **page.state})


def _in_reading_order(pictures: Iterable[str]) -> list[str]:
    """Reconstructions, then errors, then the rest by name."""
    return sorted(
        pictures, key=lambda name: (not name.startswith("reconstruction"), not name.startswith("error"), name)
    )


def _state(study: Study) -> State:
    """What all views share: trials alone, sorted by the primary metric.

    Sorting by a metric also shows the runs as a flat list; MLflow would nest them under the study's run.
    """
    ascending = study.metrics[study.primary].direction == "down"
    return {
        "searchFilter": TRIALS, "orderByKey": f"metrics.`{study.primary}`", "orderByAsc": ascending,
        "runsHiddenMode": "SHOW_ALL", "hideEmptyCharts": True, "isAccordionReordered": True,
    }  # fmt: skip


class _Page:
    """A page of charts: sections in order."""

    def __init__(self) -> None:
        self.state: State = {"compareRunCharts": [], "compareRunSections": []}

    def section(
        self, name: str, charts: list[State], *, columns: int = 3, height: int = 320, open: bool = True
    ) -> None:
        """Add a section, unless it would be open and empty."""
        if charts or not open:
            section = f"section-{name}"
            layout = {"columns": columns, "cardHeight": height, "display": open, "isReordered": True}
            self.state["compareRunSections"].append({"uuid": section, "name": name, **layout})
            for chart in charts:
                count = len(self.state["compareRunCharts"])
                defaults = {
                    "uuid": f"chart-{count}",
                    "metricSectionId": section,
                    "deleted": False,
                    "isGenerated": False,
                }
                self.state["compareRunCharts"].append({**defaults, **chart})

    def collapsed(self, study: Study) -> None:
        """Add collapsed sections for the charts that MLflow creates itself, one for every metric without one."""
        prefixes = dict.fromkeys(name.rpartition("/")[0] for name in study.metrics)
        paths = ["raw", "during", *(f"{when}/{prefix}" for when in ("raw", "during") for prefix in prefixes if prefix)]
        for name in [*filter(None, prefixes), "train", "share", *paths, PICTURES, "Model metrics"]:
            self.section(name, [], open=False)


def _unit(metric: Metric) -> str:
    return "" if metric.unit == "1" else f" [{metric.unit}]"


def _bar(metric: Metric) -> State:
    return {"type": "BAR", "metricKey": metric.name, "runsCountToCompare": 100}


def _line(name: str) -> State:
    axes = {"scaleType": "linear", "xAxisKey": "step", "xAxisScaleType": "linear", "lineSmoothness": 0, "range": {}}
    general = {"useGlobalXaxisKey": True, "useGlobalLineSmoothing": True, "runsCountToCompare": 100}
    return {"type": "LINE", "metricKey": name, "selectedMetricKeys": [name], **axes, **general}
