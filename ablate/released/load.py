"""Loads VAE checkpoints as `Autoencoder`s: our own, diffusers folders, single files of LTX-2 and LDM.

No code in a checkpoint is run. Weights are read from safetensors files, and from pickles of LDM that hold only tensors
and numbers (`ablate.released.ldm`). TorchScript (`.jit`) holds code and is not loaded. So the image tokenizers of
Cosmos (Cosmos-0.1-Tokenizer-CI8x8 and others), which exist only as TorchScript, cannot be loaded; `AutoencoderKLCosmos`
is the video tokenizer. Nothing is downloaded.
"""

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from ablate.engine import checkpoint
from ablate.engine.bounds import bounded
from ablate.engine.build import build_model
from ablate.engine.weights import check_readable
from ablate.errors import AblateError, nearest
from ablate.recipe.validation import explain
from ablate.released import ltx
from ablate.released.folder import Say, load_folder, read_config
from ablate.released.ldm import PICKLES, holds_vae, load
from ablate.slots import registry
from ablate.slots.own_code import is_installed
from ablate.slots.targets import TARGET
from ablate.slots.training import LOGVAR_RANGE, Autoencoder, Posterior
from ablate.slots.video import group_of
from ablate.store.checksum import Damaged
from ablate.store.folders import StageFolder

IMAGE_CLASSES = (
    "AsymmetricAutoencoderKL", "AutoencoderDC", "AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLHunyuanImage",
    "AutoencoderKLKVAE", "AutoencoderTiny", "VQModel",
)  # fmt: skip


VIDEO_CLASSES = (
    "AutoencoderKLCogVideoX", "AutoencoderKLCosmos", "AutoencoderKLHunyuanVideo", "AutoencoderKLLTX2Video",
    "AutoencoderKLLTXVideo", "AutoencoderKLMagvit", "AutoencoderKLQwenImage", "AutoencoderKLWan",
)  # fmt: skip
"""Classes for video that turn a clip of one frame into a clip of one frame."""


LIBRARIES = ("diffusers", "torch", "torchvision")
"""Installed packages whose modules (`nn.Module`) a checkpoint may name."""


TEST_SIDE = 128
"""The side in px of the picture that a model must reconstruct when it is loaded."""


def load_vae(path: Path, device: torch.device, frames: int = 1, say: Say = lambda text: None) -> Autoencoder:
    """Load a frozen VAE, in fp32 and eval mode, on `device`.

    `path`: a checkpoint file of ours or the folder of a stage (averaged weights, if there are any); the folder of a
    diffusers autoencoder, or of a pipeline that has one in `vae`; or a single file of LTX-2 (`ablate.released.ltx`) or
    LDM (`ablate.released.ldm`). A picture goes through a video autoencoder as a clip of `frames` equal frames. `say`
    gets a line for each thing in the file that was not used as it stands, such as a prefix of all names. Raises
    ValueError for anything else, for tensors and settings that would be left out, and for a model that does not
    reconstruct RGB pictures or such clips in their own shape; ImportError if diffusers is needed and missing.
    """
    path = path.expanduser()
    if not path.exists():
        raise ValueError(
            f"there is no file or folder {path}; nothing is downloaded: fetch a released model first, for instance "
            "with `hf download OWNER/NAME --local-dir FOLDER`"
        )
    own = StageFolder(path).checkpoint if path.is_dir() else path
    try:
        vae = _from_file(own, frames, say) if own.is_file() else _from_folder(_diffusers_folder(path), frames, say)
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise ImportError(f"{path} needs diffusers: pip install 'ablate-vae[probe]'") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: a safetensors file is damaged or cut short: {error}") from error
    except Damaged as error:
        raise ValueError(f"{path}: the checkpoint is damaged: {error}") from error
    except KeyError as error:
        raise ValueError(f"{path}: its settings or weights lack {error}") from error
    except RuntimeError as error:  # from load_state_dict: a heading, then a line per tensor
        reason = str(error).splitlines()[:2][-1].strip()
        raise ValueError(f"{path}: the weights do not fit the settings beside them: {reason}") from error
    return vae.to(device).eval().requires_grad_(False)


