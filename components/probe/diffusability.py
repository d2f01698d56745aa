"""Diffusability: how well a small diffusion transformer learns the latents within a fixed budget.

This is the downstream test of "Improving the Diffusability of Autoencoders" (arXiv 2502.14831, figure 1: FID over
training steps) on a budget of minutes. The autoencoder is frozen. Random crops of the training pictures are encoded to
posterior means, and each channel is scaled to mean 0 and variance 1. A diffusion transformer of fixed size, with the
same number of tokens for every latent, learns them by flow matching. Its samples are decoded and compared with further
crops of the same pictures. Initial weights, batches, times, noise and crops are the same for all treatments and all
seeds of the autoencoder (`components/probe/_flow.py`).

The Fréchet distance is in features of a random network, on the same number of pictures everywhere. It is no FID: it
ranks treatments on one set of pictures, and falls not to 0 but to `diff/fd_floor`, the distance between two sets of
real crops. A perfect generator would reach `diff/fd_recon`, the distance of the reconstructions. `diff/fd_auc`
summarises the whole curve: the mean logarithm of the distance over the logarithm of the steps. Losses of flow matching
are not reported, because they are not comparable across latents.

The numbers do not show what a generator a thousand times as large, trained a thousand times as long, makes of the
latents; and a small set of pictures may be memorised. FID is comparable with published values at 50,000 pictures only.
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
    Metric("diff/fd", "1", "down", "Fréchet distance of generated from real pictures in random features; no FID"),
    Metric(
        "diff/fd_auc",
        "ln",
        "down",
        "its logarithm, averaged over the logarithm of the training steps",
        decimals=3,
        interest=0.05,
    ),
    Metric(
        "diff/kid", "1", "down", "kernel distance (cubic, unbiased) in the same features; 0 for real ones", decimals=3
    ),
    Metric("diff/sw2", "1", "down", "sliced Wasserstein distance, squared, in the same features", decimals=4),
    Metric(
        "diff/spec_rgb",
        "1",
        "down",
        "mean distance of the log DCT profiles of generated and real pictures",
        interest=0.1,
    ),
    Metric("diff/spec_latent", "1", "down", "the same of generated and encoded latents", interest=0.1),
    Metric(
        "diff/fid",
        "1",
        "down",
        "FID of generated pictures, if `fid` names its network's weights",
        needs="the setting `fid`",
        interest=1,
    ),
    Metric(
        "diff/fd_gap",
        "1",
        "down",
        "Fréchet distance of generated from reconstructed pictures: the generator's own share",
    ),
    Metric("diff/fd_recon", "1", "down", "Fréchet distance of reconstructed from real pictures: a perfect generator's"),
    Metric("diff/fd_floor", "1", "none", "Fréchet distance of two sets of real pictures; depends only on their number"),
    Metric(
        "diff/tokens",
        "1",
        "none",
        "tokens of the transformer, which must be equal in treatments that are compared",
        decimals=0,
        exact=True,
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
"""Number of crops to learn from, as a multiple of `samples`."""


SEEDS = {"learnt": 1, "real": 2, "other": 3}  # of the three draws of crops


TINY = 1e-12


class Config(ProbeSettings):
    """`budget`: `cpu` is about a minute of one core, `gpu` about five of one GPU (not measured yet).

    `grid`: tokens along a side of every latent; it must divide the side. `samples`: pictures in each set that is
    compared; the generator learns from four times as many crops. `fid`: file with the weights of FID's Inception
    network, as published with pytorch-fid; without it no FID is reported.
    """

    budget: Literal["cpu", "gpu"] = "cpu"
    grid: PositiveInt = 4
    samples: PositiveInt = 512
    fid: str | None = added(None, absent_means=None)

    @model_validator(mode="after")
    def _enough_samples(self) -> "Config":
        features = 2048 if self.fid else 64
        needed = 4 * features  # with fewer, the covariances are unreliable
        if self.samples < needed:
            what = f"a Fréchet distance in {features} features{' (FID)' if self.fid else ''}"
            raise ValueError(f"{what} needs {needed} samples or more, found {self.samples}")
        return self

    def preflight(self) -> None:
        """Raise ValueError if FID is asked for and the weights of its network are missing."""
        if self.fid is not None and not Path(self.fid).expanduser().is_file():
            raise ValueError(
                f"diffusability.fid: {self.fid} does not exist; put pytorch-fid's pt_inception-2015-12-05-6726825d.pth "
                "there, or leave `fid` out: distances in random features need no weights"
            )

    def unfit(self, stride: int, crop: int) -> str:
        """Why latents of training crops of side `crop` px do not fit the grid; empty if they do."""
        side = crop // stride
        if side % self.grid == 0:
            return ""
        valid = ", ".join(str(n) for n in range(1, side + 1) if side % n == 0)
        return f"a grid of {self.grid} tokens does not divide a latent's side of {side} (valid: {valid})"


def build(config: Config) -> Probe:
    def examine(subject: Subject) -> ProbeResult:
        """Reports nothing if the training pictures are not known.

        Instead of values per image: the steps at which the generator was evaluated, the Fréchet and kernel distances at
        those steps, and the log DCT profiles of generated and real pictures, 64 numbers each. Pictures: the
        convergence; generated pictures beside reconstructions and real ones.
        """
        if subject.draw is None:
            return ProbeResult({})
        return _examine(subject, config)

    return examine


def _examine(subject: Subject, config: Config) -> ProbeResult:
    budget = BUDGETS[config.budget]
    count = config.samples
    assert subject.draw is not None

    # crops, their latents, and features of the real and reconstructed pictures
    learnt, real, other = (
        subject.draw(count * factor, SEEDS[name]) for name, factor in (("learnt", LEARNT), ("real", 1), ("other", 1))
    )
    latents, encoded = (subject.encode(x).mean for x in (learnt, real))
    mean = latents.mean((0, 2, 3), keepdim=True)
    scale = latents.std((0, 2, 3), correction=0, keepdim=True) + TINY
    features = Features(RandomFeatures().to(real.device), real, subject.batch)
    reconstructed = displayed(subject.decode(encoded))
    features_recon = features(reconstructed)
    noise = torch.randn(encoded.shape, generator=torch.Generator().manual_seed(4)).to(encoded)

    # train the generator and evaluate it along the way
    curves: dict[str, list[float]] = {"steps": [], "fd": [], "kid": []}
    for step, model in learn((latents - mean) / scale, config.grid, budget):
        generated = sample(model, noise, budget.euler) * scale + mean
        pictures = displayed(subject.decode(generated))
        features_generated = features(pictures)
        curves["steps"].append(step)
        curves["fd"].append(frechet(features_generated, features.real))
        curves["kid"].append(kernel_distance(features_generated, features.real))

    # compare the last samples with real pictures, reconstructions and latents
    profiles = {"generated": _profile(pictures), "real": _profile(real)}
    limits = {
        "recon": frechet(features_recon, features.real),
        "floor": frechet(features(other), features.real),
    }
    metrics = {
        "diff/fd": curves["fd"][-1],
        "diff/fd_auc": _log_mean(curves["steps"], curves["fd"]),
        "diff/kid": curves["kid"][-1],
        "diff/sw2": sliced_wasserstein(features_generated, features.real),
        "diff/spec_rgb": _profile_distance(profiles["generated"], profiles["real"]),
        "diff/spec_latent": _profile_distance(_profile(generated), _profile(encoded)),
        "diff/fid": _fid(config, real, pictures, subject.batch),
        "diff/fd_gap": frechet(features_generated, features_recon),
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
    network = Inception(Path(config.fid).expanduser(), "diffusability.fid").to(real.device)
    return frechet(features_of(network, pictures, batch), features_of(network, real, batch))


def features_of(network: nn.Module, pictures: Tensor, batch: int) -> Tensor:
    """Features `n d` of pictures `n 3 s s` in [0, 1], float64 on the CPU."""
    return torch.cat([network(x) for x in pictures.split(batch)]).cpu().double()


class Features:
    """Features of pictures, each scaled to mean 0 and variance 1 over the real pictures."""

    def __init__(self, network: nn.Module, real: Tensor, batch: int) -> None:
        self.network = network
        self.batch = batch
        raw = features_of(network, real, batch)
        self.mean = raw.mean(0)
        self.scale = raw.std(0) + TINY
        self.real = (raw - self.mean) / self.scale

    def __call__(self, pictures: Tensor) -> Tensor:
        """`n 3 s s` in [0, 1] to `n 64`, float64 on the CPU."""
        return (features_of(self.network, pictures, self.batch) - self.mean) / self.scale


def _profile(x: Tensor) -> Tensor | None:
    """Log DCT profile of `n c s s` without its mean, averaged over channels, `64`; None if smaller than a block."""
    if x.shape[-1] < BLOCK:
        return None
    x = x.cpu().double()
    return log_profile(x - x.mean((0, 2, 3), keepdim=True)).mean(0)


def _profile_distance(a: Tensor | None, b: Tensor | None) -> float | None:
    """Mean absolute difference of two profiles without their first value, which is always 0; None without profiles."""
    return None if a is None or b is None else (a - b)[1:].abs().mean().item()


def _log_mean(steps: list[float], values: list[float]) -> float:
    """Mean of the log values over the log steps, by the trapezoidal rule."""
    x = torch.tensor(steps).double().log()
    y = torch.tensor(values).double().log()
    return (torch.trapezoid(y, x) / (x[-1] - x[0])).item()


def _picture(curves: dict[str, list[float]], limits: dict[str, float]) -> Picture:
    steps = torch.tensor(curves["steps"], dtype=torch.float64)
    lines = (
        Line("generated", steps, torch.tensor(curves["fd"])),
        Line("reconstructed", steps, torch.full_like(steps, limits["recon"])),
        Line("real, floor", steps, torch.full_like(steps, limits["floor"])),
    )
    return chart(lines, "steps of the transformer", "Fréchet distance", log=True)
