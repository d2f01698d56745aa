"""The training loop of one stage: a function of the parts, the settings and the seed, whatever was interrupted."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablate import checkpoint
from ablate.data import Corpus
from ablate.identity import derive
from ablate.recipe import Stage, Train
from ablate.slots import Autoencoder, Discriminator, Regularizer, Step, Term
from ablate.store import StageFolder

LIVENESS_CHECKS = 4
"""How often in a stage, besides its first step, the gradient of each loss term is measured on its own."""


@dataclass(frozen=True)
class Parts:
    """What a trial trains, built and on its device. `terms` holds (weight, term) of every loss term with weight > 0."""

    vae: Autoencoder
    discriminator: Discriminator | None
    terms: dict[str, tuple[float, Term]]
    regularizer: Regularizer | None
    corpus: Corpus
    device: torch.device


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: after `steps` steps, `diverged` with the reason or not."""

    steps: int
    diverged: bool = False
    reason: str = ""


class State:
    """All that changes during training and all that exact continuation needs."""

    def __init__(self, parts: Parts, settings: Train):
        self.step = 0
        self.vae, self.discriminator = parts.vae, parts.discriminator
        self.ema = {name: parameter.detach().clone() for name, parameter in parts.vae.named_parameters()}
        self.optimizer = _adamw(parts.vae, settings)
        self.optimizer_d = _adamw(parts.discriminator, settings) if parts.discriminator else None

    def save(self, path: Path, header: dict[str, Any]) -> None:
        tensors = checkpoint.pack("model.", self.vae.state_dict())
        tensors |= checkpoint.pack("ema.", self.ema)
        tensors |= checkpoint.pack("optimizer.", checkpoint.optimizer_tensors(self.vae, self.optimizer))
        if self.discriminator and self.optimizer_d:
            tensors |= checkpoint.pack("discriminator.", self.discriminator.state_dict())
            state = checkpoint.optimizer_tensors(self.discriminator, self.optimizer_d)
            tensors |= checkpoint.pack("optimizer_d.", state)
        checkpoint.save(path, tensors, {**header, "step": self.step})

    def restore(self, path: Path, *, step: int) -> None:
        """Continue from a checkpoint of this stage, or start (`step` 0) from the one of the stage before."""
        device = next(self.vae.parameters()).device
        self.step = step
        self.vae.load_state_dict(checkpoint.load(path, "model.", device))
        ema = checkpoint.load(path, "ema.", device)
        self.ema = {name: ema[name] for name in self.ema}  # in the order of the parameters, not of the file
        checkpoint.restore_optimizer(self.vae, self.optimizer, checkpoint.load(path, "optimizer.", device))
        known = checkpoint.load(path, "discriminator.", device)
        if self.discriminator and self.optimizer_d and known:
            self.discriminator.load_state_dict(known)
            state = checkpoint.load(path, "optimizer_d.", device)
            checkpoint.restore_optimizer(self.discriminator, self.optimizer_d, state)

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """Exponential moving average with the ramp min(d, (1+n)/(10+n)), so that short runs forget their start."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.vae.parameters()], 1 - decay)


def _adamw(module: nn.Module, settings: Train) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        module.parameters(), settings.lr, settings.betas, weight_decay=settings.weight_decay, fused=True
    )


def train(
    parts: Parts,
    stage: Stage,
    seed: int,
    folder: StageFolder,
    parent: Path | None,
    report: Callable[[int, dict[str, float]], None],
    header: dict[str, Any],
) -> Outcome:
    """Train one stage to its last step, from its own checkpoint if there is one, else from the parent stage's.

    Logs the mean of every loss since the last line to `folder.steps` and calls `report(step, losses)`. The step never
    waits for the device: numbers are read back only where a line is logged, and a non-finite loss is noticed there.
    """
    settings = stage.settings
    state = State(parts, settings)
    if known := checkpoint.header(folder.checkpoint):
        state.restore(folder.checkpoint, step=known["step"])
    elif parent:
        state.restore(parent, step=0)
    log = StepLog(folder, state.step, parts.device)
    if known and known.get("diverged"):
        return Outcome(state.step, diverged=True, reason=known["diverged"])

    parts.vae.train()
    for step in range(state.step + 1, settings.steps + 1):
        for optimizer in filter(None, (state.optimizer, state.optimizer_d)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)

        # the autoencoder
        look = forward(parts, settings, draw_batch(parts, settings, seed, stage.name, step), seed, stage.name, step)
        losses = weighted_losses(parts, look)
        total = torch.stack(list(losses.values())).sum()
        shares = gradient_shares(losses, parts.vae) if checks_liveness(step, settings.steps) else {}
        state.optimizer.zero_grad()
        total.backward()
        norm = nn.utils.clip_grad_norm_(parts.vae.parameters(), settings.clip)
        if shares:
            shares["active_parameters"] = torch.stack(
                [(p.grad != 0).sum() for p in parts.vae.parameters() if p.grad is not None]
            ).sum()
        state.optimizer.step()
        state.step = step
        state.update_ema(settings.ema)

        # its opponent
        if parts.discriminator and state.optimizer_d:
            losses["discriminator"] = discriminator_loss(parts, settings, look)
            state.optimizer_d.zero_grad()
            losses["discriminator"].backward()
            nn.utils.clip_grad_norm_(parts.discriminator.parameters(), settings.clip)
            state.optimizer_d.step()

        log.add(step, {"loss": total, "grad_norm": norm, **losses}, shares)
        last = step == settings.steps
        if step % settings.log_every == 0 or last:
            line = log.write(step)
            report(step, line)
            if log.bad_step:
                reason = f"the loss was not finite at step {log.bad_step}"
                state.save(folder.checkpoint, {**header, "diverged": reason})
                return Outcome(log.bad_step, diverged=True, reason=reason)
        if step % settings.checkpoint_every == 0 or last:
            state.save(folder.checkpoint, header)
    return Outcome(settings.steps)


def learning_rate(settings: Train, step: int) -> float:
    """The rate at a step, counted from 1: a ramp up over `warmup` steps, a ramp down to 0 after the last step."""
    left = settings.steps - step + 1
    return settings.lr * min(1.0, step / max(1, settings.warmup), left / max(1, settings.cooldown))


def draw_batch(parts: Parts, settings: Train, seed: int, stage: str, step: int) -> Tensor:
    """The batch of a step, `b 3 crop crop` in [-1, 1]: a function of (seed, stage, step), equal in every treatment."""
    rng = np.random.default_rng(derive(seed, stage, step, "batch"))
    pixels = torch.from_numpy(parts.corpus.batch(settings.batch, rng))
    if parts.device.type == "cuda":
        pixels = pixels.pin_memory().to(parts.device, non_blocking=True)
        return pixels.to(memory_format=torch.channels_last).float().div(127.5).sub(1)
    return pixels.float().div(127.5).sub(1)


def forward(parts: Parts, settings: Train, x: Tensor, seed: int, stage: str, step: int) -> Step:
    """One round trip through the sampled posterior; the noise is a function of (seed, stage, step)."""
    generator = torch.Generator(parts.device).manual_seed(derive(seed, stage, step, "noise"))
    with precision(settings, parts.device):
        posterior = parts.vae.encode(x)
        shape = posterior.mean.shape
        noise = torch.randn(shape, generator=generator, device=parts.device, dtype=posterior.mean.dtype)
        z = posterior.sample(noise)
        y = parts.vae.decode(z)
    return Step(x, y.float(), posterior, z, parts.discriminator)


def precision(settings: Train, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast where the stage asks for it; weights, losses and optimiser stay in fp32."""
    return torch.autocast(device.type, torch.bfloat16) if settings.precision == "bf16" else nullcontext()


