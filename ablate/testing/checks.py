"""Checks that exams of several slots share. Each raises `Missing` with what was found and what was expected."""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ablate.components.init import scratch
from ablate.testing.exam import Missing, seed_of

T = TypeVar("T")

Run = Callable[[Any], Tensor]
"""Calls a level, or a copy of it."""


BF16_TOLERANCE = 0.1
"""How far results in bf16 may be from those in fp32, root mean square, as a share of the latter."""


def shaped(found: Any, expected: Sequence[int], what: str) -> None:
    """`found` is a tensor of the expected shape."""
    if not isinstance(found, Tensor):
        raise Missing(f"{what}: expected a tensor {text(expected)}, found {type(found).__name__}")
    if tuple(found.shape) != tuple(expected):
        raise Missing(f"{what}: expected {text(expected)}, found {text(found.shape)}")


def text(shape: Sequence[int]) -> str:
    """A shape as in the docstrings: `2 3 8 8`."""
    return " ".join(map(str, shape)) or "a scalar"


def finite(found: Tensor, what: str) -> None:
    """All values are finite."""
    if not found.isfinite().all():
        bad = (~found.isfinite()).sum().item()
        raise Missing(f"{what}: {bad} of {found.numel()} values are not finite (NaN or infinite)")


def scalar(found: Any, what: str) -> None:
    """A finite scalar tensor, of one value and no axes."""
    if not isinstance(found, Tensor) or found.ndim:
        shape = f"a tensor {text(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise Missing(f"{what} must be a scalar tensor, found {shape}; take the mean")
    finite(found, what)


def gradient(output: Tensor, inputs: Mapping[str, Tensor], why: str = "") -> None:
    """The gradient of the output reaches every input; not NaN, and not zero everywhere."""
    if not output.requires_grad:
        raise Missing("the result carries no gradient: it was detached, or computed under torch.no_grad")
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(5))
    total = (output.float() * weights).sum() if output.ndim else output
    found = torch.autograd.grad(total, list(inputs.values()), allow_unused=True)
    for name, value in zip(inputs, found, strict=True):
        if value is None or not value.any():
            raise Missing(f"no gradient reaches {name}{why}: it is unused, detached, or multiplied by 0")
        finite(value, f"the gradient of {name}")


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, as `gradient` takes them."""
    return {f"the weight '{name}'": parameter for name, parameter in module.named_parameters()}


def random_state_kept(run: Callable[[], T], what: str = "it") -> T:
    """What `run` gives, where it leaves torch's, numpy's and Python's global generators in the same state.

    Other threads of the process draw too (a library's, a notebook's), so a level is at fault only if a generator
    moves in each of three runs.
    """
    for _ in range(3):
        before = _random_state()
        result = run()
        drawn = [name for name, state in _random_state().items() if state != before[name]]
        if not drawn:
            return result
    advice = "draw from a generator of your own, seeded by `seed_of` or a constant"
    raise Missing(f"{what} draws from {drawn[0]}'s global generator, so results depend on what ran before; {advice}")


def _random_state() -> dict[str, Any]:
    """The states of the global generators, to be compared."""
    numpy = np.random.get_state()  # noqa: NPY002
    return {"torch": torch.get_rng_state().tolist(), "numpy": repr(numpy), "Python": random.getstate()}


def repeatable(level: Any, run: Run, what: str = "the result") -> None:
    """Two copies give the same bits, whatever the state of the global generators, which stays as it was."""
    results = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            mine = copy.deepcopy(level)
            results.append(random_state_kept(partial(run, mine)))
    if not torch.equal(*results):
        raise Missing(f"{what} differs from one run to the next; expected the same bits")


def each_alone(run: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """A picture's result does not depend on the others in its batch, which may be split to save memory.

    What draws from the global generator is not examined: `repeatable` names that fault.
    """
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        together, alone = run(x)[:1], run(x[:1])
        is_random = not torch.equal(before, torch.get_rng_state())
    if not is_random and not torch.allclose(together, alone, rtol=1e-3, atol=1e-4):
        apart = (together - alone).abs().max().item()
        raise Missing(
            f"a picture's result depends on the others in its batch (by up to {apart:.2g}), but a batch is split where "
            "memory is short; take statistics within each picture"
        )


def same_in_bf16(run: Callable[[bool], Tensor], what: str = "the result") -> None:
    """`run(bf16)` is finite in bf16 and close to that in fp32. bf16 is autocast, as with `precision: bf16`."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = run(False).float()
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16):
            found = run(True).float()
    finite(found, f"{what} in bf16")
    error = (found - expected).square().mean().sqrt()
    size = expected.square().mean().sqrt()
    if error > BF16_TOLERANCE * size + 1e-6:
        share = (error / size.clamp(min=1e-12)).item()
        raise Missing(f"{what} in bf16 is off by {share:.0%} of that in fp32; compute the delicate part in `.float()`")


def initialised(module: nn.Module) -> None:
    """`init: scratch` can draw every layer, the same from the same seeds, whatever weights were there before."""
    first, second = (nn.ModuleDict({"level": copy.deepcopy(module)}) for _ in range(2))
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.fill_(torch.nan)
    for net in (first, second):
        try:
            scratch.build(scratch.Config(), seed_of)(net)
        except ValueError as error:
            raise Missing(f"{error}; a module with parameters of its own draws them in reset_parameters") from error
    for (name, drawn), again in zip(first.named_parameters(), second.parameters(), strict=True):
        if not torch.equal(drawn, again):
            raise Missing(f"reset_parameters does not draw '{name}' anew from torch's generator alone")


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal features, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
