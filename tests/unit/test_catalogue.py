"""`ablate components`: every setting of every level has a type, a default and a meaning; so have stages and metrics."""

import json
import subprocess
import sys

import pytest

from ablate.driver.catalogue import STAGES, catalogue, schema
from ablate.driver.settings import describe_settings, describe_type, read_meanings
from ablate.recipe.stages import Train
from ablate.slots import Settings, registry
from tests.support.command import ablate, document


@pytest.mark.parametrize("slot", [*registry.SLOTS, STAGES])
def test_every_setting_has_a_meaning(slot: str) -> None:
    """A setting without one is missing from the docstring of its `Config`: write `` `name`: what it means. `` there."""
    found = catalogue([slot])[slot]
    settings = {f"{name}.{field}": item for name, level in found.items() for field, item in level["settings"].items()}
    assert [name for name, item in settings.items() if not item["meaning"]] == []
    assert [name for name, item in settings.items() if "any value" in item["type"]] == []


def test_every_metric_has_unit_direction_and_meaning() -> None:
    metrics = {
        name: item for level in catalogue(["probe"])["probe"].values() for name, item in level["metrics"].items()
    }
    assert len(metrics) > 100
    assert [name for name, item in metrics.items() if not (item["unit"] and item["meaning"])] == []
    assert {item["better"].split()[0] for item in metrics.values() if item["better"]} == {"higher", "lower", "near"}


class Mother(Settings):
    """`size`, `side`: in px."""

    size: int
    side: int = 3


class Daughter(Mother):
    """What it is. `share`: of the files, as in `size`; see above. `size`: of the whole."""

    share: float | None = None


def test_meanings_are_read_from_the_docstrings_of_a_class_and_its_bases() -> None:
    share = "of the files, as in `size`; see above."
    assert read_meanings(Daughter) == {"size": "of the whole.", "side": "in px.", "share": share}
    assert describe_settings(Daughter)["size"] == {
        "type": "integer", "default": None, "required": True, "meaning": "of the whole."
    }  # fmt: skip
    assert describe_settings(Daughter)["share"]["type"] == "number or null"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"type": "integer", "exclusiveMinimum": 0, "maximum": 9}, "integer > 0, ≤ 9"),
        ({"type": "integer", "minimum": 0, "maximum": 10**9}, "integer ≥ 0"),
        ({"enum": ["none", "area"], "type": "string"}, "none or area"),
        ({"enum": [1, 2, 4], "type": "integer"}, "1, 2 or 4"),
        ({"const": "a"}, "a"),
        ({"type": "array", "items": {"type": "integer"}}, "list of integer"),
        ({"type": "array", "prefixItems": [{"type": "number"}] * 2}, "list of 2: number"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "true or false or null"),
    ],
)
def test_types_in_words(asked: dict[str, object], words: str) -> None:
    assert describe_type(asked) == words


def test_defaults_are_those_that_a_study_gets() -> None:
    described = describe_settings(Train)
    settings = Train.read({"steps": 1, "lr": 1.0})
    assert all(item["default"] == getattr(settings, name) for name, item in described.items() if not item["required"])
    assert [name for name, item in described.items() if item["required"]] == ["steps", "lr"]


def test_editors_show_what_settings_mean() -> None:
    levels = schema()["properties"]["base"]["properties"]["norm"]["anyOf"]
    scn = next(level for level in levels if level.get("properties", {}).get("level", {}).get("const") == "scn")
    assert scn["properties"]["interp"]["description"].startswith("how scale and shift are resized")


def test_the_command_shows_one_level() -> None:
    shown = ablate("components", "data", "folder").stdout
    assert "heldout_fraction  number > 0, < 1" in shown and "required  the folder." in shown
    assert ablate("components", "data/folder").stdout == shown
    described = json.loads(json.dumps(catalogue(["norm"])["norm"]["scn"]))
    assert document("components", "norm", "scn") == {"norm": {"scn": described}}
    assert "learning_rate" not in ablate("components", "stages").stdout
    grid = ablate("components", "probe", "grid").stdout
    assert "grid/const_fold2" in grid and "lower" in grid and "gl" in grid
    wrong = ablate("components", "norm", "smn")
    assert (wrong.returncode, wrong.stderr) == (
        2, "unknown level 'smn' of norm; did you mean 'scn'? (valid: group, rms, rms_joint, scn)\n"
    )  # fmt: skip


def test_the_catalogue_loads_no_torch() -> None:
    code = (
        "import sys; from ablate.driver.catalogue import catalogue; catalogue(['probe']); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_value_in_a_docstring_begins_no_other_setting() -> None:
    """`nearest`: and `identity`: in norm/scn are values of its settings, and part of what is said of these."""
    meanings = read_meanings(registry.level("norm", "scn").Config)
    assert list(meanings) == ["groups", "interp", "init"]
    assert meanings["interp"].endswith("the norm itself can draw the edges of the cells.")
    assert "`identity` starts as plain group normalisation" in meanings["init"]
