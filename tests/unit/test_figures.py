"""Figures hold the numbers that the trials left, fit a column, are readable in grey, and say what they lack."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ablate.adaptive.recall import plan_study
from ablate.analysis.figures import KINDS, panels, save_figure
from ablate.analysis.figures.comparisons import front
from ablate.analysis.figures.curves import MissingCurve
from ablate.analysis.figures.style import compose, figure_style
from ablate.analysis.study_results import StudyResults, gather
from ablate.cli import report
from ablate.cli.main import app
from ablate.errors import UsageError
from ablate.plan.trials import Trial
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.study import Study, load_study
from tests.support.finished import STEPS, finish_all
from tests.support.studies import Write

FACTORS = "loss.kl: [1e-4, 1, 1e-2]\n  padding: [reflect, zeros]"


PROBES = "probes: [reconstruction, grid, spectrum, erasure, diffusability]"


ONE_BY_ONE = [("loss.kl: [1, 1e-4]", FACTORS), ("seeds: 2", "seeds: 3"), ("probes: [reconstruction]", PROBES)]


GRID = [*ONE_BY_ONE, ("primary: psnr", "primary: psnr\ndesign: grid")]


def psnr(trial: Trial) -> float:
    """A main effect of each factor, an interaction, and a seed's part."""
    kl, zeros = float(trial.treatment.levels["loss.kl"]), trial.treatment.levels["padding"] == "zeros"
    return 20 - 3 * (kl == 1) - zeros + 2 * (kl == 1 and zeros) + 0.1 * trial.seed


def values(trial: Trial) -> dict[str, float]:
    own = (
        0.01
        * (trial.seed - 1)
        * (trial.treatment.levels["loss.kl"] == 1 or trial.treatment.levels["padding"] == "zeros")
    )
    return {"psnr": psnr(trial), "ssim": psnr(trial) / 40, "grid/nat_fold": 30 - psnr(trial) + own}


def profile(trial: Trial) -> dict[str, list[float]]:
    kl = float(trial.treatment.levels["loss.kl"])
    left = {"spec/profile": [0.0, -1 - kl - trial.seed], "spec/profile_rgb": [0.0, -2.0]}
    left |= {"spec/profile_draw": [0.0, -0.5], "diff/curve_steps": [40.0, 80.0], "diff/curve_fd": [9.0, 3.0 + kl]}
    return {**left, "erase/shares": [0.1, 0.9], "erase/curve": [20.0, 10.0 + kl], "erase/curve_rgb": [30.0, 20.0]}


def losses(trial: Trial, step: int) -> dict[str, float]:
    return {"train/loss": (1 + trial.seed) / step, **({"during/psnr": float(step)} if step > 2 else {})}


def results(study: Study, store: Store) -> StudyResults:
    return gather(plan_study(study, store))


@pytest.fixture
def found(write_study: Write, tmp_path: Path) -> StudyResults:
    study, store = load_study(write_study(*ONE_BY_ONE)), Store(tmp_path / "runs")
    finish_all(study, store, values, profile, losses)
    return results(study, store)


@pytest.fixture
def crossed(write_study: Write, tmp_path: Path) -> StudyResults:
    study, store = load_study(write_study(*GRID)), Store(tmp_path / "runs")
    finish_all(study, store, values, profile, losses)
    return results(study, store)


def axes(found: StudyResults, kind: str, *metrics: str) -> list[object]:
    with figure_style():
        return compose(panels(found, kind, metrics)).axes


def lines(drawn) -> dict[str, tuple[list[float], list[float]]]:  # type: ignore[no-untyped-def]
    """Label -> x and y of what a legend names."""
    handles, labels = drawn.get_legend_handles_labels()
    return {name: (list(line.get_xdata()), list(line.get_ydata())) for line, name in zip(handles, labels, strict=True)}


