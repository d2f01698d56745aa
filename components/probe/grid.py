"""Grid: a pattern that repeats with the model's stride, or every few pixels, in place from image to image.

Two measurements are needed. Constant colours show only what the decoder draws on its own: a decoder that resizes and
then convolves scores exactly 0 there with any weights. Held-out images also show grids that appear only on detail, such
as an adversarial loss leaves (VIVAT, arXiv 2506.07863). Both use unclamped reconstructions, away from the border. A
third measurement needs no image: a layer whose weights have the same sum at every output phase draws no grid on a
constant.

On held-out images the residual is that against the source in the reconstruction's own tones (`_tone`), because what
lost contrast or a tint leaves of a picture is larger than a grid. A fold's energy is estimated without the share that
chance adds (`shared_amplitude`, `repeated_energy`), so that noise is no grid.

The fold at the stride cannot see other periods, so waves of all periods are scanned as well, whatever their phase
(`_scan`). A wave of half the period is a harmonic of a grid; the period reported is the longest of the series.

A fold (`components/shared/periodic.py`) is nested: at period 8 it holds the patterns of periods 2 and 4 as well, so
the energy of period 8 alone is fold8^2 - fold4^2. Group normalisation amplifies tiny patterns on constant colours,
per-pixel normalisation does not: compare constants within one kind of norm.
"""

from torch import Tensor

from ablate.components.probe._scan import SMALLEST, strongest_wave
from ablate.components.probe._tone import tones
from ablate.components.shared.measure import PICTURE_SIDE, Picture, enlarged
from ablate.components.shared.periodic import (
    TINY,
    amplitude,
    chance_amplitude,
    comb,
    fold,
    interior,
    repeated_energy,
    shared_amplitude,
    worst_polyphase,
)
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "grid/nat_fold",
        "gl",
        "down",
        "amplitude of the pattern shared by the images, at the model's stride",
        decimals=3,
        interest=0.1,
    ),
    Metric(
        "grid/nat_z",
        "1",
        "down",
        "mean pattern over its size by chance; 1 for no pattern, at most sqrt(images)",
        interest=0.2,
    ),
    Metric(
        "grid/comb_db",
        "dB",
        "down",
        "power at the harmonics of the stride over that around them; 0 for no pattern",
        interest=1,
    ),
    Metric("grid/comb_max_db", "dB", "down", "the same at the strongest harmonic; several dB by chance", interest=2),
    Metric(
        "grid/const_fold",
        "gl",
        "down",
        "pattern on constant colours at the stride, mean of 28",
        decimals=3,
        interest=0.1,
    ),
    Metric("grid/const_fold_max", "gl", "down", "the same, worst colour", decimals=3, interest=0.25),
    Metric(
        "grid/const_rms",
        "gl",
        "down",
        "rms of any structure on constant colours, mean of 28",
        decimals=3,
        interest=0.25,
    ),
    *(
        Metric(
            f"grid/{images}_fold{p}",
            "gl",
            "down",
            f"the same at period {p}, if the stride is a multiple",
            decimals=3,
            interest=0.1,
        )
        for images in ("nat", "const")
        for p in (2, 4, 8, 16, 32)
    ),
    Metric("grid/scan_db", "dB", "down", "strongest wave of 2 to 32 px over what chance gives; 0 if none", interest=2),
    Metric("grid/scan_gl", "gl", "down", "its amplitude; 0 if none", decimals=3, interest=0.1),
    Metric("grid/scan_period", "px", "none", "its period, up to a quarter of the side; 0 if none", decimals=0),
    Metric(
        "grid/polyphase",
        "1",
        "down",
        "spread of the kernel sums over output phases, worst layer",
        decimals=3,
        interest=0.05,
    ),
    Metric(
        "grid/comb_nr_db",
        "dB",
        "target",
        "comb of the reconstructions minus that of the sources, for blocky sources",
        interest=1,
    ),
)


PERIODS = (2, 4, 8, 16, 32)


CHEAP = True


PATTERN_GAIN = 32  # amplification of the patterns in the pictures


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return stride if stride <= 2 else 3 * stride  # a whole period, and the margin, which small images lack


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for images under about three strides, which hold no whole period away from the border.

    Models of stride 1 have no harmonics, hence no combs; a comb needs six strides away from the border, a scan 32 px.
    Pictures: one period of the natural and of the worst constant pattern, amplified 32 times around mid-grey.
    """
    stride = subject.vae.stride
    residual = tones(subject).residual(subject.reconstruction)
    natural = interior(residual, stride)
    if natural.shape[-1] == 0:
        return ProbeResult({})

    # patterns that repeat with the stride, on images and on constant colours
    patterns = fold(natural, stride)
    shared = patterns.mean(0)
    constant = interior(subject.constants - subject.colours, stride)
    amplitudes = _repeated(constant, stride)
    metrics = {
        "grid/nat_fold": shared_amplitude(patterns),
        "grid/nat_z": (amplitude(shared) + TINY) / (chance_amplitude(patterns) + TINY),
        "grid/const_fold": amplitudes.mean(),
        "grid/const_fold_max": amplitudes.max(),
        "grid/const_rms": amplitude(constant - constant.mean((2, 3), keepdim=True)).mean(),
        "grid/polyphase": worst_polyphase(subject.vae),
    }

    # spectral combs
    if stride > 1 and natural.shape[-1] >= 6 * stride:
        harmonics = comb(natural, stride)
        of_sources, of_reconstructions = (
            comb(interior(x, stride), stride) for x in (subject.images, subject.reconstruction)
        )
        metrics |= {
            "grid/comb_db": _decibels(harmonics.mean()),
            "grid/comb_max_db": _decibels(harmonics.max()),
            "grid/comb_nr_db": _decibels(of_reconstructions.mean()) - _decibels(of_sources.mean()),
        }

    # patterns of single periods
    for period in (p for p in PERIODS if stride % p == 0):
        metrics[f"grid/nat_fold{period}"] = shared_amplitude(fold(patterns, period))
        metrics[f"grid/const_fold{period}"] = _repeated(constant, period).mean()

    # waves of any period
    waves = {}
    if residual.shape[-1] >= SMALLEST:
        wave = strongest_wave(residual)
        waves = {"grid/scan_db": wave.db, "grid/scan_gl": wave.gl, "grid/scan_period": wave.period}
    return ProbeResult(
        metrics={name: value.item() for name, value in metrics.items()} | waves,
        pictures={
            f"grid_natural_x{PATTERN_GAIN}": _picture(shared),
            f"grid_constant_x{PATTERN_GAIN}": _picture(fold(constant[amplitudes.argmax()][None], stride)[0]),
        },
    )


def _repeated(constant: Tensor, period: int) -> Tensor:
    """Amplitude of what repeats on each constant picture, `n`."""
    return repeated_energy(constant, period).clamp(min=0).sqrt()


def _decibels(ratio: Tensor) -> Tensor:
    return 10 * ratio.log10()


def _picture(pattern: Tensor) -> Picture:
    return enlarged(0.5 + PATTERN_GAIN * pattern, max(1, min(16, PICTURE_SIDE // pattern.shape[-1])))
