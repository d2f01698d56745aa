"""The loop: repeatable, resumable, blind to absent terms, and honest about divergence."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate.engine import build, checkpoint, run, stages
from ablate.engine.checkpoint import Checkpoint
from ablate.engine.state import TrainingState
from ablate.engine.steplog import StepLog
from ablate.engine.train import TrainingParts, draw_batch, gradient_shares, learning_rate, train, weighted_losses
from ablate.plan.trials import Trial, expand, pending
from ablate.recipe.stages import Train
from ablate.slots.training import Step
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.studies import Write, trial_of
from tests.support.training import CPU, assert_equal, parts_of, run_to_end, run_until

FULL = (
    "kl: 1e-4}",
    "kl: 1e-4, perceptual: {weight: 0.1, backbone: random_features}, adversarial: 0.1}\n"
    "  discriminator: {level: patchgan, width: 8, layers: 2}",
)


def built(trial: Trial, store: Store) -> tuple[TrainingParts, Train]:
    return parts_of(trial, store.data), trial.treatment.recipe.stages[0].settings


def test_a_trial_is_repeatable_and_finished_trials_are_not_run_again(write_study: Write, tmp_path: Path) -> None:
    trial = trial_of(write_study(FULL))
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    assert_equal(run_to_end(trial, one), run_to_end(trial, two))
    records = [store.stage(trial.signature).record() for store in (one, two)]
    assert records[0] and records[1] and records[0].metrics == records[1].metrics
    assert pending([trial], one) == []


def place_channels_last(module: torch.nn.Module, _device: torch.device) -> None:
    """The layout of networks on a GPU, here."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_killed_trial_goes_on_exactly_where_it_was(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels_last: bool
) -> None:
    if channels_last:
        monkeypatch.setattr(build, "move_to", place_channels_last)
        monkeypatch.setattr(run, "move_to", place_channels_last)
    trial = trial_of(write_study(FULL))
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    expected = run_to_end(trial, whole)

    run_until(4, trial, cut)  # the checkpoint is of step 3, the log of step 4
    folder = cut.stage(trial.signature)
    known = checkpoint.header(folder.checkpoint)
    assert known and known["step"] == 3 and folder.record() is None
    assert_equal(run_to_end(trial, cut), expected)

    def lines(store: Store) -> list[dict[str, Any]]:
        rows = store.stage(trial.signature).read_steps()
        return [{k: v for k, v in row.items() if k != "train/steps_per_s"} for row in rows]

    assert [row["step"] for row in lines(cut)] == [2, 4, 6]
    assert lines(cut)[0] == lines(whole)[0] and lines(cut)[2] == lines(whole)[2]


def test_a_kill_while_the_log_is_cut_back_costs_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Store(tmp_path).stage("a" * 16)
    folder.root.mkdir(parents=True)
    folder.steps.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3)))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        StepLog(folder, Checkpoint({"step": 2}, {}), CPU)
    assert len(folder.read_steps()) == 3
    StepLog(folder, Checkpoint({"step": 2}, {}), CPU)
    assert [line["step"] for line in folder.read_steps()] == [1, 2]


def test_batches_and_noise_depend_on_seed_and_step_alone(write_study: Write, tmp_path: Path) -> None:
    store = Store(tmp_path)
    trials = {trial.name: trial for trial in expand(load_study(write_study()))}
    parts, settings = built(trials["baseline s0"], store)
    other, _ = built(trials["kl=1 s0"], store)
    batch = draw_batch(parts, settings, 0, "train", 3)
    draw_batch(other, settings, 0, "train", 1)
    assert torch.equal(batch, draw_batch(other, settings, 0, "train", 3))
    assert not torch.equal(batch, draw_batch(other, settings, 0, "train", 4))
    assert not torch.equal(batch, draw_batch(other, settings, 1, "train", 3))
    assert batch.shape == (2, 3, 16, 16) and batch.min() >= -1 and batch.max() <= 1


