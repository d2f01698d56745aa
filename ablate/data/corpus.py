"""Prepared pictures and clips: random training crops from a memory-mapped file, and fixed held-out crops."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from ablate.data.content import Content
from ablate.data.rejects import tally
from ablate.slots.data import Motion, Pixels


class Corpus:
    """The prepared pictures or clips of a data level.

    `heldout`: crops `n 3 s s`, or clips `n 3 t s s`. `motion`: that of the held-out clips, where it is known.
    `fingerprint`: content hash of names, sizes and pixels of both splits. `skipped`: names of damaged files that were
    left out. `converted`: how many files were not upright 8-bit RGB, by what they were. `content`: that of the files
    that the pixels are from; None for pictures without files.
    """

    fingerprint: str
    heldout: Pixels
    motion: Motion | None
    skipped: list[str]
    converted: Counter[str]

    def __init__(self, folder: Path, crop: int, flip: bool, frames: int = 1, content: Content | None = None) -> None:
        """Open what `prepare` wrote to `folder`.

        Raises ValueError if a training picture is smaller than the crop or shorter than `frames`.
        """
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        shapes = np.array(index["shapes"], dtype=np.int64)
        self._videos = shapes.shape[1] == 3
        if not self._videos:
            shapes = np.insert(shapes, 0, 1, axis=1)
        for lengths, least, reason in (
            (shapes[:, 1:].min(1), crop, f"smaller than the crop of {crop} px"),
            (shapes[:, 0], frames, f"shorter than the clip of {frames} frames"),
        ):
            if small := [name for name, length in zip(index["names"], lengths, strict=True) if length < least]:
                raise ValueError(tally(len(shapes), {reason: small}))
        self.fingerprint = index["fingerprint"]
        self.skipped = index["skipped"]
        self.converted = Counter(index.get("converted", {}))  # older folders do not count them
        self.content = content
        self.heldout = np.load(folder / "heldout.npy")
        self.motion = None
        if self._videos and frames == 1:
            self.heldout = self.heldout[:, :, self.heldout.shape[2] // 2]
        elif (folder / "motion.npz").exists():
            self.motion = Motion(**np.load(folder / "motion.npz"))
        self._crop = crop
        self._flip = flip
        self._frames = frames
        self._shapes = shapes
        self._ends = np.cumsum(shapes.prod(1))  # where each picture ends in the file, in pixels
        self._pixels: Pixels = np.asarray(np.memmap(folder / "train.bin", np.uint8, "r"))

    def batch(self, size: int, rng: np.random.Generator) -> Pixels:
        """Random training crops `size 3 crop crop`, or clips of more than one frame `size 3 frames crop crop`.

        A picture is chosen with probability proportional to its pixels, position and time uniformly; the crop is
        mirrored with probability 1/2 if `flip` is set. Draws `4 * size` numbers from `rng` (videos: `5 * size`),
        whatever the settings, and depends on nothing else.
        """
        crop = self._crop
        frames = self._frames
        crops = np.empty((size, 3, frames, crop, crop), np.uint8)
        draws = rng.random((size, 5 if self._videos else 4))
        chosen = np.searchsorted(self._ends, draws[:, 0] * self._ends[-1], side="right")
        for target, picture, (_, down, across, mirror, *time) in zip(crops, chosen, draws, strict=True):
            t, h, w = self._shapes[picture]
            end = 3 * self._ends[picture]
            y, x = int(down * (h - crop + 1)), int(across * (w - crop + 1))
            first = int(time[0] * (t - frames + 1)) if time else 0
            pixels = self._pixels[end - 3 * t * h * w : end].reshape(3, t, h, w)
            window = pixels[:, first : first + frames, y : y + crop, x : x + crop]
            target[:] = window[..., ::-1] if self._flip and mirror < 0.5 else window
        return crops if frames > 1 else crops[:, :, 0]
