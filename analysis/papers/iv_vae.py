"""IV-VAE: P. Wu et al., "Improved Video VAE for Latent Video Diffusion Model", CVPR 2025, arXiv 2411.06449.

Its full text was not available. Tables are from notes about the paper and from its figures 1a and 1b, measured in
pixels; each table names its source. None of these sources gives the loss weights, the optimiser, the batch size, the
length of clips, the videos of the ablation, or how FVD was computed. The authors published a model, but no code that
trains one.

Claims: the ablation and its order (A), how even the frames of a group are (G), flicker and fast motion (F), and the
start from an image VAE with half the latent channels (Z). The paper also says that a clip encoded in chunks equals the
clip encoded in one piece to the last digit if norms see single pixels only. That is no comparison of treatments; the
tests of `video_kl` check it.
"""

from collections.abc import Iterator

from ablate.analysis.papers import Paper, Published
from ablate.analysis.statistics.claims import Claim, Direction, Extreme, Levels, Named

ABLATION = "ablation study"
FIGURE_1A = "figure 1a"
FIGURE_1B = "figure 1b"
NOTE = "From a secondary note."

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

NAMES = {
    "A": "a causal convolution",
    "B": "GCConv",
    "C": "KTC",
    "D": "GCConv with KTC",
    "E": "GCConv with KTC and TMPE",
}

# Settings of the image VAE that a video model starts from.
IMAGE_CHANNELS = "stages.image.model.latent_channels"
IMAGE_STEPS = "stages.image.steps"

ROWS: dict[str, tuple[float, float, float]] = {
    "A": (31.29, 0.9042, 0.05233),
    "B": (31.64, 0.9082, 0.05028),
    "C": (31.86, 0.9116, 0.04865),
    "D": (32.12, 0.9145, 0.04744),
    "E": (32.24, 0.9158, 0.04725),
}
"""Arm -> published PSNR in dB, SSIM and LPIPS."""

PARAMETERS = {"A": 127, "B": 127, "C": 104, "D": 104, "E": 107}
"""Arm -> parameters in millions."""

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
    b: Levels,
    metric: str,
    source: str,
    caveat: str,
    *,
    above: bool,
    ours: bool = False,
) -> Claim:
    """A claim. `above`: whether the metric is higher with `a`; otherwise it is lower. `ours`: it is our hypothesis."""
    direction: Direction = "A above B" if above else "A below B"
    return Claim(name, text, a, b, metric, direction, source, "us" if ours else "paper", caveat)


EVEN = (
    _claim(
        "G1", "Grouped convolutions make the frames of a group more even.",
        {CONV: "grouped"}, {CONV: "causal"}, "balance/gap", f"{FIGURE_1B}; introduction",
        f"The figure compares whole models, none of which is A or B. {KEY_STEP}", above=False,
    ),
    _claim(
        "G2", "The frames of a group are more even in the full IV-VAE than in a causal video VAE.",
        E, A, "balance/gap", FIGURE_1B, KEY_STEP, above=False,
    ),
    _claim(
        "G3", "With causal convolutions, earlier frames of a group are worse relative to later ones than with grouped "
        "convolutions.",
        {CONV: "causal"}, {CONV: "grouped"}, "balance/skew", "introduction", ZEROS_BEHIND, above=True,
    ),
    _claim(
        "G4", "The keyframe branch, too, makes the frames of a group more even.",
        {BRANCH: "ktc"}, {BRANCH: "single"}, "balance/gap", f"ours, about {FIGURE_1B}", KEY_STEP, above=False,
        ours=True,
    ),
)  # fmt: skip


