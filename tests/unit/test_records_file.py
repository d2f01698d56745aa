"""A records file gives the tables of the store that it was written from, and refuses what does not belong to it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ablate.plan.trials import Trial
from ablate.store.checksum import seal_line
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import inside
from tests.support.finished import finish_all
from tests.support.studies import Write

SEEDS = ("seeds: 2", "seeds: 3")


def planted(trial: Trial) -> dict[str, float]:
    rng = np.random.default_rng([trial.seed, *map(ord, trial.treatment.label)])
    return {"psnr": 20 - 3 * (trial.treatment.label == "kl=1") + rng.normal(0, 0.1)}


@pytest.fixture
def swept(write_study: Write, tmp_path: Path) -> tuple[Path, Path]:
    """A finished study's file and its store."""
    from ablate.driver.studies import write_card

    path = write_study(SEEDS)
    store = Store(tmp_path / "runs")
    study = load_study(path)
    finish_all(study, store, planted)
    from ablate.adaptive.recall import plan_study

    write_card(plan_study(study, store))
    return path, store.root


@pytest.fixture
def packed(swept: tuple[Path, Path], tmp_path: Path) -> Path:
    done = inside("table", swept[0], "--store", swept[1], "--format", "records")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "records.jsonl"
    file.write_text(done.stdout)
    return file


def refused(*arguments: str | Path) -> str:
    done = inside("table", *arguments)
    assert done.returncode == 2 and not done.stdout, done.stdout
    return done.stderr


@pytest.mark.parametrize("form", ["markdown", "latex", "html", "csv", "records"])
def test_every_form_of_the_table_is_that_of_the_store(
    form: str, swept: tuple[Path, Path], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = inside("table", swept[0], "--store", swept[1], "--format", form).stdout
    monkeypatch.chdir(tmp_path)
    swept[1].rename(tmp_path / "elsewhere")
    assert len(expected) > 300
    for study in ([], [swept[0]], [load_study(swept[0]).name]):
        done = inside("table", *study, "--records", packed, "--format", form)
        assert (done.stdout, done.stderr) == (expected, "")
    assert not (tmp_path / "runs").exists()


def test_a_record_takes_a_few_kb(packed: Path) -> None:
    lines = packed.read_text().splitlines()
    assert len(lines) == 1 + 6 and max(map(len, lines[1:])) < 4000


@pytest.mark.parametrize("command", [("report",), ("figure", "--kind", "effects", "--out", "effects.svg")])
def test_report_and_figure_of_a_records_file(
    command: tuple[str, ...], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = inside(*command, "--records", packed)
    assert done.returncode == 0, done.stderr
    written = Path(done.stdout.splitlines()[-1])
    assert written.resolve().parent == tmp_path and written.stat().st_size > 1000


def test_the_unpacked_store_is_gone_at_the_end(packed: Path, tmp_path: Path) -> None:
    from tests.support.command import ablate

    (tmp_path / "scratch").mkdir()
    done = ablate("table", "--records", packed, env={"TMPDIR": str(tmp_path / "scratch")})
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "scratch").iterdir())


def test_a_study_that_has_changed_since(swept: tuple[Path, Path], packed: Path) -> None:
    path, text = swept[0], swept[0].read_text()
    path.write_text(text.replace("loss.kl: [1, 1e-4]", "loss.kl: [1e-4, 1e-2]"))
    done = inside("table", path, "--records", packed)
    assert done.returncode == 0
    assert "3 of 6 records are of no trial of the study" in done.stderr and "has changed since" in done.stderr
    assert "kl=1" in inside("table", "--records", packed).stdout

    path.write_text(text.replace("steps: 6", "steps: 7"))
    assert "none of its records is of a trial of the study" in refused(path, "--records", packed)


def test_records_of_something_else(swept: tuple[Path, Path], packed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(swept[0].read_text().replace("study: tiny", "study: other"))
    assert "records of study 'tiny', not of 'other'" in refused(other, "--records", packed)
    held = refused(swept[0], "--records", packed, "--set", "loss.l2=2.0")
    assert "its records are of scale base, not of scale base --set" in held
    assert "--scale and --set go with a STUDY" in refused("--records", packed, "--set", "seeds=2")


def test_records_without_the_baseline(write_study: Write, tmp_path: Path) -> None:
    path, store = write_study(SEEDS), Store(tmp_path / "runs")
    finish_all(load_study(path), store, lambda trial: {} if trial.treatment.is_baseline else planted(trial))
    file = tmp_path / "records.jsonl"
    file.write_text(inside("table", path, "--store", store.root, "--format", "records").stdout)
    done = inside("table", path, "--records", file)
    assert "the records lack the baseline" in done.stderr and "No answer yet" in done.stdout


def resealed(lines: list[str], change: Callable[[list[dict[str, object]]], object]) -> str:
    """Lines that were changed by somebody who made new checksums."""
    values = [json.loads(line) for line in lines]
    change(values)
    checksum, text = "", ""
    for value in values:
        value.pop("_checksum", None)
        line, checksum = seal_line(value, checksum)
        text += line
    return text


HARM = {
    "name": lambda values: values[0].update(name="../../x"),
    "state": lambda values: values[0].update(state={"../x.json": 1}),
    "signature": lambda values: values[1].update(signature="../../x"),
    "format": lambda values: values[0].update(ablate_records=2),
    "overrides": lambda values: values[0].update(overrides=[1]),
    "count": lambda values: values.pop(),
    "record": lambda values: values[2].update(metrics={"psnr": "high"}),
    "two studies": lambda values: values.append(dict(values[0])),
}


@pytest.mark.parametrize("name", HARM)
def test_a_file_that_was_made_to_harm(name: str, packed: Path) -> None:
    before = set(packed.parent.parent.rglob("*"))
    packed.write_text(resealed(packed.read_text().splitlines(), HARM[name]))
    assert str(packed) in refused("--records", packed)
    assert set(packed.parent.parent.rglob("*")) == before


@pytest.mark.parametrize("damage", ["cut", "digit", "swapped", "empty", "no file", "bytes"])
def test_a_damaged_file(damage: str, packed: Path) -> None:
    text = packed.read_text()
    lines = text.splitlines(keepends=True)
    if damage == "no file":
        packed.unlink()
    elif damage == "bytes":
        packed.write_bytes(b"\xff\x00" * 30)
    else:
        lines[1], lines[2] = (lines[2], lines[1]) if damage == "swapped" else (lines[1], lines[2])
        changed = text.replace('"psnr": 1', '"psnr": 3', 1).replace('"psnr": 2', '"psnr": 3', 1)
        packed.write_text({"cut": text[:-200], "digit": changed, "swapped": "".join(lines), "empty": ""}[damage])
    assert str(packed) in refused("--records", packed)
