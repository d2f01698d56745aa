"""The training loop of one stage. Its result depends on the parts, the settings and the seed, not on interruptions."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ablate.data.corpus import Corpus
from ablate.engine.causes import SIGNAL, find_cause, latent_signal
from ablate.engine.checkpoint import Checkpoint
from ablate.engine.freeze import freeze
from ablate.engine.loss_weights import WeightSchedule, adaptive_factor
from ablate.engine.state import TrainingState
from ablate.engine.steplog import StepLog
from ablate.identity import derive
from ablate.recipe.stages import Stage, Train
from ablate.slots.training import Alteration, Autoencoder, Discriminator, Regularizer, Step, Term
from ablate.store.stage import Phase, StageFolder

LIVENESS_CHECKS = 4
"""How often in a stage, besides its first step, the gradient of each loss term is measured on its own."""


LOGVAR = "logvar"


CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""The memory layout in which convolutions are fast on a GPU, by the number of axes."""


Tick = Callable[[Phase, int], None]
"""Is told after every step what training does, and the last finished step of the stage."""


QuickProbes = Callable[[dict[str, Tensor]], dict[str, float]]
"""Averaged weights in, a few metrics out: the probes that are cheap enough to run during training."""


@dataclass(frozen=True)
class TrainingParts:
    """What a trial trains, built and on its device. `terms` holds every loss term with weight > 0.

    The discriminator trains from the step after `discriminator_start` on.
    """

    vae: Autoencoder
    discriminator: Discriminator | None
    discriminator_start: int
    terms: dict[str, tuple[WeightSchedule, Term]]
    regularizer: Regularizer | Alteration | None
    corpus: Corpus
    device: torch.device


@dataclass(frozen=True)
class EndedStage:
    """A stage, or its first steps up to a fork, as training has left it: its last checkpoint and its logged lines."""

    saved: Checkpoint
    lines: list[dict[str, Any]]


def train(
    parts: TrainingParts,
    stage: Stage,
    seed: int,
    folder: StageFolder,
    parent: Checkpoint | None,
    report: Callable[[int, dict[str, float]], None],
    header: dict[str, Any],
    quick_probes: QuickProbes,
    until: int | None = None,
    own: Checkpoint | None = None,
    tick: Tick = lambda phase, step: None,
    *,
    whole: bool = True,
) -> EndedStage:
    """Train one stage to its last step or to `until`, from its own checkpoint if there is one, else from the parent's.

    Logs the mean of every loss since the last line to `folder.steps` and calls `report(step, losses)`. The step never
    waits for the device: numbers are read back only where a line is logged, and a non-finite loss is noticed there.
    `tick` gets each finished step, and what comes between two steps.

    A stage that freezes the encoder starts from the averaged weights, because those are the weights that are probed:
    the decoder is tuned to the encoder that counts. Raises RuntimeError if the frozen encoder's latents have changed by
    a bit at the end. A stage that diverges is saved as it is then, with the reason in the checkpoint's header. `whole`:
    whether the last checkpoint holds all that another stage needs to go on from it.
    """
    settings = stage.settings
    assert isinstance(settings, Train)
    until = settings.steps if until is None else until
    frozen = settings.freeze == "encoder"
    state, frozen_latents = begin(parts, settings, parent, own)
    log = StepLog(folder, own, parts.device)
    parts.vae.train()
    saved: Checkpoint | None = None

    for step in range(state.step + 1, until + 1):
        trial_step = stage.before + step
        is_last = step == settings.steps
        set_learning_rate(state, settings, step)

        # Autoencoder
        x = draw_batch(parts, settings, seed, stage.name, step)
        out = forward(parts, settings, x, seed, stage.name, step)
        losses, notes = weighted_losses(parts, out, trial_step, state.logvar, frozen=frozen)
        check = checks_liveness(step, settings.steps)
        total, grad_norm, liveness = autoencoder_step(parts, state, settings, losses, check_liveness=check)
        state.step = step
        state.update_ema(settings.ema, trial_step)

        # Discriminator
        if parts.discriminator and state.optimizer_d and trial_step > parts.discriminator_start:
            losses["discriminator"] = discriminator_step(parts.discriminator, state.optimizer_d, settings, out)

        # Log and report; stop if the loss was not finite
        probe_now = settings.probe_every > 0 and step % settings.probe_every == 0
        is_logged = step % settings.log_every == 0 or is_last or probe_now
        latest = {**liveness, SIGNAL: latent_signal(out.posterior)} if is_logged else liveness
        log.add(step, {"loss": total, "grad_norm": grad_norm, **losses, **notes}, latest)
        if is_logged:
            if probe_now:
                tick("probing", step - 1)
            line = log.write(step, quick_probes(state.ema) if probe_now else {})
            report(step, line)
            if log.bad_step:
                reason = f"the loss was not finite at step {log.bad_step}"
                tick("saving", step)
                log.sync()
                cause = find_cause(log.lines, log.fault)
                header = {**header, "log": log.pending, "diverged": reason, "cause": cause}
                return EndedStage(state.save(folder, header, log.tensors, whole=whole), log.lines)

        # Check the frozen encoder, save
        if is_last and frozen_latents is not None and not torch.equal(frozen_latents, heldout_latents(parts)):
            raise RuntimeError(f"stage '{stage.name}' freezes the encoder, but the encoder's latents have changed")
        if step % settings.checkpoint_every == 0 or step == until:
            tick("saving", step)
            log.sync()
            is_end = step == until
            written = state.save(folder, {**header, "log": log.pending}, log.tensors, whole=whole or not is_end)
            saved = written if is_end else None  # earlier ones would only take memory
        if step < until:
            tick("training", step)
    assert saved is not None
    return EndedStage(saved, log.lines)


