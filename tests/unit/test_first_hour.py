"""The likeliest mistakes of a first hour: each is said in a sentence that names the way out, never by a traceback."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from ablate.adaptive.recall import plan_study
from ablate.driver.studies import write_card
from ablate.slots import registry
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import Done, ablate, command, environment, inside
from tests.support.finished import finish_all
from tests.support.studies import write_study


class Mistake(NamedTuple):
    """What a user does in the folder of `desk`, and what he is told. `study`: replacements in the tiny study's text."""

    command: str
    told: str
    study: tuple[tuple[str, str], ...] = ()


def pictures(folder: str) -> tuple[tuple[str, str], ...]:
    """The tiny study on a folder of pictures."""
    return (("level: leaves", f"level: folder, path: {folder}"),)


BASE = "(treatment 'baseline', scale base)"
RUN_ONE = "run a study (ablate sweep STUDY.yaml), or name its store with --store"
SLOTS = ", ".join(sorted(slot for slot in registry.SLOTS if slot != "probe"))
ALL_SLOTS = ", ".join(sorted([*registry.SLOTS, "stages"]))

MISTAKES = [
    # The command line
    Mistake("sweeep study.yaml", "No such command 'sweeep'. Did you mean 'sweep'?"),
    Mistake("sweep", "Missing argument 'STUDY'."),
    Mistake("plan study.yaml more", "Got unexpected extra argument(s) (more)"),
    Mistake("sweep study.yaml --wokers 2", "No such option: --wokers (Possible options: --workers)"),
    Mistake("ui --port 99999", "Invalid value for '--port': Input should be less than or equal to 65535"),
    Mistake("sweep study.yaml --set kl=1", "--set kl=1: unknown slot 'kl' in 'kl'; did you mean 'loss.kl'?"),
    Mistake("sweep study.yaml --set seeds", "--set seeds: expected PATH=VALUE, found 'seeds'"),
    Mistake("sweep study.yaml --scale gpu", "--scale gpu: unknown scale 'gpu'; the study has no scales: leave "
            "--scale out"),
    Mistake("sweep study.yaml --set seeds=3 --max-trials 1", "2 trials are pending, more than --max-trials 1; raise "
            "the bound, or run less, for instance with --set seeds=1"),
    Mistake("sweep study.yaml --set seeds=3 --tracking none --address 127.0.0.1:1", "there is no Ray cluster at "
            "127.0.0.1:1: Connection refused; start one (ray start --head), or leave --address out to use this machine "
            "alone"),
    # Which study
    Mistake("sweep stduy.yaml", "stduy.yaml: cannot read the study: no such file; did you mean 'study.yaml'?"),
    Mistake("check none/mine.yaml", "none/mine.yaml: cannot read the study: no such file; ablate init writes one to "
            "begin with"),
    Mistake("sweep study", "runs: the store holds no study 'study', and there is no such file; it holds: tiny (base); "
            "did you mean the file 'study.yaml'?"),
    Mistake("sweep smok", "runs: the store holds no study 'smok', and there is no such file; it holds: tiny (base); "
            "did you mean 'smoke'?"),
    Mistake("table tinny", "runs: the store holds no study 'tinny', and there is no such file; it holds: tiny (base); "
            "did you mean 'tiny'?"),
    Mistake("show tiny --scale gpu", "runs: the store holds no study 'tiny' at scale 'gpu', and there is no such file; "
            "it holds: tiny (base)"),
    Mistake("table tiny --store elsewhere", "elsewhere: there is no such store, and no file or example of the name "
            "'tiny'; run a study first (ablate sweep STUDY.yaml), or name its store with --store"),
    Mistake("sweep pictures", "pictures: cannot read the study: it is a folder; name the YAML file in it"),
    Mistake("sweep pictures/0.png", "pictures/0.png: cannot read the study: it is not UTF-8 text (byte 1 is 0x89); a "
            "study is a YAML file, saved as UTF-8"),
    Mistake("sweep mine.yaml", "mine.yaml:1:8: the store runs holds another study named 'tiny', which asks: 'Does a "
            "strong KL weight cost PSNR?' (from study.yaml); rename this one or use another --store",
            (("Does", "Why does"),)),
    # The store
    Mistake("studies --store pictures", f"the store pictures holds no study yet; {RUN_ONE}"),
    Mistake("ui --store elsewhere", f"the store elsewhere is not there; {RUN_ONE}"),
    Mistake("ui", "MLflow has nothing yet of the store runs, which holds tiny; run: ablate sync tiny"),
    Mistake("sweep study.yaml --store study.yaml", "the store study.yaml cannot be used: study.yaml is a file, not a "
            "folder"),
    Mistake("sweep study.yaml --store /proc/runs", "the store /proc/runs cannot be written: No such file or directory; "
            "name another with --store"),
    Mistake("table tiny --store s3://", "the store s3:// names no bucket; expected s3://BUCKET/FOLDER"),
    # The text of the study
    Mistake("check empty.yaml", "empty.yaml: the file is empty; ablate init writes a study to begin with"),
    Mistake("check mine.yaml", "mine.yaml:6:1: not valid YAML: a tab; YAML is indented with spaces alone",
            (("  norm:", "\tnorm:"),)),
    Mistake("check mine.yaml", "mine.yaml:7:12: unknown level 'refelct' of padding; did you mean 'reflect'? (valid: "
            "circular, reflect, replicate, zeros)", (("padding: reflect", "padding: refelct"),)),
    Mistake("check mine.yaml", f"mine.yaml:7:3: unknown slot 'pading'; did you mean 'padding'? (valid: {SLOTS})",
            (("padding:", "pading:"),)),
    Mistake("check mine.yaml", "mine.yaml:6:9: norm: expected a level or a mapping with 'level', found a mapping "
            "without 'level' (valid: group, rms, rms_joint, scn)", (("{level: group, groups: 4}", "{groups: 4}"),)),
    Mistake("check mine.yaml", "mine.yaml:10:3: unknown slot 'kl' in 'kl'; did you mean 'loss.kl'?",
            (("  loss.kl: [1, 1e-4]", "  kl: [1, 1e-4]"),)),
    Mistake("check mine.yaml", "mine.yaml:11:8: seeds: expected a count or distinct numbers from 0, such as 3 or [0, "
            "1, 2], found 'three'", (("seeds: 2", "seeds: three"),)),
    Mistake("check mine.yaml", "mine.yaml:15:10: primary: none of the probes reports 'pnsr'; did you mean 'psnr'? "
            "(valid: psnr, ssim)", (("primary: psnr", "primary: pnsr"),)),
    Mistake("check mine.yaml", "mine.yaml:6:9: the model cannot be built: norm: 8 channels do not divide into 3 "
            f"groups; set norm.groups {BASE}", (("groups: 4", "groups: 3"),)),
    Mistake("check mine.yaml", "mine.yaml:4:31: crop must be a multiple of the stride 2 of model 'image_kl', found 15; "
            "the nearest: 14 and 16", (("crop: 16", "crop: 15"),)),
    # Pictures
    Mistake("check mine.yaml", "mine.yaml:4:31: data/folder: there is no folder pictrues in {here}; paths are relative "
            f"to the folder in which the command runs {BASE}", pictures("pictrues")),
    Mistake("sweep mine.yaml", "mine.yaml:4:31: data/folder: there is no folder pictures/0.png; it is a file, name the "
            f"folder that it lies in {BASE}", pictures("pictures/0.png")),
    Mistake("check mine.yaml", "mine.yaml:4:31: data/folder: notes holds no pictures (.bmp, .jpeg, .jpg, .png, .tif, "
            f".tiff, .webp); convert them, or name another folder {BASE}", pictures("notes")),
    Mistake("check mine.yaml", "mine.yaml:4:31: data/folder: one holds one picture; training and held-out need one "
            f"each {BASE}", pictures("one")),
    Mistake("check mine.yaml", "mine.yaml:4:9: data/folder, train: 2 of 2 pictures are smaller than the crop of 16 px: "
            "1.png, 2.png; data/folder, heldout: 1 of 1 pictures are smaller than the held-out crop of 32 px: 0.png; "
            f"move them elsewhere, or lower data.crop, data.resize_to or data.heldout_size {BASE}", pictures("icons")),
    Mistake("check mine.yaml", "mine.yaml:4:9: data/folder, train: 1 of 3 pictures are not readable "
            f"(UnidentifiedImageError): bad.png; repair them or move them elsewhere {BASE}", pictures("broken")),
    # Results
    Mistake("table tiny --metrics psnrr", "unknown metric 'psnrr'; did you mean 'psnr'? (valid: psnr, ssim)"),
    Mistake("table tiny --format latx", "--format 'latx'; did you mean 'latex'? (valid: csv, html, latex, markdown, "
            "records)"),
    Mistake("figure tiny", "Missing option '--kind'."),
    Mistake("figure tiny --kind effect", "unknown kind 'effect'; did you mean 'effects'? (valid: answer, balance, "
            "convergence, curves, diffusion, effects, erasure, interaction, pareto, "
            "pictures, spectra, spectra_drawn)"),
    Mistake("figure tiny --kind effects --out x.gif", "cannot write 'x.gif': valid suffixes are .pdf, .svg, .png"),
    Mistake("figure tiny --kind effects --out none/x.pdf", "--out none/x.pdf: there is no folder none; make it first"),
    Mistake("figure tiny --kind effects --out /proc/x.pdf", "/proc/x.pdf cannot be written: No such file or directory; "
            "name another file with --out"),
    Mistake("report tiny --out /proc/x.html", "/proc/x.html cannot be written: No such file or directory; name another "
            "file with --out"),
    Mistake("report tiny --out pictures", "--out pictures: it is a folder; name a file in it"),
    # Beginning, levels, checkpoints
    Mistake("init .", "study.yaml exists already, and nothing was written; name another folder: ablate init DIR"),
    Mistake("init study.yaml", "study.yaml is a file; name a folder to begin in"),
    Mistake("init /proc/mine", "/proc/mine cannot be written: No such file or directory; name another folder"),
    Mistake("init mine --pictures none", "--pictures none: there is no such folder"),
    Mistake("components nrm", f"unknown slot 'nrm'; did you mean 'norm'? (valid: {ALL_SLOTS})"),
    Mistake("components norm smn", "unknown level 'smn' of norm; did you mean 'scn'? (valid: group, rms, rms_joint, "
            "scn)"),
    Mistake("probe none.safetensors", "there is no file or folder none.safetensors; nothing is downloaded: fetch a "
            "released model first, for instance with `hf download OWNER/NAME --local-dir FOLDER`"),
    Mistake("probe pictures", "pictures is no VAE: expected a checkpoint.safetensors, or a config.json with "
            "'_class_name' as diffusers writes it, here or in vae/"),
]  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a study that has run, its store, and folders of pictures, most of which are no use."""
    monkeypatch.chdir(tmp_path)
    for name in ("ABLATE_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for folder, side in (("pictures", 64), ("icons", 8), ("broken", 64)):
        Path(folder).mkdir()
        for i in range(3):
            Image.fromarray(np.full((side, side, 3), i, np.uint8)).save(Path(folder, f"{i}.png"))
    Path("broken", "bad.png").write_bytes(b"no picture")
    for folder, file in (("one", "pictures/0.png"), ("notes", __file__)):
        Path(folder).mkdir()
        shutil.copy(file, folder)
    Path("empty.yaml").write_text("")
    path = write_study(tmp_path, name="study.yaml").relative_to(tmp_path)
    study, store = load_study(path), Store(Path("runs"))
    finish_all(study, store, lambda trial: {"psnr": 20.0 + trial.seed, "ssim": 0.5})
    write_card(plan_study(study, store))
    return tmp_path


def told(done: Done) -> str:
    """The error of a command, without usage, quoted source, counts and what came before it."""
    text = done.stderr.partition("\nError: ")[2] or done.stderr
    quoted = re.compile(r" *\d* +\||\d+ errors?$|tiny at scale")
    return "\n".join(line for line in text.splitlines() if not quoted.match(line))


@pytest.mark.parametrize(
    "mistake", MISTAKES, ids=lambda mistake: f"{mistake.command} {len(mistake.study) or ''}".strip()
)
def test_a_mistake_is_told_with_its_way_out(mistake: Mistake, desk: Path) -> None:
    if mistake.study:
        write_study(desk, *mistake.study, name="mine.yaml")
    before = sorted(desk.rglob("*"))
    done = inside(*mistake.command.split())
    assert told(done) == mistake.told.format(here=desk)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert [path for path in sorted(desk.rglob("*")) if path not in before and "data" not in path.parts] == []


def test_there_are_forty() -> None:
    assert len(MISTAKES) >= 40


def test_words_of_a_command_are_split_as_a_shell_does(desk: Path) -> None:
    """A store with a space in its name: the hint can be pasted."""
    shutil.copytree("runs", "my runs")
    assert told(inside("ui", "--store", "my runs")).endswith("run: ablate sync tiny --store 'my runs'")


def test_a_terminal_without_our_signs_shows_others(desk: Path) -> None:
    done = ablate("table", "tiny", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and "20.50   ? 0.71" in done.stdout, done.stderr


def test_a_folder_that_was_removed(desk: Path) -> None:
    gone = desk / "gone"
    gone.mkdir()
    study = write_study(desk, *pictures("pictures"), name="mine.yaml")
    script = f"cd {gone}; rmdir {gone}; exec {shlex.join(command('check', study))}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert told(done) == "the folder in which the command runs is not there any more; change to another one"


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ABLATE_STORE", raising=False)
    return inside


def test_nothing_yet(fresh: Callable[..., Done]) -> None:
    for words in ("status smoke-test", "table smoke-test"):
        assert told(fresh(*words.split())) == (
            "runs: there is no such store, and no file or example of the name 'smoke-test'; run a study first (ablate "
            "sweep STUDY.yaml), or name its store with --store; did you mean 'smoke'?"
        )
    assert told(fresh("studies")) == f"the store runs is not there; {RUN_ONE}"
    assert told(fresh("table")) == "give a STUDY, or --paper and --table"
