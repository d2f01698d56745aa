"""No extra context: the encoder ends in a 3 x 3 convolution and attends in the middle only, as in latent diffusion."""

from torch import nn

from ablate.components.shared.frames import FrameConv
from ablate.slots import Context, Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, padding: Padding) -> Context:
    def head(before: int, after: int) -> nn.Module:
        return FrameConv(before, after, 3, padding)

    return Context(head)