@pytest.mark.parametrize("term", ["kl: 1e-4, perceptual: 0}", "kl: 1e-4, adversarial: 0}", "kl: 1e-4, l1: 0}"])
def test_weight_zero_equals_component_absent_bit_for_bit(write_study: Write, tmp_path: Path, term: str) -> None:
    absent = trial_of(write_study())
    zero = trial_of(write_study(("kl: 1e-4}", term)))
    assert zero.order()["recipe"]["loss"] != absent.order()["recipe"]["loss"]
    assert_equal(run_to_end(absent, Store(tmp_path / "absent")), run_to_end(zero, Store(tmp_path / "zero")))


def test_shared_parts_start_equal_in_every_treatment(write_study: Write, tmp_path: Path) -> None:
    path = write_study(("loss.kl: [1, 1e-4]", "norm: [group, scn]"))
    group, scn = (built(trial, Store(tmp_path))[0].vae.state_dict() for trial in (trial_of(path, 0), trial_of(path, 2)))
    shared = [name for name in group if name.endswith("conv1.weight")]
    assert shared and all(torch.equal(group[name], scn[name]) for name in shared)


def test_a_diverged_trial_is_a_result_with_step_and_reason(write_study: Write, tmp_path: Path) -> None:
    trial = trial_of(write_study(("lr: 3e-3", "lr: 1e30")))
    store = Store(tmp_path)
    result = run.run_trial(trial.order(), store, CPU, 1, lambda progress: None)
    record = store.stage(trial.signature).record()
    assert result.status == "diverged" and record and record.status == "diverged"
    assert "not finite at step" in record.reason and 1 < record.steps <= 6
    assert pending([trial], store) == []


