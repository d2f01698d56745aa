"""Schedules of weights, stages that tune the decoder alone, learned noise of pixels, and what is examined when."""

import itertools
from pathlib import Path

import pytest
import torch

from ablate.adaptive.recall import plan_study
from ablate.driver import overview
from ablate.engine import checkpoint, run, train
from ablate.engine.loss_weights import WeightSchedule
from ablate.engine.state import TrainingState
from ablate.errors import StudyError
from ablate.plan.signatures import stage_signatures
from ablate.plan.trials import Trial, expand
from ablate.slots.training import Step
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.studies import Write, trial_of
from tests.support.training import CPU, assert_equal, parts_of, run_to_end, run_until

STAGE = "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}"


TUNE = (STAGE, STAGE + "\n  - tune: {steps: 4, batch: 2, lr: 3e-3, freeze: encoder, log_every: 2, checkpoint_every: 3}")


PERCEPTUAL = "kl: 1e-4, perceptual: {weight: 0.1, backbone: random_features}"


GAN = "\n  discriminator: {level: patchgan, width: 8, layers: 2"


def look(parts: train.TrainingParts) -> Step:
    x = torch.from_numpy(parts.corpus.heldout[:2]).float() / 127.5 - 1
    posterior = parts.vae.encode(x)
    return Step(x, parts.vae.decode(posterior.mean), posterior, posterior.mean, parts.discriminator)


def logged(trial: Trial, store: Store, name: str, stage: int = -1) -> list[int]:
    """The steps at which a number was logged."""
    return [line["step"] for line in store.stage(trial.signatures[stage]).read_steps() if name in line]


def test_decoder_tuning_leaves_the_latents_alone_to_the_last_bit(write_study: Write, tmp_path: Path) -> None:
    trial, store = trial_of(write_study(TUNE)), Store(tmp_path)
    after = run_to_end(trial, store)
    before = checkpoint.load(store.stage(trial.signatures[0]).checkpoint)
    encoder = [name for name in before if name.startswith(("ema.encoder.", "ema.quant_conv."))]
    decoder = [name for name in before if name.startswith(("ema.decoder.", "ema.post_quant_conv."))]
    assert len(encoder) + len(decoder) == sum(name.startswith("ema.") for name in before)
    for name in encoder:
        assert torch.equal(after[name], before[name]), name
        assert torch.equal(after[name.replace("ema.", "model.")], before[name]), "raw weights start from the average"
    assert not any(torch.equal(after[name], before[name]) for name in decoder if name.endswith("conv1.weight"))
    assert not any(name.startswith("optimizer.encoder") for name in after)
    losses = {name for line in store.stage(trial.signature).read_steps() for name in line}
    assert "train/l2" in losses and "train/kl" not in losses, "the KL says nothing to a decoder"