def _from_file(file: Path, frames: int, say: Say) -> Autoencoder:
    if file.suffix not in {".safetensors", *PICKLES}:
        raise ValueError(f"{file}: only .safetensors files are loaded, and .ckpt and .pt of LDM; others may hold code")
    check_readable(file)
    if file.suffix in PICKLES:
        return Released(file, "AutoencoderKL", load(file, say), frames)
    try:
        header = checkpoint.header(file)
    except ValueError as error:
        config = ltx.embedded_config(file)
        if config is not None:
            return Released(file, "AutoencoderKLLTX2Video", ltx.load(file, config), frames)
        if holds_vae(file):
            return Released(file, "AutoencoderKL", load(file, say), frames)
        raise ValueError(f"{error}; a diffusers autoencoder is given by its folder") from None
    assert header is not None  # the file exists
    vae = _build(header.get("settings"), file)
    if vae.temporal:
        group_of(frames, vae.groups)
    elif frames > 1:
        raise ValueError(f"{file}: clips of {frames} frames need a video autoencoder, but this is an image autoencoder")
    saved = checkpoint.read(file)
    assert saved is not None  # the file exists
    vae.load_state_dict(saved.part("model."), strict=saved.has_raw)
    averaged = vae.load_state_dict(saved.part("ema."), strict=False)  # buffers have no average
    if averaged.unexpected_keys:
        name = averaged.unexpected_keys[0]
        raise ValueError(f"{file}: it holds an average of {name}, which the model does not have")
    return vae


def _build(settings: Any, file: Path) -> Autoencoder:
    """The model of a checkpoint, from the settings in its header, which may hold anything. Raises ValueError."""
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: its header holds no settings of a model")
    _check_code(settings, file)
    try:
        with bounded(parameters=file.stat().st_size):  # each has a byte at least
            return build_model(settings)
    except (ImportError, AblateError, KeyError):
        raise
    except ValidationError as error:
        reason = "; ".join(f"{'.'.join(map(str, item['loc']))}: {explain(item)}" for item in error.errors())
    except Exception as error:  # levels raise all kinds of errors for settings that nobody has checked
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    raise ValueError(f"{file}: its settings make no model: {' '.join(reason.split())}")


def _check_code(settings: dict[str, Any], file: Path) -> None:
    """Raise ValueError where a checkpoint names code to run that is neither the user's own nor a module of `LIBRARIES`.

    A checkpoint may be from anybody: `model: {level: python, target: subprocess:getoutput}` would run what it likes.
    """
    code = registry.own()
    for name in _targets([settings.get(slot) for slot in registry.SLOTS]):
        module, _, word = name.partition(":")
        if module.partition(".")[0] in code.named:  # a study of the user's, or of this store, names it too
            continue
        if module.partition(".")[0] in LIBRARIES:
            found = getattr(importlib.import_module(module), word, None) if importlib.util.find_spec(module) else None
            if isinstance(found, type) and issubclass(found, torch.nn.Module):
                continue
        known = code.require(module, on_path=False)
        if known is None or is_installed(known):
            raise ValueError(
                f"{file}: its settings name the code '{name}', which is not run, as a checkpoint may be from anybody; "
                "if it is yours, name the folder of its module with --components, or probe it within its store"
            )


