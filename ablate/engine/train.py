"""The training loop of one stage: a function of the parts, the settings and the seed, whatever was interrupted."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablate.data.corpus import Corpus
from ablate.engine import checkpoint
from ablate.engine.loss_weights import Weight, adaptive_factor
from ablate.engine.state import State
from ablate.engine.steplog import StepLog
from ablate.identity import derive
from ablate.recipe.stages import Stage, Train
from ablate.slots.training import Alteration, Autoencoder, Discriminator, Regularizer, Step, Term
from ablate.store.folders import StageFolder

LIVENESS_CHECKS = 4
"""How often in a stage, besides its first step, the gradient of each loss term is measured on its own."""


LOGVAR = "logvar"


CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""The layout that convolutions are quick in on a GPU, by the number of axes."""


QuickProbes = Callable[[dict[str, Tensor]], dict[str, float]]
"""Averaged weights in, a few metrics out: an examination so quick that it can be had during training."""


@dataclass(frozen=True)
class TrainingParts:
    """What a trial trains, built and on its device. `terms` holds every loss term with weight > 0.

    The discriminator trains from the step after `discriminator_start` on.
    """

    vae: Autoencoder
    discriminator: Discriminator | None
    discriminator_start: int
    terms: dict[str, tuple[Weight, Term]]
    regularizer: Regularizer | Alteration | None
    corpus: Corpus
    device: torch.device


def train(
    parts: TrainingParts,
    stage: Stage,
    seed: int,
    folder: StageFolder,
    parent: Path | None,
    report: Callable[[int, dict[str, float]], None],
    header: dict[str, Any],
    peek: QuickProbes,
    until: int | None = None,
) -> None:
    """Train one stage to its last step or to `until`, from its own checkpoint if there is one, else from the parent's.

    Logs the mean of every loss since the last line to `folder.steps` and calls `report(step, losses)`. The step never
    waits for the device: numbers are read back only where a line is logged, and a non-finite loss is noticed there.

    A stage that freezes the encoder starts from the averaged weights, so that the encoder which the decoder is tuned to
    is the one that is examined. Raises RuntimeError if its latents are not the same bits at the end. A stage that has
    diverged is saved as it was then, with the reason in the checkpoint's header.
    """
    settings = stage.settings
    until = settings.steps if until is None else until
    frozen = settings.freeze == "encoder"
    parts.vae.zero_grad()  # what the stage before left would count in the norm that is clipped
    for part in parts.vae.encoding_parts if frozen else ():
        part.requires_grad_(False)
    state = State(parts.vae, parts.discriminator, settings)
    known = checkpoint.header(folder.checkpoint)
    latents = None
    if parent and (frozen or not known):
        state.restore(parent, step=0)
    if frozen:
        state.adopt_average()
        latents = latents_of(parts)
    if known:
        state.restore(folder.checkpoint, step=known["step"])
    log = StepLog(folder, known, parts.device)

    parts.vae.train()
    for step in range(state.step + 1, until + 1):
        now, last = stage.before + step, step == settings.steps
        for optimizer in filter(None, (state.optimizer, state.optimizer_d)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)

        # the autoencoder
        look = forward(parts, settings, draw_batch(parts, settings, seed, stage.name, step), seed, stage.name, step)
        losses, notes = weighted_losses(parts, look, now, state.logvar, frozen=frozen)
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
        state.update_ema(settings.ema, now)

        # its opponent
        if parts.discriminator and state.optimizer_d and now > parts.discriminator_start:
            losses["discriminator"] = discriminator_loss(parts, settings, look)
            state.optimizer_d.zero_grad()
            losses["discriminator"].backward()
            nn.utils.clip_grad_norm_(parts.discriminator.parameters(), settings.clip)
            state.optimizer_d.step()

        log.add(step, {"loss": total, "grad_norm": norm, **losses, **notes}, shares)
        peeks = settings.probe_every > 0 and step % settings.probe_every == 0
        if step % settings.log_every == 0 or last or peeks:
            line = log.write(step, peek(state.ema) if peeks else {})
            report(step, line)
            if log.bad_step:
                reason = f"the loss was not finite at step {log.bad_step}"
                state.save(folder.checkpoint, {**header, "log": log.pending, "diverged": reason}, log.tensors)
                return
        if last and latents is not None and not torch.equal(latents, latents_of(parts)):
            raise RuntimeError(f"stage '{stage.name}' froze the encoder, and yet its latents have changed")
        if step % settings.checkpoint_every == 0 or step == until:
            state.save(folder.checkpoint, {**header, "log": log.pending}, log.tensors)


def learning_rate(settings: Train, step: int) -> float:
    """The rate at a step, counted from 1: a ramp up over `warmup` steps, a ramp down to 0 after the last step."""
    left = settings.steps - step + 1
    return settings.lr * min(1.0, step / max(1, settings.warmup), left / max(1, settings.cooldown))


def draw_batch(parts: TrainingParts, settings: Train, seed: int, stage: str, step: int) -> Tensor:
    """The batch of a step, `b 3 crop crop` or clips `b 3 t crop crop` in [-1, 1].

    A function of (seed, stage, step), equal in every treatment.
    """
    rng = np.random.default_rng(derive(seed, stage, step, "batch"))
    pixels = torch.from_numpy(parts.corpus.batch(settings.batch, rng))
    if parts.device.type == "cuda":
        pixels = pixels.pin_memory().to(parts.device, non_blocking=True)
        return pixels.to(memory_format=CHANNELS_LAST[pixels.ndim]).float().div(127.5).sub(1)
    return pixels.float().div(127.5).sub(1)


