"""What checkpoints of finished trials keep, what `ablate gc` frees, and that nothing computes other numbers by it."""

import os
import resource
from pathlib import Path

import pytest
import torch

from ablate.adaptive.recall import plan_study
from ablate.driver.disk import DiskNeed, disk_need, why_short
from ablate.driver.keep import ORDER, Keeper, collect
from ablate.driver.models import build_failure
from ablate.driver.studies import write_card
from ablate.engine import checkpoint
from ablate.engine.run import run_trial
from ablate.engine.stages import cached_corpus
from ablate.errors import StoreError
from ablate.identity import canonical
from ablate.plan.plan import Plan
from ablate.plan.stale import is_stale
from ablate.plan.trials import Trial, pending
from ablate.probing.load import load_vae
from ablate.schedule.agenda import Event
from ablate.schedule.inline import run_inline
from ablate.schedule.resources import Resources
from ablate.store.checksum import verify_file
from ablate.store.folders import Store
from ablate.store.leases import Leases
from ablate.store.record import KEPT, Record
from ablate.store.shrink import KEEPS, shrink
from ablate.study.study import Study, load_study
from tests.support.studies import Write
from tests.support.training import CPU, run_to_end, run_until

ONE = ("seeds: 2", "seeds: 1")

GAN = ("kl: 1e-4}", "kl: 1e-4, adversarial: 0.1}\n  discriminator: {level: patchgan, width: 8}")

LARGE = ("crop: 16", "crop: 24")

STAGE = "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}"

TUNE = (STAGE, f"{STAGE}\n  - tune: {{steps: 2, batch: 2, lr: 1e-3, log_every: 1}}")

RATES = ("  loss.kl: [1, 1e-4]", "  stages.tune.lr: [1e-3, 1e-4]")


def keeping(keep: str) -> tuple[str, str]:
    return ("primary: psnr", f"primary: psnr\nkeep: {keep}")


def run_all(study: Study, store: Store) -> Plan:
    """Run a study as a sweep does, with what a sweep notes of it."""
    plan = plan_study(study, store)
    write_card(plan)

    def notify(event: Event) -> None:
        if event.kind == "done":
            keeper.ended(event.trial)

    with Keeper(plan) as keeper:
        run_inline(plan.pending, store, Resources(), notify)
    assert not pending(plan.ready, store)
    return plan_study(study, store)


def names(store: Store, signature: str) -> set[str]:
    """The kinds of tensors in a checkpoint; empty without one."""
    file = store.stage(signature).checkpoint
    return {name.partition(".")[0] for name in checkpoint.load(file)} if file.exists() else set()


def record_of(trial: Trial, store: Store) -> Record:
    record = store.stage(trial.signature).record()
    assert record
    return record


KINDS = {
    "weights": {"model", "ema", "balance"},
    "all": {"model", "ema", "balance", "optimizer", "log", "discriminator", "optimizer_d"},
    "ema": {"ema", "balance"},
    "none": set(),
}


