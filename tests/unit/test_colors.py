"""No two treatments share a colour, each has its own everywhere, and colour-blind readers tell the first ones apart."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ablate.adaptive.recall import plan_study
from ablate.analysis.figures import panels
from ablate.analysis.figures.style import compose, figure_style
from ablate.analysis.study_results import gather
from ablate.plan.colors import BASELINE_COLOR, COLORS, colors
from ablate.plan.plan import make_plan
from ablate.plan.treatments import Treatment
from ablate.store.folders import Store
from ablate.study.study import load_study
from ablate.track.mirror import Mirror
from tests.support.finished import finish_all
from tests.support.studies import Write

VISION = {
    "normal": np.eye(3),
    "protanopic": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopic": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip
"""Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB."""


def treatment(label: str) -> Treatment:
    changed = {} if label == "baseline" else {"norm": label}
    return Treatment(changed, changed, label, None, None, None, ())  # type: ignore[arg-type]


def lab(color: str, vision: str) -> np.ndarray:
    """CIELAB of a colour as a reader sees it, with the white of D65."""
    encoded = np.array(to_rgb(color))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(VISION[vision] @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ seen / np.array([0.9505, 1.0, 1.089]), 1e-4))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("count", [1, 4, 40, 41, 100, 1000])
def test_no_two_treatments_share_a_colour(count: int) -> None:
    labels = ["baseline", *(f"norm={i}" for i in range(count))]
    found = colors(map(treatment, labels))
    assert list(found) == labels and len(set(found.values())) == count + 1
    assert all(len(code) == 7 and 0 <= int(code[1:], 16) < 1 << 24 for code in found.values())
    assert found.items() <= colors(map(treatment, [*labels, "norm=new"])).items(), "a new one changes no other"


@pytest.mark.parametrize(("count", "least"), [(4, 17), (8, 17), (16, 17), (24, 15), (32, 11), (40, 10)])
@pytest.mark.parametrize("vision", VISION)
def test_readers_tell_the_first_colours_apart(count: int, least: float, vision: str) -> None:
    seen = [lab(color, vision) for color in (BASELINE_COLOR, *COLORS[:count])]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > least


def test_a_treatment_has_its_colour_in_every_panel_and_in_mlflow(write_study: Write, tmp_path: Path) -> None:
    factors = "loss.kl: [1e-4, 1, 1e-2]\n  padding: [reflect, zeros]"
    study = load_study(write_study(("loss.kl: [1, 1e-4]", factors)))
    store = Store(tmp_path / "runs")
    finish_all(study, store, lambda trial: {"psnr": 20.0 + trial.seed * len(trial.treatment.label)})
    found = gather(plan_study(study, store))
    assert len(set(found.colors.values())) == 4

    # Figures
    with figure_style():
        (effects,) = compose(panels(found, "effects")).axes
        kl, padding = compose(panels(found, "curves")).axes
    dots = [line.get_color() for line in effects.lines if line.get_marker() == "o"]
    assert dots == [found.colors[label] for label in ("kl=1", "kl=0.01", "padding=zeros")]
    drawn = {line.get_label(): line.get_color() for axes in (kl, padding) for line in axes.lines}
    assert drawn["1"] == found.colors["kl=1"] and drawn["zeros"] == found.colors["padding=zeros"]

    # MLflow, also while only some of the trials can run
    plan = make_plan(study, store)
    mirror = Mirror("none", None, study, plan.ready, store, plan.treatments)
    assert mirror.runs.colors == found.colors
    later = [trial for trial in plan.ready if trial.treatment.label == "padding=zeros"]
    assert Mirror("none", None, study, later, store, plan.treatments).runs.colors == found.colors


def test_lines_of_an_interaction_have_the_colours_of_their_levels_treatments(
    write_study: Write, tmp_path: Path
) -> None:
    grid = "design: grid\nfactors:\n  padding: [reflect, zeros]\n  "
    study = load_study(write_study(("loss.kl: [1, 1e-4]", "loss.kl: [1, 1e-4, 1e-2]"), ("factors:\n  ", grid)))
    store = Store(tmp_path / "runs")
    finish_all(study, store, lambda trial: {"psnr": 20.0 + trial.seed})
    found = gather(plan_study(study, store))
    with figure_style():
        (axes,) = compose(panels(found, "interaction")).axes
    assert [line.get_color() for line in axes.lines] == [BASELINE_COLOR, found.colors["padding=zeros"]]
