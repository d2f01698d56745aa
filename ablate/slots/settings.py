"""The base class of a level's settings, and the metrics that a probe declares."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of every `Config`: frozen, unknown names are errors, and values are not converted (a bool is not a number).

    Each field is a setting that a study can name. A field without a default must be given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """The settings from plain YAML values. Lists become tuples, and integers are accepted for floats.

        Raises pydantic's ValidationError for an unknown name and for a value of the wrong type or range.
        """
        return cls.model_validate_json(json.dumps(values), strict=True)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values, defaults filled in."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values

    def identity(self) -> dict[str, Any]:
        """The part of `plain` that enters signatures: no `cosmetic` field, no `added` field at its `absent_means`."""
        kept = {}
        for name, value in self.plain().items():
            field = type(self).model_fields.get(name)
            extra = field.json_schema_extra if field else None
            notes = extra if isinstance(extra, dict) else {}
            if notes.get("cosmetic") or ("absent_means" in notes and notes["absent_means"] == value):
                continue
            kept[name] = value
        return kept

    def get(self, name: str, default: Any) -> Any:
        """The value of a field that only some levels of a slot have, or the default."""
        return getattr(self, name) if name in type(self).model_fields else default

    def preflight(self) -> None:
        """Raise ValueError if what these settings point at (folders, weights) is not there. Called before a sweep."""

    def content_paths(self) -> dict[str, Path]:
        """Files and folders whose content decides results, by the name that messages and records give them.

        By default those that exist of what settings name in free text; folders only by a setting `path` or `..._path`.
        """
        found: dict[str, Path] = {}
        for name, value in self.plain().items():
            field = type(self).model_fields.get(name)
            if field is None or not _is_choice(field.annotation):
                is_path = name == "path" or name.endswith("_path")
                texts = [text for text in _texts(value) if is_usable_path(text, folders=is_path)]
                found |= {text: Path(text).expanduser() for text in texts}
        return found


def is_usable_path(text: str, *, folders: bool) -> bool:
    """Whether a text is the path of a file, or with `folders` of a folder."""
    try:
        path = Path(text).expanduser()
        return path.is_file() or (folders and path.is_dir())
    except (OSError, ValueError, RuntimeError):  # too long, or of a user that there is not
        return False


def _texts(value: Any) -> Iterator[str]:
    """The texts in a setting's value, those in lists included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _is_choice(annotation: Any) -> bool:
    """Whether a field takes one of several words, such as `Literal["both", "encoder"]`."""
    return get_origin(annotation) is Literal or any(map(_is_choice, get_args(annotation)))


def cosmetic(default: Any) -> Any:
    """A field that changes no result, such as how often to log; it does not enter signatures."""
    return Field(default, json_schema_extra={"cosmetic": True})


def added(default: Any, *, absent_means: Any) -> Any:
    """A field that is newer than existing records, which count as having `absent_means`: their signatures stay."""
    return Field(default, json_schema_extra={"absent_means": absent_means})


@dataclass(frozen=True)
class Metric:
    """One number that a probe reports.

    `name`: unique among all probes, by custom `probe/what`. `unit`: "1" for a plain number; "gl" are grey levels, 1/255
    of the range. `direction`: which values are better: "up", "down", near `target` ("target"), or none ("none").
    `meaning`: a few words for tables. `decimals`: how many are printed. `needs`: what the metric needs beyond pictures,
    such as a file of weights; without it the probe does not report it. `known_motion`: reported only for clips whose
    motion is known, see `DataSettings.known_motion`. `interest`: the smallest difference worth knowing, in the metric's
    unit (a study may set another one under `interest:`); None where no difference is large or small by itself, and then
    nothing is ever said to have no effect. `exact`: the same settings always give the same value, so that equal
    differences at two seeds are no coincidence.
    """

    name: str
    unit: str
    direction: Literal["up", "down", "target", "none"]
    meaning: str = ""
    target: float = 0.0
    decimals: int = 2
    needs: str = ""
    interest: float | None = None
    exact: bool = False
    known_motion: bool = False
