"""IV-VAE: P. Wu et al., "Improved Video VAE for Latent Video Diffusion Model", CVPR 2025, arXiv 2411.06449.

Its full text was not available. Tables are from notes about the paper and from its figures 1a and 1b, measured in
pixels; each table names its source. None of these sources gives the loss weights, the optimiser, the batch size, the
length of clips, the videos of the ablation, or how FVD was computed. The authors published a model, but no code that
trains one.

Claims: the ablation and its order (A), how even the frames of a group are (G), flicker and fast motion (F), the start
from an image VAE with half the latent channels (Z), and clips encoded in chunks (K). Claims that frames become more
even, or flicker less, require uneven or flickering ones on the other side.
"""

from collections.abc import Iterator

from ablate.analysis.papers import Paper
from ablate.analysis.papers._iv_vae_tables import ABLATION, FIGURE_1A, FIGURE_1B, ROWS, TABLES
from ablate.analysis.statistics.claims import Claim, Direction, Extreme, Levels, Named, Requirement

# Factors, and the arms of the ablation by the paper's letters.
CONV = "temporal_conv"
BRANCH = "branch"
CONTEXT = "context"
A: Levels = {CONV: "causal", BRANCH: "single", CONTEXT: "none"}
B = {**A, CONV: "grouped"}
C = {**A, BRANCH: "ktc"}
D = {**B, BRANCH: "ktc"}
TMPE = Named("tmpe")  # with the study's own rates, which must suit the size of the clips
E = {**D, CONTEXT: TMPE}
ARMS = {"A": A, "B": B, "C": C, "D": D, "E": E}

# Settings of the image VAE that a video model starts from.
IMAGE_CHANNELS = "stages.image.model.latent_channels"
IMAGE_STEPS = "stages.image.steps"

METRICS = {"psnr": "PSNR", "ssim": "SSIM"}
OWN_SET = "The set of videos is not named. Single changes also change the model size: KTC has fewer parameters than A."

STEPS = {
    "A1": ("B", "A", "Grouped causal convolutions alone improve reconstructions."),
    "A2": ("C", "A", "The keyframe branch alone, from an image VAE of half the channels, improves reconstructions."),
    "A3": ("C", "B", "The keyframe branch alone is worth more than grouped convolutions alone."),
    "A4": ("D", "B", "The keyframe branch improves reconstructions on top of grouped convolutions."),
    "A5": ("D", "C", "Grouped convolutions improve reconstructions on top of the keyframe branch."),
    "A6": ("E", "D", "A wider view at the coarsest level improves reconstructions a little more."),
    "A7": ("E", "A", "All changes together improve reconstructions most."),
}
"""Claim -> the better arm, the worse arm, the claim's text."""


def _ablation() -> Iterator[Claim]:
    """The claims of the ablation table, one per step and metric."""
    for name, (better, worse, text) in STEPS.items():
        for column, (metric, label) in enumerate(METRICS.items()):
            yield Claim(
                id=f"{name}{'ab'[column]}",
                text=f"{text} ({label})",
                a=ARMS[better],
                b=ARMS[worse],
                metric=metric,
                direction="A above B",
                source=ABLATION,
                said_by="paper",
                caveat=OWN_SET,
                published=round(ROWS[better][column] - ROWS[worse][column], 4),
            )


KEY_STEP = (
    "With a keyframe branch, other layers draw the first frame of a group, which adds a difference of its own. The gap "
    "also depends on which frame keeps the weights of the start. Blurrier models have smaller gaps: check PSNR."
)

ZEROS_BEHIND = (
    "In grouped convolutions zeros follow the last frame of a group, so it need not be the best frame. The skew also "
    "depends on how an image VAE is inflated."
)


def _claim(
    name: str,
    text: str,
    a: Levels,
    b: Levels | float,
    metric: str,
    source: str,
    caveat: str,
    *,
    above: bool,
    requires: tuple[Requirement, ...] = (),
    ours: bool = False,
) -> Claim:
    """A claim. `above`: whether the metric is higher with `a`; otherwise it is lower. `ours`: it is our hypothesis."""
    direction: Direction = "A above B" if above else "A below B"
    return Claim(
        name, text, a, b, metric, direction, source, "us" if ours else "paper", caveat,
        of="value" if metric == "balance/skew" else "distance",  # its sign says which frames are worse
        requires=requires,
    )  # fmt: skip


UNEVEN = (Requirement("balance/gap"),)
"""The worst frame of a group is worse than the best by the smallest effect of interest, 0.5 dB."""


