"""What needs a CUDA device: the same trial there, and a stop and a resume."""

from pathlib import Path

import pytest
import torch

from ablate.engine import checkpoint
from ablate.engine.build import move_to
from ablate.store.folders import Store
from tests.support import video
from tests.support.studies import Write, trial_of
from tests.support.training import run_to_end, run_until

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trial_on_the_gpu_agrees_with_the_cpu(write_study: Write, tmp_path: Path, precision: str) -> None:
    trial = trial_of(write_study(("lr: 3e-3", f"lr: 3e-3, precision: {precision}")))
    found = {}
    for device in ("cpu", "cuda"):
        store = Store(tmp_path / device)
        run_to_end(trial, store, device=torch.device(device))
        record = store.stage(trial.signature).record()
        assert record
        found[device] = record.metrics["psnr"]
    # the noise comes from the device's own generator, so the two runs agree in quality, not in bits
    assert found["cuda"] == pytest.approx(found["cpu"], abs=1.0)


def test_a_resumed_trial_on_the_gpu_ends_with_the_same_weights(write_study: Write, tmp_path: Path) -> None:
    trial = trial_of(write_study())
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    cuda = torch.device("cuda")
    run_to_end(trial, whole, device=cuda)
    run_until(4, trial, cut, cuda)
    run_to_end(trial, cut, device=cuda)
    one, two = (checkpoint.load(store.stage(trial.signature).checkpoint, "model.") for store in (whole, cut))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4)


def test_clips_on_the_gpu_are_encoded_as_on_the_cpu() -> None:
    vae, x = video.build(dtype=torch.float32, **video.ARMS["E"]), video.clip(9, side=32, dtype=torch.float32)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        expected = vae.decode(vae.encode(x).mean)
        move_to(vae, torch.device("cuda"))
        assert vae.encoder.conv_in.temporal.weight.is_contiguous(memory_format=torch.channels_last_3d)
        found = vae.decode(vae.encode(x.cuda()).mean)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)


def test_the_downstream_probe_on_the_gpu_repeats_itself_and_agrees_with_the_cpu(
    write_study: Write, tmp_path: Path
) -> None:
    probes = (
        ("probes: [reconstruction]", "probes: [{level: diffusability, samples: 256}]"),
        ("primary: psnr", "primary: diff/fd"),
    )
    trial = trial_of(write_study(*probes))
    found = []
    for name, device in (("cpu", "cpu"), ("once", "cuda"), ("again", "cuda")):
        store = Store(tmp_path / name)
        run_to_end(trial, store, device=torch.device(device))
        record = store.stage(trial.signature).record()
        assert record
        found.append(record.metrics)
    assert found[1] == found[2], "no sum is in another order the second time"
    assert found[1]["diff/fd_floor"] == pytest.approx(found[0]["diff/fd_floor"], rel=0.01)
