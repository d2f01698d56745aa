"""Exams of the slots inside every model: padding, norm, upsample, downsample."""

import inspect
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ablate.components.shared.layers import pad_zeros
from ablate.testing import checks
from ablate.testing.checks import noise
from ablate.testing.exam import Exam, Missing, point


class PaddingExam(Exam):
    """What a padding level must fulfil: a function of `b c h w` and (left, right, top, bottom) px."""

    slot = "padding"
    pads: ClassVar = ((1, 1, 1, 1), (0, 1, 0, 1), (2, 1, 0, 3), (3, 2, 1, 0))

    @point
    def test_widths(self, pad: Any) -> None:
        """pads by (left, right, top, bottom) pixels"""
        x = noise(2, 3, 8, 10)
        for left, right, top, bottom in self.pads:
            expected = (2, 3, 8 + top + bottom, 10 + left + right)
            what = f"2 3 8 10 padded by ({left}, {right}, {top}, {bottom}) (left, right, top, bottom)"
            checks.shaped(pad(x, (left, right, top, bottom)), expected, what)

    @point
    def test_inside_unchanged(self, pad: Any) -> None:
        """leaves the picture inside the border as it is"""
        x = noise(2, 3, 8, 10)
        for left, right, top, bottom in self.pads:
            y = pad(x, (left, right, top, bottom))
            if not torch.equal(y[..., top : top + 8, left : left + 10], x):
                what = f"by ({left}, {right}, {top}, {bottom}) (left, right, top, bottom)"
                raise Missing(f"padded {what}, the picture inside the border is moved or changed; is the order right?")

    @point
    def test_gradient(self, pad: Any) -> None:
        """the gradient reaches every pixel"""
        x = noise(1, 2, 6, 6).requires_grad_()
        checks.gradient(pad(x, (1, 1, 1, 1)), {"the input": x})
        (found,) = torch.autograd.grad(pad(x, (1, 1, 1, 1)).sum(), x)
        if (found == 0).any():
            raise Missing(f"no gradient reaches {(found == 0).sum().item()} of {found.numel()} pixels of the input")

    @point
    def test_repeatable(self, pad: Any) -> None:
        """gives the same bits each time and leaves the global random state alone"""
        x = noise(2, 3, 8, 8)
        checks.repeatable(pad, lambda one: one(x, (1, 1, 1, 1)))

    @point
    def test_bf16(self, pad: Any) -> None:
        """keeps bf16"""
        x = noise(2, 3, 8, 8).bfloat16()
        found = pad(x, (1, 1, 1, 1))
        if found.dtype != x.dtype:
            raise Missing(f"bf16 goes in and {found.dtype} comes out; create borders in the dtype of the input")
        checks.finite(found, "the padded picture in bf16")


class ModuleExam(Exam):
    """What a module with weights inside a model must fulfil."""

    def calls(self, module: nn.Module) -> list[tuple[str, Tensor, tuple[int, ...]]]:
        """Inputs to try: a name, the input, and the shape of the output."""
        raise TypeError(f"{type(self).__name__} does not define calls")

    def call(self, module: Any, x: Tensor) -> Tensor:
        """The output for one of these inputs."""
        out: Tensor = module(x)
        return out

    def modules(self, built: Any) -> list[nn.Module]:
        """The modules to examine, of what `build` gave."""
        return [built]

    @point
    def test_shape(self, built: Any) -> None:
        """gives features of the right shape, finite"""
        for module in self.modules(built):
            if not isinstance(module, nn.Module):
                raise Missing(f"{self.signature} must give a torch.nn.Module, found {type(module).__name__}")
            for name, x, expected in self.calls(module):
                found = self.call(module, x)
                checks.shaped(found, expected, f"features {checks.text(x.shape)}{name}")
                checks.finite(found, f"the result for features {checks.text(x.shape)}{name}")

    @point
    def test_gradient(self, built: Any) -> None:
        """the gradient reaches the input and every weight"""
        for module in self.modules(built):
            _, x, _ = self.calls(module)[0]
            x.requires_grad_()
            checks.gradient(self.call(module, x), {"the input": x, **checks.weights_of(module)})

    @point
    def test_each_alone(self, built: Any) -> None:
        """treats each picture of a batch by itself"""
        for module in self.modules(built):
            for _, x, _ in self.calls(module):
                with torch.no_grad():
                    checks.each_alone(partial(self.call, module), x)

    @point
    def test_repeatable(self, built: Any) -> None:
        """gives the same bits each time and leaves the global random state alone"""
        for module in self.modules(built):
            _, x, _ = self.calls(module)[0]
            checks.repeatable(module, partial(self.call, x=x))

    @point
    def test_bf16(self, built: Any) -> None:
        """is finite in bf16 and close to fp32"""
        for module in self.modules(built):
            _, x, _ = self.calls(module)[0]
            checks.same_in_bf16(partial(self._call_in, module, x))

    def _call_in(self, module: nn.Module, x: Tensor, bf16: bool) -> Tensor:
        return self.call(module, x.bfloat16() if bf16 else x)

    @point
    def test_initialised(self, built: Any) -> None:
        """every weight is drawn by reset_parameters"""
        for module in self.modules(built):
            checks.initialised(module)


