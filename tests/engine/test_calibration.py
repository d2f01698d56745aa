"""Every defect against every metric of the probes: each must see its own, grow with it, and be silent on others.

A defect is planted in a good model at three strengths (`tests/support/calibration.py`). What a defect moves besides its
own metrics is listed with the reason, and must do so. Then closed forms, and decoders at random weights.
"""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import color as skimage_color
from torch import Tensor, nn

from ablate.components.probe import blur as blur_probe
from ablate.components.probe import droplet, grid
from ablate.slots.probe import Subject
from ablate.slots.training import Autoencoder, Posterior
from tests.support import calibration, calibration_figure, planted
from tests.support.calibration import MATRIX, Row, moves, numbers, reported, without
from tests.support.planted import RISE, Fake, blurred, contrast, good, image_kl, noise, photographs

torch.set_num_threads(1)


ALARM: dict[str, Callable[[dict[str, float]], bool]] = {
    "blur": lambda m: 0.005 < m["blur/mtf50"] < 0.15 and m["blur/edge_px"] > 2,
    "border": lambda m: m["border/excess_b4"] > 1 and m["border/cc_ratio"] > 1.5,
    "color": lambda m: (m["color/dE00"] > 1 and m["color/coherence"] > 0.9) or abs(m["color/gain_g"] - 1) > 0.1,
    "droplet": lambda m: m["droplet/incidence"] > 0.2,
    "grid": lambda m: (m["grid/nat_z"] > 2 and m["grid/nat_fold"] > 0.2) or m["grid/scan_db"] > 0,
}


each_row = pytest.mark.parametrize("row", MATRIX, ids=[row.name for row in MATRIX])


def table(row: Row) -> str:
    """All changes under a defect, to be read when a test fails."""
    lines = [f"{name:26}{without()[name]:9.3f}" + "".join(f"{m:9.1f}" for m in moves(row, name)) for name in reported()]
    return "\n".join(["", f"changes in tolerances under {row.name}", *lines])


@each_row
def test_a_defect_moves_its_own_metrics_step_by_step(row: Row) -> None:
    for names, sign in ((row.up.split(), 1), (row.down.split(), -1)):
        for name in names:
            steps = [0.0, *(sign * change for change in moves(row, name))]
            assert all(a <= b + 1e-9 for a, b in itertools.pairwise(steps)), (name, steps)
            assert steps[-1] > 1, (name, steps)


@each_row
def test_a_defect_leaves_all_other_metrics_alone_at_every_strength(row: Row) -> None:
    assert not {*row.own} & {*row.reasons}
    silent = set(reported()) - {*row.own} - {*row.reasons}
    assert not {name for name in silent if max(map(abs, moves(row, name))) > 1}, table(row)
    still = {name for name in row.reasons if max(map(abs, moves(row, name))) < 0.5}
    assert not still, "listed, but does not move" + table(row)


@each_row
def test_a_defect_raises_its_own_alarm_and_no_other(row: Row) -> None:
    assert not any(alarm(without()) for alarm in ALARM.values())
    strongest = numbers(row.defect, row.strengths[-1])
    assert [probe for probe, alarm in ALARM.items() if alarm(strongest)] == [row.owner][: row.owner is not None]


@each_row
def test_every_defect_of_the_picture_costs_fidelity_and_leaves_latents_and_inputs(row: Row) -> None:
    found = numbers(row.defect, row.strengths[-1])
    assert found["psnr"] < without()["psnr"]
    assert found["ssim"] < without()["ssim"]
    for name in without():
        if name.startswith(("health/", "inputs/", "droplet/z_")):
            assert found[name] == without()[name]


@pytest.mark.parametrize("metric", calibration.UNSEEN)
@each_row
def test_every_defect_costs_quality_in_learned_features_but_for_those_that_they_do_not_see(
    row: Row, metric: str
) -> None:
    ratio = calibration.learned(row.defect, row.strengths[-1])[metric] / calibration.learned(planted.none, 0.0)[metric]
    assert ratio < 1.1 if row.name in calibration.UNSEEN[metric].split() else ratio > 1.15, ratio