def _targets(settings: Any) -> Iterator[str]:
    """All texts in plain settings, keys too, that may name an object of a module."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield from _targets(key)
            yield from _targets(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _targets(value)
    elif isinstance(settings, str) and TARGET.fullmatch(settings):
        yield settings


def _diffusers_folder(path: Path) -> Path:
    """The folder of a diffusers autoencoder: `path` itself or its subfolder `vae`. Raises ValueError without one."""
    folder = next((folder for folder in (path, path / "vae") if (folder / "config.json").is_file()), None)
    if folder is None or "_class_name" not in read_config(folder):
        script = "; its *.jit files are TorchScript, which is not loaded" if [*path.glob("*.jit")] else ""
        raise ValueError(
            f"{path} is no VAE: expected a checkpoint.safetensors, or a config.json with '_class_name' as diffusers "
            f"writes it, here or in vae/{script}"
        )
    return folder


def _from_folder(folder: Path, frames: int, say: Say) -> "Released":
    config = read_config(folder)
    name = str(config["_class_name"])
    if name not in {*IMAGE_CLASSES, *VIDEO_CLASSES}:
        hint = nearest(name, [*IMAGE_CLASSES, *VIDEO_CLASSES])
        raise ValueError(f"{folder}: '{name}' is not an autoencoder that ablate can load{hint}")
    if config.get("timestep_conditioning"):
        raise ValueError(
            f"{folder}: the decoder of this {name} is conditioned on a timestep and expects noisy latents; probes "
            "examine plain round trips, so it is not supported"
        )
    return Released(folder, name, load_folder(folder, name, say), frames)


class Released(Autoencoder):
    """An autoencoder of diffusers, without its scaling of latents, tiling and slicing.

    A video autoencoder gets each picture as a clip of `frames` equal frames, and the middle frame of its output counts.
    The latent of the clip becomes that of a picture: its channels and frames together are the channels here.
    """

    def __init__(self, path: Path, class_name: str, model: Any, frames: int = 1) -> None:
        """`path`: the file or folder that the model comes from, for errors. Raises ValueError as `load_vae` does."""
        super().__init__()
        self.model = model
        self.class_name = class_name
        self.frames = frames
        self.video = class_name in VIDEO_CLASSES
        if frames > 1 and not self.video:
            raise ValueError(f"{path}: clips of {frames} frames need a video autoencoder, and {class_name} is not one")
        self.stride = 1
        self._measure(path, class_name)

    @torch.inference_mode()
    def _measure(self, path: Path, name: str) -> None:
        """Set stride and latent channels by reconstructing a picture. Raises ValueError if its shape changes."""
        config = self.model.config
        channels = config.get("in_channels", config.get("input_channels", 3))
        patch = config.get("patch_size") or 1
        if channels != 3 and not (isinstance(patch, int) and channels == 3 * patch**2):
            raise ValueError(f"{path}: {name} takes images of {channels} channels, expected 3 (RGB)")
        x = torch.zeros(1, 3, TEST_SIDE, TEST_SIDE)
        try:
            self.latent_frames = self._moments(x)[0].shape[2] if self.video else 1
            z = self.encode(x).mean
            y = self.decode(z)
        except Exception as error:  # models raise all kinds of errors
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            clip = f"a clip of {self.frames} frames" if self.frames > 1 else "a single picture"
            raise ValueError(f"{path}: {name} cannot reconstruct {clip}: {reason}") from error
        if y.shape != x.shape:
            raise ValueError(f"{path}: {name} gives {tuple(y.shape)}, expected {tuple(x.shape)} (b c h w)")
        self.stride = TEST_SIDE // z.shape[-1]
        self.latent_channels = z.shape[1]

    def encode(self, x: Tensor) -> Posterior:
        """Images `b 3 h w` in [-1, 1] to the posterior over latents `b z h/f w/f`.

        The mean of a deterministic encoder is its latents before any quantisation; its log-variance is the smallest
        possible. Raises ValueError if h or w is not a multiple of the stride f.
        """
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"model: {height} x {width} (h x w) is not a multiple of the stride {self.stride}")
        mean, logvar = self._moments(x)
        if self.video:
            mean, logvar = mean.flatten(1, 2), logvar.flatten(1, 2)
        return Posterior(mean, logvar.clamp(*LOGVAR_RANGE))

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance as the model gives them: `b z h/f w/f`, or `b z t h/f w/f` from a video model."""
        output = self.model.encode(x.unsqueeze(2).expand(-1, -1, self.frames, -1, -1) if self.video else x)
        posterior = getattr(output, "latent_dist", None)
        mean = output[0] if posterior is None else posterior.mode()
        logvar = getattr(posterior, "logvar", None)
        return mean, torch.full_like(mean, LOGVAR_RANGE[0]) if logvar is None else logvar

    def decode(self, z: Tensor) -> Tensor:
        """Latents `b z h/f w/f` to images `b 3 h w` in about [-1, 1]; not clamped."""
        y: Tensor
        if not self.video:
            y = self.model.decode(z).sample
            return y
        y = self.model.decode(z.unflatten(1, (-1, self.latent_frames))).sample
        if y.shape[2] != self.frames:
            raise ValueError(
                f"{self.frames} frames come back as {y.shape[2]}; expected 1 + a multiple of its time stride"
            )
        return y[:, :, self.frames // 2]
