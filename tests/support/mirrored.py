"""A study with tiny levels and a store that holds what its trials would have left behind. Nothing is trained."""

import json
import math
import os
from pathlib import Path

import numpy as np
from PIL import Image

from ablate.plan.trials import Trial
from ablate.slots import Settings, registry
from ablate.store.files import write_json
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.document import parse
from ablate.study.study import Study, read_study

STUDY = """
study: tiny_losses
question: Which loss weight causes grid and blur?
base:
  data: dots
  model: {level: small, channels: [8, 16]}
  loss: {l2: 1.0, kl: 1e-4, adversarial: 0.01}
factors:
  loss.kl: [1, 1e-2, 1e-4, 1e-6]
  padding: [zeros, reflect]
  model.channels: [[8, 16], [16, 16, 32]]
seeds: 2
stages:
  - train: {steps: 40, lr: 1e-3}
  - tune: {steps: 20, lr: 1e-4}
probes: [reconstruction, grid, color]
primary: psnr
"""


PLAIN = """\
from ablate.slots import Metric, {base}


class Config({base}):
    {fields}


def build(config): ...


{more}
"""


LEVELS = {
    "data": ["dots"], "padding": ["zeros", "reflect"], "norm": ["group"], "upsample": ["nearest_conv"],
    "downsample": ["strided_conv"], "discriminator": ["patchgan"], "regularizer": ["none"], "init": ["scratch"],
    "temporal_conv": ["causal"], "branch": ["single"], "context": ["none"],
}  # fmt: skip


METRICS = {
    "reconstruction": '(Metric("psnr", "dB", "up"), Metric("ssim", "1", "up", decimals=4))',
    "grid": '(Metric("grid/fold", "gl", "down"), Metric("grid/comb_db", "dB", "down"))',
    "color": '(Metric("color/bias", "gl", "target"),)',
}


STEPS, LOG_EVERY = (40, 20), 5


def make_levels(root: Path) -> Path:
    """Level files with settings and metrics, and nothing to build."""
    files = {(slot, name): ("pass", "") for slot, names in LEVELS.items() for name in names}
    files |= {("loss", name): ("weight: float = 1.0", "") for name in ("l2", "kl", "adversarial")}
    files["discriminator", "patchgan"] = ("width: int = 8", "")
    stride = "@property\n    def stride(self):\n        return 2"
    files["model", "small"] = (f"channels: tuple[int, ...]\n\n    {stride}", "")
    files |= {("probe", name): ("pass", f"METRICS = {metrics}") for name, metrics in METRICS.items()}
    for (slot, name), (fields, more) in files.items():
        path = root / slot / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        base = registry.SETTINGS.get(slot, Settings).__name__
        path.write_text(f'"""{name}"""\n\n' + PLAIN.format(base=base, fields=fields, more=more))
    return root


def use_levels(patch, root: Path) -> None:
    """Let the registry see only the tiny levels, for the life of `patch`."""
    patch.setattr(registry, "ROOT", make_levels(root))
    registry.level.cache_clear()


def make_study(text: str = STUDY) -> Study:
    return read_study(parse(text, "tiny.yaml"), None, (), gpu=False)


def write_steps(store: Store, trial: Trial, upto: int = sum(STEPS)) -> None:
    """Step lines of both stages as training would have logged them by step `upto`."""
    before = 0
    for mark, steps in zip(trial.signatures, STEPS, strict=True):
        lines = [line(trial, before, step) for step in range(LOG_EVERY, steps + 1, LOG_EVERY) if before + step <= upto]
        if lines:
            folder = store.stage(mark)
            folder.root.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(item) + "\n" for item in lines)
            folder.steps.with_suffix(".new").write_text(text)
            folder.steps.with_suffix(".new").replace(folder.steps)  # a mirror may be reading it
        before += steps


def line(trial: Trial, before: int, step: int) -> dict[str, float]:
    loss = math.exp(-(before + step) / 30) + 0.05 * trial.seed
    share = {"share/kl": 0.25} if step == LOG_EVERY else {}
    return {"step": step, "train/loss": loss, "train/l2": 0.8 * loss, "train/kl": 3.0 + loss, **share}


def write_record(store: Store, trial: Trial, at: float = 1_790_000_000.0, **metrics: float) -> Record:
    """A finished trial: record, pictures, per-image values. Its effects are made up, its files are not."""
    kl = float(trial.treatment.levels["loss.kl"])
    psnr = 26.0 - 2 * math.log10(kl + 1e-3) + (trial.treatment.levels["padding"] == "reflect") - 0.3 * trial.seed
    values = {
        "psnr": psnr,
        "ssim": psnr / 40,
        "grid/fold": 1 / psnr,
        "grid/comb_db": math.log10(kl),
        "color/bias": -0.2,
    }
    folder = store.stage(trial.signature)
    write_json(folder.settings, trial.order())
    folder.pictures.mkdir(parents=True, exist_ok=True)
    for name, size in {"reconstruction": 64, "error_x8": 64, "grid_fold": 24}.items():
        Image.fromarray(picture(size, trial)).save(folder.pictures / f"{name}.png")
    write_json(folder.per_image, {"psnr": [psnr - 1, psnr + 1]})
    record = Record(
        trial.signature, trial.seed, "done", "", sum(STEPS), {**values, **metrics}, probes=trial.probe_keys,
        train_s=12.0, probe_s=3.0, data="0123456789abcdef",
    )  # fmt: skip
    folder.finish(record)
    os.utime(folder.record_file, (at, at))
    return record


def picture(size: int, trial: Trial) -> np.ndarray:
    """A disc with a checkerboard that changes every pixel, the pattern that careless resizing wipes out."""
    y, x = np.mgrid[:size, :size]
    disc = ((x - size / 2) ** 2 + (y - size / 2) ** 2 < (size / 3) ** 2) * 120
    board = (x + y) % 2 * 40
    return np.stack([disc + board, disc // 2 + board, 90 + board + 20 * trial.seed + 0 * x], -1).astype(np.uint8)
