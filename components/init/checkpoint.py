"""The weights of a released autoencoder: a folder of diffusers' `AutoencoderKL` (those of Stable Diffusion, SD3, Flux).

Fine-tuning starts from a published model that way, as "Improving the Diffusability of Autoencoders" does (arXiv
2502.14831), without its scaling of latents. The model is `image_kl` with the settings of the folder's `config.json`,
and the weights are read from safetensors; nothing is downloaded. Flux and SD3 have no convolution of 1 x 1 at the
latent, `image_kl` has: it starts as the identity, and is trained from there. A discriminator starts afresh, see
`scratch`.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ablate.components.init import scratch
from ablate.slots import Autoencoder, Initializer, InitSettings, SeedOf

OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Layers of attention, as diffusers called them up to 0.16; as checkpoints of Stable Diffusion still do."""


WEIGHTS = "diffusion_pytorch_model.safetensors"


class Config(InitSettings):
    """`path`: the folder with `config.json` and the weights, or that of a pipeline with both in `vae`."""

    path: str

    def folder(self) -> Path:
        """Where the autoencoder is. Raises ValueError where there is none."""
        path = Path(self.path).expanduser()
        found = next((folder for folder in (path, path / "vae") if (folder / "config.json").is_file()), None)
        if found is None:
            what = "holds no config.json, nor does its vae/" if path.is_dir() else "does not exist"
            raise ValueError(
                f"init.checkpoint: {path} {what}; nothing is downloaded: fetch a released model first, for instance "
                "with `hf download OWNER/NAME --local-dir FOLDER`"
            )
        if not (found / "diffusion_pytorch_model.safetensors").is_file():
            raise ValueError(f"init.checkpoint: {found} holds no diffusion_pytorch_model.safetensors")
        return found

    def released(self) -> dict[str, Any]:
        """The settings beside the weights. Raises ValueError for those of anything but an `AutoencoderKL`."""
        import json

        file = self.folder() / "config.json"
        try:
            config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            name = config.get("_class_name")
        except (ValueError, AttributeError):
            raise ValueError(f"init.checkpoint: {file} is no JSON object") from None
        if name != "AutoencoderKL":
            raise ValueError(f"init.checkpoint: {file} is of {name!r}; expected 'AutoencoderKL'")
        return config

    def preflight(self) -> None:
        """Raise ValueError if there is no such autoencoder."""
        self.released()

    def mismatch(self, recipe: dict[str, Any]) -> str:
        """What of a recipe, as plain settings of its slots, is not as in the checkpoint; empty if nothing is."""
        released, wrong = self.released(), []
        expected = {
            "model.level": "image_kl",
            "model.channels": list(released["block_out_channels"]),
            "model.latent_channels": released["latent_channels"],
            "model.blocks": released.get("layers_per_block", 1),
            "model.mid_attention": released.get("mid_block_add_attention", True),
            "model.patch": 1,
            "norm.level": "group",
            "norm.groups": released.get("norm_num_groups", 32),
            "upsample.level": "nearest_conv",
            "downsample.level": "strided_conv",
        }
        for path, value in expected.items():
            slot, name = path.split(".")
            if recipe[slot].get(name) != value:
                wrong.append(f"{path.removesuffix('.level')} {recipe[slot].get(name)}, expected {value}")
        return f"{self.folder()} is another model: found {'; '.join(wrong)}" if wrong else ""


def build(config: Config, seed_of: SeedOf) -> Initializer:
    """Raises ValueError as `Config.preflight` does."""
    config.preflight()
    fresh = scratch.build(scratch.Config(), seed_of)

    def initialize(net: nn.Module) -> None:
        """Load the weights, all of them, in place. Raises ValueError where they are not those of the model."""
        if not isinstance(net, Autoencoder):
            fresh(net)
            return
        file = config.folder() / WEIGHTS
        try:
            net.load_state_dict(with_identities(current_names(load_file(file)), net))
        except RuntimeError as error:  # a line for each tensor, after a heading
            reason = str(error).splitlines()[:2][-1].strip()
            raise ValueError(f"init.checkpoint: {file} does not fit the model: {reason}") from None

    return initialize


def current_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in fp32 by the names of today's diffusers."""
    renamed = {}
    for name, tensor in weights.items():
        parts = name.split(".")
        if "attentions" in parts:
            parts = [OLD_NAMES.get(part, part) for part in parts]
        renamed[".".join(parts)] = tensor.float()
    return renamed


def with_identities(weights: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Convolutions of 1 x 1 at the latent that the released model has not, as identities."""
    added = {}
    for name, own in net.state_dict().items():
        layer, _, kind = name.partition(".")
        if layer in {"quant_conv", "post_quant_conv"} and name not in weights:
            added[name] = torch.zeros_like(own) if kind == "bias" else torch.eye(len(own))[:, :, None, None]
    return weights | added
