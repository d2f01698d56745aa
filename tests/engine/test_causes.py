"""Trainings that go wrong in a planted way, and what is said of each; sound ones have no cause."""

import math
from pathlib import Path

import pytest
import torch

from ablate.adaptive.recall import plan_study
from ablate.analysis.records.frame import frame_of
from ablate.analysis.statistics.diagnostics import find_warnings
from ablate.driver.overview import count_statuses
from ablate.engine import run
from ablate.engine.causes import find_cause, latent_signal
from ablate.plan.trials import expand
from ablate.slots.training import Posterior
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.studies import Write, trial_of
from tests.support.training import CPU

FAULTY = '''"""l2, and what goes wrong from step 4 on."""

import torch
from torch.nn import functional as F

from ablate.slots import LossSettings, Term


class Config(LossSettings):
    """`fault`: what goes wrong."""

    fault: str = "none"


def build(config):
    term = Faulty()
    term.fault = config.fault
    term.calls = 0
    return term


class Faulty(Term):
    of = "reconstruction"

    def forward(self, step):
        self.calls += 1
        loss = F.mse_loss(step.y, step.x)
        late = self.calls > 3
        if self.fault == "negative logarithm" and late:
            return loss + (step.y.mean() * 0 - 1.0).log()
        if self.fault == "zero by zero" and late:
            return loss + (step.y - step.y.detach()).norm() / 0 * 0
        if self.fault == "overflow" and late:
            return loss + (step.y.mean() * 1e30).square()
        if self.fault == "growth" and late:
            return loss * 10.0 ** (6 * (self.calls - 3)) + (loss * float("nan") if self.calls > 6 else 0)
        if self.fault == "latents":
            return loss + 1e4 * step.posterior.mean.square().mean() + 1e3 * step.posterior.logvar.square().mean()
        return loss
'''


EXPECTED = {
    "none": ("done", ""),
    "negative logarithm": ("diverged", "NaN"),
    "zero by zero": ("diverged", "NaN"),
    "overflow": ("diverged", "exploding gradient"),
    "growth": ("diverged", "exploding gradient"),
    "latents": ("done", "collapsed latents"),
}


def test_each_fault_is_told_by_name(write_study: Write, tmp_path: Path) -> None:
    """In the record, in `status` and in the table's notes, with the trials."""
    folder = tmp_path / "components" / "loss"
    folder.mkdir(parents=True)
    (folder / "faulty.py").write_text(FAULTY)
    faults = ", ".join(EXPECTED)
    changed = ("l2: 1.0", "faulty: {weight: 1.0, fault: none}"), ("steps: 6", "steps: 40"), ("seeds: 2", "seeds: 1")
    study = load_study(write_study(*changed, ("  loss.kl: [1, 1e-4]", f"  loss.faulty.fault: [{faults}]")))
    store = Store(tmp_path / "runs")
    found = {}
    for trial in expand(study):
        run.run_trial(trial.order(), store, CPU, 1, lambda progress: None)
        record = store.stage(trial.signature).record()
        assert record, store.stage(trial.signature).failure()
        found[str(trial.treatment.levels["loss.faulty.fault"])] = (record.status, record.cause)
    assert found == EXPECTED
    plan = plan_study(study, store)
    assert count_statuses(plan)["causes"] == {"NaN": 2, "exploding gradient": 2, "collapsed latents": 1}
    notes = "\n".join(find_warnings(frame_of(plan), ["psnr"], {}))
    assert "diverged: NaN in fault=negative logarithm s0, fault=zero by zero s0" in notes, notes
    assert "diverged: exploding gradient in fault=overflow s0, fault=growth s0" in notes
    assert "finished, but with collapsed latents in fault=latents s0" in notes


DEAD = '''"""A patchgan that says the same of every picture."""

from ablate.components.discriminator import patchgan
from ablate.slots import DiscriminatorSettings


class Config(DiscriminatorSettings):
    """No settings."""


def build(config):
    return Dead(patchgan.Config(width=8, layers=2))


class Dead(patchgan.PatchGAN):
    def forward(self, x):
        return super().forward(x) * 0 + 0.5
'''


