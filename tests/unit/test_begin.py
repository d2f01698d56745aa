"""What a user does first and next: init, doctor, studies, ui, completion, version, help."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image

from ablate import __version__
from ablate.adaptive.recall import plan_study
from ablate.cli import doctor
from ablate.cli.main import COMMANDS
from ablate.driver.studies import write_card
from ablate.slots import registry
from ablate.store.files import write_json
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import environment, inside
from tests.support.finished import finish
from tests.support.studies import Write


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("ABLATE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def draw(folder: Path, count: int, side: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (side, side + i, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


# init


def test_init_writes_a_study_that_is_good_as_it_is(here: Path) -> None:
    draw(here / "my photos" / "2024", 12, 200)
    draw(here / "icons", 3, 16)
    done = inside("init")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["study.yaml", "ablate.schema.json", ".gitignore"]
    assert "The study is about the 12 pictures in 'my photos'." in done.stderr and "cd " not in done.stderr
    text = (here / "study.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=ablate.schema.json\n") and '"my photos"' in text
    for scale in ((), ("--set", "model.channels=[64, 128, 128]")):
        checked = inside("check", "study.yaml", *scale)
        assert checked.stdout == "study.yaml: good (scale cpu: 3 treatments, 9 trials)\n", checked.stderr
    schema = json.loads((here / "ablate.schema.json").read_text(encoding="utf-8"))
    loader = yaml.SafeLoader  # whose 1e-4 is text
    jsonschema.validate(yaml.load(text.replace("1e-", "1.0e-"), loader), schema)
    assert (here / ".gitignore").read_text() == "runs/\n__pycache__/\n"


def test_init_suits_small_pictures(here: Path) -> None:
    draw(here / "pictures", 20, 70)
    assert inside("init").returncode == 0
    assert load_study(here / "study.yaml").baseline.parts["data"].settings.plain()["heldout_size"] == 64
    assert inside("check", "study.yaml").returncode == 0


def test_init_counts_what_the_study_has(here: Path) -> None:
    """Links to folders, but neither what systems leave beside pictures nor a picture twice."""
    draw(here / "elsewhere" / "kept", 6, 64)
    draw(here / "pictures", 8, 64)
    (here / "pictures" / "more").symlink_to(here / "elsewhere")
    (here / "pictures" / "again.png").symlink_to(here / "pictures" / "0.png")
    draw(here / "pictures" / "__MACOSX", 9, 64)
    for i in range(9):
        (here / "pictures" / f"._{i}.png").write_bytes(b"left by macOS")
    assert "The study is about the 14 pictures in pictures." in inside("init").stderr
    config = registry.level("data", "folder").Config.read({"path": str(here / "pictures"), "heldout_fraction": 0.2})
    found = [len(registry.build("data", "folder", config.plain(), split)) for split in ("train", "heldout")]
    assert sum(found) == 14
    assert inside("check", "study.yaml").returncode == 0


def test_init_passes_over_a_link_to_itself(here: Path) -> None:
    draw(here / "pictures", 8, 64)
    (here / "other").mkdir()
    (here / "other" / "loop").symlink_to("loop")
    (here / "other" / "loop.png").symlink_to("loop.png")
    done = inside("init")
    assert done.returncode == 0, done.stderr
    assert "The study is about the 8 pictures in pictures." in done.stderr
    assert inside("check", "study.yaml").returncode == 0


def test_init_without_pictures_says_where_to_put_them(here: Path) -> None:
    done = inside("init", "new study")
    assert "Put your pictures into 'new study/pictures'" in done.stderr and "  cd 'new study'\n" in done.stderr
    assert sorted(path.name for path in (here / "new study").iterdir()) == [
        ".gitignore", "ablate.schema.json", "study.yaml"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["study.yaml", "ablate.schema.json"])
def test_init_overwrites_nothing(here: Path, name: str) -> None:
    (here / name).write_text("mine")
    done = inside("init")
    assert done.returncode == 2 and f"{name} exists already" in done.stderr
    assert [path.name for path in here.iterdir()] == [name] and (here / name).read_text() == "mine"


def test_init_adds_to_a_gitignore_what_it_lacks(here: Path) -> None:
    (here / ".gitignore").write_text("*.pyc\n__pycache__/")
    assert inside("init").returncode == 0
    assert (here / ".gitignore").read_text() == "*.pyc\n__pycache__/\nruns/\n"


def test_init_takes_pictures_from_elsewhere(here: Path) -> None:
    draw(here / "data", 4, 150)
    assert inside("init", "work", "--pictures", "data").returncode == 0
    data = load_study(here / "work" / "study.yaml").baseline.parts["data"].settings.plain()
    assert data["path"] == str(here / "data") and data["heldout_size"] == 128


# doctor

FINDINGS = {
    "Python": "ok", "torch": "ok", "Ray": "ok", "MLflow": "ok", "shared memory": None, "disk": None, "video": None,
    "pdflatex": None, "diffusers": None, "features": None, "LPIPS vgg": None, "LPIPS alex": None, "port": "ok",
}  # fmt: skip
"""Each line of the report, and its state where a machine that runs these tests can have one alone."""


def test_doctor_reports_every_line_with_a_fix_for_what_is_not_ok(here: Path) -> None:
    found = json.loads(inside("doctor", "--json").stdout)
    checks = {check["name"]: check for check in found["checks"]}
    assert list(checks) == list(FINDINGS) and found["ok"]
    assert {name for name, state in FINDINGS.items() if state and checks[name]["state"] != state} == set()
    assert [check for check in found["checks"] if (check["state"] == "ok") != (not check["fix"])] == []
    assert "on the CPU" in checks["torch"]["found"] or "×" in checks["torch"]["found"]
    assert not (here / "runs").exists()


def test_doctor_exits_with_1_for_what_every_study_needs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "ray").mkdir()
    (here / "ray" / "__init__.py").write_text("raise ImportError('a broken ray')\n")
    monkeypatch.setenv("PYTHONPATH", str(here))
    done = inside("doctor")
    assert done.returncode == 1
    assert re.search(r"broken   *Ray  *ImportError: a broken ray\n  *→ pip install 'ray\[tune\]'", done.stdout)


def test_doctor_finds_weights_where_lpips_looks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(here))
    assert doctor.trunk("alex").state == "missing" and "alexnet-owt-7be5be79.pth to" in doctor.trunk("alex").fix
    file = here / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    assert doctor.trunk("alex") == doctor.Finding("LPIPS alex", "ok", str(file))


def test_doctor_names_a_port_in_use_and_a_small_disk(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(doctor, "UI_PORT", taken.getsockname()[1])
        assert "is in use; ablate ui takes another one" in doctor.port().found
    assert "is free" in doctor.port().found
    monkeypatch.setattr(doctor, "LOW_DISK", 1e18)
    assert doctor.disk(here / "runs").state == "missing" and "--store DIR" in doctor.disk(here / "runs").fix
    assert doctor.optional("x", "no_such_module", "for y", "pip install z") == doctor.Finding(
        "x", "missing", "for y", "pip install z"
    )


# studies


@pytest.fixture
def two(here: Path, write_study: Write) -> Path:
    """A store of one study that was run plain, where a trial failed, and then with `--set`."""
    store = Store(here / "runs")
    for overrides in ((), ("seeds=1",)):
        plan = plan_study(load_study(write_study(), None, overrides), store)
        write_card(plan)
        for trial in plan.trials[:3]:
            finish(store, trial, {"psnr": 20.0})
        if not overrides:
            write_json(store.stage(plan.trials[3].signature).error, {"reason": "why", "trace": ""})
    os.utime(store.study("tiny", "base").card, (0, 0))
    return here


def test_studies_lists_the_store(two: Path) -> None:
    rows = json.loads(inside("studies", "--json").stdout)
    assert [(row["name"], row["scale"], row["overrides"], row["trials"]) for row in rows] == [
        ("tiny", "base", ["seeds=1"], {"done": 2}),
        ("tiny", "base", [], {"done": 3, "failed": 1}),
    ]
    lines = inside("studies").stdout.splitlines()
    assert lines[0].split() == ["study", "scale", "--set", "done", "pending", "failed", "last", "run", "question"]
    assert lines[2].split()[:5] == ["tiny", "base", "3", "0", "1"]
    assert "Does a strong KL weight cost PSNR?" in lines[2]


# ui


def test_ui_says_which_port_it_took(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server itself is MLflow's and takes 20 s to start: see tests/integration/test_track.py."""
    from contextlib import contextmanager

    from ablate.track import server

    class Ended:
        def wait(self) -> int:
            return 0

    @contextmanager
    def serving(uri: str, artifacts: Path, port: int, host: str) -> Any:
        yield server.Server(f"http://{host}:{port + 1}", Ended())  # type: ignore[arg-type]

    monkeypatch.setattr(server, "serving", serving)
    monkeypatch.setattr(server, "list_links", lambda uri, url, write: None)
    (two / "runs" / "mlflow.db").touch()
    done = inside("ui", "--port", "5000")
    assert done.stdout == "MLflow is at http://127.0.0.1:5001 (port 5000 is in use; Ctrl-C stops it)\n"
    assert done.stderr.startswith("starting MLflow's server")


