"""PSNR and SSIM of a frozen VAE on a folder of pictures."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ablate.components.data._files import find_files
from ablate.components.data.folder import SUFFIXES
from ablate.components.shared import measure
from ablate.data.prepare import read_rgb
from ablate.data.resize import resize
from ablate.slots.data import Pixels
from ablate.slots.probe import Subject
from ablate.slots.training import Autoencoder


@dataclass(frozen=True)
class Scores:
    """PSNR (dB) and SSIM, means over `n` pictures.

    `per_image`: the values in the order of `names`. `skipped`: names of pictures that are too small.
    """

    psnr: float
    ssim: float
    n: int
    names: tuple[str, ...]
    per_image: dict[str, list[float]]
    skipped: tuple[str, ...]


def evaluate(vae: Autoencoder, folder: Path, size: int, device: torch.device, batch: int) -> Scores:
    """Reconstruct the `size` x `size` px centres of all pictures in a folder and its subfolders, `batch` at a time.

    Each is downscaled to a short side of `size` (Pillow's bicubic filter, antialiased); smaller ones are skipped, not
    enlarged. Reconstructions are of posterior means, in fp32, clamped to [0, 1]; both metrics are computed per picture,
    then averaged. Raises ValueError if the model's stride does not divide `size`, if no picture is left, and for a
    picture that cannot be read.
    """
    if size % vae.stride:
        raise ValueError(f"pictures of {size} px do not fit the model: not a multiple of its stride {vae.stride}")
    names, skipped = _pictures(folder, size)
    psnr = []
    ssim = []
    with torch.backends.cudnn.flags(
        enabled=True, deterministic=True, allow_tf32=False
    ):  # TF32 keeps 10 bits of the mantissa
        for pixels in _crops(folder, names, size, batch):
            x = torch.from_numpy(pixels).to(device).float() / 255
            y = measure.displayed(Subject(vae, x, batch).reconstruction)
            psnr += measure.psnr(x, y).tolist()
            ssim += measure.ssim(x, y).tolist()
    count = len(names)
    return Scores(sum(psnr) / count, sum(ssim) / count, count, names, {"psnr": psnr, "ssim": ssim}, skipped)


def _pictures(folder: Path, size: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the pictures that are large enough and of those that are too small, from their headers."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    names, _ = find_files(folder, SUFFIXES)
    large: list[str] = []
    small: list[str] = []
    for name in names:
        path = folder / name
        try:
            with Image.open(path) as image:
                (large if min(image.size) >= size else small).append(name)
        except Exception as error:  # decoders raise all kinds of errors for a damaged file
            raise ValueError(f"{path} is not readable ({type(error).__name__})") from error
    if not large:
        reason = f"; {len(names)} smaller ones are not enlarged" if names else f" ({', '.join(sorted(SUFFIXES))})"
        raise ValueError(f"{folder} holds no pictures of at least {size} px{reason}")
    return tuple(large), tuple(small)


def _crops(folder: Path, names: tuple[str, ...], size: int, batch: int) -> Iterator[Pixels]:
    """Yield centre crops `b 3 size size`, in order; the next batch is decoded while the last one is in use."""

    def crop(name: str) -> Pixels:
        try:
            pixels = resize(read_rgb(folder / name), size, "bicubic")
        except Exception as error:
            reason = str(error) if isinstance(error, ValueError) else f"not readable ({type(error).__name__})"
            raise ValueError(f"{folder / name} is {reason}") from error
        top, left = ((side - size) // 2 for side in pixels.shape[:2])
        return pixels[top : top + size, left : left + size].transpose(2, 0, 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead: list[Iterator[Pixels]] = []
        for first in range(0, len(names), batch):
            ahead.append(pool.map(crop, names[first : first + batch]))
            if len(ahead) > 1:
                yield np.stack(list(ahead.pop(0)))
        yield np.stack(list(ahead.pop()))
