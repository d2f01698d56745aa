"""Table 1 of VIVAT (arXiv 2506.07863): PSNR and SSIM of released VAEs on four sets of pictures, with ours beside them.

The published rows come first, as the paper prints them; the rows measured here follow. Sets of pictures that the paper
does not have get columns of their own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.analysis.papers import Published, vivat
from ablate.analysis.statistics.ranks import rank
from ablate.analysis.tables.published import ListedTable, label, of_paper, parts_of, provenance
from ablate.analysis.typeset.cells import Cell, Column, Group, Layout, Sentence, Value, Word, numeral, unit
from ablate.errors import nearest
from ablate.slots.settings import Metric

VALUES = ("psnr", "ssim", "n", "skipped", "psnr_low", "psnr_high", "ssim_low", "ssim_high")
"""The values of a record, which is of one model on one set of pictures; None if unknown."""

METRICS = {"psnr": Metric("psnr", "dB", "up"), "ssim": Metric("ssim", "1", "up")}

ALIASES = dict(zip(("imagenet256", "imagenet512", "coco512", "ffhq1024"), vivat.DATASETS, strict=True))
"""Short names of the paper's sets, for command lines."""


@dataclass(frozen=True)
class ImageSet:
    """A named set of pictures, cropped to `size` x `size` px; the name ends with the size."""

    name: str
    size: int


@dataclass(frozen=True)
class Measured:
    """Means of a model over `n` pictures of a set, PSNR in dB; `skipped` counts the pictures that were too small.

    `intervals`: metric -> 95 % interval of the mean over pictures, NaN if there are too few; see
    `chance.bootstrap_interval`.
    """

    psnr: float
    ssim: float
    n: int
    skipped: int
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


COCO = ("MS COCO 2017 Test", "COCO")
"""The only name that is too long for a column of a printed page, and its abbreviation."""

Results = Mapping[str, Mapping[ImageSet, Measured]]
"""Model -> set of pictures -> measurement; every model has the same sets."""

PUBLISHED = tuple(ImageSet(name, int(name.rpartition("x")[2])) for name in vivat.DATASETS)


def image_set(name: str, size: int | None) -> ImageSet:
    """The paper's set with this name or alias, or else a new set of the user's.

    Raises ValueError if a published set is given another size, or if a new set has no size.
    """
    plain = name.replace("×", "x").replace(" ", "").lower()
    known = {candidate.replace(" ", "").lower(): candidate for candidate in vivat.DATASETS} | ALIASES
    if published := next((candidate for candidate in PUBLISHED if candidate.name == known.get(plain)), None):
        if size not in {None, published.size}:
            raise ValueError(
                f"images '{name}': {published.name} is of {published.size} px, not {size}; give another name"
            )
        return published
    if size is None:
        hint = nearest(name, [*vivat.DATASETS, *ALIASES])
        raise ValueError(f"images '{name}': a set that the table does not have needs a size, NAME=DIR@SIZE{hint}")
    return ImageSet(f"{name} {size}x{size}", size)


def build(results: Results) -> ListedTable:
    """The table with the published rows and ours below them."""
    parts = parts_of(vivat.PAPER, "1")
    measured = [images for by_set in results.values() for images in by_set]
    sets = tuple(dict.fromkeys([*PUBLISHED, *measured]))
    layouts = tuple(_layout(key, sets, results) for key in parts)
    return of_paper(vivat.PAPER, "1", layouts, (*_published_records(), *_records(results)))


def _layout(key: str, sets: tuple[ImageSet, ...], results: Results) -> Layout:
    """One half of the table, with the results on these sets. `key`: `1 PSNR` or `1 SSIM`."""
    # The values of each model, published and ours.
    table = vivat.TABLES[key]
    metric = METRICS[key.split()[1].lower()]
    published = {name: dict(zip(PUBLISHED, values, strict=True)) for name, values in numbers(table).items()}
    ours = {
        name: {images: getattr(measured, metric.name) for images, measured in by_set.items()}
        for name, by_set in results.items()
    }
    values = [[row.get(images, math.nan) for images in sets] for row in (*published.values(), *ours.values())]

    # Rows and columns; ranks are by column.
    names: list[list[Cell]] = [[Word(name), Word("paper")] for name in published]
    names += [[Word(name), Word("ours")] for name in ours]
    ranks = zip(*(rank(metric, column) for column in zip(*values, strict=True)), strict=True)
    rows = tuple(
        (*name, *(Value(v, math.nan, metric.decimals, r) for v, r in zip(row_values, row_ranks, strict=True)))
        for name, row_values, row_ranks in zip(names, values, ranks, strict=True)
    )
    groups = [Group(rows[: len(published)]), Group(rows[len(published) :])]
    columns = [Column("text", "model"), Column("text", "from")]
    columns += [Column("value", _heading(images), metric) for images in sets]
    notes = (provenance(vivat.PAPER, table), (f"{COCO[1]}: {COCO[0]}.",), *_about_ours(results))
    return Layout(
        label(vivat.PAPER, key), vivat.PAPER.name, table.source, tuple(columns),
        tuple(group for group in groups if group.rows), notes, (),
    )  # fmt: skip


