"""Motion: how PSNR depends on the speed of a clip.

Natural videos mostly hold little motion, so a mean over them says little about a model's quality on moving things.
IV-VAE (Wu et al., arXiv 2411.06449) made MotionHD, a set of videos of uniformly spread motion, for that reason. The
speed of a clip is the mean length of its known flow, in px per frame; PSNR is that of its frames after the first. Clips
of different speeds differ in content too: compare models on the same clips, not slopes between data sets.

All metrics are reported for any clips. Where motion is not known, as of real clips, the speed is the mean length of the
motion that block matching finds in the sources (`_matching.py`). On drawn clips both kinds of speed put clips in nearly
the same order (Spearman 0.93 to 0.99), but matching overstates slow clips and does not see more than 7 px per frame.
"""

from torch import Tensor

from ablate.components.probe._matching import matched_motion
from ablate.components.shared.measure import displayed, per_frame, psnr
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("motion/psnr_fast", "dB", "up", "PSNR of the fastest third of the clips", interest=0.5),
    Metric("motion/psnr_slow", "dB", "up", "the same of the slowest third", interest=0.5),
    Metric("motion/slope", "dB/(px/frame)", "up", "slope of PSNR over speed, least squares over clips", interest=0.1),
    Metric("motion/speed", "px/frame", "none", "mean speed of the clips, known or by block matching"),
)


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def shortest(self) -> int:
        """Fewest frames of a held-out clip at which the first metric is reported."""
        return 5


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing without three clips of two groups or more. The slope is NaN for equal speeds."""
    if subject.clips is None or subject.frames == 1 or len(subject.clips) < 3:
        return ProbeResult({})
    flow = matched_motion(subject).flow if subject.flow is None else subject.flow[:, :, : subject.frames - 1]
    speed = flow.norm(dim=1).mean((1, 2, 3)).double().cpu()
    x = subject.whole_clips
    y = displayed(subject.clip_reconstruction)
    values = per_frame(psnr, x, y)[:, 1:].mean(1).double().cpu()
    by_speed = values[speed.argsort()]
    third = len(values) // 3
    return ProbeResult(
        metrics={
            "motion/psnr_fast": by_speed[-third:].mean().item(),
            "motion/psnr_slow": by_speed[:third].mean().item(),
            "motion/slope": _slope(speed, values).item(),
            "motion/speed": speed.mean().item(),
        },
        per_image={"motion/speed": speed.tolist()},
    )


def _slope(x: Tensor, y: Tensor) -> Tensor:
    """Slope of the line through points by least squares."""
    centred = x - x.mean()
    return (centred * (y - y.mean())).sum() / centred.square().sum()
