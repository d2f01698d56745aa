"""Out of memory: batches are split into micro-batches, the step stays what it was, and nothing is tried in vain."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ablate.engine import train
from ablate.engine.memory import OutOfMemory, micro_batches, ran_out, within_memory
from ablate.engine.pulse import Pulse
from ablate.plan.footprint import Footprint, configuration, read, write
from ablate.plan.tree import stage_tree
from ablate.plan.trials import Trial, expand
from ablate.schedule.lost import split_after_kill
from ablate.schedule.stalls import read_heartbeat
from ablate.slots.training import Autoencoder
from ablate.store import host_memory
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import Done, ablate
from tests.support.studies import Write, copy_package, trial_of
from tests.support.training import parts_of, run_to_end, run_until

GAN = (
    "kl: 1e-4}",
    "kl: 1e-4, perceptual: {weight: 0.1, backbone: random_features}, adversarial: {weight: 0.1, mode: adaptive}}\n"
    "  discriminator: {level: patchgan, width: 8, layers: 2}\n  regularizer: {level: se, strength: 0.25}",
)


@pytest.fixture
def parts(write_study: Write, tmp_path: Path) -> train.TrainingParts:
    return parts_of(trial_of(write_study(GAN, ("batch: 2", "batch: 4, learn_logvar: true"))), tmp_path)


def flat(vae: Autoencoder) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in vae.parameters() if p.grad is not None])


@pytest.mark.parametrize("size", [2, 1, 3])
def test_gradients_are_those_of_the_whole_batch_in_float64(parts: train.TrainingParts, size: int) -> None:
    """Of a function that is no mean over the batch: a norm of all pictures and latents."""
    vae = parts.vae.double()
    x = torch.rand(4, 3, 16, 16, dtype=torch.float64) * 2 - 1
    noise = torch.randn(4, 4, 8, 8, dtype=torch.float64)

    def gradient() -> torch.Tensor:
        vae.zero_grad()
        posterior = vae.encode(x)
        (vae.decode(posterior.sample(noise)).norm() * posterior.mean.std()).backward()
        return flat(vae)

    whole = gradient()
    with micro_batches(vae, size):
        split = gradient()
    torch.testing.assert_close(split, whole, rtol=1e-10, atol=1e-14)
    assert torch.equal(gradient(), whole), "whole again"


@pytest.mark.parametrize("size", [2, 1])
def test_a_step_of_all_terms_stays_the_same(parts: train.TrainingParts, write_study: Write, size: int) -> None:
    """With what looks at the whole batch: batch norm, the adaptive weight, a regularizer that decodes again."""
    settings = load_study(write_study(GAN, ("batch: 2", "batch: 4, learn_logvar: true"))).baseline.stages[0].settings
    batch = train.draw_batch(parts, settings, 0, "train", 1)

    def step() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
        parts.vae.zero_grad()
        look = train.forward(parts, settings, batch, 0, "train", 1)
        losses, notes = train.weighted_losses(parts, look, 1, torch.zeros((), requires_grad=True))
        shares = train.gradient_shares(losses, parts.vae)
        torch.stack(list(losses.values())).sum().backward()
        return losses, {**notes, **shares}, flat(parts.vae)

    losses, notes, gradient = step()
    with micro_batches(parts.vae, size):
        split = step()
    assert losses.keys() == split[0].keys() and {"regularizer", "adversarial", "perceptual"} <= losses.keys()
    torch.testing.assert_close(split[0], losses, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(split[1], notes, rtol=1e-4, atol=1e-6)
    assert (split[2] - gradient).norm() < 1e-5 * gradient.norm()


def test_only_one_micro_batch_is_alive(parts: train.TrainingParts) -> None:
    """By the bytes that autograd keeps for the way back, which no longer grow with the batch."""

    def kept(size: int) -> int:
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        with micro_batches(parts.vae, size), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            parts.vae.decode(torch.randn(4, 4, 8, 8))
        return total

    assert kept(2) < kept(4) / 10


def test_copies_are_split_too_and_are_themselves(parts: train.TrainingParts) -> None:
    """Probes look at copies with averaged weights during training."""
    from copy import deepcopy

    z = torch.randn(4, 4, 8, 8)
    with micro_batches(parts.vae, 2):
        copy = deepcopy(parts.vae)
        with torch.no_grad():
            for parameter in copy.parameters():
                parameter.zero_()
            assert copy.decode(z).abs().max() == 0 and parts.vae.decode(z).abs().max() > 0


def test_what_counts_as_out_of_memory() -> None:
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory"))
    assert not ran_out(RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert ran_out(caught.value)


def test_trials_that_cost_the_same_need_the_same(write_study: Write) -> None:
    factors = "  loss.kl: [1, 1e-4, 0]\n  stages.train.lr: [1e-3, 3e-3]\n  stages.train.batch: [2, 4]\ndesign: grid\n"
    trials = expand(load_study(write_study(("  loss.kl: [1, 1e-4]\n", factors))))
    keys = {configuration(trial.treatment.recipe, trial.treatment.recipe.stages[0]) for trial in trials}
    assert len(keys) == 4, "with and without the term, at two sizes of the batch"


GREEDY = '''"""`image_kl` on a device with room for so many pictures at once while it trains."""

import torch
from pydantic import NonNegativeInt, PositiveInt

from ablate.slots import ModelSettings
from ablate.components.model import image_kl


class Config(ModelSettings):
    """`room`: in pictures."""

    room: NonNegativeInt
    channels: tuple[PositiveInt, ...]
    latent_channels: PositiveInt

    @property
    def stride(self) -> int:
        return 1 << (len(self.channels) - 1)


def build(config, encoder, decoder):
    plain = image_kl.Config(channels=config.channels, latent_channels=config.latent_channels, blocks=1)
    model = Greedy(plain, encoder, decoder)
    model.room = config.room
    return model


class Greedy(image_kl.ImageKL):
    def decode(self, z):
        if torch.is_grad_enabled() and len(z) > self.room:
            raise torch.OutOfMemoryError(f"no room for {len(z)} pictures")
        return super().decode(z)
'''


def sweep(write_study: Write, tmp_path: Path, levels: str, room: int, *how: str) -> tuple[Done, list[str]]:
    """Sweep with a level of one's own that has so much room, by the command; gives what it said of memory, too."""
    copy_package(tmp_path / "src")
    (tmp_path / "src" / "ablate" / "components" / "model" / "greedy.py").write_text(GREEDY)
    model = (
        "image_kl, channels: [8, 8], latent_channels: 4, blocks: 1",
        "greedy, channels: [8, 8], latent_channels: 4",
    )
    study = write_study(
        (model[0], f"{model[1]}, room: {room}"), ("batch: 2", "batch: 8"), ("  loss.kl: [1, 1e-4]", levels)
    )
    variables = {"PYTHONPATH": str(tmp_path / "src"), "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
    command = ("sweep", study, "--store", tmp_path / "runs", *how, "--tracking", "none")
    ended = ablate(*command, cwd=tmp_path, env=variables)
    said = [line.split("  ")[0] for line in ended.stderr.splitlines() if "continues with each batch" in line]
    return ended, said


def test_no_size_is_tried_twice(write_study: Write, tmp_path: Path) -> None:
    """There is room for 2 of 8 pictures, or for none; the sweep says so, goes on, and notes it."""
    ended, said = sweep(write_study, tmp_path, "  model.room: [2, 0]", 2, "--inline")
    assert ended.returncode == 1, ended.stderr
    assert said == ["baseline s0"] * 2 + ["room=0 s0"] * 3, "the other seeds know"
    assert "failed: room=0 s1: OutOfMemoryError: no room for 1 pictures" in ended.stderr
    assert "split into micro-batches, which changes nothing but rounding: baseline into 4" in ended.stdout
    plain, store = load_study(write_study(("batch: 2", "batch: 8"), name="plain.yaml")), Store(tmp_path / "runs")
    records = [record for mark in store.stage_signatures() if (record := store.stage(mark).record())]
    assert len(records) == 2
    for record in records:
        trial = next(trial for trial in expand(plain) if trial.treatment.is_baseline and trial.seed == record.seed)
        own = Store(tmp_path / f"plain{record.seed}")
        run_to_end(trial, own)
        whole = own.stage(trial.signature).record()
        assert whole and (record.parts, whole.parts) == (4, 1)
        assert record.metrics["psnr"] == pytest.approx(whole.metrics["psnr"], abs=1e-3)


def recorded(trial: Trial, store: Store) -> tuple[int, float]:
    """Train a trial; gives its micro-batches and PSNR."""
    run_to_end(trial, store)
    record = store.stage(trial.signature).record()
    assert record
    return record.parts, record.metrics["psnr"]


@pytest.mark.parametrize(("share", "parts"), [(0.5, 1), (1.0, 2), (0.0, 1)], ids=["less", "as much", "not known"])
def test_memory_that_was_short_once(write_study: Write, tmp_path: Path, share: float, parts: int) -> None:
    """Trials that cost the same as one that ran out: whole batches again where there is clearly more memory now."""
    trial = trial_of(write_study(("batch: 2", "batch: 4")))
    store = Store(tmp_path / "runs")
    key = configuration(trial.treatment.recipe, trial.treatment.recipe.stages[0])
    there = host_memory.room()
    write(store, key, "cpu", Footprint(parts=2, room=int(share * there)))
    found = recorded(trial, store)
    plain = recorded(trial, Store(tmp_path / "plain"))
    assert found[0] == parts == read(store, key, "cpu").parts
    assert found == plain if parts == 1 else found[1] == pytest.approx(plain[1], abs=1e-3)


def test_a_stage_that_was_begun_in_micro_batches_goes_on_in_them(write_study: Write, tmp_path: Path) -> None:
    trial = trial_of(write_study(("batch: 2", "batch: 4"), ("steps: 6", "steps: 8")))
    key = configuration(trial.treatment.recipe, trial.treatment.recipe.stages[0])
    split = Footprint(parts=2, room=host_memory.room())
    stores = Store(tmp_path / "runs"), Store(tmp_path / "undisturbed")
    for store in stores:
        write(store, key, "cpu", split)
    run_until(6, trial, stores[0])
    write(stores[0], key, "cpu", replace(split, room=1))
    assert recorded(trial, stores[0]) == recorded(trial, stores[1]) and recorded(trial, stores[0])[0] == 2


def test_what_ran_out_is_kept_with_the_room_that_there_was(write_study: Write, tmp_path: Path) -> None:
    stage = trial_of(write_study(("batch: 2", "batch: 4"))).treatment.recipe.stages[0]
    store = Store(tmp_path / "runs")
    for parts in (2, 4):
        with pytest.raises(OutOfMemory), within_memory(store, "key", stage, torch.device("cpu")):
            raise torch.OutOfMemoryError("no room")
        found = read(store, "key", "cpu")
        assert found.parts == parts and found.room > 1 << 28
    with pytest.raises(torch.OutOfMemoryError), within_memory(store, "key", stage, torch.device("cpu")):
        raise torch.OutOfMemoryError("no room")


def test_a_stage_that_has_run_out_is_not_tried_again_where_it_began_with_as_much(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is free while memory runs out, or just after, says nothing of what a new try will find."""
    stage = trial_of(write_study(("batch: 2", "batch: 4"))).treatment.recipe.stages[0]
    store, free = Store(tmp_path / "runs"), [8 << 30]
    monkeypatch.setattr(host_memory, "available", lambda: free[0])
    with pytest.raises(OutOfMemory), within_memory(store, "key", stage, torch.device("cpu")):
        free[0] = 1 << 30
        raise torch.OutOfMemoryError("no room")
    free[0] = 8 << 30
    with within_memory(store, "key", stage, torch.device("cpu")) as footprint:
        assert footprint.parts == 2


def test_a_killed_worker_s_stage_is_kept_with_the_room_that_it_began_with(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory may not be free yet when the driver hears of its death."""
    trial, store = trial_of(write_study(("batch: 2", "batch: 4"))), Store(tmp_path / "runs")
    (node,) = stage_tree([trial], set())
    pulse = Pulse(store.stage(trial.signature), 6)
    pulse.beat("training", 0)
    began = host_memory.room()
    monkeypatch.setattr(host_memory, "available", lambda: 1 << 20)
    split = split_after_kill(node, store, read_heartbeat(node, store))
    assert split and split.parts == 2 and split.room == pytest.approx(began, rel=0.2)
    pulse.beat("probing", 6)
    assert split_after_kill(node, store, read_heartbeat(node, store)) is None
    assert split_after_kill(node, store, {}) is None, "killed before it began"
    assert split_after_kill(node, store, {"phase": "training"}) is None, "left by an older version"


def test_workers_that_run_out_of_memory_are_replaced_as_often_as_it_takes(write_study: Write, tmp_path: Path) -> None:
    """More often than a worker may be lost."""
    ended, said = sweep(write_study, tmp_path, "  loss.kl: [1, 1e-4]", 1, "--workers", "1")
    assert ended.returncode == 0, ended.stderr
    assert said == ["baseline s0"] * 3 and "lost its worker" not in ended.stderr
