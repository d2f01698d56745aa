"""The downstream probe: distances against closed forms, a generator that learns, equal conditions for every latent."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from ablate.components.probe import _distance as distance
from ablate.components.probe import _flow as flow
from ablate.components.probe import diffusability
from ablate.components.probe._inception import Inception
from ablate.plan.trials import expand
from ablate.slots import registry
from ablate.slots.probe import ProbeResult, Subject
from ablate.slots.training import Autoencoder, Posterior
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.inception import unloaded_oracle, write_weights
from tests.support.latents import power_law
from tests.support.planted import photographs
from tests.support.studies import Write
from tests.support.training import run_to_end

torch.set_num_threads(1)


BRIEF = flow.Budget(width=32, depth=2, heads=2, batch=64, lr=3e-3, warmup=10, ema=0.9, evaluate=(1, 150), euler=10)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("count", [512, 2048])
def test_two_sets_of_one_gaussian_are_as_far_apart_as_their_number_says(count: int) -> None:
    found = [distance.frechet(normal(count, 64, seed=2 * i), normal(count, 64, seed=2 * i + 1)) for i in range(4)]
    assert np.mean(found) == pytest.approx(distance.null_frechet(64, count), rel=0.1)
    assert distance.null_frechet(64, 512) == pytest.approx(64 * 65 / 1024 + 128 / 512)


def test_the_frechet_distance_is_its_formula_by_scipy() -> None:
    mixing = normal(8, 8, seed=5)
    a, b = normal(300, 8) @ mixing + 1, normal(300, 8, seed=1) * torch.linspace(0.2, 3, 8)
    first, second = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(first @ second).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert distance.frechet(a, b) == pytest.approx(float(expected), rel=1e-6)
    assert distance.frechet(a, a) == pytest.approx(0, abs=1e-8)
    assert math.isnan(distance.frechet(a, b * math.nan))


def test_the_kernel_distance_is_its_sums_and_has_no_bias() -> None:
    a, b = normal(20, 5), normal(30, 5, seed=1) + 0.5

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 5 + 1) ** 3

    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    within = [mean([kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]) for x in (a, b)]
    across = mean([kernel(x, y) for x in a for y in b])
    assert distance.kernel_distance(a, b) == pytest.approx(sum(within) - 2 * across)
    same = [distance.kernel_distance(normal(512, 64, seed=2 * i), normal(512, 64, seed=2 * i + 1)) for i in range(8)]
    assert abs(np.mean(same)) < 4 * np.std(same) / math.sqrt(8) < 0.01


def test_a_move_has_its_sliced_distance() -> None:
    x = normal(400, 64)
    move = normal(64, seed=3)
    expected = move.square().sum().item() / 64
    assert distance.sliced_wasserstein(x, x + move) == pytest.approx(expected, rel=0.2)
    assert distance.sliced_wasserstein(x, x[torch.randperm(400)]) == 0


def test_random_features_are_the_same_every_time_and_leave_the_generators_alone() -> None:
    before = torch.random.get_rng_state()
    once, again = (distance.RandomFeatures()(photographs(64)) for _ in range(2))
    assert torch.equal(once, again) and once.shape == (16, 64)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_guess_for_white_latents_is_their_regression() -> None:
    x, noise = normal(1, 200_000), normal(1, 200_000, seed=1)
    for t in (0.1, 0.5, 0.8):
        mixed, velocity = (1 - t) * x + t * noise, noise - x
        expected = (mixed * velocity).mean() / mixed.square().mean()
        assert flow.white_velocity(torch.tensor([t])).item() == pytest.approx(expected.item(), abs=0.01)


def test_an_untrained_generator_makes_white_noise() -> None:
    model = flow.DiT((4, 8, 8), 4, BRIEF)
    noise = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    spread = [flow.sample(model, noise, steps).std().item() for steps in (10, 100)]
    assert spread[0] < spread[1] == pytest.approx(1, abs=0.02), "few steps fall short of the variance"


def test_euler_steps_follow_a_velocity_that_is_known() -> None:
    """Of latents that are all the same, the velocity is (x_t - x) / t, whose lines are straight: no error."""
    target = torch.full((3, 2, 4, 4), 0.7)
    found = flow.sample(lambda x, t: (x - target) / t[:, None, None, None], torch.randn(3, 2, 4, 4), 7)
    assert found == pytest.approx(target, abs=1e-5)


def test_a_generator_learns_a_known_distribution() -> None:
    """Latents of a power law: the trained one is much nearer to their covariance than the untrained one."""
    field = power_law(3, 1024, 2)[..., :8, :8]
    latents = ((field - field.mean()) / field.std()).float()
    noise = normal(512, 2, 8, 8, seed=4).float()
    made = [flow.sample(model, noise, 10).flatten(1) for _, model in flow.learn(latents, 4, BRIEF)]
    before, after = (distance.frechet(x, latents[:512].flatten(1)) for x in made)
    assert after < 0.5 * before


class Pooled(Autoencoder):
    """Means of squares of `stride` px, repeated to `channels`."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.latent_channels = stride, channels

    def encode(self, x: Tensor) -> Posterior:
        z = F.avg_pool2d(x, self.stride).repeat(1, self.latent_channels // 3, 1, 1)
        return Posterior(z, torch.zeros_like(z))

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(z[:, :3], scale_factor=self.stride)


def crops(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    pictures = photographs(64)
    places = torch.randint(0, 33, (count, 2), generator=generator).tolist()
    chosen = torch.randint(0, len(pictures), (count,), generator=generator).tolist()
    return torch.stack([pictures[i, :, y : y + 32, x : x + 32] for i, (y, x) in zip(chosen, places, strict=True)])


def examine(vae: Autoencoder, monkeypatch: pytest.MonkeyPatch, steps: int = 150) -> ProbeResult:
    monkeypatch.setitem(diffusability.BUDGETS, "cpu", replace(BRIEF, evaluate=(1, steps)))
    probe = diffusability.build(diffusability.Config(samples=256))
    return probe(Subject(vae, photographs(64), batch=64, draw=crops))


def test_findings_are_the_same_every_time_and_training_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    once, again = (examine(Pooled(4, 3), monkeypatch) for _ in range(2))
    assert once.metrics == again.metrics and once.per_image == again.per_image
    declared = {metric.name for metric in registry.level("probe", "diffusability").metrics}
    assert set(once.metrics) == declared - {"diff/fid"}, "there are no weights"
    assert all(np.array_equal(once.pictures[name], again.pictures[name]) for name in once.pictures)
    first, last = once.per_image["diff/curve_fd"]
    assert once.per_image["diff/curve_steps"] == [1, 150]
    assert last == once.metrics["diff/fd"] < 0.8 * first
    assert once.metrics["diff/fd_floor"] < once.metrics["diff/fd_recon"] < once.metrics["diff/fd"]
    assert once.metrics["diff/fd_auc"] == pytest.approx((math.log(first) + math.log(last)) / 2)


def test_every_latent_has_the_same_tokens_and_meets_the_same_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [examine(vae, monkeypatch, steps=2).metrics for vae in (Pooled(4, 3), Pooled(8, 6))]
    assert [one["diff/tokens"] for one in found] == [16, 16]
    assert found[0]["diff/fd_floor"] == found[1]["diff/fd_floor"]
    for shape in ((3, 8, 8), (6, 4, 4), (12, 16, 16)):
        assert flow.DiT(shape, 4, BRIEF).place.shape == (16, BRIEF.width)
    with pytest.raises(ValueError, match="4 x 4 tokens do not fill latents of 6 x 6"):
        flow.DiT((3, 6, 6), 4, BRIEF)


def test_nothing_is_reported_where_the_training_pictures_are_not_known() -> None:
    assert diffusability.build(diffusability.Config())(Subject(Pooled(4, 3), photographs(64))).metrics == {}


def test_a_model_gone_to_nan_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Pooled):
        def encode(self, x: Tensor) -> Posterior:
            return super().encode(x * math.nan)

    found = examine(Broken(4, 3), monkeypatch, steps=2).metrics
    assert {name for name, value in found.items() if math.isfinite(value)} == {"diff/fd_floor", "diff/tokens"}


def test_a_trial_is_examined_with_its_own_crops_and_by_its_averaged_weights_alone(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(diffusability.BUDGETS, "cpu", replace(BRIEF, evaluate=(1, 2)))
    probes = "probes: [reconstruction, {level: diffusability, samples: 256}]"
    trial = expand(load_study(write_study(("probes: [reconstruction]", probes))))[0]
    store = Store(tmp_path)
    run_to_end(trial, store)
    folder = store.stage(trial.signature)
    record = folder.record()
    assert (
        record and record.metrics["diff/tokens"] == 16 and record.metrics["diff/fd"] > record.metrics["diff/fd_floor"]
    )
    assert "psnr" in record.raw and not any(name.startswith("diff/") for name in record.raw)
    assert json.loads(folder.per_image.read_text())["diff/curve_steps"] == [1, 2]
    assert {path.name for path in folder.pictures.glob("*.png")} >= {"diffusability.png", "generated.png"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("fid") / "inception.pth")


def test_fids_features_are_those_of_pytorch_fid(weights: Path) -> None:
    network = unloaded_oracle()
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.fc = nn.Identity()
    x = photographs(64)[:2]
    with torch.no_grad():
        expected = network(2 * F.interpolate(x, (299, 299), mode="bilinear", align_corners=False) - 1)
        found = Inception(weights, "diffusability.fid")(x)
        plain = torchvision.models.inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
        plain.load_state_dict(torch.load(weights, weights_only=True))
        plain.fc = nn.Identity()
        small = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
        assert not torch.allclose(plain.eval()(2 * small - 1), expected, rtol=0.01), "the pooling matters"
    assert found.shape == (2, 2048)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_other_weights_and_missing_ones_are_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"^diffusability\.fid: .*other\.pth does not hold pytorch-fid's"):
        Inception(tmp_path / "other.pth", "diffusability.fid")
    missing = diffusability.Config(fid=str(tmp_path / "missing.pth"), samples=8192)
    with pytest.raises(ValueError, match=r"missing\.pth does not exist; put pytorch-fid's"):
        missing.preflight()
    with pytest.raises(
        ValueError, match=r"a Fréchet distance in 2048 features \(FID\) needs 8192 samples or more, found 5"
    ):
        diffusability.Config(fid="somewhere.pth")
