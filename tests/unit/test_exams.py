"""Exams find faults and name them: levels with one fault each, written into a folder of their own."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent, indent
from threading import Thread

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ablate.cli.main import app
from ablate.slots import registry
from ablate.testing import EXAMS, NormExam, Point
from ablate.testing.checks import random_state_kept
from ablate.testing.exam import Missing
from tests.levels import own_levels

Write = Callable[..., None]


HEAD = '"""A level with a fault."""\n\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n\n'


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write `SLOT/broken`, a level of its own in a folder that the registry sees beside the shipped ones."""
    root = tmp_path / "components"

    def write(slot: str, code: str, fields: str = '"""No settings."""', head: str = HEAD, base: str = "") -> None:
        base = base or registry.SETTINGS.get(slot, registry.Settings).__name__
        config = f"class Config({base}):\n{indent(dedent(fields).strip(), '    ')}\n\n\n"
        text = f"{head}from ablate.slots import *\nfrom ablate.slots import Metric, {base}\n\n{config}{dedent(code)}"
        (root / slot / "broken.py").write_text(text)

    with own_levels(root):
        yield write


def missing(slot: str, **settings: object) -> dict[str, str]:
    """The points that the broken level lacks, by name, with their messages."""
    exam = type("TestBroken", (EXAMS[slot],), {"level": "broken", "settings": settings})()
    return {one.name: one.message for one in exam.run() if one.status == "missing"}


MODULE = """
class Layer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        {init}

    def forward(self, h, z=None):
        {forward}


def build(config, channels, other):
    return Layer(channels)
"""


def layer(forward: str, init: str = "self.conv = nn.Conv2d(channels, channels, 3, padding=1)") -> str:
    return MODULE.format(forward=forward, init=init)


LOSS = """
class Loss(Term):
    of = "{of}"

    def forward(self, step):
        {forward}


def build(config):
    return Loss()
"""


def loss(forward: str, of: str = "reconstruction") -> str:
    return LOSS.format(forward=forward, of=of)


PROBE = """
METRICS = (Metric("broken/size", "px", "none"), Metric("broken/error", "gl", "down"))


def build(config):
    return examine


def examine(subject):
    size, error = float(subject.images.shape[-1]), (subject.reconstruction - subject.images).abs().mean().item()
    {rest}
"""


def probe(rest: str) -> str:
    return PROBE.format(rest=rest)


REPORT = 'return ProbeResult({"broken/size": size, "broken/error": error})'


