"""Pictures to train on and to examine with: here smooth random colours, drawn anew from a seed.

Say here what the pictures are and where they come from.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from ablate.slots import DataSettings, Picture, Pixels, Split


# DataSettings brings crop, resize, resize_to, flip, heldout_size and heldout_count, which every data level has.
class Config(DataSettings):
    """`count`: training pictures. `size`: their side in px. `seed`: what they are drawn from."""

    count: PositiveInt = 64
    size: PositiveInt = 128
    seed: NonNegativeInt = 0

    def preflight(self) -> None:
        """Raise ValueError if something is missing, such as a folder: it is then said before a sweep starts."""
        if self.size < max(self.crop, self.heldout_size):
            raise ValueError(f"data/starter: size ({self.size} px) is smaller than crop or heldout_size")


def build(config: Config, split: Split) -> Iterator[Picture]:
    """The pictures of "train" or "heldout", each with a name of its own and a function that loads it."""
    for index in range(config.count if split == "train" else config.heldout_count):
        # What a picture shows depends on its key alone, so it is the same each time it is loaded.
        key = (config.seed, int(split == "heldout"), index)
        yield Picture(f"{split}_{index:05d}", partial(draw, key, config.size))


def draw(key: tuple[int, ...], size: int) -> Pixels:
    """A picture `h w 3` uint8. For files: `ablate.data.prepare.read_rgb(path)`, and give `Picture` their `path` too."""
    rng = np.random.default_rng(key)
    coarse = rng.integers(0, 256, (4, 4, 3)).astype(np.float64)
    where = np.linspace(0, 3, size)
    rows = np.stack([np.interp(where, range(4), line) for line in coarse.transpose(1, 2, 0).reshape(-1, 4)])
    columns = rows.reshape(4, 3, size).transpose(2, 1, 0).reshape(-1, 4)
    pixels = np.stack([np.interp(where, range(4), line) for line in columns]).reshape(size, 3, size)
    return pixels.transpose(0, 2, 1).round().astype(np.uint8)
