"""Example studies are found by name; a file or a study of the store with the same name goes first."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.adaptive.recall import plan_study
from ablate.driver.studies import StudyRequest, find_study, write_card
from ablate.errors import StudyError
from ablate.store.folders import Store
from ablate.study.shipped import shipped
from ablate.study.study import load_study

Write = Callable[..., Path]


def test_an_example_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "smoke" in shipped() and load_study(Path("smoke")).name == "smoke"
    assert find_study(StudyRequest("smoke"), Store(tmp_path / "runs"))[0].name == "smoke"


def test_what_the_user_has_goes_first(write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "runs")
    write_card(plan_study(load_study(write_study(("study: tiny", "study: smoke"), ("seeds: 2", "seeds: 3"))), store))
    assert len(find_study(StudyRequest("smoke"), store)[0].seeds) == 3
    write_study(("study: tiny", "study: mine"), name="smoke")
    assert load_study(Path("smoke")).name == "mine"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("search_spaces/smoke.yaml", "the example study comes with the package: name it 'smoke'"),
        ("smokey", "nor an example study; did you mean 'smoke'? (valid: alias_free, "),
        ("mine/none.yaml", "cannot read the study: no such file"),
    ],
)
def test_what_is_missing_leads_to_the_examples(
    reference: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match="no such file") as caught:
        load_study(Path(reference))
    assert words in str(caught.value)
