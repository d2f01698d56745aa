"""Which frames a video model's convolutions see: here each frame itself and the two before it, with a learned fade.

Say here where the convolution comes from, and what it should do to flicker or motion.
"""

import torch
from torch import Tensor, nn

from ablate.components.shared.layers import Conv3d
from ablate.slots import Padding, Past, Settings, cat_frames


class Config(Settings):
    """No settings."""


def build(config: Config, before: int, after: int, group: int, padding: Padding) -> nn.Module:
    """`before`, `after`: channels. `group`: frames of a group, which the convolution may see, but none after it."""
    return FadingConv(before, after, 3, padding)


class FadingConv(Conv3d):
    """`b i t h w -> b o t h w`, 3 x 3 x 3."""

    inherits_at = 2  # the tap in time that sees the frame itself; `init: inflate` puts an image VAE's kernel there

    def __init__(self, before: int, after: int, kernel: int, padding: Padding) -> None:
        super().__init__(before, after, kernel, padding)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as torch does, and let those of earlier frames start at half of that."""
        super().reset_parameters()
        with torch.no_grad():
            self.weight[:, :, :2] *= 0.5

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """`past`: where a clip comes in chunks, what was kept of the chunk before. The result must be the same."""
        begun = past is not None and past.begun
        earlier = past.recall(self) if past is not None and begun else x[:, :, :1].expand(-1, -1, 2, -1, -1)
        x = cat_frames([earlier, x])
        if past is not None:
            past.keep(self, x[:, :, -2:])
        return super().forward(x)
