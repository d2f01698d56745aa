"""Balance: how evenly the frames of a group, which share a latent frame, are reconstructed; imbalance flickers.

IV-VAE (Wu et al., arXiv 2411.06449, figure 1b) shows it as SSIM by position in the group: with a causal convolution,
later frames of a group see more of the group than earlier ones. Comparing positions within one clip would confound them
with the content, its motion and its cadence. Here each clip is therefore reconstructed once per position, in windows
that are shifted by one frame each, so that every frame that counts appears once at every position. The first frame of
a window and its first group do not count, because they have less past than the others.

The squared errors of a clip at its positions are divided by their mean, so that all clips weigh the same. Errors below
those of rounding to 8 bits are not distinguished. The gap compares the worst with the best position and is thus never
below 0, so look at `balance/p` too: a permutation test over positions within clips, all frames of a clip alike, since
their errors are not independent. A blurry model has smaller gaps: compare at similar PSNR. If other layers decode the
first frame of a group, as in IV-VAE's keyframe branch, a gap is not due to the convolution.

No metric needs the motion of the clips, so all are reported for drawn and for real ones.
"""

import torch
from torch import Tensor

from ablate.components.shared.measure import GREY_LEVELS, displayed, per_frame
from ablate.components.shared.periodic import TINY
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "balance/gap",
        "dB",
        "down",
        "squared error at the worst position of a group over that at the best",
        interest=0.5,
    ),
    Metric("balance/p", "1", "none", "probability of positions this uneven if clips did not agree on them", decimals=3),
    Metric(
        "balance/eta2",
        "1",
        "down",
        "share of the errors' variance within clips due to position; 1/clips by chance",
        interest=0.05,
    ),
    Metric("balance/skew", "dB", "target", "squared error at position 2 over that at position 4", interest=0.5),
    Metric(
        "balance/beat",
        "1",
        "down",
        "power of PSNR over time at 1 or 2 cycles a group, over the median power",
        interest=1,
    ),
    Metric(
        "balance/seam",
        "1",
        "target",
        "error of frame changes between groups over that inside groups",
        target=1.0,
        interest=0.1,
    ),
    Metric(
        "balance/luma", "gl", "down", "sd over positions of the error of the mean brightness", decimals=3, interest=0.5
    ),
    *(
        Metric(
            f"balance/psnr_{p}",
            "dB",
            "up",
            f"PSNR at position {p} of a group, for the same frames at each",
            interest=0.5,
        )
        for p in (1, 2, 3, 4)
    ),
)


LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


ROUNDING = 1 / 12 / GREY_LEVELS**2  # squared error of rounding to 8 bits


DRAWS = 999  # permutations behind `balance/p`


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def shortest(self) -> int:
        """Fewest frames of a held-out clip at which the first metric is reported, for groups of 4."""
        return 16


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing without clips of 4g frames or more, with g >= 2 per group; single positions only for g = 4."""
    group = subject.vae.groups
    clips = subject.clips
    count = 0 if clips is None or group < 2 else clips.shape[2] // group - 1  # groups of a window
    if clips is None or count < 3:
        return ProbeResult({})
    # reconstruct every shifted window
    windows = [clips[:, :, shift : shift + 1 + count * group] for shift in range(group)]
    pairs = [(x, displayed(subject.reconstruct(x))) for x in windows]

    # errors by position in the group
    errors = [per_frame(_squared_error, x, y).double().cpu() + ROUNDING for x, y in pairs]
    profile = by_position(errors, group).mean(1)  # n p
    relative = (profile / profile.mean(1, keepdim=True)).mean(0)
    decibels = [-10 * error.log10() for error in errors]
    brightness = by_position([per_frame(_brightness_error, x, y).double().cpu() for x, y in pairs], group)
    eta2, chance = position_share(profile.log10())
    metrics = {
        "balance/gap": (10 * (relative.max() / relative.min()).log10()).item(),
        "balance/p": chance,
        "balance/eta2": eta2,
        "balance/beat": beat(torch.cat([values[:, group + 1 :] for values in decibels]), group),
        "balance/seam": _seam(pairs, group),
        "balance/luma": GREY_LEVELS * brightness.mean((0, 1)).std(correction=0).item(),
    }
    if group == 4:
        metrics["balance/skew"] = (10 * (relative[1] / relative[3]).log10()).item()
        positions = by_position(decibels, group).mean((0, 1))
        metrics |= {f"balance/psnr_{p}": value for p, value in enumerate(positions.tolist(), 1)}
    return ProbeResult(metrics)


def by_position(values: list[Tensor], group: int) -> Tensor:
    """Rearrange values `n t` of the frames of each shifted window to `n f p`: the same f frames at each position.

    Those are the frames of a clip that are past the first group in every window. Frame f of the clip is frame f - s of
    the window with shift s, and so has position f - s - 1 there, modulo the group.
    """
    frames = range(2 * group, values[0].shape[1])
    shifts = [[(f - 1 - p) % group for p in range(group)] for f in frames]
    columns = [values[s][:, f - s] for f, row in zip(frames, shifts, strict=True) for s in row]
    table: Tensor = torch.stack(columns, 1).unflatten(1, (len(frames), group))
    return table


def position_share(values: Tensor) -> tuple[float, float]:
    """The share of the variance of values `n p` within clips that is between positions, and its p-value.

    The p-value is the share of permutations of each clip's positions with at least this share, the observed one
    included. NaN for values that are not finite.
    """
    if not values.isfinite().all():
        return torch.nan, torch.nan
    centred = values - values.mean(1, keepdim=True)
    total = centred.square().sum() + TINY
    generator = torch.Generator().manual_seed(0)
    orders = torch.rand(DRAWS, *values.shape, generator=generator).argsort(2)
    permuted = centred.expand(DRAWS, -1, -1).gather(2, orders).mean(1)  # draws p
    between = centred.mean(0).square().sum()
    as_uneven = (permuted.square().sum(1) >= between * (1 - 1e-12)).sum().item()
    return (len(values) * between / total).item(), (1 + as_uneven) / (1 + DRAWS)


def beat(series: Tensor, group: int) -> float:
    """The larger of the powers at 1 and 2 cycles per group over the median of the others.

    For time series `m t`, t a whole number of groups.
    """
    length = series.shape[1]
    power = torch.fft.rfft(series - series.mean(1, keepdim=True)).abs().square().mean(0)
    beats = [k for k in (length // group, 2 * length // group) if k < len(power)]
    others = [k for k in range(1, len(power)) if k not in beats]
    ratio: Tensor = (power[beats].max() + TINY) / (power[others].median() + TINY)
    return ratio.item()


def _squared_error(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().mean((1, 2, 3))


def _brightness_error(x: Tensor, y: Tensor) -> Tensor:
    return ((y - x).mean((2, 3)) * x.new_tensor(LUMA)).sum(1)


def _seam(pairs: list[tuple[Tensor, Tensor]], group: int) -> float:
    """Mean squared error of the change from frame to frame: between groups over inside groups."""
    residual = torch.cat([(y - x)[:, :, group + 1 :] for x, y in pairs])  # without the first frame and group
    steps = residual.diff(dim=2).square().mean((0, 1, 3, 4)).double().cpu() + ROUNDING
    border = torch.arange(1, len(steps) + 1) % group == 0
    return (steps[border].mean() / steps[~border].mean()).item()