def weighted_losses(parts: Parts, look: Step) -> dict[str, Tensor]:
    """Every term times its weight. The discriminator's own weights get no gradient from the autoencoder's loss."""
    if parts.discriminator:
        parts.discriminator.requires_grad_(False)
    losses = {name: weight * term(look) for name, (weight, term) in parts.terms.items()}
    if parts.regularizer:
        losses["regularizer"] = parts.regularizer(parts.vae, look)
    return losses


def discriminator_loss(parts: Parts, settings: Train, look: Step) -> Tensor:
    """The opponent's loss on the same batch, with the reconstruction detached."""
    assert parts.discriminator is not None
    parts.discriminator.requires_grad_(True)
    with precision(settings, parts.device):
        real, fake = parts.discriminator(look.x), parts.discriminator(look.y.detach())
    return parts.discriminator.loss(real.float(), fake.float())


def checks_liveness(step: int, steps: int) -> bool:
    """The first step and the last of each quarter."""
    return step == 1 or step % max(1, steps // LIVENESS_CHECKS) == 0


def gradient_shares(losses: dict[str, Tensor], vae: nn.Module) -> dict[str, Tensor]:
    """‖∇ term‖ over the sum of these norms, for each weighted term on its own, over all of the autoencoder."""
    parameters = list(vae.parameters())
    norms = {}
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        norms[name] = nn.utils.get_total_norm([g for g in gradients if g is not None])
    total = torch.stack(list(norms.values())).sum()
    return {f"share/{name}": norm / total for name, norm in norms.items()}


class StepLog:
    """Losses summed on the device, read back once a line. On resume, lines after the checkpoint's step are dropped."""

    def __init__(self, folder: StageFolder, step: int, device: torch.device):
        kept = [line for line in folder.read_steps() if line["step"] <= step]
        folder.root.mkdir(parents=True, exist_ok=True)
        folder.steps.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self.file = folder.steps
        self.folder = folder
        self.device = device
        self.bad_step = 0
        self.first_bad = torch.zeros((), dtype=torch.long, device=device)
        self.sums: dict[str, Tensor] = {}
        self.shares: dict[str, Tensor] = {}
        self.count = 0
        self.since = time.perf_counter()

    def add(self, step: int, values: dict[str, Tensor], shares: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        bad = (self.first_bad == 0) & ~(torch.isfinite(values["loss"]) & torch.isfinite(values["grad_norm"]))
        self.first_bad = torch.where(bad, step, self.first_bad)
        self.shares |= shares
        self.count += 1

    def write(self, step: int) -> dict[str, float]:
        """Append the means since the last line; the one place where the host waits for the device."""
        names = [*self.sums, *self.shares]
        sums = [value / self.count for value in self.sums.values()]
        tensors = [value.float() for value in [*sums, *self.shares.values()]]
        values = torch.stack([*tensors, self.first_bad.float()]).tolist()
        self.bad_step = int(values.pop())
        line = {
            name if name in self.shares else f"train/{name}": value for name, value in zip(names, values, strict=True)
        }
        now = time.perf_counter()
        line["train/steps_per_s"] = self.count / (now - self.since)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **line}) + "\n")
        self.sums, self.shares, self.count, self.since = {}, {}, 0, now
        return line
