"""An autoencoder of images: here one level of down- and up-sampling for each entry of `channels`.

Say here what the model is and where it comes from. It is built from the levels that a study names for padding, norm,
downsample and upsample, so that they can be varied; a model may also bring its own.
"""

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.layers import Conv2d
from ablate.slots import LOGVAR_RANGE, Autoencoder, Layers, ModelSettings, Posterior


class Config(ModelSettings):
    """`channels`: width of each level, finest first; the size halves after each. `latent_channels`: of the latent."""

    channels: tuple[PositiveInt, ...] = Field(min_length=1, max_length=6)
    latent_channels: PositiveInt = 4

    @property
    def stride(self) -> int:
        """Pixels along a side for each place of the latent."""
        return 1 << len(self.channels)


def build(config: Config, encoder: Layers, decoder: Layers) -> Autoencoder:
    return Starter(config, encoder, decoder)


class Starter(Autoencoder):
    def __init__(self, config: Config, encoder: Layers, decoder: Layers) -> None:
        super().__init__()
        self.stride = config.stride
        self.latent_channels = config.latent_channels
        widths = config.channels
        # From pixels to mean and log-variance of the latents
        self.encoder = nn.Sequential(
            Conv2d(3, widths[0], 3, encoder.padding),
            *(Down(before, after, encoder) for before, after in zip(widths, [*widths[1:], widths[-1]], strict=True)),
            Conv2d(widths[-1], 2 * config.latent_channels, 3, encoder.padding),
        )
        # From latents to pixels
        wide = widths[::-1]
        self.conv_in = Conv2d(config.latent_channels, wide[0], 3, decoder.padding)
        self.blocks = nn.ModuleList(
            Up(before, after, config.latent_channels, decoder)
            for before, after in zip(wide, [*wide[1:], wide[-1]], strict=True)
        )
        self.conv_out = Conv2d(wide[-1], 3, 3, decoder.padding)

    # Optional: for probes of single blocks, stages that freeze the encoder, and adaptive adversarial weights.
    @property
    def decoder_blocks(self) -> list[nn.Module]:
        return list(self.blocks)

    @property
    def encoding_parts(self) -> list[nn.Module]:
        return [self.encoder]

    @property
    def last_weight(self) -> Tensor:
        return self.conv_out.weight

    def encode(self, x: Tensor) -> Posterior:
        """The posterior over latents of images `b 3 h w` in [-1, 1]."""
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"model: {height} x {width} (h x w) is not a multiple of the stride {self.stride}")
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(*LOGVAR_RANGE))

    def decode(self, z: Tensor) -> Tensor:
        """Images `b 3 h w` in about [-1, 1], not clamped."""
        h = self.conv_in(z)
        for block in self.blocks:
            h = block(h, z)
        y: Tensor = self.conv_out(h)
        return y


class Down(nn.Module):
    """Norm, SiLU, half the size, a convolution."""

    def __init__(self, before: int, after: int, layers: Layers) -> None:
        super().__init__()
        self.norm = layers.norm(before, None)
        self.down = layers.downsample(before, layers.padding)
        self.conv = Conv2d(before, after, 3, layers.padding)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.conv(self.down(F.silu(self.norm(h, None))))
        return out


class Up(nn.Module):
    """Norm, SiLU, twice the size, a convolution. The norm may look at the latent."""

    def __init__(self, before: int, after: int, latent_channels: int, layers: Layers) -> None:
        super().__init__()
        self.norm = layers.norm(before, latent_channels)
        self.up = layers.upsample(before, layers.padding)
        self.conv = Conv2d(before, after, 3, layers.padding)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        out: Tensor = self.conv(self.up(F.silu(self.norm(h, z))))
        return out
