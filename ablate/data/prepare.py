"""Prepares pictures for training and probing: decodes and downscales them once, into a memory-mapped uint8 file.

A data level yields `Picture`s for the splits "train" and "heldout"; a picture may be a video. `prepare` turns them into
a `Corpus`: random training crops, which depend on the given generator alone, and a fixed set of held-out crops, the
same for every trial. Pictures are only ever downscaled: an enlarged one has no detail that a model could lose.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ablate.data.content import Content, hash_files
from ablate.data.corpus import Corpus
from ablate.data.picture import PictureFile, count_changes, read_header
from ablate.data.picture import read_rgb as read_rgb
from ablate.data.rejects import Rejects
from ablate.data.resize import reduced_shape, resize, spread
from ablate.data.sealed import is_sound, seal
from ablate.identity import signature
from ablate.slots import registry
from ablate.slots.data import SPLITS, ClipSettings, DataSettings, Picture, Split
from ablate.slots.data import Misfit as Misfit
from ablate.slots.data import Pixels as Pixels
from ablate.store.scratch import scratch_folder


def prepare(level: str, settings: dict[str, Any], cache: Path) -> Corpus:
    """The corpus of a data level, decoded into a folder of `cache` unless it is there already.

    Several processes may call this at once: all use the folder of the first one to finish. A folder that is damaged is
    moved aside and decoded again. `settings` are plain values
    without the level's name. Raises ValueError, naming and counting them, for pictures that cannot be used, and for
    files that change meanwhile.
    """
    config = registry.level("data", level).Config.read(settings)
    assert isinstance(config, DataSettings)  # the registry accepts no other
    train = _pictures(level, config, "train")
    heldout = _pictures(level, config, "heldout")
    content = _content(level, config, [*train, *heldout], cache)
    folder = cache / _cache_key(level, config, train, heldout, content)
    if not (folder.exists() and is_sound(folder)):
        cache.mkdir(parents=True, exist_ok=True)
        with scratch_folder("unfinished", cache) as scratch:
            entry = scratch / "entry"
            entry.mkdir()
            _decode(level, config, train, heldout, entry)
            if content and _content(level, config, [*train, *heldout], cache) != content:
                raise ValueError(f"data/{level}: files changed while they were read; start again when that has ended")
            seal(entry, folder.name)
            try:
                entry.rename(folder)
            except OSError:
                if not folder.exists():  # otherwise another process has finished the same folder
                    raise
    return Corpus(folder, config.crop, config.flip, config.clip_length, content)


def content_of(level: str, config: DataSettings, cache: Path) -> Content | None:
    """The content of the picture files of a data level, both splits; None for pictures without files."""
    return _content(level, config, [picture for split in SPLITS for picture in _pictures(level, config, split)], cache)


def check_pictures(
    level: str, config: DataSettings, size: Callable[[Path, Split], tuple[int, int]] | None = None
) -> None:
    """Check the sizes in the headers of a level's picture files, or of others whose height and width `size` gives.

    Raises ValueError, naming and counting them, for pictures that cannot be used; it counts those that are converted.
    """
    reports = []
    for split in SPLITS:
        pictures = _pictures(level, config, split)
        rejects = Rejects(len(pictures), config.tolerated)
        converted: Counter[str] = Counter()
        for picture, crops in zip(pictures, _crop_counts(config.heldout_count, len(pictures)), strict=True):
            if picture.path:
                with rejects.catch(picture.name):
                    if size:
                        height, width = size(picture.path, split)
                    else:
                        file = picture.load.place if isinstance(picture.load, PictureFile) else picture.path
                        height, width, changes = read_header(file)
                        converted.update(changes)
                    _check_size(split, height, width, crops, config)
        if rejects and not rejects.tolerable:
            reports.append("; ".join(filter(None, [f"data/{level}, {split}: {rejects}", count_changes(converted)])))
    if reports:
        raise ValueError("; ".join(reports))


def heldout_side(height: int, width: int, crops: int, config: DataSettings) -> int:
    """The short side in px to which a held-out picture is downscaled: `resize_to`, but at least `heldout_size`.

    A picture that must give several crops is downscaled by at most 2, so that the crops are not near-copies; that
    factor still removes the grid of JPEG blocks and the softness of cameras.
    """
    side = max(config.resize_to, config.heldout_size)
    return side if crops == 1 else max(side, min(height, width) // 2)


def _pictures(level: str, config: DataSettings, split: Split) -> list[Picture]:
    pictures = list(registry.build("data", level, config.plain(), split))
    if not pictures:
        raise ValueError(f"data/{level}, {split}: no pictures")
    return pictures


def _crop_counts(count: int, pictures: int) -> list[int]:
    """How many of `count` crops each picture gives; the numbers differ by at most 1."""
    return [(i + 1) * count // pictures - i * count // pictures for i in range(pictures)]


def _content(level: str, config: DataSettings, pictures: list[Picture], cache: Path) -> Content | None:
    """The content of the files of these pictures, by their paths from the folder on that a setting names."""
    roots = {text: str(path.absolute()) for text, path in config.content_paths().items()}
    files: dict[str, Path] = {}
    for picture in pictures:
        if picture.path:
            path = str(picture.path.absolute())
            inside = [(root, text) for text, root in roots.items() if path.startswith(f"{root}{os.sep}")]
            root, text = max(inside, key=lambda pair: len(pair[0]), default=("", ""))
            name = path[len(root) + 1 :] if inside else picture.name
            files[f"{text.rstrip('/')}/{name}" if len(roots) > 1 else name] = picture.path
    if not files:
        return None
    return Content(" ".join([f"data/{level}", ", ".join(roots)]).strip(), hash_files(files, cache))


def _cache_key(
    level: str, config: DataSettings, train: list[Picture], heldout: list[Picture], content: Content | None
) -> str:
    """Hash of all that the decoded pixels depend on, including the code; settings used after decoding are left out."""
    settings = {name: value for name, value in config.identity().items() if name not in {"crop", "flip", "frames"}}
    code = registry.level("data", level).fingerprint  # covers this module too
    names = [[picture.name for picture in pictures] for pictures in (train, heldout)]
    return signature([level, settings, code, *names, content.digest if content else None])


def _decode(level: str, config: DataSettings, train: list[Picture], heldout: list[Picture], folder: Path) -> None:
    """Write `train.bin` (each picture `3 h w` or `3 t h w`, one after the other), `heldout.npy` and `index.json`.

    `motion.npz` holds the motion of held-out videos, where it is known.
    """
    digest = hashlib.sha256()
    names = []
    shapes = []
    crops = []
    skipped: list[str] = []
    read = partial(_read_all, tolerated=config.tolerated, skipped=skipped)

    # Training pictures
    reads = [(picture.name, partial(_training_planes, picture, config)) for picture in train]
    with (folder / "train.bin").open("wb") as file:
        for name, planes in read(f"data/{level}, train", reads):
            names.append(name)
            shapes.append(planes.shape[1:])
            digest.update(json.dumps([name, planes.shape]).encode() + planes.tobytes())
            file.write(planes.data)

    # Held-out crops
    counts = _crop_counts(config.heldout_count, len(heldout))
    used = [(picture, count) for picture, count in zip(heldout, counts, strict=True) if count]
    reads = [(picture.name, partial(_heldout_crops, picture, count, config)) for picture, count in used]
    for name, pixels in read(f"data/{level}, heldout", reads):
        crops.append(pixels)
        digest.update(json.dumps([name, pixels.shape]).encode() + pixels.tobytes())
    np.save(folder / "heldout.npy", np.concatenate(crops))
    if motions := [picture.motion() for picture, _ in used if picture.motion]:
        flow = np.stack([motion.flow for motion in motions])
        visible = np.stack([motion.visible for motion in motions])
        np.savez(folder / "motion.npz", flow=flow, visible=visible)

    # Index
    files = [picture.load for picture in [*train, *(picture for picture, _ in used)]]
    converted = Counter(change for file in files if isinstance(file, PictureFile) for change in file.changes)
    index = {
        "fingerprint": digest.hexdigest(), "names": names, "shapes": shapes, "skipped": skipped, "converted": converted
    }  # fmt: skip
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _training_planes(picture: Picture, config: DataSettings) -> Pixels:
    """A training picture, downscaled, as `3 h w` or `3 t h w`."""
    return np.ascontiguousarray(np.moveaxis(resize(picture.load(), config.resize_to, config.resize), -1, 0))


def _heldout_crops(picture: Picture, crops: int, config: DataSettings) -> Pixels:
    """The held-out crops of a picture, `k 3 s s` or `k 3 t s s`. Raises Misfit if it is too small or too short."""
    pixels = picture.load()
    if isinstance(config, ClipSettings):
        if len(pixels) < config.heldout_frames:
            raise Misfit(f"shorter than the held-out clip of {config.heldout_frames} frames")
        pixels = pixels[: config.heldout_frames]
    height, width = pixels.shape[-3:-1]
    _check_size("heldout", height, width, crops, config)
    planes = np.moveaxis(resize(pixels, heldout_side(height, width, crops, config), "bicubic"), -1, 0)
    size = config.heldout_size
    corners = spread(crops, planes.shape[-2] - size + 1, planes.shape[-1] - size + 1)
    return np.ascontiguousarray([planes[..., y : y + size, x : x + size] for y, x in corners])


def _read_all(
    source: str, reads: Sequence[tuple[str, Callable[[], Pixels]]], tolerated: float, skipped: list[str]
) -> Iterator[tuple[str, Pixels]]:
    """Run named reads in several threads and yield their results in order.

    The names of damaged files, if no more than tolerated, are added to `skipped`. Otherwise raises ValueError after the
    last read, naming all that failed; the message begins with `source`.
    """
    rejects = Rejects(len(reads), tolerated)

    def attempt(named: tuple[str, Callable[[], Pixels]]) -> Pixels | None:
        name, read = named
        with rejects.catch(name):
            return read()
        return None

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(reads), 4 * threads):  # in chunks, to bound the memory
            chunk = reads[start : start + 4 * threads]
            for (name, _), pixels in zip(chunk, pool.map(attempt, chunk), strict=True):
                if pixels is not None:
                    yield name, pixels
    if rejects and not rejects.tolerable:
        raise ValueError(f"{source}: {rejects}") from rejects.first
    skipped += sorted(rejects.damaged)


def _check_size(split: Split, height: int, width: int, crops: int, config: DataSettings) -> None:
    """Raise Misfit for a picture that is too small. `crops`: how many crops it must give if it is held out."""
    if split == "train":
        if min(reduced_shape(height, width, config.resize_to, config.resize)) < config.crop:
            raise Misfit(f"smaller than the crop of {config.crop} px")
        return
    height, width = reduced_shape(height, width, heldout_side(height, width, crops, config), "bicubic")
    rows = height - config.heldout_size + 1
    columns = width - config.heldout_size + 1
    if crops and min(rows, columns) < 1:
        raise Misfit(f"smaller than the held-out crop of {config.heldout_size} px")
    if crops and rows * columns < crops:
        raise Misfit(
            f"too small for their share of {config.heldout_count} different crops of {config.heldout_size} px "
            "(lower heldout_count or heldout_size, or hold out more pictures)"
        )
