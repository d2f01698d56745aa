"""The loss terms against closed forms, float64 and the lpips package."""

import lpips
import pytest
import torch
import torchvision
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from ablate.components.loss.kl import canonical_factor
from ablate.components.shared.stlpips import ShiftTolerantLPIPS
from ablate.slots import registry
from ablate.slots.training import LOGVAR_RANGE, Posterior, Step
from tests.support.command import python

torch.set_num_threads(1)


def images(seed, n=2, size=32):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def look(x, y, posterior=None, discriminator=None):
    posterior = posterior or Posterior(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    return Step(x, y, posterior, posterior.mean, discriminator)


def term(name, **settings):
    return registry.build("loss", name, {"weight": 1.0, **settings})


@pytest.mark.parametrize("name", registry.levels("loss"))
def test_weight_is_required_and_not_negative(name):
    config = registry.level("loss", name).Config
    assert config.read({"weight": 0}).weight == 0.0
    with pytest.raises(ValueError, match="weight"):
        config.read({})
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        config.read({"weight": -1e-6})


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("l2", 2)])
def test_pixel_losses_are_means_over_everything_and_ignore_their_weight(name, power):
    x, y = images(0), images(1)
    truth = ((y.double() - x.double()).abs() ** power).mean().item()
    assert term(name)(look(x, y)).item() == pytest.approx(truth, rel=1e-6)
    assert term(name, weight=7.0)(look(x, y)).item() == pytest.approx(truth, rel=1e-6)


def test_kl_against_torch_distributions_in_float64():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 16, 4, 4, generator=generator) * 2
    logvar = torch.randn(3, 16, 4, 4, generator=generator) * 4
    truth = kl_divergence(
        Normal(mean.double(), (0.5 * logvar.double()).exp()), Normal(torch.zeros(()).double(), torch.ones(()).double())
    ).mean()
    assert term("kl")(look(images(0), None, Posterior(mean, logvar))).item() == pytest.approx(truth.item(), rel=1e-6)


def test_kl_near_the_prior_keeps_its_digits():
    """At mean 0 and small logvar v it is (e^v - 1 - v) / 2, about v^2 / 4; fp32 exp(v) - 1 - v is far off."""
    v = torch.full((1, 4, 2, 2), 1e-3)
    assert term("kl")(look(images(0), None, Posterior(torch.zeros_like(v), v))).item() == pytest.approx(
        2.5008e-7, rel=1e-3
    )
    half = Posterior(torch.ones(1, 1, 1, 1, dtype=torch.bfloat16), torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16))
    assert term("kl")(look(images(0), None, half)).dtype == torch.float32


def test_kl_is_finite_over_the_whole_range_of_logvar():
    for v in LOGVAR_RANGE:
        assert term("kl")(
            look(images(0), None, Posterior(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), v)))
        ).isfinite()


def gaussian(z=4, size=4, n=3, seed=0):
    """A posterior in float64 and the parameters `n 2z size size` that diffusers makes it of."""
    parameters = torch.randn(n, 2 * z, size, size, generator=torch.Generator().manual_seed(seed)).double()
    return Posterior(*parameters.chunk(2, dim=1)), parameters


@pytest.mark.parametrize(("z", "published"), [(4, 2.1e-8), (16, 8.3e-8)])
def test_sums_over_pixels_and_latents_are_those_of_diffusers_and_latent_diffusion(z, published):
    """Their loss is ours times the number of values of an image, at the same weight of 1e-6."""
    posterior, parameters = gaussian(z)
    x, y = images(0, n=3).double(), images(1, n=3).double()
    theirs = DiagonalGaussianDistribution(parameters)
    pixels = (x - y).abs().sum() / 3
    whole = pixels + 1e-6 * theirs.kl().sum() / 3
    seen = look(x, y, posterior)
    ours = term("l1")(seen) + 1e-6 * term("kl", reduction="sum_as_pixels")(seen)
    assert (ours * 3 * 32 * 32).item() == pytest.approx(whole.item(), rel=1e-6)
    share = 1e-6 * term("kl", reduction="sum_as_pixels")(seen) / term("l1")(seen)
    assert share.item() == pytest.approx((whole - pixels).item() / pixels.item(), rel=1e-4)
    factor = canonical_factor("sum_as_pixels", (3, z, 4, 4), (3, 3, 32, 32))
    assert 1e-6 * factor == pytest.approx(published, rel=0.02)


