"""Signatures: stable over time (golden file), equal for equal work, different for different work."""

import json
from pathlib import Path
from typing import Any

import pytest

from ablate.identity import canonical, derive, signature
from ablate.plan.trials import expand
from ablate.recipe.stages import Train
from ablate.slots.settings import Settings, added, cosmetic
from ablate.study.study import load_study
from tests.support.studies import Write

ROOT = Path(__file__).parents[2]


GOLDEN = ROOT / "tests" / "golden" / "signatures.json"


def signatures() -> dict[str, dict[str, str]]:
    """`study@scale` -> trial -> signature, for every study of the repository."""
    found = {}
    for file in sorted((ROOT / "search_spaces").rglob("*.yaml")):
        scales = load_study(file).document.data.get("scales") or {None: {}}
        for scale in scales:
            study = load_study(file, scale)
            found[f"{study.name}@{study.scale}"] = {trial.name: trial.signature for trial in expand(study)}
    return found


def test_signatures_have_not_moved() -> None:
    """A moved signature orphans finished work. Where that is meant, run this file as a script and say why."""
    assert signatures() == json.loads(GOLDEN.read_text())


def test_all_signatures_of_a_study_differ() -> None:
    for study, trials in signatures().items():
        assert len(set(trials.values())) == len(trials), study


def test_canonical_form_ignores_order_only() -> None:
    assert signature({"a": 1, "b": [1, 2]}) == signature({"b": [1, 2], "a": 1})
    assert signature([1, 2]) != signature([2, 1])
    assert signature(1) != signature("1")
    assert canonical({"b": 1e-4, "a": "é"}) == '{"a":"\\u00e9","b":0.0001}'
    with pytest.raises(TypeError):
        canonical({1, 2})


def test_the_same_number_written_differently_is_the_same_work(write_study: Write) -> None:
    one = expand(load_study(write_study()))[0].signature
    for old, new in [
        ("kl: 1e-4}", "kl: 0.0001}"),
        ("l2: 1.0", "l2: 1"),
        ("norm: {level: group", "norm: {  level:  group"),
    ]:
        assert expand(load_study(write_study((old, new))))[0].signature == one


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("log_every: 2", "log_every: 1", True),
        ("padding: reflect", "padding: reflect\n  upsample: nearest_conv", True),
        ("kl: 1e-4}", "kl: 1e-4, perceptual: 0}", True),
        ("kl: 1e-4}", "kl: 1e-4}\n  discriminator: none", True),
        ("probes: [reconstruction]", "probes: [reconstruction, border]", True),
        ("question: Does", "question: How much does", True),
        ("padding: reflect", "padding: zeros", False),
        ("steps: 6", "steps: 7", False),
        ("lr: 3e-3", "lr: 3e-3, ema: 0.9", False),
        ("crop: 16", "crop: 24", False),
    ],
)
def test_what_changes_a_signature(write_study: Write, old: str, new: str, same: bool) -> None:
    plain = expand(load_study(write_study()))[0].signature
    assert (expand(load_study(write_study((old, new))))[0].signature == plain) is same


def test_a_later_field_keeps_old_signatures_and_an_edited_default_changes_them() -> None:
    class Before(Settings):
        width: int = 64

    class After(Settings):
        width: int = 64
        gain: float = added(2.0, absent_means=1.0)
        every: int = cosmetic(10)

    class Edited(Settings):
        width: int = 32

    assert After.read({"gain": 1.0}).identity() == Before.read({}).identity()
    assert After.read({}).identity() != Before.read({}).identity()
    assert Edited.read({}).identity() != Before.read({}).identity()


def test_settings_refuse_what_is_not_meant() -> None:
    for wrong in (
        {"steps": True, "lr": 1.0},
        {"steps": 1.5, "lr": 1.0},
        {"steps": "1", "lr": 1.0},
        {"steps": 1, "lr": True},
    ):
        with pytest.raises(ValueError):
            Train.read(wrong)
    assert Train.read({"steps": 1, "lr": 1}).lr == 1.0


def test_derived_seeds_differ_by_purpose_and_repeat() -> None:
    draws: list[Any] = [
        derive(s, stage, step, what) for s in (0, 1) for stage in ("a", "b") for step in (1, 2) for what in ("x", "y")
    ]
    assert len(set(draws)) == 16
    assert derive(0, "train", 1, "batch") == derive(0, "train", 1, "batch") < 2**63


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(signatures(), indent=1) + "\n")
