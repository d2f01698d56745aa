"""The LTX-2 grid report: AmitMY, "VAE produces grid-like tile artifacts on flat regions (constant-green diagnostic)".

Issue 202 of github.com/Lightricks/LTX-2, April 2026. It shows a grid in the reconstruction of a constant picture by
LTX-2.3's VAE, gives three numbers for it, and suggests five changes to the architecture from the literature. It tried
none of them, so no claim has a published value.

The report blames transposed convolutions. LTX's decoders have none: they enlarge by convolutions whose channels are
rearranged into pixels, the last one into 4 x 4 px at once. Such a sub-pixel convolution draws a grid for a similar
reason: each pixel of a square has weights of its own. So every up-sampler is compared with both.

Constant pictures alone cannot show which remedy is best. A decoder that resizes and then convolves draws no grid on
them by construction, with any weights, but may still draw one on natural images, which therefore decide: `grid/nat_z`
for grids that all images share, `grid/comb_db` also for grids that differ between images. The report's own number, the
share off zero frequency, is not a metric of any claim; `components/probe/flatfield.py` says why.

Claims: S1 to S5 are numbered like the report's suggestions; R is about the skip that LTX-2.3 dropped, P about patches,
F about the frame around the picture. S1, S2, S4 and R say which up-sampler draws a grid; VIVAT's claims on grids (B)
are about loss weights only.

A claim that one side draws less of a grid requires a grid on the other side, by the metric that it compares, and a
claim about aliasing requires some: two readings of a clean model differ by other errors alone.
"""

from ablate.analysis.papers import Paper
from ablate.analysis.papers._ltx_grid_tables import SEEN, SUGGESTED, TABLES
from ablate.analysis.statistics.claims import Claim, Direction, Levels, Requirement

# A metric, and where it looks for a grid.
ON_CONSTANTS = ("grid/const_fold", "on constant colours")
ALIKE = ("grid/nat_z", "the same in all natural images")
ANY = ("grid/comb_db", "in natural images, the same in all or not")
IN_WEIGHTS = ("grid/polyphase", "in the weights, without any picture")

# Levels that several claims compare.
TRANSPOSED = {"upsample": "transposed_conv"}
SUB_PIXEL = {"upsample": "pixel_shuffle"}
BLURRED = {"downsample": {"level": "blur_pool", "taps": 3}}
STRIDED = {"downsample": "strided_conv"}
THROUGHOUT = {"upsample": "alias_free", "downsample": "alias_free", "model.activation": "filtered_silu"}
NOWHERE = {"upsample": "nearest_conv", "downsample": "strided_conv", "model.activation": "silu"}
CONV = {"model": "image_kl"}
VIT = {"model": "patch_vit"}
PATCH_4 = {"model": {"level": "image_kl", "patch": 4, "channels": [40]}}

VISIBLE = 0.25
"""Smallest grid on constant colours that is visible, in grey levels."""

CLEAN = {"grid/const_fold": VISIBLE, "grid/nat_z": 1.3, "grid/comb_db": 1.0, "grid/polyphase": 0.05}
"""Metric -> the reading from which on there is a grid."""

# Caveats of several claims.
CANNOT_FAIL = (
    "No other result is possible: with any weights the enlarged constant is the same constant, except for effects of "
    "zero padding at the border. The claims on natural images decide."
)
AT_THE_START = "The initialisation makes equal phases, and nothing in training keeps them so."
LOSSES_TOO = "Losses draw grids too, with any up-sampler: if neither side has a grid, this is inconclusive."
EVEN_OVERLAP = "The transposed convolution has 4 taps here, which overlap evenly; the report speaks of uneven overlap."
HALF_OF_IT = "This is half of the design: non-linearities are not filtered, and the other direction is unchanged."
DECODERS_DRAW = "The filter is in the encoder, but the decoder draws the grid: there may be none to lower."
NOT_ITS_OWN = "The report suggests it as a replacement for transposed convolutions, of which LTX has none."
SAME_SIZE = "The two have equal stride and about equal size, and differ in everything else."


def _claims(
    first: str,
    text: str,
    a: Levels,
    b: Levels,
    measures: dict[tuple[str, str], str],
    *,
    direction: Direction = "A below B",
    source: str,
    ours: bool = False,
) -> tuple[Claim, ...]:
    """A claim for each metric. `measures`: metric and where it looks -> caveat. `first`: id of the first claim.

    The ids of the other claims count on from the first.
    """
    return tuple(
        Claim(
            id=f"{first[:-1]}{chr(letter)}",
            text=f"{text}, {where}.",
            a=a,
            b=b,
            metric=metric,
            direction=direction,
            source=source,
            said_by="us" if ours else "paper",
            caveat=caveat,
            requires=(Requirement(metric, "A" if direction == "A above B" else "B", at_least=CLEAN[metric]),),
        )
        for letter, ((metric, where), caveat) in enumerate(measures.items(), start=ord(first[-1]))
    )


