"""Reconstruction: PSNR and SSIM of reconstructions against their sources.

Both are computed image by image on [0, 1] after clamping, in fp32, and then averaged. For clips they are computed frame
by frame and averaged over the frames of each clip, then over clips; the `clip` probe reports the first frame and the
others separately. SSIM: Wang, Bovik, Sheikh & Simoncelli, IEEE TIP 13(4), 2004, with its 11 x 11 Gaussian window on the
valid region.
"""

from ablate.components.shared import measure
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("psnr", "dB", "up", "peak signal-to-noise ratio, mean of the images' values", interest=0.5),
    Metric("ssim", "1", "up", "structural similarity, 1 is identical", decimals=4, interest=0.01),
)


CHEAP = True


MEASURES = {"psnr": measure.psnr, "ssim": measure.ssim}


ERROR_GAIN = 8  # amplification of the difference in the picture


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return -(-11 // stride) * stride  # the window of SSIM


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Pictures: `reconstruction` (source | reconstruction, an image per row) and `error_x8` (difference times 8).

    For clips the pictures show their middle frames.
    """
    if subject.clips is None:
        x = subject.images
        y = measure.displayed(subject.reconstruction)
        values = {name: of_images(x, y) for name, of_images in MEASURES.items()}
    else:
        clips = subject.whole_clips
        decoded = measure.displayed(subject.clip_reconstruction)
        values = {name: measure.per_frame(of_images, clips, decoded).mean(1) for name, of_images in MEASURES.items()}
        x, y = (frames[:, :, subject.frames // 2] for frames in (clips, decoded))
    return ProbeResult(
        metrics={name: value.mean().item() for name, value in values.items()},
        per_image={name: value.tolist() for name, value in values.items()},
        pictures={
            "reconstruction": measure.sheet(x, y),
            f"error_x{ERROR_GAIN}": measure.sheet((y - x).abs() * ERROR_GAIN),
        },
    )
