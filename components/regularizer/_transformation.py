"""The random reduction and rotation that equivariance to both is asked under, the same for a whole batch."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from ablate.slots import SeedOf


@dataclass(frozen=True)
class Transformation:
    """`side`: of the reduced latents. `quarters`: right angles to turn by, 1 to 3. `chances`: two numbers in [0, 1)."""

    side: int
    quarters: int
    chances: tuple[float, float]

    @classmethod
    def draw(cls, side: int, least: float, seed_of: SeedOf) -> Self:
        """For latents of `side` places: a new side, uniform from `least` of it (at least 1) to one less than it.

        A function of the step's seed alone. Raises ValueError for latents of one place, which cannot be reduced.
        """
        if side < 2:
            raise ValueError("latents of one place cannot be reduced: crop larger")
        first, second, scale, angle = np.random.default_rng(seed_of("transformation")).random(4).tolist()
        smallest = min(side - 1, max(1, math.ceil(least * side)))
        return cls(smallest + int(scale * (side - smallest)), 1 + int(3 * angle), (first, second))
