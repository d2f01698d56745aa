"""The tidy frame: a row per trial whatever its state, numbers only where a record answers for them."""

import csv
import io
import math
from pathlib import Path

import pytest

from ablate.analysis.records.frame import tidy
from ablate.plan.trials import Trial, expand
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.study import Study, load_study
from tests.support.command import inside
from tests.support.finished import finish_all
from tests.support.studies import Write


@pytest.fixture
def study(write_study: Write) -> Study:
    return load_study(
        write_study(("loss.kl: [1, 1e-4]", "loss.kl: [1, 1e-4]\n  norm: [group, {level: scn, groups: 2}]"))
    )


def finished(trial: Trial, **metrics: float) -> Record:
    times = {"train_s": 1.5, "probe_s": 0.5}
    return Record(trial.signature, trial.seed, "done", "", trial.steps, metrics, probes=trial.probe_keys, **times)


def test_one_row_per_trial_in_order_with_factors_and_status(study: Study, tmp_path: Path) -> None:
    store, trials = Store(tmp_path), expand(study)
    store.stage(trials[0].signature).finish(finished(trials[0], psnr=20.0, ssim=0.5))
    store.stage(trials[1].signature).finish(Record(trials[1].signature, 1, "diverged", "not finite at step 3", 3))
    store.stage(trials[2].signature).root.mkdir(parents=True)
    store.stage(trials[2].signature).fail("ValueError: no", "trace")
    store.stage(trials[3].signature).beat(1, 6)
    frame = tidy(trials, store)
    assert list(frame["treatment"]) == [trial.treatment.label for trial in trials]
    assert list(frame["seed"]) == [0, 1, 0, 0, 1, 1]
    assert list(frame["status"]) == ["done", "diverged", "failed", "running", "pending", "pending"]
    assert list(frame["reason"]) == ["", "not finite at step 3", "ValueError: no", "", "", ""]
    assert list(frame["signature"]) == [trial.signature for trial in trials]
    assert list(frame["loss.kl"][:3]) == [1e-4, 1e-4, 1.0]
    assert list(frame["norm"][1:4]) == ["group", "group", "scn(groups=2)"]
    assert list(frame["steps"][:3]) == [6, 3, 0]
    assert list(frame["wall_s"][:2]) == [2.0, 0.0]
    assert frame["psnr"][0] == 20.0
    assert frame["psnr"][1:].isna().all()


def test_infinite_and_missing_numbers_stay_what_they_are(study: Study, tmp_path: Path) -> None:
    store, trials = Store(tmp_path), expand(study)
    store.stage(trials[0].signature).finish(finished(trials[0], psnr=math.inf))
    store.stage(trials[1].signature).finish(finished(trials[1], psnr=math.nan, ssim=1.0))
    frame = tidy(trials, store)
    assert frame["psnr"][0] == math.inf
    assert math.isnan(frame["ssim"][0])
    assert math.isnan(frame["psnr"][1])
    assert frame["ssim"][1] == 1.0


def test_a_probe_with_other_settings_is_not_answered(study: Study, tmp_path: Path) -> None:
    store, trial = Store(tmp_path), expand(study)[0]
    record = finished(trial, psnr=20.0)
    record.probes = {"reconstruction": "made with other settings"}
    store.stage(trial.signature).finish(record)
    row = tidy([trial], store).iloc[0]
    assert math.isnan(row["psnr"])
    assert row["status"] == "pending"
    assert row["reason"] == "not probed yet: reconstruction"


def test_gradient_shares_have_columns(study: Study, tmp_path: Path) -> None:
    store, trials = Store(tmp_path), expand(study)
    record = finished(trials[0], psnr=20.0)
    record.liveness = {"share/kl": 0.25, "other": 1.0}
    store.stage(trials[0].signature).finish(record)
    frame = tidy(trials, store)
    assert frame["share/kl"][0] == 0.25
    assert frame["share/kl"][1:].isna().all()
    assert "other" not in frame


def test_the_csv_of_trials_has_a_row_per_trial_at_full_precision(write_study: Write, tmp_path: Path) -> None:
    path, store = write_study(), Store(tmp_path / "runs")
    study = load_study(path)
    finish_all(study, store, lambda trial: {"psnr": 20 + 1 / 3 + trial.seed, "ssim": math.nan} if trial.seed else {})
    done = inside("table", str(path), "--trials", "--store", str(store.root))
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    trials = expand(study)
    assert [row["signature"] for row in rows] == [trial.signature for trial in trials]
    assert [float(row["psnr"]) if row["psnr"] else None for row in rows] == [
        20 + 1 / 3 + trial.seed if trial.seed else None for trial in trials
    ]
    assert {row["status"] for row in rows} == {"done", "pending"} and {row["ssim"] for row in rows} == {""}
    assert [row["loss.kl"] for row in rows] == [str(trial.treatment.levels["loss.kl"]) for trial in trials]
    chosen = inside("table", str(path), "--trials", "--metrics", "ssim", "--store", str(store.root)).stdout
    assert "ssim" in chosen.splitlines()[0] and "psnr" not in chosen.splitlines()[0]
    for arguments, words in (
        (("--metrics", "psrn"), "unknown metric 'psrn'; did you mean 'psnr'?"),
        (("--json",), "--trials is CSV of the trials of one STUDY; leave out the other format"),
    ):
        assert words in inside("table", str(path), "--trials", "--store", str(store.root), *arguments).stderr