RESIZE = (
    *_claims(
        "S1a", "Resizing followed by a convolution draws less of a grid than a transposed convolution",
        {"upsample": "nearest_conv"}, TRANSPOSED,
        {ON_CONSTANTS: CANNOT_FAIL, ALIKE: f"{LOSSES_TOO} {EVEN_OVERLAP}", ANY: f"{LOSSES_TOO} {EVEN_OVERLAP}"},
        source=f"{SUGGESTED}, 1",
    ),
    *_claims(
        "S1d", "Resizing followed by a convolution draws less of a grid than a sub-pixel convolution, as in LTX",
        {"upsample": "nearest_conv"}, SUB_PIXEL,
        {ON_CONSTANTS: CANNOT_FAIL, ALIKE: LOSSES_TOO, ANY: LOSSES_TOO},
        source=f"follows {SUGGESTED}, 1", ours=True,
    ),
)  # fmt: skip


ICNR = (
    *_claims(
        "S2a", "A sub-pixel convolution that starts with equal phases draws less of a grid than a transposed one",
        {"upsample": "pixel_shuffle_icnr"}, TRANSPOSED,
        {ON_CONSTANTS: AT_THE_START, ALIKE: f"{AT_THE_START} {LOSSES_TOO}", ANY: f"{AT_THE_START} {LOSSES_TOO}"},
        source=f"{SUGGESTED}, 2",
    ),
    *_claims(
        "S2d", "A sub-pixel convolution draws less of a grid if it starts with equal phases",
        {"upsample": "pixel_shuffle_icnr"}, SUB_PIXEL,
        {
            ON_CONSTANTS: AT_THE_START, ALIKE: f"{AT_THE_START} {LOSSES_TOO}", ANY: f"{AT_THE_START} {LOSSES_TOO}",
            IN_WEIGHTS: AT_THE_START,
        },
        source=f"{SUGGESTED}, 2",
    ),
    *_claims(
        "S2h", "Equal phases at the start do not last: there is more of a grid than with resizing",
        {"upsample": "pixel_shuffle_icnr"}, {"upsample": "nearest_conv"},
        {ON_CONSTANTS: "How much of it returns depends on the length of training."},
        direction="A above B", source=f"ours, about {SUGGESTED}, 2", ours=True,
    ),
    Claim(
        id="S2i",
        text="A sub-pixel convolution that starts with equal phases draws no grid on constant colours.",
        a={"upsample": "pixel_shuffle_icnr"},
        b=0.0,
        metric="grid/const_fold",
        direction="A equals B",
        source=f"{SUGGESTED}, 2",
        said_by="paper",
        caveat=AT_THE_START,
        margin=VISIBLE,
        requires=(Requirement("grid/const_fold", SUB_PIXEL, at_least=VISIBLE),),
    ),
)  # fmt: skip


BLUR_POOL = (
    *_claims(
        "S3a", "An encoder that blurs before it drops pixels reduces the grid",
        BLURRED, STRIDED,
        {ALIKE: DECODERS_DRAW, ANY: DECODERS_DRAW},
        source=f"{SUGGESTED}, 3",
    ),
    Claim(
        id="S3c",
        text="If the encoder blurs before it drops pixels, latents have less aliasing: detail moves with the picture.",
        a=BLURRED,
        b=STRIDED,
        metric="shift/error",
        direction="A below B",
        source=f"{SUGGESTED}, 3",
        said_by="paper",
        caveat="Blurrier reconstructions change less as well: check blur/mtf50.",
        requires=(Requirement("shift/error", "B"),),
    ),
)  # fmt: skip


ALIAS_FREE = (
    *_claims(
        "S4a", "Up-sampling by a windowed sinc draws less of a grid than a transposed convolution",
        {"upsample": "alias_free"}, TRANSPOSED,
        {
            ON_CONSTANTS: f"{CANNOT_FAIL} {HALF_OF_IT}", ALIKE: f"{HALF_OF_IT} {EVEN_OVERLAP}",
            ANY: f"{HALF_OF_IT} {EVEN_OVERLAP}",
        },
        source=f"{SUGGESTED}, 4",
    ),
    *_claims(
        "S4d", "Up-sampling by a windowed sinc draws less of a grid than a sub-pixel convolution, as in LTX",
        {"upsample": "alias_free"}, SUB_PIXEL,
        {ON_CONSTANTS: f"{CANNOT_FAIL} {HALF_OF_IT}", ALIKE: HALF_OF_IT, ANY: HALF_OF_IT},
        source=f"follows {SUGGESTED}, 4", ours=True,
    ),
    *_claims(
        "S4g", "An encoder that filters by a windowed sinc before it drops pixels reduces the grid",
        {"downsample": "alias_free"}, STRIDED,
        {ALIKE: HALF_OF_IT, ANY: HALF_OF_IT},
        source=f"{SUGGESTED}, 4",
    ),
    *_claims(
        "S4i", "Alias-free samplers and non-linearities throughout reduce the grid",
        THROUGHOUT, NOWHERE,
        {ALIKE: LOSSES_TOO, ANY: LOSSES_TOO},
        source=f"{SUGGESTED}, 4",
    ),
    Claim(
        id="S4k",
        text="With alias-free samplers and non-linearities throughout, detail moves with the picture.",
        a=THROUGHOUT,
        b=NOWHERE,
        metric="shift/error",
        direction="A below B",
        source=f"{SUGGESTED}, 4",
        said_by="paper",
        caveat="Blurrier reconstructions change less as well: check blur/mtf50.",
        requires=(Requirement("shift/error", "B"),),
    ),
)  # fmt: skip


