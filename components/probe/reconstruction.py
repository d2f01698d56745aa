"""How far reconstructions are from their sources: PSNR and SSIM.

Both are taken image by image on [0, 1] after clamping, in fp32, and then averaged; of clips frame by frame, then over
the frames of a clip, then over clips. The `clip` probe tells their frames apart. SSIM: Wang, Bovik, Sheikh &
Simoncelli, IEEE TIP 13(4), 2004, with its 11 x 11 Gaussian window on the valid region.
"""

from ablate.components.shared import measure
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("psnr", "dB", "up", "peak signal-to-noise ratio, mean of the images' values"),
    Metric("ssim", "1", "up", "structural similarity, 1 is identical", decimals=4),
)


CHEAP = True


MEASURES = {"psnr": measure.psnr, "ssim": measure.ssim}


ERROR_GAIN = 8


class Config(ProbeSettings):
    """No settings: numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Side in px from which on the first metric is reported, for a model of that stride."""
        return -(-11 // stride) * stride  # the window of SSIM


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Pictures: `reconstruction` (source | reconstruction, an image per row) and `error_x8` (difference, 8 times).

    Of clips, these are of their middle frames.
    """
    if subject.clips is None:
        x, y = subject.images, measure.displayed(subject.reconstruction)
        values = {name: of_images(x, y) for name, of_images in MEASURES.items()}
    else:
        clips, decoded = subject.whole_clips, measure.displayed(subject.clip_reconstruction)
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