def test_spectra_are_means_over_seeds_a_panel_per_factor(found: StudyResults) -> None:
    kl, padding = axes(found, "spectra")
    assert (kl.get_title(loc="left"), padding.get_title(loc="left")) == ("kl", "padding")
    drawn = lines(kl)
    assert list(drawn) == ["pictures at the latent’s size", "0.0001 (baseline)", "1", "0.01"]
    assert drawn["1"] == ([0, 1], [0, pytest.approx(-3)])
    assert drawn["pictures at the latent’s size"][1] == [0, -2]
    (band, *_) = kl.collections
    assert np.ptp(band.get_paths()[0].vertices[:, 1]) == pytest.approx(2.0001 + 1), "one sd of seeds 0, 1, 2 is 1"
    assert list(lines(padding)) == ["pictures at the latent’s size", "reflect (baseline)", "zeros"]


def test_erasure_convergence_and_training_are_drawn_over_their_own_axes(found: StudyResults) -> None:
    assert lines(axes(found, "erasure")[0])["1"] == ([0.1, 0.9], [20, 11])
    assert lines(axes(found, "spectra_drawn")[0])["1"] == ([0, 1], [0, -0.5])
    assert lines(axes(found, "diffusion")[0])["1"] == ([40, 80], [9, 4])
    assert axes(found, "diffusion")[0].get_yscale() == "log"
    assert lines(axes(found, "convergence")[0])["1"] == ([4, 6], [4, 6])
    (kl, _) = axes(found, "curves")
    assert lines(kl)["1"] == (list(STEPS), pytest.approx([2 / step for step in STEPS]))
    assert kl.get_yscale() == "log"


def test_balance_and_diffusion_are_drawn_from_what_their_probes_leave(write_study: Write, tmp_path: Path) -> None:
    probes = "probes: [reconstruction, balance, diffusability]"
    study = load_study(write_study(("probes: [reconstruction]", probes)))
    store = Store(tmp_path / "runs")

    def by_position(trial: Trial) -> dict[str, float]:
        return {"psnr": 20.0, **{f"balance/psnr_{p}": 30 - p + trial.seed for p in (1, 2, 3, 4)}}

    def learnt(trial: Trial) -> dict[str, list[float]]:
        return {"diff/curve_steps": [10, 100], "diff/curve_fd": [8.0, 2.0 + trial.seed]}

    finish_all(study, store, by_position, learnt)
    (balance,) = axes(results(study, store), "balance")
    assert lines(balance)["1"] == ([1, 2, 3, 4], [29.5, 28.5, 27.5, 26.5])
    assert list(balance.get_xticks()) == [1, 2, 3, 4]
    (diffusion,) = axes(results(study, store), "diffusion")
    assert lines(diffusion)["1"] == ([10, 100], [8, 2.5]) and diffusion.get_yscale() == "log"


