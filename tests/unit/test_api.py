"""The Python API on finished trials: it gives what the command gives, and refuses in the same words."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import ablate
from ablate.adaptive.recall import plan_study
from ablate.api.loading import read_changes
from ablate.driver.studies import write_card
from ablate.errors import AblateError, StoreError, StudyError, UsageError
from ablate.plan.trials import Trial
from ablate.store.files import write_json
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.finished import finish_all
from tests.support.studies import Write

METRICS = {"psnr": 20.0, "ssim": 0.5}


def values(trial: Trial) -> dict[str, float]:
    """20 dB with seed 0 and 20.5 with seed 1; 3 dB less, but for a little noise, with a strong KL weight."""
    worse = 0.0 if trial.treatment.is_baseline else 3.0 + 0.125 * trial.seed
    return {"psnr": 20.0 + 0.5 * trial.seed - worse, "ssim": 0.5}


@pytest.fixture
def finished(write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a study that has run and its store `runs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ABLATE_STORE", raising=False)
    study, store = load_study(write_study()), Store(tmp_path / "runs")
    finish_all(study, store, values)
    write_card(plan_study(study, store))
    return tmp_path


def test_importing_ablate_loads_nothing() -> None:
    code = (
        "import sys, ablate; before = set(sys.modules); ablate.load; ablate.sweep; ablate.results\n"
        "giants = {'torch', 'ray', 'mlflow', 'optuna'}; light = giants | {'pandas', 'numpy', 'pydantic', 'rich'}\n"
        "print(light & before, giants & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set() set()"
    with pytest.raises(AttributeError, match="module 'ablate' has no attribute 'loda'"):
        ablate.loda  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("kind", [str, Path])
def test_names_files_and_paths_are_alike(finished: Path, kind: Callable[[Any], Any]) -> None:
    for study in (kind("tiny.yaml"), "tiny"):
        assert ablate.load(study, store=kind("runs")).name == "tiny"
        assert len(ablate.results(study, store=kind(finished / "runs")).frame()) == 4
    assert ablate.results("tiny").frame().equals(ablate.results(ablate.load("tiny.yaml")).frame())


def test_effects_are_those_of_the_table(finished: Path) -> None:
    results = ablate.results("tiny")
    effects = results.effects().set_index(["treatment", "metric"])
    kl = effects.loc[("kl=1", "psnr")]
    assert (kl["reference"], kl["unit"], kl["n"], kl["pairs"]) == ("baseline", "dB", 2, 2)
    assert (kl["mean"], kl["delta"]) == (pytest.approx(17.1875), pytest.approx(-3.0625))
    cell = results.table().to_dict()["rows"][1]["cells"]["psnr"]
    assert {name: kl[name] for name in cell} == cell
    assert np.isnan(effects.loc[("baseline", "psnr"), "delta"])


def test_frame_is_a_copy(finished: Path) -> None:
    results = ablate.results("tiny")
    frame = results.frame()
    frame.loc[0, "psnr"] = 99.0
    assert results.frame().loc[0, "psnr"] == 20.0


def test_table_and_figure_show_themselves(finished: Path) -> None:
    results = ablate.results("tiny")
    table = results.table(metrics="ssim,psnr", decimals={"ssim": 1})
    assert table.to_latex().count("\\toprule") == 1 and "| baseline |" in table.to_markdown().replace("  ", "")
    assert "<table" in table._repr_html_() and "0.5 ± 0.0" in repr(table) and "ssim" in table.to_csv()
    drawing = results.figure()
    assert drawing._repr_png_().startswith(b"\x89PNG") and drawing.save("effects.svg").stat().st_size > 1000
    assert drawing.figure.axes


def test_every_object_prints_a_line_or_a_small_table(finished: Path, write_study: Write) -> None:
    results = ablate.results("tiny")
    study = ablate.load("vivat_losses")
    plan = results.plan
    shown = [study, study.spec, study.spec.document, results, plan, plan.trials[0], plan.treatments[0]]
    shown += [results.trial("kl=1 s0"), results.table().table, results.figure(), results.figure().results]
    assert {text for text in map(repr, shown) if "\n" in text or len(text) > 300} == set()

    many = ", ".join(str(weight) for weight in range(2, 300))
    replacements = (("loss.kl: [1, 1e-4]", f"loss.kl: [{many}, 1e-4]"), ("seeds: 2", "seeds: [7]"))
    large = write_study(*replacements, ("study: tiny", "study: large"), name="large.yaml")
    finish_all(load_study(large), Store(finished / "runs"), values)
    table = ablate.results(large).table()
    assert len(repr(table)) < 8_000 and len(table._repr_html_()) < 30_000 and "259 more rows" in repr(table)
    assert len(repr(ablate.load(large))) < 300 and len(repr(ablate.results(large))) < 100


def test_a_trial_by_name_signature_and_treatment(finished: Path) -> None:
    results = ablate.results("tiny")
    trial = results.trial("kl=1", seed=1)
    assert trial.name == "kl=1 s1" and trial.metrics["psnr"] == values(results.plan.trials[-1])["psnr"]
    assert results.trial(trial.folder.name).name == results.trial("kl=1 s1").name == trial.name
    assert results.trial("baseline").seed == 0 and trial.levels == {"loss.kl": 1} and trial.status == "done"
    with pytest.raises(UsageError, match="trial 'kl=1 s1' has no checkpoint: it is done"):
        trial.vae()


def test_the_model_of_a_trial_is_that_of_its_checkpoint(finished: Path) -> None:
    from safetensors.torch import save_file

    from ablate.engine.build import build_model

    results = ablate.results("tiny")
    trial = results.trial("kl=1 s0")
    settings = next(t for t in results.plan.trials if t.name == "kl=1 s0").order()["recipe"]
    model = build_model(settings)
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    ema = {f"ema.{name}": value + 1 for name, value in model.named_parameters()}
    header = {"ablate": json.dumps({"settings": settings, "step": 6})}
    save_file({**weights, **ema}, trial.stage.checkpoint, metadata=header)
    loaded = trial.vae()
    for name, value in loaded.named_parameters():
        assert torch.equal(value, ema[f"ema.{name}"]) and not value.requires_grad
    assert loaded.decode(loaded.encode(torch.zeros(1, 3, 16, 16)).mean).shape == (1, 3, 16, 16)


def test_failed_trials_are_named(finished: Path, write_study: Write) -> None:
    store = Store(finished / "runs")
    other = write_study(("study: tiny", "study: other"), ("steps: 6", "steps: 8"), name="other.yaml")
    trial = plan_study(load_study(other), store).trials[0]
    write_json(store.stage(trial.signature).error, {"reason": "out of disk", "trace": ""})
    assert ablate.results(other).failed == {"baseline s0": "out of disk"}
    assert ablate.results("tiny").failed == {}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ablate.load("tiny.yml"), StudyError, "cannot read the study: no such file"),
        (lambda: ablate.load("tiny.yaml", scale="gpu"), StudyError, "unknown scale 'gpu'"),
        (lambda: ablate.load("tiny.yaml", set={"norm": "snc"}), StudyError, "--set norm=snc: unknown level 'snc'"),
        (lambda: ablate.load("tiny.yaml", set={"loss.kl": float("nan")}), UsageError, "set: a value must be a number"),
        (lambda: ablate.load("tiny", store="tiny.yaml"), StoreError, "tiny.yaml is a file, not a folder"),
        (lambda: ablate.results("tin"), StudyError, "it holds: tiny (base); did you mean 'tiny'?"),
        (lambda: ablate.results(ablate.load("tiny"), store="x"), UsageError, "give them to ablate.load"),
        (lambda: ablate.results("tiny").table("psnrr"), UsageError, "did you mean 'psnr'?"),
        (lambda: ablate.results("tiny").table(layout="row"), UsageError, "did you mean 'rows'?"),
        (lambda: ablate.results("tiny").figure("effect"), UsageError, "did you mean 'effects'?"),
        (lambda: ablate.results("tiny").figure().save("none/x.pdf"), UsageError, "there is no folder none"),
        (lambda: ablate.results("tiny").figure().save("x.gif"), UsageError, "valid suffixes are .pdf"),
        (lambda: ablate.results("tiny").trial("kl=2"), UsageError, "did you mean 'kl=1 s"),
        (lambda: ablate.results("tiny").claims(), UsageError, "names no paper"),
        (lambda: ablate.results("tiny").claims("vivatt"), UsageError, "did you mean 'vivat'?"),
        (lambda: ablate.sweep("tiny", workers=0), UsageError, "workers: expected at least 1, found 0"),
    ],
)
def test_errors_say_what_the_command_says(
    finished: Path, call: Callable[[], Any], error: type[AblateError], words: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_changes_are_texts_as_on_the_command_line() -> None:
    assert read_changes({"loss.kl": 1e-3, "norm": "scn", "seeds": [0, 1]}) == (
        "loss.kl=0.001",
        "norm=scn",
        "seeds=[0, 1]",
    )
    assert read_changes({"data.path": Path("a b"), "x": np.float64(2.5), "y": "1e-3", "z": True}) == (
        "data.path=a b", "x=2.5", 'y="1e-3"', "z=true",
    )  # fmt: skip
    assert read_changes(["a=1"]) == read_changes("a=1") == ("a=1",)


def test_claims_are_a_frame(finished: Path) -> None:
    claims = ablate.results("tiny").claims("vivat")
    assert isinstance(claims, pd.DataFrame) and {"id", "metric", "verdict", "estimate"} <= set(claims.columns)
    assert set(claims.verdict) <= {"reproduced", "opposite", "inconclusive", "not observed"}
