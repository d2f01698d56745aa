"""Arguments of commands that measure VAEs: NAME=VALUE, probes with their settings, and a device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ablate.errors import nearest
from ablate.recipe.reading import RecipeProblem, read_part
from ablate.slots import registry
from ablate.study.scales import override

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


def read_probes(names: Sequence[str], changes: Sequence[str]) -> list[dict[str, Any]]:
    """Plain settings of these probes, each with its `level`. `changes`: texts `probes.PROBE.SETTING=VALUE`.

    Raises ValueError for an unknown probe, a setting that is wrong or of another probe, and missing files of weights.
    """
    for name in names:
        if name not in (valid := registry.levels("probe")):
            raise ValueError(f"--probes: unknown '{name}'{nearest(name, valid)}")
    probes = {name: {"level": name} for name in names}
    for text in changes:
        if not text.startswith("probes."):
            raise ValueError(f"--set {text}: expected probes.PROBE.SETTING=VALUE")
        for problem in override({"probes": probes}, text):
            raise ValueError(f"{problem.file}: {problem.message}")
    problems: list[RecipeProblem] = []
    for name, given in probes.items():
        part = read_part("probe", given, (name,), problems)
        if part is None:
            raise ValueError(f"--set: {problems[0].message}")
        part.settings.preflight()
    return [*probes.values()]


def find_device(name: str | None) -> "torch.device":
    """The device of this name; by default CUDA where there is any. Raises ValueError for one that cannot be used."""
    import torch

    wanted = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        raise ValueError(f"device '{wanted}' cannot be used: {str(error).splitlines()[0]}") from None
