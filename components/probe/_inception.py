"""The Inception network that defines FID, with weights from a file.

Heusel et al., 2017 (arXiv 1706.08500), as ported by pytorch-fid (`pt_inception-2015-12-05-6726825d.pth`, a state
dict). It differs from torchvision's Inception v3 in the pooled branch of nine blocks: means exclude the padding, and
the last block takes maxima. torch-fidelity's `weights-inception-2015-12-05-6726825d.pth` is the same network, for which
pictures are prepared differently: `FidelityInception`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEANS = ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b")
"""Blocks whose pooled branch takes means."""


SIDE = 299  # px


class Inception(nn.Module):
    """Features `n 2048` of pictures `n 3 h w` in [0, 1]."""

    size = 2048

    def __init__(self, file: Path, setting: str) -> None:
        """Raises ValueError, beginning with the name of the setting, if the file does not hold the weights."""
        super().__init__()
        import torchvision

        self.network = torchvision.models.inception_v3(
            weights=None, num_classes=1008, aux_logits=False, init_weights=False
        )
        for name in MEANS:
            pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
            replace_pool(getattr(self.network, f"Mixed_{name}"), pool)
        replace_pool(self.network.Mixed_7c, partial(F.max_pool2d, kernel_size=3, stride=1, padding=1))
        try:
            weights = torch.load(file, map_location="cpu", weights_only=True)
            self.network.load_state_dict(weights)
        except Exception as error:  # unpickling and loading raise many types
            reason = str(error).splitlines()[:2][-1].strip()
            raise ValueError(f"{setting}: {file} does not hold pytorch-fid's Inception: {reason}") from error
        self.network.fc = nn.Identity()
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
        features: Tensor = self.network(2 * x - 1)
        return features


class FidelityInception(Inception):
    """Features as torch-fidelity 0.4 computes them.

    Pictures are rounded to 8 bits and resized as TensorFlow 1 did: pixel i of the result is read at i · h / 299 of the
    picture, without the half pixel that others add. 128 becomes 0, in place of 127.5.
    """

    def forward(self, x: Tensor) -> Tensor:
        levels = (x * 255).round().clamp(0, 255)
        down, across = (_read_at(side, SIDE).to(levels) for side in levels.shape[2:])
        features: Tensor = self.network((down @ levels @ across.T - 128) / 128)
        return features


def _read_at(before: int, after: int) -> Tensor:
    """Weights `after before` of linear interpolation at i · before / after; nothing lies beyond the last pixel."""
    place = torch.arange(after) * (before / after)
    low = place.floor().long()
    weights = torch.zeros(after, before)
    weights[torch.arange(after), low] += 1 - (place - low)
    weights[torch.arange(after), (low + 1).clamp(max=before - 1)] += place - low
    return weights


def replace_pool(block: nn.Module, pool: Callable[[Tensor], Tensor]) -> None:
    """Give the convolution after a block's pooling the block's input pooled by `pool` instead."""
    block_inputs: list[Tensor] = []
    block.register_forward_pre_hook(lambda _, inputs: block_inputs.append(inputs[0]))
    block.branch_pool.register_forward_pre_hook(lambda _, inputs: (pool(block_inputs.pop()),))  # type: ignore[union-attr]
