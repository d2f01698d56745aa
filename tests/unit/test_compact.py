"""The copy of a study's records: it changes no number, and is never believed over a record."""

import os
import time
from pathlib import Path

import pandas as pd
import pytest

from ablate.analysis.records import compact
from ablate.analysis.records.frame import tidy
from ablate.plan.trials import Trial, expand
from ablate.store.files import read_json, write_json
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.store.stage import StageFolder
from ablate.study.study import Study, load_study
from tests.support.finished import finish_all
from tests.support.studies import Write

LEVELS = ("loss.kl: [1, 1e-4]", "loss.kl: [1e-4, 1, 1e-2]")


LONG_AGO = time.time() - 3600


def psnr(trial: Trial) -> float:
    return 20 + trial.seed + float(trial.treatment.levels["loss.kl"])


@pytest.fixture
def study(write_study: Write) -> Study:
    return load_study(write_study(LEVELS))


@pytest.fixture
def store(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Four finished trials of six, an hour old; one has diverged, one of the others failed."""
    monkeypatch.setattr(compact, "LEAST", 1)
    store = Store(tmp_path / "runs")
    finish_all(study, store, lambda trial: {} if trial.name in {"kl=1 s1", "kl=0.01 s1"} else {"psnr": psnr(trial)})
    by_name = {trial.name: store.stage(trial.signature) for trial in expand(study)}
    lost = by_name["kl=1 s0"].record()
    assert lost
    odd = {"metrics": {"psnr": float("inf")}, "raw": {"psnr": 7.0}, "liveness": {"share/kl": 0.25}}
    by_name["kl=0.01 s0"].finish(Record(**{**vars(by_name["kl=0.01 s0"].record()), **odd}))
    by_name["kl=1 s0"].finish(Record(lost.signature, lost.seed, "diverged", "not finite at step 3", 3))
    by_name["kl=1 s1"].fail("ValueError: no", "trace")
    for folder in by_name.values():
        if folder.record_file.exists():
            os.utime(folder.record_file, (LONG_AGO, LONG_AGO))
    return store


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "records.parquet"


def test_the_frame_is_the_same_with_and_without_a_copy(study: Study, store: Store, copy: Path) -> None:
    for raw in (False, True):
        plain = tidy(expand(study), store, raw=raw)
        for _ in ("written", "read"):
            pd.testing.assert_frame_equal(tidy(expand(study), store, raw=raw, copy=copy), plain)
    assert list(plain["status"]) == ["done", "done", "diverged", "done", "failed", "pending"]
    assert plain["psnr"].tolist()[3] == 7.0 and plain["share/kl"].tolist()[3] == 0.25


def test_no_record_is_opened_that_the_copy_holds(
    study: Study, store: Store, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidy(expand(study), store, copy=copy)
    opened: list[Path] = []
    monkeypatch.setattr(StageFolder, "record", lambda self: opened.append(self.record_file))
    tidy(expand(study), store, copy=copy)
    marks = {trial.signature for trial in expand(study) if store.stage(trial.signature).record_stamp()}
    assert len(marks) == 4 and not marks & {path.parent.name for path in opened}


def change(folder: StageFolder, psnr: float) -> None:
    """Write the record with another value of psnr."""
    record = read_json(folder.record_file)
    write_json(folder.record_file, {**record, "metrics": {**record["metrics"], "psnr": psnr}})


def test_a_record_that_changed_is_read_again(study: Study, store: Store, copy: Path) -> None:
    tidy(expand(study), store, copy=copy)
    folder = store.stage(expand(study)[0].signature)
    size = folder.record_file.stat().st_size
    change(folder, 21.0001)
    assert folder.record_file.stat().st_size == size, "as large as before"
    assert tidy(expand(study), store, copy=copy)["psnr"][0] == pytest.approx(21.0001)
    folder.record_file.unlink()
    assert tidy(expand(study), store, copy=copy)["status"][0] == "pending"


def test_a_record_just_written_is_not_copied(study: Study, store: Store, copy: Path) -> None:
    """A second write within a tick of the clock, of the same size, would go unseen."""
    folder = store.stage(expand(study)[0].signature)
    now = time.time()
    os.utime(folder.record_file, (now, now))
    tidy(expand(study), store, copy=copy)
    change(folder, 29.0001)
    os.utime(folder.record_file, (now, now))
    assert tidy(expand(study), store, copy=copy)["psnr"][0] == pytest.approx(29.0001)


@pytest.mark.parametrize("damage", ["lost", "cut short", "no parquet", "another format"])
def test_a_copy_that_is_no_use_is_made_anew(study: Study, store: Store, copy: Path, damage: str) -> None:
    plain = tidy(expand(study), store, copy=copy)
    whole = copy.read_bytes()
    if damage == "lost":
        copy.unlink()
    elif damage == "another format":
        pd.DataFrame({"psnr": [1.0]}).to_parquet(copy)
    else:
        copy.write_bytes(whole[: len(whole) // 2] if damage == "cut short" else b"no parquet")
    pd.testing.assert_frame_equal(tidy(expand(study), store, copy=copy), plain)
    assert len(pd.read_parquet(copy)) == 4


def test_a_store_that_may_only_be_read_needs_no_copy(study: Study, store: Store, tmp_path: Path) -> None:
    plain = tidy(expand(study), store)
    nowhere = tmp_path / "file"
    nowhere.write_text("a file where a folder is wanted")
    pd.testing.assert_frame_equal(tidy(expand(study), store, copy=nowhere / "records.parquet"), plain)


def test_a_probe_with_other_settings_is_not_answered_by_the_copy(study: Study, store: Store, copy: Path) -> None:
    tidy(expand(study), store, copy=copy)
    folder = store.stage(expand(study)[0].signature)
    write_json(folder.record_file, {**read_json(folder.record_file), "probes": {"reconstruction": "other"}})
    for where in (None, copy):
        row = tidy(expand(study), store, copy=where).iloc[0]
        assert row["status"] == "pending" and row["reason"] == "not probed yet: reconstruction"
        assert pd.isna(row["psnr"])