@pytest.mark.parametrize("keep", KEEPS)
def test_what_a_finished_trial_keeps(
    keep: str, write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results are those of a trial that keeps all, to the last bit; the plan knows the space that it takes."""
    study = load_study(write_study(ONE, GAN, LARGE, keeping(keep)))
    store, whole = Store(tmp_path / "runs"), Store(tmp_path / "whole")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert build_failure(study.baseline) is None
    before = plan_study(study, store)
    need = disk_need(before, before.nodes, set())
    plan = run_all(study, store)
    total = 0
    for trial in plan.ready:
        expected = run_to_end(trial, whole)
        largest = sum(tensor.nbytes for tensor in expected.values())
        assert names(store, trial.signature) == KINDS[keep]
        assert record_of(trial, store).metrics == record_of(trial, whole).metrics
        assert record_of(trial, store).raw == record_of(trial, whole).raw
        assert not is_stale(record_of(trial, store)) and not plan.pending
        folder = store.stage(trial.signature)
        if folder.checkpoint.exists():
            assert verify_file(folder.checkpoint)
            found = checkpoint.load(folder.checkpoint)
            assert all(torch.equal(found[name], expected[name]) for name in found)
            held = sum(tensor.nbytes for tensor in found.values())
            total += held
            parameters = record_of(trial, store).parameters
            if keep == "all":
                assert found.keys() == expected.keys() and held > 20 * parameters
            else:
                assert held == {"weights": 8, "ema": 4}[keep] * parameters + 4  # and the log-variance
            picture = torch.zeros(1, 3, 16, 16)
            one, other = (load_vae(place.stage(trial.signature).checkpoint, torch.device("cpu")).encode(picture).mean
                          for place in (store, whole))  # fmt: skip
            assert torch.equal(one, other)
    assert need and need.kept == pytest.approx(total, rel=0.01) and need.passing == 0
    assert need.training == pytest.approx(2 * largest, rel=0.01)


@pytest.mark.parametrize("keep", ["weights", "ema", "none"])
def test_another_probe_later(keep: str, write_study: Write, tmp_path: Path) -> None:
    """From the weights that are left, or trained again; raw weights that are gone are not probed."""
    store = Store(tmp_path / "runs")
    run_all(load_study(write_study(ONE, keeping(keep))), store)
    plan = run_all(load_study(write_study(ONE, keeping(keep), ("[reconstruction]", "[reconstruction, color]"))), store)
    whole = Store(tmp_path / "whole")
    for trial in plan.ready:
        run_to_end(trial, whole)
        found, expected = record_of(trial, store), record_of(trial, whole)
        assert found.metrics == expected.metrics
        color = {name for name in expected.raw if name.startswith("color/")}
        assert color and (color <= found.raw.keys()) == (keep != "ema")


def test_a_stage_that_others_share_keeps_all(write_study: Write, tmp_path: Path) -> None:
    """So a row that is added later goes on from it; until `gc` frees it, and then it is trained again to the same."""
    store = Store(tmp_path / "runs")
    plan = run_all(load_study(write_study(ONE, TUNE, RATES)), store)
    base = plan.ready[0].signatures[0]
    made = store.stage(base).checkpoint.stat().st_mtime_ns
    assert "optimizer" in names(store, base) and names(store, plan.ready[0].signature) == KINDS["weights"]
    more = load_study(write_study(ONE, TUNE, ("  loss.kl: [1, 1e-4]", "  stages.tune.lr: [1e-3, 1e-4, 1e-2]")))
    run_all(more, store)
    assert store.stage(base).checkpoint.stat().st_mtime_ns == made

    # Freed, needed again
    found = collect(store, None, stale=False, dry=True)
    assert list(found.bytes_of) == [store.stage(base).checkpoint] and "optimizer" in names(store, base)
    assert collect(store, None, stale=False, dry=False).total > 0.4 * found.total
    assert names(store, base) == KINDS["weights"] and not collect(store, None, stale=False, dry=True).bytes_of
    last = load_study(write_study(ONE, TUNE, ("  loss.kl: [1, 1e-4]", "  stages.tune.lr: [1e-3, 1e-4, 1e-2, 1e-5]")))
    assert plan_study(last, store).nodes[0].signature == base
    assert base not in plan_study(last, store).trained
    plan = run_all(last, store)
    assert "optimizer" in names(store, base)
    alone = Store(tmp_path / "alone")
    run_to_end(plan.ready[-1], alone)
    assert record_of(plan.ready[-1], store).metrics == record_of(plan.ready[-1], alone).metrics


def test_a_worker_alone_trains_a_reduced_stage_again(write_study: Write, tmp_path: Path) -> None:
    trial = plan_study(load_study(write_study(ONE, TUNE)), Store(tmp_path / "a")).ready[0]
    store, whole = Store(tmp_path / "a"), Store(tmp_path / "b")
    run_until(7, trial, store)  # in the second stage, which has no checkpoint yet
    shrink(store.stage(trial.signatures[0]).checkpoint, "weights")
    found, expected = run_to_end(trial, store), run_to_end(trial, whole)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    shrink(store.stage(trial.signatures[0]).checkpoint, "weights")
    assert run_to_end(trial, store).keys() == found.keys(), "a finished stage needs nothing of the one before"
    assert KEPT in (store.stage(trial.signatures[0]).header() or {})


def test_stages_and_forks_that_nothing_goes_on_from(write_study: Write, tmp_path: Path) -> None:
    """A first stage of one trial is reduced when that ends; a fork is deleted when all trials from it have."""
    late = ("kl: 1e-4}", "kl: {weight: 1e-4, start: 4}}")
    store = Store(tmp_path / "runs")
    study = load_study(write_study(ONE, late, (STAGE, STAGE.replace("6", "9"))))
    plan = run_all(study, store)
    (fork,) = {fork.signature for trial in plan.ready for forks in trial.forks for fork in forks}
    assert not store.stage(fork).checkpoint.exists() and not plan.pending
    alone = Store(tmp_path / "alone")
    for trial in plan.ready:
        run_to_end(trial, alone)
        assert record_of(trial, store).metrics == record_of(trial, alone).metrics
    other = Store(tmp_path / "other")
    plan = run_all(load_study(write_study(ONE, TUNE)), other)
    for trial in plan.ready:
        assert [names(other, mark) for mark in trial.signatures] == [KINDS["weights"]] * 2


def test_gc_spares_what_is_pending(write_study: Write, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    plan = plan_study(load_study(write_study(ONE, TUNE, RATES)), store)
    write_card(plan)
    run_to_end(plan.ready[0], store)
    base = plan.ready[0].signatures[0]
    before = store.stage(base).checkpoint.stat().st_mtime_ns
    found = collect(store, None, stale=False, dry=False)
    assert list(found.bytes_of) == [store.stage(plan.ready[0].signature).checkpoint]
    assert store.stage(base).checkpoint.stat().st_mtime_ns == before
    run_all(load_study(write_study(ONE, TUNE, RATES)), store)
    assert set(collect(store, "ema", stale=False, dry=False).bytes_of) == {
        store.stage(mark).checkpoint for trial in plan.ready for mark in trial.signatures
    }
    assert names(store, base) == KINDS["ema"]


def test_gc_and_a_sweep_exclude_each_other(write_study: Write, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    run_all(load_study(write_study(ONE)), store)
    with Leases(store.root, "a sweep") as leases:
        leases.take("tiny")
        with pytest.raises(StoreError, match=r"is in use by a sweep \(pid"):
            collect(store, "none", stale=False, dry=False)
        assert collect(store, "none", stale=False, dry=True).total


def test_gc_frees_what_was_moved_aside_and_left_unfinished(write_study: Write, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    plan = run_all(load_study(write_study(ONE)), store)
    folder = store.stage(plan.ready[0].signature).root
    moved = store.set_aside(plan.ready[0].signature)
    moved.mkdir(parents=True)
    (moved / "checkpoint.safetensors").write_bytes(bytes(1000))
    left = folder / ".checkpoint.safetensors.000000-4194305-1.123"  # above the largest id of a process
    left.write_bytes(bytes(500))
    assert not collect(store, None, stale=False, dry=True).bytes_of, "it may be of a process of another machine"
    os.utime(left, (1, 1))
    assert collect(store, None, stale=False, dry=True).bytes_of == {left: 500}
    assert collect(store, None, stale=True, dry=False).bytes_of == {left: 500, store.root / "stale": 1000}
    assert not left.exists() and not moved.exists()


def test_keep_is_a_key_of_the_study(write_study: Write) -> None:
    assert load_study(write_study()).keep == "weights" and set(ORDER) == set(KEEPS)
    with pytest.raises(Exception, match="unknown kept part 'weihgts'; did you mean 'weights'"):
        load_study(write_study(keeping("weihgts")))
    one, other = (
        plan_study(load_study(write_study(*more)), Store(Path("none"))).ready for more in ((), (keeping("all"),))
    )
    assert [trial.signature for trial in one] == [trial.signature for trial in other]


def test_a_disk_that_is_too_small_is_said_before(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ways out that help; a shared first stage is kept whole, and unknown models are not guessed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = plan_study(load_study(write_study(ONE, TUNE, RATES)), Store(tmp_path / "runs"))
    assert disk_need(plan, plan.nodes, set()) is None and not why_short(plan, Resources(), inline=True)
    assert build_failure(plan.study.baseline) is None
    need = disk_need(plan, plan.nodes, set())
    assert need
    whole = need.training // 2
    assert need == DiskNeed(whole + 2 * (whole // 2), 0, 2 * whole)
    base = plan.ready[0].signatures[0]
    assert disk_need(plan, plan.nodes, {base}) == DiskNeed(2 * (whole // 2), 0, 2 * whole)
    for free, said in ((4 * whole, False), (4 * whole - 1, True)):
        monkeypatch.setattr("ablate.driver.disk.free_bytes", lambda root, free=free: free)
        assert bool(why_short(plan, Resources(), inline=True)) == said
    text = why_short(plan, Resources(workers=2), inline=False)
    assert "ablate gc" in text and "--store" in text and "'keep'" in text and "with 2 at once" in text
    monkeypatch.setattr("ablate.driver.disk.free_bytes", lambda root: 5 * whole)
    assert "fewer --workers" in why_short(plan, Resources(workers=2), inline=False)


@pytest.mark.parametrize("limit", [10_000, 300_000])
def test_a_file_that_cannot_be_written_leaves_nothing_behind(
    limit: int, write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk, by a limit on the size of files: while pictures are prepared, and while a checkpoint is."""
    trial = plan_study(load_study(write_study(ONE, ("[8, 8]", "[24, 24]"))), Store(tmp_path)).ready[0]
    store = Store(tmp_path / "runs")
    if limit > 10_000:
        cached_corpus.cache_clear()
        cached_corpus(canonical(trial.order()["recipe"]["data"]), store.data)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        result = run_trial(trial.order(), store, CPU, 1, lambda progress: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.status == "failed" and "too large" in result.reason.lower()
    files = [path for path in tmp_path.rglob("*") if path.name.startswith((".", "unfinished-"))]
    assert files == [] and not store.stage(trial.signature).checkpoint.exists()
    assert run_to_end(trial, store)
