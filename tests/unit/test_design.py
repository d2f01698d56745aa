"""Designs, labels, the order of trials, shared work."""

import copy
import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from ablate.adaptive.recall import plan_study
from ablate.driver.overview import summarise
from ablate.driver.plan_text import print_plan
from ablate.errors import StudyError
from ablate.identity import canonical
from ablate.plan.estimable import describe_contrasts
from ablate.plan.labels import format_level
from ablate.plan.treatments import list_rows, treatments
from ablate.plan.tree import stage_tree
from ablate.plan.trials import expand
from ablate.recipe.consistency import resolve
from ablate.recipe.paths import assign
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import python
from tests.support.studies import Write

TWO = ("loss.kl: [1, 1e-4]", "loss.kl: [1, 1e-4]\n  norm: [group, scn]")


def labels(path: Path) -> list[str]:
    return [treatment.label for treatment in treatments(load_study(path))]


def test_one_at_a_time_changes_one_factor_a_treatment(write_study: Write) -> None:
    assert labels(write_study(TWO)) == ["baseline", "kl=1", "norm=scn"]


def test_the_baseline_level_need_not_be_listed(write_study: Write) -> None:
    assert labels(write_study(("loss.kl: [1, 1e-4]", "loss.kl: [1, 1e-2]"))) == ["baseline", "kl=1", "kl=0.01"]


def test_grid_is_the_product_with_the_baseline_first(write_study: Write) -> None:
    found = labels(write_study(TWO, ("factors:", "design: grid\nfactors:")))
    assert found == ["baseline", "norm=scn", "kl=1", "kl=1 norm=scn"]


def test_a_grid_without_the_baseline_is_refused(write_study: Write) -> None:
    with pytest.raises(StudyError, match="lacks the baseline's level"):
        load_study(write_study(("loss.kl: [1, 1e-4]", "loss.kl: [1, 1e-2]"), ("factors:", "design: grid\nfactors:")))


def test_list_runs_what_it_lists(write_study: Write) -> None:
    """What `--set` makes equal is run once; what the file lists twice is an error."""
    rows = ["{loss.kl: 1, norm: scn}", "{norm: scn}", "{padding: zeros}"]
    listed = "design: list\ntreatments:\n" + "".join(f"  - {row}\n" for row in rows)
    path = write_study(("factors:\n  loss.kl: [1, 1e-4]\n", listed))
    assert labels(path) == ["baseline", "kl=1 norm=scn", "norm=scn", "padding=zeros"]
    changed = load_study(path, None, ["loss.kl=1.0", "padding=zeros"])
    assert [row.label for row in treatments(changed)] == ["baseline", "norm=scn"]


def test_a_level_with_settings_is_a_level_of_its_own(write_study: Write) -> None:
    path = write_study(("loss.kl: [1, 1e-4]", "norm: [group, {level: group, groups: 2}, scn]"))
    assert labels(path) == ["baseline", "norm=group(groups=2)", "norm=scn"]


def test_a_new_level_keeps_the_settings_it_shares(write_study: Write) -> None:
    scn = treatments(load_study(write_study(TWO)))[2]
    assert scn.recipe.identity()["norm"] == {"level": "scn", "groups": 4}


INTERP = "norm: [group, scn]\n  norm.interp: [nearest, bilinear]"


def test_a_setting_is_varied_only_where_it_exists(write_study: Write) -> None:
    rows = treatments(load_study(write_study(("loss.kl: [1, 1e-4]", INTERP), ("factors:", "design: grid\nfactors:"))))
    assert [(row.label, row.levels["norm.interp"]) for row in rows] == [
        ("baseline", None), ("norm=scn interp=nearest", "nearest"), ("norm=scn interp=bilinear", "bilinear")
    ]  # fmt: skip
    assert rows[2].recipe.identity()["norm"] == {"level": "scn", "groups": 4, "interp": "bilinear"}
    assert format_level(rows[0].levels["norm.interp"]) == "–"


def test_a_setting_of_the_baseline_goes_with_its_level(write_study: Write) -> None:
    base = ("norm: {level: group, groups: 4}", "norm: {level: scn, groups: 4, interp: bilinear}")
    edits = [base, ("loss.kl: [1, 1e-4]", INTERP + "\n  loss.kl: [1, 1e-4]"), ("factors:", "design: grid\nfactors:")]
    study = load_study(write_study(*edits))
    rows = {row.label: row for row in treatments(study)}
    assert list(rows) == [
        "baseline", "kl=1", "interp=nearest", "interp=nearest kl=1", "norm=group", "norm=group kl=1"
    ]  # fmt: skip
    assert rows["norm=group"].levels == {"norm": "group", "norm.interp": None, "loss.kl": 1e-4}
    assert rows["norm=group"].recipe == study.recipe({"norm": "group"})
    assert "norm.interp only among the treatments in which it exists" in describe_contrasts(study, list_rows(study))


