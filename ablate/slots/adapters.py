"""Makes levels of plain classes of the user's: an `Autoencoder` of any VAE, a norm, a resampling layer, a loss term.

A VAE has `encode` and `decode`, or `forward` and a part `decoder`. What `encode` gives may be a `Posterior`, an object
with `mean` and `logvar` such as diffusers' `latent_dist`, a pair (mean, log-variance), a mapping with these names, or a
tensor: the latents themselves, or mean and log-variance one after the other if `decode` takes half of its channels.
`forward` gives reconstruction, mean and log-variance, as a tuple or a mapping. What `decode` gives may be a tensor, an
object with `sample`, a tuple that begins with the pictures, or a mapping. Pictures are `b 3 h w` in [-1, 1].
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablate.slots.targets import OFFERED, accepts, place
from ablate.slots.training import LOGVAR_RANGE, Autoencoder, Posterior, Step, Term

SIDES = (64, 128, 256, 32)
"""Sides in px of the pictures that stride and latent channels are found with; the first that a model takes counts.

They are found for real: on the device 'meta' a layer may accept channels that it has no weights for.
"""

MEANS = ("mean", "mu", "z_mean", "loc")

LOGVARS = ("logvar", "log_var", "log_variance", "z_logvar", "z_log_var")

PICTURES = ("sample", "reconstruction", "recon", "recon_x", "x_recon", "x_hat", "output")

Call = Callable[[], Any]


def adapt_model(name: str, made: Any, config: Any, encoder: Any, decoder: Any) -> Autoencoder:
    """The autoencoder of a class or function of the user's. The slots within models have no effect on it."""
    make = partial(_construct, name, made, config, "model")
    module = make()
    if isinstance(module, Autoencoder):
        return module
    return AdaptedVAE(name, module, make, config.get("stride", None), config.get("latent_channels", None))


class AdaptedVAE(Autoencoder):
    """Any module as an autoencoder of images. `stride` and `latent_channels`: as declared; None to find them.

    `make()` gives a new module of the same shapes, whose constructor draws the weights anew. Raises ValueError, naming
    shapes, where the module does not encode and decode pictures.
    """

    def __init__(
        self, name: str, module: nn.Module, make: Call, stride: int | None, latent_channels: int | None
    ) -> None:
        super().__init__()
        self.name = name
        self.module = _keep_weights(module)
        self.make = make
        self.moments = False
        self.stride, self.latent_channels = self._measure()
        for what, given, found in (
            ("stride", stride, self.stride), ("latent_channels", latent_channels, self.latent_channels)
        ):  # fmt: skip
            if given not in {None, found}:
                raise ValueError(f"model: the study says {what} {given}, but {name} has {found}")

    def reset_parameters(self) -> None:
        """Draw all weights as the module's constructor does."""
        self.module.load_state_dict(self.make().state_dict())

    @property
    def decoder_blocks(self) -> list[nn.Module]:
        blocks = getattr(getattr(self.module, "decoder", None), "up_blocks", None)
        return list(blocks) if isinstance(blocks, nn.ModuleList) else []

    @property
    def encoding_parts(self) -> list[nn.Module]:
        parts = [getattr(self.module, name, None) for name in ("encoder", "quant_conv", "fc_mu", "fc_var")]
        found = [part for part in parts if isinstance(part, nn.Module)]
        if not isinstance(parts[0], nn.Module):
            raise TypeError(f"{self.name} has no part 'encoder', so its decoder cannot be tuned alone")
        return found

    @property
    def last_weight(self) -> Tensor:
        layer: Any = getattr(self.module, "get_last_layer", None)
        convolution: Any = getattr(getattr(self.module, "decoder", None), "conv_out", None)
        weight = layer() if callable(layer) else getattr(convolution, "weight", None)
        if isinstance(weight, Tensor):
            return weight
        found = "neither 'get_last_layer()' nor 'decoder.conv_out'"
        raise TypeError(f"{self.name} has {found}, which an adaptive adversarial weight needs")

    def encode(self, x: Tensor) -> Posterior:
        """As `Autoencoder.encode`. Raises ValueError for sizes that are not multiples of the stride."""
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"model: {height} x {width} (h x w) is not a multiple of the stride {self.stride}")
        return self._encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """As `Autoencoder.decode`."""
        return self._pictures(self._call(lambda: self._decoder()(z)))

    def _decoder(self) -> Callable[[Tensor], Any]:
        for name in ("decode", "decoder"):
            if callable(found := getattr(self.module, name, None)):
                function: Callable[[Tensor], Any] = found
                return function
        raise ValueError(f"model: {self.name} has neither a method 'decode' nor a part 'decoder'; add decode(self, z)")

    def _encode(self, x: Tensor) -> Posterior:
        encode = getattr(self.module, "encode", None)
        if not callable(encode):
            return self._from_forward(self._call(lambda: self.module(x)), x)
        return self._posterior(self._call(lambda: encode(x)))

    def _from_forward(self, out: Any, x: Tensor) -> Posterior:
        """The posterior in what `forward` gives beside the reconstruction."""
        if isinstance(out, Mapping) or not isinstance(out, tuple | list):
            return self._posterior(out)
        others = [one for one in out if isinstance(one, Tensor) and one.ndim and one.shape != x.shape]
        if len(others) != 2 or others[0].shape != others[1].shape:
            raise ValueError(
                f"model: forward of {self.name} gives {_shown(out)}; expected (reconstruction, mean, logvar), or "
                "methods 'encode' and 'decode'"
            )
        return self._clamped(*others)

    def _posterior(self, out: Any) -> Posterior:
        out = getattr(out, "latent_dist", out)
        out = getattr(out, "latents", out)
        if isinstance(out, Tensor):
            if self.moments:
                mean, logvar = out.chunk(2, 1)
                return self._clamped(mean, logvar)
            return self._clamped(out, torch.full_like(out, LOGVAR_RANGE[0]))
        if isinstance(out, tuple | list) and len(out) == 2 and all(isinstance(one, Tensor) for one in out):
            return self._clamped(out[0], out[1])
        center = _first(out, MEANS)
        spread = _first(out, LOGVARS)
        if spread is None and (deviation := _first(out, ("stddev",))) is not None:  # of torch.distributions
            spread = 2 * deviation.log()
        if center is None or spread is None:
            raise ValueError(
                f"model: {self.name} encodes to {_shown(out)}; expected a tensor, (mean, logvar), or something with "
                "'latent_dist', or with 'mean' and 'logvar'"
            )
        return self._clamped(center, spread)

    def _clamped(self, mean: Tensor, logvar: Tensor) -> Posterior:
        if mean.ndim != 4:
            shape = " ".join(map(str, mean.shape))
            raise ValueError(f"model: latents of {self.name} are {shape}; expected maps b z h w, of 4 axes")
        return Posterior(mean, logvar.clamp(*LOGVAR_RANGE))

    def _pictures(self, out: Any) -> Tensor:
        if isinstance(out, tuple | list) and out:
            out = out[0]
        found = out if isinstance(out, Tensor) else _first(out, PICTURES)
        if found is None:
            expected = "expected a tensor, or something with 'sample'"
            raise ValueError(f"model: {self.name} decodes to {_shown(out)}; {expected}")
        return found

    def _call(self, run: Call) -> Any:
        """Call the user's code; whatever it raises names the line."""
        return _called(self.name, "model", run)

    @torch.no_grad()
    def _measure(self) -> tuple[int, int]:
        """Stride and latent channels, from a round trip of the first picture in `SIDES` that the module takes."""
        failure: Exception | None = None
        self.eval()
        for side in SIDES:
            try:
                with torch.random.fork_rng(devices=[]):
                    found = self._round_trip(side)
            except Exception as error:
                failure = failure or error
            else:
                self.train()
                return found
        assert failure is not None
        raise failure

    def _round_trip(self, side: int) -> tuple[int, int]:
        """Stride and latent channels from a picture of this side. Raises ValueError where shapes do not fit."""
        x = torch.zeros(1, 3, side, side)
        self.moments = False
        latent = self._encode(x).mean
        try:
            y = self.decode(latent)
        except Exception:
            if latent.shape[1] % 2:
                raise
            self.moments = True
            latent = self._encode(x).mean
            y = self.decode(latent)
        if y.shape != x.shape:
            raise ValueError(
                f"model: {self.name} turns pictures {_dims(x)} into {_dims(y)}, by latents {_dims(latent)}"
            )
        height, width = latent.shape[-2:]
        if height != width or side % height:
            found = f"encodes pictures {_dims(x)} to latents {_dims(latent)}"
            raise ValueError(f"model: {self.name} {found}; expected a side that divides {side}")
        return side // height, latent.shape[1]


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
        self.module = _keep_weights(make())
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
        out = _called(self.name, self.slot, run)
        expected = (*h.shape[:-2], int(h.shape[-2] * self.scale), int(h.shape[-1] * self.scale))
        if not isinstance(out, Tensor) or tuple(out.shape) != expected:
            shape = " x ".join(map(str, expected))
            raise ValueError(f"{self.slot}: {self.name} turns features {_dims(h)} into {_shown(out)}; expected {shape}")
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