@pytest.mark.parametrize(("critic", "cause"), [("dead", "dead critic"), ("{level: patchgan, width: 8, layers: 2}", "")])
def test_a_critic_that_says_nothing(write_study: Write, tmp_path: Path, critic: str, cause: str) -> None:
    folder = tmp_path / "components" / "discriminator"
    folder.mkdir(parents=True)
    (folder / "dead.py").write_text(DEAD)
    losses = ("kl: 1e-4}", f"kl: 1e-4, adversarial: 0.1}}\n  discriminator: {critic}")
    trial = trial_of(write_study(losses, ("steps: 6", "steps: 12")))
    store = Store(tmp_path / "runs")
    assert run.run_trial(trial.order(), store, CPU, 1, lambda progress: None).status == "done"
    record = store.stage(trial.signature).record()
    assert record and record.cause == cause


SHAPES = {"pictures": (4, 3, 8, 8), "clips": (4, 3, 2, 8, 8), "one picture": (1, 3, 8, 8)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_signal_of_the_latents(shape: tuple[int, ...]) -> None:
    """Against its closed form: means of variance v in one channel, noise of variance n in all."""
    for variance, noise in [(4.0, 1.0), (0.0025, 1.0), (1e-6, 1e-12), (0.0, 1.0), (0.0, 0.0)]:
        mean = torch.zeros(shape)
        halves = mean if shape[0] == 1 else mean.transpose(0, 2)
        halves[:, 1, : halves.shape[2] // 2] = math.sqrt(variance)
        halves[:, 1, halves.shape[2] // 2 :] = -math.sqrt(variance)
        logvar = torch.full(shape, math.log(noise) if noise else -math.inf)
        expected = variance / (variance + noise) if variance else 0.0
        assert float(latent_signal(Posterior(mean, logvar))) == pytest.approx(expected, rel=1e-4)


def lines(**columns: list[float]) -> list[dict[str, float]]:
    names = {"norm": "train/grad_norm", "signal": "latent/signal", "share": "share/adversarial"}
    rows = zip(*columns.values(), strict=True)
    return [{names[name]: value for name, value in zip(columns, row, strict=True)} for row in rows]


FAULT = {"loss": math.nan, "grad_norm": math.nan, "peak": 1.2}


@pytest.mark.parametrize(
    ("log", "fault", "cause"),
    [
        (lines(norm=[1, 1, math.nan]), FAULT, "NaN"),
        (lines(norm=[1, 1, math.nan]), FAULT | {"peak": 5e3}, "exploding gradient"),
        (lines(norm=[1, 2, 1, 4e5, math.nan]), FAULT, "exploding gradient"),
        (lines(norm=[math.nan]), FAULT | {"grad_norm": math.inf}, "exploding gradient"),
        (lines(norm=[math.nan]), FAULT, "NaN"),
        (lines(norm=[1, 1, 1], share=[0.2, 0.0, 0.0]), None, "dead critic"),
        (lines(norm=[1, 1, 1], share=[0.0, 0.0, 0.1]), None, ""),
        (lines(norm=[1, 1, math.nan], share=[0.0, 0.0, math.nan]), FAULT, "dead critic"),
        (lines(norm=[1, 1, 1], signal=[0.9, 0.001, 0.002]), None, "collapsed latents"),
        (lines(norm=[1, 1, 1], signal=[0.001, 0.002, 0.5]), None, ""),
        (lines(norm=[1, 1, math.nan], signal=[0.001, 0.002, math.nan]), FAULT, "collapsed latents"),
        ([], None, ""),
    ],
)  # fmt: skip
def test_the_signs_of_a_log(log: list[dict[str, float]], fault: dict[str, float] | None, cause: str) -> None:
    assert find_cause(log, fault) == cause
