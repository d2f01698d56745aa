"""Why training diverged or learned nothing, in one of four phrases, from what the step log has anyway.

| cause | sign |
|---|---|
| `collapsed latents` | no latent channel tells one picture from another: the variance of its means over a batch is below 1 % of the variance of its noise. With the unit variance that the prior pulls to this is the threshold of Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016 (arXiv 1509.00519), section 5.2. |
| `dead critic` | the discriminator's term gives the autoencoder no gradient. |
| `exploding gradient` | the loss or the gradient's norm was infinite, or the norm had grown a thousandfold. |
| `NaN` | the first number that was not finite came out of nothing of that. |
"""  # noqa: E501

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from ablate.slots.training import Posterior

Cause = Literal["", "NaN", "exploding gradient", "dead critic", "collapsed latents"]

SIGNAL = "latent/signal"
"""Name of `latent_signal` in the log."""


COLLAPSED = 0.01


CRITIC = "share/adversarial"


DEAD = 1e-9
"""A share of the gradient below this is none: fp32 has 7 digits, and the share is of norms."""


GROWTH = 1e3
"""A gradient norm so many times the usual one has exploded."""


LAST = 2
"""In so many last lines a sign must stand, to be the state in which training ended."""


@torch.no_grad()
def latent_signal(posterior: Posterior) -> Tensor:
    """The largest share over channels of the variance of a latent that is due to the picture, in [0, 1].

    The variance of the means over the batch, averaged over positions, against that plus the mean variance of the
    posterior. 0 for constant latents; of a single picture the variance is over positions.
    """
    mean = posterior.mean.float()
    axis = 0 if len(mean) > 1 else tuple(range(2, mean.ndim))
    rest = [i for i in range(mean.ndim) if i != 1]
    signal = mean.var(axis, correction=0, keepdim=True).mean(rest)
    noise = posterior.logvar.float().exp().mean(rest)
    return torch.nan_to_num(signal / (signal + noise), nan=0.0).amax()


def find_cause(lines: Sequence[Mapping[str, Any]], fault: Mapping[str, float] | None) -> Cause:
    """The cause of a divergence, or of a training that ended without learning; empty if there is none.

    `lines`: those of the stage's log. `fault`: of a divergence, `loss` and `grad_norm` at the first step that was not
    finite, and `peak`, the largest finite norm since the line before; None if training did not diverge.
    """
    before = lines[:-1] if fault is not None else lines
    signals = [line[SIGNAL] for line in before if SIGNAL in line][-LAST:]
    shares = [line[CRITIC] for line in before if CRITIC in line][-LAST:]
    if len(signals) == LAST and max(signals) < COLLAPSED:
        return "collapsed latents"
    if len(shares) == LAST and max(shares) < DEAD:
        return "dead critic"
    if fault is None:
        return ""
    if any(math.isinf(value) for value in fault.values()):
        return "exploding gradient"
    norms = [line["train/grad_norm"] for line in before if math.isfinite(line.get("train/grad_norm", math.nan))]
    usual = median(norms) if norms else 1.0
    return "exploding gradient" if max([fault["peak"], *norms[-LAST:]]) > GROWTH * usual else "NaN"
