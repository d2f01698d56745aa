"""Photographs, clips, fakes of autoencoders with one known defect each, and a small real one: for tests of probes."""

import functools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from skimage import data, transform
from torch import Tensor

from ablate.components.probe._spectrum import LUMA
from ablate.components.shared.dct import blocks_dct, inverse_blocks_dct
from ablate.components.shared.measure import GREY_LEVELS, gaussian_blur
from ablate.slots import registry
from ablate.slots.training import Autoencoder, Layers, Posterior

QUANTISATION = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)  # ITU-T T.81, table K.1: luminance


RISE = 2 * 1.2815516  # px from 10 to 90 % of a Gaussian step of sigma 1 px


Defect = Callable[[Tensor], Tensor]
"""Of images `n 3 h w` in about [0, 1]."""


@functools.cache
def photographs(side: int = 128, per_photograph: int = 2) -> Tensor:
    """Four photographs, each cut into squares of `side` px, `per_photograph` in a row: `n 3 side side` in [0, 1]."""
    squares = []
    for source in (data.astronaut(), data.chelsea(), data.coffee(), data.stereo_motorcycle()[0]):
        size = min(source.shape[:2])
        top, left = ((length - size) // 2 for length in source.shape[:2])
        square = source[top : top + size, left : left + size] / 255
        squares.append(transform.resize(square, (side * per_photograph,) * 2, order=3, anti_aliasing=True))
    images = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).clamp(0, 1).float()
    tiles = images.reshape(4, 3, per_photograph, side, per_photograph, side).permute(0, 2, 4, 1, 3, 5)
    return tiles.reshape(-1, 3, side, side)


class Fake(Autoencoder):
    """An autoencoder whose round trip is a given function of images in [0, 1]."""

    stride = 8
    latent_channels = 3

    def __init__(self, round_trip: Defect) -> None:
        super().__init__()
        self.round_trip = round_trip

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(x, torch.zeros_like(x))

    def decode(self, z: Tensor) -> Tensor:
        return self.round_trip(z / 2 + 0.5) * 2 - 1


class FakeVideo(Autoencoder):
    """A video autoencoder, 4 frames to a latent frame, whose round trip is a given function of clips in [0, 1]."""

    stride = 8
    temporal = True
    groups = 4
    latent_channels = 12

    def __init__(self, round_trip: Defect) -> None:
        super().__init__()
        self.round_trip = round_trip

    def encode(self, x: Tensor) -> Posterior:
        clip = x if x.ndim == 5 else x.unsqueeze(2)
        padded = torch.cat([clip[:, :, :1].expand(-1, -1, 3, -1, -1), clip], 2)
        latent = padded.unflatten(2, (-1, 4)).transpose(2, 3).flatten(1, 2)
        return Posterior(latent, torch.zeros_like(latent))

    def decode(self, z: Tensor) -> Tensor:
        clip = z.unflatten(1, (3, 4)).transpose(2, 3).flatten(2, 3)[:, :, 3:]
        return self.round_trip(clip / 2 + 0.5) * 2 - 1


def each_frame(defect: Defect) -> Defect:
    """A defect of images in each frame of clips."""
    return lambda y: torch.stack([defect(frame) for frame in y.unbind(2)], 2)


def panned(frames: int, side: int = 32, step: int = 1) -> Tensor:
    """Clips `16 3 frames side side` of windows that move over the photographs, `step` px a frame down and across."""
    source = photographs(side + step * (frames - 1))
    starts = [step * frame for frame in range(frames)]
    return torch.stack([source[..., at : at + side, at : at + side] for at in starts], 2)


def good(defect: Defect) -> Fake:
    """A good model, followed by a defect. It blurs by 0.55 px and adds 2 gl of noise, but none to one colour."""
    generator = torch.Generator().manual_seed(0)

    def round_trip(x: Tensor) -> Tensor:
        has_detail = (x.amax((2, 3), keepdim=True) - x.amin((2, 3), keepdim=True) > 1e-6).to(x)
        noise = torch.randn(x.shape, generator=generator) * 2 / GREY_LEVELS
        return defect(blurred(x, 0.55) + has_detail * noise)

    return Fake(round_trip)


def blurred(y: Tensor, sigma: float) -> Tensor:
    radius = round(4 * sigma)
    return gaussian_blur(F.pad(y, [radius] * 4, mode="reflect"), sigma, radius)


def image_kl() -> Autoencoder:
    """The real model, small, at its random initial weights: stride 4, reflect padding, resize-conv."""
    parts = Layers(
        padding=registry.build("padding", "reflect", {}),
        norm=partial(registry.build, "norm", "scn", {"groups": 4}),
        upsample=partial(registry.build, "upsample", "nearest_conv", {}),
        downsample=partial(registry.build, "downsample", "strided_conv", {}),
    )
    torch.manual_seed(0)
    settings = {"channels": [8, 12, 16], "latent_channels": 4, "blocks": 1}
    vae: Autoencoder = registry.build("model", "image_kl", settings, parts, parts)
    return vae.eval()


def none(_: float) -> Defect:
    return lambda y: y


