"""What a study costs: steps by their kind, a few real steps of each, and bounds that refuse."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ablate.adaptive.recall import plan_study
from ablate.cli.main import app
from ablate.driver.overview import summarise
from ablate.engine import measure
from ablate.plan.cost import StepKinds, add_steps, gpu_share, total_cost
from ablate.plan.footprint import Footprint, configuration, read
from ablate.plan.tree import stage_tree
from ablate.plan.trials import expand
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.studies import Write
from tests.support.training import run_to_end

GAN = (
    "kl: 1e-4}",
    "kl: 1e-4, adversarial: {weight: 0.1, start: 4}}\n"
    "  discriminator: {level: patchgan, width: 8, layers: 2, start: 4}",
)


FACTORS = ("  loss.kl: [1, 1e-4]", "  loss.kl: [1, 1e-4]\n  loss.adversarial: [0.1, 0]")


def test_steps_are_counted_by_what_they_cost(write_study: Write) -> None:
    """Six steps a trial, the last two with a discriminator but where the term is left out; two of each shared."""
    trials = expand(load_study(write_study(GAN, FACTORS)))
    found: StepKinds = {}
    add_steps(found, stage_tree(trials))
    with_it, without = (
        configuration(trials[0].treatment.recipe.up_to(step), trials[0].treatment.recipe.stages[0]) for step in (6, 4)
    )
    assert found.keys() == {with_it, without}
    assert (found[with_it].steps, found[with_it].trials) == (2 * 2 * 2, 4), "kl at two levels, two seeds"
    assert (found[without].steps, found[without].trials) == (2 * (4 + 4) + 2 * 2, 2), "two trunks; one goes on without"
    assert sum(kind.nodes for kind in found.values()) == len(stage_tree(trials))
    cost = total_cost(found, {with_it: Footprint(1, 2.0, 10.0, 100, 7), without: Footprint(1, 1.0, 10.0, 300, 5)})
    assert cost.seconds == 2.0 * 8 + 1.0 * 20 + 10.0 * 6 and cost.memory == 300
    assert cost.disk == 7 * found[with_it].nodes + 5 * found[without].nodes


def test_what_is_over_costs_only_its_probes(write_study: Write) -> None:
    trials = expand(load_study(write_study()))
    found: StepKinds = {}
    add_steps(found, stage_tree(trials[:1], {trials[0].signature}), {trials[0].signature})
    assert [(kind.steps, kind.nodes, kind.trials) for kind in found.values()] == [(0, 0, 1)]


def test_a_few_real_steps_are_measured(write_study: Write, tmp_path: Path) -> None:
    study, store = load_study(write_study(("seeds: 2", "seeds: 1"))), Store(tmp_path / "runs")
    said: list[str] = []
    summary = summarise(plan_study(study, store), lambda kinds: measure.measure(kinds, store, 1, said.append))
    assert len(said) == 1, "both treatments cost the same"
    trial = expand(study)[0]
    key = configuration(trial.treatment.recipe, trial.treatment.recipe.stages[0])
    need = read(store, key, "cpu")
    assert need.step_s > 0 and need.probe_s > 0 and need.memory > 1e8
    assert summary["estimate_s"] == pytest.approx(2 * (6 * need.step_s + need.probe_s))
    assert summary["memory_bytes"] == need.memory and summary["disk_bytes"] == 2 * need.checkpoint
    assert not (store.root / "stages").exists(), "nothing is left but what was measured"
    run_to_end(trial, store)
    assert store.stage(trial.signature).checkpoint.stat().st_size == pytest.approx(need.checkpoint, abs=4096)


def test_as_many_trials_share_a_gpu_as_fit() -> None:
    """80 GB hold 11 of 5 GB with a quarter more and a context each; one that fills it has it to itself."""
    assert gpu_share(5 * 10**9, 80 * 10**9) == pytest.approx(1 / 11)
    assert gpu_share(70 * 10**9, 80 * 10**9) == gpu_share(90 * 10**9, 80 * 10**9) == 1


def test_the_peak_of_memory_is_of_what_came_since(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    measure._reset_peak(cpu)
    np.ones(200_000_000, np.uint8)
    before = measure._peak(cpu)
    measure._reset_peak(cpu)
    assert before - measure._peak(cpu) > 150_000_000


@pytest.mark.parametrize("command", ["plan", "sweep"])
def test_what_is_above_a_bound_is_refused_with_figures(write_study: Write, tmp_path: Path, command: str) -> None:
    arguments = [command, str(write_study()), "--store", str(tmp_path / "runs")]
    refused = CliRunner().invoke(app, [*arguments, "--max-trials", "3"])
    assert refused.exit_code == 2 and "4 trials are pending, more than --max-trials 3" in refused.stderr
    refused = CliRunner().invoke(app, [*arguments, "--max-hours", "0.0000001"])
    assert refused.exit_code == 2 and "hours of one worker, more than --max-hours 1e-07" in refused.stderr
    assert not (tmp_path / "runs" / "stages").exists()
