"""Calls of the user's code from adapters, and what is said of what it gives or raises."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablate.slots.targets import place

Call = Callable[[], Any]


def called(name: str, slot: str, run: Call) -> Any:
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


def first(out: Any, names: tuple[str, ...]) -> Tensor | None:
    """The first tensor that a mapping or an object has under one of these names."""
    found = [out.get(name) if isinstance(out, Mapping) else getattr(out, name, None) for name in names]
    return next((one for one in found if isinstance(one, Tensor)), None)


def dims(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def shown(value: Any) -> str:
    """What the user's code gave, in few words: `a tuple of 2 tensors (1 x 3 x 8 x 8, 1 x 4)`."""
    if isinstance(value, Tensor):
        return f"a tensor {dims(value)}"
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value))}"
    if isinstance(value, tuple | list):
        return f"({', '.join(dims(one) if isinstance(one, Tensor) else type(one).__name__ for one in value)})"
    return type(value).__name__


def _kept() -> None:
    """In place of `reset_parameters` of parts: the adapter draws the weights of all parts at once."""


def keep_weights(module: nn.Module) -> nn.Module:
    for part in module.modules():
        part.reset_parameters = _kept  # type: ignore[assignment]
    return module