def blur(sigma: float) -> Defect:
    return lambda y: blurred(y, sigma)


def noise(strength: float) -> Defect:
    """White noise of sd `strength` gl, another draw each time."""
    generator = torch.Generator().manual_seed(1)
    return lambda y: y + torch.randn(y.shape, generator=generator) * strength / GREY_LEVELS


def tint(strength: float) -> Defect:
    """(3, 3, -5) gl at strength 1, a yellow."""
    return lambda y: y + strength * torch.tensor([3.0, 3.0, -5.0])[:, None, None] / GREY_LEVELS


def dots(peak: float) -> Defect:
    """A pixel raised by `peak` gl in every square of 4 px."""

    def defect(y: Tensor) -> Tensor:
        y = y.clone()
        y[..., ::4, ::4] += peak / GREY_LEVELS
        return y

    return defect


def lines(peak: float) -> Defect:
    """A row and a column raised by `peak` gl every 8 px."""

    def defect(y: Tensor) -> Tensor:
        y = y.clone()
        y[..., ::8, :] += peak / GREY_LEVELS
        y[..., :, ::8] += peak / GREY_LEVELS
        return y

    return defect


def checker(strength: float) -> Defect:
    """A checkerboard of period 2, `strength` gl on average, stronger where the image has detail, none on one colour."""

    def defect(y: Tensor) -> Tensor:
        grey = y.mean(1, keepdim=True)
        contrast = (blurred(grey * grey, 2.0) - blurred(grey, 2.0).square()).clamp(min=1e-6).sqrt() - 1e-3
        steps = torch.arange(y.shape[-1])
        signs = 1 - 2 * ((steps[:, None] + steps) % 2)
        return y + strength / GREY_LEVELS * signs * contrast / contrast.mean((2, 3), keepdim=True).clamp(min=0.01)

    return defect


def frame(strength: float) -> Defect:
    """The outer 8 px of whatever is decoded are blurred by 3 px; strength 1 is that blur in full."""

    def defect(y: Tensor) -> Tensor:
        outer = torch.ones(y.shape[-2:])
        outer[8:-8, 8:-8] = 0
        return torch.lerp(y, blurred(y, 3.0), strength * outer)

    return defect


def corners(depth: float) -> Defect:
    """Squares of 8 px in the corners of whatever is decoded are darker by `depth` gl."""

    def defect(y: Tensor) -> Tensor:
        steps = torch.arange(y.shape[-1])
        outer = torch.minimum(steps, steps.flip(0)) < 8
        return y - depth / GREY_LEVELS * (outer[:, None] & outer)

    return defect


def blob(height: float) -> Defect:
    """A bright spot of sigma 6 px in the centre."""

    def defect(y: Tensor) -> Tensor:
        profile = torch.exp(-0.5 * ((torch.arange(y.shape[-1]) - y.shape[-1] / 2) / 6).square())
        return y + height * profile[:, None] * profile

    return defect


def contrast(gain: float) -> Defect:
    """Contrast `gain` about mid-grey: 1 leaves the picture as it is, 0 leaves mid-grey."""
    return lambda y: 0.5 + gain * (y - 0.5)


def offset(strength: float) -> Defect:
    """All channels brighter by `strength` gl."""
    return lambda y: y + strength / GREY_LEVELS


def clipping(depth: float) -> Defect:
    """Shadows and highlights cut off: values within `depth` of 0 and of 1 are lost."""
    return lambda y: y.clamp(depth, 1 - depth)


def saturation(share: float) -> Defect:
    """Colours lose the share `share` of their distance to grey of the same luma; 1 leaves grey."""
    return lambda y: torch.lerp(y, (y * y.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True), share)


def hue(degrees: float) -> Defect:
    """Colours turned about the grey axis (r = g = b) by an angle."""
    angle = math.radians(degrees)
    grey = torch.full((3, 3), (1 - math.cos(angle)) / 3)
    side = math.sin(angle) / math.sqrt(3)
    turn = grey + torch.tensor([[0, -side, side], [side, 0, -side], [-side, side, 0]]) + math.cos(angle) * torch.eye(3)
    return lambda y: torch.einsum("ij,njhw->nihw", turn, y)


def blocks(strength: float) -> Defect:
    """JPEG's loss: 8 x 8 blocks, DCT, coefficients rounded to `strength` times the table of ITU-T T.81, K.1.

    Strength 1 is quality 50, 0.4 is 80, 2.5 is 20 (libjpeg's scale).
    """
    table = strength * torch.tensor(QUANTISATION, dtype=torch.float64)

    def defect(y: Tensor) -> Tensor:
        coefficients = blocks_dct(y.double() * GREY_LEVELS - 128, 8)
        pixels = inverse_blocks_dct((coefficients / table).round() * table)
        return ((pixels + 128) / GREY_LEVELS).float()

    return defect


def collapsed(share: float) -> Defect:
    """The picture blended with its mean colour; share 1 leaves the mean colour alone."""
    return lambda y: torch.lerp(y, y.mean((2, 3), keepdim=True).expand_as(y), share)
