"""Single files of LDM: diffusers' models under LDM's names come back whole, and no pickle runs code."""

import os
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ablate.probing.load import load_vae
from tests.support.ldm import ATTENTION, Tensors, beside, ldm_tensors, model

diffusers = pytest.importorskip("diffusers")


CPU = torch.device("cpu")


def round_trip(made: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        return x, made.decode(made.encode(x).latent_dist.mode()).sample


def test_names_are_those_of_stable_diffusion() -> None:
    """Some names of each kind, and what the converter of diffusers makes of all."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    made = model()
    tensors = ldm_tensors(made)
    converted = convert_ldm_vae_checkpoint(tensors, dict(made.config))
    assert all(torch.equal(converted[name], tensor) for name, tensor in made.state_dict().items())
    assert {
        "encoder.conv_in.weight", "encoder.down.0.block.1.norm1.weight", "encoder.down.1.block.0.nin_shortcut.weight",
        "encoder.down.1.downsample.conv.bias", "encoder.mid.attn_1.proj_out.weight", "encoder.norm_out.bias",
        "decoder.mid.block_2.conv2.weight", "decoder.up.0.block.2.conv1.bias", "decoder.up.2.upsample.conv.weight",
        "decoder.up.0.block.0.nin_shortcut.bias", "quant_conv.weight", "post_quant_conv.bias",
    } <= set(tensors)  # fmt: skip


@pytest.mark.parametrize(
    ("prefix", "changes"),
    [
        ("first_stage_model.", {}),
        ("", {"use_quant_conv": False, "use_post_quant_conv": False, "latent_channels": 16}),  # as in Flux
        ("vae.", ATTENTION),
        ("", {"mid_block_add_attention": False, "layers_per_block": 1}),
    ],
)
def test_the_round_trip_is_that_of_the_model(prefix: str, changes: dict[str, Any], tmp_path: Path) -> None:
    made = model(**changes)
    x, expected = round_trip(made)
    tensors = {**ldm_tensors(made, prefix), **beside()}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save({"state_dict": tensors, "global_step": 3, "epoch": 1}, tmp_path / "b.ckpt")
    torch.save(OrderedDict(tensors), tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "b.ckpt", "c.pt"):
        vae = load_vae(tmp_path / name, CPU)
        assert vae.stride == 4 and vae.latent_channels == made.config.latent_channels
        posterior = vae.encode(x)
        torch.testing.assert_close(vae.decode(posterior.mean), expected, rtol=1e-6, atol=1e-6)
        assert not vae.training and not any(p.requires_grad for p in vae.parameters())


def test_weights_of_half_precision_run_in_fp32(tmp_path: Path) -> None:
    made = model().half()
    save_file(ldm_tensors(made), tmp_path / "a.safetensors")
    vae = load_vae(tmp_path / "a.safetensors", CPU)
    x, expected = round_trip(made.float())
    torch.testing.assert_close(vae.decode(vae.encode(x).mean), expected, rtol=1e-6, atol=1e-6)


def test_pickles_that_need_code_are_refused_unopened(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    for found, named in ((Touch(), "mkdir"), (Fraction(1, 2), r"fractions\.Fraction")):
        torch.save({"state_dict": ldm_tensors(model()), "callbacks": found}, tmp_path / "a.ckpt")
        with pytest.raises(ValueError, match=rf"a\.ckpt: it needs code \(\S*{named}\) .*never run") as refusal:
            load_vae(tmp_path / "a.ckpt", CPU)
        assert "\n" not in str(refusal.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0, 0.001, 0.5, 0.999])
def test_a_file_cut_short_is_told_in_a_line(part: float, zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "a.ckpt"
    torch.save(ldm_tensors(model()), file, _use_new_zipfile_serialization=zipped)
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    with pytest.raises(ValueError, match=r"a\.ckpt: .*damaged") as refusal:
        load_vae(file, CPU)
    assert "\n" not in str(refusal.value)


def test_a_pickle_cut_anywhere_is_told_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "a.ckpt"
    torch.save(ldm_tensors(model()), file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    for length in range(1, 1000, 3):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.ckpt: .*(damaged|needs code)"):  # half a name is another one
            load_vae(file, CPU)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_files_that_are_no_pickles_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    for content in (b"no pickle at all", b"\xff" * 300, b"PK\x03\x04" + b"0" * 300):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.pt: .*damaged"):
            load_vae(file, CPU)
    script: Any = torch.jit.trace(torch.nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4))
    script.save(str(file))
    with pytest.raises(ValueError, match=r"a\.pt: .*TorchScript"):
        load_vae(file, CPU)
    for found in ([1, 2], {"weight": torch.zeros(2)}, {"state_dict": 3}):
        torch.save(found, file)
        with pytest.raises(ValueError, match=r"a\.pt: it holds no autoencoder in the layout of LDM"):
            load_vae(file, CPU)


def changed(change: Callable[[Tensors], Any]) -> Tensors:
    tensors = ldm_tensors(model())
    change(tensors)
    return tensors


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.update({"quantize.embedding.weight": torch.zeros(8, 3)}), r"a VQGAN .*quantize"),
        (lambda t: t.update({"encoder.down.1.block.0.conv_shortcut.bias": torch.zeros(1)}), "no .*conv_shortcut"),
        (lambda t: t.update({"encoder.down.0.block.2.conv1.weight": torch.zeros(32, 32, 3, 3)}), "not have .*Miss"),
        (lambda t: t.pop("decoder.up.1.block.2.conv2.bias"), "not have the layout.*Missing key"),
        (lambda t: t.pop("decoder.conv_in.weight"), r"lacks the tensor 'decoder\.conv_in\.weight'"),
        (lambda t: t.update({"quant_conv.weight": torch.zeros(8, 6, 1, 1)}), "not have the layout.*quant_conv"),
        (lambda t: t.update({"encoder.conv_in.weight": torch.zeros(32, 3, 3, 3, 3)}), "not those of an image model"),
    ],
)  # fmt: skip
def test_what_is_built_otherwise_is_refused(change: Callable[[Tensors], Any], reason: str, tmp_path: Path) -> None:
    for name, save in (("a.safetensors", save_file), ("a.ckpt", torch.save)):
        save(changed(change), tmp_path / name)
        with pytest.raises(ValueError, match=f"{tmp_path / name}: .*{reason}"):
            load_vae(tmp_path / name, CPU)


def test_channels_that_ldm_cannot_norm_are_refused(tmp_path: Path) -> None:
    """The number of groups is not in the weights, so it is not guessed."""
    save_file(ldm_tensors(model(block_out_channels=(8, 16, 32), norm_num_groups=8)), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"channels \[8, 16, 32\] are not all multiples of 32"):
        load_vae(tmp_path / "a.safetensors", CPU)