PATCH_VIT = (
    *_claims(
        "S5a", "A transformer over patches draws less of a grid than a decoder with sub-pixel convolutions",
        VIT, SUB_PIXEL,  # all else is as in the baseline, which resizes and convolves
        {
            ON_CONSTANTS: f"{NOT_ITS_OWN} {SAME_SIZE}",
            ALIKE: f"{NOT_ITS_OWN} {SAME_SIZE}", ANY: f"{NOT_ITS_OWN} {SAME_SIZE}",
        },
        source=f"{SUGGESTED}, 5",
    ),
    Claim(
        id="S5d",
        text="By construction, a transformer over patches draws no grid on constant colours.",
        a=VIT,
        b=0.0,
        metric="grid/const_fold",
        direction="A equals B",
        source=f"{SUGGESTED}, 5",
        said_by="paper",
        caveat="A model without strides can still draw a grid: a linear un-patch is a sub-pixel convolution by the "
        "whole patch. S5e tests whether it is the cause.",
        margin=VISIBLE,
    ),
    *_claims(
        "S5e", "The grid of a transformer is drawn by the linear un-patch, not by the patches",
        {"model.unpatch": "linear"}, {"model.unpatch": "conv"},
        {
            ON_CONSTANTS: "Un-patching by resizing draws nothing on constants with any weights.",
            ALIKE: "Convolutions also smooth: check PSNR and blur/mtf50.",
            ANY: "Convolutions also smooth: check PSNR and blur/mtf50.",
            IN_WEIGHTS: "0 by definition where nothing is rearranged into pixels.",
        },
        direction="A above B", source=f"ours, about {SUGGESTED}, 5", ours=True,
    ),
)  # fmt: skip


SKIP = _claims(
    "R1a", "A sub-pixel convolution draws less of a grid if a nearest-neighbour skip runs beside it",
    {"upsample": "nearest_residual"}, SUB_PIXEL,
    {
        ON_CONSTANTS: "The convolution beside the skip can still draw what it would draw alone.",
        ALIKE: LOSSES_TOO, ANY: LOSSES_TOO,
    },
    source="ours: LTX-2.0's decoder has this skip, LTX-2.3's does not", ours=True,
)  # fmt: skip

PATCHES = _claims(
    "P1a", "A decoder that ends in patches of 4 px draws more of a grid than one that resizes to the end",
    PATCH_4, CONV,
    {
        ON_CONSTANTS: "A model with patches has fewer resolution levels, so more than the last layer differs.",
        ALIKE: LOSSES_TOO, ANY: LOSSES_TOO, IN_WEIGHTS: "0 by definition where nothing is rearranged into pixels.",
    },
    direction="A above B", source=f"follows {SEEN}: the period is that of LTX's patches", ours=True,
)  # fmt: skip


FRAME = (
    Claim(
        id="F1a",
        text="Zero padding leaves artifacts along the border of the frame.",
        a={"padding": "zeros"},
        b={"padding": "reflect"},
        metric="border/excess_b4",
        direction="A above B",
        source=f"{SEEN}: boundaries, presumably from padding",
        said_by="paper",
        caveat="In short runs the excess varies much between seeds.",
        requires=(Requirement("border/excess_b4", "A"),),
    ),
    *_claims(
        "F1b", "With zero padding, even a decoder that resizes draws a grid, starting from the border",
        {"padding": "zeros", "upsample": "nearest_conv"}, {"padding": "reflect", "upsample": "nearest_conv"},
        {ON_CONSTANTS: "The metric leaves out a border of an eighth of the side; the receptive field is wider."},
        direction="A above B", source=f"ours, about {SEEN}", ours=True,
    ),
)  # fmt: skip


CLAIMS = (*RESIZE, *ICNR, *BLUR_POOL, *ALIAS_FREE, *PATCH_VIT, *SKIP, *PATCHES, *FRAME)
PAPER = Paper("LTX-2 grid report", "AmitMY, 2026, Lightricks/LTX-2, issue 202", TABLES, CLAIMS)
