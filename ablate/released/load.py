"""Loads VAEs that others released as `Autoencoder`s: diffusers folders, single files of LTX-2 and LDM.

No code in a file is run, and nothing is downloaded; see `ablate.released.files` for the layouts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ablate.released import ltx
from ablate.released.files import PICKLES, check_readable, check_suffix, class_of, diffusers_folder, existing
from ablate.released.folder import Say, load_folder
from ablate.released.ldm import holds_vae, load
from ablate.released.shape import shape_of
from ablate.released.vae import Released


def load_released(path: Path, say: Say = lambda text: None, frames: int = 1, *, clips: bool = False) -> Released:
    """Load a released VAE in fp32 and eval mode, on the CPU.

    `path`: the folder of a diffusers autoencoder, or of a pipeline that has one in `vae`; or a single file of LTX-2 or
    LDM. `say` gets a line for each thing in it that was not used as it stands. `frames`: see `Released`.
    `clips`: whether a video autoencoder is to take clips as they are.
    Raises ValueError for anything else, for tensors and settings that would be left out, and for a model that does not
    reconstruct RGB pictures in their own shape; ImportError if diffusers is missing.
    """
    path = existing(path)
    shape = shape_of(path) if clips else None
    with explained(path):
        if path.is_dir():
            path = diffusers_folder(path)
            name = class_of(path)
            model = load_folder(path, name, say)
        else:
            name, model = _from_file(path, say)
        return Released(path, name, model, frames, shape)


def holds_released(file: Path) -> bool:
    """Whether a safetensors file holds a VAE in the layout of LTX-2 or LDM."""
    return ltx.embedded_config(file) is not None or holds_vae(file)


def _from_file(file: Path, say: Say) -> tuple[str, Any]:
    """The class and the model of a single file."""
    check_suffix(file)
    check_readable(file)
    config = None if file.suffix in PICKLES else ltx.embedded_config(file)
    if config is not None:
        return "AutoencoderKLLTX2Video", ltx.load(file, config)
    return "AutoencoderKL", load(file, say)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what libraries raise for files that do not fit into ValueErrors that name the path."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise ImportError(f"{path} needs diffusers: pip install 'ablate-vae[probe]'") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: a safetensors file is damaged or cut short: {error}") from error
    except KeyError as error:
        raise ValueError(f"{path}: its settings or weights lack {error}") from error
    except RuntimeError as error:  # from load_state_dict: a heading, then a line per tensor
        reason = str(error).splitlines()[:2][-1].strip()
        raise ValueError(f"{path}: the weights do not fit the settings beside them: {reason}") from error
