"""The answer says what the table's verdicts say: what is clear, by size, what is ruled out, what is open and for how
many seeds.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablate.adaptive.recall import plan_study
from ablate.analysis.figures import panels
from ablate.analysis.figures.style import compose, figure_style
from ablate.analysis.statistics.power import seeds_needed
from ablate.analysis.study_results import StudyResults, gather
from ablate.analysis.tables.leads import by_metric, lead_metrics
from ablate.plan.trials import Trial, expand
from ablate.store.files import write_json
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.study import Study, load_study
from tests.support.command import inside
from tests.support.finished import finish_all
from tests.support.studies import Write

FACTORS = ("loss.kl: [1, 1e-4]", "loss.kl: [1e-4, 1, 1e-2]\n  upsample: [nearest_conv, pixel_shuffle]")
PROBES = ("probes: [reconstruction]", "probes: [reconstruction, grid]")
SEEDS = ("seeds: 2", "seeds: 3")

Effects = dict[str, dict[str, float]]
"""Treatment -> metric -> effect."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def study(write_study: Write) -> Study:
    return load_study(write_study(FACTORS, PROBES, SEEDS))


def planted(effects: Effects, noise: dict[str, float]) -> Callable[[Trial], dict[str, float]]:
    """Each metric is 20 plus the effect, a part of the seed that all share, and noise of the trial's own."""

    def values(trial: Trial) -> dict[str, float]:
        rng = np.random.default_rng([trial.seed, *map(ord, trial.treatment.label)])
        metrics = {"psnr": 0.01, "grid/nat_fold": 0.01} | noise
        own = effects.get(trial.treatment.label, {})
        return {name: 20 + own.get(name, 0.0) + trial.seed + rng.normal(0, sd) for name, sd in metrics.items()}

    return values


def results(study: Study, store: Store) -> StudyResults:
    return gather(plan_study(study, store))


def paired(found: StudyResults, label: str, metric: str) -> np.ndarray:
    frame = found.frame.set_index(["treatment", "seed"])[metric]
    return (frame[label] - frame["baseline"]).to_numpy(float)


def test_an_effect_on_another_probe_leads_though_nothing_is_clear_in_the_primary_metric(
    study: Study, store: Store
) -> None:
    finish_all(study, store, planted({"upsample=pixel_shuffle": {"grid/nat_fold": 2.4}}, {"psnr": 1.0}))
    found = results(study, store)
    answer = found.table.answer
    differences = paired(found, "upsample=pixel_shuffle", "grid/nat_fold")
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    said = (
        f"upsample=PixelShuffle, Grid worse: +{differences.mean():.3f} gl [+{low:.3f}, +{high:.3f}] "
        f"({differences.mean() / 0.1:.1f} ×, exploratory)"
    )
    assert answer.headline == f"1 of 2 factors has a clear effect: upsample. The largest: {said}."
    assert answer.found == (f"upsample: {said}.",)
    (psnr,) = (sentence for sentence in answer.still_open if sentence.startswith("PSNR"))
    assert psnr.startswith("PSNR: all of kl, upsample=PixelShuffle; the largest estimate is that of ")


def test_effects_are_sorted_by_size_over_their_smallest_effect_of_interest(study: Study, store: Store) -> None:
    effects = {"kl=1": {"psnr": -3.0, "grid/nat_fold": 0.2}, "kl=0.01": {"psnr": 2.0}}
    finish_all(study, store, planted({**effects, "upsample=pixel_shuffle": {"grid/nat_fold": 2.4}}, {}))
    answer = results(study, store).table.answer
    assert answer.headline.startswith("2 of 2 factors have a clear effect: upsample, kl.")
    upsample, kl = answer.found
    assert upsample.startswith("upsample: ") and kl.startswith("kl: ")
    shown = re.findall(r"(kl=[\d.]+), (\S+) (better|worse): ", kl)
    assert shown == [("kl=1", "PSNR", "worse"), ("kl=0.01", "PSNR", "better"), ("kl=1", "Grid", "worse")]
    assert "PSNR" not in upsample and "exploratory" not in kl.split("; ")[0] and "exploratory" in kl.split("; ")[2]


def test_treatments_that_share_a_clear_effect_are_named(study: Study, store: Store) -> None:
    effects = {"kl=1": {"psnr": -3.0}, "kl=0.01": {"psnr": -2.9}}
    finish_all(study, store, planted(effects, {}))
    (kl,) = results(study, store).table.answer.found
    assert re.fullmatch(r"kl: kl=1, PSNR worse: .*\), likewise kl=0\.01\.", kl)


def test_what_is_smaller_than_of_interest_is_ruled_out_by_name(study: Study, store: Store) -> None:
    finish_all(study, store, planted({"kl=1": {"psnr": -3.0}}, {"psnr": 0.02, "grid/nat_fold": 0.002}))
    found = results(study, store)
    assert found.table.answer.ruled_out == (
        "no effect ≥ 0.5 dB on PSNR: kl=0.01, upsample=PixelShuffle.",
        "no effect ≥ 0.1 gl on Grid (exploratory): all of kl, upsample=PixelShuffle.",
    )
    assert found.table.answer.still_open == ()


