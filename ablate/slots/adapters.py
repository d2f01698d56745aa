"""Makes levels of plain classes of the user's: an `Autoencoder` of any VAE, a norm, a resampling layer, a loss term."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from ablate.slots.adapted_vae import AdaptedVAE
from ablate.slots.targets import OFFERED, accepts
from ablate.slots.training import Autoencoder, Step, Term
from ablate.slots.user_calls import Call, called, dims, keep_weights, shown


def adapt_model(name: str, made: Any, config: Any, encoder: Any, decoder: Any) -> Autoencoder:
    """The autoencoder of a class or function of the user's. The slots within models have no effect on it."""
    make = partial(_construct, name, made, config, "model")
    module = make()
    if isinstance(module, Autoencoder):
        return module
    return AdaptedVAE(name, module, make, config.get("stride", None), config.get("latent_channels", None))


class AdaptedLayer(nn.Module):
    """A module of `b c h w` inside a model, whose constructor draws its weights.

    `scale`: by how much it changes the sides. Raises ValueError where it gives features of another shape.
    """

    def __init__(self, slot: str, name: str, make: Call, scale: float) -> None:
        super().__init__()
        self.slot = slot
        self.name = name
        self.make = make
        self.scale = scale
        self.module = keep_weights(make())
        try:
            taken = list(inspect.signature(self.module.forward).parameters.values())
        except (TypeError, ValueError):
            taken = []
        needed = [one for one in taken if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
        self.conditional = len(needed) > 1

    def reset_parameters(self) -> None:
        """Draw all weights as the module's constructor does."""
        self.module.load_state_dict(self.make().state_dict())

    def forward(self, h: Tensor, z: Tensor | None = None) -> Tensor:
        run = partial(self.module, h, z) if self.conditional else partial(self.module, h)
        out = called(self.name, self.slot, run)
        expected = (*h.shape[:-2], int(h.shape[-2] * self.scale), int(h.shape[-1] * self.scale))
        if not isinstance(out, Tensor) or tuple(out.shape) != expected:
            shape = " x ".join(map(str, expected))
            raise ValueError(f"{self.slot}: {self.name} turns features {dims(h)} into {shown(out)}; expected {shape}")
        return out


def adapt_norm(name: str, made: Any, config: Any, channels: int, latent_channels: int | None = None) -> nn.Module:
    """`Class(channels, **settings)`, called with features `b c h w`, and the latent if its `forward` takes two."""
    more = {"latent_channels": latent_channels} if accepts(made, "latent_channels") else {}
    return AdaptedLayer("norm", name, partial(_construct, name, made, config, "norm", channels, **more), 1)


def adapt_resampling(
    slot: str, scale: float, name: str, made: Any, config: Any, channels: int, padding: Any
) -> nn.Module:
    """`Class(channels, **settings)`, called with features `b c h w`, whose sides it doubles or halves."""
    return AdaptedLayer(slot, name, partial(_construct, name, made, config, slot, channels), scale)


class AdaptedTerm(Term):
    """A loss of (reconstruction, target), in the order of torch's losses; the mean of what it gives."""

    of = "reconstruction"

    def __init__(self, name: str, module: Any) -> None:
        super().__init__()
        self.name = name
        self.module = module

    def forward(self, step: Step) -> Tensor:
        return self.compare(step.y, step.x)

    def compare(self, y: Tensor, x: Tensor) -> Tensor:
        """The loss of reconstructions against their targets. Raises ValueError where it is no tensor."""
        out = called(self.name, "loss", lambda: self.module(y, x))
        if not isinstance(out, Tensor):
            raise ValueError(f"loss: {self.name} gives {shown(out)}; expected a tensor")
        return out.mean() if out.ndim else out


def adapt_loss(name: str, made: Any, config: Any) -> Term:
    """`Class(**settings)`, called with reconstructions and targets `b 3 h w` in [-1, 1]."""
    return AdaptedTerm(name, _construct(name, made, config, "loss"))


ADAPTERS: dict[str, Callable[..., Any]] = {
    "model": adapt_model, "norm": adapt_norm, "upsample": partial(adapt_resampling, "upsample", 2),
    "downsample": partial(adapt_resampling, "downsample", 0.5), "loss": adapt_loss,
}  # fmt: skip
"""Slot -> what makes a level of a plain class."""


def _construct(name: str, made: Any, config: Any, slot: str, *arguments: Any, **more: Any) -> Any:
    """What the class or function makes with the study's settings, without those that are not its own.

    Raises ValueError for what is no module, except of a loss, which may be any function.
    """
    if not callable(made):
        raise ValueError(f"{slot}: {name} is {made!r:.60}; expected a class")
    settings = {key: value for key, value in config.plain().items() if key not in {"weight", "target"}}
    settings = {key: value for key, value in settings.items() if key not in OFFERED.get(slot, ()) or accepts(made, key)}
    module = called(name, slot, lambda: made(*arguments, **settings, **more))
    if not isinstance(module, nn.Module) and not (slot == "loss" and callable(module)):
        raise ValueError(f"{slot}: {name} gives {module!r:.60}; expected a torch.nn.Module")
    return module
