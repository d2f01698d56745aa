"""Exams of the slots that only video models have: temporal_conv, branch, context. Features are `b c t h w`."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ablate.components.shared.layers import Conv3d, pad_zeros
from ablate.slots import Branch, Context, Past, cat_frames
from ablate.testing import checks
from ablate.testing.checks import noise
from ablate.testing.exam import Missing, point
from ablate.testing.layers import ModuleExam

FORWARD = "forward(x, past)"


class SamePlace(Conv3d):
    """A 3 x 3 x 3 convolution that sees the same frame three times; exams hand it to branches."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        frames = x.unsqueeze(3).expand(-1, -1, -1, 3, -1, -1).flatten(2, 3)
        y: Tensor = super().forward(frames)
        return y[:, :, ::3]


def same_place(before: int, after: int, group: int) -> nn.Module:
    """A `TemporalConv`."""
    return SamePlace(before, after, 3, pad_zeros)


def in_chunks(run: Callable[[Tensor, Past | None], Tensor], x: Tensor, group: int, what: str) -> None:
    """A clip in chunks, the first with the clip's first frame, gives what the whole clip gives."""
    past = Past()
    parts = []
    with torch.no_grad():
        whole = run(x, None)
        for chunk in x.split([1 + group, *[group] * ((x.shape[2] - 1) // group - 1)], 2):
            parts.append(run(chunk, past))
            past.begun = True
    found = cat_frames(parts)
    if found.shape != whole.shape or not torch.allclose(found, whole, rtol=1e-3, atol=1e-4):
        raise Missing(
            f"{what}: a clip given in chunks comes out otherwise than as a whole; keep the frames that later ones "
            "need by `past.keep(self, ...)` and take them by `past.recall(self)` once `past.begun`"
        )


class TemporalConvExam(ModuleExam):
    """What a temporal_conv level must fulfil: a module `forward(x, past)`, `b i t h w -> b o t h w`."""

    slot = "temporal_conv"
    signature = "build(config, before, after, group, padding)"
    group: ClassVar = 2

    def arguments(self, config: Any) -> tuple[Any, ...]:
        return 4, 6, self.group, pad_zeros

    def calls(self, module: nn.Module) -> list[tuple[str, Tensor, tuple[int, ...]]]:
        return [("", noise(2, 4, 5, 6, 6), (2, 6, 5, 6, 6)), ("", noise(1, 4, 1, 6, 6), (1, 6, 1, 6, 6))]

    def call(self, module: Any, x: Tensor) -> Tensor:
        out: Tensor = module(x, None)
        return out

    @point
    def test_looks_ahead_within_its_group(self, module: Any) -> None:
        """looks ahead at most to the end of the group"""
        x = noise(1, 4, 1 + 3 * self.group, 6, 6)
        with torch.no_grad():
            before = module(x, None)
            for end in range(1, x.shape[2], self.group):
                later = x.clone()
                later[:, :, end:] += 1
                if not torch.allclose(module(later, None)[:, :, :end], before[:, :, :end], atol=1e-5):
                    raise Missing(
                        f"frames before frame {end} depend on it or on later ones, which are of the next group"
                    )

    @point
    def test_chunks(self, module: Any) -> None:
        """gives the same for a clip in chunks as for the whole clip"""
        in_chunks(module, noise(1, 4, 1 + 3 * self.group, 6, 6), self.group, FORWARD)


class BranchExam(ModuleExam):
    """What a branch level must fulfil: a `Branch`."""

    slot = "branch"
    signature = "build(config, temporal_conv, padding)"
    group: ClassVar = 2

    def arguments(self, config: Any) -> tuple[Any, ...]:
        return same_place, pad_zeros

    def modules(self, built: Any) -> list[nn.Module]:
        if not isinstance(built, Branch):
            raise Missing(f"{self.signature} must give a Branch, found {type(built).__name__}")
        self._built = [
            (built.conv(8, 12, self.group), 5, (12, 5)),
            (built.conv(8, 12, 1), 5, (12, 5)),
            (built.halve_time(8), 5, (8, 3)),
            (built.double_time(8), 3, (8, 5)),
        ]
        return [module for module, _, _ in self._built]

    def calls(self, module: nn.Module) -> list[tuple[str, Tensor, tuple[int, ...]]]:
        names = (f"conv(8, 12, {self.group})", "conv(8, 12, 1)", "halve_time(8)", "double_time(8)")
        for name, (one, frames, (channels, after)) in zip(names, self._built, strict=True):
            if one is module:
                return [(f" given to {name}", noise(2, 8, frames, 6, 6), (2, channels, after, 6, 6))]
        raise KeyError(module)

    def call(self, module: Any, x: Tensor) -> Tensor:
        out: Tensor = module(x, None)
        return out

    @point
    def test_halves(self, branch: Any) -> None:
        """has 1 or 2 halves, as Config says, and gives the branch of one half"""
        config: Any = self.described.Config
        expected = config.halves
        if branch.halves != expected or expected not in (1, 2):
            raise Missing(f"halves: Config says {expected}, the Branch {branch.halves}; expected 1 or 2 in both")
        if not isinstance(branch.half, Branch) or branch.half.halves != 1:
            raise Missing("`half` must be a Branch with halves = 1, that of the image VAE which can fill each half")

    @point
    def test_moments(self, branch: Any) -> None:
        """divides the encoder's last features into mean and log-variance"""
        h = noise(2, 16, 3, 4, 4)
        mean, logvar = branch.moments(h)
        checks.shaped(mean, (2, 8, 3, 4, 4), "the mean of moments 2 16 3 4 4")
        checks.shaped(logvar, (2, 8, 3, 4, 4), "the log-variance of moments 2 16 3 4 4")
        if not torch.equal(torch.cat([mean, logvar], 1).sort(1).values, h.sort(1).values):
            raise Missing("mean and log-variance must be the channels of the features, each taken once")

    @point
    def test_frames(self, branch: Any) -> None:
        """makes frames of three channels of the decoder's last features"""
        y = noise(2, 3 * branch.halves, 5, 4, 4)
        checks.shaped(branch.frames(y, self.group, None), (2, 3, 5, 4, 4), f"frames of {checks.text(y.shape)}")

    @point
    def test_chunks(self, branch: Any) -> None:
        """gives the same for a clip in chunks as for the whole clip"""
        in_chunks(branch.halve_time(8), noise(1, 8, 7, 4, 4), 2, "halve_time")
        in_chunks(branch.double_time(8), noise(1, 8, 7, 4, 4), 2, "double_time")
        y = noise(1, 3 * branch.halves, 7, 4, 4)
        in_chunks(lambda x, past: branch.frames(x, self.group, past), y, self.group, "frames")


class ContextExam(ModuleExam):
    """What a context level must fulfil: a `Context`, whose head works frame by frame."""

    slot = "context"
    signature = "build(config, padding)"

    def arguments(self, config: Any) -> tuple[Any, ...]:
        return (pad_zeros,)

    def modules(self, built: Any) -> list[nn.Module]:
        if not isinstance(built, Context):
            raise Missing(f"{self.signature} must give a Context, found {type(built).__name__}")
        return [built.head(8, 6)]

    def calls(self, module: nn.Module) -> list[tuple[str, Tensor, tuple[int, ...]]]:
        return [("", noise(2, 8, 3, 16, 16), (2, 6, 3, 16, 16))]

    @point
    def test_frame_by_frame(self, context: Any) -> None:
        """treats each frame by itself"""
        head, x = context.head(8, 6), noise(1, 8, 3, 16, 16)
        with torch.no_grad():
            if not torch.allclose(head(x)[:, :, :1], head(x[:, :, :1]), rtol=1e-3, atol=1e-4):
                raise Missing("the head's result for a frame depends on other frames of the clip")
