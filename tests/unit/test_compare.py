"""`ablate compare`: its statistics against SciPy, its figures against closed forms, its pages, its errors."""

import json
import math
from pathlib import Path

import diffusers
import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from scipy import stats

from ablate.analysis.tables.compared import Cost, Measured, compare_pictures
from ablate.probing.compare import PeakBytes, means_of
from ablate.slots import registry
from tests.support import released
from tests.support.command import inside
from tests.support.inception import write_weights
from tests.support.typeset import compiled

SIDE = 64
PROBES = ("--probes", "reconstruction,grid")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three VAEs as diffusers saves them, and 24 pictures of photographs."""
    root = tmp_path_factory.mktemp("compare")
    torch.manual_seed(0)
    for name in ("AutoencoderKL", "AutoencoderTiny", "AutoencoderKLWan"):
        getattr(diffusers, name)(**released.SMALL[name]).save_pretrained(root / name)
    (root / "pictures").mkdir()
    for name in ("astronaut", "coffee", "chelsea"):
        photo = getattr(skimage.data, name)()
        for i in range(8):
            Image.fromarray(photo[30 * i : 30 * i + SIDE, 40 * i : 40 * i + SIDE]).save(
                root / f"pictures/{name}{i}.png"
            )
    return root


@pytest.fixture(scope="module")
def words(folder: Path) -> list[str]:
    vaes = [f"{short}={folder / name}" for short, name in
            (("kl", "AutoencoderKL"), ("tiny", "AutoencoderTiny"), ("wan", "AutoencoderKLWan"))]  # fmt: skip
    return ["compare", *vaes, "--images", str(folder / "pictures"), "--sizes", str(SIDE), *PROBES]


@pytest.fixture(scope="module")
def found(words: list[str], folder: Path) -> dict[str, object]:
    done = inside(*words, "--json", "--out", folder / "page.html")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def psnr_of(vae: torch.nn.Module, path: Path, *, clip: bool) -> float:
    """PSNR in float64, by the class of diffusers itself."""
    x = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        encoded = vae.encode(x[:, :, None] if clip else x)
        latent = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        y = vae.decode(latent).sample
    y = (y[:, :, 0] if clip else y).double().clamp(-1, 1)
    return 10 * math.log10(4 / float(((x.double() - y) ** 2).mean()))


def test_means_differences_and_intervals_are_those_of_scipy(found: dict, folder: Path) -> None:
    values = {}
    for name, kind in (("kl", "AutoencoderKL"), ("wan", "AutoencoderKLWan")):
        vae = getattr(diffusers, kind).from_pretrained(folder / kind).eval()
        pictures = sorted((folder / "pictures").iterdir())
        values[name] = [psnr_of(vae, path, clip=name == "wan") for path in pictures]
    rows = {(row["vae"], row["metric"]): row for row in found["rows"]}
    for name, expected in values.items():
        assert rows[name, "psnr"]["value"] == pytest.approx(np.mean(expected), abs=1e-3)
    test = stats.ttest_rel(values["wan"], values["kl"])
    interval = test.confidence_interval()
    row = rows["wan", "psnr"]
    assert [row["low"], row["high"]] == pytest.approx([interval.low, interval.high], abs=1e-3)
    assert row["p"] == pytest.approx(test.pvalue, rel=0.02)
    assert row["n"] == 24 and rows["kl", "psnr"]["verdict"] == "baseline"


def test_holm_corrects_the_first_metric_alone() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(20, 1, 24)
    arms = {"a": base, "b": base + rng.normal(0.1, 0.2, 24), "c": base + rng.normal(0.05, 0.2, 24)}
    cost = Cost(1, 1, 1, 1, 1, 1)
    empty = np.zeros((1, 3, 2, 2), np.uint8)
    measured = {
        name: Measured("x", 2, 4, 24, 24, {}, {"psnr": values, "ssim": values}, cost, empty, empty)
        for name, values in arms.items()
    }
    known = {metric.name: metric for metric in registry.level("probe", "reconstruction").metrics}
    effects = compare_pictures(measured, {name: known[name] for name in ("psnr", "ssim")}, "psnr")
    p = [stats.ttest_rel(arms[name], arms["a"]).pvalue for name in ("b", "c")]
    expected = [max(2 * p[0], p[1]) if p[0] > p[1] else 2 * p[0], 2 * p[1] if p[0] > p[1] else max(2 * p[0], p[1])]
    assert [effects["psnr"][name].p_holm for name in ("b", "c")] == pytest.approx(expected)
    assert all(math.isnan(effects["ssim"][name].p_holm) for name in ("b", "c"))


def test_crops_of_one_photograph_count_once() -> None:
    assert means_of([1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0]


def test_peak_bytes_of_a_chain() -> None:
    """1 MiB in, 4 MiB, 2 MiB: the peak is with the second and the third alive, and views hold nothing."""
    x = torch.zeros(1 << 18)
    with PeakBytes() as held:
        y = x.repeat(4)
        y.view(2, -1).t()
        z = y[: 1 << 19].clone()
        del y
        w = z + 1
        del z
    assert w.numel() == 1 << 19
    assert held.peak == 6 << 20


def test_cost_of_a_known_vae(found: dict) -> None:
    """Latents of AutoencoderKL here: 4 channels at stride 2; of Wan, stride 4."""
    cost = found["cost"][str(SIDE)]
    assert cost["kl"]["bits"] == 16 * 4 / 4 and cost["wan"]["bits"] == 16 * 4 / 16
    vae = diffusers.AutoencoderKL(**released.SMALL["AutoencoderKL"])
    assert cost["kl"]["parameters"] == sum(p.numel() for p in vae.parameters()) / 1e6
    assert all(value > 0 for one in cost.values() for value in one.values())


def test_settings_of_probes_are_given(folder: Path, tmp_path: Path) -> None:
    vaes = [f"{name}={folder / name}" for name in ("AutoencoderKL", "AutoencoderTiny")]
    weights = write_weights(tmp_path / "inception.pth")
    (tmp_path / "pictures").mkdir()
    for path in sorted((folder / "pictures").iterdir())[::4]:
        (tmp_path / "pictures" / path.name).write_bytes(path.read_bytes())
    images = ("--images", tmp_path / "pictures", "--sizes", SIDE, "--probes", "perceptual", "--metrics", "stlpips,rfid")
    done = inside("compare", *vaes, *images, "--set", f"probes.perceptual.inception={weights}", "--json")
    assert done.returncode == 0, done.stderr
    rows = {(row["vae"], row["metric"]): row["value"] for row in json.loads(done.stdout)["rows"]}
    assert rows["AutoencoderKL", "rfid"] != rows["AutoencoderTiny", "rfid"]
    assert min(rows["AutoencoderKL", "rfid"], rows["AutoencoderTiny", "rfid"]) > 0


@pytest.mark.parametrize("form", ["markdown", "latex", "html", "csv"])
def test_forms(form: str, words: list[str], tmp_path: Path) -> None:
    done = inside(*words, "--format", form)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("kl", "tiny", "wan"))
    if form == "latex":
        page, _ = compiled(done.stdout, tmp_path)
        assert "paired by picture" in " ".join(page.split())


def test_the_page_needs_no_network_and_shows_every_vae(found: dict, folder: Path) -> None:
    text = (folder / "page.html").read_text()
    assert "http://" not in text and "https://" not in text
    assert text.count("data:image/webp;base64,") >= 4 and 'class="divider"' in text


BAD = {
    ("kl={kl}",): "a comparison needs two VAEs or more",
    ("kl={kl}", "tiny"): "'tiny': expected NAME=CHECKPOINT",
    ("kl={kl}", "kl={tiny}"): "the name 'kl' is given twice",
    ("kl={kl}", "b={kl}/nowhere"): "there is no file or folder",
    ("kl={kl}", "t={tiny}", "--sizes", "63"): "--sizes 63 is not a multiple of the stride of kl 2, t 2",
    ("kl={kl}", "t={tiny}", "--sizes", "big"): "--sizes 'big': expected sides in px",
    ("kl={kl}", "t={tiny}", "--sizes", "512"): "all 24 pictures are smaller than 512 px",
    ("kl={kl}", "t={tiny}", "--images", "{kl}/nowhere"): "nowhere",
    ("kl={kl}", "t={tiny}", "--metrics", "psnrr"): "did you mean 'psnr'?",
    ("kl={kl}", "t={tiny}", "--metrics", "psnr,rfid"): "--metrics: unknown 'rfid'",
    ("kl={kl}", "t={tiny}", "--probes", "grids"): "did you mean 'grid'?",
    ("kl={kl}", "t={tiny}", "--set", "grid.x=1"): "--set grid.x=1: expected probes.PROBE.SETTING=VALUE",
    ("kl={kl}", "t={tiny}", "--set", "probes.grid"): "--set probes.grid: expected PATH=VALUE",
    ("kl={kl}", "t={tiny}", "--set", "probes.grids.x=1"): "no probe 'grids' is run; did you mean 'grid'?",
    ("kl={kl}", "t={tiny}", "--set", "probes.grid.side=1"): "unknown setting 'side' of probe 'grid'",
    ("kl={kl}", "t={tiny}", "--probes=perceptual", "--set", "probes.perceptual.lpips=vgg16"): "did you mean 'vgg'?",
    ("kl={kl}", "t={tiny}", "--probes=perceptual", "--set", "probes.perceptual.inception=none"): "none does not exist",
    ("kl={kl}", "t={tiny}", "--format", "pdf"): "--format 'pdf'",
    ("kl={kl}", "t={tiny}", "--device", "cuda:99"): "cannot be used",
    ("kl={kl}", "t={tiny}", "--out", "/nowhere/page.html"): "there is no folder /nowhere",
}


@pytest.mark.parametrize("arguments", BAD)
def test_what_does_not_fit_is_one_line(arguments: tuple[str, ...], folder: Path) -> None:
    places = {"kl": folder / "AutoencoderKL", "tiny": folder / "AutoencoderTiny"}
    given = [word.format(**places) for word in arguments]
    images = [] if "--images" in given else ["--images", folder / "pictures"]
    done = inside("compare", *given, *images, *([] if any("--probes" in word for word in given) else PROBES))
    assert done.returncode == 2 and not done.stdout
    assert BAD[arguments] in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
