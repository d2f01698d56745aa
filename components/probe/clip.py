"""Clips: PSNR and SSIM of the first frame and of the later ones, and a strip of frames to look at.

A video autoencoder gives the first frame a latent frame of its own, so the first frame has the bit rate of a still
picture, several times that of the others. A mean over all frames hides the quality of the others, the more so the
shorter the clip. Users see a first frame that is crisp while the following ones are not.

The PSNR of a clip as a whole is that of the squared error over all its frames. The mean of its frames' PSNR is larger,
the more so the more the frames differ (Jensen).
"""

import torch
from torch import Tensor

from ablate.components.shared.measure import Picture, displayed, enlarged, per_frame, psnr, ssim
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("clip/psnr_rest", "dB", "up", "PSNR of the frames after the first, mean of their values", interest=0.5),
    Metric("clip/psnr_first", "dB", "up", "the same of the first frame", interest=0.5),
    Metric(
        "clip/first_gain", "dB", "target", "PSNR of the first frame minus that of the frames after it", interest=0.5
    ),
    Metric(
        "clip/psnr_pooled",
        "dB",
        "up",
        "PSNR of the squared error of a whole clip, mean of the clips' values",
        interest=0.5,
    ),
    Metric(
        "clip/ssim_rest", "1", "up", "structural similarity of the frames after the first", decimals=4, interest=0.01
    ),
    Metric("clip/ssim_first", "1", "up", "the same of the first frame", decimals=4, interest=0.01),
)


STRIP_FRAMES = 9
STRIP_CLIPS = 2


STRIP_SIDE = 64  # px


ERROR_GAIN = 8  # amplification of differences in the strip


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return -(-11 // stride) * stride  # the window of SSIM

    def shortest(self) -> int:
        """Fewest frames of a held-out clip at which the first metric is reported."""
        return 5


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing without clips of two groups. Picture: the `strip` of two clips."""
    if subject.clips is None or subject.frames == 1:
        return ProbeResult({})
    x = subject.whole_clips
    y = displayed(subject.clip_reconstruction)
    frames = per_frame(psnr, x, y)
    similar = per_frame(ssim, x, y)
    values = {
        "clip/psnr_rest": frames[:, 1:].mean(1),
        "clip/psnr_first": frames[:, 0],
        "clip/first_gain": frames[:, 0] - frames[:, 1:].mean(1),
        "clip/psnr_pooled": -10 * (x - y).square().mean((1, 2, 3, 4)).log10(),
        "clip/ssim_rest": similar[:, 1:].mean(1),
        "clip/ssim_first": similar[:, 0],
    }
    return ProbeResult(
        metrics={name: value.mean().item() for name, value in values.items()},
        per_image={name: value.tolist() for name, value in values.items()},
        pictures={"strip": strip(x, y)},
    )


def strip(x: Tensor, y: Tensor) -> Picture:
    """Rows of source frames, reconstructed frames and differences (amplified 8 times) of each of the first clips.

    Frames are cropped to 64 px around their centre; smaller ones are enlarged by a whole factor.
    """
    side = min(x.shape[-1], STRIP_SIDE)
    first = (x.shape[-1] - side) // 2
    window = (..., slice(first, first + side), slice(first, first + side))
    rows = [
        torch.cat(list(clip[window].unbind(1)[:STRIP_FRAMES]), -1)
        for source, decoded in zip(x[:STRIP_CLIPS], y[:STRIP_CLIPS], strict=True)
        for clip in (source, decoded, (decoded - source).abs() * ERROR_GAIN)
    ]
    return enlarged(torch.cat(rows, -2), STRIP_SIDE // side)