def forward(parts: TrainingParts, settings: Train, x: Tensor, seed: int, stage: str, step: int) -> Step:
    """One round trip; whatever is drawn is a function of (seed, stage, step) and of what it is for."""
    seed_of, context = partial(derive, seed, stage, step), partial(precision, settings, parts.device)
    chosen = parts.regularizer if settings.freeze == "none" else None
    alteration = chosen if isinstance(chosen, Alteration) else Alteration()
    generator = torch.Generator(parts.device).manual_seed(seed_of("noise"))
    crop = x.shape[-1]
    x = alteration.before_encoding(parts.vae, x, seed_of)
    with context():
        with torch.set_grad_enabled(settings.freeze == "none"):
            posterior = parts.vae.encode(x)
        shape = posterior.mean.shape
        noise = torch.randn(shape, generator=generator, device=parts.device, dtype=posterior.mean.dtype)
        z = posterior.sample(noise) if settings.latents == "sampled" else posterior.mean
    x, z = alteration.before_decoding(parts.vae, x, z, seed_of)
    with context():
        y = parts.vae.decode(z)
    return Step(x, y.float(), posterior, z, parts.discriminator, crop, seed_of, context)


def precision(settings: Train, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast where the stage asks for it; weights, losses and optimiser stay in fp32."""
    return torch.autocast(device.type, torch.bfloat16) if settings.precision == "bf16" else nullcontext()


def weighted_losses(
    parts: TrainingParts, look: Step, now: int, logvar: Tensor, *, frozen: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every term times its weight at step `now` of the trial, and numbers worth a note in the log.

    Terms of weight 0 are left out, and with them what judges the latent alone while the encoder is frozen. The
    discriminator's own weights get no gradient from the autoencoder's loss. Where s = `logvar` is learned, the
    reconstruction terms R enter as R / e^s + s, the likelihood of pixels with log-variance s up to constants.
    """
    if parts.discriminator:
        parts.discriminator.requires_grad_(False)
    losses: dict[str, Tensor] = {}
    notes: dict[str, Tensor] = {}
    for name, (weight, term) in parts.terms.items():
        factor = weight.at(now)
        if factor and not (frozen and term.of == "latent") and judges(term, look):
            losses[name] = factor * term(look)
    if parts.regularizer and not isinstance(parts.regularizer, Alteration) and not frozen:
        compare = partial(reconstruction_loss, parts.terms, look, now, logvar.detach())
        losses["regularizer"] = parts.regularizer(parts.vae, replace(look, compare=compare))
    compared = [name for name in losses if name in parts.terms and parts.terms[name][1].of == "reconstruction"]
    if logvar.requires_grad and compared:
        losses |= {name: losses[name] / logvar.exp() for name in compared}
        losses[LOGVAR] = logvar
    for name in losses.keys() & parts.terms.keys():
        clamp = parts.terms[name][0].clamp
        if clamp is not None and compared:
            reconstruction = torch.stack([losses[term] for term in compared]).sum()
            notes["adaptive"] = adaptive_factor(
                reconstruction, losses[name] / parts.terms[name][0].at(now), parts.vae.last_weight, clamp
            )
            losses[name] = losses[name] * notes["adaptive"]
    return losses, notes


def judges(term: Term, look: Step) -> bool:
    """Whether pictures of the size of x are large enough for a term: as large as the crops, or as it asks for."""
    return min(look.x.shape[-2:]) >= min(term.smallest, look.crop)


def reconstruction_loss(
    terms: dict[str, tuple[Weight, Term]], look: Step, now: int, logvar: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """`Step.compare`: pictures y against targets x, by the terms and weights of the reconstruction at step `now`.

    A learned variance counts, but does not learn from these pictures. Raises ValueError where no term judges them.
    """
    pair = replace(look, x=x, y=y.float())
    compared = [
        weight.at(now) * term(pair)
        for weight, term in terms.values()
        if term.of == "reconstruction" and weight.at(now) and judges(term, pair)
    ]
    if not compared:
        raise ValueError(f"no reconstruction term judges pictures of {min(x.shape[-2:])} px at step {now}")
    return torch.stack(compared).sum() / logvar.exp()


def discriminator_loss(parts: TrainingParts, settings: Train, look: Step) -> Tensor:
    """The opponent's loss on the same batch, with the reconstruction detached."""
    assert parts.discriminator is not None
    parts.discriminator.requires_grad_(True)
    with precision(settings, parts.device):
        real, fake = parts.discriminator(look.x), parts.discriminator(look.y.detach())
    return parts.discriminator.loss(real.float(), fake.float())


@torch.no_grad()
def latents_of(parts: TrainingParts) -> Tensor:
    """The posterior of a few held-out pictures, or of the whole groups of clips, mean and log-variance."""
    pixels = torch.from_numpy(parts.corpus.heldout[:4]).to(parts.device).float() / 127.5 - 1
    posterior = parts.vae.encode(pixels if pixels.ndim == 4 else pixels[:, :, : parts.vae.whole(pixels.shape[2])])
    return torch.cat([posterior.mean, posterior.logvar])


def checks_liveness(step: int, steps: int) -> bool:
    """The first step and the last of each quarter."""
    return step == 1 or step % max(1, steps // LIVENESS_CHECKS) == 0


def gradient_shares(losses: dict[str, Tensor], vae: nn.Module) -> dict[str, Tensor]:
    """‖∇ term‖ over the sum of these norms, for each weighted term on its own, over the trained parameters."""
    parameters = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    norms = {}
    for name, loss in ((name, loss) for name, loss in losses.items() if name != LOGVAR):
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        norms[name] = nn.utils.get_total_norm([g for g in gradients if g is not None])
    total = torch.stack(list(norms.values())).sum()
    return {f"share/{name}": norm / total for name, norm in norms.items()}
