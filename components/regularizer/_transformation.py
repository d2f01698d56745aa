"""The random downscaling and rotation of an equivariance term, the same for a whole batch."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from ablate.slots import SeedOf


@dataclass(frozen=True)
class Transformation:
    """A downscaling and a rotation, with two random numbers for the caller's decisions.

    `side`: of the reduced latents. `quarters`: right angles to rotate by, 1 to 3. `chances`: two numbers in [0, 1).
    """

    side: int
    quarters: int
    chances: tuple[float, float]

    @classmethod
    def draw(cls, side: int, least: float, seed_of: SeedOf) -> Self:
        """Draw one for latents of `side` positions; the new side is uniform from `least` of it (or 1) to side - 1.

        Depends on the step's seed alone. Raises ValueError for latents of one position, which cannot be reduced.
        """
        if side < 2:
            raise ValueError("latents of one position cannot be reduced: use larger crops")
        first, second, scale, angle = np.random.default_rng(seed_of("transformation")).random(4).tolist()
        smallest = min(side - 1, max(1, math.ceil(least * side)))
        return cls(smallest + int(scale * (side - smallest)), 1 + int(3 * angle), (first, second))
