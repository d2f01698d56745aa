"""The LTX-2 grid report: AmitMY, "VAE produces grid-like tile artifacts on flat regions (constant-green diagnostic)".

Issue 202 of github.com/Lightricks/LTX-2, April 2026. It shows a grid in what LTX-2.3's VAE makes of a constant picture,
gives three figures of it, and suggests five changes to the architecture from the literature. None of them was tried, so
no claim has a published figure.

The report blames transposed convolutions. LTX's decoders have none: they enlarge by convolutions whose channels are
rearranged into pixels, the last of them to 4 x 4 px at once. Such a sub-pixel convolution draws a grid for a reason
alike, as each pixel of a square has weights of its own. So every up-sampler is held against both.

Constant pictures alone cannot tell which remedy is best. A decoder that resizes and then convolves draws no grid on
them by construction, with any weights, and may still draw one on natural images, which therefore decide: `grid/nat_z`
for grids that images share, `grid/comb_db` for grids that differ between them too. The report's own figure, the share
off zero frequency, is no metric of any claim: `components/probe/flatfield.py` says why.

Claims: S1 to S5 bear the report's own numbers of its suggestions; R is about the skip that LTX-2.3 gave up, P about
patches, F about the frame around the picture. S1, S2, S4 and R say which up-sampler draws a grid, where VIVAT's claims
on grids (B) speak of loss weights alone.
"""

from ablate.analysis.papers import Paper, Published
from ablate.analysis.statistics.claims import Claim, Direction, Levels

SUGGESTED, SEEN = "section Suggested directions", "section What we see"


ON_CONSTANTS = "grid/const_fold", "on constant colours"


ALIKE = "grid/nat_z", "alike in all natural images"


ANY = "grid/comb_db", "in natural images, alike in all or not"


IN_WEIGHTS = "grid/polyphase", "in the weights, without any picture"


TRANSPOSED, SUB_PIXEL = {"upsample": "transposed_conv"}, {"upsample": "pixel_shuffle"}


BLURRED, STRIDED = {"downsample": {"level": "blur_pool", "taps": 3}}, {"downsample": "strided_conv"}


THROUGHOUT = {"upsample": "alias_free", "downsample": "alias_free", "model.activation": "filtered_silu"}


NOWHERE = {"upsample": "nearest_conv", "downsample": "strided_conv", "model.activation": "silu"}


CONV, VIT = {"model": "image_kl"}, {"model": "patch_vit"}


PATCH_4 = {"model": {"level": "image_kl", "patch": 4, "channels": [40]}}


SHOWS = 0.25
"""Grey levels of a grid on constants from which on it shows."""


CANNOT_FAIL = (
    "Nothing else is possible: it doubles a constant to the same constant with any weights, save for what zero padding "
    "brings in from the border. The claims on natural images decide."
)


AT_THE_START = "The initialisation makes equal phases, and nothing in training keeps them so."


LOSSES_TOO = "Losses draw grids as well, whatever the up-sampler: where neither side has one, this is inconclusive."


EVEN_OVERLAP = "The transposed convolution has 4 taps here, which overlap evenly; the report speaks of uneven overlap."


HALF_OF_IT = "Half of the design: the non-linearities are not filtered, and the other direction is as it was."


DECODERS_DRAW = "The filter is in the encoder, and what draws a grid is the decoder: there may be none to lower."


NOT_ITS_OWN = "The report would have it replace transposed convolutions, of which LTX has none."


SAME_SIZE = "The two are of equal stride and about equal size, and different in all else."


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
    """A claim for each metric, with a caveat of its own. `first`: the id of the first; the others count on from it."""
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
        )
        for letter, ((metric, where), caveat) in enumerate(measures.items(), start=ord(first[-1]))
    )


RESIZE = (
    *_claims(
        "S1a", "To resize and then convolve draws less of a grid than a transposed convolution",
        {"upsample": "nearest_conv"}, TRANSPOSED,
        {ON_CONSTANTS: CANNOT_FAIL, ALIKE: f"{LOSSES_TOO} {EVEN_OVERLAP}", ANY: f"{LOSSES_TOO} {EVEN_OVERLAP}"},
        source=f"{SUGGESTED}, 1",
    ),
    *_claims(
        "S1d", "To resize and then convolve draws less of a grid than a sub-pixel convolution, which LTX has",
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
        "S2d", "A sub-pixel convolution draws less of a grid if its phases start equal",
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
        {ON_CONSTANTS: "How much of it comes back depends on how long training is."},
        direction="A above B", source=f"ours, about {SUGGESTED}, 2", ours=True,
    ),
)  # fmt: skip