def test_a_ladder_may_bring_a_setting_after_its_level(write_study: Write) -> None:
    ladder = ("factors:", "design: ladder\nfactors:")
    path = write_study(("loss.kl: [1, 1e-4]", "norm: [group, scn]\n  norm.interp: [bilinear]"), ladder)
    assert labels(path) == ["baseline", "+ norm=scn", "+ interp=bilinear"]
    path = write_study(("loss.kl: [1, 1e-4]", "norm.interp: [bilinear]\n  norm: [group, scn]"), ladder)
    with pytest.raises(StudyError, match=r"ladder' changes 'norm.interp', which does not exist with the baseline"):
        labels(path)


def test_one_at_a_time_cannot_reach_a_setting_that_the_baseline_lacks(write_study: Write) -> None:
    with pytest.raises(StudyError, match=r"the baseline has no 'norm.interp', so 'one_at_a_time' cannot change it"):
        load_study(write_study(("loss.kl: [1, 1e-4]", INTERP)))
    with pytest.raises(StudyError, match="unknown setting 'interp' of norm 'group'"):
        load_study(write_study(("loss.kl: [1, 1e-4]", "norm.interp: [nearest, bilinear]")))


def test_a_list_may_name_a_level_with_its_settings(write_study: Write) -> None:
    rows = "design: list\ntreatments:\n  - {norm: scn, norm.interp: bilinear}\n  - {loss.kl: 1}\n"
    found = treatments(load_study(write_study(("factors:\n  loss.kl: [1, 1e-4]\n", rows))))
    assert [row.label for row in found] == ["baseline", "norm=scn interp=bilinear", "kl=1"]
    assert [row.levels["norm.interp"] for row in found] == [None, "bilinear", None]


def test_merged_recipes_are_those_that_are_resolved_from_scratch(write_study: Write) -> None:
    levels = (
        "loss.kl: [1e-4, 1]\n  loss.l1: [0, 1]\n  norm: [group, {level: scn, interp: bilinear}]\n"
        "  norm.groups: [4, 2]\n  stages.train.lr: [3e-3, 1]\n  stages.train.steps: [6, 7]\n"
        "  model.latent_channels: [4, 8]\n  padding: [reflect, zeros]"
    )
    study = load_study(write_study(("loss.kl: [1, 1e-4]", levels), ("factors:", "design: grid\nfactors:")))
    rows = treatments(study)
    assert len(rows) == 2**8
    for row in rows[::5]:
        raw = copy.deepcopy(study.raw)
        for path, level in row.changed.items():
            assign(raw, path, level)
        truth, _ = resolve(raw)
        assert truth == row.recipe and truth.plain() == row.recipe.plain()
        assert row.recipe.canonical() == canonical(truth.identity())


def test_different_numbers_never_look_alike() -> None:
    assert format_level(0.1234567) != format_level(0.1234568)
    assert [format_level(value) for value in (0.1, 1e-4, 3.0, 1 / 3)] == ["0.1", "0.0001", "3", "0.3333333333333333"]


GOLDEN = Path(__file__).parents[1] / "golden" / "designs"


FIVE = (
    "factors:\n  loss.kl: [1e-4, 1]\n  norm: [group, scn]\n  padding: [reflect, zeros]\n  loss.l2: [1, 2]\n"
    "  stages.train.lr: [3e-3, 1e-3]"
)


MORE = FIVE.replace("[1e-4, 1]", "[1e-4, 1e-2, 1]").replace("[reflect, zeros]", "[reflect, zeros, circular, replicate]")


@pytest.mark.parametrize(
    ("name", "factors", "design"),
    [
        ("ladder", FIVE, "ladder"),
        ("leave_one_out", FIVE, "leave_one_out"),
        ("fraction", FIVE, "fraction\nfraction: {resolution: 3}"),
        ("optimal", MORE, "fraction\nfraction: {runs: 16}\nwhere: not (norm == 'scn' and padding == 'zeros')"),
    ],
)
def test_listings_are_the_golden_ones(name: str, factors: str, design: str, write_study: Write, tmp_path: Path) -> None:
    study = load_study(
        write_study(("factors:\n  loss.kl: [1, 1e-4]", factors), ("seeds: 2", f"design: {design}\nseeds: 2"))
    )
    text = io.StringIO()
    plan = plan_study(study, Store(tmp_path / "runs"))
    print_plan(plan, summarise(plan), Console(width=120, file=text))
    assert text.getvalue() == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def planned(path: Path, store: Path) -> tuple[str, float, float]:
    """What `ablate plan` prints in a process of its own, that process's CPU time in s and its peak memory in MB."""
    code = (
        "import resource, sys; from ablate.cli.main import app\n"
        "try: app()\n"
        "finally:\n"
        "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    peak = [x for x in open('/proc/self/status') if x.startswith('VmHWM')][0]  # maxrss: a parent's\n"
        "    print(used.ru_utime + used.ru_stime, int(peak.split()[1]) / 1024, file=sys.stderr)\n"
    )
    ended = python(code, "plan", path, "--store", store, env={**os.environ, "COLUMNS": "200"})
    seconds, megabytes = map(float, ended.stderr.splitlines()[-1].split())
    return ended.stdout, seconds, megabytes


