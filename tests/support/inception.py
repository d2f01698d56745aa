"""FID's Inception network with random weights, in the layout of the published file."""

from pathlib import Path

import pytest
import pytorch_fid.inception as oracle
import torch
from torch import nn


def unloaded_oracle() -> nn.Module:
    """pytorch-fid's network, in eval mode, without the weights that it would download."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "load_state_dict_from_url", lambda *_, **__: None)
        patch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
        network: nn.Module = oracle.fid_inception_v3()
    return network.eval()


def write_weights(file: Path) -> Path:
    """Weights that keep the size of features from layer to layer, so that these differ between pictures."""
    torch.manual_seed(0)
    network = unloaded_oracle()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), file)
    return file
