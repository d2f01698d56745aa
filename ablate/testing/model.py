"""The exam of the slot model."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ablate.engine.build import build_model
from ablate.slots import LOGVAR_RANGE, Autoencoder, Posterior
from ablate.testing import checks
from ablate.testing.checks import noise
from ablate.testing.exam import Exam, Missing, point

INNER = {
    "padding": {"level": "zeros"},
    "norm": {"level": "group", "groups": 4},
    "upsample": {"level": "nearest_conv"},
    "downsample": {"level": "strided_conv"},
}
"""What an image model is built from."""


INNER_OF_VIDEO = {
    "temporal_conv": {"level": "causal"},
    "branch": {"level": "single"},
    "context": {"level": "none"},
}
"""What a video model is built from besides."""


class ModelExam(Exam):
    """What a model level must fulfil: an `Autoencoder`, of clips where Config says `temporal`.

    `inner`: levels of the slots inside it, in place of the exam's.
    """

    slot = "model"
    signature = "build(config, encoder, decoder)"
    examples: ClassVar[Mapping[str, Any]] = {"channels": [8, 8, 8], "latent_channels": 4}
    inner: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def arguments(self, config: Any) -> tuple[Any, ...]:
        return None, None  # `build` below fills the slots inside

    def build(self, settings: Mapping[str, Any]) -> Any:
        config = self.read(settings)
        slots: dict[str, Any] = dict(INNER)
        if config.temporal:
            slots |= {**INNER_OF_VIDEO, "norm": {"level": config.norms[0] if config.norms else "rms"}}
        self._config = config
        recipe = {"model": {"level": self.level, **config.plain()}, **slots, **self.inner}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            vae = build_model(recipe)
        self._stride = int(getattr(config, "stride", 0) or vae.stride)  # a model of one's own finds it
        return vae

    def inputs(self) -> list[Tensor]:
        """Batches of pictures, and of clips for a temporal model, whose sides are multiples of the stride."""
        f, g = self._stride, self._config.groups
        still = noise(2, 3, 4 * f, 6 * f)
        return [still, noise(2, 3, 1 + 2 * g, 4 * f, 6 * f)] if self._config.temporal else [still]

    @point
    def test_describes_itself(self, vae: Any) -> None:
        """is an Autoencoder whose stride, groups and temporal are those of Config"""
        if not isinstance(vae, Autoencoder):
            raise Missing(f"{self.signature} must give an Autoencoder, found {type(vae).__name__}")
        for name in ("stride", "groups", "temporal"):
            expected, found = getattr(self._config, name, self._stride), getattr(vae, name, None)
            if found != expected:
                raise Missing(f"{name}: Config says {expected}, the model {found}; set self.{name} in the model")
        if not isinstance(getattr(vae, "latent_channels", None), int):
            raise Missing("the model does not set self.latent_channels")

    @point
    def test_shapes(self, vae: Any) -> None:
        """encodes to latents of 1/stride of the size, and decodes to the size of the input"""
        f, g = vae.stride, vae.groups
        with torch.no_grad():
            for x in self.inputs():
                posterior = vae.encode(x)
                if not isinstance(posterior, Posterior):
                    raise Missing(f"encode must give a Posterior, found {type(posterior).__name__}")
                h, w = x.shape[-2:]
                time = (1 + (x.shape[2] - 1) // g,) if x.ndim == 5 else ()
                expected = (2, vae.latent_channels, *time, h // f, w // f)
                what = f"of {checks.text(x.shape)} with stride {f}"
                checks.shaped(posterior.mean, expected, f"the posterior's mean {what}")
                checks.shaped(posterior.logvar, expected, f"the posterior's logvar {what}")
                y = vae.decode(posterior.mean)
                checks.shaped(y, x.shape, f"the reconstruction {what}")
                checks.finite(y, "the reconstruction")

    @point
    def test_logvar_range(self, vae: Any) -> None:
        """clamps the log-variance to LOGVAR_RANGE"""
        low, high = LOGVAR_RANGE
        with torch.no_grad():
            for module in vae.modules():
                for parameter in module.parameters(recurse=False):
                    parameter.mul_(30)
            logvar = vae.encode(100 * self.inputs()[0]).logvar
        if logvar.isfinite().all() and (logvar.min() < low or logvar.max() > high):
            found = f"{logvar.min().item():.3g} to {logvar.max().item():.3g}"
            raise Missing(f"the log-variance is {found} with large weights; use logvar.clamp(*LOGVAR_RANGE)")

    @point
    def test_unfit_sizes(self, vae: Any) -> None:
        """refuses sizes that are no multiple of the stride, and lengths that are not 1 + k groups, by ValueError"""
        f, g = vae.stride, vae.groups
        wrong = [(noise(1, 3, 4 * f + 1, 4 * f), f"{4 * f + 1} x {4 * f} px with stride {f}")] if f > 1 else []
        if g > 1:
            wrong.append((noise(1, 3, 1 + g + 1, 4 * f, 4 * f), f"{g + 2} frames in groups of {g}"))
        for x, what in wrong:
            try:
                vae.encode(x)
            except ValueError:
                continue
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
                raise Missing(f"encode of {what} must raise ValueError in words, found {found}") from error
            raise Missing(f"encode takes {what}; expected a ValueError that names the sizes which fit")

    @point
    def test_gradient(self, vae: Any) -> None:
        """the gradient reaches the input and every weight"""
        x = self.inputs()[-1].requires_grad_()
        posterior = vae.encode(x)
        z = posterior.sample(noise(*posterior.mean.shape, seed=1))
        checks.gradient(vae.decode(z), {"the input": x, **checks.weights_of(vae)})

    @point
    def test_parts(self, vae: Any) -> None:
        """encoding_parts are the modules that encode runs, and only those"""
        posterior = vae.encode(self.inputs()[-1])
        names = {id(parameter): name for name, parameter in vae.named_parameters()}
        total = posterior.mean.sum() + posterior.logvar.sum()
        found = torch.autograd.grad(total, list(vae.parameters()), allow_unused=True)
        used = {id(p) for p, gradient in zip(vae.parameters(), found, strict=True) if gradient is not None}
        listed = {id(parameter) for part in vae.encoding_parts for parameter in part.parameters()}
        if used != listed:
            first = names[next(iter(used ^ listed))]
            reason = "is used by encode but in none of them" if used - listed else "is in them but not used by encode"
            raise Missing(f"encoding_parts: '{first}' {reason}; they are frozen where a stage tunes the decoder alone")

    @point
    def test_last_weight(self, vae: Any) -> None:
        """last_weight, if it names one, is a weight of the decoder"""
        try:
            last = vae.last_weight
        except TypeError:
            return  # a model need not name any
        decoding = {id(p) for p in vae.parameters()} - {id(p) for part in vae.encoding_parts for p in part.parameters()}
        if id(last) not in decoding:
            raise Missing("last_weight must be a parameter of the decoder")

    @point
    def test_decoder_blocks(self, vae: Any) -> None:
        """decoder_blocks, if it names any, run in order and give features `b c h w` or `b c t h w`"""
        seen: list[tuple[int, Any]] = []
        blocks = vae.decoder_blocks
        for number, block in enumerate(blocks):
            block.register_forward_hook(lambda _, __, out, number=number: seen.append((number, out)))
        x = self.inputs()[-1]
        with torch.no_grad():
            vae.decode(vae.encode(x).mean)
        if [number for number, _ in seen] != list(range(len(blocks))):
            raise Missing(
                f"decoder_blocks ran in the order {[number for number, _ in seen]}, expected each once, in turn"
            )
        for number, out in seen:
            if not isinstance(out, Tensor) or out.ndim != x.ndim:
                found = checks.text(out.shape) if isinstance(out, Tensor) else type(out).__name__
                raise Missing(f"decoder_blocks[{number}] gives {found}, expected features of {x.ndim} axes")

    @point
    def test_each_alone(self, vae: Any) -> None:
        """treats each picture of a batch by itself"""
        with torch.no_grad():
            checks.each_alone(lambda x: vae.decode(vae.encode(x).mean), self.inputs()[-1])

    @point
    def test_repeatable(self, vae: Any) -> None:
        """gives the same bits each time and leaves the global random state alone"""
        x = self.inputs()[-1]
        with torch.no_grad():
            checks.repeatable(vae, lambda one: one.decode(one.encode(x).mean), "the reconstruction")

    @point
    def test_bf16(self, vae: Any) -> None:
        """is finite in bf16 and close to fp32"""
        x = self.inputs()[-1]
        checks.same_in_bf16(lambda bf16: vae.encode(x).mean, "the posterior's mean")
        checks.same_in_bf16(lambda bf16: vae.decode(vae.encode(x).mean), "the reconstruction")

    @point
    def test_initialised(self, vae: Any) -> None:
        """every weight is drawn by reset_parameters"""
        checks.initialised(vae)

    @point
    def test_planning(self, vae: Any) -> None:
        """can be built and run without memory, on the device 'meta', as a sweep does before it starts"""
        moved = copy.deepcopy(vae).to("meta")
        with torch.device("meta"), torch.no_grad():
            moved.decode(moved.encode(torch.empty_like(self.inputs()[0], device="meta")).mean)
