"""Fixtures that all tests share, and the marks that a test has by its folder."""

import os
from pathlib import Path

import pytest
import torch

from ablate.study.study import Study, load_study
from tests.support import studies

os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would starve its workers on a machine that others use too


SLOW = ("integration", "chaos", "browser", "engine", "simulation")
"""Folders whose tests train, start processes, draw many studies or need other programs; `make check` leaves them out.

They come first, the slowest at the head, so that no worker is left alone with a long file at the end.
"""


@pytest.fixture
def write_study(tmp_path: Path) -> studies.Write:
    """Write the tiny study with some texts replaced; gives its path."""

    def write(*replacements: tuple[str, str], name: str = "tiny.yaml") -> Path:
        return studies.write_study(tmp_path, *replacements, name=name)

    return write


@pytest.fixture
def tiny(write_study: studies.Write) -> Study:
    return load_study(write_study())


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Slow files are not even imported where all of them are left out."""
    return True if config.option.markexpr == "not slow" and _is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _is_slow(item.path):
            item.add_marker("slow")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    items.sort(key=lambda item: SLOW.index(_folder(item.path)) if _is_slow(item.path) else len(SLOW))


def _folder(path: Path) -> str:
    """The folder of `tests/` that a path lies in."""
    return path.relative_to(Path(__file__).parent).parts[0]


def _is_slow(path: Path) -> bool:
    return any(path.is_relative_to(Path(__file__).parent / folder) for folder in SLOW)
