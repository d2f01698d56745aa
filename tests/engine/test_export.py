"""Trials written as folders of diffusers: what it loads has the trial's weights and reconstructs the same."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from ablate.adaptive.recall import plan_study
from ablate.driver.studies import write_card
from ablate.driver.trial import find_trial
from ablate.errors import UsageError
from ablate.plan.trials import expand
from ablate.probing import export as exporting
from ablate.probing.export import export
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import inside
from tests.support.released import saved
from tests.support.studies import Write, write_study
from tests.support.training import run_to_end

WEIGHTS = "diffusion_pytorch_model.safetensors"

RELEASED = (
    (
        "model: {level: image_kl, channels: [8, 8], latent_channels: 4, blocks: 1}",
        "model: {level: released, path: VAE}",
    ),
    ("  norm: {level: group, groups: 4}\n", ""),
    ("  padding: reflect\n", ""),
    ("checkpoint_every: 3}", "checkpoint_every: 3, freeze: encoder, latents: mean}"),
    ("{l2: 1.0, kl: 1e-4}", "{l2: 1.0}"),
    ("loss.kl: [1, 1e-4]", "padding: [zeros, reflect]"),
    ("seeds: 2", "seeds: 1"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a released VAE, and a store in which two trials have tuned its decoder."""
    root = tmp_path_factory.mktemp("export")
    saved("AutoencoderKL", root / "vae", scaling_factor=0.3, shift_factor=0.1)
    (root / "vae" / "README.md").write_text("---\nlicense: mit\ntags: [vae]\n---\n# A VAE\n")
    study = load_study(write_study(root, *RELEASED, ("path: VAE", f"path: {root / 'vae'}")))
    store = Store(root / "runs")
    for trial in expand(study):
        run_to_end(trial, store)
    write_card(plan_study(study, store))
    return root


def test_what_was_not_trained_is_bit_equal_and_the_rest_reconstructs_the_same(folder: Path) -> None:
    store = Store(folder / "runs")
    done = inside("export", "baseline s0", "--to", folder / "out", "--store", store.root)
    assert done.returncode == 0, done.stderr
    before, after = load_file(folder / "vae" / WEIGHTS), load_file(folder / "out" / WEIGHTS)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        is_frozen = name.startswith(("encoder", "quant_conv"))
        assert torch.equal(after[name], tensor) == is_frozen, name

    # The same as the trial's own model, and with its scaling of latents
    loaded = AutoencoderKL.from_pretrained(folder / "out").eval().requires_grad_(False)
    vae = exporting.load_vae(store.stage(find_trial("baseline s0", store)).checkpoint, torch.device("cpu"))
    x = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        y = loaded.decode(loaded.encode(x).latent_dist.mode()).sample
        torch.testing.assert_close(vae.decode(vae.encode(x).mean), y, rtol=0, atol=1e-6)
    assert (loaded.config.scaling_factor, loaded.config.shift_factor) == (0.3, 0.1)


def test_the_card_says_where_it_comes_from_and_how_good_it_is(folder: Path) -> None:
    store = Store(folder / "runs")
    signature = find_trial("baseline s0", store)
    export(signature, store, folder / "card")
    text = (folder / "card" / "README.md").read_text()
    record = store.stage(signature).record()
    assert record
    assert text.startswith("---\nlibrary_name: diffusers\nlicense: mit\n---\n")
    assert "Study: tiny at scale base: Does a strong KL weight cost PSNR?" in text
    assert f"baseline s0 (signature {signature})" in text and "licence mit" in text and '"freeze":"encoder"' in text
    assert f"| psnr | {record.metrics['psnr']:.6g} | dB |" in text


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_folder_and_files_have_the_mode_of_the_umask(folder: Path, umask: int) -> None:
    store, to = Store(folder / "runs"), folder / f"umask{umask}"
    before = os.umask(umask)
    try:
        export(find_trial("baseline s0", store), store, to)
    finally:
        os.umask(before)
    assert to.stat().st_mode & 0o777 == 0o777 & ~umask
    assert {file.stat().st_mode & 0o777 for file in to.iterdir()} == {0o666 & ~umask}


def test_a_padding_that_diffusers_lacks_a_used_folder_and_an_unknown_trial_are_refused(folder: Path) -> None:
    for trial, to, reason in (
        ("padding=reflect s0", "none", "padding 'reflect' has no counterpart in AutoencoderKL of diffusers"),
        ("baseline s0", "vae", "exists; name a new or an empty folder"),
        ("baselin s0", "none", "has no trial 'baselin s0'; did you mean 'baseline s0'?"),
    ):
        done = inside("export", trial, "--to", folder / to, "--store", folder / "runs")
        assert done.returncode == 2 and reason in done.stderr and len(done.stderr.strip().splitlines()) == 1, (
            done.stderr
        )
    assert not (folder / "none").exists()


def test_another_reconstruction_is_not_exported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = exporting.counterpart

    def worse(vae: Any, recipe: dict[str, Any]) -> Any:
        model = found(vae, recipe)
        model.decoder.conv_out.bias.data[0] += 1e-4
        model.save_pretrained(folder / "worse")
        model.decoder.conv_out.bias.data[0] -= 1e-4
        return AutoencoderKL.from_pretrained(folder / "worse")

    monkeypatch.setattr(exporting, "counterpart", worse)
    store = Store(folder / "runs")
    with pytest.raises(UsageError, match=r"reconstructions differ by up to 0\.0001 from"):
        export(find_trial("baseline s0", store), store, folder / "refused")
    assert not (folder / "refused").exists() and not [*folder.glob(".refused*")]


def test_an_image_kl_of_plain_levels_is_an_autoencoder_kl(write_study: Write, tmp_path: Path) -> None:
    plain = expand(load_study(write_study(("padding: reflect", "padding: zeros"), name="plain.yaml")))[0]
    other = expand(load_study(write_study(("norm: {level: group, groups: 4}", "norm: rms"))))[0]
    store = Store(tmp_path / "runs")
    for trial in (plain, other):
        run_to_end(trial, store)
    assert export(plain.signature, store, tmp_path / "out") <= 1e-6
    assert AutoencoderKL.from_pretrained(tmp_path / "out").config.block_out_channels == [8, 8]
    assert "Start: random weights (init scratch)" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(UsageError, match="has no counterpart of padding reflect, norm rms"):
        export(other.signature, store, tmp_path / "none")
