"""Pictures for training and examination: decoded and resized once, kept as uint8, memory-mapped, cropped in memory.

A data level yields `Picture`s for the splits "train" and "heldout". `prepare` turns them into a `Corpus`: random
training crops, drawn from a given generator alone, and a fixed set of held-out crops, the same for every trial.
Pictures are only ever reduced: enlarged ones have no detail for a model to lose.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, model_validator

from ablate import registry
from ablate.identity import signature
from ablate.registry import Settings

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
Resize = Literal["none", "nearest", "bilinear", "bicubic", "area"]
Split = Literal["train", "heldout"]
SPLITS: tuple[Split, Split] = ("train", "heldout")


@dataclass(frozen=True)
class Picture:
    """One source picture: `load` gives `h w 3` RGB. `path` is its file, if any, for cache key and header check."""

    name: str
    load: Callable[[], Pixels]
    path: Path | None = None


class DataSettings(Settings):
    """Settings that all data levels share; lengths in px.

    `crop`: side of training crops. `resize`: filter that reduces training pictures before the crop, antialiased unless
    `nearest` (VIVAT, section 5.1). `resize_to`: their short side afterwards. `flip`: mirror half of the training crops.
    `heldout_size`, `heldout_count`: side and number of held-out crops, reduced by `bicubic` whatever `resize` is.
    """

    crop: PositiveInt = 64
    resize: Resize = "bicubic"
    resize_to: PositiveInt = 128
    flip: bool = True
    heldout_size: PositiveInt = 128
    heldout_count: PositiveInt = 64

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.resize != "none" and self.resize_to < self.crop:
            raise ValueError(f"resize_to ({self.resize_to} px) is smaller than crop ({self.crop} px)")
        return self


class Corpus:
    """Prepared pictures. `heldout`: `n 3 s s`. `fingerprint`: content hash of names, sizes, pixels of both splits."""

    fingerprint: str
    heldout: Pixels

    def __init__(self, folder: Path, crop: int, flip: bool) -> None:
        """Open what `prepare` wrote to `folder`. Raises ValueError if a training picture is smaller than the crop."""
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        shapes = np.array(index["shapes"], dtype=np.int64)
        small = [name for name, side in zip(index["names"], shapes.min(1), strict=True) if side < crop]
        if small:
            raise ValueError(_report(len(shapes), {f"smaller than the crop of {crop} px": small}))
        self.fingerprint = index["fingerprint"]
        self.heldout = np.load(folder / "heldout.npy")
        self._crop, self._flip, self._shapes = crop, flip, shapes
        self._ends = np.cumsum(shapes.prod(1))  # of each picture, in px
        self._pixels: Pixels = np.asarray(np.memmap(folder / "train.bin", np.uint8, "r"))

    def batch(self, size: int, rng: np.random.Generator) -> Pixels:
        """Random training crops `size 3 crop crop`: picture in proportion to its area, uniform place, maybe mirrored.

        Takes `4 * size` numbers from `rng` whatever the settings, and depends on nothing else.
        """
        crop = self._crop
        crops = np.empty((size, 3, crop, crop), np.uint8)
        draws = rng.random((size, 4))
        chosen = np.searchsorted(self._ends, draws[:, 0] * self._ends[-1], side="right")
        for target, picture, (_, down, across, mirror) in zip(crops, chosen, draws, strict=True):
            h, w = self._shapes[picture]
            end = 3 * self._ends[picture]
            y, x = int(down * (h - crop + 1)), int(across * (w - crop + 1))
            window = self._pixels[end - 3 * h * w : end].reshape(3, h, w)[:, y : y + crop, x : x + crop]
            target[:] = window[:, :, ::-1] if self._flip and mirror < 0.5 else window
        return crops


def prepare(level: str, settings: dict[str, Any], cache: Path) -> Corpus:
    """The corpus of a data level, decoded into a folder of `cache` unless it is there.

    Several processes may do so at once: the first to finish leaves its folder, whole, and all use that one.

    `settings` are plain values without the level's name. Raises ValueError naming and counting pictures of no use.
    """
    config = registry.level("data", level).Config.read(settings)
    if not isinstance(config, DataSettings):
        raise TypeError(f"data/{level}: Config must be a subclass of DataSettings")
    train, heldout = _pictures(level, config, "train"), _pictures(level, config, "heldout")
    folder = cache / _cache_key(level, config, train, heldout)
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix="unfinished-") as scratch:
            entry = Path(scratch) / "entry"
            entry.mkdir()
            _decode(level, config, train, heldout, entry)
            try:
                entry.rename(folder)
            except OSError:
                if not folder.exists():  # else another process finished the same content first
                    raise
    return Corpus(folder, config.crop, config.flip)


def check_pictures(level: str, config: DataSettings) -> None:
    """Look at the headers of a level's picture files. Raises ValueError naming and counting those of no use."""
    reports = []
    for split in SPLITS:
        pictures = _pictures(level, config, split)
        reasons: dict[str, list[str]] = {}
        for picture, crops in zip(pictures, _shares(config.heldout_count, len(pictures)), strict=True):
            if picture.path and (reason := _misfit_of_file(picture.path, split, crops, config)):
                reasons.setdefault(reason, []).append(picture.name)
        if reasons:
            reports.append(f"data/{level}, {split}: {_report(len(pictures), reasons)}")
    if reports:
        raise ValueError("; ".join(reports))


