"""Overrides the padding of a released VAE, because weights do not show which padding they were trained with.

`padding_mode` is not part of a state dict, so weights trained with one padding load without warning into a model with
another. Some fine-tunes of community VAEs (trained with reflection, loaded with zeros) draw a frame for that reason
alone.
"""

from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ablate.released.vae import Released
from ablate.slots.training import Autoencoder, Padding

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
    pad_by(vae, partial(F.pad, mode="constant" if mode == "zeros" else mode))


def pad_by(part: nn.Module, padding: Padding) -> None:
    """Make every convolution of a model, of a class in `CLASSES`, or of a part of it pad its borders by a function."""
    from diffusers.models.downsampling import Downsample2D

    for module in list(part.modules()):
        before = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, _Pad)]
        if before:  # of a trial that has a padding of its own
            before[0].padding = padding
        elif isinstance(module, nn.Conv2d | nn.Conv3d) and any(module.padding):
            assert not isinstance(module.padding, str)
            *time, height, width = module.padding
            module.padding_mode = "zeros"
            module.padding = (*time, 0, 0)
            module.register_forward_pre_hook(_Pad(padding, (width, width, height, height)))
        elif isinstance(module, Downsample2D) and module.use_conv and module.padding == 0:
            module.conv.register_forward_pre_hook(_Pad(padding, (0, 1, 0, 1)))
            module.padding = 1  # otherwise it would pad with zeros itself


class _Pad:
    """A hook that pads what a convolution is given, `b c h w` or `b c t h w`, so that names of weights stay."""

    def __init__(self, padding: Padding, pads: tuple[int, int, int, int]) -> None:
        self.padding = padding
        self.pads = pads

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        h: Tensor = inputs[0]
        frames = h.transpose(1, 2).flatten(0, 1) if h.ndim == 5 else h
        padded = self.padding(frames, self.pads)
        if h.ndim == 5:
            padded = padded.unflatten(0, (h.shape[0], h.shape[2])).transpose(1, 2)
        return (padded, *inputs[1:])
