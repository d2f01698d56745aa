"""Studies on clips whose motion is not known: what their probes do not report is said before anything starts."""

from pathlib import Path

import pytest

from ablate.driver.preflight import validate
from ablate.errors import StudyError
from ablate.study.document import read_document

STUDY = """\
study: real
question: Do grouped convolutions help?
base:
  data: {level: clips, crop: 16, resize_to: 32, heldout_size: 16, frames: 5, heldout_frames: 20}
  model: {level: video_kl, channels: [8, 16, 16], latent_channels: 4, blocks: 1}
  norm: rms
  loss: {l2: 1.0, kl: 1e-6}
factors:
  temporal_conv: [causal, grouped]
design: grid
seeds: 1
stages:
  - video: {steps: 3, batch: 2, lr: 2e-3}
probes: [clip, flicker, motion]
primary: clip/psnr_rest
"""


DRAWN = "{level: moving_leaves, crop: 16, size: 16, heldout_size: 16, resize: none, frames: 5}"


def checked(folder: Path, *changes: tuple[str, str]) -> list[str]:
    """The notes on the study."""
    text = STUDY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "real.yaml").write_text(text)
    return validate(read_document(folder / "real.yaml"), None, (), gpu=False).notes


WHY = "the motion of the clips of data 'clips' is not known"


def test_metrics_that_need_known_motion_are_named_with_the_reason(tmp_path: Path) -> None:
    assert checked(tmp_path) == [f"scale base: not reported, as {WHY}: flicker/warp, flicker/warp_plain"]
    assert checked(tmp_path, ("[clip, flicker, motion]", "[clip, motion]")) == []
    data = STUDY[STUDY.index("{level: clips") : STUDY.index("\n  model")]
    assert checked(tmp_path, (data, DRAWN)) == []


def test_a_primary_metric_among_them_is_an_error_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        checked(tmp_path, ("primary: clip/psnr_rest", "primary: flicker/warp"))
    (problem,) = caught.value.problems
    assert problem.message == f"primary: 'flicker/warp' is not reported, as {WHY}; name another metric"
    assert (problem.line, problem.source) == (15, "primary: flicker/warp")
