"""Stages with parts of their own: an image VAE, a video model that starts from it, and what does not fit together."""

import math
import re
from pathlib import Path

import pytest
import torch

from ablate.adaptive.recall import plan_study
from ablate.components.data import _shots
from ablate.data.prepare import prepare
from ablate.driver import overview
from ablate.engine import checkpoint, measure, run
from ablate.engine.build import build_model, build_parts, split_level
from ablate.errors import StudyError
from ablate.plan.trials import Trial, expand
from ablate.store.folders import Store
from ablate.study.shipped import locate
from ablate.study.study import load_study
from tests.support.studies import Write

STUDY = """\
study: clips
question: Do grouped convolutions help?
base:
  data: {level: moving_leaves, crop: 8, size: 12, resize_to: 12, heldout_size: 12, frames: 5,
    count: 6, heldout_count: 3}
  model: {level: video_kl, channels: [8, 16, 16], latent_channels: 4, blocks: 1}
  norm: rms
  loss: {l2: 1.0, kl: 1e-6}
  init: inflate
factors:
  temporal_conv: [causal, grouped]
  branch: [single, ktc]
design: grid
seeds: 1
stages:
  - image: {steps: 4, batch: 4, lr: 3e-3, data: {frames: 1}, model: {image: true}, temporal_conv: causal, init: scratch}
  - video: {steps: 3, batch: 2, lr: 2e-3}
probes: [reconstruction]
primary: psnr
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def with_changes(*replacements: tuple[str, str]) -> Path:
        text = STUDY
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "clips.yaml"
        path.write_text(text)
        return path

    return with_changes


def trials(path: Path) -> dict[str, Trial]:
    return {trial.treatment.label: trial for trial in expand(load_study(path))}


def test_image_stages_are_shared_by_what_they_do_not_differ_in(write: Write, tmp_path: Path) -> None:
    found = trials(write())
    first = {label: trial.signatures[0] for label, trial in found.items()}
    assert first["baseline"] == first["temporal_conv=grouped"] != first["branch=ktc"]
    assert first["branch=ktc"] == first["temporal_conv=grouped branch=ktc"]
    assert len({trial.signature for trial in found.values()}) == 4
    plan = overview.summarise(plan_study(load_study(write()), Store(tmp_path)))
    assert (plan["planned_steps"], plan["distinct_steps"]) == (4 * 7, 2 * 4 + 4 * 3)


def test_paths_lead_into_the_parts_of_a_stage(write: Write) -> None:
    path = write(
        ("  branch: [single, ktc]\n", "  stages.image.model.latent_channels: [4, 2]\n  model.blocks: [1, 2]\n"),
        ("seeds: 1", "scales: {cpu: {stages.image.data.heldout_count: 2, stages.image.loss.kl: 1e-3}}\nseeds: 1"),
    )
    found = trials(path)
    both = found["latent_channels=2 blocks=2"].treatment.recipe
    image = both.at("image")
    assert (image.value("model.latent_channels"), both.value("model.latent_channels")) == (2, 4)
    assert image.value("model.blocks") == both.value("model.blocks") == 2, "what a stage does not name is the base's"
    assert (image.value("data.heldout_count"), both.value("data.heldout_count")) == (2, 3)
    assert (image.value("loss.kl"), both.value("loss.kl"), image.value("loss.l2")) == (1e-3, 1e-6, 1.0)
    plain = both.plain()
    assert plain["stages"][0]["model"]["image"] and not plain["model"]["image"] and "model" not in plain["stages"][1]


def test_a_video_model_trains_from_its_image_vae(write: Write, tmp_path: Path) -> None:
    """The order of a worker, whole; then the first weights of the video stage are those of the inflated average."""
    trial, store = trials(write())["temporal_conv=grouped branch=ktc"], Store(tmp_path / "runs")
    result = run.run_trial(trial.order(), store, torch.device("cpu"), 1, lambda progress: None)
    assert result.status == "done", store.stage(trial.signature).error.read_text()
    record = store.stage(trial.signature).record()
    assert record and record.steps == 7 and record.flops > 0 and record.metrics["psnr"] > 0
    assert {"temporal_conv/grouped", "temporal_conv/causal", "init/scratch", "init/inflate"} <= {
        *record.code["components"]
    }
    image, video = (store.stage(mark).checkpoint for mark in trial.signatures)
    assert checkpoint.load(image, "ema.")["encoder.conv_in.weight"].shape == (4, 3, 3, 3)
    assert checkpoint.load(video, "ema.")["encoder.conv_in.temporal.weight"].shape == (4, 3, 3, 3, 3)
    header = checkpoint.header(image)
    assert header and header["settings"]["model"]["image"], "the image VAE can be built from its own checkpoint"
    build_model(header["settings"]).load_state_dict(checkpoint.load(image, "model."))

    order = trial.order()
    corpus = prepare(*split_level(order["recipe"]["data"]), store.data)
    saved = checkpoint.read(image)
    assert saved
    parts = build_parts(order, corpus, torch.device("cpu"), (header["settings"], saved))
    averaged = checkpoint.load(image, "ema.")["encoder.conv_in.weight"]
    assert torch.equal(parts.vae.state_dict()["encoder.conv_in.spatial.weight"], averaged)


def test_a_stage_of_adversarial_training_goes_on_from_the_clips(write: Write, tmp_path: Path) -> None:
    """No inflation this time: the network is the same, so that its optimiser goes on too; the critic is new."""
    losses = "loss: {adversarial: 0.05, perceptual: {weight: 0.1, backbone: random_features}}"
    gan = f"{{steps: 2, batch: 2, lr: 1e-3, {losses}, discriminator: {{clips: true, width: 4, layers: 1}}}}"
    video = "  - video: {steps: 3, batch: 2, lr: 2e-3}\n"
    path = write((video, f"{video}  - gan: {gan}\n  - tune: {{steps: 1, batch: 2, lr: 1e-4, freeze: encoder}}\n"))
    trial, store = trials(path)["temporal_conv=grouped branch=ktc"], Store(tmp_path / "runs")
    result = run.run_trial(trial.order(), store, torch.device("cpu"), 1, lambda progress: None)
    assert result.status == "done", store.stage(trial.signature).error.read_text()
    files = [store.stage(mark).checkpoint for mark in trial.signatures]
    assert [bool(checkpoint.load(file, "discriminator.")) for file in files] == [False, False, True, False]
    steps = [checkpoint.load(file, "optimizer.")["decoder.conv_in.weight/step"] for file in files]
    assert [int(step) for step in steps] == [4, 3, 5, 6], "inflated weights begin anew, those of one network go on"
    lines = store.stage(trial.signatures[2]).read_steps()
    assert {"train/adversarial", "train/perceptual", "train/discriminator"} <= {name for line in lines for name in line}


def test_a_video_model_trains_and_is_probed_on_real_clips(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two shots, to be quick. Every metric is reported, except along motion that is not known."""
    monkeypatch.setitem(_shots.SHOTS, "train", [("bikes.mp4", 0, 30)])
    monkeypatch.setitem(_shots.SHOTS, "heldout", [("bikes.mp4", 76, 137)])
    drawn = STUDY[STUDY.index("{level: moving_leaves") : STUDY.index("\n  model")]
    real = "{level: clips, crop: 8, resize_to: 32, heldout_size: 16, frames: 5, heldout_frames: 16, heldout_count: 10}"
    path = write(
        (drawn, real),
        ("probes: [reconstruction]", "probes: [clip, balance, flicker, motion]"),
        ("psnr", "clip/psnr_rest"),
    )
    trial, store = trials(path)["baseline"], Store(tmp_path / "runs")
    result = run.run_trial(trial.order(), store, torch.device("cpu"), 1, lambda progress: None)
    assert result.status == "done", store.stage(trial.signature).error.read_text()
    record = store.stage(trial.signature).record()
    assert record and "data/clips" in record.content
    assert {*load_study(path).metrics} - {*record.metrics} == {"flicker/warp", "flicker/warp_plain"}
    assert all(math.isfinite(value) for value in record.metrics.values())
    assert 0.1 < record.metrics["motion/speed"] < 7 and record.metrics["flicker/matched"] > 0


