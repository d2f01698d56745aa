"""The smallest effect of interest of each metric, and how a study sets another one."""

from pathlib import Path

from ablate.slots import registry
from ablate.study.study import load_study

NO_SCALE = {
    "balance/p", "color/coherence", "diff/fd", "diff/fd_floor", "diff/fd_gap", "diff/fd_recon", "diff/kid", "diff/sw2",
    "diff/tokens", "droplet/act_absmax", "flatfield/offdc_energy", "flicker/matched_share", "frechet/random3d",
    "grid/scan_period", "health/kl_nats", "inputs/heldout_hf_hi", "inputs/hf_hi", "inputs/hf_lo", "motion/speed",
    "perceptual/kid", "perceptual/kid_ci", "perceptual/pictures", "perceptual/rfd", "perceptual/rfd_ci",
    "perceptual/rfd_real", "perceptual/rfid_ci", "perceptual/rfid_kid", "perceptual/rfid_kid_ci",
    "perceptual/rfid_real",
}  # fmt: skip
"""Metrics whose differences are neither large nor small by themselves: distances in features, nats, inputs."""


def test_every_shipped_metric_has_a_smallest_effect_of_interest_unless_its_scale_means_nothing() -> None:
    metrics = [metric for probe in registry.levels("probe") for metric in registry.level("probe", probe).metrics]
    assert {metric.name for metric in metrics if metric.interest is None} == NO_SCALE
    assert all(metric.interest is None or metric.interest > 0 for metric in metrics)


def test_a_study_sets_its_own(tmp_path: Path) -> None:
    text = Path("search_spaces/smoke.yaml").read_text()
    path = tmp_path / "own.yaml"
    path.write_text(text + "\ninterest: {psnr: 2}\n")
    metrics = load_study(path).metrics
    assert metrics["psnr"].interest == 2
    assert metrics["ssim"].interest == registry.level("probe", "reconstruction").metrics[1].interest
