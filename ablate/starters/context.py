"""How far a video model's coarsest level sees in space: here its last convolution sees squares of 5 x 5.

Say here where the layer comes from.
"""

from torch import nn

from ablate.components.shared.frames import FrameConv
from ablate.slots import Context, Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, padding: Padding) -> Context:
    def head(before: int, after: int) -> nn.Module:
        """The encoder's last convolution, frame by frame: `b before t h w -> b after t h w`."""
        return FrameConv(before, after, 5, padding)

    return Context(head, attend_everywhere=False)
