"""The terms for diffusable latents in the training loop: repeatable, in bf16, on what they are given, with effect."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ablate.engine import train
from ablate.engine.checkpoint import Checkpoint
from ablate.identity import derive
from ablate.plan.trials import expand
from ablate.slots import registry
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.regularizers import ADDED, ALTERING, LEVELS, LOSS, Linear, make_step, normal, power_law
from tests.support.training import parts_of

TERMS = """loss: {l2: 1.0, l1: {weight: 0.5}, kl: 1e-4, perceptual: {weight: 0.1, backbone: random_features}}"""


STEPS = "steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3"


def trial_of(write_study, level, *replacements):
    settings = ", ".join(f"{key}: {value}" for key, value in {"level": level, **LEVELS.get(level, {})}.items())
    both = f"{TERMS}\n  regularizer: {{{settings}}}"
    path = write_study((LOSS, both), ("crop: 16", "crop: 32"), ("heldout_size: 32", "heldout_size: 64"), *replacements)
    return expand(load_study(path))[0]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Where all tests here keep the prepared pictures, which are the same."""
    return tmp_path_factory.mktemp("pictures")


def built(trial, pictures):
    return parts_of(trial, pictures), trial.treatment.recipe.stages[0].settings


def trained(trial, pictures, folder):
    """The weights after the trial's steps, and the last logged line."""
    parts, _ = built(trial, pictures)
    lines = []
    train.train(parts, trial.treatment.recipe.stages[0], 0, folder, None, lambda _, line: lines.append(line), {}, dict)
    return parts.vae.state_dict(), lines[-1]


@pytest.mark.parametrize("level", list(LEVELS))
def test_training_is_repeatable_and_is_not_that_without(write_study, pictures, tmp_path, level):
    trial, plain, store = trial_of(write_study, level), trial_of(write_study, "none"), Store(tmp_path)
    (found, line), (again, _), (without, _) = (
        trained(one, pictures, store.stage(name)) for one, name in ((trial, "a"), (trial, "b"), (plain, "c"))
    )
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert any(not torch.equal(found[name], without[name]) for name in found)
    assert ("train/regularizer" in line) == (level in ADDED)
    assert math.isfinite(line["train/loss"])


@pytest.mark.parametrize("level", list(LEVELS))
def test_bf16_trains_too_and_nothing_is_read_back(write_study, pictures, tmp_path, monkeypatch, level):
    trial = trial_of(write_study, level, (STEPS, STEPS.replace("log_every: 2", "log_every: 6, precision: bf16")))
    parts, _ = built(trial, pictures)
    reads = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)

        def spy(self, *args, original=original, name=name, **kwargs):
            reads.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, spy)
    monkeypatch.setattr(train.TrainingState, "save", lambda *_, **__: Checkpoint({}, {}))
    stage, lines = trial.treatment.recipe.stages[0], []
    train.train(parts, stage, 0, Store(tmp_path).stage("x"), None, lambda _, line: lines.append(line), {}, lambda _: {})
    assert len(reads) == 1, reads
    assert len(lines) == 1 and math.isfinite(lines[0]["train/loss"])


def seen_by_the_regularizer(parts, look, now=1, logvar=None):
    """The step that `weighted_losses` hands to the regularizer."""
    steps = []

    def spy(vae, step):
        steps.append(step)
        return step.z.mean()

    train.weighted_losses(replace(parts, regularizer=spy), look, now, torch.zeros(()) if logvar is None else logvar)
    return steps[0]


def test_pictures_are_compared_by_the_trial_s_terms_and_small_ones_not_by_perception(write_study, pictures):
    parts, settings = built(trial_of(write_study, "se"), pictures)
    look = train.forward(parts, settings, train.draw_batch(parts, settings, 0, "train", 1), 0, "train", 1)
    assert look.crop == 32
    x, y = normal(2, 3, 32, 32), normal(2, 3, 32, 32, seed=1)
    compare = seen_by_the_regularizer(parts, look).compare
    features = parts.terms["perceptual"][1].network(x, y).mean()
    pixels = F.mse_loss(y, x) + 0.5 * F.l1_loss(y, x)
    torch.testing.assert_close(compare(x, y), pixels + 0.1 * features)
    x, y = x[..., :16, :16], y[..., :16, :16]
    torch.testing.assert_close(compare(x, y), F.mse_loss(y, x) + 0.5 * F.l1_loss(y, x))

    logvar = torch.tensor(0.7, requires_grad=True)
    learned = seen_by_the_regularizer(parts, look, logvar=logvar).compare(x, y)
    torch.testing.assert_close(learned, compare(x, y) / math.exp(0.7))
    assert not learned.requires_grad
    only = replace(parts, terms={"perceptual": parts.terms["perceptual"]})
    with pytest.raises(ValueError, match="no reconstruction term applies to pictures of 16 px at step 1"):
        seen_by_the_regularizer(only, look).compare(x, y)


