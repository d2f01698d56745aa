"""Flat fields: patterns that a VAE draws on pictures of one colour, in grey levels and as in the LTX-2 grid report.

A report on the VAE of LTX-2.3 (github.com/Lightricks/LTX-2, issue 202) decodes a constant (0, 128, 0) clip at 256 px
and, in the green channel in [-1, 1], measures the share of the sum of |F|, F its Fourier transform, that lies outside a
box of 5 x 5 bins about 0. It found 0.98 and proposed the number as a regression test. `flatfield/legacy_*` are exactly
that test: green channel, clamped, full frame. For a video VAE the picture is a clip of one frame.

The share alone misleads, whatever its value, as the tests of this file show:

- It depends on the colour far more than on the defect. In [-1, 1] the green 128 is 0.004, so small that almost anything
  outweighs it. White noise of standard deviation s on a mean m gives 1 / (1 + 2 |m| / (sqrt(pi) s N))
  in N x N px: 0.978 for a tenth of a grey level on 128, 0.26 for the same on 192.
- It sums magnitudes, not energies, so broad spectra count more: noise fills all bins, a grid only few. Clearly visible
  lines of 1 gl every 4 px give 0.50 on 128 and 0.011 on 192: less than that tenth of a grey level of noise.
- It includes the border. A frame of 8 px that is 10 gl too bright gives 0.92 without any grid.

So look at amplitudes in grey levels. `flatfield/period4` is the amplitude of what repeats every 4 px but not every 2,
so the squares of all periods add up; it is estimated without what noise adds (`repeated_energy`). The folds of
`grid/const_fold*` are nested instead, and end at the model's stride. Both are measured away from the border, over 28
colours; the border is measured by itself. A decoder that resizes and then convolves draws no grid on a constant,
whatever its weights, so a 0 here says nothing about natural images: see `grid/nat_*`.
"""

import torch
from torch import Tensor

from ablate.components.shared.measure import displayed, sheet
from ablate.components.shared.periodic import TINY, amplitude, interior, repeated_energy
from ablate.slots import COLOURS, Metric, Probe, ProbeResult, ProbeSettings, Subject

PERIODS = (2, 4, 8, 16, 32)


METRICS = (
    Metric(
        "flatfield/legacy_offdc",
        "1",
        "down",
        "share of |F| off zero on (0, 128, 0), as reported",
        decimals=3,
        interest=0.02,
    ),
    Metric("flatfield/legacy_max", "1", "down", "largest absolute error there, on [0, 1]", decimals=4, interest=0.002),
    Metric("flatfield/legacy_mean", "1", "down", "mean absolute error there, on [0, 1]", decimals=4, interest=0.002),
    Metric("flatfield/offdc_energy", "1", "down", "share of |F|^2 off zero there, on [0, 1]", decimals=6),
    *(
        Metric(
            f"flatfield/period{p}",
            "gl",
            "down",
            f"what repeats every {p} px but not every {p // 2}, mean of 28",
            decimals=3,
            interest=0.1,
        )
        for p in (2, 4, 8, 16, 32)
    ),
    Metric(
        "flatfield/rms_max",
        "gl",
        "down",
        "rms of any structure away from the border, worst of 28 colours",
        decimals=3,
        interest=0.5,
    ),
    Metric(
        "flatfield/dc",
        "gl",
        "down",
        "error of the mean, rms over channels, mean of 28 colours",
        decimals=3,
        interest=0.5,
    ),
    Metric(
        "flatfield/border",
        "gl",
        "down",
        "rms deviation of the outer eighth from the interior's mean, mean of 28",
        decimals=3,
        interest=0.5,
    ),
)


BOX = 5  # bins along each side of the box about frequency 0


GREEN = COLOURS.index((0, 128, 0))


DIFFERENCE_GAIN = 50  # amplification of the difference in the picture


class Config(ProbeSettings):
    """No settings, so that the numbers of all checkpoints are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return -(-8 // stride) * stride  # more than the box of 5 x 5 bins


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for images under 8 px, and only periods that fit at least once away from the border.

    The values per image are those of the 28 `COLOURS`. Picture: the green field as in the report, as centre crops of
    source | reconstruction | absolute difference times 50.
    """
    side = subject.images.shape[-1]
    if side < Config().smallest(1):
        return ProbeResult({})
    raw = subject.constants
    source = subject.colours[GREEN].expand(3, side, side)
    green = displayed(raw[GREEN])
    error = (green - source).abs()
    residual = raw - subject.colours
    per_colour = {**_periods(residual), **_levels(residual)}
    return ProbeResult(
        metrics={
            "flatfield/legacy_offdc": off_dc(2 * green[1] - 1, power=1),
            "flatfield/legacy_max": error[1].max().item(),
            "flatfield/legacy_mean": error[1].mean().item(),
            "flatfield/offdc_energy": off_dc(green[1], power=2),
            **{name: (v.max() if name.endswith("_max") else v.mean()).item() for name, v in per_colour.items()},
        },
        per_image={name: values.tolist() for name, values in per_colour.items()},
        pictures={f"flatfield_x{DIFFERENCE_GAIN}": sheet(source[None], green[None], error[None] * DIFFERENCE_GAIN)},
    )


def off_dc(frame: Tensor, power: int) -> float:
    """Share of the sum of |F|^power of a frame `h w` that lies outside the 5 x 5 bins about frequency 0."""
    size = torch.fft.fft2(frame.cpu().double()).abs() ** power
    reach = BOX // 2
    near = size.roll((reach, reach), (0, 1))[:BOX, :BOX].sum()
    share: Tensor = (size.sum() - near) / (size.sum() + TINY)
    return share.item()


def _periods(residual: Tensor) -> dict[str, Tensor]:
    """Amplitude in gl of each period without that of half the period, for each colour: `28 3 s s` to `28` each."""
    fitting = [p for p in PERIODS if interior(residual[:1], p).shape[-1]]
    inner = interior(residual, fitting[-1])
    energies = {1: torch.zeros(len(residual))} | {p: repeated_energy(inner, p) for p in fitting}
    return {f"flatfield/period{p}": (energies[p] - energies[p // 2]).clamp(min=0).sqrt() for p in fitting}


def _levels(residual: Tensor) -> dict[str, Tensor]:
    """Interior structure, offset and border deviation of each colour in gl: `28 3 s s` to `28` each."""
    inner = interior(residual, 1)
    mean = inner.mean((2, 3), keepdim=True)
    margin = (residual.shape[-1] - inner.shape[-1]) // 2
    band = torch.ones(residual.shape[-2:], dtype=torch.bool)
    band[margin:-margin, margin:-margin] = False
    return {
        "flatfield/rms_max": amplitude(inner - mean),
        "flatfield/dc": amplitude(mean),
        "flatfield/border": amplitude((residual.cpu().double() - mean)[..., band][..., None]),
    }
