"""Table 1 of VIVAT (arXiv 2506.07863): PSNR and SSIM of released VAEs on four sets of pictures, and ours beside them.

Published rows come first, as the paper prints them; those measured here follow. Sets of pictures that the paper does
not have get a column of their own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.analysis.papers import Published, vivat
from ablate.analysis.statistics.ranks import rank
from ablate.analysis.tables.published import PaperTable, label, parts_of, provenance
from ablate.analysis.typeset.cells import Cell, Column, Group, Layout, Sentence, Value, Word, numeral, unit
from ablate.errors import nearest
from ablate.slots.settings import Metric

VALUES = ("psnr", "ssim", "n", "skipped", "psnr_low", "psnr_high", "ssim_low", "ssim_high")
"""What a record says of a model on a set of pictures; None where it is not known."""


METRICS = {"psnr": Metric("psnr", "dB", "up"), "ssim": Metric("ssim", "1", "up")}


ALIASES = dict(zip(("imagenet256", "imagenet512", "coco512", "ffhq1024"), vivat.DATASETS, strict=True))


@dataclass(frozen=True)
class ImageSet:
    """Pictures of a name, cropped to `size` x `size` px; the name ends with the size."""

    name: str
    size: int


@dataclass(frozen=True)
class Measured:
    """Means of a model over `n` pictures of a set, PSNR in dB; `skipped` counts those that were too small.

    `intervals`: metric -> 95 % interval of the mean over pictures, NaN for too few; see `chance.over_pictures`.
    """

    psnr: float
    ssim: float
    n: int
    skipped: int
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


COCO = ("MS COCO 2017 Test", "COCO")
"""The one name that is too long for a column of a printed page."""


Results = Mapping[str, Mapping[ImageSet, Measured]]
"""Model -> its figures; every model has the same sets."""


PUBLISHED = tuple(ImageSet(name, int(name.rpartition("x")[2])) for name in vivat.DATASETS)


def image_set(name: str, size: int | None) -> ImageSet:
    """The paper's set of that name or alias, or one of the user's.

    Raises ValueError where a published set is given another size, and where one of the user's has none.
    """
    plain = name.replace("×", "x").replace(" ", "").lower()
    known = {candidate.replace(" ", "").lower(): candidate for candidate in vivat.DATASETS} | ALIASES
    if found := next((known_set for known_set in PUBLISHED if known_set.name == known.get(plain)), None):
        if size not in {None, found.size}:
            raise ValueError(f"images '{name}': {found.name} is of {found.size} px, not {size}; give another name")
        return found
    if size is None:
        hint = nearest(name, [*vivat.DATASETS, *ALIASES])
        raise ValueError(f"images '{name}': a set that the table does not have needs a size, NAME=DIR@SIZE{hint}")
    return ImageSet(f"{name} {size}x{size}", size)


def build(results: Results) -> PaperTable:
    """The published rows, and ours below them."""
    parts = parts_of(vivat.PAPER, "1")
    own = [name for figures in results.values() for name in figures]
    sets = tuple(dict.fromkeys([*PUBLISHED, *own]))
    layouts = tuple(_layout(key, sets, results) for key in parts)
    return PaperTable(vivat.PAPER, "1", layouts, (*_published_records(), *_records(results)))


def _layout(key: str, sets: tuple[ImageSet, ...], results: Results) -> Layout:
    table, metric = vivat.TABLES[key], METRICS[key.split()[1].lower()]
    published = {name: dict(zip(PUBLISHED, values, strict=True)) for name, values in numbers(table).items()}
    ours = {
        name: {where: getattr(found, metric.name) for where, found in figures.items()}
        for name, figures in results.items()
    }
    names: list[list[Cell]] = [[Word(name), Word("paper")] for name in published]
    names += [[Word(name), Word("ours")] for name in ours]
    figures = [[row.get(where, math.nan) for where in sets] for row in (*published.values(), *ours.values())]
    ranks = zip(*(rank(metric, column) for column in zip(*figures, strict=True)), strict=True)
    rows = tuple(
        (*name, *(Value(value, math.nan, metric.decimals, place) for value, place in zip(values, places, strict=True)))
        for name, values, places in zip(names, figures, ranks, strict=True)
    )
    groups = [Group(rows[: len(published)]), Group(rows[len(published) :])]
    columns = [Column("text", "model"), Column("text", "from")]
    columns += [Column("value", _heading(where), metric) for where in sets]
    notes = (provenance(vivat.PAPER, table), (f"{COCO[1]}: {COCO[0]}.",), *_about_ours(results))
    return Layout(
        label(vivat.PAPER, key), vivat.PAPER.name, table.source, tuple(columns),
        tuple(group for group in groups if group.rows), notes, (),
    )  # fmt: skip


def _heading(where: ImageSet) -> str:
    """`ImageNet/256x256`, so that LaTeX puts both sizes under one name."""
    return "/".join(where.name.replace(*COCO).rsplit(" ", 1))


def _about_ours(results: Results) -> tuple[Sentence, ...]:
    """How ours were measured; nothing where there are none. All models saw the same pictures."""
    figures: Mapping[ImageSet, Measured] = next(iter(results.values()), {})
    if not figures:
        return ()
    counts = []
    for where, found in figures.items():
        small = f" ({found.skipped} smaller one{'s' * (found.skipped != 1)} left out)" if found.skipped else ""
        counts.append(f"{where.name}, {found.n} picture{'s' * (found.n != 1)}{small}")
    how = (
        "Ours: decoded posterior means in fp32, clamped to [0, 1]; PSNR and SSIM (Gaussian window of 11 px) of each "
        "picture, then averaged. Pictures are reduced to the short side by antialiased bicubic and cropped at the "
        f"centre: {'; '.join(counts)}."
    )
    caution = (
        "The paper does not say how it resized or cropped, nor how it took SSIM: ranks across published figures and "
        "ours hold as far as pictures and preparation are the same."
    )
    return ((how,), *_precision(results), (caution,))


def _precision(results: Results) -> tuple[Sentence, ...]:
    """How far the means depend on which pictures there were; nothing where these are too few to say."""
    widest = {}
    for name, metric in METRICS.items():
        halves = [
            (found.intervals[name][1] - found.intervals[name][0]) / 2
            for figures in results.values()
            for found in figures.values()
            if name in found.intervals
        ]
        if known := [half for half in halves if not math.isnan(half)]:
            widest[name] = f"{numeral(max(known), metric.decimals + 1)} {unit(metric)}".rstrip()
    if not widest:
        return ()
    said = " and ".join(f"{name} ± {half}" for name, half in widest.items())
    return ((f"Over pictures (percentile bootstrap) the 95 % intervals of our means are at most {said} wide; another "
             "training is not in them.",),)  # fmt: skip


def numbers(table: Published) -> dict[str, list[float]]:
    """The rows of a table that holds numbers; NaN where the paper has none."""
    return {name: [v if isinstance(v, float) else math.nan for v in values] for name, values in table.rows.items()}


def _published_records() -> list[dict[str, Any]]:
    psnr, ssim = (numbers(vivat.TABLES[f"1 {name}"]) for name in ("PSNR", "SSIM"))
    return [
        _record(model, "paper", where, {**dict.fromkeys(VALUES), "psnr": p, "ssim": s})
        for model, values in psnr.items()
        for where, p, s in zip(PUBLISHED, values, ssim[model], strict=True)
    ]


def _records(results: Results) -> list[dict[str, Any]]:
    return [
        _record(model, "ours", where, _values(found))
        for model, figures in results.items()
        for where, found in figures.items()
    ]


def _values(found: Measured) -> dict[str, Any]:
    bounds = {
        f"{name}_{side}": None if math.isnan(value) else value
        for name, interval in found.intervals.items()
        for side, value in zip(("low", "high"), interval, strict=True)
    }
    return {**dict.fromkeys(VALUES), **bounds, **{name: getattr(found, name) for name in VALUES[:4]}}


def _record(model: str, source: str, where: ImageSet, values: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "from": source, "images": where.name, "size": where.size, **values}
