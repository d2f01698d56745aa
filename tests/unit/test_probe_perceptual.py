"""The probe `perceptual`: its distances against closed forms and packages, its intervals against simulated pictures."""

import math
import sys
from pathlib import Path
from typing import Any

import lpips
import numpy as np
import pytest
import torch
import torch_fidelity
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ablate.components.probe import _paired as paired
from ablate.components.probe import perceptual
from ablate.components.probe._distance import frechet, kernel_distance
from ablate.components.probe._inception import FidelityInception, Inception
from ablate.components.shared.efficientnet import EfficientNetLite0
from ablate.components.shared.stlpips import ShiftTolerantLPIPS
from ablate.slots import registry
from ablate.slots.probe import Probe, ProbeResult, Subject
from tests.support.command import inside
from tests.support.inception import write_weights
from tests.support.planted import Fake, FakeVideo, blurred, each_frame, panned, photographs
from tests.support.studies import Write
from tests.unit.test_losses import features_of

torch.set_num_threads(1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(count: int, dimensions: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features of sources, and of reconstructions that resemble them."""
    mixing = normal(dimensions, dimensions, seed=1000) * torch.linspace(1, 0.1, dimensions) / dimensions**0.5
    x = normal(count, dimensions, seed=2 * seed)
    return x @ mixing, 0.2 + (0.8 * x + 0.4 * normal(count, dimensions, seed=2 * seed + 1)) @ mixing


@pytest.mark.parametrize("count", [5, 24, 60])
def test_the_frechet_distance_of_few_pictures_is_that_of_covariances(count: int) -> None:
    a, b = pair(count, 32)
    assert paired.paired_frechet(a, b) == pytest.approx(frechet(a, b), rel=1e-6)
    assert paired.paired_frechet(a, b) > 1
    assert paired.paired_frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert math.isnan(paired.paired_frechet(a, b * math.nan))


def test_the_kernel_distance_is_its_sum_and_compares_no_picture_with_its_own_reconstruction() -> None:
    a, b = pair(12, 5)

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 5 + 1) ** 3

    expected = np.mean(
        [
            kernel(a[i], a[j]) + kernel(b[i], b[j]) - kernel(a[i], b[j]) - kernel(b[i], a[j])
            for i in range(12)
            for j in range(12)
            if i != j
        ]
    )
    assert paired.paired_kernel_distance(a, b) == pytest.approx(float(expected))
    assert paired.paired_kernel_distance(a, a) == 0


def test_the_kernel_distance_has_no_bias_where_pictures_and_reconstructions_are_not_independent() -> None:
    """Reconstructions of the same distribution as their sources, and much like them."""
    draws = [normal(16, 6, seed=seed) for seed in range(600)]
    sets = [(x, 0.8 * x + 0.6 * normal(16, 6, seed=1000 + seed)) for seed, x in enumerate(draws)]
    found = np.array([paired.paired_kernel_distance(*one) for one in sets])
    usual = np.array([kernel_distance(*one) for one in sets])
    assert abs(found.mean()) < 3 * found.std() / math.sqrt(len(sets))
    assert usual.mean() < -10 * usual.std() / math.sqrt(len(sets)), "the estimator for independent sets"


@pytest.mark.parametrize("distance", [paired.paired_frechet, paired.paired_kernel_distance])
def test_intervals_over_pictures_cover_what_other_pictures_would_give(distance: Any) -> None:
    """With half as many pictures as features, and groups of one or two."""
    truth = np.mean([distance(*pair(30, 60, seed)) for seed in range(1000, 1600)])
    covered = [
        abs(distance(a, b) - truth) <= paired.half_interval(distance, a, b)
        for a, b in (pair(30, 60, seed) for seed in range(150))
    ]
    assert 0.92 <= np.mean(covered) < 1


@pytest.fixture(scope="module")
def probe() -> Probe:
    built: Probe = registry.build("probe", "perceptual", {})
    return built


def soft(y: Tensor) -> Tensor:
    return blurred(y, 1.2)


def test_distances_of_pictures_are_those_of_the_networks(probe: Probe) -> None:
    x = photographs(64)[::4]
    y = soft(x).clamp(0, 1)
    found = probe(Subject(Fake(soft), x))
    with torch.inference_mode():
        expected = ShiftTolerantLPIPS("alex", "test")(x * 2 - 1, y * 2 - 1)
        net = EfficientNetLite0("test")
        a, b = (net(F.interpolate(h, (224, 224), mode="bilinear") * 2 - 1).double() for h in (x, y))
    assert found.per_image["stlpips"] == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-5)
    assert found.metrics["stlpips"] == pytest.approx(expected.mean().item(), rel=1e-3)
    distances = {
        "perceptual/rfd": frechet(a, b),
        "perceptual/rfd_real": frechet(a[::2], a[1::2]),
        "perceptual/kid": 1000 * paired.paired_kernel_distance(a, b),
    }
    for name, value in distances.items():
        assert found.metrics[name] == pytest.approx(value, rel=1e-3), name
    assert found.metrics["perceptual/pictures"] == 4
    assert "lpips" not in found.metrics


def test_a_perfect_model_has_no_distance_and_a_broken_one_is_not_a_number(probe: Probe) -> None:
    x = photographs(32)[:4]
    perfect = probe(Subject(Fake(lambda y: y), x)).metrics
    for name in ("stlpips", "perceptual/rfd", "perceptual/kid"):
        assert perfect[name] == pytest.approx(0, abs=1e-3), name
    broken = probe(Subject(Fake(lambda y: y * math.inf), x)).metrics
    for name in ("stlpips", "perceptual/rfd", "perceptual/rfd_ci", "perceptual/kid"):
        assert math.isnan(broken[name]), name
    assert perfect["perceptual/rfd_real"] == broken["perceptual/rfd_real"] > 0


def test_few_pictures_have_no_distribution(probe: Probe) -> None:
    found = probe(Subject(Fake(soft), photographs(32)[:3]))
    assert list(found.metrics) == ["stlpips"] and len(found.per_image["stlpips"]) == 3


def test_of_clips_the_middle_frames_are_compared(probe: Probe) -> None:
    clips = panned(5)[:4]
    subject = Subject(FakeVideo(each_frame(soft)), clips[:, :, 2], clips=clips, frames=5)
    stills = probe(Subject(Fake(soft), clips[:, :, 2]))
    assert probe(subject).metrics == pytest.approx(stills.metrics, rel=1e-3)


# LPIPS, whose weights are given


def test_lpips_is_the_package_s_where_its_weights_are(tmp_path: Path) -> None:
    file = tmp_path / "alex.pth"
    torch.save(features_of("alex"), file)
    found: ProbeResult = registry.build("probe", "perceptual", {"lpips": "alex", "lpips_weights": str(file)})(
        Subject(Fake(soft), photographs(64)[:4])
    )
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = torch.load(file, weights_only=True)
    theirs.net.load_state_dict({name: state[f"features.{name.split('.', 1)[1]}"] for name in theirs.net.state_dict()})
    x = photographs(64)[:4]
    expected = theirs(x * 2 - 1, soft(x).clamp(0, 1) * 2 - 1).flatten()
    assert found.per_image["lpips"] == pytest.approx(expected.tolist(), rel=1e-4)
    assert found.metrics["lpips"] == pytest.approx(expected.mean().item(), rel=1e-4)


# rFID, whose weights are given


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_weights(tmp_path_factory.mktemp("fid") / "inception.pth"))


@pytest.mark.parametrize(("height", "width"), [(48, 64), (320, 299)])
def test_inception_s_features_are_those_of_torch_fidelity(inception_weights: str, height: int, width: int) -> None:
    x = F.interpolate(photographs(64)[:4], (height, width), mode="bicubic").clamp(0, 1)
    theirs = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=inception_weights)
    with torch.inference_mode():
        [expected] = theirs((x * 255).round().byte())
        found = FidelityInception(Path(inception_weights), "test")(x)
        half_a_pixel_off = Inception(Path(inception_weights), "test")(x)
    spread = (expected - expected.mean(0)).norm()
    assert (found - expected).norm() < 1e-3 * spread
    assert (half_a_pixel_off - expected).norm() > 5e-3 * spread, "how pictures are resized matters"


def test_rfid_is_torch_fidelity_s(inception_weights: str) -> None:
    x = photographs(64)[:8]
    found = registry.build("probe", "perceptual", {"inception": inception_weights})(Subject(Fake(soft), x)).metrics
    pictures = {f"input{i}": Bytes(one) for i, one in enumerate((x, soft(x).clamp(0, 1)), start=1)}
    theirs = torch_fidelity.calculate_metrics(
        **pictures, cuda=False, fid=True, verbose=False, cache=False, save_cpu_ram=True,
        feature_extractor_weights_path=inception_weights,
    )  # fmt: skip
    assert found["rfid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    extractor = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=inception_weights)
    [a], [b] = (extractor(one.x) for one in pictures.values())
    expected = {
        "perceptual/rfid_ci": paired.half_interval(paired.paired_frechet, a, b),
        "perceptual/rfid_real": paired.paired_frechet(a[::2], a[1::2]),
        "perceptual/rfid_kid": 1000 * paired.paired_kernel_distance(a, b),
        "perceptual/rfid_kid_ci": 1000 * paired.half_interval(paired.paired_kernel_distance, a, b),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-2)


class Bytes(Dataset[Tensor]):
    """Pictures in [0, 1] as torch-fidelity reads them, of 8 bits."""

    def __init__(self, x: Tensor) -> None:
        self.x = (x * 255).round().byte()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, number: int) -> Tensor:
        return self.x[number]


def test_without_the_weights_of_inception_there_is_no_rfid(probe: Probe, tmp_path: Path) -> None:
    assert not [name for name in probe(Subject(Fake(soft), photographs(32)[:4])).metrics if "rfid" in name]
    missing = perceptual.Config(inception=str(tmp_path / "none.pth"))
    with pytest.raises(
        ValueError, match=r"^perceptual\.inception: .*none\.pth does not exist; .* leave `inception` out"
    ):
        missing.preflight()
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"^perceptual\.inception: .*other\.pth does not hold pytorch-fid's Inception"):
        registry.build("probe", "perceptual", {"inception": str(tmp_path / "other.pth")})


def test_missing_weights_say_what_where_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    config = perceptual.Config(lpips="alex")
    with pytest.raises(ValueError, match=r"perceptual\.lpips: .*`alex`.*alexnet-owt-7be5be79\.pth.*lpips_weights"):
        config.preflight()
    perceptual.Config().preflight()
    assert [*perceptual.Config().content_paths()] == ["alex_shift_tolerant.pth", "efficientnet-lite0-57934424.pth"]
    assert "alexnet-owt-7be5be79.pth" in config.content_paths()


def test_a_study_without_the_packages_is_refused_before_anything_starts(
    write_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(("[reconstruction]", "[reconstruction, perceptual]"))
    assert inside("check", study).returncode == 0
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", None)  # as if it were not installed
    done = inside("check", study)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if "stlpips" in line]
    assert "probe/perceptual needs the package stlpips-pytorch, which is not installed: pip install" in line