def read_rgb(path: Path) -> Pixels:
    """A picture file as `h w 3`, turned upright. Raises what Pillow raises for a damaged file, Misfit for 16 bits."""
    from PIL import ImageOps

    with _open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def resize(pixels: Pixels, short_side: int, method: Resize) -> Pixels:
    """Reduce `h w 3` to the given short side in px, keeping proportions. Smaller pictures stay as they are."""
    from PIL import Image

    height, width = reduced_shape(pixels.shape[0], pixels.shape[1], short_side, method)
    if (height, width) == pixels.shape[:2]:
        return pixels
    filters = {
        "nearest": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "area": Image.Resampling.BOX,
    }
    return np.asarray(Image.fromarray(pixels).resize((width, height), filters[method]))


def reduced_shape(height: int, width: int, short_side: int, method: Resize) -> tuple[int, int]:
    """Height and width that `resize` gives."""
    shorter = min(height, width)
    if method == "none" or shorter <= short_side:
        return height, width
    return round(height * short_side / shorter), round(width * short_side / shorter)


def heldout_side(height: int, width: int, crops: int, config: DataSettings) -> int:
    """Short side in px to which a held-out picture is reduced: `resize_to`, but at least `heldout_size`.

    A picture that must give several crops is at most halved, so that the crops are not near-copies; halving keeps the
    grid of JPEG blocks and the softness of cameras out of them.
    """
    side = max(config.resize_to, config.heldout_size)
    return side if crops == 1 else max(side, min(height, width) // 2)


def spread(count: int, rows: int, columns: int) -> list[tuple[int, int]]:
    """`count` places on a regular lattice over `rows x columns`, edge to edge; all different if there are enough."""
    lines = min(max(1, round((count * rows / columns) ** 0.5)), count, rows)
    lines = max(lines, -(-count // columns))
    per_line = -(-count // lines)
    ys = np.linspace(0, rows - 1, lines).round() if lines > 1 else [(rows - 1) // 2]
    xs = np.linspace(0, columns - 1, per_line).round() if per_line > 1 else [(columns - 1) // 2]
    places = [(int(y), int(x)) for y in ys for x in xs]
    return [places[i * len(places) // count] for i in range(count)]


def _pictures(level: str, config: DataSettings, split: Split) -> list[Picture]:
    pictures = list(registry.build("data", level, config.plain(), split))
    if not pictures:
        raise ValueError(f"data/{level}, {split}: no pictures")
    return pictures


def _shares(count: int, pictures: int) -> list[int]:
    """How many of `count` crops each picture gives; the numbers differ by one at most."""
    return [(i + 1) * count // pictures - i * count // pictures for i in range(pictures)]


def _cache_key(level: str, config: DataSettings, train: list[Picture], heldout: list[Picture]) -> str:
    """Hash of all that decides the decoded pixels, the code included; `crop` and `flip` come after decoding."""

    def stamp(picture: Picture) -> list[str | int]:
        file = picture.path and picture.path.stat()
        return [picture.name, file.st_size, file.st_mtime_ns] if file else [picture.name]

    settings = {name: value for name, value in config.identity().items() if name not in {"crop", "flip"}}
    code = [registry.level("data", level).fingerprint, hashlib.sha256(Path(__file__).read_bytes()).hexdigest()]
    return signature([level, settings, code, [stamp(p) for p in train], [stamp(p) for p in heldout]])


def _decode(level: str, config: DataSettings, train: list[Picture], heldout: list[Picture], folder: Path) -> None:
    """Write `train.bin` (each picture `3 h w`, one after the other), `heldout.npy` and `index.json`."""
    digest = hashlib.sha256()
    names, shapes, crops = [], [], []
    reads = [(picture.name, partial(_training_planes, picture, config)) for picture in train]
    with (folder / "train.bin").open("wb") as file:
        for name, planes in _read_all(f"data/{level}, train", reads):
            names.append(name)
            shapes.append(planes.shape[1:])
            digest.update(json.dumps([name, planes.shape]).encode() + planes.tobytes())
            file.write(planes.data)
    shares = _shares(config.heldout_count, len(heldout))
    used = [(picture, share) for picture, share in zip(heldout, shares, strict=True) if share]
    cuts = [(picture.name, partial(_heldout_crops, picture, share, config)) for picture, share in used]
    for name, pixels in _read_all(f"data/{level}, heldout", cuts):
        crops.append(pixels)
        digest.update(json.dumps([name, pixels.shape]).encode() + pixels.tobytes())
    np.save(folder / "heldout.npy", np.concatenate(crops))
    index = {"fingerprint": digest.hexdigest(), "names": names, "shapes": shapes}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _training_planes(picture: Picture, config: DataSettings) -> Pixels:
    """A training picture, resized, `3 h w`."""
    return np.ascontiguousarray(resize(picture.load(), config.resize_to, config.resize).transpose(2, 0, 1))


def _heldout_crops(picture: Picture, crops: int, config: DataSettings) -> Pixels:
    """The held-out crops `k 3 s s` of a picture. Raises Misfit if it is too small to give that many."""
    pixels = picture.load()
    height, width, _ = pixels.shape
    if reason := _misfit("heldout", height, width, crops, config):
        raise Misfit(reason)
    planes = resize(pixels, heldout_side(height, width, crops, config), "bicubic").transpose(2, 0, 1)
    size = config.heldout_size
    corners = spread(crops, planes.shape[1] - size + 1, planes.shape[2] - size + 1)
    return np.ascontiguousarray([planes[:, y : y + size, x : x + size] for y, x in corners])


def _read_all(where: str, reads: Sequence[tuple[str, Callable[[], Pixels]]]) -> Iterator[tuple[str, Pixels]]:
    """Run named reads in several threads, in order. Raises ValueError naming all that failed, after the last one."""
    reasons: dict[str, list[str]] = {}
    errors: list[Exception] = []

    def attempt(named: tuple[str, Callable[[], Pixels]]) -> Pixels | None:
        name, read = named
        try:
            return read()
        except Exception as error:  # a damaged file raises whatever its decoder stumbles over
            reason = str(error) if isinstance(error, Misfit) else f"not readable ({type(error).__name__})"
            reasons.setdefault(reason, []).append(name)
            errors.append(error)
            return None

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(reads), 4 * threads):  # in portions, which bounds the memory
            portion = reads[start : start + 4 * threads]
            for (name, _), pixels in zip(portion, pool.map(attempt, portion), strict=True):
                if pixels is not None:
                    yield name, pixels
    if errors:
        raise ValueError(f"{where}: {_report(len(reads), reasons)}") from errors[0]


class Misfit(ValueError):
    """A picture that is of no use; the message completes "the picture is ..."."""


def _open(path: Path) -> "Image.Image":
    from PIL import Image

    image = Image.open(path)
    if image.mode[0] in "IF":
        raise Misfit("of more than 8 bits a channel, which Pillow would clip to white")
    return image


def _misfit_of_file(path: Path, split: Split, crops: int, config: DataSettings) -> str | None:
    try:
        with _open(path) as image:
            return _misfit(split, image.height, image.width, crops, config)
    except Misfit as error:
        return str(error)
    except Exception as error:  # a damaged file raises whatever its decoder stumbles over
        return f"not readable ({type(error).__name__})"


def _misfit(split: Split, height: int, width: int, crops: int, config: DataSettings) -> str | None:
    """Why a picture of this size is of no use, or None. `crops`: how many it must give if it is held out."""
    if split == "train":
        small = min(reduced_shape(height, width, config.resize_to, config.resize)) < config.crop
        return f"smaller than the crop of {config.crop} px" if small else None
    height, width = reduced_shape(height, width, heldout_side(height, width, crops, config), "bicubic")
    rows, columns = height - config.heldout_size + 1, width - config.heldout_size + 1
    if crops and min(rows, columns) < 1:
        return f"smaller than the held-out crop of {config.heldout_size} px"
    if crops and rows * columns < crops:
        return (
            f"too small for a share of {config.heldout_count} different held-out crops of {config.heldout_size} px "
            "(lower heldout_count or heldout_size, or hold out more pictures)"
        )
    return None


def _report(total: int, reasons: dict[str, list[str]], shown: int = 5) -> str:
    """One clause for each reason: how many pictures of how many, and the names of the first few."""
    clauses = []
    for reason, names in reasons.items():
        more = f" and {len(names) - shown} more" if len(names) > shown else ""
        clauses.append(f"{len(names)} of {total} pictures are {reason}: {', '.join(sorted(names)[:shown])}{more}")
    return "; ".join(clauses)
