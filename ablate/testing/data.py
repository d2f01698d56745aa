"""The exam of the slot data."""

from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from ablate.data.resize import reduced_shape
from ablate.slots import SPLITS, ClipSettings, Picture, Split
from ablate.testing import checks
from ablate.testing.exam import Exam, Missing, point

LOADED = 2
"""How many pictures of each split are loaded; of videos, which take longer, one."""


Loaded = list[tuple[Any, Split, Picture, Any]]
"""Settings, split, picture and pixels."""


class DataExam(Exam):
    """What a data level must fulfil: `build(config, split)` gives the `Picture`s of a split."""

    slot = "data"
    signature = "build(config, split)"

    def arguments(self, config: Any) -> tuple[Any, ...]:
        return ("train",)

    def pictures(self, config: Any, split: Split, count: int | None = None) -> list[Picture]:
        """The pictures of a split, all or the first few."""
        module = self.module
        return list(islice(module.build(module.Config.read(config.plain()), split), count))

    @cached_property
    def loaded(self) -> Loaded:
        """The first pictures of each split."""
        return self.load()

    def load(self) -> Loaded:
        """The first pictures of each split, loaded now."""
        found: Loaded = []
        for settings in self.all_settings:
            config = self.read(settings)
            for split in SPLITS:
                count = 1 if isinstance(config, ClipSettings) else LOADED
                found += [(config, split, one, one.load()) for one in self.pictures(config, split, count)]
        return found

    def test_preflight(self) -> None:
        """preflight passes: what the settings point at is there"""
        for settings in self.all_settings:
            self.read(settings).preflight()

    @point
    def test_splits(self, _: Any) -> None:
        """both splits have pictures, with names of their own"""
        for settings in self.all_settings:
            config = self.read(settings)
            names = {split: [one.name for one in self.pictures(config, split)] for split in SPLITS}
            for split, own in names.items():
                if not own:
                    raise Missing(f"the split '{split}' has no pictures")
                if twice := {name for name in own if own.count(name) > 1}:
                    raise Missing(f"the split '{split}' has two pictures named {min(twice)!r}")
            if both := set(names["train"]) & set(names["heldout"]):
                raise Missing(f"{min(both)!r} is in both splits; held-out pictures are never trained on")

    def test_pixels(self) -> None:
        """pictures load as `h w 3` uint8, videos as `t h w 3`"""
        for config, split, picture, pixels in self.loaded:
            axes = 4 if isinstance(config, ClipSettings) else 3
            expected = "t h w 3" if axes == 4 else "h w 3"
            shape = checks.text(np.shape(pixels))
            if not isinstance(pixels, np.ndarray) or pixels.ndim != axes or pixels.shape[-1] != 3:
                raise Missing(f"{split} '{picture.name}': expected an array {expected}, found {shape}")
            if pixels.dtype != np.uint8:
                raise Missing(f"{split} '{picture.name}': expected uint8 from 0 to 255, found {pixels.dtype}")

    def test_size(self) -> None:
        """pictures are as large, and videos as long, as crop, heldout_size and the lengths ask for"""
        for config, split, picture, pixels in self.loaded:
            height, width = pixels.shape[-3:-1]
            if split == "train":
                least, name = config.crop, "crop"
                height, width = reduced_shape(height, width, config.resize_to, config.resize)
                frames = config.clip_length
            else:
                least, name, frames = config.heldout_size, "heldout_size", config.heldout_length
            if min(height, width) < least:
                raise Missing(f"{split} '{picture.name}' is {height} x {width} (h x w), less than {name} {least}")
            if frames > 1 and len(pixels) < frames:
                raise Missing(f"{split} '{picture.name}' has {len(pixels)} frames, expected {frames} or more")

    def test_repeatable(self) -> None:
        """pictures are the same each time, and the global random state is left alone"""
        again = checks.random_state_kept(self.load, "loading a picture")
        for (_, split, picture, one), (_, _, repeated, other) in zip(self.loaded, again, strict=True):
            if picture.name != repeated.name or not np.array_equal(one, other):
                raise Missing(f"{split} '{picture.name}' differs when it is built and loaded again")

    def test_motion(self) -> None:
        """the motion of held-out clips, where it is known, has the clip's shape"""
        for _, split, picture, pixels in self.loaded:
            if split != "heldout" or picture.motion is None:
                continue
            motion = picture.motion()
            frames, height, width = pixels.shape[:3]
            for name, found, expected in (
                ("flow", motion.flow.shape, (2, frames - 1, height, width)),
                ("visible", motion.visible.shape, (frames - 1, height, width)),
            ):
                if found != expected:
                    what = f"expected {checks.text(expected)}, found {checks.text(found)}"
                    raise Missing(f"'{picture.name}': motion.{name}: {what}")
