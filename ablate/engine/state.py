"""The state of training: all that changes from step to step, and its way to a checkpoint and back."""

from typing import Any

import torch
from torch import Tensor, nn

from ablate.engine import checkpoint
from ablate.engine.adamw import AdamW
from ablate.engine.checkpoint import Checkpoint
from ablate.recipe.stages import Train
from ablate.slots.training import Autoencoder, Discriminator
from ablate.store.files import is_remote
from ablate.store.record import KEPT
from ablate.store.shrink import needed_by
from ablate.store.stage import StageFolder


class TrainingState:
    """Weights, their average, optimisers and the step within the stage.

    `logvar` is the scalar log-variance s of the pixels. It stays 0 unless the stage learns it.
    """

    def __init__(self, vae: Autoencoder, discriminator: Discriminator | None, settings: Train):
        self.step = 0
        self.vae = vae
        self.discriminator = discriminator
        self.ema = {name: parameter.detach().clone() for name, parameter in vae.named_parameters()}
        device = next(vae.parameters()).device
        self.logvar = nn.Parameter(torch.zeros((), device=device), requires_grad=settings.learn_logvar)
        trained = [parameter for parameter in vae.parameters() if parameter.requires_grad]
        self.optimizer = _adamw(trained, settings)
        if settings.learn_logvar:
            self.optimizer.add_param_group({"params": [self.logvar], "weight_decay": 0.0})
        self.optimizer_d = _adamw(list(discriminator.parameters()), settings) if discriminator else None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The autoencoder's parameters and `logvar`, by name."""
        return {**dict(self.vae.named_parameters()), "logvar": self.logvar}

    def save(
        self, folder: StageFolder, header: dict[str, Any], more: dict[str, Tensor], *, whole: bool = True
    ) -> Checkpoint:
        """Write a checkpoint: this state, the tensors `more`, and the header with the step added.

        Unless `whole`, what training does not go on from: the weights and their average.
        """
        tensors = checkpoint.pack("model.", self.vae.state_dict())
        tensors |= checkpoint.pack("ema.", self.ema)
        tensors |= checkpoint.pack("balance.", {"logvar": self.logvar})
        tensors |= checkpoint.pack("optimizer.", checkpoint.optimizer_tensors(self.parameters, self.optimizer))
        if self.discriminator and self.optimizer_d:
            tensors |= checkpoint.pack("discriminator.", self.discriminator.state_dict())
            state = checkpoint.optimizer_tensors(dict(self.discriminator.named_parameters()), self.optimizer_d)
            tensors |= checkpoint.pack("optimizer_d.", state)
        tensors |= more
        header = {**header, "step": self.step}
        if not whole:
            tensors = {name: tensors[name] for name in needed_by("weights", list(tensors))}
            header[KEPT] = "weights"
        previous = None if is_remote(folder.root) else folder.previous
        return checkpoint.save(folder.checkpoint, tensors, header, previous)

    def restore(self, saved: Checkpoint, *, step: int) -> None:
        """Continue at `step` from a checkpoint of this stage, or start (`step` 0) from that of the stage before.

        A discriminator that the checkpoint lacks stays as it is.
        """
        device = self.logvar.device
        self.step = step
        self.vae.load_state_dict(saved.part("model.", device))
        ema = saved.part("ema.", device)
        for name, average in self.ema.items():  # in the order and the memory layout of the parameters, not of the file
            average.copy_(ema[name])
        balance = saved.part("balance.", device)
        self.logvar.data.copy_(balance.get("logvar", torch.zeros(())))
        checkpoint.restore_optimizer(self.parameters, self.optimizer, saved.part("optimizer.", device))
        discriminator = saved.part("discriminator.", device)
        if self.discriminator and self.optimizer_d and discriminator:
            self.discriminator.load_state_dict(discriminator)
            state = saved.part("optimizer_d.", device)
            checkpoint.restore_optimizer(dict(self.discriminator.named_parameters()), self.optimizer_d, state)

    def adopt_average(self) -> None:
        """Replace the weights by their average."""
        self.vae.load_state_dict(self.ema, strict=False)

    @torch.no_grad()
    def update_ema(self, decay: float, step: int) -> None:
        """Update the exponential moving average of the weights, with the decay min(d, (1+n)/(10+n)).

        n is `step`, counted over all stages. The smaller decay of early steps lets short runs forget their start.
        """
        decay = min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.vae.parameters()], 1 - decay)


def _adamw(parameters: list[nn.Parameter], settings: Train) -> AdamW:
    return AdamW(parameters, settings.lr, settings.betas, weight_decay=settings.weight_decay, fused=True)
