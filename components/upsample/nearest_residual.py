"""Sub-pixel convolution plus the nearest-neighbour doubling of its input: the convolution learns only the difference.

Chen et al., "Deep Compression Autoencoder for Efficient High-Resolution Diffusion Models", 2024 (arXiv 2410.10733),
repeat the input's channels and shuffle them as they shuffle those of the convolution. From c channels to c that is
nearest-neighbour doubling. LTX-2.0's decoder has this skip, LTX-2.3's does not. `grid/polyphase` measures the
convolution alone.
"""

from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return NearestResidual(channels, padding)


class NearestResidual(nn.Module):
    """`b c h w -> b c 2h 2w`."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.conv = Conv2d(channels, 4 * channels, 3, padding)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, h: Tensor) -> Tensor:
        phases = self.conv(h).unflatten(1, (-1, 4)) + h.unsqueeze(2)  # b c 4 h w
        out: Tensor = self.shuffle(phases.flatten(1, 2))
        return out
