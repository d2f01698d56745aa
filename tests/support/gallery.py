"""The pictures of `docs/artifacts.md`: a good model, the same with a planted defect, and the difference.

`python -m tests.support.gallery` draws them into docs/artifacts/.
"""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ablate.components.shared.measure import GREY_LEVELS
from tests.support import planted
from tests.support.planted import Defect, good, photographs

FOLDER = Path(__file__).parents[2] / "docs" / "artifacts"

SHOWN: dict[str, tuple[Defect, int, float]] = {
    "grid": (planted.lines(2), 2, 24),
    "blur": (planted.blur(1.2), 6, 4),
    "color": (planted.tint(2), 2, 8),
    "border": (planted.frame(1), 4, 4),
    "droplet": (planted.blob(0.6), 0, 1),
}
"""Name -> the defect, which photograph, and the factor of the difference."""

GAP = 4
"""Width of the white between panels, in px."""


def panels(defect: Defect, photograph: int, factor: float) -> Tensor:
    """`3 128 w` in [0, 1]: the good model's output, that with the defect, and half grey plus the difference."""
    photographs_shown = photographs()[photograph : photograph + 1] * 2 - 1
    clean, spoilt = (good(which).decode(photographs_shown)[0] / 2 + 0.5 for which in (planted.none(0), defect))
    white = torch.ones(3, clean.shape[1], GAP)
    difference = 0.5 + factor * (spoilt - clean)
    return torch.cat([clean, white, spoilt, white, difference], 2).clamp(0, 1)


def draw(folder: Path) -> None:
    """A PNG for each defect, twice as large as its pixels."""
    folder.mkdir(exist_ok=True)
    for name, (defect, photograph, factor) in SHOWN.items():
        pixels = (panels(defect, photograph, factor) * GREY_LEVELS).round().byte().permute(1, 2, 0).numpy()
        image = Image.fromarray(pixels)
        larger = image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST)
        larger.save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    draw(FOLDER)