@pytest.mark.parametrize("name", ["iv_vae_ablation", "iv_vae_cache", "iv_vae_init", "iv_vae_matched"])
def test_every_study_of_iv_vae_names_the_command_for_real_clips(name: str) -> None:
    for scale in ("cpu", "gpu"):
        study = load_study(Path(name), scale, real_clips(name))
        data = {trial.treatment.recipe.parts["data"].level for trial in expand(study)}
        assert data == {"clips"}
        study.recipe({}).parts["data"].settings.preflight()
        drawn = {trial.signature for trial in expand(load_study(Path(name), scale))}
        assert not drawn & {trial.signature for trial in expand(study)}


def real_clips(name: str) -> list[str]:
    """What `--set` is given in the commands at the top of a shipped study."""
    return re.findall(r"^#   ablate sweep .* --set '(.*)'", locate(Path(name)).read_text(), re.MULTILINE)


def problems(path: Path) -> list[str]:
    with pytest.raises(StudyError) as error:
        expand(load_study(path))
    return [f"{problem.line}: {problem.message}" for problem in error.value.problems]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("frames: 5", "frames: 6", "4: data 'moving_leaves': frames must be 1 + 4k, found 6; the nearest are 5 and 9"),
        ("blocks: 1}", "blocks: 1, halve_time: 1}", "init 'inflate' cannot fill it: groups of 2 frames have no F3"),
        ("norm: rms", "norm: scn", "7: model 'video_kl' works with norms rms, rms_joint, group, found 'scn'"),
        (
            "latent_channels: 4, blocks",
            "latent_channels: 3, blocks",
            "latent_channels must be multiples of 2 with branch 'ktc', found 3",
        ),
        ("[8, 16, 16]", "[8, 18, 16]", "channels must be multiples of 4 with branch 'ktc', found 18"),
        (
            "init: inflate",
            "init: scratch",
            "16: stage 'video' has another model than 'image' before it and can take",
        ),
        ("image: true", "image: true, latent_channels: 8", "latent_channels is 8 in the image VAE and 4 after it"),
        ("image: true", "image: true, channels: [8, 8, 8]", "channels differs: (8, 8, 8) in the image VAE"),
        ("image: true", "image: true, width: 0.5", "width differs: 0.5 in the image VAE, 1.0 after it"),
        ("init: scratch", "init: scratch, norm: rms_joint", "norm is 'rms_joint' in the image VAE and 'rms' after it"),
        ("image: true", "image: true, patch: 2", "16: unknown setting 'patch' of model 'video_kl'"),
        ("data: {frames: 1}", "data: {frames: 3}", "16: data 'moving_leaves': frames must be 1 + 4k, found 3"),
        ("lr: 2e-3}", "lr: 2e-3, model: {blocks: 2}}", "17: the last stage is examined, so its model must be that of"),
        (
            "lr: 2e-3}",
            "lr: 2e-3, loss: {adversarial: 0.1}, discriminator: {layers: 1}}",
            "17: discriminator 'patchgan' judges pictures, found data.frames 5",
        ),
        ("video_kl, channels", "image_kl, channels", "4: model 'image_kl' takes pictures, found clips of 5 frames"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_starts(write: Write, old: str, new: str, expected: str) -> None:
    changes = [(old, new)]
    if "image_kl" in new:
        changes += [
            ("model: {image: true}, ", ""),
            ("  temporal_conv: [causal, grouped]\n", "  model.blocks: [1, 2]\n"),
        ]
    found = problems(write(*changes))
    assert any(expected in problem for problem in found), found


def test_stages_with_parts_of_their_own_are_measured_as_what_they_are(write: Write, tmp_path: Path) -> None:
    """Two image stages and four video stages, each by a few steps of its own network."""
    study, store, said = load_study(write()), Store(tmp_path / "runs"), list[str]()
    summary = overview.summarise(plan_study(study, store), lambda kinds: measure.measure(kinds, store, 1, said.append))
    assert [sum(f"'{stage}'" in line for line in said) for stage in ("image", "video")] == [2, 4]
    assert summary["estimate_s"] > 0 and summary["disk_bytes"] > 0
