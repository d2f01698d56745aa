"""Weights of loss terms: their schedule over a trial, and the adaptive factor of the adversarial term."""

from dataclasses import dataclass

import torch
from torch import Tensor

FLOOR = 1e-4
"""Keeps the quotient finite. The paper has 1e-6; its authors' code, and the trainers that follow it, use 1e-4."""


@dataclass(frozen=True)
class WeightSchedule:
    """A loss term's weight over a trial: 0 through step `start`, then a linear rise to `value` in `ramp` steps.

    `clamp`: the largest adaptive factor; None for a weight that is not adaptive.
    """

    value: float
    start: int = 0
    ramp: int = 0
    clamp: float | None = None

    def at(self, step: int) -> float:
        """The weight at a step of the trial, counted from 1 over all stages."""
        return self.value * min(1.0, max(0, step - self.start) / max(1, self.ramp))


def adaptive_factor(reconstruction: Tensor, realism: Tensor, last_weight: Tensor, clamp: float) -> Tensor:
    """min(|grad reconstruction| / (|grad realism| + 1e-4), clamp), gradients with respect to the decoder's last weight.

    Esser et al., 2021 (arXiv 2012.09841, equation 7). The two losses are scalars that depend on `last_weight`; their
    graphs are kept. The result is a scalar on the same device, without gradient; the device is not waited for. Raises
    RuntimeError where a loss does not depend on `last_weight`.
    """
    (of_reconstruction,) = torch.autograd.grad(reconstruction, last_weight, retain_graph=True)
    (of_realism,) = torch.autograd.grad(realism, last_weight, retain_graph=True)
    quotient: Tensor = of_reconstruction.norm() / (of_realism.norm() + FLOOR)
    return quotient.clamp(max=clamp)
