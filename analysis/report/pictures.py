"""Reconstructions of the same crops by all treatments, for comparison on top of each other."""

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ablate.analysis.figures.pictures import SHEET_FILE
from ablate.analysis.study_results import StudyResults
from ablate.analysis.typeset.cells import numeral, unit
from ablate.study.titles import title_of

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Sheet:
    """A sheet of crops: its name, a remark, and its picture as a data URI (`source`)."""

    name: str
    remark: str
    source: str


def compare(results: StudyResults) -> list[Sheet]:
    """The sources, then the reconstructions of each treatment with the first seed that has any.

    If sources differ between treatments (other data), each is listed once. Empty if no probe has written any.
    """
    sources: dict[bytes, Sheet] = {}
    reconstructions = []
    for label in results.treatments:
        files = (results.store.stage(trial.signature).pictures / SHEET_FILE for trial in results.of(label))
        path = next((file for file in files if file.exists()), None)
        if path:
            source, reconstruction = halves(path)
            name = "original" if not sources else f"original ({results.names.treatment(label)})"
            sources.setdefault(source.tobytes(), Sheet(name, "", uri(source)))
            reconstructions.append(Sheet(results.names.treatment(label), _remark(results, label), uri(reconstruction)))
    return [*sources.values(), *reconstructions]


def halves(path: Path) -> tuple[Pixels, Pixels]:
    """Sources and reconstructions of a sheet `h w 3`, each rearranged to be about as wide as high."""
    with path.open("rb") as file, Image.open(file) as image:
        sheet: Pixels = np.asarray(image.convert("RGB"))
    side = sheet.shape[1] // 2
    left, right = (sheet[:, start : start + side] for start in (0, side))
    return squared(left), squared(right)


def squared(column: Pixels) -> Pixels:
    """Rearrange squares below each other, `n*s s 3`, into rows of equal length; an incomplete last row is left out."""
    side = column.shape[1]
    tiles = column[: len(column) // side * side].reshape(-1, side, side, 3)
    across = math.isqrt(len(tiles)) or 1
    rows = len(tiles) // across
    laid: Pixels = tiles[: rows * across].reshape(rows, across, side, side, 3).swapaxes(1, 2)
    return laid.reshape(rows * side, across * side, 3)


def uri(pixels: Pixels) -> str:
    """The picture as a data URI, losslessly compressed."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"


def _remark(results: StudyResults, label: str) -> str:
    """The primary metric of a treatment, or the verdict if it has no value."""
    effect = results.effect(label, results.study.primary)
    metric = results.primary
    if math.isnan(effect.mean):
        return effect.verdict
    spread = f" ± {numeral(effect.sd, metric.decimals)}" if effect.sd == effect.sd else ""
    return f"{title_of(metric)} {numeral(effect.mean, metric.decimals)}{spread} {unit(metric)}".rstrip()