def _heading(images: ImageSet) -> str:
    """`ImageNet/256x256`: LaTeX puts both sizes under one name."""
    return "/".join(images.name.replace(*COCO).rsplit(" ", 1))


def _about_ours(results: Results) -> tuple[Sentence, ...]:
    """Notes on how our rows were measured; none if there are no such rows. All models saw the same pictures."""
    by_set: Mapping[ImageSet, Measured] = next(iter(results.values()), {})
    if not by_set:
        return ()
    counts = []
    for images, measured in by_set.items():
        skipped = measured.skipped
        small = f" ({skipped} smaller one{'s' * (skipped != 1)} left out)" if skipped else ""
        counts.append(f"{images.name}, {measured.n} picture{'s' * (measured.n != 1)}{small}")
    method = (
        "Ours: posterior means are decoded in fp32 and clamped to [0, 1]; PSNR and SSIM (Gaussian window of 11 px) are "
        "computed for each picture, then averaged. The short side of a picture is reduced to the size of the set by "
        f"antialiased bicubic interpolation, and the centre is cropped: {'; '.join(counts)}."
    )
    caution = (
        "The paper does not say how it resized or cropped pictures, nor how it computed SSIM: ranks across published "
        "values and ours are valid only as far as pictures and preparation are the same."
    )
    return ((method,), *_precision(results), (caution,))


def _precision(results: Results) -> tuple[Sentence, ...]:
    """A note on how much the means depend on the choice of pictures; none if there are too few pictures."""
    widest = {}
    for name, metric in METRICS.items():
        halves = [
            (measured.intervals[name][1] - measured.intervals[name][0]) / 2
            for by_set in results.values()
            for measured in by_set.values()
            if name in measured.intervals
        ]
        if known := [half for half in halves if not math.isnan(half)]:
            widest[name] = f"{numeral(max(known), metric.decimals + 1)} {unit(metric)}".rstrip()
    if not widest:
        return ()
    widths = " and ".join(f"{name} ± {half}" for name, half in widest.items())
    return ((f"The 95 % intervals of our means (percentile bootstrap over pictures) are at most {widths} wide; they do "
             "not include the variation between trainings.",),)  # fmt: skip


def numbers(table: Published) -> dict[str, list[float]]:
    """The rows of a table as numbers; NaN where the paper gives none."""
    return {name: [v if isinstance(v, float) else math.nan for v in values] for name, values in table.rows.items()}


def _published_records() -> list[dict[str, Any]]:
    """The paper's results, one record per model and set."""
    psnr, ssim = (numbers(vivat.TABLES[f"1 {name}"]) for name in ("PSNR", "SSIM"))
    return [
        _record(model, "paper", images, {**dict.fromkeys(VALUES), "psnr": p, "ssim": s})
        for model, values in psnr.items()
        for images, p, s in zip(PUBLISHED, values, ssim[model], strict=True)
    ]


def _records(results: Results) -> list[dict[str, Any]]:
    """Our results, one record per model and set."""
    return [
        _record(model, "ours", images, _values(measured))
        for model, by_set in results.items()
        for images, measured in by_set.items()
    ]


def _values(measured: Measured) -> dict[str, Any]:
    """The values of a record, under the names in `VALUES`."""
    bounds = {
        f"{name}_{side}": None if math.isnan(value) else value
        for name, interval in measured.intervals.items()
        for side, value in zip(("low", "high"), interval, strict=True)
    }
    return {**dict.fromkeys(VALUES), **bounds, **{name: getattr(measured, name) for name in VALUES[:4]}}


def _record(model: str, source: str, images: ImageSet, values: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "from": source, "images": images.name, "size": images.size, **values}
