"""Pictures of an artifact: what each treatment makes of the same crop, and the artifact of a metric alone."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ablate.analysis.figures.style import COLUMN, Panel, fold
from ablate.analysis.study_results import StudyResults
from ablate.analysis.typeset.cells import numeral, unit
from ablate.plan.planned import judged_by
from ablate.slots.settings import Metric
from ablate.store.stage import StageFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Pixels = NDArray[np.uint8]

SHEET_FILE = "reconstruction.png"
"""File of the probe `reconstruction`: sources on the left, reconstructions on the right, a square per picture."""

ALONE = (
    ("grid/const", "grid_constant_x", "pattern on a constant colour"),
    ("grid/", "grid_natural_x", "pattern that pictures share"),
    ("droplet/", "droplet_worst_x", "low-pass error of the worst picture"),
    ("", "error_x", "absolute error"),
)
"""Start of a metric's name, of the name of the picture that shows what it measures, and that picture in words."""

ACROSS = 4
"""Pictures beside each other if there are more than `ROW`."""

ROW = 5
"""Most pictures in a single row."""

PERIODS = 6
"""Periods of a grid's pattern that are drawn beside each other."""

MOST = 15
"""Most treatments in one figure."""

STEP = 1.05
"""From one picture to the next, in widths of a picture."""

LINE = 0.13
"""Height of a line of text, in the same."""

CAPTION = 0.45
"""Height of the lines below all pictures, in the same."""

NAME = 15
"""Characters of a treatment's name in a line."""


@dataclass(frozen=True)
class Shot:
    """A trial's pictures: crops and reconstructions `n s s 3`, the artifact alone `m s s 3` (of each, or one).

    `gain`: the factor that the artifact is drawn with.
    """

    sources: Pixels
    reconstructions: Pixels
    alone: Pixels
    gain: str


@dataclass(frozen=True)
class Tile:
    """What is drawn of a treatment: its lines of text and the pictures below them."""

    text: str
    pictures: tuple[Pixels, ...]


def before_and_after(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """The source, then each treatment that is judged by the metric: reconstruction above, artifact alone below.

    All are of the first seed of which every treatment has pictures, and of the crop in which they differ most. Raises
    ValueError if there is no such seed, and for more than `MOST` treatments.
    """
    (name,) = metrics or (results.study.primary,)
    metric = results.study.metrics[name]
    prefix, alone = next((file, words) for start, file, words in ALONE if name.startswith(start))
    labels = _judged(results, name)
    seed, shots = _shots(results, labels, prefix)

    crop = int(np.stack([shot.reconstructions for shot in shots]).astype(float).std(0).mean((1, 2, 3)).argmax())
    tiles = [Tile("source", (shots[0].sources[crop],))]
    for label, shot in zip(labels, shots, strict=True):
        title = results.names.treatment(label).replace("=", " ")
        text = "\n".join([*fold(title, NAME), _value(results, label, metric)])
        tiles.append(Tile(text, (shot.reconstructions[crop], shot.alone[min(crop, len(shot.alone) - 1)])))

    across = len(tiles) if len(tiles) <= ROW else ACROSS
    above = LINE * max(tile.text.count("\n") + 2 for tile in tiles)
    bottom = math.ceil(len(tiles) / across) * (2 * STEP + above) - above
    below = f"Seed {seed}; the crop in which treatments differ most. Lower row:\n{alone}, × {shots[0].gain}."

    def draw(axes: "Axes") -> None:
        axes.set_axis_off()
        for i, tile in enumerate(tiles):
            x = (i % across) * STEP
            y = (i // across) * (2 * STEP + above)
            axes.text(x + 0.5, y - 0.05, tile.text, ha="center", va="bottom", fontsize=5)
            for picture in tile.pictures:
                axes.imshow(picture, extent=(x, x + 1, y + 1, y), interpolation="nearest")
                y += STEP
        axes.set_xlim(0, across * STEP)
        axes.set_ylim(bottom + CAPTION, -above)
        axes.text(0, bottom + 0.05, below, fontsize=6, va="top")

    return [Panel("", (bottom + CAPTION + above) * COLUMN / across / STEP, draw)]


def _judged(results: StudyResults, name: str) -> list[str]:
    """The baseline, then the treatments that are judged by this metric; all of them if none is.

    References other than the baseline are listed before what is compared with them.
    """
    treatments = results.treatments
    judged = judged_by(results.study, list(treatments.values()))
    of_metric = [label for label, one in treatments.items() if not one.is_baseline and judged[label] == name]
    labels: dict[str, None] = {}
    for label in of_metric or treatments:
        reference = treatments[label].reference
        labels |= dict.fromkeys([*([reference] if reference in treatments else []), label])
    if len(labels) > MOST:
        raise ValueError(f"kind 'pictures' shows at most {MOST} treatments, found {len(labels)} judged by {name}")
    return list(labels)


def _shots(results: StudyResults, labels: list[str], prefix: str) -> tuple[int, list[Shot]]:
    """The first seed of which all treatments have pictures, and these."""
    folders = {
        (label, trial.seed): results.store.stage(trial.signature) for label in labels for trial in results.of(label)
    }
    shots = {key: _shot(folder, prefix) for key, folder in folders.items()}
    for seed in dict.fromkeys(seed for _, seed in folders):
        of_seed = [shot for label in labels if (shot := shots.get((label, seed)))]
        if len(of_seed) == len(labels):
            return seed, of_seed
    without = next((label for label in labels if not any(shots.get(key) for key in shots if key[0] == label)), None)
    raise ValueError(
        f"kind 'pictures' needs {SHEET_FILE} and {prefix}….png of every treatment, of one seed; "
        + (f"'{without}' has none" if without else "there is no such seed yet")
        + "; they are written by the probes reconstruction, grid and droplet"
    )


def _shot(folder: StageFolder, prefix: str) -> Shot | None:
    """The pictures of a trial; None if it lacks one."""
    sheet = folder.pictures / SHEET_FILE
    alone = next(iter(folder.pictures.glob(f"{prefix}*.png")), None)
    if alone is None or not sheet.exists():
        return None
    pixels = _pixels(sheet)
    side = pixels.shape[1] // 2
    sources, reconstructions = (_squares(pixels[:, start : start + side]) for start in (0, side))
    artifact = _pixels(alone)
    if prefix.startswith("grid_"):  # one period
        artifact = np.tile(artifact, (PERIODS, PERIODS, 1))
    return Shot(sources, reconstructions, _squares(artifact), alone.stem.removeprefix(prefix))


def _squares(column: Pixels) -> Pixels:
    """Squares below each other, `n*s s 3`, as `n s s 3`."""
    side = column.shape[1]
    return column.reshape(-1, side, side, 3)


def _pixels(path: Path) -> Pixels:
    with path.open("rb") as file, Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _value(results: StudyResults, label: str, metric: Metric) -> str:
    """The mean of the metric over the treatment's seeds, with its unit."""
    return f"{numeral(results.effect(label, metric.name).mean, metric.decimals)} {unit(metric)}".rstrip()