FAULTS: dict[str, tuple[str, str, str, str]] = {
    "padding of the wrong width": (
        "padding",
        "def build(config):\n    return lambda x, pads: F.pad(x, (pads[0], pads[0], pads[2], pads[2]))",
        "test_widths",
        "padded by (0, 1, 0, 1) (left, right, top, bottom): expected 2 3 9 11, found 2 3 8 10",
    ),
    "padding that swaps the axes": (
        "padding",
        "def build(config):\n    return lambda x, p: F.pad(x, (p[1], p[0], p[3], p[2]))",
        "test_inside_unchanged",
        "the picture inside the border is moved or changed; is the order right?",
    ),
    "padding that leaves bf16": (
        "padding",
        "def build(config):\n    return lambda x, pads: F.pad(x.float(), pads)",
        "test_bf16",
        "bf16 goes in and torch.float32 comes out",
    ),
    "norm without a gradient to its weight": (
        "norm",
        layer(
            "return F.normalize(h, dim=1) * self.weight.detach().view(-1, 1, 1)",
            "self.weight = nn.Parameter(torch.ones(channels))",
        ),
        "test_gradient",
        "no gradient reaches the weight 'weight'",
    ),
    "norm whose weight nobody draws": (
        "norm",
        layer(
            "return F.normalize(h, dim=1) * self.weight.view(-1, 1, 1)",
            "self.weight = nn.Parameter(torch.ones(channels))",
        ),
        "test_initialised",
        "(Layer) has parameters but no reset_parameters; a module with parameters of its own draws them in",
    ),
    "norm that is NaN on flat features": (
        "norm",
        layer("return h / h.std((2, 3), correction=0, keepdim=True)", "pass"),
        "test_flat_features",
        "the result for features that are 0 everywhere: 1024 of 1024 values are not finite",
    ),
    "norm over the batch": (
        "norm",
        layer("return F.batch_norm(h, None, None, training=True)", "pass"),
        "test_each_alone",
        "a picture's result depends on the others in its batch",
    ),
    "upsample that does not double": (
        "upsample",
        layer("return self.conv(h)"),
        "test_shape",
        "features 2 8 8 12: expected 2 8 16 24, found 2 8 8 12",
    ),
    "upsample that is given too few arguments": (
        "upsample",
        "def build(config, channels):\n    return nn.Identity()",
        "test_can_be_built",
        "build is called as build(config, channels, padding), found build(config, channels)",
    ),
    "downsample that draws from the global generator": (
        "downsample",
        layer("return F.avg_pool2d(self.conv(h + 0.1 * torch.randn(h.shape)), 2)"),
        "test_repeatable",
        "draws from torch's global generator, so results depend on what ran before",
    ),
    "downsample that crashes": (
        "downsample",
        layer("return self.conv(h).view(1, 2, 3)"),
        "test_shape",
        "raises RuntimeError at components/downsample/broken.py:",
    ),
    "temporal convolution that sees the next group": (
        "temporal_conv",
        """
        class Conv(nn.Conv3d):
            def forward(self, x, past=None):
                return super().forward(x)


        def build(config, before, after, group, padding):
            return Conv(before, after, 3, padding=1)
        """,
        "test_looks_ahead_within_its_group",
        "frames before frame 1 depend on it or on later ones, which are of the next group",
    ),
    "loss that is a vector": (
        "loss",
        loss("return (step.x - step.y).abs().mean((1, 2, 3))"),
        "test_scalar",
        "forward(step) must be a scalar tensor, found a tensor 2; take the mean",
    ),
    "loss that is not finite in bf16": (
        "loss",
        loss("return -(1 + 1e-3 * step.z.abs() - 1).mean().log()", "latent"),
        "test_bf16",
        "the term in a step with `precision: bf16`: 1 of 1 values are not finite",
    ),
    "loss that rewards differences": (
        "loss",
        loss("return -(step.x - step.y).square().mean()"),
        "test_difference",
        "a perfect reconstruction costs",
    ),
    "loss that judges something unknown": (
        "loss",
        loss("return (step.x - step.y).square().mean()", "pixels"),
        "test_is_a_term",
        "`of` must be one of reconstruction, latent, realism, found 'pixels'",
    ),
    "discriminator without its loss": (
        "discriminator",
        """
        class Critic(Discriminator):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 1, 4)

            def forward(self, x):
                return self.conv(x)

            def generator_loss(self, fake):
                return -fake.mean()


        def build(config):
            return Critic()
        """,
        "test_is_a_discriminator",
        "Critic does not define loss; see ablate.slots.Discriminator",
    ),
    "regularizer that does not draw by the seed": (
        "regularizer",
        """
        def build(config):
            return lambda vae, step: step.z.square().mean() * torch.rand(())
        """,
        "test_draws_by_seed",
        "draws from torch's global generator",
    ),
    "regularizer that decodes smaller latents than it says": (
        "regularizer",
        """
        def build(config):
            return lambda vae, step: vae.decode(step.z[..., ::2, ::2]).square().mean()
        """,
        "test_smallest_latent",
        "latents of side 4 are decoded, of 8; Config.smallest_latent(8) says 8",
    ),
    "init that draws from the global generator": (
        "init",
        """
        def build(config, seed_of):
            def initialise(net):
                for parameter in net.parameters():
                    nn.init.normal_(parameter)
            return initialise
        """,
        "test_same_seeds_same_weights",
        "draws from torch's global generator",
    ),
    "init that forgets weights": (
        "init",
        """
        def build(config, seed_of):
            def initialise(net):
                for parameter in net.parameters():
                    if parameter.ndim > 1:
                        nn.init.zeros_(parameter)
            return initialise
        """,
        "test_fills_every_weight",
        "is left as it was, or is not finite",
    ),
    "data of the wrong type": (
        "data",
        """
        import numpy as np

        def build(config, split):
            return [Picture(f"{split}{i}", lambda: np.zeros((160, 160, 3), np.float32)) for i in range(3)]
        """,
        "test_pixels",
        "train 'train0': expected uint8 from 0 to 255, found float32",
    ),
    "data of the wrong shape": (
        "data",
        """
        import numpy as np

        def build(config, split):
            return [Picture(f"{split}{i}", lambda: np.zeros((3, 160, 160), np.uint8)) for i in range(3)]
        """,
        "test_pixels",
        "train 'train0': expected an array h w 3, found 3 160 160",
    ),
    "data whose splits overlap": (
        "data",
        """
        import numpy as np

        def build(config, split):
            return [Picture(f"{i}", lambda: np.zeros((160, 160, 3), np.uint8)) for i in range(3)]
        """,
        "test_splits",
        "'0' is in both splits",
    ),
    "probe with an undeclared metric": (
        "probe",
        probe('return ProbeResult({"broken/size": size, "broken/eror": error})'),
        "test_reports",
        "reports 'broken/eror', which METRICS does not declare; did you mean 'broken/error'?",
    ),
    "probe without a declared metric": (
        "probe",
        probe('return ProbeResult({"broken/size": size})'),
        "test_reports",
        "METRICS declares 'broken/error', which is not reported",
    ),
    "probe that reports NaN": (
        "probe",
        probe('return ProbeResult({"broken/size": size, "broken/error": error * float("nan")})'),
        "test_values",
        "'broken/error' is nan for a model that is not broken; expected a finite number",
    ),
    "probe that reports tensors": (
        "probe",
        probe('return ProbeResult({"broken/size": size, "broken/error": torch.tensor(error)})'),
        "test_values",
        "'broken/error' must be a float, found Tensor; use `.item()`",
    ),
    "probe that changes the model": (
        "probe",
        probe(f"subject.vae.last.bias.data.zero_()\n    {REPORT}"),
        "test_repeatable",
        "the probe changes 'last.bias' of the model",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(write: Write, fault: str) -> None:
    slot, code, name, message = FAULTS[fault]
    fields = '"""No settings."""'
    write(slot, code, fields)
    found = missing(slot)
    assert message in found[name], found
    assert len(found) <= 7, "one fault is not reported at every point"


@pytest.mark.parametrize(
    ("generator", "draw"), [("torch", lambda: torch.rand(1)), ("numpy", np.random.rand), ("Python", random.random)]
)
def test_a_draw_from_a_global_generator_is_named(generator: str, draw: Callable[[], object]) -> None:
    with pytest.raises(Missing, match=f"draws from {generator}'s global generator"):
        random_state_kept(draw)


def test_a_draw_by_another_thread_is_no_fault_of_the_level() -> None:
    others = [Thread(target=random.random)]

    def run() -> int:
        while others:
            others[0].start()
            others.pop().join()
        return 3

    assert random_state_kept(run) == 3 and not others


def test_a_model_of_another_stride_than_it_says(write: Write) -> None:
    code = """
    from ablate.components.model import image_kl

    def build(config, encoder, decoder):
        return image_kl.build(image_kl.Config(channels=(8, 8), latent_channels=4, blocks=1), encoder, decoder)
    """
    write("model", code, '"""No settings."""\n@property\ndef stride(self) -> int:\n    return 4')
    found = missing("model")
    assert found["test_describes_itself"] == "stride: Config says 4, the model 2; set self.stride in the model"


@pytest.mark.parametrize(
    ("fields", "name", "message"),
    [
        ("groups: int = 4", "test_explains_its_settings", "Config has no docstring"),
        ('"""`group`: how many."""\ngroups: int = 4', "test_explains_its_settings", "does not explain `groups`"),
    ],
)
def test_faults_of_settings_are_named(write: Write, fields: str, name: str, message: str) -> None:
    head = HEAD + "from pydantic import PositiveInt\n"
    write("norm", layer("return F.normalize(h, dim=1)", "pass"), fields, head)
    assert message in missing("norm")[name]


def test_a_default_that_is_not_valid_is_an_error_of_the_file(write: Write) -> None:
    head = HEAD + "from pydantic import PositiveInt\n"
    write("norm", layer("return h", "pass"), '"""`groups`: how many."""\ngroups: PositiveInt = 0', head)
    code, _, err = command("norm/broken")
    assert code == 2 and "default of groups: expected a number greater than 0, found 0" in err


def test_a_level_that_exits_is_an_error_like_others(write: Write) -> None:
    write("norm", "def build(config, channels, latent_channels):\n    raise SystemExit(0)")
    code, out, _ = command("norm/broken")
    assert code == 1 and "raises SystemExit at components/norm/broken.py:15" in out


def test_once_a_level_cannot_be_built_the_rest_is_not_tried(write: Write) -> None:
    write("norm", "def build(config, channels, latent_channels):\n    raise ValueError('no')")
    points = list(type("TestBroken", (NormExam,), {"level": "broken"})().run())
    assert [one.status for one in points[:5]] == ["ok"] * 4 + ["missing"]
    assert {one.status for one in points[5:]} == {"not tried"}
    assert points[4].message == "raises ValueError at components/norm/broken.py:15: no"


def command(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["check-level", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_says_what_is_missing(write: Write) -> None:
    write("upsample", layer("return self.conv(h)"))
    code, out, _ = command("upsample/broken")
    assert code == 1
    assert "  missing    gives features of the right shape, finite\n" in out
    assert "features 2 8 8 12: expected 2 8 16 24, found 2 8 8 12" in out
    code, out, _ = command("upsample/broken", "--json")
    answer = json.loads(out)
    assert code == 1 and not answer["passed"] and answer["level"] == "upsample/broken"
    assert {one["status"] for one in answer["points"]} == {"ok", "missing"}


def test_the_command_passes_a_good_level() -> None:
    code, out, _ = command("norm/group", "--set", "groups=8")
    assert code == 0 and "norm/group: 14 of 14 points fulfilled" in out


@pytest.mark.parametrize(
    ("config", "messages"),
    [
        ("class Config(:\n    pass\n", ("broken.py:4", "invalid Python")),
        ("", ("broken.py", "Config is missing")),
        ("class Config(Settings):\n    pass\n", ("Config must inherit ProbeSettings of ablate.slots, found Settings",)),
        (
            "class Config(ProbeSettings):\n    smallest: int = 8\n",
            ("the field 'smallest' of Config hides ProbeSettings.smallest; give the field another name",),
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Field name")
def test_a_file_that_is_no_level_is_refused(write: Write, config: str, messages: tuple[str, ...]) -> None:
    write("probe", "")
    head = (
        'from ablate.slots import Metric, ProbeSettings, Settings\n\nMETRICS = (Metric("broken/size", "px", "none"),)\n'
    )
    end = "\n\ndef build(config):\n    return None\n"
    (registry.ROOT / "probe" / "broken.py").write_text(head + config + end)
    code, _, err = command("probe/broken")
    assert code == 2
    for message in messages:
        assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("norm/gruop",), "unknown level 'gruop' of norm; did you mean 'group'?"),
        (("nrm/group",), "unknown slot 'nrm'; did you mean 'norm'?"),
        (("norm/group", "--set", "groups"), "--set groups: expected NAME=VALUE"),
        (("norm/group", "--set", "groups=0"), "settings: groups: Input should be greater than 0, found 0"),
        (("data/folder",), "the exam needs the setting 'path': give it by --set path=VALUE"),
    ],
)
def test_the_command_refuses_what_it_cannot_examine(arguments: tuple[str, ...], message: str) -> None:
    code, _, err = command(*arguments)
    assert code == 2 and message in err


class TestGroup(NormExam):
    """An exam as an author inherits it."""

    level = "group"
    settings = ({"groups": 8}, {"groups": 32})


def test_an_inherited_exam_has_a_test_for_each_point() -> None:
    points = list(TestGroup().run())
    assert sorted(one.name for one in points) == [name for name in dir(TestGroup) if name.startswith("test_")]
    assert points[0] == Point("test_introduces_itself", "the file's docstring says what the level is", "ok")
