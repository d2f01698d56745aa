"""Health: how many latent channels carry information, and whether all numbers are finite.

A collapsed posterior is one that equals the prior, so a latent channel counts as active by its divergence from the
prior: a mean of more than 0.01 nats per position. The usual alternative, a variance of the posterior mean over the
data of more than 0.01 (Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", 2016, section 5.1), depends
on the scale of the latent, which a KL weight of 1e-6 leaves free: means of sd 0.05 with noise of 0.001 carry much
information and would count as inactive. The divergence is an upper bound on the information of a channel. Below 0.01
nats a channel is certainly idle; above, it may still be: a constant offset, or an idle channel with a log-variance
other than 0, has divergence as well.
"""

import torch
from torch import Tensor

from ablate.slots import LOGVAR_RANGE, Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "health/active_dims",
        "channels",
        "up",
        "latent channels with over 0.01 nats per position",
        decimals=0,
        interest=1,
    ),
    Metric("health/kl_nats", "nats", "none", "divergence of an image's posterior from the prior", decimals=1),
    Metric(
        "health/z_std",
        "1",
        "none",
        "sd of all posterior means; its inverse is latent diffusion's scaling factor",
        interest=0.1,
    ),
    Metric(
        "health/posterior_floor", "1", "down", "share of log-variances at the lower clamp", decimals=4, interest=0.01
    ),
    Metric(
        "health/nonfinite",
        "1",
        "down",
        "share of reconstructed values that are NaN or infinite",
        decimals=4,
        interest=0.001,
    ),
)


ACTIVE_NATS = 0.01


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Measures clips if there are any, otherwise images. All latent frames of a clip share the channels."""
    posterior = subject.posterior if subject.clips is None else subject.clip_posterior
    reconstruction = subject.reconstruction if subject.clips is None else subject.clip_reconstruction
    mean = posterior.mean.cpu().double()
    logvar = posterior.logvar.cpu().double()
    nats = (mean.square() + logvar.exp() - 1 - logvar) / 2
    per_channel = nats.transpose(0, 1).flatten(1).mean(1)
    per_image = nats.flatten(1).sum(1)
    return ProbeResult(
        metrics={
            "health/active_dims": _count(per_channel > ACTIVE_NATS, per_channel),
            "health/kl_nats": per_image.mean().item(),
            "health/z_std": mean.std(correction=0).item(),
            "health/posterior_floor": _count(logvar <= LOGVAR_RANGE[0], logvar) / logvar.numel(),
            "health/nonfinite": (~reconstruction.isfinite()).double().mean().item(),
        },
        per_image={"health/kl_nats": per_image.tolist()},
    )


def _count(condition: Tensor, of: Tensor) -> float:
    """How often a condition on the values `of` holds; NaN if one of them is NaN."""
    return torch.where(of.isnan(), torch.nan, condition.double()).sum().item()