def test_other_reductions_of_kl_are_those_of_their_sources():
    posterior, parameters = gaussian(z=8, size=6)
    seen = look(images(0, n=3, size=48), None, posterior)
    summed = DiagonalGaussianDistribution(parameters).kl().mean()
    assert term("kl", reduction="sum")(seen).item() == pytest.approx(summed.item(), rel=1e-6)
    mean, logvar = posterior.mean, posterior.logvar
    positions = (mean**2 + logvar.exp() - logvar - 1).sum(1).mean()  # stable-audio: no half
    assert term("kl", reduction="channel_sum")(seen).item() == pytest.approx(positions.item(), rel=1e-6)
    assert torch.equal(term("kl")(seen), term("kl", reduction="mean")(seen))


def test_a_kl_summed_over_a_clip_beside_the_pixels_of_a_frame():
    """Open-Sora-Plan: the pixel loss is summed over a frame, the KL over all t latent frames."""
    posterior = Posterior(*torch.randn(2, 2, 4, 5, 3, 2, generator=torch.Generator().manual_seed(0)).double())
    clip, frames, latent_frames, f = torch.zeros(2, 3, 17, 24, 16), 17, 5, 8
    kl = kl_divergence(Normal(posterior.mean, (0.5 * posterior.logvar).exp()), Normal(0.0, 1.0)).sum() / 2
    values_of_a_frame = clip[0, :, 0].numel()
    ours = term("kl", reduction="sum_as_pixels")(look(clip, None, posterior)) * frames
    assert ours.item() * values_of_a_frame == pytest.approx(kl.item(), rel=1e-6)
    assert ours.item() == pytest.approx(term("kl")(look(clip, None, posterior)).item() * latent_frames * 4 / (3 * f**2))