@pytest.mark.parametrize(
    ("design", "first", "count"),
    [("grid", "… 99,965 more …", 100_000), ("fraction\nfraction: {runs: 48}", "48 of 100000 treatments for 35", 48)],
    ids=["grid", "fraction"],
)
def test_planning_a_grid_of_100_000_cells_grows_with_the_cells_and_not_their_square(
    design: str, first: str, count: int, write_study: Write, tmp_path: Path
) -> None:
    """Ten times the cells may take twenty times the CPU time; their square would take a hundred times.

    The first plan also builds the models, with torch, which the others need not do again.
    """
    levels = {
        "loss.kl": [1e-4, 1, 2, 3, 4], "loss.l2": [*range(1, 11)], "model.latent_channels": [4, 8],
        "stages.train.lr": [3e-3, 1, 2, 3, 4], "stages.train.ema": [0.999, 0.1, 0.2, 0.3, 0.4],
        "padding": ["reflect", "zeros", "circular", "replicate"],
    }  # fmt: skip
    measured = []
    for more in ({}, {}, {"loss.l1": [*range(10)]}):
        factors = "".join(f"  {path}: {json.dumps(values)}\n" for path, values in {**levels, **more}.items())
        design_of = ("factors:\n  loss.kl: [1, 1e-4]\n", f"design: {design}\nfactors:\n{factors}")
        measured.append(planned(write_study(design_of, ("seeds: 2", "seeds: 1")), tmp_path / "runs"))
    _, (_, fewer_seconds, _), (said, seconds, megabytes) = measured
    assert first in said
    assert f"{count} trials, {count} pending" in said
    assert len(said.splitlines()) < 65
    assert seconds < 20 * fewer_seconds
    assert megabytes < 500


def test_levels_of_a_list_need_be_right_only_together(write_study: Write) -> None:
    """Neither the discriminator nor the term can start first alone."""
    gan = ("kl: 1e-4}", "kl: 1e-4, adversarial: {weight: 1, start: 4}}\n  discriminator: {level: patchgan, start: 4}")
    both = "{discriminator.start: 0, loss.adversarial.start: 0}"
    listed = ("factors:\n  loss.kl: [1, 1e-4]\n", f"design: list\ntreatments: [{both}]\n")
    study = load_study(write_study(gan, listed, ("crop: 16", "crop: 32")))
    assert [factor.levels for factor in study.factors] == [(4, 0), (4, 0)]
    with pytest.raises(StudyError, match=r"loss\.adversarial\.start.*before its discriminator|enters at step 0"):
        load_study(
            write_study(gan, (listed[0], listed[1].replace("discriminator.start: 0, ", "")), ("crop: 16", "crop: 32"))
        )


def test_contradicting_levels_are_named(write_study: Write) -> None:
    levels = "loss.adversarial: [0, 0.1]\n  discriminator: [patchgan, none]"
    with pytest.raises(StudyError, match=r"treatment loss\.adversarial=0\.1, discriminator=none"):
        crop = ("crop: 16", "crop: 24")
        treatments(
            load_study(write_study(crop, ("loss.kl: [1, 1e-4]", levels), ("factors:", "design: grid\nfactors:")))
        )


def test_trials_come_in_the_order_of_insight(write_study: Write) -> None:
    names = [trial.name for trial in expand(load_study(write_study(TWO)))]
    assert names == ["baseline s0", "baseline s1", "kl=1 s0", "norm=scn s0", "kl=1 s1", "norm=scn s1"]


def test_equal_stages_are_counted_once(write_study: Write) -> None:
    chain = "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}"
    factor = ("loss.kl: [1, 1e-4]", "stages.cool.lr: [1e-3, 1e-4]")
    path = write_study((chain, chain + "\n  - cool: {steps: 2, batch: 2, lr: 1e-3}"), factor)
    trials = expand(load_study(path))
    assert trials[0].signatures[0] == trials[2].signatures[0]
    assert trials[0].signatures[1] != trials[2].signatures[1]
    assert (sum(trial.steps for trial in trials), sum(node.steps for node in stage_tree(trials))) == (
        2 * 2 * 8,
        2 * 6 + 2 * 2 * 2,
    )


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (1e-6, "1e-06"),
        (0.01, "0.01"),
        ("scn", "scn"),
        ([16, 32], "16-32"),
        (True, "True"),
        ({"weight": 0.1}, "0.1"),
        ({"level": "scn", "a": 1}, "scn(a=1)"),
    ],
)
def test_how_levels_are_shown(level: object, text: str) -> None:
    assert format_level(level) == text