@each_row
def test_the_figure_in_docs_shows_what_the_code_measures(row: Row) -> None:
    """To renew it: `python -m tests.support.calibration_figure`."""
    shown = json.loads(calibration_figure.DATA.read_text())
    assert list(shown["defects"]) == [row.name for row in MATRIX]
    assert list(shown["metrics"]) == reported()
    defect = shown["defects"][row.name]
    assert (defect["strengths"], defect["own"], defect["besides"]) == ([*row.strengths], row.own, row.reasons)
    for name, about in shown["metrics"].items():
        assert about["without"] == pytest.approx(without()[name], abs=0.2 * calibration.tolerance(name), rel=0.02)
        values = [numbers(row.defect, strength)[name] for strength in row.strengths]
        assert defect["values"][name] == pytest.approx(values, abs=0.2 * calibration.tolerance(name), rel=0.02), name


def test_the_figure_is_drawn_from_its_data(tmp_path: Path) -> None:
    calibration_figure.draw(json.loads(calibration_figure.DATA.read_text()), tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == calibration_figure.FIGURE.read_text()


@pytest.mark.parametrize("side", [48, 64, 128])
@pytest.mark.parametrize("gain", [0.3, 0.49, 0.8])
def test_lost_contrast_is_no_blur(gain: float, side: int) -> None:
    """Closed form: the modulation at all frequencies falls alike, so half of it is left up to 0.5 cycles/px."""
    images = photographs(side)
    sharp = blur_probe.examine(Subject(Fake(contrast(gain)), images)).metrics
    assert sharp["blur/mtf50"] == 0.5
    assert (sharp["blur/hf_lo"], sharp["blur/hf_hi"]) == pytest.approx((1, 1), abs=0.01)
    soft = [blur_probe.examine(Subject(Fake(planted_), images)).metrics for planted_ in (planted.blur(1.2), both(gain))]
    assert soft[1] == pytest.approx(soft[0], rel=0.02, abs=1e-3)


def both(gain: float) -> planted.Defect:
    return lambda y: contrast(gain)(planted.blur(1.2)(y))


def uneven(y: Tensor) -> Tensor:
    """Each image with a contrast of its own, from 0.2 to 1.2."""
    return y * torch.linspace(0.2, 1.2, len(y))[:, None, None, None]


def turned_in_hsv(y: Tensor) -> Tensor:
    """Hues turned by 36 degrees in HSV, where a turn is not linear."""
    hsv = skimage_color.rgb2hsv(y.clamp(0, 1).permute(0, 2, 3, 1).numpy())
    hsv[..., 0] = (hsv[..., 0] + 0.1) % 1
    return torch.from_numpy(skimage_color.hsv2rgb(hsv)).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("side", [48, 64, 128])
@pytest.mark.parametrize(
    "tones",
    [uneven, turned_in_hsv, lambda y: y.clamp(min=0) ** 2.2, lambda y: (1.6 * y).clamp(0, 1), lambda y: 1 - y],
    ids=["uneven", "hsv", "gamma", "burnt", "negative"],
)
def test_tones_that_are_not_in_the_matrix_are_neither_blur_nor_droplet_nor_grid(
    tones: planted.Defect, side: int
) -> None:
    base, found = (
        {
            name: value
            for probe in (blur_probe, droplet, grid)
            for name, value in probe.examine(Subject(good(defect), photographs(side))).metrics.items()
        }
        for defect in (lambda y: y, tones)
    )
    assert found["blur/mtf50"] == pytest.approx(base["blur/mtf50"], rel=0.2)
    assert found["droplet/incidence"] == 0
    assert found["droplet/blob"] < 10
    assert found["grid/nat_fold"] == pytest.approx(0, abs=0.3)
    assert found["grid/scan_db"] == 0


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("sigma", [4.0, 6.0, 10.0])
@pytest.mark.parametrize("height", [0.3, -0.3])
@pytest.mark.parametrize("before", [planted.none(0), contrast(0.49), planted.blur(1.2)], ids=["good", "faded", "soft"])
def test_planted_droplets_are_counted_on_top_of_other_defects(
    before: planted.Defect, height: float, sigma: float, side: int
) -> None:
    """In every second image, each at a place of its own."""
    generator = torch.Generator().manual_seed(3)
    places = torch.rand(len(photographs(side)), 2, generator=generator) * side

    def defect(y: Tensor) -> Tensor:
        steps = torch.arange(side)
        rows, columns = (torch.exp(-0.5 * ((steps - places[: len(y), i, None]) / sigma).square()) for i in (0, 1))
        spots = height * rows[:, :, None] * columns[:, None]
        return before(y) + spots[:, None] * (torch.arange(len(y)) % 2)[:, None, None, None]

    found = droplet.examine(Subject(good(defect), photographs(side)))
    incidence = np.array(found.per_image["droplet/incidence"])
    assert incidence[::2].mean() == 0
    assert incidence[1::2].mean() >= 0.75


@pytest.mark.parametrize("sigma", [0.8, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("added", [0.0, 8.0], ids=["clean", "noisy"])
def test_gaussian_blur_has_its_closed_forms_with_and_without_noise(sigma: float, added: float) -> None:
    vae = Fake(lambda y: noise(added)(blurred(y, sigma)))
    found = blur_probe.examine(Subject(vae, photographs())).metrics
    assert found["blur/mtf50"] == pytest.approx(math.sqrt(math.log(2) / 2) / math.pi / sigma, rel=0.025)
    own = blur_probe.EDGE_SIGMA
    assert found["blur/edge_px"] == pytest.approx(RISE * (math.hypot(own, sigma) - own), abs=0.04 + 0.02 * added)


def decoder(upsample: Callable[[int], nn.Module]) -> nn.Sequential:
    """16 channels at an eighth of the size to RGB, at its random initial weights, reflect padding."""

    def conv(out: int) -> nn.Module:
        return nn.Conv2d(16, out, 3, padding=1, padding_mode="reflect")

    stages = [(nn.GroupNorm(4, 16), nn.SiLU(), upsample(16)) for _ in range(3)]
    return nn.Sequential(conv(16), *itertools.chain(*stages), nn.GroupNorm(4, 16), nn.SiLU(), conv(3))


def resize_conv(channels: int) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv)


def pixel_shuffle(channels: int) -> nn.Module:
    conv = nn.Conv2d(channels, 4 * channels, 3, padding=1, padding_mode="reflect")
    return nn.Sequential(conv, nn.PixelShuffle(2))


def icnr(channels: int) -> nn.Module:
    """The same with equal weights for all phases, arXiv 1707.02937."""
    layers = pixel_shuffle(channels)
    for parameter in layers[0].parameters():
        parameter.data = parameter.data[::4].repeat_interleave(4, 0)
    return layers


def transposed(channels: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)


class Small(Autoencoder):
    stride = 8
    latent_channels = 16

    def __init__(self, upsample: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.lift, self.decoder = nn.Conv2d(3, 16, 1), decoder(upsample)

    def encode(self, x: Tensor) -> Posterior:
        z = self.lift(F.avg_pool2d(x, 8))
        return Posterior(z, torch.zeros_like(z))

    def decode(self, z: Tensor) -> Tensor:
        y: Tensor = self.decoder(z)
        return y


@pytest.mark.parametrize("seed", [0, 1])
def test_constants_and_weights_show_a_grid_of_learned_phases_and_none_of_resize_conv(seed: int) -> None:
    found = {}
    for upsample in (resize_conv, icnr, pixel_shuffle, transposed):
        torch.manual_seed(seed)
        found[upsample] = grid.examine(Subject(Small(upsample).eval(), photographs(64))).metrics
    for upsample in (resize_conv, icnr):
        assert found[upsample]["grid/const_fold"] == found[upsample]["grid/polyphase"] == 0
        assert found[upsample]["grid/const_fold_max"] == 0
    assert found[pixel_shuffle]["grid/const_fold"] > 1
    assert found[pixel_shuffle]["grid/const_fold8"] > found[pixel_shuffle]["grid/const_fold2"] > 0
    assert found[pixel_shuffle]["grid/polyphase"] == pytest.approx(math.sqrt(3 / 4), abs=0.02), (
        "four that share nothing"
    )
    assert found[transposed]["grid/polyphase"] == pytest.approx(math.sqrt(3 / 4), abs=0.05)


def test_constants_show_no_grid_of_the_real_model_at_its_random_initial_weights() -> None:
    found = grid.examine(Subject(image_kl(), photographs(64))).metrics
    assert found["grid/const_fold"] == found["grid/const_fold_max"] == found["grid/polyphase"] == 0