# Completion, version, help


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("table ti", ["tiny.yaml", "tiny"]),
        ("sweep ", ["smoke", "tiny.yaml", "tiny"]),
        ("check ti", ["tiny.yaml"]),
        ("sweep vivat_gr", ["vivat_grid"]),
        ("table sub/", ["sub/other.yml"]),
        ("doc", ["doctor"]),
    ],
)
def test_shells_complete_studies(two: Path, typed: str, offered: list[str]) -> None:
    (two / "sub").mkdir()
    (two / "sub" / "other.yml").touch()
    words = typed.split(" ")
    variables = {"COMP_WORDS": f"ablate {typed}", "COMP_CWORD": str(len(words)), "_ABLATE_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv = ['ablate']; from ablate.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(variables), check=False
    )
    assert set(offered) <= set(done.stdout.split()), done.stderr
    assert typed.endswith(" ") or done.stdout.split() == offered


def test_version_and_help(here: Path) -> None:
    assert inside("--version").stdout == f"ablate {__version__}\n"
    help_text = inside("-h").stdout
    assert help_text == inside("--help").stdout
    assert "ablate sweep [OPTIONS] {STUDY}" in inside("sweep", "-h").stdout
    headings = [line.rstrip(":") for line in help_text.splitlines() if re.match("To .*:$", line)]
    assert headings == list(COMMANDS) and headings[0] == "To begin"


def test_every_command_is_in_the_help_and_on_its_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    names = [name for described in COMMANDS.values() for name in described]
    help_text = inside("-h").stdout
    assert [name for name in names if not re.search(rf"^  {name} ", help_text, re.M)] == []
    assert [name for name in names if f"`ablate {name}" not in page] == []


def test_python_m_ablate_is_the_command(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ablate", "--version"], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout == f"ablate {__version__}\n"


def test_a_hint_can_be_pasted(write_study: Write, tmp_path: Path) -> None:
    import shlex

    from ablate.plan.commands import command

    study = load_study(write_study(), None, ["data.crop=16", "norm={level: group, groups: 4}"])
    words = shlex.split(command("sync", study, Store(tmp_path / "my runs")))
    assert words == ["ablate", "sync", "tiny", "--set", "data.crop=16", "--set", "norm={level: group, groups: 4}",
                     "--store", str(tmp_path / "my runs")]  # fmt: skip
    assert command("show", load_study(write_study()), Store(Path("runs"))) == "ablate show tiny"
