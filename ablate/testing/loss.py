"""Exams of the slots loss and discriminator."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, get_args, get_type_hints

import torch
from torch import Tensor

from ablate.slots import Discriminator, Posterior, Step, Term
from ablate.testing import checks
from ablate.testing.checks import noise
from ablate.testing.exam import Exam, Missing, point
from ablate.testing.fakes import FakeDiscriminator, FakeVAE, pictures, training_step

JUDGED = get_args(get_type_hints(Term)["of"])


class LossExam(Exam):
    """What a loss term must fulfil: a `Term`, called with a `Step`."""

    slot = "loss"
    examples: ClassVar[Mapping[str, Any]] = {"weight": 1.0}

    def step(self, term: Any, *, bf16: bool = False) -> Step:
        """A step whose parts are all leaves with a gradient; in bf16 as a training step hands them over."""
        x = pictures(2, max(32, term.smallest)) * 2 - 1
        with torch.no_grad():
            made = training_step(FakeVAE(), x, discriminator=FakeDiscriminator())
        dtype = torch.bfloat16 if bf16 else torch.float32
        mean, logvar, z = (v.to(dtype).requires_grad_() for v in (made.posterior.mean, made.posterior.logvar, made.z))
        return replace(made, y=made.y.requires_grad_(), posterior=Posterior(mean, logvar), z=z)

    @point
    def test_is_a_term(self, term: Any) -> None:
        """is a Term that says what it judges"""
        if not isinstance(term, Term):
            raise Missing(f"{self.signature} must give a Term, found {type(term).__name__}")
        found = getattr(term, "of", None)
        if found not in JUDGED:
            raise Missing(f"`of` must be one of {', '.join(JUDGED)}, found {found!r}")
        if any(parameter.requires_grad for parameter in term.parameters()):
            raise Missing("a parameter of the term requires a gradient, but nothing trains it: requires_grad_(False)")

    @point
    def test_scalar(self, term: Any) -> None:
        """gives a finite scalar"""
        checks.scalar(term(self.step(term)), "forward(step)")

    @point
    def test_gradient(self, term: Any) -> None:
        """the gradient reaches what it judges"""
        step = self.step(term)
        value = term(step)
        if term.of in {"reconstruction", "realism"}:
            checks.gradient(value, {"the reconstruction step.y": step.y})
            return
        parts = {"mean": step.posterior.mean, "logvar": step.posterior.logvar, "z": step.z}
        if not value.requires_grad:
            raise Missing("the result carries no gradient: it was detached, or computed under torch.no_grad")
        found = torch.autograd.grad(value, list(parts.values()), allow_unused=True)
        if not any(one is not None and one.any() for one in found):
            raise Missing("no gradient reaches the posterior or z, which a term of = 'latent' judges")

    @point
    def test_difference(self, term: Any) -> None:
        """if it judges the reconstruction: is smaller where that is the target"""
        if term.of != "reconstruction":
            return
        step = self.step(term)
        with torch.no_grad():
            perfect, found = term(replace(step, y=step.x)).item(), term(step).item()
        if not perfect < found:
            raise Missing(f"a perfect reconstruction costs {perfect:.4g}, a blurred one {found:.4g}; expected less")

    @point
    def test_repeatable(self, term: Any) -> None:
        """gives the same bits each time and leaves the global random state alone"""
        step = self.step(term)
        checks.repeatable(term, lambda one: one(step).detach())

    def test_same_when_built_again(self) -> None:
        """is the same whatever was drawn before it was built: no initializer draws a loss term's weights"""
        for settings in self.all_settings:
            config, values = self.read(settings), []
            with torch.random.fork_rng(devices=[]):
                for seed in (1, 2):
                    torch.manual_seed(seed)
                    term = self.module.build(self.module.Config.read(config.plain()))
                    values.append(term(self.step(term)).detach())
            if not torch.equal(*values):
                raise Missing("two terms built alike differ; draw their weights from a generator of a fixed seed")

    @point
    def test_bf16(self, term: Any) -> None:
        """is finite where the model computes in bf16, and close to fp32"""
        with torch.no_grad():
            expected = term(self.step(term)).float()
            found = term(self.step(term, bf16=True)).float()
        checks.finite(found, "the term in a step with `precision: bf16`")
        if (found - expected).abs() > checks.BF16_TOLERANCE * expected.abs() + 1e-3:
            raise Missing(
                f"in a step with `precision: bf16` the term is {found.item():.4g}, in fp32 {expected.item():.4g}; take "
                "`.float()` of the posterior and z first"
            )


