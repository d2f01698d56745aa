"""LPIPS v0.1 by the package `lpips`, whose heads it brings; the weights of the trunk are given by a file.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018 (arXiv 1801.03924). The
trunk (VGG-16 or AlexNet trained on ImageNet) is torchvision's, and nothing is downloaded here.
"""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

Trunk = Literal["vgg", "alex"]


FILES: dict[Trunk, str] = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}
"""Names of torchvision's files."""


def trunk_file(trunk: Trunk, given: str | None) -> Path:
    """The file that a trunk's weights are read from: the one given, or the one that torchvision stores."""
    if given is not None:
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
    return home / "hub" / "checkpoints" / FILES[trunk]


def lpips_network(trunk: Trunk, file: Path, place: str) -> "nn.Module":
    """LPIPS with the trunk's weights from torchvision's state dict; the global random state is left as it was.

    `place`: the setting or level that needs it, for messages. Raises ValueError if the file does not hold the weights.
    """
    import lpips
    import torch

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", category=UserWarning, module="torchvision"
        )  # lpips passes torchvision a deprecated argument
        network: nn.Module = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    given = torch.load(file, map_location="cpu", weights_only=True)
    features = network.get_submodule("net")
    try:  # `slice2.5.weight` here is `features.5.weight` there
        features.load_state_dict({name: given[f"features.{name.split('.', 1)[1]}"] for name in features.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{place}: {file} does not hold torchvision's `{trunk}`: {error}") from error
    return network.eval().requires_grad_(False)
