"""`ablate table --paper vivat --table 1` as a user meets it: a released VAE and our own, on folders of pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ablate.store.folders import Store
from tests.support.command import Done, ablate
from tests.support.studies import Write, trial_of
from tests.support.training import run_to_end

diffusers = pytest.importorskip("diffusers")


def table(*arguments: str | Path) -> Done:
    return ablate("table", *arguments)


def rows(done: Done) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return found


@pytest.fixture
def models(write_study: Write, tmp_path: Path) -> list[str]:
    """`--checkpoint` options of a small AutoencoderTiny and of a trial of two steps."""
    torch.manual_seed(0)
    small = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    diffusers.AutoencoderTiny(**small, **blocks).save_pretrained(tmp_path / "taesd")
    short = (("steps: 6", "steps: 2"), ("checkpoint_every: 3", "checkpoint_every: 2"))
    trial = trial_of(write_study(*short, ("blocks: 1", "blocks: 1, mid_attention: false")))
    store = Store(tmp_path / "store")
    run_to_end(trial, store)
    folder = store.stage(trial.signature).root
    return ["--checkpoint", f"TAESD={tmp_path / 'taesd'}", "--checkpoint", f"ours={folder}"]


def pictures(folder: Path, *sides: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, side in enumerate(sides):
        Image.fromarray(rng.integers(0, 256, (side, side + 10, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_models_are_measured_beside_the_paper(models: list[str], tmp_path: Path) -> None:
    large, small = pictures(tmp_path / "large", 256, 300, 100), pictures(tmp_path / "a@b", 64)
    images = ["--images", f"imagenet256={large}", "--images", f"mine={small}@32"]
    done = table("--paper", "vivat", "--table", "1", *models, *images, "--device", "cpu", "--json")
    found = rows(done)
    ours = [row for row in found if row["from"] == "ours"]
    assert len(found) == 20 + 4
    assert [(row["model"], row["images"], row["size"], row["n"], row["skipped"]) for row in ours] == [
        ("TAESD", "ImageNet 256x256", 256, 2, 1), ("TAESD", "mine 32x32", 32, 1, 0),
        ("ours", "ImageNet 256x256", 256, 2, 1), ("ours", "mine 32x32", 32, 1, 0),
    ]  # fmt: skip
    assert all(0 < row["psnr"] < 40 and -1 < row["ssim"] < 1 for row in ours)
    assert "TAESD on mine 32x32" in done.stderr


def test_published_tables_need_no_model() -> None:
    assert {row["from"] for row in rows(table("--paper", "vivat", "--table", "1", "--json"))} == {"paper"}
    assert rows(table("--paper", "vivat", "--table", "3", "--json"))[2]["value"] == 0.01
    assert r"\toprule" in table("--paper", "vivat", "--table", "1", "--format", "latex").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a STUDY, or --paper and --table"),
        (["smoke", "--table", "1"], "go without STUDY"),
        (["--paper", "vivat", "--table", "1", "--format", "pdf"], "'pdf' (valid: csv, html, latex, markdown, records)"),
        (["--paper", "vivat", "--table", "1", "--checkpoint", "a=nowhere", "--images", "b=x@32"], "is downloaded"),
        (["--paper", "vivat", "--table", "1", "--checkpoint", "a=x", "--images", "b=x@32", "--device", "gpu"], "'gpu'"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], message: str) -> None:
    done = table(*arguments)
    assert done.returncode == 2 and message in " ".join(done.stderr.split())
