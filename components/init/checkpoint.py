"""Weights of a released autoencoder, from a folder of diffusers' `AutoencoderKL` (Stable Diffusion, SD3, Flux).

Fine-tuning then starts from a published model, as in "Improving the Diffusability of Autoencoders" (arXiv 2502.14831),
but without that paper's scaling of latents. The model is `image_kl` with the settings of the folder's `config.json`,
and the weights are read from safetensors; nothing is downloaded. Flux and SD3 have no 1 x 1 convolutions at the latent,
but `image_kl` has: they start as the identity and are trained from there. A discriminator starts from fresh weights,
see `scratch`.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ablate.components.init import scratch
from ablate.slots import Autoencoder, Initializer, InitSettings, SeedOf

OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of attention layers in diffusers up to 0.16, still found in checkpoints of Stable Diffusion."""


WEIGHTS = "diffusion_pytorch_model.safetensors"


class Config(InitSettings):
    """`path`: the folder with `config.json` and the weights, or a pipeline's folder with both in `vae`."""

    path: str

    def folder(self) -> Path:
        """The folder of the autoencoder. Raises ValueError if there is none."""
        path = Path(self.path).expanduser()
        folder = next((each for each in (path, path / "vae") if (each / "config.json").is_file()), None)
        if folder is None:
            what = "holds no config.json, nor does its vae/" if path.is_dir() else "does not exist"
            raise ValueError(
                f"init.checkpoint: {path} {what}; nothing is downloaded: fetch a released model first, for instance "
                "with `hf download OWNER/NAME --local-dir FOLDER`"
            )
        if not (folder / "diffusion_pytorch_model.safetensors").is_file():
            raise ValueError(f"init.checkpoint: {folder} holds no diffusion_pytorch_model.safetensors")
        return folder

    def content_paths(self) -> dict[str, Path]:
        """Settings and weights of the autoencoder; other files of its folder do not matter."""
        try:
            folder = self.folder()
        except ValueError:
            return {}
        files = [folder / "config.json", *sorted(folder.glob("diffusion_pytorch_model*.safetensors*"))]
        root = Path(self.path).expanduser()
        return {f"{self.path.rstrip('/')}/{file.relative_to(root).as_posix()}": file for file in files}

    def released(self) -> dict[str, Any]:
        """The settings stored beside the weights. Raises ValueError unless they are those of an `AutoencoderKL`."""
        import json

        file = self.folder() / "config.json"
        try:
            config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            name = config.get("_class_name")
        except (ValueError, AttributeError):
            raise ValueError(f"init.checkpoint: {file} is no JSON object") from None
        if name != "AutoencoderKL":
            raise ValueError(f"init.checkpoint: {file} is of {name!r}; expected 'AutoencoderKL'")
        if not isinstance(config.get("block_out_channels"), list) or not isinstance(config.get("latent_channels"), int):
            raise ValueError(
                f"init.checkpoint: {file} must give block_out_channels, a list, and latent_channels, a whole number"
            )
        return config

    def preflight(self) -> None:
        """Raise ValueError if there is no such autoencoder, or if its file cannot hold weights."""
        from ablate.components.shared.released import unreadable

        self.released()
        file = self.folder() / "diffusion_pytorch_model.safetensors"
        if reason := unreadable(file):
            raise ValueError(f"init.checkpoint: {file}: {reason}")

    def mismatch(self, recipe: dict[str, Any]) -> str:
        """How a recipe, given as plain settings of its slots, differs from the checkpoint; empty if it does not."""
        from ablate.components.shared.released import unlike_image_kl

        released = self.released()
        wrong = unlike_image_kl(released)
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
    """An initialiser that loads the weights. Raises ValueError as `Config.preflight` does."""
    config.preflight()
    fresh = scratch.build(scratch.Config(), seed_of)

    def initialize(net: nn.Module) -> None:
        """Load all the weights in place. Raises ValueError if they do not fit the model."""
        if not isinstance(net, Autoencoder):
            fresh(net)
            return
        file = config.folder() / WEIGHTS
        try:
            net.load_state_dict(with_identities(current_names(load_file(file)), net))
        except RuntimeError as error:  # its message has a heading, then a line for each tensor
            reason = str(error).splitlines()[:2][-1].strip()
            raise ValueError(f"init.checkpoint: {file} does not fit the model: {reason}") from None

    return initialize


def current_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors to fp32 and to the names that today's diffusers uses."""
    renamed = {}
    for name, tensor in weights.items():
        parts = name.split(".")
        if "attentions" in parts:
            parts = [OLD_NAMES.get(part, part) for part in parts]
        renamed[".".join(parts)] = tensor.float()
    return renamed


def with_identities(weights: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Add, as identities, the 1 x 1 convolutions at the latent that the released model lacks."""
    added = {}
    for name, own in net.state_dict().items():
        layer, _, kind = name.partition(".")
        if layer in {"quant_conv", "post_quant_conv"} and name not in weights:
            added[name] = torch.zeros_like(own) if kind == "bias" else torch.eye(len(own))[:, :, None, None]
    return weights | added
