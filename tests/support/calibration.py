"""Planted defects against the metrics of the probes: the matrix of `docs/calibration.md`."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ablate.slots import registry
from ablate.slots.probe import Probe, Subject
from tests.support import planted
from tests.support.planted import Defect, good, none, photographs

PROBES = ("blur", "border", "color", "droplet", "flatfield", "grid", "health", "inputs", "reconstruction", "shift")


METRICS = {metric.name: metric for probe in PROBES for metric in registry.level("probe", probe).metrics}


FIDELITY = ("psnr", "ssim")
"""Metrics that every defect of the picture moves."""


REPORTED = tuple(f"flatfield/{name}" for name in ("legacy_offdc", "legacy_max", "legacy_mean", "offdc_energy"))
"""The test of the LTX-2 report, kept as it was reported: it answers to anything, as its probe says."""


GRADED = [name for name, metric in METRICS.items() if metric.direction != "none" and name not in (*FIDELITY, *REPORTED)]


UNSEEN = {
    "stlpips": "dots lines checker corners",
    "perceptual/rfd": "offset dots lines corners",
    "perceptual/kid": "offset clipping dots lines corners",
}
"""Metrics of quality in learned features, and the defects that they do not see at full strength; all others raise them.

Like `FIDELITY` they are of no artifact in particular, and therefore not in the figure.
"""


SILENT = {
    "gl": 0.15, "dB": 0.5, "dE00": 0.2, "b*": 0.1, "cycles/px": 0.003, "px": 0.1, "1": 0.05, "channels": 0.0, "%": 0.0,
}  # fmt: skip
"""Change that passes for none, by unit; 3 % of the value without defect is added."""


SILENT_METRICS = {
    "droplet/blob": 4.0,  # a droplet has 25 gl or more
    "droplet/blob_over_median": 12.5,  # and 25 here
    "grid/comb_max_db": 2.0,  # the largest of 63 random numbers
    "color/offset_r": 2.0,  # extrapolated to black
    "color/offset_g": 2.0,
    "color/offset_b": 2.0,
}


@dataclass(frozen=True)
class Row:
    """A defect at three strengths, the alarm that the strongest must raise, and what moves.

    `up` and `down` are its own metrics and grow or fall with every step; `besides` move as well: reason -> metrics.
    """

    defect: Callable[[float], Defect]
    strengths: tuple[float, float, float]
    unit: str
    owner: str | None
    up: str = ""
    down: str = ""
    besides: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.defect.__name__

    @property
    def own(self) -> list[str]:
        return [*self.up.split(), *self.down.split()]

    @property
    def reasons(self) -> dict[str, str]:
        """Metric -> why it moves too."""
        return {name: reason for reason, names in self.besides.items() for name in names.split()}


NATURAL = "grid/nat_fold grid/nat_z grid/nat_fold2 grid/nat_fold4 grid/nat_fold8"


DRAWN = "grid/const_fold grid/const_fold_max grid/const_fold2 grid/const_fold4 grid/const_fold8"


COMB = "grid/comb_db grid/comb_nr_db"


SCAN = "grid/scan_db grid/scan_gl"


STRUCTURE = "grid/const_rms flatfield/rms_max"  # on constants


BIAS = "color/bias_r color/bias_g color/bias_b color/bias_norm"


OFFSET = "color/offset_r color/offset_g color/offset_b"


GAIN = "color/gain_r color/gain_g color/gain_b"


CASTS = "color/dE00 color/dE00_low_p95 color/dE00_const flatfield/dc"


SHIFT = "shift/error shift/psnr shift/error_stride"


DETAIL = "blur/coherence blur/hf_lo blur/hf_hi blur/mtf50 blur/slope"


LESS_NOISE = "the defect comes after the noise of the model and removes some of it"


IN_PLACE = "it stays in place when the picture moves"


ON_CONSTANTS = "it is structure on constants as well"


MATRIX = (
    Row(
        planted.contrast, (0.8, 0.49, 0.3), "gain", "color",
        up=f"{OFFSET} {CASTS} color/bias_g color/bias_b color/bias_norm", down=f"{GAIN} color/db color/bias_r",
    ),
    Row(
        planted.offset, (4, 8, 16), "gl", "color", up=f"{OFFSET} {CASTS} {BIAS}",
        besides={"the same offset in R, G and B is less yellow in a brighter colour": "color/db"},
    ),
    Row(
        planted.clipping, (0.05, 0.1, 0.2), "of the range", "color",
        up=f"{OFFSET} {CASTS} color/bias_g color/bias_b color/bias_norm", down=f"{GAIN} color/db",
        besides={
            "shadows and highlights are cut off at different places": "color/bias_r",
            "what is left of an edge that was blurred before is steeper": "blur/mtf50 blur/hf_hi blur/slope",
            LESS_NOISE: "shift/error shift/error_stride border/cc_ratio",
        },
    ),
    Row(
        planted.saturation, (0.3, 0.6, 1.0), "lost", "color",
        up=f"{CASTS} color/bias_g color/bias_b color/bias_norm color/offset_g color/offset_b",
        down="color/bias_r color/db color/offset_r color/gain_r color/gain_b",
        besides={"the mean of three channels has less noise than one": SHIFT},
    ),
    Row(
        planted.hue, (15, 30, 60), "degrees", "color",
        up=f"{CASTS} color/bias_norm color/bias_g color/db color/offset_g",
        down="color/bias_r color/offset_r color/gain_r",
        besides={"a channel takes over another one's values": "color/bias_b color/offset_b color/gain_g"},
    ),
    Row(
        planted.tint, (0.5, 1, 2), "(3, 3, -5) gl", "color",
        up=f"color/bias_r color/bias_g color/offset_r color/offset_g color/bias_norm color/db {CASTS}",
        down="color/bias_b color/offset_b",
    ),
    Row(
        planted.collapsed, (0.5, 0.9, 1.0), "mean colour", "color", up=f"{OFFSET} color/dE00_low_p95", down=GAIN,
        besides={
            "at 1 nothing of the picture is left": f"{DETAIL} blur/edge_px {COMB} grid/comb_max_db",
            "the mean colour changes with what is in view": SHIFT,
        },
    ),
    Row(
        planted.blur, (0.8, 1.2, 2.2), "px", "blur", up="blur/edge_px", down=DETAIL,
        besides={
            "it reflects at the border, as padding does": "border/corner_excess border/cc_ratio border/extent_px",
            "colours of areas less than 8 px apart mix": "color/dE00_low_p95",
            LESS_NOISE: SHIFT,
        },
    ),
    Row(
        planted.noise, (2, 4, 8), "gl", None,
        besides={
            "it is detail that does not come from the source": "blur/coherence blur/hf_hi",
            "below black it is displayed as 0, which brightens the dark": "color/dE00_low_p95",
            ON_CONSTANTS: f"{STRUCTURE} flatfield/border",
            "the worst of 28": "grid/const_fold_max",
            "means over 36 and over 9 blocks": "flatfield/period16 flatfield/period32",
            "another draw for each crop": SHIFT,
        },
    ),
    Row(
        planted.blocks, (0.4, 1.0, 2.5), "of the table", None,
        besides={
            "JPEG removes faint detail and blurs edges": "blur/mtf50 blur/hf_hi blur/coherence blur/edge_px",
            "rounding of means, visible as local casts": "color/dE00_low_p95 flatfield/dc",
            "the blocks stay in place when the picture moves": "shift/error shift/psnr",
            "steps make more of noise, which differs from crop to crop": "border/cc_ratio",
        },
    ),
    Row(
        planted.dots, (0.5, 1, 2), "gl", "grid",
        up=f"{NATURAL} {DRAWN} {SCAN} {COMB} flatfield/period2 flatfield/period4",
        besides={
            ON_CONSTANTS: f"{STRUCTURE} flatfield/border",
            "it brightens the picture by its mean": "color/bias_norm",
            "the strongest of the harmonics": "grid/comb_max_db",
        },
    ),
    Row(
        planted.lines, (0.5, 1, 2), "gl", "grid",
        up=f"{NATURAL} {DRAWN} {SCAN} {COMB} grid/comb_max_db "
        "flatfield/period2 flatfield/period4 flatfield/period8",
        besides={
            ON_CONSTANTS: f"{STRUCTURE} flatfield/border",
            "it brightens the picture by its mean": f"{BIAS} flatfield/dc",
            IN_PLACE: "shift/error",
        },
    ),
    Row(planted.checker, (0.25, 0.5, 1), "gl", "grid", up=f"{NATURAL} {SCAN}"),
    Row(
        planted.frame, (0.25, 0.5, 1), "of a blur", "border",
        up="border/excess_b4 border/excess_b16 border/cc_ratio border/extent_px", down="border/hf_ratio",
        besides={
            "edges are longer than corners": "border/corner_excess",
            "blur in one place only is a local cast": "color/dE00_low_p95",
            "and a spot": "droplet/blob droplet/blob_over_median",
        },
    ),
    Row(
        planted.corners, (4, 8, 16), "gl", "border",
        up="border/corner_excess border/excess_b4 border/excess_b16 border/cc_ratio border/extent_px",
        besides={
            "it darkens the picture by its mean": BIAS,
            "a dark square of 8 px is a spot": "color/dE00_low_p95 droplet/blob droplet/blob_over_median",
            ON_CONSTANTS: "flatfield/border",
        },
    ),
    Row(
        planted.blob, (0.1, 0.2, 0.6), "of the range", "droplet",
        up="droplet/blob droplet/blob_over_median droplet/incidence",
        besides={
            "it adds power at low frequencies": "blur/slope",
            "it brightens the picture by its mean": f"{BIAS} {OFFSET} {CASTS} color/db flatfield/border",
            ON_CONSTANTS: STRUCTURE,
            IN_PLACE: SHIFT,
        },
    ),
)  # fmt: skip


@functools.cache
def numbers(defect: Callable[[float], Defect], strength: float) -> dict[str, float]:
    """All metrics of a good model with a defect."""
    subject = Subject(good(defect(strength)), photographs(), training=photographs(64))
    return {name: v for p in PROBES for name, v in registry.build("probe", p, {})(subject).metrics.items()}


@functools.cache
def learned(defect: Callable[[float], Defect], strength: float) -> dict[str, float]:
    """Metrics in learned features of a good model with a defect, on eight photographs of 64 px."""
    found: dict[str, float] = perceptual()(Subject(good(defect(strength)), photographs(64)[::2])).metrics
    return found


@functools.cache
def perceptual() -> Probe:
    built: Probe = registry.build("probe", "perceptual", {})
    return built


def without() -> dict[str, float]:
    """All metrics of the good model."""
    return numbers(none, 0.0)


def tolerance(name: str) -> float:
    """Change of a metric that passes for none, in its unit."""
    least = SILENT_METRICS.get(name, SILENT[METRICS[name].unit])
    return least + 0.03 * abs(without()[name]) or math.ulp(0.0)


def moves(row: Row, name: str) -> list[float]:
    """Changes of a metric under a defect at each strength, in tolerances."""
    return [(numbers(row.defect, strength)[name] - without()[name]) / tolerance(name) for strength in row.strengths]


def reported() -> list[str]:
    """The metrics of the matrix, in the order of the probes."""
    return [name for name in GRADED if name in without()]