def test_kl_s_added_settings_change_no_signature_and_are_checked():
    config = registry.level("loss", "kl").Config
    assert config.read({"weight": 1e-4}).identity() == {"weight": 1e-4}
    changed = {"weight": 1e-4, "reduction": "sum", "start": 100, "ramp": 50}
    assert config.read(changed).identity() == changed
    for wrong in ({"reduction": "total"}, {"start": -1}, {"ramp": -1}, {"ramp": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            config.read({"weight": 1e-4, **wrong})


def critic(loss="hinge"):
    """A small discriminator whose batch norm does not change what it says from call to call."""
    torch.manual_seed(0)
    return registry.build("discriminator", "patchgan", {"width": 4, "layers": 1, "loss": loss}).eval()


@pytest.mark.parametrize("loss", ["hinge", "vanilla", "non_saturating"])
def test_adversarial_is_the_discriminator_s_loss_of_the_reconstruction(loss):
    opponent = critic(loss)
    x, y = images(0), images(1).requires_grad_()
    value = term("adversarial")(look(x, y, discriminator=opponent))
    logits = opponent(y).double()
    truth = functional.softplus(-logits).mean() if loss == "non_saturating" else -logits.mean()
    assert value.item() == pytest.approx(truth.item(), rel=1e-6)
    value.backward()
    assert y.grad.abs().sum() > 0


def test_adversarial_needs_an_opponent():
    with pytest.raises(ValueError, match="discriminator: patchgan"):
        term("adversarial")(look(images(0), images(1)))


def test_adversarial_s_added_settings_change_no_signature_and_are_checked():
    config = registry.level("loss", "adversarial").Config
    assert config.read({"weight": 0.1}).identity() == {"weight": 0.1}
    changed = {"weight": 0.1, "mode": "adaptive", "clamp": 10.0, "start": 100, "ramp": 50}
    assert config.read(changed).identity() == changed
    for wrong in ({"mode": "clever"}, {"clamp": 0}, {"start": -1}, {"ramp": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            config.read({"weight": 0.1, **wrong})


def random_features():
    return term("perceptual", backbone="random_features")


def test_random_features_are_a_distance_and_deterministic():
    x, y = images(0), images(1)
    loss = random_features()
    assert loss(look(x, x)).item() == 0.0
    assert loss(look(x, y)).item() > 0.1
    assert loss(look(x, y)).item() == pytest.approx(loss(look(y, x)).item(), rel=1e-6)
    assert loss(look(x, x + 0.1 * (y - x))).item() < loss(look(x, y)).item() / 4
    assert torch.equal(loss(look(x, y)), random_features()(look(x, y)))


def test_random_features_leave_the_global_random_state_alone_and_do_not_read_it():
    torch.manual_seed(1)
    first = random_features()
    after = torch.rand(4)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(4), after)
    torch.manual_seed(2)
    second = random_features()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_random_features_reach_the_reconstruction_and_not_their_own_weights():
    loss, y = random_features(), images(1).requires_grad_()
    loss(look(images(0), y)).backward()
    assert (y.grad.abs().sum((0, 1)) > 0).all()
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in loss.parameters())


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_random_features_have_a_finite_gradient_on_flat_pictures(value):
    y = torch.full((1, 3, 16, 16), value, requires_grad=True)
    random_features()(look(images(0, n=1, size=16), y)).backward()
    assert y.grad.isfinite().all()


def unevenness(distance):
    """Largest over smallest mean gradient of the 16 places in a 4 x 4 cell."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, 32, 32, generator=generator)
    y = (x + 0.1 * torch.randn(64, 3, 32, 32, generator=generator)).requires_grad_()
    distance(x, y).mean().backward()
    inner = y.grad[:, :, 4:-4, 4:-4].abs().sum((0, 1))
    places = inner.unflatten(0, (-1, 4)).unflatten(2, (-1, 4)).mean((0, 2))
    return (places.max() / places.min()).item()


def test_random_features_weigh_pixels_evenly_where_strides_would_not():
    network = random_features().network

    def strided(x, y):
        distance = 0
        for stage, conv in enumerate(network.convs):
            stride = 2 if stage else 1
            x, y = (functional.relu(functional.conv2d(h, conv.weight, conv.bias, stride, 1)) for h in (x, y))
            first, second = (functional.normalize(h, dim=1, eps=network.floor) for h in (x, y))
            distance = distance + (first - second).square().sum(1).mean()
        return distance

    assert unevenness(network) < 1.1
    assert unevenness(strided) > 1.2


TRUNKS = {"vgg": torchvision.models.vgg16, "alex": torchvision.models.alexnet}


NAMES = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}


def features_of(trunk):
    """A random trunk's state dict as torchvision names it, without the classifier, which is large and not used."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        net = TRUNKS[trunk](weights=None).features
    net.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        fan = max(parameter[0].numel(), 1)
        nn.init.normal_(parameter, std=(2 / fan) ** 0.5 if parameter.ndim > 1 else 0.1, generator=generator)
    return {f"features.{name}": tensor for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_lpips_is_the_package_s_with_the_given_trunk(trunk, tmp_path):
    state = features_of(trunk)
    torch.save({**state, "classifier.6.bias": torch.zeros(1000)}, tmp_path / "trunk.pth")
    torch.manual_seed(3)
    expected_draw = torch.rand(2)
    torch.manual_seed(3)
    loss = term("perceptual", trunk=trunk, weights=str(tmp_path / "trunk.pth"))
    assert torch.equal(torch.rand(2), expected_draw), "building must not move the global random state"

    theirs = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    for piece in theirs.net.children():
        for index, layer in piece.named_children():
            for kind, parameter in layer.named_parameters():
                parameter.data.copy_(state[f"features.{index}.{kind}"])
    x, y = images(0, size=64), images(1, size=64).requires_grad_()
    nn.ModuleDict({"loss": loss}).train()
    value = loss(look(x, y))
    assert value.item() == pytest.approx(theirs(x, y).mean().item(), rel=1e-6)
    assert value.item() > 0
    value.backward()
    assert y.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())


def test_lpips_refuses_another_file(tmp_path):
    torch.save(features_of("alex"), tmp_path / "alex.pth")
    with pytest.raises(ValueError, match=r"alex\.pth does not hold torchvision's `vgg`"):
        term("perceptual", trunk="vgg", weights=str(tmp_path / "alex.pth"))


@pytest.mark.parametrize("trunk", TRUNKS)
def test_missing_weights_say_what_where_and_how(trunk, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    config = registry.level("loss", "perceptual").Config(weight=0.1, trunk=trunk)
    assert str(config.trunk_file()) == f"{torch.hub.get_dir()}/checkpoints/{NAMES[trunk]}"
    with pytest.raises(ValueError, match=f"(?s){NAMES[trunk]}.*loss.perceptual.weights.*random_features"):
        config.preflight()
    with pytest.raises(ValueError, match=NAMES[trunk]):
        registry.build("loss", "perceptual", config.plain())
    config.trunk_file().parent.mkdir(parents=True)
    config.trunk_file().touch()
    config.preflight()


def test_weights_are_not_asked_for_where_they_are_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    config = registry.level("loss", "perceptual").Config
    with pytest.raises(ValueError, match=r"loss\.perceptual\.weights"):
        config(weight=1.0).preflight()
    config(weight=0.0).preflight()
    config(weight=1.0, backbone="random_features").preflight()


@pytest.mark.parametrize("variables", [{}, {"XDG_CACHE_HOME": "/somewhere"}, {"TORCH_HOME": "~/there"}])
def test_default_place_is_torch_s_own(variables, monkeypatch):
    for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    place = registry.level("loss", "perceptual").Config(weight=1.0).trunk_file().parent
    assert str(place) == f"{torch.hub.get_dir()}/checkpoints"


def test_preflight_does_not_import_torch(tmp_path):
    code = (
        "import sys; from ablate.slots import registry\n"
        "for name in ('efficientnet', 'stlpips'):\n"
        "    config = registry.level('loss', 'perceptual').Config(weight=1.0, backbone=name)\n"
        "    config.preflight(), config.content_paths()\n"
        "try: registry.level('loss', 'perceptual').Config(weight=1.0).preflight()\n"
        "except ValueError: print('missing')\n"
        "assert 'torch' not in sys.modules and 'lpips' not in sys.modules"
    )
    done = python(code, env={"TORCH_HOME": str(tmp_path)})
    assert done.stdout == "missing\n"


LEARNED = {
    "efficientnet": {"backbone": "efficientnet"},
    "stlpips": {"backbone": "stlpips", "trunk": "alex"},
}


@pytest.fixture(scope="module", params=LEARNED)
def learned(request):
    return term("perceptual", **LEARNED[request.param])


def test_learned_features_are_a_distance(learned):
    x, y = images(0), images(1)
    assert learned(look(x, x)).item() == 0.0
    assert learned(look(x, y)).item() > 0.05
    assert learned(look(x, y)).item() == pytest.approx(learned(look(y, x)).item(), rel=1e-5)
    assert learned(look(x, x + 0.1 * (y - x))).item() < learned(look(x, y)).item() / 2


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_learned_features_have_a_finite_gradient_on_flat_pictures_and_none_of_their_own(learned, value):
    y = torch.full((1, 3, 32, 32), value, requires_grad=True)
    learned(look(images(0, n=1, size=32), y)).backward()
    assert y.grad.isfinite().all() and y.grad.abs().sum() > 0
    learned(look(y.detach(), y.detach().requires_grad_())).backward()
    assert not any(parameter.requires_grad for parameter in learned.parameters())


def test_learned_features_weigh_pixels_as_unevenly_as_documented(learned):
    network = learned.network
    documented = 1.1 if isinstance(network, ShiftTolerantLPIPS) else 1.3
    assert unevenness(lambda x, y: network(x.clamp(-1, 1), y)) == pytest.approx(documented, abs=0.05)


@pytest.mark.parametrize("name", ["l1", "l2", "kl", "adversarial", "perceptual"])
def test_terms_are_fp32_under_bf16_autocast(name):
    torch.manual_seed(0)
    x, y, opponent = images(0), images(1), critic()
    posterior = Posterior(torch.ones(2, 4, 4, 4, dtype=torch.bfloat16), torch.zeros(2, 4, 4, 4, dtype=torch.bfloat16))
    loss = random_features() if name == "perceptual" else term(name)
    exact = loss(look(x, y, posterior, opponent))
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(look(x, y.bfloat16(), posterior, opponent))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=0.02, abs=1e-3)


@torch.no_grad()
def test_of_clips_perceptual_is_the_mean_over_frames():
    x, y = (torch.stack([images(seed + t) for t in range(3)], 2) for seed in (0, 10))
    perceptual = term("perceptual", backbone="random_features")
    expected = torch.stack([perceptual(look(x[:, :, t], y[:, :, t])) for t in range(3)]).mean()
    torch.testing.assert_close(perceptual(look(x, y)), expected)
