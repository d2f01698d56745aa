"""Colour photographs that come with scikit-image, scikit-learn and matplotlib: nothing is downloaded or copied.

Twelve pictures of eleven scenes, about 5.6 megapixels: enough to see artifacts in short runs, too few for a good VAE.
They are found through the packages' folders, without importing the packages.

The split is by scene. The held-out pictures show a face and saturated cloth (astronaut, PNG), wood grain beside smooth
gradients (coffee, PNG), fine architecture under a plain sky (china, JPEG) and saturated petals on a dark blur (flower,
JPEG). Training uses the other eight; the two of the motorcycle are a stereo pair.
"""

from ablate.components.data._packages import packaged_file
from ablate.data.picture import PictureFile
from ablate.data.prepare import check_pictures
from ablate.slots import DataSettings, Picture, Split

PACKAGES = {
    "skimage": ("scikit-image", "data"),
    "sklearn": ("scikit-learn", "datasets/images"),
    "matplotlib": ("matplotlib", "mpl-data/sample_data"),
}
"""Package -> what pip calls it, and the folder of its pictures."""


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
    files = []
    for package, file in PHOTOS[split]:
        distribution, folder = PACKAGES[package]
        files.append(packaged_file("photos", package, distribution, f"{folder}/{file}"))
    return [Picture(path.stem, PictureFile(path), path) for path in files]
