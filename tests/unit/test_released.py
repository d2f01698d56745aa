"""Released VAEs and our own checkpoints as autoencoders, and their scores on a folder of pictures.

Every class of diffusers that can be loaded is built small, with random weights, saved and loaded back.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ablate.engine import checkpoint
from ablate.plan.trials import expand
from ablate.probing.load import load_vae
from ablate.probing.reconstruct import evaluate
from ablate.released.files import IMAGE_CLASSES, VIDEO_CLASSES
from ablate.slots.training import LOGVAR_RANGE, Autoencoder, Posterior
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.released import SMALL, saved
from tests.support.studies import Write
from tests.support.training import run_to_end

diffusers = pytest.importorskip("diffusers")


CPU = torch.device("cpu")


def test_every_class_is_examined() -> None:
    assert set(SMALL) == {*IMAGE_CLASSES, *VIDEO_CLASSES}


@pytest.mark.parametrize("name", SMALL)
def test_the_round_trip_is_that_of_diffusers(name: str, tmp_path: Path) -> None:
    model = saved(name, tmp_path / "m")
    vae = load_vae(tmp_path / "m", CPU)
    x = torch.rand(2, 3, 64, 96) * 2 - 1
    video = name in VIDEO_CLASSES
    with torch.no_grad():
        found = model.encode(x.unsqueeze(2) if video else x)
        z = found.latent_dist.mode() if hasattr(found, "latent_dist") else found[0]
        y = model.decode(z).sample
        posterior = vae.encode(x)
        torch.testing.assert_close(vae.decode(posterior.mean), y.squeeze(2) if video else y, rtol=1e-5, atol=1e-5)
    assert (
        posterior.mean.shape == posterior.logvar.shape == (2, vae.latent_channels, 64 // vae.stride, 96 // vae.stride)
    )
    known = getattr(getattr(found, "latent_dist", None), "logvar", None)
    if known is None:
        assert (posterior.logvar == LOGVAR_RANGE[0]).all()
    else:
        torch.testing.assert_close(posterior.logvar, known.squeeze(2) if video else known, rtol=1e-5, atol=1e-5)
    assert not vae.training and not any(p.requires_grad for p in vae.parameters())
    with pytest.raises(ValueError, match=f"64 x 95 .* multiple of the stride {vae.stride}"):
        vae.encode(x[..., :95])


@pytest.mark.parametrize("name", VIDEO_CLASSES)
def test_the_middle_frame_of_a_clip_is_that_of_diffusers(name: str, tmp_path: Path) -> None:
    model = saved(name, tmp_path / "m")
    vae = load_vae(tmp_path / "m", CPU, frames=9)
    x = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        z = model.encode(torch.stack([x] * 9, 2)).latent_dist.mode()
        y = model.decode(z).sample
        posterior = vae.encode(x)
        torch.testing.assert_close(vae.decode(posterior.mean), y[:, :, 4], rtol=1e-5, atol=1e-5)
    assert z.shape[2] > 1
    assert posterior.mean.shape == (1, z.shape[1] * z.shape[2], *z.shape[3:])
    assert vae.latent_channels == posterior.mean.shape[1]


def test_clips_that_a_model_does_not_give_back_are_refused(tmp_path: Path) -> None:
    saved("AutoencoderKLWan", tmp_path / "video")
    saved("AutoencoderKL", tmp_path / "image")
    with pytest.raises(ValueError, match=r"AutoencoderKLWan cannot reconstruct a clip of 3 frames: .*come back as"):
        load_vae(tmp_path / "video", CPU, frames=3)
    with pytest.raises(ValueError, match="clips of 5 frames need a video autoencoder, and AutoencoderKL is not one"):
        load_vae(tmp_path / "image", CPU, frames=5)


def test_a_pipeline_folder_holds_its_vae(tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path / "pipeline" / "vae")
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    assert load_vae(tmp_path / "pipeline", CPU).stride == 2


def test_weights_of_half_precision_run_in_fp32(tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path / "m").half().save_pretrained(tmp_path / "m")
    assert {p.dtype for p in load_vae(tmp_path / "m", CPU).parameters()} == {torch.float32}


def test_other_than_rgb_is_refused(tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path / "m", in_channels=4, out_channels=4)
    with pytest.raises(ValueError, match=f"{tmp_path / 'm'}.* 4 channels, expected 3"):
        load_vae(tmp_path / "m", CPU)
    saved("AutoencoderKL", tmp_path / "n", out_channels=4)
    with pytest.raises(ValueError, match=r"gives \(1, 4, 128, 128\), expected \(1, 3, 128, 128\)"):
        load_vae(tmp_path / "n", CPU)


def test_channels_of_folded_patches_are_rgb(tmp_path: Path) -> None:
    saved("AutoencoderKLWan", tmp_path, in_channels=12, out_channels=12, patch_size=2, is_residual=True)
    assert load_vae(tmp_path, CPU).stride == 8


def test_a_decoder_that_needs_more_than_latents_is_refused(tmp_path: Path) -> None:
    saved("AutoencoderKLLTXVideo", tmp_path, timestep_conditioning=True)
    with pytest.raises(ValueError, match="AutoencoderKLLTXVideo is conditioned on a timestep"):
        load_vae(tmp_path, CPU)


def test_a_folder_that_is_no_autoencoder_is_refused(tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name, hint in (("UNet2DModel", "valid: "), ("AutoencoderKl", "did you mean 'AutoencoderKL'")):
        (tmp_path / "config.json").write_text(json.dumps({**config, "_class_name": name}))
        with pytest.raises(ValueError, match=rf"'{name}' is not an autoencoder.*{hint}"):
            load_vae(tmp_path, CPU)
    (tmp_path / "config.json").write_text('{"architectures": ["CosmosTokenizer"]}')
    (tmp_path / "encoder.jit").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is no VAE.*TorchScript, which is not loaded"):
        load_vae(tmp_path, CPU)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path).save_pretrained(tmp_path, safe_serialization=False)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    assert (tmp_path / "diffusion_pytorch_model.bin").is_file()
    with pytest.raises(ValueError, match="no safetensors weights"):
        load_vae(tmp_path, CPU)
    with pytest.raises(ValueError, match=r"only \.safetensors files are loaded, and \.ckpt and \.pt of LDM"):
        load_vae(tmp_path / "diffusion_pytorch_model.bin", CPU)


def test_weights_that_lack_tensors_are_refused(tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = checkpoint.load(file)
    del tensors["decoder.conv_out.weight"]
    checkpoint.save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 of AutoencoderKL's tensors, such as decoder\.conv_out\.weight"):
        load_vae(tmp_path, CPU)


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing is downloaded.*hf download"):
        load_vae(tmp_path / "owner" / "model", CPU)


def test_our_own_checkpoint_comes_back_with_its_averaged_weights(write_study: Write, tmp_path: Path) -> None:
    trial = expand(load_study(write_study(("steps: 6", "steps: 2"), ("checkpoint_every: 3", "checkpoint_every: 2"))))[0]
    store = Store(tmp_path / "store")
    run_to_end(trial, store)
    folder = store.stage(trial.signature)
    averaged = checkpoint.load(folder.checkpoint, "ema.")
    for path in (folder.root, folder.checkpoint):
        vae = load_vae(path, CPU)
        weights = vae.state_dict()
        assert averaged and all(torch.equal(weights[name], tensor) for name, tensor in averaged.items())
        assert vae.stride == 2 and not vae.training
    file = tmp_path / "other.safetensors"
    checkpoint.save_file(averaged, file)
    with pytest.raises(ValueError, match=r"not a checkpoint of ablate.*given by its folder"):
        load_vae(file, CPU)


class Posterize(Autoencoder):
    """Halves nothing and keeps 3 bits of each channel."""

    stride, latent_channels = 4, 3

    def encode(self, x: torch.Tensor) -> Posterior:
        return Posterior(x, torch.full_like(x, LOGVAR_RANGE[0]))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return (z * 4).round() / 4


def pictures(folder: Path) -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]]:
    """Pictures of mixed sizes and formats, one of them too small at 32 px and one file that is none."""
    rng = np.random.default_rng(0)
    sizes = {"a.png": (32, 32), "b/c.webp": (80, 48), "b/d.PNG": (33, 41), "small.png": (31, 64)}
    made = {}
    for name, (height, width) in sizes.items():
        ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] * 2
        made[name] = (ramp + rng.integers(0, 60, (height, width, 3))).clip(0, 255).astype(np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made[name]).save(folder / name, **({"lossless": True} if name.endswith("webp") else {}))
    (folder / "notes.txt").write_text("no picture")
    return made


def centre(image: Image.Image, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Short side to `size` by Pillow's bicubic, then the middle."""
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def test_scores_are_those_of_skimage(tmp_path: Path) -> None:
    made = pictures(tmp_path)
    scores = evaluate(Posterize(), tmp_path, 32, CPU, batch=2)
    assert scores.names == ("a.png", "b/c.webp", "b/d.PNG")
    assert scores.skipped == ("small.png",) and scores.n == 3
    psnr, ssim = [], []
    for name in scores.names:
        x = centre(Image.fromarray(made[name]), 32) / 255
        y = (np.round((x * 2 - 1) * 4) / 4 / 2 + 0.5).clip(0, 1)
        psnr.append(peak_signal_noise_ratio(x, y, data_range=1))
        ssim.append(
            structural_similarity(
                x, y, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
        )
    assert scores.per_image["psnr"] == pytest.approx(psnr, abs=1e-3)
    assert scores.per_image["ssim"] == pytest.approx(ssim, abs=1e-4)
    assert scores.psnr == pytest.approx(np.mean(psnr), abs=1e-3)
    assert scores.ssim == pytest.approx(np.mean(ssim), abs=1e-4)


def test_scores_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    pictures(tmp_path)
    one, three = (evaluate(Posterize(), tmp_path, 32, CPU, batch) for batch in (1, 3))
    assert one.names == three.names
    assert one.psnr == pytest.approx(three.psnr, abs=1e-5) and one.ssim == pytest.approx(three.ssim, abs=1e-6)


def test_pictures_of_no_use_are_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    with pytest.raises(ValueError, match="no pictures of at least 84 px; 4 smaller ones"):
        evaluate(Posterize(), tmp_path, 84, CPU, 1)
    with pytest.raises(ValueError, match="30 px do not fit the model: not a multiple of its stride 4"):
        evaluate(Posterize(), tmp_path, 30, CPU, 1)
    with pytest.raises(ValueError, match="there is no folder"):
        evaluate(Posterize(), tmp_path / "none", 32, CPU, 1)
    (tmp_path / "b" / "d.PNG").write_bytes((tmp_path / "b" / "d.PNG").read_bytes()[:900])
    with pytest.raises(ValueError, match=r"d\.PNG is not readable"):
        evaluate(Posterize(), tmp_path, 32, CPU, 1)
