"""Adding to a study runs what is new; what other code has made is redone on demand, and nothing else."""

from pathlib import Path

from ablate.driver.overview import plan, status
from ablate.plan.stale import is_stale, set_aside
from ablate.plan.trials import Trial, expand, pending
from ablate.schedule.inline import run_inline
from ablate.schedule.resources import Resources
from ablate.store.folders import StageFolder, Store
from ablate.store.record import Record
from ablate.study.study import load_study
from tests.support.studies import Write

TUNE = (
    "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}",
    "  - train: {steps: 3, batch: 2, lr: 3e-3}\n  - tune: {steps: 2, batch: 2, lr: 1e-3}",
)


LEVELS = ("  loss.kl: [1, 1e-4]", "  stages.tune.lr: [1e-3, 1e-4]")


def recorded(store: Store, trial: Trial) -> Record:
    record = store.stage(trial.signature).record()
    assert record
    return record


def made_by_other_code(folder: StageFolder, *levels: str) -> None:
    record = folder.record()
    assert record
    record.code["components"] |= dict.fromkeys(levels, "another source")
    folder.finish(record)


def test_levels_and_seeds_that_are_added_are_all_that_is_run(write_study: Write, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    first = expand(load_study(write_study(("seeds: 2", "seeds: 1"))))
    for trial in first:
        store.stage(trial.signature).finish(Record(trial.signature, 0, "done", "", 6, probes=trial.probe_keys))
    more = expand(load_study(write_study(("kl: [1, 1e-4]", "kl: [1, 1e-4, 0.1]"))))
    assert [trial.name for trial in pending(more, store)] == ["baseline s1", "kl=0.1 s0", "kl=1 s1", "kl=0.1 s1"]


def test_what_other_code_has_made_is_redone(write_study: Write, tmp_path: Path) -> None:
    """Of two treatments with two seeds that share their first stages, one trial by another padding."""
    study, store = load_study(write_study(TUNE, LEVELS)), Store(tmp_path / "runs")
    trials = expand(study)
    run_inline(trials, store, Resources(), lambda event: None)
    before = {trial.name: recorded(store, trial) for trial in trials}
    assert set_aside(trials, store) == [] and pending(trials, store) == []
    made_by_other_code(store.stage(trials[0].signature), "padding/reflect")
    planned = plan(study, store, redo=True)
    assert planned["pending"] == 1 and plan(study, store)["pending"] == 0
    assert planned["estimate_s"] is not None and status(study, store)["trials"]["stale"] == 1
    assert set_aside(trials, store) == [trials[0]] and pending(trials, store) == [trials[0]]
    for mark in trials[0].signatures:
        assert not store.stage(mark).root.exists() and (store.set_aside(mark) / "checkpoint.safetensors").exists()
    run_inline(pending(trials, store), store, Resources(), lambda event: None)
    for trial in trials:
        record = recorded(store, trial)
        assert not is_stale(record) and record.metrics == before[trial.name].metrics
        assert (record.train_s == before[trial.name].train_s) == (trial is not trials[0])


def test_where_only_a_probe_has_changed_nothing_is_trained(write_study: Write, tmp_path: Path) -> None:
    study = load_study(write_study(("seeds: 2", "seeds: 1"), ("[reconstruction]", "[reconstruction, color]")))
    trials, store = expand(study), Store(tmp_path / "runs")
    run_inline(trials, store, Resources(), lambda event: None)
    folder, before = store.stage(trials[1].signature), recorded(store, trials[1])
    made = folder.checkpoint.stat().st_mtime_ns
    made_by_other_code(folder, "probe/color")
    assert set_aside(trials, store) == [trials[1]] and pending(trials, store) == [trials[1]]
    assert set(recorded(store, trials[1]).probes) == {"reconstruction"}
    run_inline(pending(trials, store), store, Resources(), lambda event: None)
    after = recorded(store, trials[1])
    assert not is_stale(after) and after.metrics == before.metrics and after.probes == before.probes
    assert folder.checkpoint.stat().st_mtime_ns == made