def begin(
    parts: TrainingParts, settings: Train, parent: Checkpoint | None, own: Checkpoint | None
) -> tuple[TrainingState, Tensor | None]:
    """The state that a stage starts from or resumes, and what a frozen encoder makes of the held-out pictures."""
    frozen = settings.freeze == "encoder"
    parts.vae.zero_grad()  # gradients left by the stage before would count in the norm that is clipped
    freeze(parts.vae, settings.freeze, settings.freeze_parts)
    state = TrainingState(parts.vae, parts.discriminator, settings)

    # From the parent's checkpoint, whose averaged encoder is the one that is frozen; then from this stage's own.
    latents = None
    if parent and (frozen or not own):
        state.restore(parent, step=0)
    if frozen:
        state.adopt_average()
        latents = heldout_latents(parts)
    if own:
        state.restore(own, step=own.header["step"])
    return state, latents


def set_learning_rate(state: TrainingState, settings: Train, step: int) -> None:
    """Set the rate of a step, counted from 1, in every optimiser."""
    for optimizer in filter(None, (state.optimizer, state.optimizer_d)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step)


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
    """Encode and decode a batch. Every random draw is a function of (seed, stage, step) and its purpose."""
    seed_of = partial(derive, seed, stage, step)
    context = partial(precision, settings, parts.device)
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
    parts: TrainingParts, out: Step, trial_step: int, logvar: Tensor, *, frozen: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every loss term times its weight at `trial_step`, and further numbers for the log.

    Terms of weight 0 are left out; so are, while the encoder is frozen, terms that judge the latent alone. The
    discriminator's own weights get no gradient from the autoencoder's loss. Where s = `logvar` is learned, the
    reconstruction terms R enter as R / e^s + s, the likelihood of pixels with log-variance s up to constants.
    """
    if parts.discriminator:
        parts.discriminator.requires_grad_(False)
    losses: dict[str, Tensor] = {}
    notes: dict[str, Tensor] = {}

    # Terms and regularizer
    for name, (weight, term) in parts.terms.items():
        factor = weight.at(trial_step)
        if factor and not (frozen and term.of == "latent") and applies(term, out):
            losses[name] = factor * term(out)
    if parts.regularizer and not isinstance(parts.regularizer, Alteration) and not frozen:
        compare = partial(reconstruction_loss, parts.terms, out, trial_step, logvar.detach())
        losses["regularizer"] = parts.regularizer(parts.vae, replace(out, compare=compare))

    # Learned log-variance of the pixels
    compared = [name for name in losses if name in parts.terms and parts.terms[name][1].of == "reconstruction"]
    if logvar.requires_grad and compared:
        losses |= {name: losses[name] / logvar.exp() for name in compared}
        losses[LOGVAR] = logvar

    # Adaptive weights
    for name in losses.keys() & parts.terms.keys():
        clamp = parts.terms[name][0].clamp
        if clamp is not None and compared:
            reconstruction = torch.stack([losses[term] for term in compared]).sum()
            notes["adaptive"] = adaptive_factor(
                reconstruction, losses[name] / parts.terms[name][0].at(trial_step), parts.vae.last_weight, clamp
            )
            losses[name] = losses[name] * notes["adaptive"]
    return losses, notes


def applies(term: Term, out: Step) -> bool:
    """Whether the pictures are large enough for a term: as large as the crops, or as the term's `smallest`."""
    return min(out.x.shape[-2:]) >= min(term.smallest, out.crop)


