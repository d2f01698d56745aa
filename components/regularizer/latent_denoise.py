"""Latent denoising: the decoder is given latents mixed with noise and must still produce the clean picture.

Yang et al., "Latent Denoising Makes Good Visual Tokenizers", 2025 (arXiv 2507.15856): in every step

    z' = (1 - a) z + a strength e,   a uniform in [0, 1) for each picture, e standard normal

is decoded in place of z. The paper also hides patches of the input from its transformer, which has no counterpart in a
convolutional encoder. Its noise is scaled for latents of about unit magnitude; if nothing holds the magnitude of z,
latents can outgrow the noise.
"""

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from ablate.slots import Alteration, Autoencoder, RegularizerSettings, SeedOf


class Config(RegularizerSettings):
    """`strength`: standard deviation of the noise, gamma of the paper (3 there); 0 is the same as `none`."""

    strength: NonNegativeFloat


def build(config: Config) -> Alteration:
    return LatentNoise(config.strength)


class LatentNoise(Alteration):
    """Mixes noise of standard deviation `strength` into the latents, with a random share for each picture."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def before_decoding(self, vae: Autoencoder, x: Tensor, z: Tensor, seed_of: SeedOf) -> tuple[Tensor, Tensor]:
        """The clean target and the noisy latents `b z h w`."""
        generator = torch.Generator(z.device).manual_seed(seed_of("latent noise"))
        share = torch.rand((len(z), 1, 1, 1), generator=generator, device=z.device, dtype=z.dtype)
        noise = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        return x, torch.lerp(z, self.strength * noise, share)
