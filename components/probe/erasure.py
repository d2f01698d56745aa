"""Erasure: how much PSNR is lost when the highest frequencies of the latent are erased.

Figure 5 of "Improving the Diffusability of Autoencoders" (arXiv 2502.14831): pictures hardly suffer from the loss of
their own high frequencies, but reconstructions suffer if the latent hides detail in its high frequencies. The last
share of the coefficients, in zigzag order, is erased from each 8 x 8 block of the latent; for comparison, also from
each block of the pictures that covers the same area, so that there are as many blocks and they lose the same share.

PSNR is against the untouched pictures, as displayed, with 10, 25, 50, 75 and 90 % erased. AUC is the area under that
curve over its width, a mean in dB. The reconstruction with nothing erased bounds the latent's curve, so compare models
by the loss `erase/drop`. The latent's curve is not expected to reach that of the pictures, which have more
coefficients. A model that blurs has little to lose: read the numbers together with PSNR.
"""

import torch
from torch import Tensor

from ablate.components.probe._chart import Line, chart
from ablate.components.probe._latents import pixels_per_position, subset
from ablate.components.shared.dct import chop
from ablate.components.shared.measure import Picture, displayed, psnr, sheet
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "erase/drop",
        "dB",
        "down",
        "PSNR lost by erasing 10 to 90 % of the latent's high frequencies, mean",
        interest=0.5,
    ),
    Metric("erase/drop50", "dB", "down", "the same with half of them erased", interest=0.5),
    Metric("erase/auc", "dB", "up", "PSNR with 10 to 90 % of the latent's frequencies erased, mean", interest=0.5),
    Metric("erase/auc_rgb", "dB", "none", "the same of pictures that lose their own frequencies", interest=0.5),
    Metric(
        "erase/match",
        "dB",
        "up",
        "PSNR between the two: does erasing frequencies of the latent erase those of pictures?",
        interest=0.5,
    ),
)


BLOCK = 8


SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the coefficients that are erased


SHOWN = (0.5, 0.75, 0.9)  # shares in the picture


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return 8 * stride  # a block


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Uses up to 16 pictures, cropped to whole blocks. Reports nothing for latents under 8 x 8.

    The values per image also hold `erase/shares` and the mean curves over them, `erase/curve` and `erase/curve_rgb`.
    Pictures: the curves; the first picture above its reconstruction, with 0, 50, 75 and 90 % erased.
    """
    if subject.posterior.mean.shape[-1] < BLOCK:
        return ProbeResult({})
    x, z, y = subset(subject, BLOCK)
    full = displayed(y)
    pixels = BLOCK * pixels_per_position(subject)

    # erase each share from the pictures and from the latent
    columns = [torch.stack([x[0], full[0]])]
    curves: dict[str, list[Tensor]] = {"latent": [], "rgb": [], "match": []}
    for share in SHARES:
        chopped = displayed(chop(x, pixels, share))
        decoded = displayed(subject.decode(chop(z, BLOCK, share)))
        curves["latent"].append(psnr(x, decoded))
        curves["rgb"].append(psnr(x, chopped))
        curves["match"].append(psnr(chopped, decoded))
        if share in SHOWN:
            columns.append(torch.stack([chopped[0], decoded[0]]))

    # average over the shares
    latent, rgb, match = (torch.stack(values).cpu() for values in curves.values())  # shares n
    whole = psnr(x, full).cpu()
    values = {
        "erase/drop": whole - _area(latent),
        "erase/drop50": whole - latent[SHARES.index(0.5)],
        "erase/auc": _area(latent),
        "erase/auc_rgb": _area(rgb),
        "erase/match": _area(match),
    }
    means = {"erase/shares": torch.tensor(SHARES), "erase/curve": latent.mean(1), "erase/curve_rgb": rgb.mean(1)}
    return ProbeResult(
        metrics={name: value.mean().item() for name, value in values.items()},
        per_image={name: value.tolist() for name, value in (values | means).items()},
        pictures={"erasure": _picture(means, whole.mean()), "erasure_first": sheet(*columns, rows=2)},
    )


def _area(curve: Tensor) -> Tensor:
    """Area under the curve `shares n` over its width: `n`."""
    return torch.trapezoid(curve, torch.tensor(SHARES), dim=0) / (SHARES[-1] - SHARES[0])


def _picture(curves: dict[str, Tensor], whole: Tensor) -> Picture:
    percent = 100 * curves["erase/shares"]
    lines = (
        Line("RGB", percent, curves["erase/curve_rgb"]),
        Line("decoded from the latent", percent, curves["erase/curve"]),
        Line("nothing erased", percent, whole.expand(len(percent))),
    )
    return chart(lines, "erased DCT coefficients, %", "PSNR, dB")
