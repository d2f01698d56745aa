"""PatchGAN: a convolutional critic with one logit for each overlapping patch.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017 (arXiv 1611.07004, section 3.2.2
and appendix 6.1); in autoencoders since Esser et al., 2021 (arXiv 2012.09841). Pads with zeros always.

With `clips` its convolutions see three frames, as in the 3D PatchGANs of video autoencoders: the first looks at each
frame and its neighbours, those after it halve the number of frames where they halve the size.
"""

from typing import Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.slots import Discriminator, DiscriminatorSettings, added

MAX_MULTIPLE = 8


DECAY = 0.99
"""Of LeCam's moving averages, as its authors set it."""


class Config(DiscriminatorSettings):
    """`width`: channels of the first layer, doubled by each later one up to eightfold.

    `layers`: how often the size halves.
    `loss`: both sides of the game, D for logits, x real, y reconstructed. The critic minimises, for `hinge`,
    (E relu(1 - D(x)) + E relu(1 + D(y))) / 2 (Lim and Ye, 2017, arXiv 1705.02894), otherwise
    (E softplus(-D(x)) + E softplus(D(y))) / 2; the autoencoder minimises -E D(y), for `non_saturating`
    E softplus(-D(y)) (Goodfellow et al., 2014, arXiv 1406.2661, section 3). `vanilla` is as in latent diffusion.
    `lecam`: the weight of LeCam regularisation, see `LeCam`; 0 is off, Open-MAGVIT2 (arXiv 2409.04410) has 0.05.
    `start`: the step of the trial, counted over all stages, after which the discriminator trains.
    `clips`: judge clips, by 3 x 4 x 4 convolutions in place of 4 x 4 ones.
    """

    width: PositiveInt = 64
    layers: PositiveInt = 3
    loss: Literal["hinge", "vanilla", "non_saturating"] = added("hinge", absent_means="hinge")
    lecam: NonNegativeFloat = added(0.0, absent_means=0.0)
    start: NonNegativeInt = added(0, absent_means=0)
    clips: bool = added(False, absent_means=False)

    @property
    def shortest(self) -> int:
        """Frames of the shortest clip; 1 where it judges pictures."""
        return 2 if self.clips else 1

    @property
    def smallest(self) -> int:
        """Side in px of the smallest picture that leaves a logit."""
        return 3 << self.layers


def build(config: Config) -> Discriminator:
    return PatchGAN(config)


class PatchGAN(Discriminator):
    """4 x 4 convolutions: `layers` of stride 2, then two of stride 1; batch norm in all but the first and the last."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, layers = config.width, config.layers
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
        """Images `b 3 h w` in [-1, 1] to logits `b 1 h/2^layers - 2 w/2^layers - 2` (rounded down).

        Clips `b 3 t h w` to logits `b 1 t/2^(layers - 1) ...` (rounded up).

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
        """1 for a hinge critic that cannot tell them apart, log 2 otherwise. Moves LeCam's averages in training."""
        if self.game == "hinge":
            loss = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        else:
            loss = 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())
        return loss if self.lecam is None else loss + self.lecam(real, fake)

    def generator_loss(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean() if self.game == "non_saturating" else -fake.mean()


class LeCam(nn.Module):
    """weight * (E relu(D(x) - a_fake)^2 + E relu(a_real - D(y))^2), with moving averages a of the mean logits.

    Keeps a critic of few pictures from growing ever surer. Tseng et al., "Regularizing Generative Adversarial Networks
    under Limited Data", 2021 (arXiv 2104.03310, equation 4). The equation has no relu; the authors' code has, so that
    nothing pulls while the fakes still score higher than the real ones.
    """

    averages: Tensor

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        # of the real logits, of the fake ones, and of 1: divided by the last, the averages forget that they began at 0
        self.register_buffer("averages", torch.zeros(3))

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Takes this batch into the averages first, but in training only. Logits in, of any shape; a scalar out."""
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
    """As `Conv2d`."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.weight, 0.0, 0.02)


class BatchNorm3d(nn.BatchNorm3d):
    """As `BatchNorm2d`."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.weight, 1.0, 0.02)