def reconstruction_loss(
    terms: dict[str, tuple[WeightSchedule, Term]], out: Step, trial_step: int, logvar: Tensor, x: Tensor, y: Tensor
) -> Tensor:
    """`Step.compare`: the weighted reconstruction terms at `trial_step`, summed, of pictures y against targets x.

    A learned log-variance scales the terms, but gets no gradient from these pictures. Raises ValueError where no term
    applies to them.
    """
    pair = replace(out, x=x, y=y.float())
    compared = [
        weight.at(trial_step) * term(pair)
        for weight, term in terms.values()
        if term.of == "reconstruction" and weight.at(trial_step) and applies(term, pair)
    ]
    if not compared:
        raise ValueError(f"no reconstruction term applies to pictures of {min(x.shape[-2:])} px at step {trial_step}")
    return torch.stack(compared).sum() / logvar.exp()


def autoencoder_step(
    parts: TrainingParts, state: TrainingState, settings: Train, losses: dict[str, Tensor], *, check_liveness: bool
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Update the autoencoder's weights. Gives the total loss, the gradient norm before clipping, and the liveness.

    Liveness, if it is to be checked: the gradient share of each loss term, and the number of parameters whose gradient
    is not 0. Otherwise it is empty.
    """
    total = torch.stack(list(losses.values())).sum()
    liveness = gradient_shares(losses, parts.vae) if check_liveness else {}
    state.optimizer.zero_grad()
    total.backward()
    grad_norm = nn.utils.clip_grad_norm_(parts.vae.parameters(), settings.clip)
    if liveness:
        gradients = [p.grad for p in parts.vae.parameters() if p.grad is not None]
        liveness["active_parameters"] = torch.stack([(gradient != 0).sum() for gradient in gradients]).sum()
    state.optimizer.step()
    return total, grad_norm, liveness


def discriminator_step(
    discriminator: Discriminator, optimizer: torch.optim.Optimizer, settings: Train, out: Step
) -> Tensor:
    """Update the discriminator's weights. Gives its loss on the same batch, with the reconstruction detached."""
    discriminator.requires_grad_(True)
    with precision(settings, out.x.device):
        real = discriminator(out.x)
        fake = discriminator(out.y.detach())
    loss = discriminator.loss(real.float(), fake.float())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(discriminator.parameters(), settings.clip)
    optimizer.step()
    return loss


@torch.no_grad()
def heldout_latents(parts: TrainingParts) -> Tensor:
    """The posterior of the first held-out pictures or clips, mean and log-variance; clips are cut to whole groups."""
    pixels = torch.from_numpy(parts.corpus.heldout[:4]).to(parts.device).float() / 127.5 - 1
    posterior = parts.vae.encode(pixels if pixels.ndim == 4 else pixels[:, :, : parts.vae.whole(pixels.shape[2])])
    return torch.cat([posterior.mean, posterior.logvar])


def checks_liveness(step: int, steps: int) -> bool:
    """Whether liveness is checked at a step of a stage: at the first, and at the last of each quarter."""
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
