"""Diffusability: how well does a small diffusion transformer learn the latents, within a fixed budget?

The downstream test of "Improving the Diffusability of Autoencoders" (arXiv 2502.14831, figure 1: FID over training
steps) on a budget of minutes. The autoencoder is frozen; random crops of the training pictures are encoded (posterior
means) and each channel brought to mean 0 and variance 1; a diffusion transformer of one size, with as many tokens for
every latent, learns them by flow matching; its samples are decoded and held against further crops of the same
pictures. Start, batches, times, noise and crops are the same for all treatments and all seeds of the autoencoder
(`components/flow.py`).

The Fréchet distance is in features of a random network, on the same number of pictures everywhere: it is no FID,
ranks treatments on one set of pictures, and does not fall to 0 but to `diff/fd_floor`, the distance of two sets of
real crops. `diff/fd_recon`, that of reconstructions, is as far as a perfect generator gets. `diff/fd_auc` is the mean
of its logarithm over the logarithm of the steps, the whole curve in one number. Losses of flow matching are not
reported: they say nothing across latents.

What the numbers do not tell: what a generator a thousand times as large, trained a thousand times as long, makes of the
latents. And a small set of pictures may be learnt by heart. FID compares with published ones at 50,000 pictures only.
"""

from pathlib import Path
from typing import Literal

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from ablate.components.probe._chart import Line, chart
from ablate.components.probe._distance import RandomFeatures, frechet, kernel_distance, sliced_wasserstein
from ablate.components.probe._flow import Budget, learn, sample
from ablate.components.probe._inception import Inception
from ablate.components.probe.spectrum import BLOCK, log_profile
from ablate.components.shared.measure import Picture, displayed, sheet
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject, added

METRICS = (
    Metric("diff/fd", "1", "down", "Fréchet distance of generated from real pictures, random features; no FID"),
    Metric("diff/fd_auc", "ln", "down", "its logarithm, mean over the logarithm of the training steps", decimals=3),
    Metric(
        "diff/kid", "1", "down", "kernel distance (cubic, unbiased) in the same features; 0 for real ones", decimals=3
    ),
    Metric("diff/sw2", "1", "down", "sliced Wasserstein distance, squared, in the same features", decimals=4),
    Metric("diff/spec_rgb", "1", "down", "mean distance of the log DCT profiles of generated and real pictures"),
    Metric("diff/spec_latent", "1", "down", "the same of generated and encoded latents"),
    Metric(
        "diff/fid",
        "1",
        "down",
        "FID of generated pictures, where `fid` names the weights of its network",
        needs="the setting `fid`",
    ),
    Metric("diff/fd_gap", "1", "down", "that of generated from reconstructed pictures: the generator's own share"),
    Metric("diff/fd_recon", "1", "down", "that of reconstructed from real pictures: a perfect generator's"),
    Metric("diff/fd_floor", "1", "none", "that of two sets of real pictures; depends on their number alone"),
    Metric(
        "diff/tokens", "1", "none", "tokens of the transformer, to be equal where treatments are compared", decimals=0
    ),
)


COSTLY = True


BUDGETS = {
    "cpu": Budget(
        width=64, depth=4, heads=4, batch=48, lr=2e-3, warmup=20, ema=0.98, evaluate=(40, 80, 160, 320), euler=10
    ),
    "gpu": Budget(
        width=384, depth=8, heads=6, batch=256, lr=3e-4, warmup=200, ema=0.999,
        evaluate=(100, 300, 1000, 3000, 10000), euler=40,
    ),
}  # fmt: skip


LEARNT = 4
"""Crops to learn from, over pictures in a set that is compared."""


SEEDS = {"learnt": 1, "real": 2, "other": 3}


TINY = 1e-12


class Config(ProbeSettings):
    """`budget`: `cpu` is about a minute of one core, `gpu` about five of one GPU (not measured yet).

    `grid`: tokens along a side of every latent, which it is to divide. `samples`: pictures in each set that is
    compared; four times as many crops are learnt from. `fid`: file of the weights of FID's Inception network as
    pytorch-fid has them; without it there is no FID.
    """

    budget: Literal["cpu", "gpu"] = "cpu"
    grid: PositiveInt = 4
    samples: PositiveInt = 512
    fid: str | None = added(None, absent_means=None)

    @model_validator(mode="after")
    def _enough_samples(self) -> "Config":
        features = 2048 if self.fid else 64
        needed = 4 * features  # fewer, and the covariances mean little
        if self.samples < needed:
            what = f"a Fréchet distance in {features} features{' (FID)' if self.fid else ''}"
            raise ValueError(f"{what} needs {needed} samples or more, found {self.samples}")
        return self

    def preflight(self) -> None:
        """Raise ValueError if FID is wanted and the weights of its network are not there."""
        if self.fid is not None and not Path(self.fid).expanduser().is_file():
            raise ValueError(
                f"diffusability.fid: {self.fid} does not exist; put pytorch-fid's pt_inception-2015-12-05-6726825d.pth "
                "there, or leave `fid` out: distances in random features need no weights"
            )

    def unfit(self, stride: int, crop: int) -> str:
        """What is wrong with latents of training crops of that side in px; empty if nothing is."""
        side = crop // stride
        if side % self.grid == 0:
            return ""
        valid = ", ".join(str(n) for n in range(1, side + 1) if side % n == 0)
        return f"a grid of {self.grid} tokens does not divide a latent's side of {side} (valid: {valid})"


