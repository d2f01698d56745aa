"""`ablate probe` as a user meets it: released VAEs, our own, files of LTX-2; planted grids; bad input."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from skimage import data
from typer.testing import CliRunner, Result

from ablate.cli.main import app
from ablate.engine import checkpoint
from ablate.plan.trials import expand
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import ablate
from tests.support.ldm import beside, ldm_tensors, model
from tests.support.released import LTX23_VAE, identity, ltx_tensors, saved, write_ltx
from tests.support.studies import Write
from tests.support.training import run_to_end
from tests.support.video import ARMS, build, recipe

diffusers = pytest.importorskip("diffusers")


CLASSES = (
    "AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "AutoencoderKLKVAE", "AutoencoderKLFlux2",
    "AutoencoderKLWan", "AutoencoderKLLTXVideo", "AutoencoderKLHunyuanVideo",
)  # fmt: skip


GRID = "grid/const_fold4>0.25"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of 64 px, and one that is too small for that."""
    folder = tmp_path_factory.mktemp("photos")
    for i, picture in enumerate((data.astronaut()[:256, 100:356], data.chelsea()[:256, :256])):
        Image.fromarray(picture).resize((64, 64)).save(folder / f"{i}.png")
    Image.fromarray(data.coffee()[:40, :40]).save(folder / "small.png")
    return folder


@pytest.fixture
def probe(photos: Path) -> Callable[..., Result]:
    def probe(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, ["probe", *map(str, arguments), "--images", str(photos), "--size", "64"])

    return probe


Probe = Callable[..., Result]


