"""Sequential seeds in a real sweep."""

from pathlib import Path

from rich.console import Console

from ablate.driver.sweep import sweep
from ablate.schedule.resources import Resources
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.studies import Write


def test_a_real_sweep_adds_seeds_until_the_cap(write_study: Write, tmp_path: Path) -> None:
    """Models of another width start from other weights: at 6 steps that is noise, which two pairs never see through."""
    study = load_study(
        write_study(("loss.kl: [1, 1e-4]", "model.latent_channels: [3, 4]"), ("seeds: 2", "seeds: {from: 2, to: 4}"))
    )
    store, quiet = Store(tmp_path / "store"), Console(quiet=True)
    ended = sweep(study, store, Resources(), "none", quiet, inline=True)
    assert not ended.failed and [row["n"] for row in ended.table.json()["rows"]] == [4, 4] and ended.ran == 8
    assert sweep(study, store, Resources(), "none", quiet, inline=True).ran == 0
