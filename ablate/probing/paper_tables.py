"""Papers' tables on the command line: as published, and with VAE checkpoints measured on folders of pictures."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path

from ablate.analysis import papers
from ablate.analysis.statistics.chance import bootstrap_interval
from ablate.analysis.tables import vivat_table1
from ablate.analysis.tables.published import PaperTable, as_published
from ablate.analysis.tables.vivat_table1 import ImageSet, Measured, Results, image_set

BATCH_PIXELS = 1 << 20
"""Pictures that go through a model at once: one of 1024 x 1024 px, or 16 of 256 x 256."""


def paper_table(
    paper: str | None,
    number: str | None,
    checkpoints: Sequence[str],
    images: Sequence[str],
    device: str | None,
    report: Callable[[str], None],
) -> PaperTable:
    """A paper's table. Table 1 of VIVAT takes `checkpoints` (NAME=PATH) and `images` (NAME=DIR[@SIZE]) beside it.

    `report` hears what is measured. Raises ValueError for what is not understood and for models and pictures of no use.
    """
    if not (paper and number):
        raise ValueError("give a STUDY, or --paper and --table")
    takes_ours = (paper, number) == ("vivat", "1")
    if (checkpoints or images) and not takes_ours:
        raise ValueError("only table 1 of vivat takes checkpoints and images")
    if bool(checkpoints) != bool(images):
        raise ValueError("checkpoints and images go together: --checkpoint NAME=PATH --images NAME=DIR[@SIZE]")
    if not takes_ours:
        return as_published(papers.load(paper), number)
    models = _named(checkpoints, "checkpoint NAME=PATH")
    folders = dict(_image_folder(name, text) for name, text in _named(images, "images NAME=DIR[@SIZE]").items())
    return vivat_table1.build(_measure(models, folders, device, report) if models else {})


def _measure(
    models: dict[str, str], folders: dict[ImageSet, Path], device: str | None, report: Callable[[str], None]
) -> Results:
    import torch

    from ablate.probing.reconstruct import evaluate
    from ablate.released.load import load_vae

    wanted = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise ValueError(f"device '{wanted}' cannot be used: {str(error).splitlines()[0]}") from None
    results: dict[str, dict[ImageSet, Measured]] = {}
    for name, path in models.items():
        vae = load_vae(Path(path), place)
        results[name] = {}
        for where, folder in folders.items():
            report(f"{name} on {where.name} ({folder})")
            found = evaluate(vae, folder, where.size, place, max(1, BATCH_PIXELS // where.size**2))
            intervals = {metric: bootstrap_interval(values) for metric, values in found.per_image.items()}
            results[name][where] = Measured(found.psnr, found.ssim, found.n, len(found.skipped), intervals)
        del vae
        gc.collect()  # a model of several GB must be gone before the next one comes
    return results


def _named(texts: Sequence[str], form: str) -> dict[str, str]:
    """NAME=VALUE texts as a mapping."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise ValueError(f"'{text}': expected {form}")
        if name in found:
            raise ValueError(f"'{text}': the name '{name}' is taken")
        found[name] = value
    return found


def _image_folder(name: str, text: str) -> tuple[ImageSet, Path]:
    folder, _, size = text.rpartition("@")
    if not (folder and size.isdecimal() and int(size) > 0):
        return image_set(name, None), Path(text).expanduser()
    return image_set(name, int(size)), Path(folder).expanduser()
