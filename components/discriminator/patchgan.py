"""PatchGAN: a convolutional critic with one logit for each overlapping patch.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017 (arXiv 1611.07004, section 3.2.2
and appendix 6.1); used in autoencoders since Esser et al., 2021 (arXiv 2012.09841). It always pads with zeros.

With `clips` its convolutions see three frames, as in the 3D PatchGANs of video autoencoders: the first looks at each
frame and its neighbours, and the later ones halve the number of frames wherever they halve the size.
"""

from typing import Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.slots import Discriminator, DiscriminatorSettings, added

MAX_MULTIPLE = 8
"""Layers are at most this many times as wide as the first."""


DECAY = 0.99
"""Decay of LeCam's moving averages, as its authors set it."""


class Config(DiscriminatorSettings):
    """`width`: channels of the first layer; each later layer doubles them, up to eightfold.

    `layers`: how often the size halves.
    `loss`: the loss of both sides, with logits D, real x, reconstructed y. The critic minimises
    (E relu(1 - D(x)) + E relu(1 + D(y))) / 2 for `hinge` (Lim and Ye, 2017, arXiv 1705.02894), otherwise
    (E softplus(-D(x)) + E softplus(D(y))) / 2. The autoencoder minimises E softplus(-D(y)) for `non_saturating`
    (Goodfellow et al., 2014, arXiv 1406.2661, section 3), otherwise -E D(y). `vanilla` is as in latent diffusion.
    `lecam`: the weight of LeCam regularisation, see `LeCam`; 0 turns it off, Open-MAGVIT2 (arXiv 2409.04410) uses 0.05.
    `start`: the step of the trial, counted over all stages, after which the discriminator trains.
    `clips`: judge clips, with 3 x 4 x 4 convolutions instead of 4 x 4.
    """

    width: PositiveInt = 64
    layers: PositiveInt = 3
    loss: Literal["hinge", "vanilla", "non_saturating"] = added("hinge", absent_means="hinge")
    lecam: NonNegativeFloat = added(0.0, absent_means=0.0)
    start: NonNegativeInt = added(0, absent_means=0)
    clips: bool = added(False, absent_means=False)

    @property
    def shortest(self) -> int:
        """Frames of the shortest clip that it accepts; 1 if it judges pictures."""
        return 2 if self.clips else 1

    @property
    def smallest(self) -> int:
        """Side in px of the smallest picture that gives a logit."""
        return 3 << self.layers


def build(config: Config) -> Discriminator:
    return PatchGAN(config)


class PatchGAN(Discriminator):
    """4 x 4 convolutions: `layers` of stride 2, then two of stride 1; batch norm in all but the first and the last."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        layers = config.layers
        widths = [width * min(2**i, MAX_MULTIPLE) for i in range(layers + 1)]

        def conv(before: int, after: int, stride: int, *, bias: bool = True) -> nn.Module:
            if not config.clips:
                return Conv2d(before, after, 4, stride=stride, padding=1, bias=bias)
            in_time = 1 if before == 3 else stride
            return Conv3d(before, after, (3, 4, 4), stride=(in_time, stride, stride), padding=1, bias=bias)

        norm = BatchNorm3d if config.clips else BatchNorm2d
        blocks: list[nn.Module] = [conv(3, width, 2), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            blocks += [conv(widths[i - 1], widths[i], stride, bias=False), norm(widths[i]), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*blocks, conv(widths[-1], 1, 1))
        self.smallest = config.smallest
        self.game = config.loss
        self.lecam = LeCam(config.lecam) if config.lecam else None

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images or clips in [-1, 1].

        Images `b 3 h w` give `b 1 h/2^layers - 2 w/2^layers - 2` (rounded down), clips `b 3 t h w` give
        `b 1 t/2^(layers - 1) ...` (rounded up). Raises ValueError when h or w is too small to give a logit.
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
        """The critic's loss; updates LeCam's averages in training.

        A critic that cannot tell real from fake has a loss of 1 for `hinge`, of log 2 otherwise.
        """
        if self.game == "hinge":
            loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        else:
            loss = 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
        return loss if self.lecam is None else loss + self.lecam(real, fake)

    def generator_loss(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean() if self.game == "non_saturating" else -fake.mean()


class LeCam(nn.Module):
    """weight * (E relu(D(x) - a_fake)^2 + E relu(a_real - D(y))^2), with moving averages a of the mean logits.

    Keeps a critic trained on few pictures from growing ever more certain. Tseng et al., "Regularizing Generative
    Adversarial Networks under Limited Data", 2021 (arXiv 2104.03310, equation 4). The equation has no relu; the
    authors' code has, so that the term is 0 while fakes still score higher than real pictures.
    """

    averages: Tensor

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        # averages of the real logits, of the fake ones, and of 1; dividing by the last corrects for their start at 0
        self.register_buffer("averages", torch.zeros(3))

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted term, a scalar, for logits of any shape. In training, first adds the batch to the averages."""
        if self.training:
            with torch.no_grad():
                batch = torch.stack([real.mean(), fake.mean(), real.new_ones(())])
                self.averages.lerp_(batch, 1 - DECAY)
        anchor_real, anchor_fake = self.averages[:2] / self.averages[2].clamp(min=1 - DECAY)
        return self.weight * (F.relu(real - anchor_fake).square().mean() + F.relu(anchor_real - fake).square().mean())


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


class Conv3d(nn.Conv3d):
    """Weights from N(0, 0.02), as in `Conv2d`."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.weight, 0.0, 0.02)


class BatchNorm3d(nn.BatchNorm3d):
    """Weights from N(1, 0.02), as in `BatchNorm2d`."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.weight, 1.0, 0.02)
