"""The exam of the slot init."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from ablate.engine.build import build_model
from ablate.identity import derive
from ablate.slots import Autoencoder
from ablate.testing import checks
from ablate.testing.exam import Exam, Missing, point


class InitExam(Exam):
    """What an init level must fulfil: a function that draws or loads the weights of a network in place.

    `network`: the autoencoder to initialise, for a level that fits only some.
    """

    slot = "init"
    signature = "build(config, seed_of)"

    def arguments(self, config: Any) -> tuple[Any, ...]:
        return (seeds(0),)

    def network(self) -> Autoencoder:
        """A small autoencoder. The exam fills its weights with NaN first, so that unset weights are noticed."""
        return build_model(
            {
                "model": {"level": "image_kl", "channels": [8, 8], "latent_channels": 4, "blocks": 1},
                "padding": {"level": "zeros"},
                "norm": {"level": "group", "groups": 4},
                "upsample": {"level": "nearest_conv"},
                "downsample": {"level": "strided_conv"},
            }
        )

    def discriminator(self) -> nn.Module:
        """Layers as discriminators have them."""
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3))

    @point
    def test_fills_every_weight(self, initialise: Any) -> None:
        """fills every weight of an autoencoder and of a discriminator"""
        for net in (self.network(), self.discriminator()):
            emptied(net)
            initialise(net)
            for name, parameter in net.named_parameters():
                if not parameter.isfinite().all():
                    raise Missing(f"'{name}' of {type(net).__name__} is left as it was, or is not finite")
                if parameter.device.type != "cpu" or not parameter.requires_grad:
                    raise Missing(f"'{name}' must stay on the CPU and require a gradient")

    @point
    def test_same_seeds_same_weights(self, initialise: Any) -> None:
        """gives the same weights for the same seeds, and leaves the global random state alone"""
        nets = []
        with torch.random.fork_rng(devices=[]):
            for seed in (1, 2):
                torch.manual_seed(seed)
                net = self.network()
                checks.random_state_kept(partial(initialise, net))
                nets.append(net)
        for (name, one), other in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
            if not torch.equal(one, other):
                raise Missing(
                    f"'{name}' differs between two networks of the same seeds; draw it by `seed_of('{name}')`"
                )

    def test_messages(self) -> None:
        """mismatch says in words why a recipe does not fit"""
        for settings in self.all_settings:
            found = self.read(settings).mismatch(self.recipe())
            if not isinstance(found, str):
                raise Missing(f"Config.mismatch must give a text, empty where all fits, found {found!r}")

    def recipe(self) -> dict[str, Any]:
        """The plain recipe that `mismatch` is asked about."""
        slots = ("model", "padding", "norm", "upsample", "downsample")
        return {slot: {"level": "none"} for slot in slots}

    @point
    def test_inherits(self, initialise: Any) -> None:
        """can take over weights of the stage before, if Config says `inherits`"""
        config: Any = self.described.Config
        if config.inherits and not callable(getattr(initialise, "inherit", None)):
            raise Missing("Config says inherits = True, but build gives nothing with a method inherit(vae, before)")


def seeds(seed: int) -> Callable[[str], int]:
    """A seed for each layer's name."""
    return partial(derive, seed, "init")


def emptied(net: nn.Module) -> None:
    """Fill the weights with NaN, so that unset weights are noticed."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(torch.nan)
