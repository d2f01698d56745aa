"""Base classes of the settings of a level, and of what a probe declares to measure."""

import json
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of every `Config`: frozen, no unknown names, no silent conversions (a bool is not a number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """Validate plain YAML values; raises pydantic's ValidationError. Lists become tuples, ints may be floats."""
        return cls.model_validate_json(json.dumps(values), strict=True)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values, defaults filled in."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values

    def identity(self) -> dict[str, Any]:
        """What distinguishes these settings: `plain` less cosmetic fields and those at the value absence means."""
        kept = {}
        for name, value in self.plain().items():
            extra = type(self).model_fields[name].json_schema_extra
            notes = extra if isinstance(extra, dict) else {}
            if notes.get("cosmetic") or ("absent_means" in notes and notes["absent_means"] == value):
                continue
            kept[name] = value
        return kept

    def preflight(self) -> None:
        """Raise ValueError if what these settings point at (folders, weights) is not there. Called before a sweep."""


def cosmetic(default: Any) -> Any:
    """A field that changes no result (how often to log); it stays out of signatures."""
    return Field(default, json_schema_extra={"cosmetic": True})


def added(default: Any, *, absent_means: Any) -> Any:
    """A field that came after records existed: those records count as having `absent_means`."""
    return Field(default, json_schema_extra={"absent_means": absent_means})


@dataclass(frozen=True)
class Metric:
    """One number that a probe reports. `direction` says what is better; `target` goes with direction "target"."""

    name: str
    unit: str
    direction: Literal["up", "down", "target", "none"]
    meaning: str = ""
    target: float = 0.0
    decimals: int = 2