def test_the_loss_of_se_in_the_loop(write_study, pictures):
    parts, settings = built(trial_of(write_study, "se"), pictures)
    look = train.forward(parts, settings, train.draw_batch(parts, settings, 0, "train", 3), 0, "train", 3)
    losses, _ = train.weighted_losses(parts, look, 3, torch.zeros(()))
    factor = int(np.random.default_rng(derive(0, "train", 3, "scale")).choice((2, 4)))
    y, x = parts.vae.decode(F.avg_pool2d(look.z, factor)), F.avg_pool2d(look.x, factor)
    torch.testing.assert_close(losses["regularizer"], 0.25 * (F.mse_loss(y, x) + 0.5 * F.l1_loss(y, x)))
    losses["regularizer"].backward()
    encoder = [p for part in parts.vae.encoding_parts for p in part.parameters()]
    assert sum((p.grad is not None and p.grad.abs().sum() > 0) for p in encoder) > len(encoder) / 2


@pytest.mark.parametrize("level", list(ALTERING))
def test_alterations_reach_every_term_and_are_idle_while_the_encoder_is_frozen(write_study, pictures, level):
    parts, settings = built(trial_of(write_study, level), pictures)
    sizes, plain = set(), replace(parts, regularizer=None)
    for step in range(1, 12):
        x = train.draw_batch(parts, settings, 0, "train", step)
        found = train.forward(parts, settings, x, 0, "train", step)
        assert found.x.shape == found.y.shape
        torch.testing.assert_close(found.y, parts.vae.decode(found.z))
        losses, _ = train.weighted_losses(parts, found, step, torch.zeros(()))
        assert "regularizer" not in losses
        side = found.x.shape[-1]
        assert ("perceptual" in losses) == (side == 32), "as large as the crops"
        torch.testing.assert_close(losses["l2"], F.mse_loss(found.y, found.x))
        sizes.add(side)
        tuned = settings.model_copy(update={"freeze": "encoder"})
        frozen, expected = (train.forward(p, tuned, x, 0, "train", step) for p in (parts, plain))
        assert torch.equal(frozen.x, x) and torch.equal(frozen.z, expected.z)
        if level == "latent_denoise":
            assert torch.equal(found.posterior.mean, expected.posterior.mean) and not torch.equal(found.z, expected.z)
    assert (len(sizes) > 3) == (level == "eq")


def test_absent_regularizers_leave_the_step_as_it_was(write_study, pictures):
    """The formula of the round trip, to the last bit."""
    parts, settings = built(trial_of(write_study, "none"), pictures)
    x = train.draw_batch(parts, settings, 3, "train", 5)
    found = train.forward(parts, settings, x, 3, "train", 5)
    posterior = parts.vae.encode(x)
    generator = torch.Generator().manual_seed(derive(3, "train", 5, "noise"))
    z = posterior.sample(torch.randn(posterior.mean.shape, generator=generator))
    assert torch.equal(found.z, z) and torch.equal(found.y, parts.vae.decode(z)) and torch.equal(found.x, x)


class Small(Linear):
    """Overlapping filters and a nonlinearity on each side: the loss has a choice of latent spaces."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Conv2d(3, 24, 6, 4, 1), nn.SiLU(), nn.Conv2d(24, 16, 3, padding=1))
        self.decoder = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.SiLU(), nn.ConvTranspose2d(24, 3, 6, 4, 1))


def pictures_of_a_power_law(count, seed):
    x = power_law(2, (count, 3, 32, 32), seed).float()
    return x / x.std()


def tuned(level, **settings):
    """What 150 steps with a regularizer lead to: the normalised price of high frequencies, and pictures' error."""
    vae = Small()
    optimizer = torch.optim.AdamW(vae.parameters(), 3e-3)
    regularizer = registry.build("regularizer", level, settings)
    for step in range(150):
        seen = make_step(vae, pictures_of_a_power_law(4, step), step)
        loss = F.mse_loss(seen.y, seen.x)
        optimizer.zero_grad()
        (loss + regularizer(vae, seen) if regularizer else loss).backward()
        optimizer.step()
    with torch.no_grad():
        seen = make_step(vae, pictures_of_a_power_law(32, 999))
        price = registry.build("regularizer", "hf_penalty", {"strength": 1.0, "normalize": True})(vae, seen).item()
        return price, F.mse_loss(seen.y, seen.x).item()


@pytest.fixture(scope="module")
def control():
    return tuned("none")


@pytest.mark.parametrize(
    ("level", "settings", "at_most"),
    [
        ("se", {"strength": 1.0}, 0.85),
        ("chf", {"strength": 1.0, "r_max": 0.9}, 0.95),
        ("hf_penalty", {"strength": 0.3, "normalize": True}, 0.6),
    ],
)
def test_latents_get_smoother_than_those_of_the_same_steps_without(control, level, settings, at_most):
    price, error = tuned(level, **settings)
    assert price < at_most * control[0]
    assert control[1] < error < 1.3 * control[1], "at some cost"
