"""PatchGAN: a convolutional critic with one logit for each overlapping patch, trained with the hinge loss.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017 (arXiv 1611.07004, section 3.2.2
and appendix 6.1); in autoencoders since Esser et al., 2021 (arXiv 2012.09841). Pads with zeros always.
"""

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.registry import Settings
from ablate.slots import Discriminator

MAX_MULTIPLE = 8


class Config(Settings):
    """`width`: channels of the first layer, doubled by each later one up to eightfold.

    `layers`: how often the size halves.
    """

    width: PositiveInt = 64
    layers: PositiveInt = 3


def build(config: Config) -> Discriminator:
    return PatchGAN(config.width, config.layers)


class PatchGAN(Discriminator):
    """4 x 4 convolutions: `layers` of stride 2, then two of stride 1; batch norm in all but the first and the last."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        widths = [width * min(2**i, MAX_MULTIPLE) for i in range(layers + 1)]
        blocks: list[nn.Module] = [Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            blocks += [
                Conv2d(widths[i - 1], widths[i], 4, stride=stride, padding=1, bias=False),
                BatchNorm2d(widths[i]),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*blocks, Conv2d(widths[-1], 1, 4, padding=1))
        self.smallest = 3 * 2**layers

    def forward(self, x: Tensor) -> Tensor:
        """Images `b 3 h w` in [-1, 1] to logits `b 1 h/2^layers - 2 w/2^layers - 2` (rounded down).

        Raises ValueError when h or w is too small to leave a logit.
        """
        height, width = x.shape[-2:]
        if min(height, width) < self.smallest:
            raise ValueError(
                f"discriminator: patchgan needs pictures of {self.smallest} pixels or more, got {height} x {width} "
                "(h x w); crop larger or set fewer discriminator.layers"
            )
        logits: Tensor = self.layers(x)
        return logits

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Hinge loss with the half (Lim and Ye, 2017, arXiv 1705.02894): 1 for a critic that cannot tell them apart."""
        return 0.5 * (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean())


class Conv2d(nn.Conv2d):
    """Weights from N(0, 0.02), as Isola et al. draw them."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.weight, 0.0, 0.02)


class BatchNorm2d(nn.BatchNorm2d):
    """Weights from N(1, 0.02), as Isola et al. draw them."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.weight, 1.0, 0.02)
