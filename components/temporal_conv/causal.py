"""Causal 3 x 3 x 3 convolution: each frame sees itself and the two frames before it, across group boundaries.

y_t = W0 x_(t-2) + W1 x_(t-1) + W2 x_t, with the clip's first frame repeated before it, as in CogVideoX (Yang et al.,
2024, arXiv 2408.06072) and most causal video VAEs. Later frames of a group then see more of the group than earlier
ones, which IV-VAE (Wu et al., 2025, arXiv 2411.06449) holds to be the cause of flicker.
"""

from torch import Tensor, nn

from ablate.components.shared.layers import Conv3d
from ablate.slots import Padding, Past, Settings, cat_frames


class Config(Settings):
    """No settings."""


def build(config: Config, before: int, after: int, group: int, padding: Padding) -> nn.Module:
    return CausalConv(before, after, 3, padding)


class CausalConv(Conv3d):
    """`b i t h w -> b o t h w`. Keeps two frames between chunks."""

    inherits_at = 2  # the tap that sees the frame itself

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        begun = past is not None and past.begun
        before = past.recall(self) if past is not None and begun else x[:, :, :1].expand(-1, -1, 2, -1, -1)
        x = cat_frames([before, x])
        if past is not None:
            past.keep(self, x[:, :, -2:])
        return super().forward(x)
