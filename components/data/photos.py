"""Colour photographs that come with scikit-image, scikit-learn and matplotlib: nothing is downloaded or copied.

Twelve pictures of eleven scenes, about 5.6 megapixels: enough to see artifacts in short runs, too few for a good VAE.
They are found through the packages' folders, without importing the packages.

The split is by scene. The held-out pictures show a face and saturated cloth (astronaut, PNG), wood grain beside smooth
gradients (coffee, PNG), fine architecture under a plain sky (china, JPEG) and saturated petals on a dark blur (flower,
JPEG). Training uses the other eight; the two of the motorcycle are a stereo pair.
"""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ablate.data.prepare import check_pictures, read_rgb
from ablate.slots import DataSettings, Picture, Split

FOLDERS = {"skimage": "data", "sklearn": "datasets/images", "matplotlib": "mpl-data/sample_data"}


PHOTOS: dict[Split, list[tuple[str, str]]] = {
    "train": [
        ("skimage", "chelsea.png"),
        ("skimage", "hubble_deep_field.jpg"),
        ("skimage", "ihc.png"),
        ("skimage", "motorcycle_left.png"),
        ("skimage", "motorcycle_right.png"),
        ("skimage", "retina.jpg"),
        ("skimage", "rocket.jpg"),
        ("matplotlib", "grace_hopper.jpg"),
    ],
    "heldout": [
        ("skimage", "astronaut.png"),
        ("skimage", "coffee.png"),
        ("sklearn", "china.jpg"),
        ("sklearn", "flower.jpg"),
    ],
}


class Config(DataSettings):
    """No settings beyond the shared ones."""

    def preflight(self) -> None:
        """Raise ValueError if a package or one of its files is missing, or a photograph is too small."""
        check_pictures("photos", self)


def build(config: Config, split: Split) -> list[Picture]:
    """The photographs of a split. Raises ValueError naming the package that lacks a file."""
    files = [_find(package, file) for package, file in PHOTOS[split]]
    return [Picture(path.stem, partial(read_rgb, path), path) for path in files]


def _find(package: str, file: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"data/photos needs {file} of the package {package}, which is not installed")
    path = Path(spec.submodule_search_locations[0]) / FOLDERS[package] / file
    if not path.is_file():
        raise ValueError(f"data/photos: this version of {package} does not contain {FOLDERS[package]}/{file}")
    return path
