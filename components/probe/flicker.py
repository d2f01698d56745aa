"""Flicker: how much the reconstruction changes where the source does not.

On still clips any change from frame to frame comes from the model. On moving clips, each frame of the reconstruction is
compared with the previous one warped along the known motion, where the same surface is visible in both: the warping
error (Lai et al., "Learning Blind Video Temporal Consistency", 2018). That error rewards blur, and it includes the
interpolation error of fine detail in the sources themselves. `flicker/warp` is therefore computed on the error of the
reconstruction: detail that is lost everywhere moves along and does not flicker, and interpolation matters little.
Changes from the first frame, which has a latent frame of its own, are kept apart.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.shared.measure import GREY_LEVELS, displayed
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("flicker/static", "gl", "down", "rms change from frame to frame on clips that stand still", interest=0.5),
    Metric("flicker/static_first", "gl", "down", "the same from the first frame to the second", interest=0.5),
    Metric("flicker/warp", "gl", "down", "rms change of the reconstruction error along the known motion", interest=0.5),
    Metric(
        "flicker/warp_plain",
        "gl",
        "down",
        "the same of the reconstruction: the warping error, lower for blur",
        interest=0.5,
    ),
)


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def shortest(self) -> int:
        """Fewest frames of a held-out clip at which the first metric is reported."""
        return 5


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing without clips of two groups, and no warping error if the motion is not known."""
    if subject.clips is None or subject.frames == 1:
        return ProbeResult({})
    still = subject.images.unsqueeze(2).expand(-1, -1, subject.frames, -1, -1)
    steps = displayed(subject.reconstruct(still)).diff(dim=2).square()
    values = {
        "flicker/static": _grey(steps[:, :, 1:].mean((1, 2, 3, 4))),
        "flicker/static_first": _grey(steps[:, :, 0].mean((1, 2, 3))),
    }
    if subject.flow is not None and subject.visible is not None:
        x = subject.whole_clips
        y = displayed(subject.clip_reconstruction)
        values["flicker/warp"] = _grey(change_along(y - x, subject.flow, subject.visible))
        values["flicker/warp_plain"] = _grey(change_along(y, subject.flow, subject.visible))
    return ProbeResult(
        metrics={name: value.mean().item() for name, value in values.items()},
        per_image={name: value.tolist() for name, value in values.items()},
    )


def change_along(clips: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """Mean squared change of `n c t h w` along the motion, over visible pixels, from the second frame on: `n`."""
    total = clips.new_zeros(len(clips))
    count = clips.new_zeros(len(clips))
    for frame in range(2, clips.shape[2]):
        change = clips[:, :, frame] - warp(clips[:, :, frame - 1], flow[:, :, frame - 1])
        seen = visible[:, frame - 1]
        total += torch.where(seen, change.square().mean(1), 0).sum((1, 2))
        count += seen.sum((1, 2))
    return total / count


def warp(frame: Tensor, flow: Tensor) -> Tensor:
    """Sample `n c h w` bilinearly at the positions that `flow` `n 2 h w` points to, in px across and down."""
    size = flow.new_tensor([frame.shape[-1] - 1, frame.shape[-2] - 1])
    across, down = (torch.arange(length, device=flow.device, dtype=flow.dtype) for length in frame.shape[:-3:-1])
    here = torch.stack([across.expand(len(down), -1), down[:, None].expand(-1, len(across))], -1)
    grid = (here + flow.permute(0, 2, 3, 1)) / size * 2 - 1
    return F.grid_sample(frame, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _grey(squared: Tensor) -> Tensor:
    return GREY_LEVELS * squared.sqrt()