def _kept() -> None:
    """In place of `reset_parameters` of parts: the adapter draws the weights of all parts at once."""


def _keep_weights(module: nn.Module) -> nn.Module:
    for part in module.modules():
        part.reset_parameters = _kept  # type: ignore[assignment]
    return module


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
        out = _called(self.name, "loss", lambda: self.module(y, x))
        if not isinstance(out, Tensor):
            raise ValueError(f"loss: {self.name} gives {_shown(out)}; expected a tensor")
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
    module = _called(name, slot, lambda: made(*arguments, **settings, **more))
    if not isinstance(module, nn.Module) and not (slot == "loss" and callable(module)):
        raise ValueError(f"{slot}: {name} gives {module!r:.60}; expected a torch.nn.Module")
    return module


def _called(name: str, slot: str, run: Call) -> Any:
    """The result of a call of the user's code; whatever it raises becomes a ValueError that names the user's line."""
    from ablate.slots import registry

    try:
        return run()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError, NotImplementedError,
            AssertionError, ArithmeticError) as error:  # fmt: skip
        if "can't allocate memory" in str(error) or "CUDA" in str(error):
            raise
        file, line = place(error, registry.own(), Path())
        where = f" ({file}:{line})" if file != Path() else ""
        text = " ".join(str(error).split())
        raise ValueError(f"{slot}: {name} raises {type(error).__name__}: {text}{where}") from error


def _first(out: Any, names: tuple[str, ...]) -> Tensor | None:
    """The first tensor that a mapping or an object has under one of these names."""
    found = [out.get(name) if isinstance(out, Mapping) else getattr(out, name, None) for name in names]
    return next((one for one in found if isinstance(one, Tensor)), None)


def _dims(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def _shown(value: Any) -> str:
    """What the user's code gave, in few words: `a tuple of 2 tensors (1 x 3 x 8 x 8, 1 x 4)`."""
    if isinstance(value, Tensor):
        return f"a tensor {_dims(value)}"
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value))}"
    if isinstance(value, tuple | list):
        return f"({', '.join(_dims(one) if isinstance(one, Tensor) else type(one).__name__ for one in value)})"
    return type(value).__name__
