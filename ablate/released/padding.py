"""Overrides the padding of a released VAE, because weights do not show which padding they were trained with.

`padding_mode` is not part of a state dict, so weights trained with one padding load without warning into a model with
another. Some fine-tunes of community VAEs (trained with reflection, loaded with zeros) draw a frame for that reason
alone.
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
"""Classes that pad in their convolutions, or as diffusers' `Downsample2D` does. Others pad in their own code."""


def override_padding(vae: Autoencoder, mode: Mode) -> None:
    """Make every convolution of a released VAE pad its spatial borders by `mode`; padding in time stays.

    Raises ValueError for a VAE that does not pad in its convolutions, and for our own checkpoints.
    """
    if not isinstance(vae, Released):
        raise ValueError("--padding-mode is for released VAEs; that of ablate's own checkpoints is in their recipe")
    if vae.class_name not in CLASSES:
        raise ValueError(f"{vae.class_name} pads in its own code; --padding-mode works for {', '.join(CLASSES)}")
    from diffusers.models.downsampling import Downsample2D

    for module in list(vae.modules()):
        if isinstance(module, nn.Conv2d | nn.Conv3d) and any(module.padding):
            module.padding_mode = mode  # the layer knows how much to pad, whatever its mode
        elif isinstance(module, Downsample2D) and module.use_conv and module.padding == 0:
            module.conv = nn.Sequential(_PadBottomRight(mode), module.conv)
            module.padding = 1  # otherwise it would pad with zeros itself


class _PadBottomRight(nn.Module):
    """Pads `b c h w` by one pixel at the bottom and at the right."""

    def __init__(self, mode: Mode) -> None:
        super().__init__()
        self.mode = "constant" if mode == "zeros" else mode

    def forward(self, h: Tensor) -> Tensor:
        return F.pad(h, (0, 1, 0, 1), mode=self.mode)
