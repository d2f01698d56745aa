"""Swept studies that several tests read or copy."""

from pathlib import Path

import pytest

from tests.support import studies
from tests.support.command import ablate
from tests.support.shared import made_once


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store after a sweep of the tiny study with `LONG` trials, in one process and without interruption."""

    def sweep(folder: Path) -> None:
        folder.mkdir()
        done = ablate("sweep", studies.write_study(folder, *studies.LONG), "--store", folder / "runs",
                      "--inline", "--tracking", "none")  # fmt: skip
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "undisturbed", sweep) / "runs"
