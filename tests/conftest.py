"""Shared fixtures: a study that trains in seconds, on the procedural pictures."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablate.study.study import Study, load_study

TINY = """\
study: tiny
question: Does a strong KL weight cost PSNR?
base:
  data: {level: leaves, crop: 16, resize: none, heldout_size: 32, heldout_count: 4}
  model: {level: image_kl, channels: [8, 8], latent_channels: 4, blocks: 1}
  norm: {level: group, groups: 4}
  padding: reflect
  loss: {l2: 1.0, kl: 1e-4}
factors:
  loss.kl: [1, 1e-4]
seeds: 2
stages:
  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}
probes: [reconstruction]
primary: psnr
"""


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny study with some texts replaced; gives its path."""

    def write(*replacements: tuple[str, str], name: str = "tiny.yaml") -> Path:
        text = TINY
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def tiny(write_study: Callable[..., Path]) -> Study:
    return load_study(write_study())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
