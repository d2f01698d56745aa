"""Arguments of commands that measure VAEs: NAME=VALUE, probes with their settings, and a device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ablate.errors import nearest
from ablate.recipe.reading import RecipeProblem, read_part
from ablate.slots import registry
from ablate.study.document import parse_value

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


def read_probes(names: Sequence[str], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Plain settings of these probes, each with its `level`. `texts`: PROBE.SETTING=VALUE, values as in YAML.

    Raises ValueError for an unknown probe, a setting that is wrong or of another probe, and missing files of weights.
    """
    probes: dict[str, dict[str, Any]] = {}
    for name in names:
        if name not in (valid := registry.levels("probe")):
            raise ValueError(f"--probes: unknown '{name}'{nearest(name, valid)}")
        probes[name] = {"level": name}
    for text in texts:
        path, equals, value = text.partition("=")
        probe, dot, setting = path.partition(".")
        if not (setting and equals and dot):
            raise ValueError(f"--set {text}: expected PROBE.SETTING=VALUE")
        if probe not in probes:
            hint = nearest(probe, [*probes])
            raise ValueError(f"--set {text}: '{probe}' is none of the probes that run{hint}; see --probes")
        probes[probe][setting] = parse_value(value)
    problems: list[RecipeProblem] = []
    for name, given in probes.items():
        part = read_part("probe", given, (name,), problems)
        if problems:
            raise ValueError(f"--set: {problems[0].message}")
        if part:
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
