"""A released VAE as an `Autoencoder`: it encodes, decodes, and names its parts for training."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablate.released.files import VIDEO_CLASSES
from ablate.released.shape import Shape
from ablate.slots.training import LOGVAR_RANGE, Autoencoder, Posterior
from ablate.slots.video import group_of

TEST_SIDE = 128
"""The side in px of the picture that a model must reconstruct when it is loaded."""


class Released(Autoencoder):
    """An autoencoder of diffusers, without its scaling of latents, tiling and slicing.

    Unless `temporal`, a video autoencoder gets each picture as a clip of `frames` equal frames, and the middle frame of
    its output counts. The latent of the clip becomes that of a picture: its channels and frames together are the
    channels here. If `temporal`, it takes clips as they are, and a picture is a clip of one frame.
    """

    def __init__(self, path: Path, class_name: str, model: Any, frames: int = 1, shape: Shape | None = None) -> None:
        """`path`: the file or folder that the model comes from, for errors.

        `shape`: of a model that takes clips as they are; None for one of pictures. Raises ValueError as `load_released`
        does.
        """
        super().__init__()
        self.model = model
        self.class_name = class_name
        self.frames = frames
        self.video = class_name in VIDEO_CLASSES
        self.temporal = shape is not None and shape.video
        self.groups = shape.groups if shape else 1
        self.clip_multiple = shape.clip_multiple if shape else 1
        if frames > 1 and not self.video:
            raise ValueError(f"{path}: clips of {frames} frames need a video autoencoder, and {class_name} is not one")
        self.stride = 1
        self._measure(path, class_name)

    @torch.inference_mode()
    def _measure(self, path: Path, name: str) -> None:
        """Set stride, latent channels and the last layer by reconstructing a picture.

        Raises ValueError if its shape changes.
        """
        config = self.model.config
        channels = config.get("in_channels", config.get("input_channels", 3))
        patch = config.get("patch_size") or 1
        if channels != 3 and not (isinstance(patch, int) and channels == 3 * patch**2):
            raise ValueError(f"{path}: {name} takes images of {channels} channels, expected 3 (RGB)")
        x = torch.zeros(1, 3, TEST_SIDE, TEST_SIDE)
        try:
            self.latent_frames = self._moments(self._clip(x))[0].shape[2] if self.video else 1
            z = self.encode(x).mean
            y, self._last = self._decode_noting_last(z)
        except Exception as error:  # models raise all kinds of errors
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            clip = f"a clip of {self.frames} frames" if self.frames > 1 else "a single picture"
            raise ValueError(f"{path}: {name} cannot reconstruct {clip}: {reason}") from error
        if y.shape != x.shape:
            raise ValueError(f"{path}: {name} gives {tuple(y.shape)}, expected {tuple(x.shape)} (b c h w)")
        self.stride = TEST_SIDE // z.shape[-1]
        self.latent_channels = z.shape[1]

    def _decode_noting_last(self, z: Tensor) -> tuple[Tensor, str]:
        """Decode, and the name of the convolution of the decoder that runs last."""
        ran: list[str] = []
        handles = [
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
            for name, module in self.model.decoder.named_modules()
            if isinstance(module, nn.Conv2d | nn.Conv3d)
        ]
        try:
            return self.decode(z), ran[-1]
        finally:
            for handle in handles:
                handle.remove()

    def whole(self, frames: int) -> int:
        """As `Autoencoder.whole`, for classes that cannot take every whole number of groups."""
        return 1 + (frames - 1) // self.clip_multiple * self.clip_multiple

    @property
    def encoding_parts(self) -> list[nn.Module]:
        parts = [self.model.encoder, getattr(self.model, "quant_conv", None)]
        return [part for part in parts if isinstance(part, nn.Module)]

    @property
    def last_weight(self) -> Tensor:
        weight: Tensor = self.model.decoder.get_submodule(self._last).weight
        return weight

    def encode(self, x: Tensor) -> Posterior:
        """Images `b 3 h w` in [-1, 1] to the posterior over latents `b z h/f w/f`; clips if `temporal`.

        The mean of a deterministic encoder is its latents before any quantisation; its log-variance is the smallest
        possible. Raises ValueError if h or w is not a multiple of the stride f, or if the frames of a clip are not 1 +
        a multiple of `clip_multiple`.
        """
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"model: {height} x {width} (h x w) is not a multiple of the stride {self.stride}")
        if x.ndim == 5:
            group_of(x.shape[2], self.clip_multiple)
            mean, logvar = self._moments(x)
        elif self.video:
            mean, logvar = (moment.flatten(1, 2) for moment in self._moments(self._clip(x)))
        else:
            mean, logvar = self._moments(x)
        return Posterior(mean, logvar.clamp(*LOGVAR_RANGE))

    def _clip(self, x: Tensor) -> Tensor:
        """Pictures `b 3 h w` as clips of equal frames."""
        return x.unsqueeze(2).expand(-1, -1, self.frames, -1, -1)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance as the model gives them: `b z h/f w/f`, or `b z t h/f w/f` from a video model."""
        output = self.model.encode(x)
        posterior = getattr(output, "latent_dist", None)
        mean = output[0] if posterior is None else posterior.mode()
        logvar = getattr(posterior, "logvar", None)
        return mean, torch.full_like(mean, LOGVAR_RANGE[0]) if logvar is None else logvar

    def decode(self, z: Tensor) -> Tensor:
        """Latents `b z h/f w/f` to images `b 3 h w` in about [-1, 1], of clips to clips; not clamped."""
        if not self.video or z.ndim == 5:
            out: Tensor = self.model.decode(z).sample
            return out
        y: Tensor = self.model.decode(z.unflatten(1, (-1, self.latent_frames))).sample
        if y.shape[2] != self.frames:
            raise ValueError(
                f"{self.frames} frames come back as {y.shape[2]}; expected 1 + a multiple of its time stride"
            )
        return y[:, :, self.frames // 2]
