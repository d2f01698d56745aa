"""Levels named as `package.module:Name`: any VAE, norms, losses, and what is said where one does not fit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ablate.data.prepare import prepare
from ablate.driver.preflight import validate
from ablate.engine.build import build_model, build_parts
from ablate.engine.flops import flops
from ablate.engine.provenance import component_sources
from ablate.errors import StudyError
from ablate.plan.trials import Trial, expand
from ablate.slots import LOGVAR_RANGE, discover, registry
from ablate.slots.level_file import LevelError
from ablate.slots.training import Posterior, Step
from ablate.store.folders import Store
from ablate.study.document import read_document
from ablate.study.study import Study, load_study
from tests.support import own_vae
from tests.support.command import python
from tests.support.own import fresh
from tests.support.studies import Write
from tests.support.training import run_to_end

MODEL = "{level: image_kl, channels: [8, 8], latent_channels: 4, blocks: 1}"

NORM = "norm: {level: group, groups: 4}"

SOURCE = Path(own_vae.__file__).read_text(encoding="utf-8")

STILL = Posterior(torch.zeros(1), torch.zeros(1))


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module beside the study, as `my_pkg.vae`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "my_pkg").mkdir()
    (tmp_path / "my_pkg" / "vae.py").write_text(SOURCE, encoding="utf-8")
    with fresh():
        yield tmp_path / "my_pkg"


@pytest.fixture
def study(write_study: Write) -> Any:
    """Read the tiny study with a class of `my_pkg.vae` as its model, and further replacements."""

    def read(name: str = "Pair", *more: tuple[str, str], settings: str = "") -> Study:
        return load_study(write_study((MODEL, f"{{level: python, target: my_pkg.vae:{name}{settings}}}"), *more))

    return read


def check(study: Study) -> None:
    validate(study.document, None, (), gpu=False)


def model_of(study: Study) -> Any:
    return build_model(expand(study)[0].order()["recipe"])


@pytest.mark.parametrize(
    "kind", ["Pair", "Mapped", "Distribution", "Diffusers", "Moments", "Latents", "Item", "make_pair"]
)
def test_what_encode_and_decode_may_give(kind: str, study: Any) -> None:
    """The posterior and the pictures are those of the module itself."""
    vae = model_of(study(kind))
    assert (vae.stride, vae.latent_channels, vae.temporal) == (4, 4, False)
    x = torch.rand(2, 3, 16, 24) * 2 - 1
    mean, logvar = vae.module.moments(x).chunk(2, 1)
    posterior = vae.encode(x)
    assert torch.equal(posterior.mean, mean)
    if kind == "Latents":
        assert (posterior.logvar == LOGVAR_RANGE[0]).all()
    else:
        assert torch.allclose(posterior.logvar, logvar, atol=1e-5)
    assert torch.equal(vae.decode(mean), own_vae.Pair.decode(vae.module, mean))
    with pytest.raises(ValueError, match=r"model: 18 x 24 \(h x w\) is not a multiple of the stride 4"):
        vae.encode(torch.zeros(1, 3, 18, 24))


@pytest.mark.parametrize("kind", ["Forward", "ForwardList", "ForwardMapping"])
def test_a_plain_forward_and_a_decoder_are_enough(kind: str, study: Any) -> None:
    vae = model_of(study(kind))
    assert (vae.stride, vae.latent_channels) == (2, 4)
    x = torch.rand(2, 3, 8, 8)
    posterior = vae.encode(x)
    assert torch.equal(posterior.mean, vae.module.fc_mu(vae.module.encoder(x)))
    assert torch.equal(vae.decode(posterior.mean), vae.module.decoder(posterior.mean))


def test_the_autoencoder_of_diffusers(write_study: Write) -> None:
    """A real `AutoencoderKL`, named where it is installed."""
    diffusers = pytest.importorskip("diffusers")
    settings = "block_out_channels: [8, 8], down_block_types: [DownEncoderBlock2D, DownEncoderBlock2D], "
    settings += "up_block_types: [UpDecoderBlock2D, UpDecoderBlock2D], norm_num_groups: 4, latent_channels: 4"
    vae = model_of(load_study(write_study((MODEL, f"{{level: python, target: diffusers:AutoencoderKL, {settings}}}"))))
    assert isinstance(vae.module, diffusers.AutoencoderKL)
    assert (vae.stride, vae.latent_channels) == (2, 4)
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(vae.encode(x).mean, vae.module.encode(x).latent_dist.mean)
        assert torch.equal(vae.decode(vae.encode(x).mean), vae.module(x, sample_posterior=False).sample)
    assert vae.last_weight is vae.module.decoder.conv_out.weight
    assert len(vae.decoder_blocks) == 2
    assert vae.module.encoder in vae.encoding_parts


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("Vector", "", "latents of my_pkg.vae:Vector are 1 1024; expected maps b z h w"),
        ("Smaller", "", "turns pictures 1 x 3 x 64 x 64 into 1 x 3 x 63 x 64"),
        ("NoDecode", "", "has neither a method 'decode' nor a part 'decoder'"),
        ("Greyscale", "", "raises RuntimeError: Given groups=1, weight of size [8, 1, 4, 4]"),
        ("Words", "", "encodes to str; expected a tensor, (mean, logvar)"),
        ("NoModule", "", "expected a torch.nn.Module"),
        ("Pair", ", stride: 8", "the study says stride 8, but my_pkg.vae:Pair has 4"),
        ("Pair", ", widht: 8", "unknown setting 'widht'; did you mean 'width'?"),
        ("Pair", ", width: text", "raises TypeError"),
        ("Pairs", "", "defines no 'Pairs'; did you mean 'Pair'?"),
        ("nothing", "", "defines no 'nothing'"),
    ],
)
def test_what_does_not_fit_is_said(name: str, settings: str, expected: str, write_study: Write) -> None:
    path = write_study((MODEL, f"{{level: python, target: my_pkg.vae:{name}{settings}}}"))
    with pytest.raises(StudyError) as caught:
        validate(read_document(path), None, (), gpu=False)
    assert expected in str(caught.value), str(caught.value)
    assert {problem.line for problem in caught.value.problems} == {5}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("my_pkg.vea:Pair", "there is no module 'my_pkg.vea'"),
        ("nowhere:Pair", "there is no module 'nowhere'; looked in"),
        ("my_pkg.vae", "expected package.module:Name"),
        ("my_pkg.vae:", "expected package.module:Name"),
        ("../vae:Pair", "expected package.module:Name"),
    ],
)
def test_names_that_lead_nowhere(target: str, expected: str, write_study: Write) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write_study((MODEL, f"{{level: python, target: '{target}'}}")))
    assert expected in str(caught.value)


def test_a_picture_size_that_does_not_fit_the_stride_is_found(study: Any) -> None:
    with pytest.raises(StudyError, match=r"18 x 18 .* not a multiple of the stride 4"):
        check(study("Pair", ("crop: 16", "crop: 18")))


def test_a_module_that_raises_while_it_is_imported(package: Path, study: Any) -> None:
    (package / "vae.py").write_text("import torch\n\n1 / 0\n\n\nclass Pair: ...\n")
    with pytest.raises(StudyError, match=r"vae.py:3: cannot be imported: ZeroDivisionError"):
        check(study())
    (package / "vae.py").write_text("class Pair(:\n")
    with pytest.raises(StudyError, match=r"vae.py:1: invalid Python"):
        check(study())


def test_settings_are_the_arguments_of_the_class(study: Any) -> None:
    """Their defaults are in the signature, and they can be varied."""
    factors = ("loss.kl: [1, 1e-4]", "model.width: [8, 12]\n  model.latent_channels: [4, 6]")
    trials = expand(study("Pair", factors))
    recipes = {trial.treatment.label: trial.order()["recipe"] for trial in trials}
    settings = {"width": 8, "latent_channels": 4}
    assert recipes["baseline"]["model"] == {"level": "python", "target": "my_pkg.vae:Pair", **settings}
    assert build_model(recipes["width=12"]).module.encoder[0].out_channels == 12
    assert build_model(recipes["latent_channels=6"]).latent_channels == 6
    given = expand(study("Pair", factors, settings=", width: 8"))
    assert [trial.signature for trial in given] == [trial.signature for trial in trials]
    assert len({trial.signature for trial in trials}) == 6


def built(trial: Trial, data: Path) -> Any:
    """The module as a trial begins with it."""
    level = dict(trial.order()["recipe"]["data"])
    return build_parts(trial.order(), prepare(level.pop("level"), level, data), torch.device("cpu")).vae.module


def test_weights_are_the_constructors_and_the_trials_seed_draws_them(study: Any, tmp_path: Path) -> None:
    first, other_seed = expand(study())[:2]
    made = [built(trial, tmp_path) for trial in (first, other_seed, first)]
    assert all((one.bias == 0.25).all() for one in made)  # the constructor's, though no reset_parameters draws it
    weights = [one.encoder[0].weight for one in made]
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("kind", ["Pair", "Item", "Forward"])
def test_such_a_model_is_trained_and_probed(kind: str, study: Any, tmp_path: Path) -> None:
    trial = expand(study(kind))[0]
    check(study(kind))
    store = Store(tmp_path / "runs")
    run_to_end(trial, store)
    record = store.stage(trial.signature).record()
    assert record is not None and record.flops > 0 and "psnr" in record.metrics
    assert record.code["own"][f"model/my_pkg.vae:{kind}"] == str(tmp_path / "my_pkg" / "vae.py")


def test_an_edit_of_an_imported_module_makes_records_stale(package: Path, study: Any) -> None:
    blocks = "def size():\n    return 4\n"
    (package / "blocks.py").write_text(blocks)
    (package / "vae.py").write_text(SOURCE.replace("import torch\n", "import torch\nfrom . import blocks\n", 1))
    before = component_sources(expand(study())[0].order())
    assert {"model/python", "model/my_pkg.vae:Pair"} <= before.keys()
    (package / "blocks.py").write_text(blocks.replace("4", "5"))
    study()
    assert registry.changed(before) == ["model/my_pkg.vae:Pair"]


def test_flops_are_counted_where_the_device_meta_does_not_work(study: Any) -> None:
    counts = [flops(model_of(study(kind)), (3, 16, 16)) for kind in ("Pair", "Item")]
    assert counts[0] == counts[1] > 0


def test_a_norm_and_an_upsampling_layer(write_study: Write, tmp_path: Path) -> None:
    study = load_study(
        write_study(
            (NORM, "norm: {level: my_pkg.vae:Norm, eps: 1e-4}"),
            ("padding: reflect", "padding: reflect\n  upsample: my_pkg.vae:Doubles"),
        )
    )
    check(study)
    trial = expand(study)[0]
    assert trial.order()["recipe"]["norm"] == {"level": "my_pkg.vae:Norm", "eps": 1e-4, "start": 0.5}
    h = torch.randn(2, 8, 4, 4)
    expected = 0.5 * h / (h.square().mean(1, keepdim=True) + 1e-4).sqrt()
    assert torch.allclose(registry.build("norm", "my_pkg.vae:Norm", {"eps": 1e-4}, 8, None)(h, None), expected)
    run_to_end(trial, Store(tmp_path / "runs"))
    conditional = registry.build("norm", "my_pkg.vae:Conditional", {}, 8, 4)
    z = torch.randn(2, 4, 2, 2)
    assert not torch.equal(conditional(h, z), h)
    assert torch.equal(conditional(h, None), h)


def test_a_loss_of_reconstruction_and_target(write_study: Write, tmp_path: Path) -> None:
    factors = "loss.my_pkg.vae:Edges: [0.1, 0]\n  loss.my_pkg.vae:Edges.power: [1, 2]"
    study = load_study(write_study(("kl: 1e-4}", "kl: 1e-4, my_pkg.vae:Edges: 0.1}"), ("loss.kl: [1, 1e-4]", factors)))
    check(study)
    labels = dict.fromkeys(trial.treatment.label for trial in expand(study))
    assert [*labels] == ["baseline", "my_pkg.vae:Edges=0", "power=2"]
    term = registry.build("loss", "my_pkg.vae:Edges", {"weight": 0.1, "power": 2})
    x, y = torch.rand(2, 2, 3, 8, 8)
    expected = ((y.diff(dim=-1) - x.diff(dim=-1)) ** 2).mean()
    assert torch.allclose(term(Step(x, y, STILL, STILL.mean, None)), expected)
    store = Store(tmp_path / "runs")
    trial = expand(study)[0]
    run_to_end(trial, store)
    assert all("train/my_pkg.vae:Edges" in line for line in store.stage(trial.signature).read_steps())


def test_torch_itself_has_losses(write_study: Write) -> None:
    check(load_study(write_study(("kl: 1e-4}", "kl: 1e-4, torch.nn:HuberLoss: {weight: 0.1, delta: 0.5}}"))))
    term = registry.build("loss", "torch.nn:HuberLoss", {"weight": 0.1, "delta": 0.5})
    x, y = torch.rand(2, 1, 3, 8, 8)
    found = term(Step(x, y, STILL, STILL.mean, None))
    assert torch.equal(found, nn.functional.huber_loss(y, x, delta=0.5))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kl: 1e-4}", "kl: 1e-4, my_pkg.vae:Detached: 1}", "gives a number without a gradient"),
        ("kl: 1e-4}", "kl: 1e-4, my_pkg.vae:Pair: 1}", "my_pkg.vae:Pair raises"),
        ("kl: 1e-4}", "kl: 1e-4, my_pkg.vae:Edgs: 1}", "did you mean 'Edges'?"),
        (NORM, "norm: my_pkg.vae:Doubles", "turns features"),
        (NORM, "norm: {level: my_pkg.vae:Norm, epz: 1}", "unknown setting 'epz'"),
        ("[reconstruction]", "[reconstruction, 'my_pkg.vae:Norm']", "a probe needs Config and build, and METRICS"),
    ],
)
def test_other_slots_say_what_does_not_fit(old: str, new: str, expected: str, write_study: Write) -> None:
    with pytest.raises(StudyError) as caught:
        check(load_study(write_study((old, new))))
    assert expected in str(caught.value), str(caught.value)


CONTRACT = '''
from ablate.slots import Metric, ProbeResult, ProbeSettings, Settings
from torch import nn


class Scaled:
    """Multiplies by a factor."""

    class Config(Settings):
        """`factor`."""

        factor: float = 2.0

    def build(config, channels, latent_channels):
        class Norm(nn.Module):
            def forward(self, h, z=None):
                return config.factor * h
        return Norm()


class Mean:
    """Mean of the reconstruction."""

    METRICS = (Metric("mine/mean", "gl", "none"),)

    class Config(ProbeSettings):
        """No settings."""

    def build(config):
        return lambda subject: ProbeResult({"mine/mean": 255 * subject.reconstruction.mean().item()})
'''


def test_a_class_may_follow_the_contract_of_a_file(package: Path, write_study: Write, tmp_path: Path) -> None:
    (package / "levels.py").write_text(CONTRACT)
    (package / "__init__.py").write_text("from .levels import Mean, Scaled as Renamed\n")
    study = load_study(
        write_study(
            (NORM, "norm: {level: my_pkg:Renamed, factor: 0.5}"),
            ("probes: [reconstruction]", "probes: [reconstruction, 'my_pkg.levels:Mean']"),
            ("primary: psnr", "primary: mine/mean"),
        )
    )
    assert "mine/mean" in study.metrics
    check(study)
    store = Store(tmp_path / "runs")
    trial = expand(study)[0]
    run_to_end(trial, store)
    record = store.stage(trial.signature).record()
    assert record is not None and "mine/mean" in record.metrics
    with pytest.raises(LevelError, match="defines no 'Nothing'"):
        registry.level("norm", "my_pkg.levels:Nothing")


def test_planning_imports_no_torch_for_such_a_study(write_study: Write) -> None:
    path = write_study((MODEL, "{level: python, target: my_pkg.vae:Pair, width: 12}"))
    code = f"from ablate.study.study import load_study; from pathlib import Path; load_study(Path({str(path)!r}))\n"
    code += "import sys; print('torch' in sys.modules, 'my_pkg' in sys.modules)"
    assert python(code).stdout.split() == ["False", "False"]


def test_without_a_folder_the_path_of_python_is_searched() -> None:
    registry.use(discover.discover(None))
    assert registry.level("norm", "tests.support.own_vae:Norm").path == Path(own_vae.__file__)
