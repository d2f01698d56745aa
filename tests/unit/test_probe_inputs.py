"""What the training crops held: on noise of known spectrum, and on photographs."""

import pytest
import torch
from torch import Tensor

from ablate.components.probe import inputs
from ablate.slots import registry
from ablate.slots.probe import Subject
from tests.support.planted import Fake, blur, blurred, photographs, tint

torch.set_num_threads(1)


def noise(n: int, side: int) -> Tensor:
    return 0.5 + 0.1 * torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def examine(training: Tensor | None, heldout: Tensor) -> dict[str, float]:
    return inputs.examine(Subject(Fake(tint(1)), heldout, training=training)).metrics


def test_white_noise_has_the_share_of_each_ring() -> None:
    found = examine(noise(32, 64), noise(8, 128))
    assert found["inputs/hf_hi"] == pytest.approx(100 * (1 - 1 / 4), abs=1.5)
    assert found["inputs/hf_lo"] == pytest.approx(100 * (1 / 4 - 1 / 16), abs=1)
    assert found["inputs/heldout_hf_hi"] == pytest.approx(100 * (1 - 1 / 4), abs=1.5)


def test_blurred_crops_hold_less_detail_and_the_model_does_not_matter() -> None:
    crops = photographs(64)
    sharp, soft = examine(crops, crops), examine(blurred(crops, 1.0), crops)
    assert 0 < soft["inputs/hf_hi"] < sharp["inputs/hf_hi"] / 10
    assert soft["inputs/hf_lo"] < sharp["inputs/hf_lo"]
    assert soft["inputs/heldout_hf_hi"] == sharp["inputs/heldout_hf_hi"] == sharp["inputs/hf_hi"]
    assert inputs.examine(Subject(Fake(blur(2)), crops, training=crops)).metrics == sharp


def test_larger_held_out_pictures_are_read_at_the_size_of_the_crops() -> None:
    found = examine(photographs(64, 4), photographs(128, 2))  # the same squares, cut twice and once
    assert found["inputs/heldout_hf_hi"] == pytest.approx(found["inputs/hf_hi"], rel=1e-9)


def test_smaller_held_out_pictures_are_read_whole() -> None:
    assert examine(noise(2, 64), noise(8, 32))["inputs/heldout_hf_hi"] == pytest.approx(75, abs=4)


def test_pictures_of_one_colour_have_no_detail() -> None:
    flat = torch.full((2, 3, 32, 32), 0.5)
    assert examine(flat, flat) == {metric.name: 0 for metric in registry.level("probe", "inputs").metrics}


def test_unknown_crops_are_not_reported() -> None:
    assert examine(None, photographs(64)) == {}