def test_a_clear_effect_that_is_smaller_than_of_interest_is_ruled_out_and_said_to_be_clear(
    study: Study, store: Store
) -> None:
    finish_all(study, store, planted({"kl=1": {"psnr": 0.1}}, {"psnr": 0.0005, "grid/nat_fold": 0.0}))
    found = results(study, store)
    assert found.effect("kl=1", "psnr").verdict == "better"
    assert found.table.answer.found == ()
    assert "no effect ≥ 0.5 dB on PSNR: kl=1 (though better), " in found.table.answer.ruled_out[0]
    assert "Grid identical in every seed: all of kl, upsample=PixelShuffle." in found.table.answer.ruled_out


def test_the_seeds_that_would_settle_it_follow_from_the_spread_of_what_is_open(study: Study, store: Store) -> None:
    finish_all(study, store, planted({}, {"psnr": 1.0, "grid/nat_fold": 0.002}))
    found = results(study, store)
    rows = by_metric(found.table.comparisons)["psnr"]
    assert all(one.is_open for one in rows)
    variances = [paired(found, one.label, "psnr").var(ddof=1) for one in rows]
    sd = math.sqrt(float(np.median(variances)) * 2 / stats.chi2.median(2))
    noise = found.table.open_noises["psnr"]
    assert noise.sd == pytest.approx(sd)
    assert noise.needed == seeds_needed(sd, 0.5, 3, estimates=noise.estimates)
    assert noise.needed > (seeds_needed(sd, 0.5, 3) or 0), "the spread is an estimate from three seeds"
    (psnr,) = found.table.answer.still_open
    assert psnr.endswith(f"; {noise.needed} seeds would detect 0.5 dB in 80 % of studies.")


def test_one_open_comparison_is_named_once(study: Study, store: Store) -> None:
    effects = {label: {"psnr": change} for label, change in (("kl=1", -30.0), ("kl=0.01", -30.0))}
    effects["upsample=pixel_shuffle"] = {"psnr": 1.0}
    finish_all(study, store, planted(effects, {"psnr": 1.0}))
    found = results(study, store)
    (psnr,) = found.table.answer.still_open
    assert psnr.startswith("PSNR: upsample=PixelShuffle, ") and psnr.count("upsample") == 1, psnr
    assert f"{paired(found, 'upsample=pixel_shuffle', 'psnr').mean():+.2f}".replace("-", "−") in psnr, psnr


def test_treatments_in_trouble_are_neither_clear_nor_open(study: Study, store: Store) -> None:
    values = planted({"kl=1": {"psnr": -3.0}}, {})
    finish_all(study, store, lambda trial: {} if trial.treatment.label == "kl=1" else values(trial))
    lost, *_ = (trial for trial in expand(study) if trial.treatment.label == "kl=1")
    store.stage(lost.signature).finish(Record(lost.signature, lost.seed, "diverged", "not finite", 3))
    answer = results(study, store).table.answer
    assert "Diverged: kl=1 (1 of 3)." in answer.remarks
    assert answer.remarks[-1] == "This is preliminary: 2 of 12 trials have no result yet."
    assert not any("kl=1" in sentence for sentence in (*answer.found, *answer.ruled_out, *answer.still_open))


def test_exploratory_comparisons_are_counted_beside_what_chance_gives(study: Study, store: Store) -> None:
    finish_all(study, store, planted({"kl=1": {"grid/nat_fold": 5.0}}, {}))
    assert (
        "Exploratory comparisons are not corrected for their number: of 3 in all metrics, 1 are clear; "
        "about 0 would be by chance alone."
    ) in results(study, store).table.answer.remarks


def test_one_seed_tells_nothing_from_noise(write_study: Write, store: Store) -> None:
    study = load_study(write_study(FACTORS, PROBES, ("seeds: 2", "seeds: 1")))
    finish_all(study, store, planted({"kl=1": {"psnr": -3.0}}, {"psnr": 0.0}))
    answer = results(study, store).table.answer
    assert answer.headline == (
        "With one seed, no difference can be distinguished from noise. The largest change is that of kl=1 in PSNR: "
        "−3.00 dB."
    )
    assert answer.found == () and answer.ruled_out == ()


def test_no_result_no_answer(study: Study, store: Store) -> None:
    assert results(study, store).table.answer.sentences == ["No answer yet: 0 of 12 trials have finished."]


@pytest.mark.parametrize("baseline_alone", [False, True])
def test_no_reference_no_answer(study: Study, store: Store, baseline_alone: bool) -> None:
    values = planted({}, {})
    kept = [trial for trial in expand(study) if (trial.treatment.label == "baseline") == baseline_alone]
    finish_all(study, store, lambda trial: values(trial) if trial in kept else {})
    assert results(study, store).table.answer.sentences == [
        f"No answer yet: {len(kept)} of 12 trials have finished, and none of them can be compared with its reference."
    ]


