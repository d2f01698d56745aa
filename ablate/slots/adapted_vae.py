"""Any VAE as the model of a study.

It has `encode` and `decode`, or `forward` and a part `decoder`. What `encode` gives may be a `Posterior`, an object
with `mean` and `logvar` such as diffusers' `latent_dist`, a pair (mean, log-variance), a mapping with these names, or a
tensor: the latents themselves, or mean and log-variance one after the other if `decode` takes half of its channels.
`forward` gives reconstruction, mean and log-variance, as a tuple or a mapping. What `decode` gives may be a tensor, an
object with `sample`, a tuple that begins with the pictures, or a mapping. Pictures are `b 3 h w` in [-1, 1].
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ablate.slots.training import LOGVAR_RANGE, Autoencoder, Posterior
from ablate.slots.user_calls import Call, called, dims, first, keep_weights, shown

SIDES = (64, 128, 256, 32)
"""Sides in px of the pictures that stride and latent channels are found with; the first that a model takes counts.

They are found for real: on the device 'meta' a layer may accept channels that it has no weights for.
"""

MEANS = ("mean", "mu", "z_mean", "loc")

LOGVARS = ("logvar", "log_var", "log_variance", "z_logvar", "z_log_var")

PICTURES = ("sample", "reconstruction", "recon", "recon_x", "x_recon", "x_hat", "output")


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
        self.module = keep_weights(module)
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
                f"model: forward of {self.name} gives {shown(out)}; expected (reconstruction, mean, logvar), or "
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
        center = first(out, MEANS)
        spread = first(out, LOGVARS)
        if spread is None and (deviation := first(out, ("stddev",))) is not None:  # of torch.distributions
            spread = 2 * deviation.log()
        if center is None or spread is None:
            raise ValueError(
                f"model: {self.name} encodes to {shown(out)}; expected a tensor, (mean, logvar), or something with "
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
        found = out if isinstance(out, Tensor) else first(out, PICTURES)
        if found is None:
            expected = "expected a tensor, or something with 'sample'"
            raise ValueError(f"model: {self.name} decodes to {shown(out)}; {expected}")
        return found

    def _call(self, run: Call) -> Any:
        """Call the user's code; whatever it raises names the line."""
        return called(self.name, "model", run)

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
            raise ValueError(f"model: {self.name} turns pictures {dims(x)} into {dims(y)}, by latents {dims(latent)}")
        height, width = latent.shape[-2:]
        if height != width or side % height:
            found = f"encodes pictures {dims(x)} to latents {dims(latent)}"
            raise ValueError(f"model: {self.name} {found}; expected a side that divides {side}")
        return side // height, latent.shape[1]