def test_effects_show_estimates_and_intervals_of_the_table(found: StudyResults) -> None:
    (drawn,) = axes(found, "effects", "grid/nat_fold")
    assert [label.get_text() for label in drawn.get_yticklabels()] == ["kl=1", "kl=0.01", "padding=zeros"]
    marks = [line for line in drawn.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx([3, 0, 1])
    assert [line.get_markerfacecolor() == "white" for line in marks] == [False, True, False], "filled where clear"
    assert drawn.get_xlabel() == "Δ Grid (gl)\nlower is better"


def test_interaction_shows_the_planted_means(crossed: StudyResults) -> None:
    (drawn,) = axes(crossed, "interaction")
    assert [tick.get_text() for tick in drawn.get_xticklabels()] == ["0.0001", "1", "0.01"]
    assert lines(drawn)["padding reflect"][1] == pytest.approx([20.1, 17.1, 20.1])
    assert lines(drawn)["padding zeros"][1] == pytest.approx([19.1, 18.1, 19.1])


def test_no_interaction_is_told_by_a_design_that_crosses_nothing(found: StudyResults) -> None:
    with pytest.raises(ValueError, match=r"no two factors .* crossed by its design \(one_at_a_time\)"):
        panels(found, "interaction")


def test_means_that_mix_effects_are_not_drawn(write_study: Write, tmp_path: Path) -> None:
    fraction = ("primary: psnr", "primary: psnr\ndesign: fraction\nfraction: {runs: 5}")
    study, store = load_study(write_study(*ONE_BY_ONE, fraction)), Store(tmp_path / "runs")
    finish_all(study, store, values, profile, losses)
    with pytest.raises(ValueError, match=r"D-optimal fraction, in which means over .* mix their effects"):
        panels(results(study, store), "interaction")


def test_a_grid_has_a_panel_per_level_of_the_smaller_factor(crossed: StudyResults) -> None:
    titles = [drawn.get_title(loc="left") for drawn in axes(crossed, "spectra")]
    assert sorted(titles) == ["padding reflect", "padding zeros"]


def test_the_front_is_what_brute_force_finds() -> None:
    rng = np.random.default_rng(0)
    points = {str(i): tuple(point) for i, point in enumerate(rng.integers(0, 9, (60, 2)).astype(float))}
    up, down = Metric("a", "1", "up"), Metric("b", "1", "down")

    def beats(p: tuple[float, float], q: tuple[float, float]) -> bool:
        return p[0] >= q[0] and p[1] <= q[1] and p != q

    expected = [name for name, q in points.items() if not any(beats(p, q) for p in points.values())]
    assert front(points, (up, down)) == expected and 0 < len(expected) < 60
    near = Metric("c", "1", "target", target=4.0)
    assert front({"x": (3.0, 0.0), "y": (5.5, 0.0)}, (near, down)) == ["x"]


def test_pareto_names_the_front_and_keeps_every_treatment(found: StudyResults) -> None:
    (drawn,) = axes(found, "pareto", "psnr", "grid/nat_fold")
    points = sum(len(line.get_xdata()) for line in drawn.lines if line.get_marker() != "None")
    assert points == 4, "baseline, kl=1, kl=0.01, padding=zeros"
    assert {"others", "baseline"} <= set(lines(drawn))


def test_lines_of_a_panel_differ_in_dashes_and_marks(found: StudyResults) -> None:
    for kind in ("spectra", "spectra_drawn", "erasure", "diffusion", "convergence", "curves"):
        for drawn in axes(found, kind):
            looks_of = [(line.get_linestyle(), line.get_marker(), line.get_linewidth()) for line in drawn.lines]
            assert len(set(looks_of)) == len(looks_of), kind


def test_many_treatments_are_spread_over_panels_and_the_largest_are_drawn(write_study: Write, tmp_path: Path) -> None:
    levels = ", ".join(f"{10.0**-power:g}" for power in np.linspace(0, 9, 60))
    study = load_study(write_study(("loss.kl: [1, 1e-4]", f"loss.kl: [{levels}]"), ("seeds: 2", "seeds: 1")))
    store = Store(tmp_path / "runs")
    finish_all(study, store, lambda trial: {"psnr": float(trial.treatment.levels["loss.kl"])})
    many = results(study, store)
    assert (len(many.treatments), many.not_drawn) == (40, 21)
    drawn = axes(many, "curves")
    assert len(drawn) == 5 and all(len(lines(one)) <= 9 for one in drawn)


def leave_pictures(found: StudyResults) -> list[str]:
    """Two crops of 8 px: the first grey throughout, the second as bright as its treatment's place; and a pattern."""
    labels = list(found.treatments)
    for trial in found.trials:
        folder = found.store.stage(trial.signature).pictures
        folder.mkdir(parents=True, exist_ok=True)
        brightness = 20 * labels.index(trial.treatment.label)
        sheet = np.full((16, 16, 3), 100, np.uint8)
        sheet[8:, 8:] = brightness
        pattern = np.full((2, 2, 3), brightness, np.uint8)
        pattern[0, 0] = 255
        for name, pixels in {"reconstruction": sheet, "grid_natural_x32": pattern, "error_x8": sheet[:, 8:]}.items():
            Image.fromarray(pixels).save(folder / f"{name}.png")
    return labels


def test_pictures_show_the_crop_that_differs_most_and_the_artifact_below(found: StudyResults) -> None:
    labels = leave_pictures(found)
    for trial in found.of(labels[0])[:1]:  # the first seed lacks one
        (found.store.stage(trial.signature).pictures / "reconstruction.png").unlink()

    (drawn,) = axes(found, "pictures", "grid/nat_fold")
    images = [np.asarray(image.get_array()) for image in drawn.get_images()]  # type: ignore[attr-defined]
    assert (images[0] == 100).all() and len(images) == 1 + 2 * len(labels)
    for place, (reconstruction, pattern) in enumerate(zip(images[1::2], images[2::2], strict=True)):
        assert reconstruction.shape == (8, 8, 3) and (reconstruction == 20 * place).all()
        assert pattern.shape == (12, 12, 3) and (pattern[::2, ::2] == 255).all() and (pattern[1] == 20 * place).all()
    *names, caption = [text.get_text() for text in drawn.texts]  # type: ignore[attr-defined]
    assert names[0] == "source" and names[1].splitlines() == ["baseline", "9.900 gl"]
    assert "Seed 1;" in caption and "pattern that pictures share, × 32." in caption


def test_pictures_say_what_is_missing(found: StudyResults) -> None:
    with pytest.raises(ValueError, match=r"and error_x….png of every treatment.*; 'baseline' has none"):
        panels(found, "pictures", ["psnr"])
    labels = leave_pictures(found)
    assert len(panels(found, "pictures", ["psnr"])) == 1
    for label, trial in zip(labels, found.of(labels[0]), strict=False):
        (found.store.stage(found.of(label)[trial.seed].signature).pictures / "error_x8.png").unlink()
    with pytest.raises(ValueError, match="there is no such seed yet"):
        panels(found, "pictures", ["psnr"])


def test_files_are_a_column_wide_with_fonts_that_conferences_take(found: StudyResults, tmp_path: Path) -> None:
    if not shutil.which("pdffonts"):
        pytest.skip("needs poppler-utils")
    leave_pictures(found)
    for kind in KINDS.keys() - {"interaction", "balance", "diffusion"}:
        path = tmp_path / f"{kind}.pdf"
        save_figure(found, kind, [], path)
        size = subprocess.run(["pdfinfo", path], capture_output=True, text=True, check=True).stdout
        assert "Page size:       234 x" in size, "3.25 inches"
        fonts = subprocess.run(["pdffonts", path], capture_output=True, text=True, check=True).stdout
        assert "Type 3" not in fonts and "TrueType" in fonts


LONG = ["pixel_shuffle", "alias_free", "{level: pixel_shuffle_icnr, project: true}", "transposed_conv"]


def test_names_fit_a_column(write_study: Write, tmp_path: Path) -> None:
    """One panel as narrow as a column: its names and its legend neither leave it nor touch its title."""
    levels = (
        "  loss.kl: [1, 1e-4]",
        f"  upsample: [nearest_conv, {', '.join(LONG)}]\n  padding: [reflect, zeros]\ndesign: grid",
    )
    study = load_study(write_study(*ONE_BY_ONE[1:], levels))
    store = Store(tmp_path / "runs")
    finish_all(study, store, lambda trial: {"psnr": 20.0 + trial.seed, "grid/nat_fold": 1.0}, curves_left, losses)
    leave_pictures(results(study, store))
    for kind in KINDS.keys() - {"balance"}:
        with figure_style():
            figure = compose(panels(results(study, store), kind)[:1])
            figure.draw_without_rendering()
            (drawn,) = figure.axes
            page, title = figure.bbox, drawn.title.get_window_extent()
            parts = drawn.texts if kind == "pictures" else (drawn.xaxis, drawn.yaxis)
            boxes = [part.get_tightbbox() for part in parts]
            boxes += [drawn.get_legend().get_window_extent()] if drawn.get_legend() else []
            for box in boxes:
                assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, kind
                assert not (title.width and box.overlaps(title)), kind


def curves_left(trial: Trial) -> dict[str, list[float]]:
    left = {"spec/profile": [0.0, -1.0], "spec/profile_rgb": [0.0, -2.0], "spec/profile_draw": [0.0, -0.5]}
    left |= {"diff/curve_steps": [40.0, 80.0], "diff/curve_fd": [9.0, 3.0]}
    return {**left, "erase/shares": [0.1, 0.9], "erase/curve": [20.0, 10.0], "erase/curve_rgb": [30.0, 20.0]}


def test_a_figure_is_the_same_file_each_time(found: StudyResults, tmp_path: Path) -> None:
    files = [tmp_path / f"{place}.svg" for place in range(2)]
    for path in files:
        save_figure(found, "spectra", [], path)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert ">0.0001 (baseline)</text>" in files[0].read_text(), "text stays text"


def test_a_missing_curve_says_which_probe_leaves_it(write_study: Write, tmp_path: Path) -> None:
    study, store = load_study(write_study()), Store(tmp_path / "runs")
    finish_all(study, store, lambda trial: {"psnr": 20.0})
    with pytest.raises(MissingCurve, match=r"no curve 'spec/profile': probe 'spectrum' records it; add it to `probes`"):
        panels(results(study, store), "spectra")
    with pytest.raises(MissingCurve, match=r"no values of 'balance/psnr_1': probe 'balance' reports them; add it"):
        panels(results(study, store), "balance")
    with pytest.raises(
        MissingCurve, match=r"'during/psnr': it is logged by quick probes, in stages with `probe_every`"
    ):
        panels(results(study, store), "convergence")


@pytest.mark.parametrize(
    ("kind", "metrics", "message"),
    [
        ("spectrum", [], "unknown kind 'spectrum'; did you mean 'spectra'"),
        ("effects", ["psnrr"], "unknown metric 'psnrr'; did you mean 'psnr'"),
        ("curves", ["train/los"], "has logged 'train/los'; did you mean 'train/loss'"),
        ("pareto", ["psnr"], "kind 'pareto' takes 2 metrics, found 1"),
        ("spectra", ["psnr"], "kind 'spectra' takes no metrics, found 1"),
        ("pareto", ["psnr", "spec/slope"], "needs metrics with a direction; for 'spec/slope' neither is better"),
    ],
)
def test_bad_requests_name_what_is_valid(found: StudyResults, kind: str, metrics: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        panels(found, kind, metrics)


def test_other_suffixes_are_refused(found: StudyResults, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"valid suffixes are \.pdf, \.svg, \.png"):
        save_figure(found, "effects", [], tmp_path / "effects.gif")


def test_a_png_has_the_width_of_a_column_at_300_dpi_and_is_the_same_again(found: StudyResults, tmp_path: Path) -> None:
    files = [tmp_path / "1.png", tmp_path / "2.PNG"]
    for file in files:
        save_figure(found, "effects", [], file)
    with Image.open(files[0]) as image:
        assert (image.format, image.width) == ("PNG", round(3.25 * 300))
        assert image.info["dpi"][0] == pytest.approx(300, abs=1)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("kind", ["effects", "pareto", "interaction"])
def test_nothing_is_drawn_before_a_trial_is_finished(write_study: Write, tmp_path: Path, kind: str) -> None:
    study = load_study(write_study(*GRID))
    with pytest.raises(ValueError, match="no trial of study 'tiny' is finished"):
        panels(results(study, Store(tmp_path / "runs")), kind)


@pytest.mark.parametrize("command", [["figure", "--kind", "effects"], ["report"]])
def test_a_folder_that_does_not_exist_is_refused(write_study: Write, tmp_path: Path, command: list[str]) -> None:
    name, *options = command
    out = tmp_path / "nowhere" / "x.pdf"
    ended = CliRunner().invoke(app, [name, str(write_study()), *options, "--out", str(out)], env={"COLUMNS": "400"})
    assert isinstance(ended.exception, UsageError)
    assert f"there is no folder {out.parent}; make it first" in str(ended.exception)


def test_the_help_of_the_command_names_every_kind() -> None:
    assert sorted(re.findall(r"\w+", report.KINDS.replace(" or ", ", "))) == sorted(KINDS)