def document(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def images(photos: Path) -> torch.Tensor:
    files = [np.asarray(Image.open(photos / f"{i}.png")) for i in (0, 1)]
    return torch.from_numpy(np.stack(files)).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("name", CLASSES)
def test_classes_of_diffusers_are_probed(name: str, probe: Probe, photos: Path, tmp_path: Path) -> None:
    """The PSNR is that of diffusers' own round trip."""
    model = saved(name, tmp_path / "m")
    x, video = images(photos), "Wan" in name or "Video" in name
    with torch.no_grad():
        found = model.encode((x * 2 - 1).unsqueeze(2) if video else x * 2 - 1)
        z = found.latent_dist.mode() if hasattr(found, "latent_dist") else found[0]
        y = model.decode(z).sample.reshape(x.shape) / 2 + 0.5
    psnr = -10 * (y.clamp(0, 1) - x).square().mean((1, 2, 3)).log10()
    answer = document(probe(tmp_path / "m", "--json", "--probes", "reconstruction,flatfield"))
    assert answer["metrics"]["psnr"] == pytest.approx(psnr.mean().item(), abs=1e-4)
    assert math.isfinite(answer["metrics"]["flatfield/legacy_offdc"])
    assert answer["model"] == name and answer["images"] == 2 and answer["failed"] == []


def test_a_planted_grid_is_found_and_nothing_else(probe: Probe, tmp_path: Path) -> None:
    probes = ("--probes", "reconstruction,color,grid,flatfield,blur,border")
    planted, clean = identity(tmp_path / "planted", grid=1), identity(tmp_path / "clean", grid=0)
    found = document(probe(planted, *probes, "--json"))["metrics"]
    assert found["grid/const_fold4"] == pytest.approx(1, rel=0.1)
    assert found["grid/nat_fold4"] == pytest.approx(1, rel=0.1)
    assert found["flatfield/period4"] == pytest.approx(1, rel=0.1)
    silent = ("grid/const_fold2", "flatfield/period2", "flatfield/period8", "flatfield/dc", "color/bias_norm",
              "border/excess_b4", "blur/edge_px")  # fmt: skip
    assert [found[name] for name in silent] == pytest.approx([0] * len(silent), abs=0.03)
    assert found["blur/mtf50"] == 0.5
    assert found["psnr"] == pytest.approx(20 * math.log10(255), abs=0.5)

    assert probe(planted, *probes, "--fail-if", GRID).exit_code == 1
    assert probe(clean, *probes, "--fail-if", GRID).exit_code == 0
    assert document(probe(clean, *probes, "--json"))["metrics"]["grid/const_fold4"] == pytest.approx(0, abs=1e-3)


def test_what_failed_is_told(probe: Probe, tmp_path: Path) -> None:
    planted = identity(tmp_path / "m", grid=1)
    conditions = ("--fail-if", GRID, "--fail-if", " grid/const_fold2 >= 0.25", "--fail-if", "grid/nat_fold4<=2")
    done = probe(planted, "--probes", "grid", "--json", *conditions)
    answer = json.loads(done.stdout)
    assert done.exit_code == 1
    assert answer["failed"] == [GRID, "grid/nat_fold4<=2"]
    assert {"checkpoint", "metrics", "failed", "model", "stride", "dtype", "padding_mode", "size"} <= set(answer)
    assert f"failed: {GRID} (1.0000)" in done.stderr and "left out: smaller than 64 px" in done.stderr
    table = probe(planted, "--probes", "grid").stdout
    assert "grid/const_fold4" in table and "1.000" in table and "AutoencoderKLLTX2Video: stride 4" in table


def test_a_metric_that_is_nan_fails_its_condition(probe: Probe, tmp_path: Path) -> None:
    model = saved("AutoencoderTiny", tmp_path / "m")
    with torch.no_grad():
        model.decoder.layers[-1].bias[0] = math.nan
    model.save_pretrained(tmp_path / "m")
    done = probe(tmp_path / "m", "--probes", "reconstruction", "--json", "--fail-if", "psnr<5")
    answer = json.loads(done.stdout)
    assert done.exit_code == 1 and answer["failed"] == ["psnr<5"] and answer["metrics"]["psnr"] is None
    assert "psnr<5 (nan)" in done.stderr


def test_the_sheet_is_a_picture(probe: Probe, tmp_path: Path) -> None:
    identity(tmp_path / "m", grid=1)
    assert probe(tmp_path / "m", "--probes", "flatfield", "--out", tmp_path / "new" / "out").exit_code == 0
    with Image.open(tmp_path / "new" / "out" / "probe.png") as sheet:
        assert sheet.size == (1600, 1000)
        colours = sheet.convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None and len(colours) > 1000, "photographs, curves and spectra, not an empty page"


def test_our_own_checkpoint_is_probed(probe: Probe, write_study: Write, tmp_path: Path) -> None:
    trial = expand(load_study(write_study(("steps: 6", "steps: 2"), ("checkpoint_every: 3", "checkpoint_every: 2"))))[0]
    store = Store(tmp_path / "store")
    run_to_end(trial, store)
    folder = store.stage(trial.signature).root
    answer = document(probe(folder, "--json", "--probes", "grid,droplet"))
    assert answer["model"] == "ablate" and answer["stride"] == 2
    assert "droplet/act_maxmed" in answer["metrics"]
    done = probe(folder, "--padding-mode", "reflect")
    assert done.exit_code == 2 and "in their recipe" in done.stderr


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_lower_precision_is_that_of_diffusers(dtype: str, probe: Probe, photos: Path, tmp_path: Path) -> None:
    model = saved("AutoencoderKL", tmp_path / "m").to({"bf16": torch.bfloat16, "fp16": torch.float16}[dtype])
    x = images(photos)
    with torch.no_grad():
        z = model.encode((x * 2 - 1).to(model.dtype)).latent_dist.mode()
        y = model.decode(z).sample.float() / 2 + 0.5
    psnr = -10 * (y.clamp(0, 1) - x).square().mean((1, 2, 3)).log10()
    exact, answer = (
        document(probe(tmp_path / "m", "--json", "--probes", "reconstruction", "--dtype", kind))
        for kind in ("fp32", dtype)
    )
    assert answer["dtype"] == dtype
    assert answer["metrics"]["psnr"] == pytest.approx(psnr.mean().item(), abs=0.01)
    assert answer["metrics"]["psnr"] != exact["metrics"]["psnr"]


def test_a_file_of_ltx_2_3_is_probed(probe: Probe, tmp_path: Path) -> None:
    file = write_ltx(tmp_path / "ltx23.safetensors", ltx_tensors())
    answer = document(probe(file, "--json", "--probes", "flatfield,reconstruction"))
    assert answer["model"] == "AutoencoderKLLTX2Video" and answer["stride"] == 32
    assert answer["latent_channels"] == LTX23_VAE["latent_channels"]
    assert math.isfinite(answer["metrics"]["flatfield/legacy_offdc"])


def test_a_file_of_ldm_is_probed_as_the_model_it_holds(probe: Probe, tmp_path: Path) -> None:
    made = model()
    made.save_pretrained(tmp_path / "m")
    torch.save({"state_dict": {**ldm_tensors(made, "first_stage_model."), **beside()}}, tmp_path / "m.ckpt")
    options = ("--json", "--probes", "reconstruction,border", "--padding-mode", "reflect")
    folder, file = (document(probe(path, *options)) for path in (tmp_path / "m", tmp_path / "m.ckpt"))
    assert file["model"] == "AutoencoderKL"
    assert file["metrics"] == pytest.approx(folder["metrics"], abs=1e-4)


def test_a_video_vae_is_probed_in_clips(probe: Probe, photos: Path, tmp_path: Path) -> None:
    """The PSNR is that of the middle frame, and every default probe takes the latents of a clip."""
    made = saved("AutoencoderKLWan", tmp_path / "m")
    x = images(photos)
    with torch.no_grad():
        y = made.decode(made.encode(torch.stack([x * 2 - 1] * 5, 2)).latent_dist.mode()).sample[:, :, 2] / 2 + 0.5
    psnr = -10 * (y.clamp(0, 1) - x).square().mean((1, 2, 3)).log10()
    answer = document(probe(tmp_path / "m", "--json", "--frames", "5"))
    assert answer["frames"] == 5 and answer["latent_channels"] == 3 * made.config.z_dim
    assert answer["metrics"]["psnr"] == pytest.approx(psnr.mean().item(), abs=1e-4)
    assert_refused(probe(tmp_path / "m", "--frames", "4"), "cannot reconstruct a clip of 4 frames")


def test_our_own_video_vae_is_probed_in_clips(probe: Probe, photos: Path, tmp_path: Path) -> None:
    made = build(dtype=torch.float32, **ARMS["D"])
    file = tmp_path / "checkpoint.safetensors"
    weights = {f"model.{name}": weight for name, weight in made.state_dict().items()}
    checkpoint.save(file, weights, {"settings": recipe(**ARMS["D"])})
    x = images(photos)
    with torch.no_grad():
        y = made.decode(made.encode(torch.stack([x * 2 - 1] * 9, 2)).mean)[:, :, 4] / 2 + 0.5
    psnr = -10 * (y.clamp(0, 1) - x).square().mean((1, 2, 3)).log10()
    answer = document(probe(file, "--json", "--frames", "9", "--out", tmp_path))
    assert answer["frames"] == 9 and answer["metrics"]["psnr"] == pytest.approx(psnr.mean().item(), abs=1e-4)
    assert "flatfield/legacy_offdc" in answer["metrics"]
    assert_refused(probe(file, "--frames", "7"), "clips have 1 + 4 k frames, found 7; the nearest are 5 or 9")


def assert_refused(done: Result, *words: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr that holds the words, beside what is said of pictures."""
    assert done.exit_code == 2 and done.stdout == ""
    lines = [line for line in done.stderr.strip().splitlines() if "left out" not in line]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in lines[0]


def test_conditions_that_are_not_understood_are_refused(probe: Probe, tmp_path: Path) -> None:
    identity(tmp_path / "m", grid=0)
    assert_refused(
        probe(tmp_path / "m", "--fail-if", "grid/const_fol4>0.25"), "no metric 'grid/const_fol4'", "grid/const_fold4"
    )
    assert_refused(probe(tmp_path / "m", "--fail-if", "grid/const_fold4=0.25"), "expected METRIC>NUMBER")
    assert_refused(probe(tmp_path / "m", "--fail-if", "grid/const_fold4>much"), "expected METRIC>NUMBER")
    assert_refused(probe(tmp_path / "m", "--fail-if", "psnr>nan"), "nothing compares with NaN")
    only_grid = ("--probes", "grid", "--fail-if")
    assert_refused(
        probe(tmp_path / "m", *only_grid, "grid/const_fold32>0"), "not measured on this model", "if the stride is"
    )
    assert_refused(probe(tmp_path / "m", *only_grid, "psnr<30"), "no metric 'psnr'")


def test_options_that_are_not_understood_are_refused(probe: Probe, tmp_path: Path) -> None:
    identity(tmp_path / "m", grid=0)
    assert_refused(
        probe(tmp_path / "m", "--probes", "grid,colour"), "--probes: unknown 'colour'; did you mean 'color'?"
    )
    assert_refused(probe(tmp_path / "m", "--dtype", "fp8"), "--dtype: unknown 'fp8'")
    assert_refused(probe(tmp_path / "m", "--set", "probes.grid.side=8"), "unknown setting 'side' of probe 'grid'")
    assert_refused(probe(tmp_path / "m", "--padding-mode", "mirror"), "--padding-mode: unknown 'mirror'")
    sized = CliRunner().invoke(app, ["probe", str(tmp_path / "m"), "--size", "66"])
    assert_refused(sized, "--size 66 is not a multiple of the model's stride 4")
    (tmp_path / "file").write_text("")
    assert_refused(probe(tmp_path / "m", "--probes", "flatfield", "--out", tmp_path / "file"), "file")
    (tmp_path / "none").mkdir()
    assert_refused(
        CliRunner().invoke(app, ["probe", str(tmp_path / "m"), "--images", str(tmp_path / "none")]), "no pictures"
    )


def test_checkpoints_that_are_no_vae_are_refused(probe: Probe, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    saved("AutoencoderTiny", folder)
    config, weights = folder / "config.json", folder / "diffusion_pytorch_model.safetensors"
    text, bytes_ = config.read_text(), weights.read_bytes()

    assert_refused(probe(tmp_path / "nowhere"), "there is no file or folder", "nothing is downloaded")
    for name, words in (("UNet2DModel", "valid: Asymm"), ("AutoencoderTinny", "did you mean 'AutoencoderTiny'")):
        config.write_text(text.replace("AutoencoderTiny", name))
        assert_refused(probe(folder), f"'{name}' is not an autoencoder", words)
    config.write_text("{")
    assert_refused(probe(folder), "config.json is no JSON object")
    config.unlink()
    assert_refused(probe(folder), "is no VAE", "config.json")
    config.write_text(text)
    for damaged in (bytes_[: len(bytes_) // 2], b"\xff" * 100):
        weights.write_bytes(damaged)
        assert_refused(probe(folder), str(folder), "safetensors")
    weights.unlink()
    assert_refused(probe(folder), "no safetensors weights")
    config.write_text(text.replace('"out_channels": 3', '"out_channels": 4'))
    weights.write_bytes(bytes_)
    assert_refused(probe(folder), "decoder.layers.6.weight has shape", "but config.json asks for")
    saved("AutoencoderKL", tmp_path / "rgba", in_channels=4, out_channels=4)
    assert_refused(probe(tmp_path / "rgba"), "4 channels, expected 3")


def test_single_files_that_are_no_vae_are_refused(probe: Probe, tmp_path: Path) -> None:
    names = ("model.bin", "model.ckpt", "cut.safetensors", "other.safetensors")
    pickled, ldm, cut, other = (tmp_path / name for name in names)
    torch.save({"weight": torch.zeros(2)}, pickled)
    assert_refused(probe(pickled), "only .safetensors files are loaded", "may hold code")
    torch.save({"weight": torch.zeros(2)}, ldm)
    assert_refused(probe(ldm), "no autoencoder in the layout of LDM")
    torch.save({"weight": torch.zeros(2), "callback": Path}, ldm)
    assert_refused(probe(ldm), "it needs code", "never run")
    ldm.write_bytes(ldm.read_bytes()[:300])
    assert_refused(probe(ldm), "damaged, cut short")
    whole = write_ltx(tmp_path / "whole.safetensors", ltx_tensors()).read_bytes()
    for length in (4, 1000, len(whole) - 10):
        cut.write_bytes(whole[:length])
        assert_refused(probe(cut), "it is damaged")
    checkpoint.save_file({"weight": torch.zeros(2)}, other)
    assert_refused(probe(other), "not a checkpoint of ablate", "by its folder")


def test_means_over_enough_pictures_have_intervals(tmp_path: Path) -> None:
    """Against SciPy's bootstrap of PSNR by diffusers' own round trip; 28 pictures, as many as there are flat fields."""
    net, rng = saved("AutoencoderTiny", tmp_path / "m"), np.random.default_rng(0)
    pixels = [data.astronaut()[y : y + 64, x : x + 64] for y, x in rng.integers(0, 448, (28, 2))]
    for count in (28, 12):
        (tmp_path / str(count)).mkdir()
        for i, picture in enumerate(pixels[:count]):
            Image.fromarray(picture).save(tmp_path / str(count) / f"{i:02}.png")
    asked = ["probe", str(tmp_path / "m"), "--probes", "reconstruction,flatfield", "--size", "64", "--images"]
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        y = net.decode(net.encode(2 * x - 1).latents).sample.clamp(-1, 1) / 2 + 0.5
    psnr = -10 * ((x - y) ** 2).mean((1, 2, 3)).log10().numpy()
    expected = scipy.stats.bootstrap((psnr,), np.mean, method="percentile", n_resamples=9999, rng=0).confidence_interval
    many = document(CliRunner().invoke(app, [*asked, str(tmp_path / "28"), "--json"]))
    assert many["intervals"]["psnr"] == pytest.approx(expected, abs=0.1 * float(np.ptp(expected)))
    assert many["intervals"].keys() <= many["metrics"].keys() and not any("flat" in key for key in many["intervals"])
    assert document(CliRunner().invoke(app, [*asked, str(tmp_path / "12"), "--json"]))["intervals"] == {}
    said = CliRunner().invoke(app, [*asked, str(tmp_path / "28")]).stdout
    assert "95 % CI" in said and "what other pictures would give, not another seed" in said


def test_the_held_out_photographs_are_the_default(tmp_path: Path) -> None:
    """In a process of its own, as on a machine without a store."""
    saved("AutoencoderTiny", tmp_path / "m")
    done = ablate("probe", "m", "--probes", "reconstruction", "--size", "64", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["images"] == 16 and answer["checkpoint"] == "m"
    assert [path.name for path in tmp_path.iterdir()] == ["m"], "nothing is left behind"
