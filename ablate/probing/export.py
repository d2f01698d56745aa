"""Writes a trained VAE as a folder that diffusers loads, and only where it then reconstructs the same.

A model of the level `released` becomes its own class of diffusers. One of `image_kl` becomes an `AutoencoderKL`, whose
names of weights and arithmetic it has, if every level is one that this class has, too.
"""

import shutil
from pathlib import Path
from typing import Any

import torch

from ablate.engine import checkpoint
from ablate.errors import UsageError
from ablate.probing.load import load_vae
from ablate.probing.model_card import Card
from ablate.released.vae import Released
from ablate.slots.training import Autoencoder
from ablate.store.files import local
from ablate.store.folders import Store
from ablate.store.scratch import mark

TOLERANCE = 1e-6
"""The largest difference of two reconstructions, in units of pixels in [-1, 1], that counts as none."""


PLAIN: dict[str, Any] = {
    "model.patch": 1, "model.activation": "silu", "padding.level": "zeros", "norm.level": "group",
    "upsample.level": "nearest_conv", "downsample.level": "strided_conv",
}  # fmt: skip
"""Settings of an `image_kl` that is an `AutoencoderKL`."""


def export(signature: str, store: Store, to: Path) -> float:
    """Write the averaged weights of a trial as a diffusers folder with a model card.

    Gives the largest difference between reconstructions of the folder, loaded by diffusers, and of the trial's model.
    Raises UsageError where the trial has no checkpoint or no counterpart in diffusers, where the difference is above
    `TOLERANCE`, and where `to` exists and is not empty; then nothing is written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to} exists; name a new or an empty folder")
    folder = store.stage(signature)
    if not folder.checkpoint.exists():
        raise UsageError(f"trial {signature} has no checkpoint: it is {folder.status()}")
    file = local(folder.checkpoint)
    header = checkpoint.header(file) or {}
    vae = load_vae(file, torch.device("cpu"))
    model = counterpart(vae, header["settings"])

    # Beside its place, so that it appears whole
    begun = to.with_name(f".{to.name}.{mark()}")
    try:
        begun.mkdir(parents=True)
        model.save_pretrained(begun)
        difference = difference_of(vae, begun, type(model))
        if not difference <= TOLERANCE:
            found = f"its reconstructions differ by up to {difference:.2g} from those of the trial's model"
            raise UsageError(f"trial {signature} cannot be exported: loaded by diffusers, {found}")
        card = Card(header, folder.record(), store, type(model).__name__)
        (begun / "README.md").write_text(card.text(difference), encoding="utf-8")
        for file in begun.iterdir():  # as the umask has it: safetensors writes files that only their owner can read
            file.chmod((begun / "README.md").stat().st_mode)
        if to.exists():
            to.rmdir()
        begun.rename(to)
    except BaseException:
        shutil.rmtree(begun, ignore_errors=True)
        raise
    return difference


def counterpart(vae: Autoencoder, recipe: dict[str, Any]) -> Any:
    """The model of diffusers with a VAE's weights. Raises UsageError that names the levels which have none."""
    level = recipe["model"]["level"]
    if isinstance(vae, Released):
        if recipe["padding"]["level"] != "zeros":
            raise UsageError(
                f"padding '{recipe['padding']['level']}' has no counterpart in {vae.class_name} of diffusers: it would "
                "reconstruct otherwise"
            )
        return vae.model
    if level != "image_kl":
        raise UsageError(f"model '{level}' has no counterpart in diffusers; 'released' has, and 'image_kl'")
    found = {path: recipe[path.partition(".")[0]].get(path.partition(".")[2]) for path in PLAIN}
    unlike = [f"{path.removesuffix('.level')} {found[path]}" for path, value in PLAIN.items() if found[path] != value]
    if unlike:
        raise UsageError(f"AutoencoderKL of diffusers has no counterpart of {', '.join(unlike)}")
    return _autoencoder_kl(vae, recipe)


def _autoencoder_kl(vae: Autoencoder, recipe: dict[str, Any]) -> Any:
    """An `image_kl` of plain levels as diffusers' class. It has no scaling of latents: `scaling_factor` is 1."""
    from diffusers import AutoencoderKL

    settings = recipe["model"]
    levels = len(settings["channels"])
    model = AutoencoderKL(
        block_out_channels=settings["channels"], layers_per_block=settings["blocks"],
        latent_channels=settings["latent_channels"], norm_num_groups=recipe["norm"]["groups"],
        down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels,
        mid_block_add_attention=settings["mid_attention"], scaling_factor=1.0,
    )  # fmt: skip
    model.load_state_dict(vae.state_dict())
    return model.eval()


@torch.no_grad()
def difference_of(vae: Autoencoder, folder: Path, loader: Any) -> float:
    """The largest difference between reconstructions of a VAE and of what diffusers loads from a folder."""
    loaded = loader.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False)
    side = 4 * vae.stride
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(2, 3, side, 2 * side, generator=generator) * 2 - 1
    inputs = [picture.unsqueeze(2) if vae.temporal else picture]
    if vae.temporal:
        frames = 1 + 2 * getattr(vae, "clip_multiple", vae.groups)
        inputs.append(torch.rand(1, 3, frames, side, side, generator=generator) * 2 - 1)
    worst = 0.0
    for x in inputs:
        found = loaded.encode(x)
        z = found.latent_dist.mode() if hasattr(found, "latent_dist") else found[0]
        difference = loaded.decode(z).sample - vae.decode(vae.encode(x).mean)
        worst = max(worst, difference.abs().max().item())
    return worst
