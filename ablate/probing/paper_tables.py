"""Tables of papers: as published, or with VAE checkpoints measured on folders of pictures beside them."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path

from ablate.analysis import papers
from ablate.analysis.statistics.chance import bootstrap_interval
from ablate.analysis.tables import vivat_table1
from ablate.analysis.tables.published import ListedTable, as_published
from ablate.analysis.tables.vivat_table1 import ImageSet, Measured, Results, image_set
from ablate.probing.arguments import find_device, read_named

BATCH_PIXELS = 1 << 20
"""Pixels in one batch: one picture of 1024 x 1024 px, or 16 of 256 x 256."""


def paper_table(
    paper: str | None,
    number: str | None,
    checkpoints: Sequence[str],
    images: Sequence[str],
    device: str | None,
    report: Callable[[str], None],
) -> ListedTable:
    """A table of a paper. In table 1 of VIVAT also `checkpoints` (NAME=PATH) on `images` (NAME=DIR[@SIZE]).

    `report` gets a line per measurement. Raises ValueError for invalid options and for models and pictures that cannot
    be used.
    """
    if not (paper and number):
        raise ValueError("give a STUDY, or --paper and --table")
    takes_checkpoints = (paper, number) == ("vivat", "1")
    if (checkpoints or images) and not takes_checkpoints:
        raise ValueError("only table 1 of vivat takes checkpoints and images")
    if bool(checkpoints) != bool(images):
        raise ValueError("checkpoints and images go together: --checkpoint NAME=PATH --images NAME=DIR[@SIZE]")
    if not takes_checkpoints:
        return as_published(papers.load(paper), number)
    models = read_named(checkpoints, "checkpoint NAME=PATH")
    folders = dict(_image_folder(name, text) for name, text in read_named(images, "images NAME=DIR[@SIZE]").items())
    return vivat_table1.build(_measure(models, folders, device, report) if models else {})


def _measure(
    models: dict[str, str], folders: dict[ImageSet, Path], device: str | None, report: Callable[[str], None]
) -> Results:
    """PSNR and SSIM of each model on each set of images."""
    from ablate.probing.load import load_vae
    from ablate.probing.reconstruct import evaluate

    target = find_device(device)
    results: dict[str, dict[ImageSet, Measured]] = {}
    for name, path in models.items():
        vae = load_vae(Path(path), target, say=report)
        results[name] = {}
        for images, folder in folders.items():
            report(f"{name} on {images.name} ({folder})")
            scores = evaluate(vae, folder, images.size, target, max(1, BATCH_PIXELS // images.size**2))
            intervals = {metric: bootstrap_interval(values) for metric, values in scores.per_image.items()}
            results[name][images] = Measured(scores.psnr, scores.ssim, scores.n, len(scores.skipped), intervals)
        del vae
        gc.collect()  # frees the model, perhaps several GB, before the next one is loaded
    return results


def _image_folder(name: str, text: str) -> tuple[ImageSet, Path]:
    """Parse DIR or DIR@SIZE."""
    folder, _, size = text.rpartition("@")
    if not (folder and size.isdecimal() and int(size) > 0):
        return image_set(name, None), Path(text).expanduser()
    return image_set(name, int(size)), Path(folder).expanduser()
