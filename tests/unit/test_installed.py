"""Installed packages count as a whole, by the hashes that pip has recorded."""

import hashlib
from pathlib import Path

import pytest

from ablate.slots import installed
from ablate.slots.own_code import OwnCode
from ablate.slots.own_import import Module

RECORD = """\
pkg/__init__.py,sha256=aa,1
pkg/inner.py,sha256=bb,1
pkg/__pycache__/inner.cpython-311.pyc,,
pkg-1.0.dist-info/INSTALLER,sha256=cc,4
other/__init__.py,sha256=dd,1
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with one in it."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("from pkg import inner\n")
    (tmp_path / "pkg" / "inner.py").write_text("X = 1\n")
    (tmp_path / "pkg-1.0.dist-info").mkdir()
    (tmp_path / "pkg-1.0.dist-info" / "METADATA").write_text("Name: pkg\nVersion: 1.0\n")
    (tmp_path / "pkg-1.0.dist-info" / "RECORD").write_text(RECORD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(installed, "_folders", lambda: frozenset({str(tmp_path)}))
    return tmp_path


def digest(site: Path) -> str:
    installed._recorded.cache_clear()
    file = site / "pkg" / "__init__.py"
    return installed.package_digest(Module(str(file), file.read_bytes(), is_package=True), "pkg.inner")


def test_a_file_of_the_package_counts_and_nothing_else(site: Path) -> None:
    record = site / "pkg-1.0.dist-info" / "RECORD"
    before = digest(site)
    for same in ("INSTALLER,sha256=cc", "other/__init__.py,sha256=dd"):
        record.write_text(RECORD.replace(same, same[:-2] + "zz"))
        assert digest(site) == before
    record.write_text(RECORD.replace("inner.py,sha256=bb", "inner.py,sha256=zz"))
    assert digest(site) != before


def test_without_a_record_the_file_counts(site: Path) -> None:
    (site / "pkg-1.0.dist-info" / "RECORD").unlink()
    assert digest(site) == hashlib.sha256((site / "pkg" / "__init__.py").read_bytes()).hexdigest()


def test_the_modules_that_an_installed_one_imports_are_not_read(site: Path) -> None:
    code = OwnCode()
    assert code.require("pkg") is not None
    assert set(code.modules) == {"pkg"}


def test_torch_is_installed() -> None:
    import torch

    file = Path(torch.__file__)
    module = Module(str(file), file.read_bytes(), is_package=True)
    assert installed.is_installed(module) and len(installed.package_digest(module, "torch.nn")) == 64
    assert not installed.is_installed(Module(__file__, b""))