def test_a_stage_that_lets_its_latents_move_fails(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, store = trial_of(write_study(TUNE)), Store(tmp_path)
    steps = itertools.count()
    original = TrainingState.update_ema

    def leak(self: TrainingState, decay: float, step: int) -> None:
        original(self, decay, step)
        if next(steps) == 8:  # a stray write in the second stage
            next(iter(self.vae.encoding_parts[1].parameters())).data.add_(1e-3)

    monkeypatch.setattr(TrainingState, "update_ema", leak)
    for _ in range(2):  # the second time goes on from a checkpoint that holds the stray write
        result = run.run_trial(trial.order(), store, CPU, 1, lambda progress: None)
        assert result.status == "failed" and "latents have changed" in result.reason
    known = checkpoint.header(store.stage(trial.signature).checkpoint)
    assert known and known["step"] == 3


def test_a_killed_decoder_stage_goes_on_exactly_where_it_was(write_study: Write, tmp_path: Path) -> None:
    trial = trial_of(write_study(TUNE))
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    expected = run_to_end(trial, whole)

    run_until(10, trial, cut)  # the last line comes before the last checkpoint: that of step 9 is there
    found = run_to_end(trial, cut)
    assert_equal(found, expected)


def test_means_train_the_decoder_without_noise(write_study: Write, tmp_path: Path) -> None:
    sampled, mean = (
        trial_of(write_study((TUNE[0], text)))
        for text in (TUNE[1], TUNE[1].replace("freeze:", "latents: mean, freeze:"))
    )
    parts = parts_of(mean, tmp_path)
    for trial, same in ((sampled, False), (mean, True)):
        settings = trial.treatment.recipe.stages[1].settings
        found = train.forward(parts, settings, torch.zeros(1, 3, 16, 16), 0, "tune", 1)
        assert torch.equal(found.z, found.posterior.mean) == same
        assert not found.z.requires_grad and found.y.requires_grad


def test_a_stage_of_no_steps_is_absent(write_study: Write, tmp_path: Path) -> None:
    path = write_study(TUNE, ("loss.kl: [1, 1e-4]", "stages.tune.steps: [4, 0]"))
    trials = {trial.name: trial for trial in expand(load_study(path))}
    alone = trial_of(write_study(name="alone.yaml"))
    assert trials["steps=0 s0"].signatures == alone.signatures == trials["baseline s0"].signatures[:1]
    assert trials["steps=0 s0"].steps == 6


def test_terms_enter_at_their_step_and_rise(write_study: Write, tmp_path: Path) -> None:
    schedule = PERCEPTUAL.replace("1e-4", "{weight: 1, start: 1, ramp: 4}") + ", adversarial: {weight: 1, start: 4}}"
    trial = trial_of(write_study(("kl: 1e-4}", schedule + GAN + ", start: 2}")))
    parts, store = parts_of(trial, tmp_path), Store(tmp_path)
    raw = {name: term(look(parts)).item() for name, (_, term) in parts.terms.items()}
    for step, kl in ((1, 0.0), (2, 0.25), (3, 0.5), (5, 1.0), (9, 1.0)):
        losses, _ = train.weighted_losses(parts, look(parts), step, torch.zeros(()))
        assert ("kl" in losses) == (step > 1)
        assert losses.get("kl", torch.zeros(())).item() == pytest.approx(kl * raw["kl"], rel=1e-5)
        assert ("adversarial" in losses) == (step > 4)
    run_to_end(trial, store)
    assert logged(trial, store, "train/discriminator") == [4, 6], "it learns in steps 3 to 6"
    assert logged(trial, store, "train/adversarial") == [6], "the autoencoder plays in steps 5 and 6"
    lines = store.stage(trial.signature).read_steps()
    assert all(abs(line["train/loss"]) < 100 for line in lines)


def test_a_schedule_counts_the_steps_of_all_stages(write_study: Write, tmp_path: Path) -> None:
    two = (STAGE, STAGE + "\n  - more: {steps: 4, batch: 2, lr: 3e-3, log_every: 1}")
    trial = trial_of(write_study(two, ("kl: 1e-4}", "kl: {weight: 1, start: 8}}")))
    store = Store(tmp_path)
    run_to_end(trial, store)
    assert logged(trial, store, "train/kl", 0) == []
    assert logged(trial, store, "train/kl") == [3, 4]


def test_the_adaptive_weight_balances_the_gradients_of_the_last_layer(write_study: Write, tmp_path: Path) -> None:
    text = PERCEPTUAL + ", adversarial: {weight: 0.5, mode: adaptive}}" + GAN + "}"
    parts = parts_of(trial_of(write_study(("kl: 1e-4}", text))), tmp_path)
    losses, notes = train.weighted_losses(parts, look(parts), 1, torch.zeros(()))

    def gradient(*names: str) -> float:
        total = torch.stack([losses[name] for name in names]).sum()
        return float(torch.autograd.grad(total, parts.vae.last_weight, retain_graph=True)[0].norm())

    assert gradient("adversarial") == pytest.approx(0.5 * gradient("l2", "perceptual"), rel=1e-2)
    assert float(notes["adaptive"]) > 0
    clamped = parts.terms | {"adversarial": (WeightSchedule(0.5, clamp=1e-3), parts.terms["adversarial"][1])}
    parts.terms.update(clamped)
    assert float(train.weighted_losses(parts, look(parts), 1, torch.zeros(()))[1]["adaptive"]) == pytest.approx(1e-3)


def test_the_noise_of_pixels_is_learned_towards_its_closed_form(write_study: Write, tmp_path: Path) -> None:
    """The minimum of R / e^s + s over s is s = log R."""
    parts = parts_of(trial_of(write_study()), tmp_path)
    logvar = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.SGD([logvar], lr=0.5)
    seen = look(parts)
    for _ in range(200):
        losses, _ = train.weighted_losses(parts, seen, 1, logvar)
        (gradient,) = torch.autograd.grad(losses["l2"] + losses["logvar"], logvar)
        logvar.grad = gradient
        optimizer.step()
        seen = look(parts)
    assert logvar.item() == pytest.approx(float(parts.terms["l2"][1](seen).detach().log()), abs=1e-3)


def test_learned_noise_is_part_of_the_state(write_study: Write, tmp_path: Path) -> None:
    trial = trial_of(write_study(("log_every: 2", "learn_logvar: true, log_every: 2")))
    plain = trial_of(write_study(name="plain.yaml"))
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    expected = run_to_end(trial, whole)
    assert 0 < abs(float(expected["balance.logvar"])) <= 6 * 3e-3 * 1.01, "six steps of AdamW at 3e-3"
    run_until(4, trial, cut)
    found = run_to_end(trial, cut)
    assert_equal(found, expected)
    assert float(run_to_end(plain, whole)["balance.logvar"]) == 0
    assert logged(plain, whole, "train/logvar") == []


def test_raw_and_averaged_weights_are_both_examined(write_study: Write, tmp_path: Path) -> None:
    trial, store = trial_of(write_study()), Store(tmp_path)
    tensors = run_to_end(trial, store)
    record = store.stage(trial.signature).record()
    assert record and record.raw.keys() == record.metrics.keys() and record.raw["psnr"] != record.metrics["psnr"]
    parts = parts_of(trial, store.data)
    for prefix, expected in (("model.", record.raw), ("ema.", record.metrics)):
        weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        parts.vae.load_state_dict(weights, strict=False)
        with torch.no_grad():
            x = torch.from_numpy(parts.corpus.heldout).float() / 255
            y = (parts.vae.decode(parts.vae.encode(x * 2 - 1).mean) / 2 + 0.5).clamp(0, 1)
        psnr = -10 * (x - y).square().mean((1, 2, 3)).log10().mean()
        assert float(psnr) == pytest.approx(expected["psnr"], abs=1e-3)


def test_quick_probes_follow_the_training_and_change_nothing(write_study: Write, tmp_path: Path) -> None:
    probes = ("probes: [reconstruction]", "probes: [reconstruction, health]")
    plain = trial_of(write_study(probes))
    watched = trial_of(write_study(probes, ("log_every: 2", "probe_every: 3, log_every: 2")))
    assert watched.signatures == plain.signatures
    one, two = Store(tmp_path / "plain"), Store(tmp_path / "watched")
    expected, found = run_to_end(plain, one), run_to_end(watched, two)
    assert_equal(found, expected)
    assert logged(watched, two, "during/psnr") == [3, 6]
    assert logged(watched, two, "during/health/z_std") == [], "only the quick ones"
    last = two.stage(watched.signature).read_steps()[-1]
    record = two.stage(watched.signature).record()
    assert record and last["during/psnr"] == pytest.approx(record.metrics["psnr"], abs=1e-4), "all four pictures"


TWO = (STAGE, STAGE + "\n  - tune: {steps: 4, batch: 2, lr: 1e-3, log_every: 2}")


SHARED = (TWO[0], TWO[1].replace("train: {", "train: {regularize: false, "))


SE = ("loss: {l2: 1.0, kl: 1e-4}", "loss: {l2: 1.0, kl: 1e-4}\n  regularizer: {level: se, strength: 0}")


STRENGTHS = ("loss.kl: [1, 1e-4]", "regularizer.strength: [0, 0.25, 1]")


def test_strength_0_is_training_without_the_term_to_the_last_bit(write_study: Write, tmp_path: Path) -> None:
    with_term, without = (trial_of(write_study(SHARED, *more)) for more in ((SE,), ()))
    assert with_term.signatures == without.signatures, "the same work"
    assert with_term.treatment.recipe.parts["regularizer"].level == "se"
    found, expected = (
        run_to_end(trial, Store(tmp_path / name)) for trial, name in ((with_term, "se"), (without, "none"))
    )
    assert_equal(found, expected)


def test_trials_that_differ_in_the_regularizer_share_the_stage_without_it(write_study: Write, tmp_path: Path) -> None:
    trials = [trial for trial in expand(load_study(write_study(SHARED, SE, STRENGTHS))) if trial.seed == 0]
    assert len({trial.signatures[0] for trial in trials}) == 1
    assert len({trial.signatures[1] for trial in trials}) == len(trials) == 3
    strong, alone = trials[-1], Store(tmp_path / "alone")
    run_to_end(strong, alone)
    for trial in trials:
        run_to_end(trial, Store(tmp_path / "shared"))
    for mark in strong.signatures:  # of the shared stage another trial was the owner
        found, expected = (
            checkpoint.load(store.stage(mark).checkpoint) for store in (Store(tmp_path / "shared"), alone)
        )
        assert_equal(found, expected)
    assert logged(strong, alone, "train/regularizer", 0) == []
    assert logged(strong, alone, "train/regularizer", 1) == [2, 4]
    unshared = expand(load_study(write_study(TWO, SE, STRENGTHS)))
    assert len({trial.signatures[0] for trial in unshared if trial.seed == 0}) == 3


def test_a_regularizer_that_no_stage_has_is_refused(write_study: Write) -> None:
    never = (STAGE, STAGE.replace("{steps", "{regularize: false, steps"))
    with pytest.raises(StudyError, match="regularizer 'se' has no stage to act in: all have 'regularize: false'"):
        load_study(write_study(never, (SE[0], SE[1].replace("strength: 0", "strength: 1"))))
    assert load_study(write_study(never, SE)).baseline.stages


def test_the_study_of_strengths_trains_its_base_once_a_seed(tmp_path: Path) -> None:
    study = load_study(Path(__file__).parents[2] / "search_spaces" / "se_strength.yaml", "cpu")
    plan = overview.summarise(plan_study(study, Store(tmp_path)))
    assert plan["shared"] == {"base": {"runs": 3, "trials": 18}}
    assert (plan["planned_steps"], plan["distinct_steps"]) == (18 * 450, 3 * 300 + 18 * 150)
    without = study.recipe({"regularizer": "none"})
    control = stage_signatures(study.baseline, 0)
    assert stage_signatures(without, 0) == control, "strength 0 is the control that never had the term"
