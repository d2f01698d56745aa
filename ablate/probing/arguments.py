"""Arguments of commands that measure VAEs: NAME=VALUE, and a device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def read_named(texts: Sequence[str], form: str) -> dict[str, str]:
    """Parse NAME=VALUE texts. `form`: what an error says was expected. Raises ValueError."""
    values: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise ValueError(f"'{text}': expected {form}")
        if name in values:
            raise ValueError(f"'{text}': the name '{name}' is given twice")
        values[name] = value
    return values


def find_device(name: str | None) -> "torch.device":
    """The device of this name; by default CUDA where there is any. Raises ValueError for one that cannot be used."""
    import torch

    wanted = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        raise ValueError(f"device '{wanted}' cannot be used: {str(error).splitlines()[0]}") from None
