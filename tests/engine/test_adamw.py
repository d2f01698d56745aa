"""The optimiser: PyTorch's numbers, without PyTorch's compiler."""

from pathlib import Path

import torch
from torch import nn

from ablate.engine.adamw import AdamW
from tests.support.command import ablate, python
from tests.support.studies import Write


def trained(kind: type[torch.optim.AdamW]) -> list[torch.Tensor]:
    """Weights and moments after ten steps, the last three with other settings and another group."""
    torch.manual_seed(0)
    layer, late = nn.Conv2d(3, 5, 3), nn.Parameter(torch.zeros(()))
    optimizer = kind(layer.parameters(), 1e-2, (0.5, 0.9), weight_decay=0.1, fused=True)
    for step in range(10):
        if step == 7:
            optimizer.add_param_group({"params": [late], "weight_decay": 0.0})
            optimizer.param_groups[0]["lr"] = 1e-3
        loss = (layer(torch.randn(2, 3, 8, 8)) - late).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [late, *layer.parameters(), *(tensor for state in optimizer.state.values() for tensor in state.values())]


def test_the_numbers_are_those_of_pytorch() -> None:
    for ours, theirs in zip(trained(AdamW), trained(torch.optim.AdamW), strict=True):
        assert torch.equal(ours, theirs)


def test_training_and_probing_do_not_load_the_compiler(write_study: Write, tmp_path: Path) -> None:
    study = write_study(
        ("kl: 1e-4}", "kl: 1e-4, adversarial: 0.1}\n  discriminator: {level: patchgan, width: 8, layers: 2}"),
        ("seeds: 2", "seeds: 1"),
    )
    ablate("check", study)  # builds the models and remembers that it could
    done = python(
        "import sys; from ablate.cli.main import main\n"
        f"sys.argv = ['ablate', 'sweep', {str(study)!r}, '--store', {str(tmp_path / 'runs')!r}, '--inline', "
        "'--tracking', 'none']\n"
        "try: main()\nexcept SystemExit as end: print(end.code)\n"
        "print({'torch', 'torch._dynamo'} & set(sys.modules))"
    )
    assert done.stdout.endswith("{'torch'}\n"), done.stderr