EVEN = (
    _claim(
        "G1", "Grouped convolutions make the frames of a group more even.",
        {CONV: "grouped"}, {CONV: "causal"}, "balance/gap", f"{FIGURE_1B}; introduction",
        f"The figure compares whole models, none of which is A or B. {KEY_STEP}", above=False, requires=UNEVEN,
    ),
    _claim(
        "G2", "The frames of a group are more even in the full IV-VAE than in a causal video VAE.",
        E, A, "balance/gap", FIGURE_1B, KEY_STEP, above=False, requires=UNEVEN,
    ),
    _claim(
        "G3", "With causal convolutions, earlier frames of a group are worse relative to later ones than with grouped "
        "convolutions.",
        {CONV: "causal"}, {CONV: "grouped"}, "balance/skew", "introduction", ZEROS_BEHIND, above=True,
        requires=(Requirement("balance/gap", "A"),),
    ),
    _claim(
        "G4", "The keyframe branch, too, makes the frames of a group more even.",
        {BRANCH: "ktc"}, {BRANCH: "single"}, "balance/gap", f"ours, about {FIGURE_1B}", KEY_STEP, above=False,
        requires=UNEVEN, ours=True,
    ),
    _claim(
        "G5", "With causal convolutions, earlier frames of a group are worse than later ones.",
        {CONV: "causal"}, 0.0, "balance/skew", "introduction: 'poor for preceding frames, good for subsequent ones'",
        f"The second frame is compared with the fourth. {ZEROS_BEHIND}", above=True,
        requires=(Requirement("balance/gap", "A"),),
    ),
)  # fmt: skip


MOTION = (
    _claim(
        "F1", "Grouped convolutions flicker less on static clips.",
        {CONV: "grouped"}, {CONV: "causal"}, "flicker/static", "introduction",
        "The paper shows flicker in videos but gives no number.", above=False,
        requires=(Requirement("flicker/static"),),
    ),
    _claim(
        "F2", "Grouped convolutions flicker less along the motion.",
        {CONV: "grouped"}, {CONV: "causal"}, "flicker/warp", "introduction",
        "The paper shows flicker in videos but gives no number.", above=False,
        requires=(Requirement("flicker/warp"),),
    ),
    _claim(
        "F3", "A wider view at the coarsest level helps where motion is fast.",
        {CONTEXT: TMPE}, {CONTEXT: "none"}, "motion/psnr_fast", "section on TMPE",
        "The paper is about high resolution, where motion spans more pixels; in small clips every model sees enough.",
        above=True,
    ),
)  # fmt: skip


STARTED = {IMAGE_STEPS: Extreme.MOST}
FROM_ALL: Levels = {BRANCH: "single", **STARTED}
FROM_HALF: Levels = {BRANCH: "single", IMAGE_CHANNELS: Extreme.LEAST, **STARTED}
KEYFRAMES: Levels = {BRANCH: "ktc", **STARTED}  # each half of the branch starts from half of the channels


START = (
    *(
        _claim(
            f"Z1{letter}", "A keyframe branch started from an image VAE with half the latent channels beats a single "
            f"branch started from one with all of them. ({METRICS[metric]})",
            KEYFRAMES, FROM_ALL, metric, FIGURE_1A,
            "Architecture and start change together: Z2 and Z3 separate them. The paper trains for 300 000 steps.",
            above=True,
        )
        for letter, metric in zip("ab", METRICS, strict=True)
    ),
    _claim(
        "Z2", "The start alone is sufficient: half the image VAE's latent channels are better for a single branch too.",
        FROM_HALF, {**FROM_ALL, IMAGE_CHANNELS: Extreme.MOST}, "psnr", f"ours, about {FIGURE_1A}",
        "The decoder does not use the other channels at the start and must learn to do so.", above=True, ours=True,
    ),
    _claim(
        "Z3", "The start alone is not sufficient: from half the channels, the keyframe branch beats a single branch.",
        {**KEYFRAMES, IMAGE_CHANNELS: Extreme.MOST}, FROM_HALF, "psnr", f"ours, about {FIGURE_1A}",
        "The keyframe branch has fewer parameters, and twice the frames at the start.", above=True, ours=True,
    ),
    _claim(
        "Z4", "At equal steps on clips, starting from an image VAE is better than training from scratch.",
        STARTED, {IMAGE_STEPS: 0}, "psnr", f"follows {FIGURE_1A}",
        "The image VAE's steps are additional. From scratch, short runs may stagnate for long; some seeds less so.",
        above=True, ours=True,
    ),
)  # fmt: skip


CHUNKS = (
    Claim(
        "K1", "A clip in chunks with cached frames equals the whole clip.",
        {"norm": "rms"}, 0.0, "cache/error", "A equals B", "key findings: 'completely equivalent' results", "paper",
        "By construction, and the tests of the model show it to the last digit: the metric is the largest difference.",
    ),
    Claim(
        "K2", "Cached frames are closer to the whole clip than chunks that overlap.",
        {"norm": "rms"}, {"norm": "rms"}, "cache/error", "A below B", "key findings, on the overlap mechanism", "paper",
        "The largest difference with cached frames is held against the rms difference with overlap.",
        against="cache/overlap", requires=(Requirement("cache/overlap", "A"),),
    ),
)  # fmt: skip


CLAIMS = (*_ablation(), *EVEN, *MOTION, *START, *CHUNKS)
PAPER = Paper("IV-VAE", "Wu et al., 2025, arXiv 2411.06449", TABLES, CLAIMS)
