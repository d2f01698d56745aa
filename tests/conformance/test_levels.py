"""Every level on disk keeps the rules of `ablate/registry.py`. New files are examined unasked."""

import importlib
import json

import pytest

from ablate.slots import registry
from ablate.slots.settings import Settings
from tests.support.command import python

LEVELS = [(slot, name) for slot in registry.SLOTS for name in registry.levels(slot)]


OPTIONAL = ("discriminator", "regularizer")


def test_every_slot_has_a_level_and_every_folder_is_a_slot():
    folders = {path.name for path in registry.ROOT.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))}
    assert folders == {*registry.SLOTS, "shared"}
    assert {slot for slot, _ in LEVELS} == set(registry.SLOTS)


@pytest.mark.parametrize("slot", OPTIONAL)
def test_slots_that_may_be_empty_have_none(slot):
    assert "none" in registry.levels(slot)


@pytest.mark.parametrize(("slot", "name"), LEVELS)
def test_level_introduces_itself(slot, name):
    level = registry.level(slot, name)
    assert level.doc, "the file's docstring says what the level is"
    assert issubclass(level.Config, Settings)
    assert level.Config.__doc__, "Config says what its settings mean"


@pytest.mark.parametrize(("slot", "name"), LEVELS)
def test_settings_read_from_the_source_are_those_of_the_module(slot, name):
    light = registry.level(slot, name)
    module = importlib.import_module(f"ablate.components.{slot}.{name}")
    assert callable(module.build)
    assert issubclass(module.Config, Settings)
    assert module.Config.model_json_schema() == light.Config.model_json_schema()
    assert tuple(getattr(module, "METRICS", ())) == light.metrics
    assert bool(light.metrics) == (slot == "probe"), "probes report metrics, other levels do not"


@pytest.mark.parametrize(("slot", "name"), LEVELS)
def test_defaults_survive_a_round_trip_through_plain_values(slot, name):
    config = registry.level(slot, name).Config
    schema = config.model_json_schema()
    example = {"string": "x", "number": 1, "integer": 1, "array": [8, 16, 16]}
    settings = config.read({key: example[schema["properties"][key]["type"]] for key in schema.get("required", [])})
    assert config.read(json.loads(json.dumps(settings.plain()))) == settings


def test_metrics_have_one_owner():
    owners: dict[str, str] = {}
    for slot, name in LEVELS:
        for metric in registry.level(slot, name).metrics:
            assert metric.name not in owners, f"{metric.name} is reported by {owners.get(metric.name)} and {name}"
            owners[metric.name] = name


def test_reading_every_level_loads_nothing_heavy():
    code = (
        "import sys; from ablate.slots import registry\n"
        "for slot in registry.SLOTS:\n"
        "    for name in registry.levels(slot): registry.level(slot, name).Config.model_json_schema()\n"
        "print(*sorted({'torch', 'lpips', 'skimage', 'sklearn', 'ray', 'mlflow'} & set(sys.modules)))"
    )
    done = python(code)
    assert done.stdout.split() == []
