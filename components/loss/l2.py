"""Mean squared error of the reconstruction over b, c, h and w, on images in [-1, 1]."""

from torch import Tensor
from torch.nn import functional as F

from ablate.slots import LossSettings, Step, Term


class Config(LossSettings):
    """`weight`: the term's factor in the training loss."""


def build(config: Config) -> Term:
    return L2()


class L2(Term):
    of = "reconstruction"

    def forward(self, step: Step) -> Tensor:
        return F.mse_loss(step.y, step.x)