BLUR_POOL = (
    *_claims(
        "S3a", "An encoder that blurs before it drops pixels leaves less of a grid",
        BLURRED, STRIDED,
        {ALIKE: DECODERS_DRAW, ANY: DECODERS_DRAW},
        source=f"{SUGGESTED}, 3",
    ),
    Claim(
        id="S3c",
        text="With a blur before pixels are dropped, less is aliased into the latent: detail moves with the picture.",
        a=BLURRED,
        b=STRIDED,
        metric="shift/error",
        direction="A below B",
        source=f"{SUGGESTED}, 3",
        said_by="paper",
        caveat="Blurrier reconstructions change less as well: look at blur/mtf50.",
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
        "S4d", "Up-sampling by a windowed sinc draws less of a grid than a sub-pixel convolution, which LTX has",
        {"upsample": "alias_free"}, SUB_PIXEL,
        {ON_CONSTANTS: f"{CANNOT_FAIL} {HALF_OF_IT}", ALIKE: HALF_OF_IT, ANY: HALF_OF_IT},
        source=f"follows {SUGGESTED}, 4", ours=True,
    ),
    *_claims(
        "S4g", "An encoder that filters by a windowed sinc before it drops pixels leaves less of a grid",
        {"downsample": "alias_free"}, STRIDED,
        {ALIKE: HALF_OF_IT, ANY: HALF_OF_IT},
        source=f"{SUGGESTED}, 4",
    ),
    *_claims(
        "S4i", "Alias-free samplers and non-linearities throughout leave less of a grid than none of them",
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
        caveat="Blurrier reconstructions change less as well: look at blur/mtf50.",
    ),
)  # fmt: skip


PATCH_VIT = (
    *_claims(
        "S5a", "A transformer over patches draws less of a grid than a decoder with sub-pixel convolutions",
        VIT, SUB_PIXEL,  # each otherwise the baseline, which resizes and convolves
        {
            ON_CONSTANTS: f"{NOT_ITS_OWN} {SAME_SIZE}",
            ALIKE: f"{NOT_ITS_OWN} {SAME_SIZE}", ANY: f"{NOT_ITS_OWN} {SAME_SIZE}",
        },
        source=f"{SUGGESTED}, 5",
    ),
    Claim(
        id="S5d",
        text="A transformer over patches has no grid by construction: no more than resizing, on constant colours.",
        a=VIT,
        b=CONV,
        metric="grid/const_fold",
        direction="A equals B",
        source=f"{SUGGESTED}, 5",
        said_by="paper",
        caveat="No strides does not mean no grid: a linear un-patch is a sub-pixel convolution by the whole patch. S5e "
        "asks whether it is to blame.",
        margin=SHOWS,
    ),
    *_claims(
        "S5e", "What draws a transformer's grid is the linear un-patch, not the patches",
        {"model.unpatch": "linear"}, {"model.unpatch": "conv"},
        {
            ON_CONSTANTS: "Un-patching by resizing draws nothing on constants with any weights.",
            ALIKE: "Convolutions smooth as well: look at PSNR and blur/mtf50.",
            ANY: "Convolutions smooth as well: look at PSNR and blur/mtf50.",
            IN_WEIGHTS: "0 by definition where nothing is rearranged into pixels.",
        },
        direction="A above B", source=f"ours, about {SUGGESTED}, 5", ours=True,
    ),
)  # fmt: skip


SKIP = _claims(
    "R1a", "Beside a skip that doubles to the nearest, a sub-pixel convolution draws less of a grid",
    {"upsample": "nearest_residual"}, SUB_PIXEL,
    {
        ON_CONSTANTS: "The convolution beside the skip is free to draw what it would have drawn alone.",
        ALIKE: LOSSES_TOO, ANY: LOSSES_TOO,
    },
    source="ours: LTX-2.0's decoder has this skip, LTX-2.3's has not", ours=True,
)  # fmt: skip


PATCHES = _claims(
    "P1a", "A decoder that ends in patches of 4 px draws more of a grid than one that resizes to the end",
    PATCH_4, CONV,
    {
        ON_CONSTANTS: "With patches there are fewer levels, so more differs than the last layer.",
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
        caveat="In short runs the excess differs much from seed to seed.",
    ),
    *_claims(
        "F1b", "With zero padding even a decoder that resizes draws a grid, from the border inwards",
        {"padding": "zeros", "upsample": "nearest_conv"}, {"padding": "reflect", "upsample": "nearest_conv"},
        {ON_CONSTANTS: "The metric keeps from the border by an eighth of the side, less than these models see."},
        direction="A above B", source=f"ours, about {SEEN}", ours=True,
    ),
)  # fmt: skip


TABLES = {
    "figures": Published(
        "What LTX-2.3's VAE makes of a constant green clip, G channel",
        SEEN,
        ("LTX-2.3",),
        {"max |difference|": (0.124,), "mean |difference|": (0.0026,), "FFT off-DC fraction": (0.98,)},
        "The differences are on [0, 1]: 31.6 and 0.66 grey levels. The clip is (0, 128, 0), 49 frames of 256 x 256 px; "
        "the middle one counts, with its border. The fraction is of magnitudes on [-1, 1]: white noise of a tenth of a "
        "grey level, without any grid, has as much.",
    ),
    "suggestions": Published(
        "What to change, in rough order of disruption",
        SUGGESTED,
        ("literature",),
        {
            "1 resize-then-conv up-sampling": ("Odena et al., 2016",),
            "2 PixelShuffle with ICNR initialisation": ("Shi et al., 2016; Aitken et al., 2017",),
            "3 BlurPool down-sampling in the encoder": ("Zhang, 2019",),
            "4 alias-free design throughout": ("Karras et al., 2021",),
            "5 patch-based ViT tokenizer": ("Yu et al., 2024 (MAGVIT-v2); Yu et al., 2024 (TiTok)",),
        },
    ),
}


CLAIMS = (*RESIZE, *ICNR, *BLUR_POOL, *ALIAS_FREE, *PATCH_VIT, *SKIP, *PATCHES, *FRAME)


PAPER = Paper("LTX-2 grid report", "AmitMY, 2026, Lightricks/LTX-2, issue 202", TABLES, CLAIMS)
