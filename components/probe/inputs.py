"""Inputs: how much fine detail the training crops and the held-out pictures hold.

A model cannot learn detail that its data do not hold. Resizing and cropping determine how much they hold: crops of
pictures that were enlarged, or never downscaled, have little power at high frequencies, which is why VIVAT (arXiv
2506.07863) downscales pictures before cropping. A difference in blur between two recipes is an effect of the model only
if these numbers agree; they do not depend on the model.

Each number is a share of all power up to 1/2 cycles/px, on the luma, under a Hann window, without each picture's mean.
Held-out pictures are cut into squares of the crops' size, since a larger picture holds more of the low frequencies.
"""

from torch import Tensor

from ablate.components.probe._spectrum import TINY, Spectra, radial_spectra
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("inputs/hf_hi", "%", "none", "share of power in 1/4 to 1/2 cycles/px, training crops", decimals=3),
    Metric("inputs/hf_lo", "%", "none", "the same in 1/8 to 1/4 cycles/px", decimals=3),
    Metric(
        "inputs/heldout_hf_hi", "%", "none", "share of power in 1/4 to 1/2 cycles/px, held-out pictures", decimals=3
    ),
)


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing if the training crops are not known."""
    crops = subject.training
    if crops is None:
        return ProbeResult({})
    trained, heldout = (radial_spectra(x, x) for x in (crops, _squares(subject.images, crops.shape[-1])))
    return ProbeResult(
        {
            "inputs/hf_hi": _share(trained, 1 / 4, 1 / 2),
            "inputs/hf_lo": _share(trained, 1 / 8, 1 / 4),
            "inputs/heldout_hf_hi": _share(heldout, 1 / 4, 1 / 2),
        }
    )


def _squares(images: Tensor, side: int) -> Tensor:
    """Cut `n 3 s s` from the top left into the squares that fit, `m 3 side side`; smaller images stay as they are."""
    if images.shape[-1] <= side:
        return images
    tiles = images.unfold(2, side, side).unfold(3, side, side)  # n 3 rows columns side side
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def _share(spectra: Spectra, low: float, high: float) -> float:
    """Share of power in (low, high] in %, 0 for pictures of one colour."""
    return (100 * spectra.source[spectra.band(low, high)].sum() / (spectra.source.sum() + TINY)).item()