class DiscriminatorExam(Exam):
    """What a discriminator level must fulfil: a `Discriminator`, or None for a level without one."""

    slot = "discriminator"

    def batch(self, config: Any) -> Tensor:
        """Pictures or clips as small as it can judge, in [-1, 1]."""
        side = max(config.smallest, 16)
        if config.shortest == 1:
            return pictures(4, side) * 2 - 1
        return pictures(4, side).unsqueeze(2).repeat(1, 1, max(5, config.shortest), 1, 1) * 2 - 1

    def build(self, settings: Mapping[str, Any]) -> Any:
        built = super().build(settings)
        self._x = self.batch(self.read(settings))
        return built

    @point
    def test_is_a_discriminator(self, net: Any) -> None:
        """is a Discriminator with forward, loss and generator_loss, or None"""
        if net is None:
            return
        if not isinstance(net, Discriminator):
            raise Missing(f"{self.signature} must give a Discriminator or None, found {type(net).__name__}")
        for name in ("forward", "loss", "generator_loss"):
            if getattr(type(net), name) is getattr(Discriminator, name):
                raise Missing(f"{type(net).__name__} does not define {name}; see ablate.slots.Discriminator")

    @point
    def test_logits(self, net: Any) -> None:
        """gives finite logits for the smallest pictures that Config says it can judge"""
        if net is not None:
            logits = net(self._x)
            if not logits.numel():
                raise Missing(f"no logit is left of pictures {checks.text(self._x.shape)}; raise Config.smallest")
            checks.finite(logits, "the logits")

    @point
    def test_losses(self, net: Any) -> None:
        """both losses are finite scalars, and larger for the side that is losing"""
        if net is None:
            return
        high, low = torch.full((2, 1, 3, 3), 3.0), torch.full((2, 1, 3, 3), -3.0)
        net = copy.deepcopy(net).eval()
        for name, losing, winning in (
            ("loss", net.loss(low, high), net.loss(high, low)),
            ("generator_loss", net.generator_loss(low), net.generator_loss(high)),
        ):
            checks.scalar(losing, name)
            if not winning < losing:
                raise Missing(
                    f"{name} is {winning.item():.4g} where it wins and {losing.item():.4g} where it loses; larger "
                    "logits mean more real"
                )

    @point
    def test_gradient(self, net: Any) -> None:
        """the gradient reaches the pictures, every weight, and through both losses the logits"""
        if net is None:
            return
        x = self._x.clone().requires_grad_()
        checks.gradient(net(x), {"the pictures": x, **checks.weights_of(net)})
        real, fake = ((0.3 * noise(2, 1, 3, 3, seed=seed)).requires_grad_() for seed in (0, 1))
        checks.gradient(net.loss(real, fake), {"the logits of real pictures": real, "those of generated ones": fake})
        checks.gradient(net.generator_loss(fake), {"the logits of generated pictures": fake})

    @point
    def test_repeatable(self, net: Any) -> None:
        """gives the same bits each time and leaves the global random state alone"""
        if net is not None:
            checks.repeatable(net, lambda one: one.loss(one(self._x), one(self._x.flip(-1))).detach(), "the loss")

    @point
    def test_bf16(self, net: Any) -> None:
        """is finite in bf16 and close to fp32"""
        if net is not None:
            checks.same_in_bf16(lambda bf16: copy.deepcopy(net)(self._x), "the logits")

    @point
    def test_initialised(self, net: Any) -> None:
        """every weight is drawn by reset_parameters"""
        if net is not None:
            checks.initialised(net)
