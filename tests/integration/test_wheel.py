"""What is installed: a wheel with one package, the same from checkout and sdist, that no folder beside it disturbs."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from ablate import __version__

ROOT = Path(__file__).parents[2]


LINKS = ("components", "analysis", "search_spaces")


HIDDEN = {"PYTHONPATH", "ABLATE_STORE", "MLFLOW_TRACKING_URI"}


ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in HIDDEN}


IMPORTABLE = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
"""For commands that need what the test itself can import."""


QUICK = ("--set", "seeds=1", "--set", "stages.train.steps=4", "--tracking", "none")


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env={**ENVIRONMENT, **environment}, capture_output=True, text=True,
        timeout=500, check=False,
    )  # fmt: skip


def build(source: Path, target: str, folder: Path) -> Path:
    """Build the wheel or sdist of a source tree without network; gives the file."""
    done = run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=source, **IMPORTABLE)
    assert done.returncode == 0, done.stderr
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    """Path -> content of every file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def package_files() -> set[str]:
    """The files of the package in the checkout, its links followed, without the committed results of studies."""
    found = set()
    for folder, folders, names in os.walk(ROOT / "ablate", followlinks=True):
        left_out = {"__pycache__", "results"} if Path(folder).name == "analysis" else {"__pycache__"}
        folders[:] = [name for name in folders if name not in left_out]
        found |= {str(Path(folder, name).relative_to(ROOT)) for name in names}
    return found


def test_the_wheel_holds_one_package_whole(wheel: Path) -> None:
    files = contents(wheel)
    assert {name.split("/")[0] for name in files} == {"ablate", f"ablate_vae-{__version__}.dist-info"}
    assert {name for name in files if name.startswith("ablate/")} == package_files()
    for name in ("py.typed", "components/norm/scn.py", "analysis/papers/vivat.py", "search_spaces/smoke.yaml"):
        assert f"ablate/{name}" in files
    assert {"ablate/analysis/report/page.css", "ablate/analysis/report/page.js"} <= set(files)


def test_the_sdist_doubles_nothing_and_builds_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    assert all(member.isfile() for member in members), "links are resolved"
    assert not {*LINKS, "tests", "benchmarks"}.intersection(path.name for path in root.iterdir())
    assert {member.name.partition("/")[2] for member in members} >= package_files()
    assert contents(build(root, "wheel", tmp_path / "wheel")) == contents(wheel)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a virtual environment with the wheel; the dependencies are those of this interpreter."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    options = ("--no-deps", "--no-index", "--no-cache-dir", "--quiet", "--disable-pip-version-check")
    done = run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (site / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # the .pth files in there are not read
    return folder / "bin"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with packages of the user's own that have the names of ours."""
    for name in (*LINKS, "benchmarks", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('the {name} of the project')\n")
    return tmp_path


def test_folders_of_the_project_are_not_taken_for_ours(installed: Path, project: Path) -> None:
    code = "import ablate.analysis, ablate.components; print(ablate.analysis.__file__, ablate.components.__file__)"
    found = run(installed / "python", "-c", code, cwd=project)
    assert all(Path(file).is_relative_to(installed.parent) for file in found.stdout.split()) and found.stdout
    for command in ([installed / "ablate"], [installed / "python", "-m", "ablate.cli"]):
        done = run(*command, "check", "smoke", cwd=project)
        assert done.stdout == "smoke: good (scale base: 2 treatments, 4 trials)\n", done.stderr


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", [(), ("--inline",)], ids=["ray", "inline"])
def test_a_sweep_beside_a_project_runs_the_installed_code(how: tuple[str, ...], installed: Path, project: Path) -> None:
    done = run(installed / "python", "-m", "ablate.cli", "sweep", "smoke", *QUICK, *how, cwd=project)
    assert done.returncode == 0 and "| baseline" in done.stdout, done.stderr
    shown = run(installed / "ablate", "show", "smoke", "--json", cwd=project)
    trials = json.loads(shown.stdout)
    assert [trial["status"] for trial in trials] == ["done"] * 2 and not any(trial["stale"] for trial in trials)
    assert {trial["code"]["commit"] for trial in trials} == {None}, "the code of the wheel, not of this checkout"
    assert any("</style>" in page.read_text(encoding="utf-8") for page in (project / "runs").rglob("report.html"))


def test_a_checkout_without_links_says_how_to_mend_it(tmp_path: Path) -> None:
    """As git leaves it under `core.symlinks=false`: text files in place of links."""
    shutil.copytree(ROOT / "ablate", tmp_path / "ablate", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in LINKS:
        (tmp_path / "ablate" / name).unlink()
        (tmp_path / "ablate" / name).write_text(f"../{name}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ablate").write_text("from ablate.cli.main import main\nmain()\n")
    for command in ((tmp_path / "bin" / "ablate",), ("-m", "ablate.cli"), ("-c", "import ablate.slots")):
        done = run(sys.executable, *command, cwd=tmp_path, PYTHONPATH=str(tmp_path))
        assert done.returncode == 1 and ("Traceback" in done.stderr) == (command[0] == "-c")
        assert "git config core.symlinks true" in done.stderr and "developer mode" in done.stderr
        assert "git checkout -- ablate/components ablate/analysis ablate/search_spaces" in done.stderr


@pytest.mark.parametrize("name", ["components", "analysis"])
def test_the_folders_are_not_imported_by_their_own_names(name: str) -> None:
    done = run(sys.executable, "-c", f"import {name}", cwd=ROOT)
    assert f"ImportError: {ROOT / name / '__init__.py'} belongs to ablate" in done.stderr
    assert f"imported as ablate.{name}" in done.stderr
