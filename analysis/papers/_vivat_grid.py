"""Claims of VIVAT, and ours, about the grid that loss weights draw (B).

A claim that a weight draws a grid requires one at that weight, by the metric that it compares: two readings of a clean
model differ by other errors alone.
"""

from ablate.analysis.statistics.claims import Claim, Requirement

ADVERSARIAL = "loss.adversarial"
PERCEPTUAL = "loss.perceptual"
ALIKE = ", alike in all images"
BREAKDOWN = "At such weights training may break down, and other errors may hide the grid: check PSNR."
UNKNOWN_THRESHOLD = "The paper does not say above which value a weight is too large: this one may be small enough."

GRID_FOR: dict[str, Requirement] = {
    "grid/nat_z": Requirement("grid/nat_z", "A", at_least=1.3),
    "grid/comb_db": Requirement("grid/comb_db", "A", at_least=1.0),
}
"""Metric -> that it shows a grid: clean pictures read up to 1.3 times chance and up to 1 dB."""


def _drawn(name: str, text: str, weight: float, metric: str, caveat: str) -> Claim:
    """That an adversarial weight draws more of a grid than VIVAT's does."""
    return Claim(
        id=name,
        text=text,
        a={ADVERSARIAL: weight},
        b={ADVERSARIAL: 0.01},
        metric=metric,
        direction="A above B",
        source="sections 4 and 5.2, grid",
        said_by="paper",
        caveat=caveat,
        requires=(GRID_FOR[metric],),
    )


GRID = (
    _drawn(
        "B1a", "Too large an adversarial weight draws a grid, and lowering it reduces the grid.", 0.1, "grid/nat_z",
        "An equally strong grid without the adversarial term would point to another cause. The metric detects grids "
        "that are the same in all images. The paper does not say which weight was too large: 0.1 is the weight in the "
        "code that it builds on.",
    ),
    _drawn(
        "B1b", "As B1a, for grids that differ from image to image.", 0.1, "grid/comb_db",
        "As for B1a. The metric also detects grids that the image modulates.",
    ),
    _drawn("B1c", "An adversarial weight a hundred times VIVAT's draws a grid too.", 1.0, "grid/comb_db", BREAKDOWN),
    Claim(
        id="B1d",
        text="There is more of a grid without an adversarial term than with a small one: the dependence is U-shaped.",
        a={ADVERSARIAL: 0.0},
        b={ADVERSARIAL: 0.01},
        metric="grid/comb_db",
        direction="A above B",
        source="Open-Sora-Plan, pull request 145: a VAE trained without a discriminator drew grids that one removed",
        said_by="us",
        caveat="If it is reproduced, it contradicts the advice to keep lowering the weight.",
        requires=(GRID_FOR["grid/comb_db"],),
    ),
    *(
        _drawn(name, f"An adversarial weight {times} times VIVAT's draws a grid{kind}.", weight, metric, caveat)
        for name, times, weight, metric, kind, caveat in (
            ("B1e", "three", 0.03, "grid/nat_z", ALIKE, UNKNOWN_THRESHOLD),
            ("B1f", "three", 0.03, "grid/comb_db", "", UNKNOWN_THRESHOLD),
            ("B1g", "thirty", 0.3, "grid/nat_z", ALIKE, BREAKDOWN),
            ("B1h", "thirty", 0.3, "grid/comb_db", "", BREAKDOWN),
            ("B1i", "a hundred", 1.0, "grid/nat_z", ALIKE, BREAKDOWN),
        )
    ),
    *(
        Claim(
            id=name,
            text=f"Even VIVAT's adversarial weight leaves a grid{kind}, which a third of it reduces further.",
            a={ADVERSARIAL: 0.01},
            b={ADVERSARIAL: 0.003},
            metric=metric,
            direction="A above B",
            source="follows sections 4 and 5.2, grid: the paper stops at 0.01",
            said_by="us",
            caveat="The verdict 'opposite' would suggest that the grid is smallest at a weight above 0: see B1d.",
            requires=(GRID_FOR[metric],),
        )
        for name, metric, kind in (("B1j", "grid/nat_z", ALIKE), ("B1k", "grid/comb_db", ""))
    ),
    Claim(
        id="B1m",
        text="The grid of a large adversarial weight does not show on constant colours.",
        a={ADVERSARIAL: 0.1},
        b={ADVERSARIAL: 0.01},
        metric="grid/const_fold",
        direction="A equals B",
        source="ours, about sections 4 and 5.2, grid",
        said_by="us",
        caveat="Constant colours show grids drawn by the upsampling and the padding. If the decoder resizes, then "
        "convolves, and pads by reflection, they show none with any weights, so no test on them can detect this grid.",
        margin=0.05,
        requires=(GRID_FOR["grid/nat_z"],),
    ),
    *(
        Claim(
            id=name,
            text=text,
            a={PERCEPTUAL: 1.0, **fixed},
            b={PERCEPTUAL: 0.0, **fixed},
            metric="grid/comb_db",
            direction="A above B",
            source="Open-Sora-Plan, pull request 145; the pooling layers behind LPIPS would explain it",
            said_by="us",
            caveat="Speaks of LPIPS only where the features are those of LPIPS, not of random weights.",
            requires=(GRID_FOR["grid/comb_db"],),
        )
        for name, text, fixed in (
            ("B2a", "The perceptual loss alone draws a grid.", {ADVERSARIAL: 0.0}),
            ("B2b", "The perceptual loss also draws a grid beside a small adversarial term.", {}),
        )
    ),
)  # fmt: skip
