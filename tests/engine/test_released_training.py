"""Released VAEs trained further: every class of diffusers and both kinds of single files, killed and resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.engine import checkpoint
from ablate.plan.trials import Trial
from ablate.probing.export import export
from ablate.released.files import IMAGE_CLASSES, VIDEO_CLASSES
from ablate.released.load import load_released
from ablate.released.shape import DETERMINISTIC, shape_of
from ablate.store.folders import Store
from tests.support.ldm import ldm_tensors, model
from tests.support.released import SMALL, ltx_tensors, saved, write_ltx
from tests.support.studies import trial_of
from tests.support.training import assert_equal, run_to_end, run_until

STUDY = """\
study: further
question: Does a released VAE learn?
base:
  data: {data}
  model: {{level: released, path: {path}{more}}}
  loss: {loss}
design: list
treatments: [{{stages.train.lr: 1e-4}}]
seeds: 1
stages:
  - train: {{steps: 4, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 2, ema: 0.5{stage}}}
probes: [reconstruction]
primary: psnr
"""


def write(folder: Path, path: Path, *, loss: str = "", more: str = "", stage: str = "", frames: int = 0) -> Trial:
    """A trial of a study on a released VAE; clips of `frames` frames as few as it takes by default."""
    shape = shape_of(path)
    side = max(16, 2 * (shape.stride or 2))
    frames = frames or (1 + max(4, shape.clip_multiple) if shape.video else 1)
    pictures = f"{{level: leaves, crop: {side}, resize: none, heldout_size: {side}, heldout_count: 2, count: 8}}"
    clips = (
        f"{{level: moving_leaves, crop: {side}, size: {side}, resize: none, heldout_size: {side}, heldout_count: 2, "
        f"frames: {frames}, heldout_frames: {frames}, count: 4}}"
    )
    loss = loss or ("{l2: 1.0}" if shape.deterministic else "{l2: 1.0, kl: 1e-6}")
    data = clips if frames > 1 else pictures
    file = folder / "further.yaml"
    file.write_text(STUDY.format(data=data, path=path, loss=loss, more=more, stage=stage))
    return trial_of(file)


def start(name: str, folder: Path) -> Path:
    """A released VAE by its class, or by the layout of a single file."""
    if name == "LTX-2":
        return write_ltx(folder / "ltx.safetensors", ltx_tensors())
    if name == "LDM":
        file = folder / "ldm.safetensors"
        checkpoint.save_file(ldm_tensors(model()), file)
        return file
    saved(name, folder / "vae")
    return folder / "vae"


@pytest.mark.parametrize("name", [*SMALL, "LTX-2", "LDM"])
def test_each_learns_and_a_killed_run_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    path = start(name, tmp_path)
    trial = write(tmp_path, path)
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    trained = run_to_end(trial, whole)
    run_until(4, trial, cut)
    assert_equal(run_to_end(trial, cut), trained)

    # It began with the released weights, and the loss fell
    lines = whole.stage(trial.signature).read_steps()
    assert lines[-1]["train/l2"] < lines[0]["train/l2"]
    released = load_released(path).state_dict()
    weights = {weight.removeprefix("model."): tensor for weight, tensor in trained.items() if weight[:6] == "model."}
    assert weights.keys() == released.keys()
    moved = [weight for weight, tensor in weights.items() if not torch.equal(tensor, released[weight])]
    assert all((weights[weight] - released[weight]).abs().max() < 4 * 4e-3 for weight in moved), "4 steps of AdamW"
    assert len(moved) > len(released) / 3

    # diffusers loads what is exported, with the averaged weights
    assert export(trial.signature, whole, tmp_path / "out") <= 1e-6
    exported = load_released(tmp_path / "out").state_dict()
    averaged = weights | {weight[4:]: tensor for weight, tensor in trained.items() if weight[:4] == "ema."}
    assert all(torch.equal(tensor, averaged[weight]) for weight, tensor in exported.items())
    statistics = [weight for weight in released if "latents_" in weight]
    assert not {*statistics} & {*moved}, "statistics of the latents stay"


def test_all_classes_are_trained() -> None:
    assert {*SMALL} == {*IMAGE_CLASSES, *VIDEO_CLASSES} and {*DETERMINISTIC} < {*SMALL}


def parts_moved(trial: Trial, store: Store, path: Path) -> set[str]:
    """The parts, by the first two words of their names, whose weights training has changed."""
    trained: dict[str, Any] = run_to_end(trial, store)
    released = load_released(path).state_dict()
    return {
        ".".join(name.split(".")[1:3])
        for name, tensor in released.items()
        if not torch.equal(tensor, trained[f"model.{name}"])
    }


def test_the_decoder_alone_and_parts_of_the_model_are_trained(tmp_path: Path) -> None:
    path = start("AutoencoderKL", tmp_path)
    store = Store(tmp_path / "store")
    everything = parts_moved(write(tmp_path, path), store, path)
    assert {name.partition(".")[0] for name in everything} == {"encoder", "decoder", "quant_conv", "post_quant_conv"}
    frozen = parts_moved(write(tmp_path, path, stage=", freeze: encoder"), store, path)
    assert frozen == {name for name in everything if not name.startswith(("encoder", "quant_conv"))}
    held = ", freeze_parts: [encoder.conv_in, encoder.down_blocks, decoder.up_blocks]"
    partial = parts_moved(write(tmp_path, path, stage=held), store, path)
    assert partial == everything - {"encoder.conv_in", "encoder.down_blocks", "decoder.up_blocks"}


@pytest.mark.parametrize(
    ("name", "more"), [("AutoencoderKLWan", ", tiling: true"), ("AutoencoderKL", ", checkpointing: true")]
)
def test_tiles_and_checkpoints_of_activations_train(name: str, more: str, tmp_path: Path) -> None:
    path = start(name, tmp_path)
    plain, other = (Store(tmp_path / place) for place in ("plain", "other"))
    expected = run_to_end(write(tmp_path, path), plain)
    found = run_to_end(write(tmp_path, path, more=more), other)
    for weight, tensor in expected.items():
        if weight.startswith("model."):
            torch.testing.assert_close(found[weight], tensor, rtol=1e-3, atol=1e-3)


def test_a_discriminator_a_regularizer_and_a_perceptual_term_act_on_it(tmp_path: Path) -> None:
    path = start("AutoencoderKL", tmp_path)
    terms = "perceptual: {weight: 0.1, backbone: random_features}, adversarial: {weight: 0.1, mode: adaptive}"
    slots = "regularizer: {level: se, strength: 0.25}\n  discriminator: {level: patchgan, width: 8, layers: 1}"
    trial = write(tmp_path, path, loss=f"{{l2: 1.0, {terms}}}\n  {slots}")
    store = Store(tmp_path / "store")
    run_to_end(trial, store)
    line = store.stage(trial.signature).read_steps()[-1]
    assert all(line[f"share/{term}"] > 0 for term in ("l2", "perceptual", "adversarial", "regularizer"))
    assert line["train/adaptive"] > 0
