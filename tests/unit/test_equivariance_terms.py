"""The terms for diffusable latents: zero where they must be, closed forms, gradients, and their place in the loop."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.fft
import torch
import torch.nn.functional as F

from ablate.components.regularizer._rescale import MODES, rescale, turn
from ablate.components.regularizer._transformation import Transformation
from ablate.components.regularizer.af_shift import inside_error, shift
from ablate.components.regularizer.hf_penalty import high_frequencies
from ablate.components.regularizer.lcr import local_correlation
from ablate.components.regularizer.se import fewer_frames
from ablate.components.regularizer.spectrum_matching import spectrum
from ablate.driver.models import build_failure
from ablate.errors import StudyError
from ablate.identity import derive
from ablate.slots import registry
from ablate.slots.training import Alteration, Autoencoder, Posterior
from ablate.study.study import load_study
from tests.support.regularizers import ADDED, ALTERING, LEVELS, LOSS, Linear, make_step, normal, power_law

torch.set_num_threads(1)


class Identity(Autoencoder):
    """Latents are the pictures; `decoder` may spoil it."""

    stride = 1
    latent_channels = 3

    def __init__(self, decoder=lambda z: z):
        super().__init__()
        self.decoder = decoder

    def encode(self, x):
        return Posterior(x, torch.full_like(x, -30))

    def decode(self, z):
        return self.decoder(z)


def loss_of(level, vae, x, step=1, **settings):
    values = LEVELS[level] | {"strength": 1.0} | settings
    return registry.build("regularizer", level, values)(vae, make_step(vae, x, step))


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("level", ["se", "chf", "eq_explicit", "af_shift"])
def test_the_identity_is_equivariant(level, step):
    assert loss_of(level, Identity(), normal(2, 3, 32, 32), step).item() < 1e-10


@pytest.mark.parametrize("resample", list(MODES))
def test_the_identity_is_equivariant_under_every_filter(resample):
    for step in range(4):
        assert loss_of("se", Identity(), normal(2, 3, 16, 16), step, resample=resample).item() == 0


def test_a_decoder_that_sharpens_is_not_scale_equivariant():
    def sharpen(z):
        return 2 * z - F.avg_pool2d(F.pad(z, [1] * 4, mode="circular"), 3, 1)

    x = power_law(2, (2, 3, 32, 32)).float()
    flat = torch.full_like(x, 0.5)
    for level in ("se", "chf", "af_shift"):
        assert loss_of(level, Identity(sharpen), flat).item() < 1e-10, "constants are left alone"
    assert loss_of("se", Identity(sharpen), x).item() > 0.01
    assert loss_of("chf", Identity(sharpen), x).item() > 0.001
    assert loss_of("af_shift", Identity(sharpen), x).item() < 1e-10, (
        "a convolution moves with the picture, and here around it too"
    )


def test_a_decoder_that_knows_its_place_is_not_shift_equivariant():
    x = normal(2, 3, 32, 32)
    ramp = torch.linspace(-1, 1, 32)
    assert loss_of("af_shift", Identity(lambda z: z + ramp), x).item() > 0.01


def test_a_price_on_frequencies_is_zero_on_constants_and_correlation_on_parallel_vectors():
    assert loss_of("hf_penalty", Identity(), torch.full((1, 3, 16, 16), 0.7)).item() < 1e-6
    direction = torch.tensor([1.0, -2.0, 0.5])[:, None, None]
    lengths = normal(1, 1, 8, 8).abs() + 0.1
    assert loss_of("lcr", Identity(), direction * lengths).item() == 0
    assert loss_of("spectrum_matching", Identity(), normal(2, 3, 32, 32), delta=0.0).item() < 1e-6


def test_se_of_a_decoder_that_doubles():
    """D(P x) - P x = P x: the mean square of white noise over blocks of s x s is 1 / s^2."""
    x = normal(8, 3, 128, 128)
    for factor in (2, 4):
        found = loss_of("se", Identity(lambda z: 2 * z), x, factors=[factor], strength=0.5)
        assert found.item() == pytest.approx(0.5 / factor**2, rel=0.05)


def test_frames_are_reduced_but_for_the_first():
    clip = normal(2, 3, 17, 8, 8)
    latents = normal(2, 4, 5, 8, 8, seed=1)
    assert [fewer_frames(v, 2).shape[2] for v in (clip, latents)] == [9, 3]
    for by in (1, 2, 4):
        found = fewer_frames(clip, by)
        assert torch.equal(found[:, :, 0], clip[:, :, 0])
        for t in range(1, found.shape[2]):
            assert torch.allclose(found[:, :, t], clip[:, :, 1 + (t - 1) * by : 1 + t * by].mean(2), atol=1e-6)
    for wrong, by in ((clip, 3), (clip[:, :, 0], 2)):
        with pytest.raises(ValueError, match="frames after the first"):
            fewer_frames(wrong, by)
    for step in range(4):
        assert loss_of("se", Identity(), normal(2, 3, 9, 16, 16), step, temporal_factors=[1, 2, 4]).item() == 0
    settings = registry.level("regularizer", "se").Config.read({"strength": 1, "temporal_factors": [2, 3]})
    assert settings.latent_frames_multiple == 6
    assert "temporal_factors" not in registry.level("regularizer", "se").Config.read({"strength": 1}).identity()


def test_clips_that_do_not_divide_and_pictures_are_refused_where_frames_are_to_be_reduced(write_study):
    regularizer = "regularizer: {level: se, strength: 0.25, factors: [2], temporal_factors: [2]}"
    path = write_study((LOSS, f"{LOSS}\n  {regularizer}"))
    reason = "needs clips whose latent frames after the first are a multiple of 2, found"
    with pytest.raises(StudyError, match=f"{reason} pictures"):
        load_study(path)
    clips = ("data: {level: leaves", "data: {level: moving_leaves, size: 32, frames: 5, heldout_frames: 8")
    video = ("model: {level: image_kl, channels: [8, 8]", "model: {level: video_kl, halve_time: 1, channels: [8, 8]")
    path = write_study((LOSS, f"{LOSS}\n  {regularizer}"), clips, video)
    assert load_study(path).baseline, "2 latent frames after the first"
    path.write_text(
        path.read_text().replace("halve_time: 1", "halve_time: 0").replace("factors: [2]}", "factors: [3]}")
    )
    with pytest.raises(StudyError, match=r"a multiple of 3, found 4 \(frames 5, time stride 1\)"):
        load_study(path)


@pytest.mark.parametrize(("exponent", "half", "quarter"), [(0, 0.5, 0.25), (2, 0.86, 0.72)])
def test_how_much_pooling_shrinks_latents(exponent, half, quarter):
    """Standard deviations relative to the unreduced field."""
    z = power_law(exponent, (256, 1, 32, 32))
    for factor, share in ((2, half), (4, quarter)):
        assert (rescale(z, 1, factor, "mean").std() / z.std()).item() == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("resample", "factor", "ratio"),
    [("bilinear", 2, 1.0), ("bilinear", 4, 2.0), ("bilinear_ac", 2, 1.37), ("bilinear_ac", 4, 2.8)],
)
def test_bilinear_filters_alias_white_noise(resample, factor, ratio):
    """Standard deviations relative to block means."""
    z = normal(64, 3, 32, 32, dtype=torch.float64)
    found = rescale(z, 1, factor, resample).std() / rescale(z, 1, factor, "mean").std()
    assert found.item() == pytest.approx(ratio, rel=0.04)


@pytest.mark.parametrize("resample", list(MODES))
@pytest.mark.parametrize(("to", "of"), [(1, 2), (1, 4), (9, 16), (1, 1)])
def test_matrices_are_the_library_s_filters(resample, to, of):
    x = normal(2, 3, 32, 16, dtype=torch.float64)
    if resample == "mean" and of % to:
        with pytest.raises(ValueError, match="a side of 32 cannot be reduced to 9/16 of it by `mean`"):
            rescale(x, to, of, resample)
        return
    expected = F.interpolate(x, (32 * to // of, 16 * to // of), **MODES[resample])
    torch.testing.assert_close(rescale(x, to, of, resample), expected, rtol=0, atol=1e-12)


def test_hf_penalty_is_its_formula():
    z = normal(2, 3, 16, 24, dtype=torch.float64)
    total = 0.0
    for i in range(0, 16, 8):
        for j in range(0, 24, 8):
            amplitudes = np.abs(scipy.fft.dctn(z[:, :, i : i + 8, j : j + 8].numpy(), axes=(-2, -1), norm="ortho"))
            frequency = np.arange(8) / 7
            total += (amplitudes * (frequency[:, None] + frequency) ** 2 / 4).sum()
    assert high_frequencies(z, 8, 2.0).item() == pytest.approx(total / z.numel(), rel=1e-12)


def test_hf_penalty_of_white_noise_and_of_power_laws():
    """White noise of sd s has coefficients of mean amplitude s sqrt(2 / pi) at every frequency."""
    price = sum((u + v) ** 2 for u in range(8) for v in range(8)) / 49 / 4 / 64
    white = high_frequencies(0.3 * normal(64, 4, 32, 32), 8, 2.0).item()
    assert white == pytest.approx(0.3 * math.sqrt(2 / math.pi) * price, rel=0.01)
    found = []
    for exponent in (0, 1, 2, 3):
        z = power_law(exponent, (64, 4, 32, 32)).float()
        found.append(loss_of("hf_penalty", Identity(), z, block=8, normalize=True).item())
        assert loss_of("hf_penalty", Identity(), 9 * z, block=8, normalize=True).item() == pytest.approx(found[-1])
        assert loss_of("hf_penalty", Identity(), 9 * z, block=8) > 3 * loss_of("hf_penalty", Identity(), z, block=8)
    assert found == sorted(found, reverse=True) and found[0] > 4 * found[3]


def test_local_correlation_against_numpy():
    z = normal(2, 5, 6, 9, dtype=torch.float64)
    total, count = 0.0, 0
    for picture in z.numpy():
        for i in range(0, 6, 2):
            for j in range(0, 8, 2):
                matrix = np.corrcoef(picture[:, i : i + 2, j : j + 2].reshape(5, 4).T)
                total, count = total + matrix[np.triu_indices(4, 1)].mean(), count + 1
    assert local_correlation(z).item() == pytest.approx(total / count, rel=1e-9)
    with pytest.raises(ValueError, match="two channels and windows of 2 x 2"):
        local_correlation(z[:, :1])


def test_spectrum_against_scipy_and_its_divergence():
    x = normal(2, 3, 16, 16, dtype=torch.float64)
    power = (scipy.fft.dctn(x.numpy(), axes=(-2, -1), norm="ortho") ** 2).mean(1)
    radius = np.hypot(*np.indices((16, 16)))
    ring = np.minimum((radius / radius.max() * 8).astype(int), 7)
    ring[0, 0] = -1
    means = np.stack([power[:, ring == k].mean(1) for k in range(8)], 1)
    expected = torch.from_numpy(means / means.sum(1, keepdims=True))
    torch.testing.assert_close(spectrum(x, 8), expected, rtol=0, atol=1e-6)

    latents = [power_law(exponent, (64, 3, 32, 32)).float() for exponent in (0, 1, 2)]
    target = spectrum(latents[2], 16, delta=1.0)
    divergences = [(target * (target / spectrum(z, 16)).log()).sum(1).mean().item() for z in latents]
    assert divergences[1] == min(divergences), "1/f^2 tilted by f is 1/f"


def test_ideal_shifts_move_sines_by_any_fraction():
    """Exact for periods within the band, Nyquist excepted."""
    places = torch.arange(16, dtype=torch.float64)

    def field(down, across):
        rows, columns = 2 * torch.pi / 16 * (places - down), 2 * torch.pi / 16 * (places - across)
        return (torch.sin(3 * rows)[:, None] * torch.cos(5 * columns) + torch.cos(7 * columns))[None, None]

    for down, across in ((0.0, 0.0), (2.25, -3.5), (-0.125, 7.75)):
        torch.testing.assert_close(shift(field(0, 0), down, across), field(down, across), rtol=0, atol=1e-12)
    x = normal(1, 2, 16, 8, dtype=torch.float64)
    torch.testing.assert_close(shift(x, 3, -2), torch.roll(x, (3, -2), (-2, -1)), rtol=0, atol=1e-12)


def test_what_a_shift_brings_in_does_not_count():
    x = normal(1, 1, 8, 8)
    for down, across in ((3, -2), (2.5, 0.25), (-1.75, -4)):
        y = x.clone()
        rows = slice(0, math.ceil(down)) if down > 0 else slice(8 + math.floor(down), 8)
        columns = slice(0, math.ceil(across)) if across > 0 else slice(8 + math.floor(across), 8)
        y[:, :, rows] += 5
        y[..., columns] += 5
        assert inside_error(x, y, down, across) == 0
        assert inside_error(x, y, 0, 0) > 1


@pytest.mark.parametrize("level", list(ADDED))
def test_gradients_reach_the_encoder_and_the_decoder_where_they_should(level):
    vae = Linear()
    x = power_law(1, (2, 3, 64, 64)).float()
    loss_of(level, vae, x).backward()
    assert vae.encoder.weight.grad.abs().sum() > 0
    assert (vae.decoder.weight.grad is not None) == (level in {"se", "chf", "af_shift"})


def slope(level, held):
    """Derivative of the loss along the weights: by backward, and by differences where the given step is held or not."""
    vae, x, h = Linear(), normal(1, 3, 32, 32), 1e-2
    regularizer = registry.build("regularizer", level, {"strength": 1.0})
    fixed = make_step(vae, x)
    regularizer(vae, fixed).backward()
    found = sum((p.grad * p).sum().item() for p in vae.parameters() if p.grad is not None)
    ends = []
    with torch.no_grad():
        for factor in (1 + h, (1 - h) / (1 + h)):
            for parameter in vae.parameters():
                parameter.mul_(factor)
            ends.append(regularizer(vae, fixed if held else make_step(vae, x)).item())
    return found, (ends[0] - ends[1]) / (2 * h)


@pytest.mark.parametrize(("level", "held"), [("af_shift", True), ("eq_explicit", False)])
def test_which_targets_are_held(level, held):
    found, expected = slope(level, held)
    assert found == pytest.approx(expected, rel=1e-2)
    assert found != pytest.approx(slope(level, not held)[1], rel=0.1)


def test_gradients_are_right_in_float64():
    z = normal(1, 3, 8, 8, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: high_frequencies(z, 4, 2.0), z)
    assert torch.autograd.gradcheck(local_correlation, z)
    assert torch.autograd.gradcheck(lambda z: spectrum(z, 4), z)
    assert torch.autograd.gradcheck(lambda z: turn(rescale(z, 3, 8, "bicubic"), 3), z)


@pytest.mark.parametrize("level", ["hf_penalty", "lcr", "spectrum_matching"])
def test_flat_latents_have_a_finite_gradient(level):
    z = torch.full((1, 3, 16, 16), 0.25, requires_grad=True)
    settings = {"normalize": True} if level == "hf_penalty" else {}
    loss = registry.build("regularizer", level, LEVELS[level] | settings)(None, make_step(Identity(), z))
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()


def test_transformations_are_uniform_and_a_function_of_the_step():
    drawn = [Transformation.draw(32, 0.25, partial(derive, 0, "train", step)) for step in range(4000)]
    sides, counts = np.unique([t.side for t in drawn], return_counts=True)
    assert sides.tolist() == list(range(8, 32)), "8 to 31 of 32, as the authors have it"
    assert counts.min() > 4000 / 24 - 5 * math.sqrt(4000 / 24)
    quarters, counts = np.unique([t.quarters for t in drawn], return_counts=True)
    assert quarters.tolist() == [1, 2, 3] and counts.min() > 1200
    assert drawn[7] == Transformation.draw(32, 0.25, partial(derive, 0, "train", 7))
    assert {Transformation.draw(2, 0.9, partial(derive, 0, step)).side for step in range(20)} == {1}
    with pytest.raises(ValueError, match="one position"):
        Transformation.draw(1, 0.25, partial(derive, 0))


@pytest.mark.parametrize("level", ["se", "chf", "eq_explicit", "af_shift"])
def test_draws_differ_between_steps_and_seeds_and_never_between_calls(level):
    vae, x = Linear(), normal(2, 3, 64, 64)
    found = [loss_of(level, vae, x, step).item() for step in range(8)]
    assert found == [loss_of(level, vae, x, step).item() for step in range(8)]
    assert len(set(found)) >= (2 if level == "se" else 7)


@pytest.mark.parametrize(
    ("settings", "shares"), [({}, (0.5, 0.125, 0.375)), ({"prior": 0, "resample": "bicubic"}, (0.5, 0, 0.5))]
)
def test_the_three_branches_of_eq(settings, shares):
    vae, x = Identity(), normal(1, 3, 16, 16)
    eq = registry.build("regularizer", "eq", {"strength": 0.5, **settings})
    counts = dict.fromkeys(("transformed", "small", "plain"), 0)
    for step in range(800):
        seed_of = partial(derive, 0, "train", step)
        seen = eq.before_encoding(vae, x, seed_of)
        z = vae.encode(seen).mean
        target, latents = eq.before_decoding(vae, seen, z, seed_of)
        assert torch.equal(target, latents), "the identity is equivariant"
        if latents is not z:
            counts["transformed"] += 1
            assert seen is x and 4 <= target.shape[-1] <= 15
        elif seen is not x:
            counts["small"] += 1
            assert target is seen and 4 <= target.shape[-1] <= 15
        else:
            counts["plain"] += 1
    for count, share in zip(counts.values(), shares, strict=True):
        assert count / 800 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 800) + 1e-9)


def test_eq_transforms_target_and_latents_alike():
    x, z = normal(2, 3, 32, 32), normal(2, 4, 8, 8)
    eq = registry.build("regularizer", "eq", {"strength": 1.0, "least": 0.5})
    for step in range(5):
        seed_of = partial(derive, 0, step)
        drawn = Transformation.draw(8, 0.5, seed_of)
        target, latents = eq.before_decoding(Linear(), x, z, seed_of)
        for found, whole, size in ((target, x, 4 * drawn.side), (latents, z, drawn.side)):
            small = F.interpolate(whole, (size, size), mode="bilinear", align_corners=False)
            torch.testing.assert_close(found, torch.rot90(small, drawn.quarters, (2, 3)))


def test_latent_noise_is_interpolated_for_each_picture():
    """The rest's variance: E a^2 = 1/3 of strength^2; the latents' own share falls from 1 to 0, 1/2 on average."""
    z = 5 + torch.zeros(4096, 2, 8, 8)
    noisy = registry.build("regularizer", "latent_denoise", {"strength": 3.0})
    x, found = noisy.before_decoding(Identity(), z, z, partial(derive, 0))
    assert x is z
    kept = found.mean((1, 2, 3)) / 5
    assert kept.mean().item() == pytest.approx(0.5, abs=0.02)
    spread = found.std((1, 2, 3))
    assert torch.corrcoef(torch.stack([kept, spread]))[0, 1] < -0.9, "the more of z, the less noise"
    assert spread.square().mean().item() == pytest.approx(9 / 3, rel=0.05)
    assert torch.equal(found, noisy.before_decoding(Identity(), z, z, partial(derive, 0))[1])
    assert not torch.equal(found, noisy.before_decoding(Identity(), z, z, partial(derive, 1))[1])


def test_latents_that_do_not_divide_are_refused():
    vae, x = Linear(), normal(1, 3, 24, 24)
    with pytest.raises(ValueError, match="a side of 6 cannot be reduced to 1/4"):
        loss_of("se", vae, x, factors=[4])
    for level in ("chf", "hf_penalty"):
        with pytest.raises(ValueError, match="blocks of 8 do not fill 6 x 6"):
            loss_of(level, vae, x, block=8)
    multiples = {"se": {"factors": [2, 3]}, "chf": {"block": 5}, "hf_penalty": {}}
    found = {
        level: registry.level("regularizer", level).Config.read({"strength": 1, **settings}).latent_multiple
        for level, settings in multiples.items()
    }
    assert found == {"se": 6, "chf": 5, "hf_penalty": 8}


@pytest.mark.parametrize(
    ("regularizer", "fits"),
    [
        ("{level: se, strength: 0.25}", False),
        ("{level: eq, strength: 0.5}", False),
        ("{level: se, strength: 0.25, factors: [2]}", True),
        ("{level: se, strength: 0}", True),
        ("none", True),
    ],
)
def test_a_decoder_that_cannot_take_reduced_latents_is_found_before_it_trains(write_study, regularizer, fits):
    """Alias-free up-sampling reflects three places; of 8 latents a side a quarter is 2, a half 4."""
    deeper = ("channels: [8, 8]", "channels: [8, 8, 8]"), ("crop: 16", "crop: 32"), ("size: 32", "size: 64")
    parts = f"padding: reflect\n  upsample: alias_free\n  regularizer: {regularizer}"
    failure = build_failure(load_study(write_study(("padding: reflect", parts), *deeper)).baseline)
    assert (failure is None) == fits
    assert failure is None or (failure.slot == "padding" and "padding: reflect by" in failure.reason)


@pytest.mark.parametrize("level", list(LEVELS))
def test_strength_is_a_factor_from_0_on(level):
    config = registry.level("regularizer", level).Config
    assert config.read({"strength": 0}).strength == 0
    for wrong in ({}, {"strength": -1.0}, {"strength": 0.5, "alpha": 1}):
        with pytest.raises(ValueError, match=r"strength|alpha"):
            config.read(wrong)
    assert isinstance(registry.build("regularizer", level, LEVELS[level]), Alteration) == (level in ALTERING)


def test_settings_out_of_range_are_refused():
    for level, wrong in (
        ("se", {"factors": []}),
        ("se", {"factors": [1]}),
        ("se", {"resample": "area"}),
        ("chf", {"r_max": 1.0}),
        ("eq", {"strength": 1.5}),
        ("eq", {"least": 0.0}),
        ("lcr", {"threshold": 1.5}),
    ):
        with pytest.raises(ValueError):
            registry.level("regularizer", level).Config.read({"strength": 0.5, **wrong})
