"""Flicker: how much the reconstruction changes where the source does not.

On still clips any change from frame to frame comes from the model. On moving clips, each frame of the reconstruction is
compared with the previous one warped along the known motion, where the same surface is visible in both: the warping
error (Lai et al., "Learning Blind Video Temporal Consistency", 2018). That error rewards blur, and it includes the
interpolation error of fine detail in the sources themselves. `flicker/warp` is therefore computed on the error of the
reconstruction: detail that is lost everywhere moves along and does not flicker, and interpolation matters little.
Changes from the first frame, which has a latent frame of its own, are kept apart.

What each metric needs: `flicker/static` and `flicker/static_first` no motion at all; `flicker/warp` and
`flicker/warp_plain` known motion, which drawn clips have (`moving_leaves`) and real ones have not, so there they are
absent; `flicker/matched` any clips, as it finds motion in the sources by block matching (`_matching.py`) and counts
only where that explains them. Where the motion is known too, both agree to 0.4 gl on textured scenes, and to 0.6 gl on
`smooth` ones (`tests/unit/test_matching.py`). A defect that comes and goes at edges counts up to 1.5 gl more there,
because `visible` leaves edges out and matching does not.
"""

from torch import Tensor

from ablate.components.probe._matching import matched_motion
from ablate.components.probe._warp import change_along
from ablate.components.shared.measure import GREY_LEVELS, displayed
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("flicker/static", "gl", "down", "rms change from frame to frame on clips that stand still", interest=0.5),
    Metric("flicker/static_first", "gl", "down", "the same from the first frame to the second", interest=0.5),
    Metric(
        "flicker/warp",
        "gl",
        "down",
        "rms change of the reconstruction error along the known motion",
        interest=0.5,
        known_motion=True,
    ),
    Metric(
        "flicker/warp_plain",
        "gl",
        "down",
        "the same of the reconstruction: the warping error, lower for blur",
        interest=0.5,
        known_motion=True,
    ),
    Metric(
        "flicker/matched",
        "gl",
        "down",
        "rms change of the reconstruction error along motion found by block matching",
        interest=0.5,
    ),
    Metric("flicker/matched_share", "1", "none", "share of the pixels whose motion block matching finds"),
)


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def shortest(self) -> int:
        """Fewest frames of a held-out clip at which the first metric is reported."""
        return 5


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing without clips of two groups, and no warping error if the motion is not known.

    `flicker/matched` is the mean over the clips in which matching finds any motion; it is left out if there are none.
    """
    if subject.clips is None or subject.frames == 1:
        return ProbeResult({})
    still = subject.images.unsqueeze(2).expand(-1, -1, subject.frames, -1, -1)
    steps = displayed(subject.reconstruct(still)).diff(dim=2).square()
    values = {
        "flicker/static": _grey(steps[:, :, 1:].mean((1, 2, 3, 4))),
        "flicker/static_first": _grey(steps[:, :, 0].mean((1, 2, 3))),
    }
    x = subject.whole_clips
    y = displayed(subject.clip_reconstruction)
    matched = matched_motion(subject)
    has_match = matched.found[:, 1:].flatten(1).any(1)
    values["flicker/matched_share"] = matched.found[:, 1:].float().mean((1, 2, 3))
    if has_match.any():
        values["flicker/matched"] = _grey(change_along(y - x, matched.flow, matched.found)[has_match])
    if subject.flow is not None and subject.visible is not None:
        values["flicker/warp"] = _grey(change_along(y - x, subject.flow, subject.visible))
        values["flicker/warp_plain"] = _grey(change_along(y, subject.flow, subject.visible))
    return ProbeResult(
        metrics={name: value.mean().item() for name, value in values.items()},
        per_image={name: value.tolist() for name, value in values.items()},
    )


def _grey(squared: Tensor) -> Tensor:
    return GREY_LEVELS * squared.sqrt()
