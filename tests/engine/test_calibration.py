"""Every defect against every metric of the probes: each must see its own, grow with it, and be silent on others.

A defect is planted in a good model (`tests/planted.py`). What a defect moves besides its own metrics is listed too, and
must do so: blur cannot leave a shape of residuals as it was. Then closed forms, and decoders at random weights.
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.components.probe import blur as blur_probe
from ablate.components.probe import grid
from ablate.slots import registry
from ablate.slots.probe import Subject
from ablate.slots.training import Autoencoder, Posterior
from tests.support.planted import (
    RISE,
    Defect,
    Fake,
    blob,
    blur,
    blurred,
    checker,
    corners,
    dots,
    frame,
    good,
    image_kl,
    lines,
    noise,
    none,
    photographs,
    tint,
)

torch.set_num_threads(1)


PROBES = ("blur", "border", "color", "droplet", "grid", "health", "inputs", "reconstruction")


METRICS = {metric.name: metric for probe in PROBES for metric in registry.level("probe", probe).metrics}


GRADED = [name for name, metric in METRICS.items() if metric.direction != "none" and name not in ("psnr", "ssim")]


ALARM: dict[str, Callable[[dict[str, float]], bool]] = {
    "blur": lambda m: m["blur/mtf50"] < 0.15 and m["blur/edge_px"] > 2,
    "border": lambda m: m["border/excess_b4"] > 1 and m["border/cc_ratio"] > 1.5,
    "color": lambda m: m["color/dE00"] > 1 and m["color/coherence"] > 0.9,
    "droplet": lambda m: m["droplet/incidence"] > 0.5,
    "grid": lambda m: m["grid/nat_z"] > 2 and m["grid/nat_fold"] > 0.2,
}


@dataclass(frozen=True)
class Row:
    """A defect from its weakest amplitude to its strongest, the one alarm that the last must raise, and what moves.

    `up` and `down` are its own metrics and grow or fall with every step; `besides` move as well.
    """

    defect: Callable[[float], Defect]
    amplitudes: tuple[float, ...]
    owner: str | None
    up: str = ""
    down: str = ""
    besides: str = ""


GRID = (
    "nat_fold nat_z const_fold const_fold_max comb_db comb_nr_db nat_fold2 nat_fold4 nat_fold8 const_fold2 const_fold4"
)


GRID = " ".join(f"grid/{name}" for name in f"{GRID} const_fold8".split())


BIAS = "color/bias_r color/bias_g color/bias_b color/bias_norm"


OFFSET = "color/offset_r color/offset_g color/offset_b"


GAIN = "color/gain_r color/gain_g color/gain_b"


BLOB = "droplet/blob droplet/blob_over_median"


MATRIX = (
    Row(
        tint,
        (0.25, 0.5, 1, 2),
        "color",
        up="color/bias_r color/bias_g color/offset_r color/offset_g color/bias_norm color/db "
        "color/dE00 color/dE00_low_p95 color/dE00_const",
        down="color/bias_b color/offset_b",
    ),
    Row(dots, (0.25, 0.5, 1, 2), "grid", up=GRID, besides="grid/comb_max_db color/bias_norm"),
    Row(lines, (0.25, 0.5, 1, 2), "grid", up=f"{GRID} grid/comb_max_db", besides=f"{BIAS} {OFFSET} grid/const_rms"),
    Row(checker, (0.25, 0.5, 1), "grid", up=GRID, besides="grid/comb_max_db grid/const_rms"),
    Row(
        blur,
        (0.8, 1.2, 2.2),
        "blur",
        up="blur/edge_px",
        down="blur/mtf50 blur/coherence blur/hf_lo blur/hf_hi blur/slope",
        besides=f"border/corner_excess border/cc_ratio border/extent_px {GAIN} {OFFSET} color/dE00_low_p95 {BLOB} "
        "grid/nat_fold grid/nat_fold8 grid/const_fold grid/const_fold_max grid/const_fold8 grid/const_rms "
        "grid/comb_max_db grid/comb_nr_db",
    ),
    Row(
        frame,
        (0.25, 0.5, 1),
        "border",
        up="border/excess_b4 border/excess_b16 border/cc_ratio border/extent_px",
        down="border/hf_ratio",
        besides=f"border/corner_excess {OFFSET} color/dE00_low_p95 {BLOB}",
    ),
    Row(
        corners,
        (4, 8, 16),
        "border",
        up="border/corner_excess border/excess_b4 border/excess_b16 border/cc_ratio border/extent_px",
        besides=f"{BIAS} {OFFSET} color/dE00_low_p95 {BLOB}",
    ),
    Row(
        blob,
        (0.05, 0.1, 0.2, 0.6),
        "droplet",
        up=f"{BLOB} droplet/incidence",
        besides=f"blur/slope {BIAS} {OFFSET} color/dE00 color/db color/dE00_low_p95 color/dE00_const grid/const_rms",
    ),
    Row(
        noise,
        (8,),
        None,
        besides=f"blur/coherence blur/hf_hi color/dE00_low_p95 {BLOB} grid/nat_z grid/const_fold grid/const_fold_max "
        "grid/const_rms grid/comb_db grid/comb_max_db grid/const_fold4 grid/const_fold8",
    ),
)


NAMES = [row.defect.__name__ for row in MATRIX]


SILENT = {"gl": 0.15, "dB": 0.3, "dE00": 0.2, "b*": 0.1, "cycles/px": 0.003, "px": 0.1, "1": 0.05, "channels": 0.0}


@functools.cache
def numbers(defect: Callable[[float], Defect], amplitude: float) -> dict[str, float]:
    subject = Subject(good(defect(amplitude)), photographs(), training=photographs(64))
    return {name: v for p in PROBES for name, v in registry.build("probe", p, {})(subject).metrics.items()}


def moves(row: Row, name: str) -> float:
    """Change of a metric under a defect at its strongest, in units of what passes for silence."""
    base, found = numbers(none, 0.0)[name], numbers(row.defect, row.amplitudes[-1])[name]
    return (found - base) / (SILENT[METRICS[name].unit] + 0.03 * abs(base) or math.ulp(0.0))


def matrix() -> str:
    """The whole table, to be read when a test fails: values without defect, and the change under each."""
    names = [name for name in GRADED if name in numbers(none, 0.0)]
    head = f"{'change under':24}{'(without)':>10}" + "".join(f"{name:>9}" for name in NAMES)
    base = numbers(none, 0.0)
    strongest = [numbers(row.defect, row.amplitudes[-1]) for row in MATRIX]
    rows = [f"{n:24}{base[n]:10.3f}" + "".join(f"{found[n] - base[n]:+9.3f}" for found in strongest) for n in names]
    return "\n".join(["", head, *rows])


@pytest.mark.parametrize("row", MATRIX, ids=NAMES)
def test_a_defect_moves_its_own_metrics_step_by_step(row: Row) -> None:
    series = [numbers(none, 0.0), *(numbers(row.defect, amplitude) for amplitude in row.amplitudes)]
    for names, sign in ((row.up.split(), 1), (row.down.split(), -1)):
        for name in names:
            values = [sign * found[name] for found in series]
            assert all(a <= b for a, b in itertools.pairwise(values)), (name, values, matrix())
            assert sign * moves(row, name) > 1, (name, values, matrix())


@pytest.mark.parametrize("row", MATRIX, ids=NAMES)
def test_a_defect_leaves_all_other_metrics_alone(row: Row) -> None:
    own, besides = {*row.up.split(), *row.down.split()}, {*row.besides.split()}
    reported = set(numbers(none, 0.0)) & set(GRADED)
    assert not {name for name in reported - own - besides if abs(moves(row, name)) > 1}, matrix()
    assert not {name for name in besides if abs(moves(row, name)) < 0.5}, "listed, but does not move" + matrix()


@pytest.mark.parametrize("row", MATRIX, ids=NAMES)
def test_a_defect_raises_its_own_alarm_and_no_other(row: Row) -> None:
    assert not any(alarm(numbers(none, 0.0)) for alarm in ALARM.values())
    strongest = numbers(row.defect, row.amplitudes[-1])
    assert [probe for probe, alarm in ALARM.items() if alarm(strongest)] == [row.owner][: row.owner is not None]


@pytest.mark.parametrize("row", MATRIX, ids=NAMES)
def test_every_defect_of_the_picture_costs_fidelity_and_leaves_latents_and_inputs(row: Row) -> None:
    base, found = numbers(none, 0.0), numbers(row.defect, row.amplitudes[-1])
    assert found["psnr"] < base["psnr"]
    assert found["ssim"] < base["ssim"]
    for name in base:
        if name.startswith(("health/", "inputs/", "droplet/z_")):
            assert found[name] == base[name]


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