class NormExam(ModuleExam):
    """What a norm level must fulfil: a module `forward(h, z)`, z being the latent, or None in the encoder.

    A `build` with a fourth argument `halves` is examined for video models too.
    """

    slot = "norm"
    signature = "build(config, channels, latent_channels)"
    channels: ClassVar = 64
    latent_channels: ClassVar = 4

    def arguments(self, config: Any) -> tuple[Any, ...]:
        return self.channels, self.latent_channels

    def calls(self, module: nn.Module) -> list[tuple[str, Tensor, tuple[int, ...]]]:
        h = 2 * noise(2, self.channels, 8, 12) + 0.5
        return [
            (" with a latent 2 4 4 6", h, tuple(h.shape)),
            (" of 1 x 1", h[..., :1, :1] * 1, (2, self.channels, 1, 1)),
        ]

    def call(self, module: Any, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        z = noise(2, self.latent_channels, 4, 6, seed=1)[: len(x), :, : max(1, h // 2), : max(1, w // 2)]
        out: Tensor = module(x, z)
        return out

    @point
    def test_flat_features(self, module: Any) -> None:
        """stays finite on features of one value, forward and backward"""
        h = torch.zeros(1, self.channels, 4, 4, requires_grad=True)
        out = module(h, noise(1, self.latent_channels, 4, 4))
        checks.finite(out, "the result for features that are 0 everywhere")
        (found,) = torch.autograd.grad(out.sum(), h)
        checks.finite(found, "the gradient for features that are 0 everywhere")

    def test_encoder(self) -> None:
        """works in the encoder, without a latent"""
        for settings in self.all_settings:
            module = self.module.build(self.read(settings), self.channels, None)
            h = noise(2, self.channels, 6, 6).requires_grad_()
            try:
                out = module(h, None)
            except Exception as error:
                raise Missing(f"build(config, channels, None), forward(h, None) {self.describe(error)}") from error
            checks.shaped(out, h.shape, f"features {checks.text(h.shape)} without a latent")
            checks.gradient(out, {"the input": h, **checks.weights_of(module)}, " without a latent")

    def test_video(self) -> None:
        """takes clips in video models, where build has the argument `halves`"""
        if len(inspect.signature(self.module.build).parameters) < 4:
            return
        for settings in self.all_settings:
            for halves in (1, 2):
                module = self.module.build(self.read(settings), self.channels, None, halves)
                h = noise(2, self.channels, 5, 4, 4).requires_grad_()
                try:
                    out = module(h)
                except Exception as error:
                    raise Missing(f"with halves={halves}, forward(h) {self.describe(error)}") from error
                checks.shaped(out, h.shape, f"a clip's features {checks.text(h.shape)} with halves={halves}")
                checks.gradient(out, {"the input": h, **checks.weights_of(module)}, f" with halves={halves}")


class UpsampleExam(ModuleExam):
    """What an upsample level must fulfil: a module `b c h w -> b c 2h 2w`."""

    slot = "upsample"
    signature = "build(config, channels, padding)"

    def arguments(self, config: Any) -> tuple[Any, ...]:
        return 8, pad_zeros

    def calls(self, module: nn.Module) -> list[tuple[str, Tensor, tuple[int, ...]]]:
        return [("", noise(2, 8, 8, 12), (2, 8, 16, 24)), ("", noise(1, 8, 7, 7), (1, 8, 14, 14))]


class DownsampleExam(ModuleExam):
    """What a downsample level must fulfil: a module `b c h w -> b c h/2 w/2` for even h and w."""

    slot = "downsample"
    signature = "build(config, channels, padding)"

    def arguments(self, config: Any) -> tuple[Any, ...]:
        return 8, pad_zeros

    def calls(self, module: nn.Module) -> list[tuple[str, Tensor, tuple[int, ...]]]:
        return [("", noise(2, 8, 16, 24), (2, 8, 8, 12)), ("", noise(1, 8, 14, 14), (1, 8, 7, 7))]
