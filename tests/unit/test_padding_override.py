"""Padding of released VAEs by another mode: circular padding commutes with rolling, reflection keeps constants."""

from pathlib import Path

import pytest
import torch

from ablate.probing.load import load_vae
from ablate.released.files import IMAGE_CLASSES, VIDEO_CLASSES
from ablate.released.padding import CLASSES, override_padding
from ablate.released.vae import Released
from ablate.slots.training import Autoencoder
from tests.support.planted import image_kl
from tests.support.released import saved

diffusers = pytest.importorskip("diffusers")


CPU = torch.device("cpu")


@torch.no_grad()
def round_trip(vae: Autoencoder, x: torch.Tensor) -> torch.Tensor:
    return vae.decode(vae.encode(x).mean)


def picture(side: int) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def roll_error(vae: Autoencoder) -> float:
    """How far the round trip is from commuting with a roll by a stride, over its own spread."""
    x = picture(max(32, 4 * vae.stride))
    shift = (vae.stride, -vae.stride)
    rolled, y = round_trip(vae, x.roll(shift, (2, 3))), round_trip(vae, x).roll(shift, (2, 3))
    return ((rolled - y).abs().max() / y.std()).item()


@pytest.mark.parametrize("name", CLASSES)
def test_every_border_of_these_classes_is_padded_as_asked(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    vae = load_vae(tmp_path, CPU)
    assert roll_error(vae) > 1e-2
    override_padding(vae, "circular")
    assert roll_error(vae) < 1e-3


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_constants_stay_constant_up_to_the_border(mode: str, tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path)
    vae, x = load_vae(tmp_path, CPU), torch.full((1, 3, 32, 32), 0.3)
    assert round_trip(vae, x).std((2, 3)).max() > 1e-2
    override_padding(vae, mode)  # type: ignore[arg-type]
    assert round_trip(vae, x).std((2, 3)).max() < 1e-4


def test_zeros_are_what_these_classes_pad_by_themselves(tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path)
    vae = load_vae(tmp_path, CPU)
    before = round_trip(vae, picture(32))
    override_padding(vae, "zeros")
    torch.testing.assert_close(round_trip(vae, picture(32)), before)


@pytest.mark.parametrize("name", sorted({*IMAGE_CLASSES, *VIDEO_CLASSES} - set(CLASSES)))
def test_other_classes_are_refused(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    vae = load_vae(tmp_path, CPU)
    assert isinstance(vae, Released)
    with pytest.raises(ValueError, match=f"{name} pads in its own code"):
        override_padding(vae, "reflect")


def test_our_own_checkpoints_are_refused() -> None:
    with pytest.raises(ValueError, match="in their recipe"):
        override_padding(image_kl(), "reflect")


def test_a_padding_that_was_set_before_is_replaced(tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path)
    vae = load_vae(tmp_path, CPU)
    override_padding(vae, "reflect")
    assert roll_error(vae) > 1e-2
    override_padding(vae, "circular")
    assert roll_error(vae) < 1e-3