def test_a_worker_looks_for_its_pictures_once(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, store = expand(load_study(write_study())), Store(tmp_path / "runs")
    looked: list[str] = []
    original = stages.prepare
    monkeypatch.setattr(stages, "prepare", lambda level, *rest: (looked.append(level), original(level, *rest))[1])
    for trial in trials[:2]:
        run_to_end(trial, store)
    assert looked == ["leaves"]


def test_a_failure_is_written_down_and_tried_again(write_study: Write, tmp_path: Path) -> None:
    trial, store = trial_of(write_study()), Store(tmp_path)
    log = store.stage(trial.signature).steps
    log.mkdir(parents=True)
    result = run.run_trial(trial.order(), store, CPU, 1, lambda progress: None)
    assert result.status == "failed" and "steps.jsonl" in result.reason
    assert store.stage(trial.signature).status() == "failed"
    assert pending([trial], store) == [trial]
    log.rmdir()
    run_to_end(trial, store)
    assert store.stage(trial.signature).status() == "done" and not store.stage(trial.signature).failure()


def test_a_probe_added_later_does_not_train_again(write_study: Write, tmp_path: Path) -> None:
    store = Store(tmp_path)
    run_to_end(trial_of(write_study()), store)
    more = trial_of(write_study(("probes: [reconstruction]", "probes: [reconstruction, color]")))
    assert pending([more], store) == [more]
    steps: list[int] = []
    run_to_end(more, store, lambda progress: steps.append(progress.step))
    record = store.stage(more.signature).record()
    assert steps == [] and record and {"psnr", "color/bias_norm"} <= record.metrics.keys()


def test_stages_are_chained(write_study: Write, tmp_path: Path) -> None:
    chain = "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}"
    trial = trial_of(write_study((chain, chain + "\n  - cool: {steps: 2, batch: 2, lr: 1e-4}")))
    store = Store(tmp_path)
    after = run_to_end(trial, store)
    before = checkpoint.load(store.stage(trial.signatures[0]).checkpoint)
    record = store.stage(trial.signature).record()
    assert record and record.steps == 8
    change = max((after[name] - before[name]).abs().max() for name in before if name.startswith("model."))
    assert 0 < change <= 2 * 1.1e-4 * 2, "two AdamW steps of 1e-4 from the first stage's weights"
    assert store.stage(trial.signatures[0]).record() is None


def test_liveness_of_terms_and_parameters(write_study: Write, tmp_path: Path) -> None:
    trial = trial_of(write_study(FULL))
    store = Store(tmp_path)
    run_to_end(trial, store)
    record = store.stage(trial.signature).record()
    assert record and set(record.liveness) == {"share/l2", "share/kl", "share/perceptual", "share/adversarial"}
    assert sum(record.liveness.values()) == pytest.approx(1.0)
    assert 0.9 * record.parameters < record.active_parameters <= record.parameters


def test_gradient_shares_against_separate_backward_passes(write_study: Write, tmp_path: Path) -> None:
    parts, settings = built(trial_of(write_study()), Store(tmp_path))
    x = draw_batch(parts, settings, 0, "train", 1)

    def look() -> Step:
        posterior = parts.vae.encode(x)
        return Step(x, parts.vae.decode(posterior.mean), posterior, posterior.mean, None)

    losses, _ = weighted_losses(parts, look(), 1, torch.zeros(()))
    shares = gradient_shares(losses, parts.vae)
    norms = {}
    for name in parts.terms:
        parts.vae.zero_grad()
        weighted_losses(parts, look(), 1, torch.zeros(()))[0][name].backward()
        norms[name] = sum(p.grad.square().sum() for p in parts.vae.parameters() if p.grad is not None) ** 0.5
    total = sum(norms.values())
    for name, norm in norms.items():
        assert float(shares[f"share/{name}"]) == pytest.approx(float(norm / total), rel=1e-4)


def test_learning_rate_ramps_up_and_down() -> None:
    settings = Train(steps=10, lr=2.0, warmup=2, cooldown=4)
    assert [learning_rate(settings, step) for step in range(1, 11)] == [1, 2, 2, 2, 2, 2, 2, 1.5, 1, 0.5]
    assert {learning_rate(Train(steps=3, lr=2.0), step) for step in (1, 2, 3)} == {2.0}


def test_ema_against_its_recursion(write_study: Write, tmp_path: Path) -> None:
    parts, settings = built(trial_of(write_study()), Store(tmp_path))
    state = TrainingState(parts.vae, parts.discriminator, settings)
    expected = {name: p.detach().double() for name, p in parts.vae.named_parameters()}
    for step in range(1, 30):
        with torch.no_grad():
            for parameter in parts.vae.parameters():
                parameter.add_(0.1)
        state.update_ema(0.5, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {n: decay * expected[n] + (1 - decay) * p.detach().double() for n, p in parts.vae.named_parameters()}
    for name, value in state.ema.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-5)


def test_the_step_reads_nothing_back_between_lines(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts `item` and `tolist` on tensors: one read a logged line, none in the steps between."""
    trial = trial_of(write_study(FULL, ("log_every: 2, checkpoint_every: 3", "log_every: 3, checkpoint_every: 100")))
    parts, _ = built(trial, Store(tmp_path))
    reads: list[str] = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)

        def spy(self: torch.Tensor, *args: Any, original: Any = original, name: str = name, **kwargs: Any) -> Any:
            reads.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, spy)
    stage = trial.treatment.recipe.stages[0]
    stage = replace(stage, settings=stage.settings.model_copy(update={"steps": 7}))
    seen: list[int] = []
    monkeypatch.setattr(TrainingState, "save", lambda *_, **__: Checkpoint({}, {}))
    train(parts, stage, 0, Store(tmp_path).stage("x"), None, lambda step, _: seen.append(len(reads)), {}, lambda _: {})
    assert seen == [1, 2, 3], reads


def test_a_checkpoint_of_others_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not a checkpoint of ablate"):
        checkpoint.header(tmp_path / "x.safetensors")


def test_a_used_process_equals_a_fresh_one(write_study: Write, tmp_path: Path) -> None:
    """Spoil everything global, run, and compare with an unspoilt run."""
    trial = trial_of(write_study(FULL))
    clean = run_to_end(trial, Store(tmp_path / "clean"))
    run_to_end(trial_of(write_study(("padding: reflect", "padding: zeros"))), Store(tmp_path / "between"))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    torch.set_grad_enabled(False)
    assert_equal(run_to_end(trial, Store(tmp_path / "spoilt")), clean)
    assert json.loads(Store(tmp_path / "spoilt").stage(trial.signature).settings.read_text())["seed"] == 0