def test_a_factor_is_answered_on_its_own_metric(write_study: Write, store: Store) -> None:
    primary = ("primary: psnr", "primary: {upsample: grid/const_fold, default: psnr}")
    study = load_study(write_study(FACTORS, PROBES, SEEDS, primary))
    assert lead_metrics(study) == ["psnr", "grid/const_fold"]
    finish_all(study, store, planted({"upsample=pixel_shuffle": {"grid/const_fold": 2.4}}, {"grid/const_fold": 0.01}))
    (found,) = results(study, store).table.answer.found
    assert found.startswith("upsample: upsample=PixelShuffle, Grid on flat colours worse: +2.4") and "expl" not in found


def test_a_grid_is_answered_by_its_main_effects(write_study: Write, store: Store) -> None:
    study = load_study(write_study(FACTORS, PROBES, SEEDS, ("primary: psnr", "primary: psnr\ndesign: grid")))
    effect = {"psnr": -2.0, "grid/nat_fold": 1.0}
    rows = {trial.treatment.label for trial in expand(study) if trial.treatment.levels["upsample"] == "pixel_shuffle"}
    finish_all(study, store, planted(dict.fromkeys(rows, effect), {}))
    found = results(study, store)
    (sentence,) = found.table.answer.found
    change = "upsample nearest + conv → PixelShuffle"
    assert sentence.startswith(f"upsample: {change}, Grid worse: +") and f"; {change}, PSNR worse: −" in sentence
    parts = sentence.split("; ")
    assert "exploratory" in parts[0] and "exploratory" not in parts[1], "psnr is planned"
    frame = found.frame
    mean = frame.groupby(frame["treatment"].isin(rows))["psnr"].mean()
    assert f"{abs(mean[True] - mean[False]):.2f} dB" in parts[1]


def test_a_search_names_its_best_and_tests_nothing(write_study: Write, store: Store) -> None:
    search = ("primary: psnr", "primary: psnr\ndesign: search\nsearch: {sampler: brute_force}")
    study = load_study(write_study(FACTORS, PROBES, search))
    suggestions = [{"levels": {"loss.kl": 1.0, "upsample": "nearest_conv"}, "notes": {}}]
    write_json(store.study(study.name, study.scale).searched(), suggestions)
    finish_all(study, store, planted({"kl=1": {"psnr": 1.0}}, {}))
    found = results(study, store)
    assert found.table.answer.headline.startswith("Of 2 treatments tried, none beats kl=1 (+0.99 dB) in PSNR.")
    assert found.table.comparisons == () and "not tested" in " ".join(found.table.answer.remarks)
    with pytest.raises(ValueError, match="no differences"):
        panels(found, "answer")


def test_every_output_ends_with_the_answer(study: Study, store: Store, tmp_path: Path) -> None:
    finish_all(study, store, planted({"kl=1": {"psnr": -3.0}}, {}))
    answer = results(study, store).table.answer
    printed = inside("table", str(tmp_path / "tiny.yaml"), "--store", str(store.root)).stdout
    assert [printed.rindex(sentence) for sentence in answer.sentences] == sorted(map(printed.rindex, answer.sentences))
    assert printed.rindex("Answer: ") > printed.rindex("| ")
    written = json.loads(inside("table", str(tmp_path / "tiny.yaml"), "--store", str(store.root), "--json").stdout)
    assert written["answer"]["found"] == list(answer.found) and written["answer"]["headline"] == answer.headline
    done = inside("report", str(tmp_path / "tiny.yaml"), "--store", str(store.root))
    assert done.stdout.strip().endswith("report.html") and answer.headline.split(".")[0] in " ".join(
        done.stderr.split()
    )


def test_the_figure_shows_each_change_over_its_smallest_effect_of_interest(study: Study, store: Store) -> None:
    effects = {"kl=1": {"psnr": -3.0}, "upsample=pixel_shuffle": {"grid/nat_fold": 2.4}}
    finish_all(study, store, planted(effects, {"psnr": 0.05}))
    found = results(study, store)
    with figure_style():
        upsample, kl = compose(panels(found, "answer")).axes
    assert (upsample.get_title(loc="left"), kl.get_title(loc="left")) == ("upsample", "kl")
    rows = {
        label.get_text(): line
        for label, line in zip(kl.get_yticklabels(), [one for one in kl.lines if one.get_marker() == "o"], strict=True)
    }
    change = found.effect("kl=1", "psnr").change
    mark = rows["PSNR, kl=1"]
    assert (
        mark.get_xdata()[0] == pytest.approx(change.mean / 0.5) and mark.get_markerfacecolor() == found.colors["kl=1"]
    )
    worse = next(one.get_xdata()[0] for one in upsample.lines if one.get_marker() == "o")
    assert worse == pytest.approx(-found.effect("upsample=pixel_shuffle", "grid/nat_fold").change.mean / 0.1)
    left, right = kl.get_xlim()
    assert left == -right and left <= min(worse, change.mean / 0.5)