MOTION = (
    _claim(
        "F1", "Grouped convolutions flicker less on static clips.",
        {CONV: "grouped"}, {CONV: "causal"}, "flicker/static", "introduction",
        "The paper shows flicker in videos but gives no number.", above=False,
    ),
    _claim(
        "F2", "Grouped convolutions flicker less along the motion.",
        {CONV: "grouped"}, {CONV: "causal"}, "flicker/warp", "introduction",
        "The paper shows flicker in videos but gives no number.", above=False,
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


FRAMES = ("F1", "F2", "F3", "F4")


TABLES = {
    "ablation": Published(
        "Ablation of the parts at 4 latent channels",
        ABLATION,
        ("PSNR (dB)", "SSIM", "LPIPS", "parameters (M)"),
        {f"{name} {NAMES[name]}": (*ROWS[name], PARAMETERS[name]) for name in ARMS},
        f"{NOTE} Numbers of parameters are quoted by others. GCConv is worth 0.35 dB alone and 0.26 dB with KTC; KTC "
        "is worth 0.57 dB alone and 0.48 dB with GCConv: an interaction of -0.09 dB.",
    ),
    "main": Published(
        "Video reconstruction, 4 x 8 x 8 compression",
        "main table",
        ("latent channels", "parameters (M)", "K600 FVD", "K600 PSNR (dB)", "ActivityNet FVD", "ActivityNet PSNR (dB)"),
        {
            "IV-VAE, 4": (4, 107, 8.01, 34.29, 6.08, None),
            "OD-VAE": (4, 239, 10.69, 33.88, 8.10, None),
            "Open-Sora VAE": (4, 393, 19.05, None, None, None),
            "IV-VAE, 16": (16, 108, 2.97, 39.02, 2.01, 42.61),
            "CogVideoX VAE": (16, 215, 3.17, 38.38, None, None),
            "causal baseline": (16, None, 3.28, None, None, None),
        },
        f"{NOTE} IV-VAE at 16 also has SSIM 0.9685 and 0.9722, LPIPS 0.02280 and 0.01968. The rows at 8 latent "
        "channels and three further sets were not available.",
    ),
    "positions": Published(
        "SSIM of each frame of a group, K600",
        FIGURE_1B,
        (*FRAMES, "range"),
        {
            "OD-VAE, 4": (0.915, 0.919, 0.924, 0.932, 0.017),
            "Open-Sora VAE, 4": (0.916, 0.925, 0.922, 0.934, 0.018),
            "CogVideoX VAE, 16": (0.964, 0.966, 0.973, 0.967, 0.009),
            "IV-VAE, 16": (0.968, 0.969, 0.971, 0.966, 0.004),
        },
        "Measured in the figure. Content is not balanced over positions, and models differ in more than convolutions.",
    ),
    "start": Published(
        "Information preservation on video, by the image VAE's latent channels",
        FIGURE_1A,
        ("2", "4", "8", "16"),
        {
            "image VAE, frame by frame": (0.918, 0.947, 0.959, 0.968),
            "video, from all channels, step 0": (None, 0.863, 0.870, 0.875),
            "video, from all channels, 300k steps": (None, 0.926, 0.944, 0.952),
            "video, from half (KTC), step 0": (None, None, None, 0.914),
            "video, from half (KTC), 300k steps": (None, None, None, 0.960),
        },
        "Measured in the figure. Columns are the video model's latent channels; the measure is probably SSIM.",
    ),
    "resolution": Published(
        "PSNR over CogVideoX's VAE on MotionHD",
        "results at high resolution",
        ("480P", "1080P"),
        {"IV-VAE minus CogVideoX VAE (dB)": (0.28, 1.65)},
        f"{NOTE} MotionHD is the authors' set, sampled uniformly by motion.",
    ),
    "training": Published(
        "Stages of training",
        "training details",
        ("videos", "steps"),
        {
            "image VAE": ("images, 256 x 256", 200_000),
            "inflated": ("256 x 256", 500_000),
            "larger": ("512 x 512", 200_000),
            "mixed, with a 3D discriminator": ("sizes and lengths mixed", 100_000),
        },
        f"{NOTE} Losses are mean absolute error, LPIPS, KL and, in the last stage, a GAN; their weights are not given.",
    ),
    "released": Published(
        "Parameters of the released model",
        "github.com/ali-vilab/iv-vae, commit 555a35a",
        ("parameters (M)",),
        {
            "4 latent channels": (107.17,),
            "8 latent channels": (107.38,),
            "16 latent channels": (107.80,),
            "16 latent channels, width 96": (241.85,),
        },
        "Counted in its code. The code has attention after 8 blocks; notes on the paper say 7.",
    ),
}


CLAIMS = (*_ablation(), *EVEN, *MOTION, *START)
PAPER = Paper("IV-VAE", "Wu et al., 2025, arXiv 2411.06449", TABLES, CLAIMS)