def build(config: Config) -> Probe:
    def examine(subject: Subject) -> ProbeResult:
        """Reports nothing where the training pictures are not known.

        Values per image besides: the steps at which the generator was looked at with the Fréchet and kernel distances
        then, and the log DCT profiles of generated and real pictures, 64 numbers. Pictures: the convergence; generated
        pictures beside reconstructions and real ones.
        """
        if subject.draw is None:
            return ProbeResult({})
        return _examine(subject, config)

    return examine


def _examine(subject: Subject, config: Config) -> ProbeResult:
    budget, count = BUDGETS[config.budget], config.samples
    assert subject.draw is not None
    learnt, real, other = (
        subject.draw(count * factor, SEEDS[name]) for name, factor in (("learnt", LEARNT), ("real", 1), ("other", 1))
    )
    latents, encoded = (subject.encode(x).mean for x in (learnt, real))
    mean = latents.mean((0, 2, 3), keepdim=True)
    scale = latents.std((0, 2, 3), correction=0, keepdim=True) + TINY
    features = Features(RandomFeatures().to(real.device), real, subject.batch)
    reconstructed = displayed(subject.decode(encoded))
    seen_recon = features(reconstructed)
    noise = torch.randn(encoded.shape, generator=torch.Generator().manual_seed(4)).to(encoded)

    curves: dict[str, list[float]] = {"steps": [], "fd": [], "kid": []}
    for step, model in learn((latents - mean) / scale, config.grid, budget):
        made = sample(model, noise, budget.euler) * scale + mean
        pictures = displayed(subject.decode(made))
        seen = features(pictures)
        curves["steps"].append(step)
        curves["fd"].append(frechet(seen, features.real))
        curves["kid"].append(kernel_distance(seen, features.real))
    profiles = {"generated": _profile(pictures), "real": _profile(real)}
    limits = {
        "recon": frechet(seen_recon, features.real),
        "floor": frechet(features(other), features.real),
    }
    metrics = {
        "diff/fd": curves["fd"][-1],
        "diff/fd_auc": _log_mean(curves["steps"], curves["fd"]),
        "diff/kid": curves["kid"][-1],
        "diff/sw2": sliced_wasserstein(seen, features.real),
        "diff/spec_rgb": _apart(profiles["generated"], profiles["real"]),
        "diff/spec_latent": _apart(_profile(made), _profile(encoded)),
        "diff/fid": _fid(config, real, pictures, subject.batch),
        "diff/fd_gap": frechet(seen, seen_recon),
        "diff/fd_recon": limits["recon"],
        "diff/fd_floor": limits["floor"],
        "diff/tokens": float(config.grid**2),
    }
    return ProbeResult(
        metrics={name: value for name, value in metrics.items() if value is not None},
        per_image={f"diff/curve_{name}": values for name, values in curves.items()}
        | {f"diff/profile_{name}": values.tolist() for name, values in profiles.items() if values is not None},
        pictures={"diffusability": _picture(curves, limits), "generated": sheet(pictures, reconstructed, real, rows=8)},
    )


def _fid(config: Config, real: Tensor, pictures: Tensor, batch: int) -> float | None:
    if config.fid is None:
        return None
    network = Inception(Path(config.fid).expanduser()).to(real.device)
    return frechet(described(network, pictures, batch), described(network, real, batch))


def described(network: nn.Module, pictures: Tensor, batch: int) -> Tensor:
    """Features `n d` of pictures `n 3 s s` in [0, 1], float64 on the CPU."""
    return torch.cat([network(x) for x in pictures.split(batch)]).cpu().double()


class Features:
    """Features of pictures, scaled so that each varies by 1 among the real ones."""

    def __init__(self, network: nn.Module, real: Tensor, batch: int) -> None:
        self.network, self.batch = network, batch
        raw = described(network, real, batch)
        self.mean, self.scale = raw.mean(0), raw.std(0) + TINY
        self.real = (raw - self.mean) / self.scale

    def __call__(self, pictures: Tensor) -> Tensor:
        """`n 3 s s` in [0, 1] to `n 64`, float64 on the CPU."""
        return (described(self.network, pictures, self.batch) - self.mean) / self.scale


def _profile(x: Tensor) -> Tensor | None:
    """Log DCT profile of `n c s s` without its mean, mean of the channels, 64 numbers; None if there is no block."""
    if x.shape[-1] < BLOCK:
        return None
    x = x.cpu().double()
    return log_profile(x - x.mean((0, 2, 3), keepdim=True)).mean(0)


def _apart(a: Tensor | None, b: Tensor | None) -> float | None:
    return None if a is None or b is None else (a - b)[1:].abs().mean().item()  # all begin at 0


def _log_mean(steps: list[float], values: list[float]) -> float:
    """Mean of log value over log step, by trapezia."""
    x, y = torch.tensor(steps).double().log(), torch.tensor(values).double().log()
    return (torch.trapezoid(y, x) / (x[-1] - x[0])).item()


def _picture(curves: dict[str, list[float]], limits: dict[str, float]) -> Picture:
    steps = torch.tensor(curves["steps"], dtype=torch.float64)
    lines = (
        Line("generated", steps, torch.tensor(curves["fd"])),
        Line("reconstructed", steps, torch.full_like(steps, limits["recon"])),
        Line("real, floor", steps, torch.full_like(steps, limits["floor"])),
    )
    return chart(lines, "steps of the transformer", "Fréchet distance", log=True)
