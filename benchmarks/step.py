"""Benchmark: a training step of the engine, compared with a plain loop around diffusers' autoencoder.

Both draw the same batches, train the same architecture from the same weights with AdamW on L2 + KL, clip the gradient,
keep an average of the weights and read losses back. The two loops alternate every few steps.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional as F

from ablate.data.prepare import prepare
from ablate.engine.build import build_parts
from ablate.engine.run import reset_process
from ablate.engine.train import TrainingParts, draw_batch, train
from ablate.plan.trials import Trial, expand
from ablate.recipe.recipe import Recipe
from ablate.recipe.stages import Stage, Train
from ablate.store.folders import Store
from ablate.study.study import load_study
from benchmarks.comparison import ROOT, Comparison

STUDY = ROOT / "search_spaces" / "vivat_losses.yaml"


SAME = ("padding=zeros", "norm=group", "loss.adversarial=0", "loss.perceptual=0", "stages.base.steps=0",
        "stages.train.steps=200")  # fmt: skip
"""Overrides that make the recipe one that diffusers' autoencoder can train too, in 200 steps on any device."""


PAIRS = 5
"""Each pair has the same number of steps, and one of the engine's five checks of every loss term's gradient."""


def run() -> Comparison:
    """Train the baseline of the study with both loops."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    study = load_study(STUDY, "gpu" if device.type == "cuda" else "cpu", SAME)
    with tempfile.TemporaryDirectory() as scratch:
        race = run_race(expand(study)[0], Store(Path(scratch)), device)
    settings = study.baseline.stages[0].settings
    assert isinstance(settings, Train)
    crop = study.baseline.value("data.crop")
    channels = study.baseline.value("model.channels")
    return Comparison(
        f"a training step of image_kl, channels {channels}, {settings.batch} pictures of {crop} px, "
        f"L2 + KL, {settings.precision}, {'one thread' if device.type == 'cpu' else 'one GPU'}; logging included",
        "diffusers' AutoencoderKL in the loop of its train_autoencoderkl example, without LPIPS and discriminator, "
        "with its average of the weights",
        "ms",
        race.ours,
        race.peers,
        {"last_loss": {"ours": race.losses[0], "peers": race.losses[1]}},
    )


def run_race(trial: Trial, store: Store, device: torch.device) -> "Race":
    """Train a trial of one stage with both loops in alternation."""
    order = trial.order()
    [stage] = trial.treatment.recipe.stages
    part = trial.treatment.recipe.parts["data"]
    corpus = prepare(part.level, part.settings.plain(), store.data)
    reset_process(threads=1)
    parts = build_parts(order, corpus, device)
    race = Race(parts, trial, stage, Diffusers(parts, trial, stage))
    train(parts, stage, trial.seed, store.stage(trial.signature), None, race.run_peer, {}, lambda _: {})
    return race


class Diffusers:
    """The peer: the training step of diffusers' `train_autoencoderkl` example."""

    def __init__(self, parts: TrainingParts, trial: Trial, stage: Stage):
        recipe = trial.treatment.recipe
        settings = stage.settings
        assert isinstance(settings, Train)
        self.vae = autoencoder(recipe)
        self.vae.load_state_dict(parts.vae.state_dict(), strict=True)
        self.vae.to(parts.device).train()
        self.optimizer = torch.optim.AdamW(
            self.vae.parameters(), settings.lr, settings.betas, weight_decay=settings.weight_decay
        )
        self.ema = EMAModel(self.vae.parameters(), decay=settings.ema)
        self.kl_weight = recipe.value("loss.kl")
        self.clip = settings.clip

    def step(self, x: Tensor) -> dict[str, float]:
        """Train on a batch; gives the losses, read back as the example does."""
        posterior = self.vae.encode(x).latent_dist
        y = self.vae.decode(posterior.sample()).sample
        l2 = F.mse_loss(y, x)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        loss = l2 + self.kl_weight * kl
        logs = {"loss": loss.item(), "l2": l2.item(), "kl": kl.item()}
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.vae.parameters())
        return logs


def autoencoder(recipe: Recipe) -> Any:
    """diffusers' autoencoder with the sizes of the recipe."""
    channels = recipe.value("model.channels")
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=recipe.value("model.blocks"),
        latent_channels=recipe.value("model.latent_channels"),
        norm_num_groups=recipe.value("norm.groups"),
        mid_block_add_attention=recipe.value("model.mid_attention"),
    )


class Race:
    """Alternates the two loops and times them. The engine's clock starts when this is created.

    `ours`, `peers`: ms per step, one value for every pair. `losses`: the last logged loss of both.
    """

    def __init__(self, parts: TrainingParts, trial: Trial, stage: Stage, peer: Diffusers):
        self.parts = parts
        self.trial = trial
        self.stage = stage
        self.peer = peer
        self.steps = stage.settings.steps // PAIRS
        self.ours: list[float] = []
        self.peers: list[float] = []
        self.spent = [0.0, 0.0]
        self.losses = (0.0, 0.0)
        self.done = 0
        self.since = self.now()

    def run_peer(self, step: int, losses: dict[str, float]) -> None:
        """Called when the engine has logged at `step`: the peer makes the same steps."""
        # The engine's time since the last call
        self.spent[0] += self.now() - self.since

        # The peer's steps
        begun = self.now()
        settings = self.stage.settings
        assert isinstance(settings, Train)
        with torch.backends.cudnn.flags(enabled=True, deterministic=False, allow_tf32=True):  # PyTorch's defaults
            logs = [
                self.peer.step(draw_batch(self.parts, settings, self.trial.seed, self.stage.name, i))
                for i in range(self.done + 1, step + 1)
            ]
        self.spent[1] += self.now() - begun
        self.losses = losses["train/loss"], sum(line["loss"] for line in logs) / len(logs)
        self.done = step

        # The end of a pair
        if step % self.steps == 0:
            self.ours.append(1000 * self.spent[0] / self.steps)
            self.peers.append(1000 * self.spent[1] / self.steps)
            self.spent = [0.0, 0.0]
        self.since = self.now()

    def now(self) -> float:
        """Seconds, once the device has finished its work."""
        if self.parts.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
