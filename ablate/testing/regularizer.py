"""The exam of the slot regularizer."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from ablate.identity import derive
from ablate.slots import Alteration, SeedOf
from ablate.testing import checks
from ablate.testing.exam import Exam, Missing, point
from ablate.testing.fakes import FakeVAE, pictures, training_step

STEPS = 12
"""Steps that are tried: what a regularizer draws differs from step to step."""


class RegularizerExam(Exam):
    """What a regularizer must fulfil: a function of autoencoder and `Step`, an `Alteration`, or None."""

    slot = "regularizer"
    examples: ClassVar[Mapping[str, Any]] = {"strength": 0.5}

    def build(self, settings: Mapping[str, Any]) -> Any:
        built = super().build(settings)
        config = self.read(settings)
        self._vae = FakeVAE()
        multiple = config.latent_multiple
        self._side = multiple * -(-8 // multiple)  # of latents: 8 places or more
        self._smallest = config.smallest_latent(self._side)
        self._x = pictures(2, self._side * self._vae.stride) * 2 - 1
        return built

    def results(self, level: Any, seeds: SeedOf, *, bf16: bool = False) -> list[Tensor]:
        """What it computes in a step: the term, or the pictures, targets and latents that it alters."""
        if not isinstance(level, Alteration):
            return [level(self._vae, training_step(self._vae, self._x, bf16=bf16, seeds=seeds))]
        x = level.before_encoding(self._vae, self._x, seeds)
        if x.shape[-1] % self._vae.stride or x.ndim != 4:
            raise Missing(f"before_encoding gives {checks.text(x.shape)}, whose side is no multiple of the stride 4")
        z = training_step(self._vae, x, bf16=bf16, seeds=seeds).z
        target, latents = level.before_decoding(self._vae, x, z, seeds)
        if target.shape[-1] != latents.shape[-1] * self._vae.stride:
            found = f"a target {checks.text(target.shape)} and latents {checks.text(latents.shape)}"
            raise Missing(f"before_decoding gives {found}; expected sizes that differ by the stride 4")
        return [x, target, latents]

    @point
    def test_kind(self, level: Any) -> None:
        """is a function of autoencoder and step, an Alteration, or None"""
        if level is not None and not isinstance(level, Alteration) and not callable(level):
            raise Missing(f"{self.signature} must give a function, an Alteration or None, found {type(level).__name__}")

    @point
    def test_results(self, level: Any) -> None:
        """gives a finite scalar, or pictures and latents whose sizes match"""
        if level is None:
            return
        for number in range(STEPS):
            results = self.results(level, seeds_of_step(number))
            if not isinstance(level, Alteration):
                checks.scalar(results[0], "the term")
            for one in results:
                checks.finite(one, "the result")

    @point
    def test_gradient(self, level: Any) -> None:
        """the gradient reaches the autoencoder"""
        if level is None:
            return
        for number in range(STEPS):
            result = self.results(level, seeds_of_step(number))[-1]
            if not result.requires_grad:
                raise Missing("the result carries no gradient: it was detached, or computed under torch.no_grad")
            found = torch.autograd.grad(result.float().square().sum(), list(self._vae.parameters()), allow_unused=True)
            if any(one is not None and one.any() for one in found):
                return
        raise Missing(f"in {STEPS} steps no gradient reached any weight of the autoencoder")

    @point
    def test_draws_by_seed(self, level: Any) -> None:
        """draws from the step's seeds alone, and leaves the global random state as it was"""
        if level is None:
            return
        for number in range(STEPS):
            found = []
            with torch.random.fork_rng(devices=[]):
                for seed in (1, 2):
                    torch.manual_seed(seed)
                    found.append(checks.random_state_kept(partial(self.results, level, seeds_of_step(number))))
            if any(not torch.equal(one, other) for one, other in zip(*found, strict=True)):
                raise Missing(
                    "two steps with the same seeds give different results; draw everything from `seed_of`, for "
                    "instance by np.random.default_rng(step.seed_of('shift'))"
                )

    @point
    def test_smallest_latent(self, level: Any) -> None:
        """has no smaller latents decoded than Config.smallest_latent says"""
        if level is None:
            return
        sides: list[int] = []
        decode = self._vae.decode
        self._vae.decode = lambda z: sides.append(z.shape[-1]) or decode(z)  # type: ignore[method-assign, func-returns-value]
        for number in range(STEPS):
            results = self.results(level, seeds_of_step(number))
            if isinstance(level, Alteration):
                sides.append(results[-1].shape[-1])
        if sides and min(sides) < self._smallest:
            raise Missing(
                f"latents of side {min(sides)} are decoded, of {self._side}; Config.smallest_latent({self._side}) says "
                f"{self._smallest}, which is what the model is tried with before a sweep"
            )

    @point
    def test_bf16(self, level: Any) -> None:
        """is finite where the model computes in bf16, and a term is close to fp32"""
        if level is None:
            return
        with torch.no_grad():
            expected = self.results(level, seeds_of_step(0))
            found = self.results(level, seeds_of_step(0), bf16=True)
        for one in found:
            checks.finite(one, "the result in a step with `precision: bf16`")
        if not isinstance(level, Alteration) and (found[0] - expected[0]).abs() > 0.2 * expected[0].abs() + 1e-3:
            raise Missing(
                f"in a step with `precision: bf16` the term is {found[0].item():.4g}, in fp32 "
                f"{expected[0].item():.4g}; take `.float()` of the latents first"
            )


def seeds_of_step(number: int) -> SeedOf:
    """The seeds of one step."""
    return partial(derive, 0, "exam", number)
