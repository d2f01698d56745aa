"""A 3 x 3 convolution ends the encoder, and self-attention stands in the middle alone, as in latent diffusion."""

from torch import nn

from ablate.registry import Settings
from ablate.slots import Padding
from ablate.video_slots import Context
from components.frames import FrameConv


class Config(Settings):
    """No settings."""


def build(config: Config, padding: Padding) -> Context:
    def head(before: int, after: int) -> nn.Module:
        return FrameConv(before, after, 3, padding)

    return Context(head)
