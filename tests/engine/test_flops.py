"""Floating point operations of a round trip, against PyTorch's own counter and a closed form."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ablate.engine.build import build_model
from ablate.engine.flops import Counter, flops
from ablate.plan.trials import expand
from ablate.slots.training import Autoencoder
from ablate.study.study import load_study
from tests.support.studies import ROOT


def vae_of(study: str) -> Autoencoder:
    """The model of a study's first trial."""
    return build_model(expand(load_study(ROOT / "search_spaces" / study))[0].treatment.recipe.plain())


def by_pytorch(vae: Autoencoder, shape: tuple[int, ...]) -> int:
    """On the meta device, whose attention PyTorch counts; it does not count that of a CPU."""
    copied = copy.deepcopy(vae).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copied.decode(copied.encode(torch.zeros(1, *shape, device="meta")).mean)
    return int(counter.get_total_flops())


@pytest.mark.parametrize(
    ("study", "shape"),
    [
        ("vivat_losses.yaml", (3, 48, 64)),
        ("grid_and_border.yaml", (3, 64, 64)),
        ("alias_free.yaml", (3, 48, 48)),
        ("iv_vae_ablation.yaml", (3, 9, 32, 32)),
    ],
)
def test_the_count_is_that_of_pytorch(study: str, shape: tuple[int, ...]) -> None:
    vae = vae_of(study)
    assert flops(vae, shape) == by_pytorch(vae, shape) > 0


def test_a_convolution_has_two_operations_for_each_weight_and_place() -> None:
    with Counter() as counter, torch.no_grad():
        nn.Conv2d(3, 5, 3, stride=2, padding=1)(torch.zeros(2, 3, 16, 12))
    assert counter.total == 2 * (3 * 5 * 3 * 3) * 2 * 8 * 6


def test_a_model_that_does_not_fit_into_memory_is_counted_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = vae_of("smoke.yaml")
    before = flops(vae, (3, 32, 32))
    zeros = torch.zeros

    def short(*shape: int, device: torch.device) -> torch.Tensor:
        if device.type != "meta":
            raise RuntimeError("not enough memory: you tried to allocate 1000 GB")
        return zeros(*shape, device=device)

    monkeypatch.setattr(torch, "zeros", short)
    assert flops(vae, (3, 32, 32)) == before
