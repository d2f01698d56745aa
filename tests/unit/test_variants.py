"""A study run with `--set` has a folder, tables and an MLflow experiment of its own."""

import json
from pathlib import Path

import pytest

from ablate.adaptive.recall import plan_study
from ablate.driver.outputs import write_results
from ablate.driver.studies import StudyRequest, find_document, find_study, stored_studies, write_card
from ablate.errors import StudyError
from ablate.plan.trials import Trial
from ablate.store.folders import Store
from ablate.study.scales import name_variant, settle
from ablate.study.study import Study, load_study
from ablate.track.texts import experiment_name
from tests.support.finished import finish_all
from tests.support.studies import Write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def run(path: Path, store: Store, *overrides: str, psnr: float) -> Study:
    """Write what a sweep writes, with this PSNR in every trial that has not ended yet."""
    study = load_study(path, None, overrides)

    def metrics(trial: Trial) -> dict[str, float]:
        return {} if store.stage(trial.signature).record() else {"psnr": psnr, "ssim": 0.5}

    finish_all(study, store, metrics)
    plan = plan_study(study, store)
    write_card(plan)
    write_results(plan)
    return study


def test_a_run_with_set_leaves_the_plain_table_alone(write_study: Write, store: Store) -> None:
    path = write_study()
    plain = run(path, store, psnr=20.0)
    table = store.study("tiny", plain.variant).table("md")
    before = table.read_text(encoding="utf-8")
    other = run(path, store, "stages.train.steps=8", psnr=30.0)
    assert other.variant != plain.variant == "base" and other.variant.startswith("base+")
    assert table.read_text(encoding="utf-8") == before and "30.00" not in before
    assert "30.00" in store.study("tiny", other.variant).table("md").read_text(encoding="utf-8")


def test_a_name_means_the_plain_study_though_another_ran_later(write_study: Write, store: Store) -> None:
    path = write_study()
    run(path, store, psnr=20.0)
    run(path, store, "seeds=3", psnr=20.0)
    study, note = find_study(StudyRequest("tiny"), store)
    assert study.overrides == () and len(study.seeds) == 2 and not note
    study, note = find_study(StudyRequest("tiny", overrides=("seeds = 3",)), store)
    assert len(study.seeds) == 3 and study.variant == name_variant("base", ["seeds=3"]) and not note


def test_a_study_that_was_only_run_with_set_is_found_with_a_note(write_study: Write, store: Store) -> None:
    path = write_study()
    run(path, store, "seeds=3", psnr=20.0)
    study, note = find_study(StudyRequest("tiny"), store)
    assert study.overrides == ("seeds=3",)
    assert note == "study 'tiny' was run only with --set seeds=3; this is that run"
    run(path, store, "padding=zeros", "seeds=1", psnr=20.0)
    with pytest.raises(StudyError) as caught:
        find_study(StudyRequest("tiny"), store)
    assert str(caught.value) == (
        f"{store.root}: study 'tiny' was run only with --set, in 2 ways; add one of them: "
        "--set padding=zeros --set seeds=1; or --set seeds=3"
    )


def test_changes_that_mean_the_same_are_one_variant() -> None:
    assert name_variant("cpu", []) == "cpu"
    assert name_variant("cpu", ["seeds=5", "norm=scn"]) == name_variant("cpu", ["norm = scn", "seeds=4", "seeds=5"])
    assert name_variant("cpu", ["loss.kl=1e-3"]) == name_variant("cpu", ["loss.kl=0.001"])
    assert name_variant("cpu", ["seeds=5"]) != name_variant("cpu", ["seeds=6"])
    assert settle(["norm.groups=8", "norm=scn"]) == [("norm", "scn")], "a new level comes without the old settings"
    assert settle(["norm=scn", "norm.groups=8"]) == [("norm", "scn"), ("norm.groups", 8)]
    assert settle(["a=[1"]) == [("a", "[1")], "what is no YAML is reported elsewhere"


def test_mlflow_has_an_experiment_for_each(write_study: Write) -> None:
    path = write_study()
    assert experiment_name(load_study(path)) == "tiny"
    assert experiment_name(load_study(path, None, ["seeds=3", "padding=zeros"])) == "tiny (padding=zeros, seeds=3)"
    many = load_study(path, None, [f"seeds={list(range(100))}"])
    assert experiment_name(many) == f"tiny ({many.variant.removeprefix('base+')})"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"scale": 3}', '{"scale": "base"}'])
def test_a_damaged_card_is_named_and_blocks_no_other_study(store: Store, text: str) -> None:
    folder = store.study("tiny", "base")
    folder.root.mkdir(parents=True)
    folder.card.write_text(text, encoding="utf-8")
    assert stored_studies(store) == []
    with pytest.raises(StudyError, match="the card of study 'tiny' is damaged; to write it again: ablate sweep"):
        find_document(StudyRequest("tiny"), store)


def test_the_card_says_what_set_changed(write_study: Write, store: Store) -> None:
    study = run(write_study(), store, "seeds=3", psnr=20.0)
    card = json.loads(store.study("tiny", study.variant).card.read_text(encoding="utf-8"))
    assert card["overrides"] == ["seeds=3"] and card["scale"] == "base"
