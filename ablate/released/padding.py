"""Other padding for a released VAE: the weights do not tell which padding they were trained with.

`padding_mode` is no part of a state dict, so that weights trained with one padding load without a word into a model
with another. Some fine-tunes of community VAEs (trained with reflection, loaded with zeros) draw a frame for that
reason alone.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ablate.released.load import Released
from ablate.slots.training import Autoencoder

Mode = Literal["zeros", "reflect", "replicate", "circular"]


MODES: tuple[Mode, ...] = ("zeros", "reflect", "replicate", "circular")


CLASSES = (
    "AsymmetricAutoencoderKL", "AutoencoderDC", "AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLHunyuanImage",
    "AutoencoderKLKVAE", "AutoencoderKLLTX2Video", "AutoencoderKLLTXVideo", "AutoencoderTiny", "VQModel",
)  # fmt: skip
"""Those that pad in their convolutions, or as diffusers' `Downsample2D` does; the others pad by code of their own."""


def override_padding(vae: Autoencoder, mode: Mode) -> None:
    """Make every convolution of a released VAE pad its borders by `mode`; in videos those of space, not of time.

    Raises ValueError for a VAE whose padding is not a matter of its convolutions, and for our own checkpoints.
    """
    if not isinstance(vae, Released):
        raise ValueError("--padding-mode is for released VAEs: the padding of our own checkpoints is in their recipe")
    if vae.class_name not in CLASSES:
        raise ValueError(f"{vae.class_name} pads by code of its own; --padding-mode can change {', '.join(CLASSES)}")
    from diffusers.models.downsampling import Downsample2D

    for module in list(vae.modules()):
        if isinstance(module, nn.Conv2d | nn.Conv3d) and any(module.padding):
            module.padding_mode = mode  # what to pad by is in the layer whatever its mode
        elif isinstance(module, Downsample2D) and module.use_conv and module.padding == 0:
            module.conv = nn.Sequential(_PadBottomRight(mode), module.conv)
            module.padding = 1  # else it would pad by zeros itself


class _PadBottomRight(nn.Module):
    """A pixel at the bottom and at the right of `b c h w`."""

    def __init__(self, mode: Mode) -> None:
        super().__init__()
        self.mode = "constant" if mode == "zeros" else mode

    def forward(self, h: Tensor) -> Tensor:
        return F.pad(h, (0, 1, 0, 1), mode=self.mode)
