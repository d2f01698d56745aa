"""Diffusability: I. Skorokhodov et al., "Improving the Diffusability of Autoencoders", 2025, arXiv 2502.14831.

Of the paper we have the abstract, the captions of figures 1 to 5 and code of its authors, but not the tables. So only
the two gains in its abstract are printed as the paper's own; values that secondary texts attribute to its tables are
not printed at all. Values of other papers are in separate tables, and a column `provenance` names their origin:

- `paper`: this paper's abstract or a caption;
- `peer`: another paper's table. DFM (arXiv 2506.19839) is the same group's follow-up; LWD (Latent Wavelet Diffusion,
  ICLR 2026) implements scale equivariance (SE) independently; EQ-VAE (arXiv 2502.09509) proposes a similar term.

Claims: S about the strength of SE (figure 4), C about channels (figure 2), K about KL (figure 3), E about erasure
(figure 5), G about a generator trained on the latents (figure 1), V about variants of SE. All claims on SE compare with
tuning for as many steps without the term. LWD's table lacks this control; EQ-VAE's has it, and it matters (see the
tables).
"""

from ablate.analysis.papers import Paper
from ablate.analysis.papers._diffusability_tables import TABLES
from ablate.analysis.statistics.claims import Claim, Direction, Extreme, Levels, Requirement

# Factors and levels.
SE = "regularizer"
STRENGTH = "regularizer.strength"
PLAIN = {SE: "none"}
CHANNELS = "model.latent_channels"
KL = "loss.kl"
STRONG = {SE: "se", STRENGTH: Extreme.MOST}
CONTROL = {SE: "se", STRENGTH: Extreme.LEAST}
FIGURE_1, FIGURE_2, FIGURE_3, FIGURE_4, FIGURE_5 = (f"figure {n}" for n in range(1, 6))

EXCESS = Requirement("spec/gap_signed")
"""Without SE the latent has more high frequencies than the pictures: a gap that SE can close."""

# Caveats of several claims.
SMOOTH_IS_EASY = "A blurred or collapsed latent is smooth as well: check psnr and health/active_dims."
SHORT = "The paper tunes a published autoencoder for 10,000 steps or more; we do not know its strengths."
ALREADY_SMOOTH = "If the latent is smoother than the pictures to begin with, there is no gap for the term to close."
SMALL = (
    "A small generator on few pictures, measured with random features: this is not FID. The paper's gain is 19 % in "
    "FID of DiT-XL/2."
)


def _claim(
    id: str,
    text: str,
    a: Levels,
    b: Levels,
    metric: str,
    direction: Direction,
    source: str,
    caveat: str,
    *,
    along: str = "",
    margin: float | None = None,
    against: str = "",
    requires: tuple[Requirement, ...] = (),
    ours: bool = False,
) -> Claim:
    """A claim. `ours`: it is our hypothesis, not the paper's."""
    return Claim(
        id, text, a, b, metric, direction, source, "us" if ours else "paper", caveat, margin=margin, along=along,
        against=against, requires=requires,
    )  # fmt: skip


SCALE_EQUIVARIANCE = (
    _claim(
        "S1a", "SE lowers the high frequencies of the latent, the more the stronger it is.",
        STRONG, CONTROL, "spec/hf_tail", "A below B", FIGURE_4, SMOOTH_IS_EASY, along=STRENGTH,
    ),
    _claim(
        "S1b", "SE brings the latent's spectrum closer to that of the pictures, the more the stronger it is.",
        STRONG, CONTROL, "spec/gap_to_rgb", "A below B", FIGURE_4, ALREADY_SMOOTH, along=STRENGTH, requires=(EXCESS,),
    ),
    _claim(
        "S1c", "The strongest SE lowers the high frequencies of the latent.",
        STRONG, CONTROL, "spec/hf_tail", "A below B", FIGURE_4, SMOOTH_IS_EASY,
    ),
    _claim(
        "S1d", "The strongest SE brings the latent's spectrum closer to that of the pictures.",
        STRONG, CONTROL, "spec/gap_to_rgb", "A below B", FIGURE_4, ALREADY_SMOOTH, requires=(EXCESS,),
    ),
    _claim(
        "S2a", "SE preserves reconstruction: PSNR within half a decibel.",
        STRONG, CONTROL, "psnr", "A equals B", "TL;DR: 'while preserving reconstruction'",
        f"The margin is ours. {SHORT}",
    ),
    _claim(
        "S2b", "SE costs PSNR, the more the stronger it is.",
        STRONG, CONTROL, "psnr", "A below B", "ours, about the TL;DR: part of the loss goes to reduced pictures",
        SHORT, along=STRENGTH, ours=True,
    ),
    _claim(
        "S3a", "SE has the effect that it is trained for: the decoder commutes better with halving the size.",
        STRONG, CONTROL, "equi/dec_scale2", "A below B", "ours: the term is this error, measured in another way",
        "That the term falls does not show that it is useful.", ours=True,
    ),
    _claim(
        "S3b", "Latents trained with SE tolerate the loss of their high frequencies better.",
        STRONG, CONTROL, "erase/drop", "A below B", f"follows {FIGURE_5}, which shows a cut of high frequencies",
        "A blurred reconstruction has less to lose.", ours=True,
    ),
    _claim(
        "S3c", "SE lowers the variance of the velocity that no model can predict.",
        STRONG, CONTROL, "idim/viv", "A below B", "ours, by arXiv 2606.03578",
        "It is that of a Gaussian model; smoothness within windows of 8 x 8 lowers it by definition.", ours=True,
    ),
)  # fmt: skip


GENERATION = (
    _claim(
        "G1a", "A diffusion transformer learns latents trained with SE faster: the curve of its distance is lower.",
        STRONG, CONTROL, "diff/fd_auc", "A below B", FIGURE_1, SMALL,
    ),
    _claim(
        "G1b", "After the same number of steps, its pictures are closer to real ones.",
        STRONG, CONTROL, "diff/fd", "A below B", f"{FIGURE_1} and abstract", SMALL,
    ),
    _claim(
        "G1c", "As G1b, by the kernel distance.",
        STRONG, CONTROL, "diff/kid", "A below B", f"follows {FIGURE_1}", SMALL, ours=True,
    ),
    _claim(
        "G1d", "The generator's own share of the distance, without that of the reconstruction, falls.",
        STRONG, CONTROL, "diff/fd_gap", "A below B", f"follows {FIGURE_1}", SMALL, ours=True,
    ),
    _claim(
        "G2", "The stronger SE is, the closer generated pictures are to real ones.",
        STRONG, CONTROL, "diff/fd", "A below B", "ours: the paper's best strength is not known to us",
        f"{SMALL} Too strong a term ruins the reconstruction, so there should be an optimum.", along=STRENGTH,
        ours=True,
    ),
)  # fmt: skip


PROFILES = (
    _claim(
        "C3", "The latent space has another power profile than the pictures.",
        PLAIN, PLAIN, "spec/hf_tail", "A differs from B", f"{FIGURE_2}: 'a different power profile from RGB'",
        "Compared is the tail of the profile. The paper's autoencoders are trained for 100,000 steps.",
        against="spec/hf_tail_rgb",
    ),
    _claim(
        "C4", "The latent space has more high frequencies than the pictures.",
        PLAIN, PLAIN, "spec/hf_tail", "A above B", "abstract: 'inordinate high-frequency components'",
        "Compared is the posterior's mean; draws have more. The paper's autoencoders are trained for 100,000 steps.",
        against="spec/hf_tail_rgb",
    ),
    _claim(
        "E2", "Pictures lose less by erasing their own high frequencies than reconstructions by erasing the latent's.",
        PLAIN, PLAIN, "erase/auc", "A below B", f"{FIGURE_5}: 'RGB faces minimal degradation'",
        "The error of the reconstruction itself counts too, and in short runs it is most of the difference.",
        against="erase/auc_rgb",
    ),
)  # fmt: skip


BOTTLENECK = (
    _claim(
        "C1a", "High frequencies of the latent increase with its channels.",
        {CHANNELS: Extreme.MOST}, {CHANNELS: Extreme.LEAST}, "spec/hf_tail", "A above B", FIGURE_2,
        "The paper's autoencoders are trained for 100,000 steps.", along=CHANNELS,
    ),
    _claim(
        "C1b", "The latent with the most channels has stronger high frequencies than that with the fewest.",
        {CHANNELS: Extreme.MOST}, {CHANNELS: Extreme.LEAST}, "spec/hf_tail", "A above B", FIGURE_2,
        "The paper's autoencoders are trained for 100,000 steps.",
    ),
    _claim(
        "C2", "More channels reconstruct better.",
        {CHANNELS: Extreme.MOST}, {CHANNELS: Extreme.LEAST}, "psnr", "A above B", "ours: the reason for more channels",
        "In short runs the channels may not be used: check health/active_dims.", ours=True,
    ),
)  # fmt: skip


POSTERIOR = (
    _claim(
        "K1a", "A stronger KL term adds high frequencies to latents drawn from the posterior.",
        {KL: Extreme.MOST}, {KL: Extreme.LEAST}, "spec/hf_tail_draw", "A above B", FIGURE_3,
        "How the paper reduces its KL term is not known, so neither are its weights in our terms.", along=KL,
    ),
    _claim(
        "K1b", "Latents drawn from the posterior have more high frequencies at the strongest KL term than the weakest.",
        {KL: Extreme.MOST}, {KL: Extreme.LEAST}, "spec/hf_tail_draw", "A above B", FIGURE_3,
        "How the paper reduces its KL term is not known, so neither are its weights in our terms.",
    ),
    _claim(
        "K2", "The cause is the noise of the posterior: its contribution to the tail grows with the KL term.",
        {KL: Extreme.MOST}, {KL: Extreme.LEAST}, "spec/kl_rise", "A above B", f"{FIGURE_3} and its companion on noise",
        "The posterior's mean changes with the weight as well.", along=KL,
    ),
    _claim(
        "K3", "A stronger KL term brings the posterior closer to the standard Gaussian.",
        {KL: Extreme.MOST}, {KL: Extreme.LEAST}, "health/kl_nats", "A below B", FIGURE_3,
        "The term is trained for exactly this.", along=KL,
    ),
)  # fmt: skip


TUNED = "stages.tune.steps"

VARIANTS: dict[str, Levels] = {
    "none": {SE: "none", TUNED: 150},
    "se": {SE: {"level": "se", "strength": 0.25}, TUNED: 129},
    "chf": {SE: {"level": "chf", "strength": 0.25, "block": 4}, TUNED: 86},
    "eq": {SE: {"level": "eq", "strength": 0.5}, TUNED: 224},
    "eq_explicit": {SE: {"level": "eq_explicit", "strength": 0.1}, TUNED: 134},
    "hf_penalty": {SE: {"level": "hf_penalty", "strength": 0.1, "block": 4}, TUNED: 150},
}
"""The treatments of study `se_variants`, each tuned for as many steps as cost the same as 150 steps without a term."""

NAMES = {"se": "SE", "chf": "A cut of high frequencies", "eq": "EQ-VAE", "hf_penalty": "A penalty on high frequencies"}
EQUAL_COMPUTE = "Compute is equal; with equal steps, more expensive terms would get more compute."


KINDS = (
    *(
        _claim(
            f"V1{letter}", f"{NAMES[level]} lowers the high frequencies of the latent.",
            VARIANTS[level], VARIANTS["none"], "spec/hf_tail", "A below B",
            FIGURE_4 if level == "se" else "ours: the authors' code has it beside SE" if level != "eq" else "ours",
            f"{EQUAL_COMPUTE} {SMOOTH_IS_EASY}", ours=level != "se",
        )
        for letter, level in zip("abcd", NAMES, strict=True)
    ),
    *(
        _claim(
            f"V2{letter}", f"{NAMES[level]} makes the latent easier to learn for a diffusion transformer.",
            VARIANTS[level], VARIANTS["none"], "diff/fd_auc", "A below B",
            FIGURE_1 if level == "se" else "EQ-VAE, table 1" if level == "eq" else "ours",
            f"{EQUAL_COMPUTE} {SMALL}", ours=level in {"chf", "hf_penalty"},
        )
        for letter, level in zip("abcd", NAMES, strict=True)
    ),
    _claim(
        "E1", "With a cut of high frequencies in training, latents tolerate the erasure of their high frequencies.",
        VARIANTS["chf"], VARIANTS["none"], "erase/drop", "A below B", FIGURE_5,
        f"{EQUAL_COMPUTE} The term is trained for exactly this. A blurred reconstruction has less to lose.",
    ),
    _claim(
        "V3a", "The explicit penalty has the lowest equivariance error of the encoder, lower than EQ-VAE's.",
        VARIANTS["eq_explicit"], VARIANTS["eq"], "equi/enc_scale2", "A below B", "EQ-VAE, table 7",
        "Here the error is normalised by the variance of the expected latent.",
    ),
    _claim(
        "V3b", "The explicit penalty ruins the reconstruction.",
        VARIANTS["eq_explicit"], VARIANTS["none"], "psnr", "A below B", "EQ-VAE, table 7 (rFID 117.9 against 0.90)",
        "The paper starts from SD-VAE and trains for much longer.",
    ),
    _claim(
        "V4", "EQ-VAE lowers the intrinsic dimension of the latent.",
        VARIANTS["eq"], VARIANTS["none"], "idim/twonn", "A below B", "EQ-VAE, table 5",
        "Here it is the dimension of single positions, in the paper that of whole latents.",
    ),
    _claim(
        "V5", "A penalty on high frequencies is reduced most easily by a latent of smaller scale.",
        VARIANTS["hf_penalty"], VARIANTS["none"], "health/z_std", "A below B", "ours: nothing fixes the latent's scale",
        "With a KL term, the posterior's noise fixes the scale.", ours=True,
    ),
)  # fmt: skip


CLAIMS = (*SCALE_EQUIVARIANCE, *GENERATION, *PROFILES, *BOTTLENECK, *POSTERIOR, *KINDS)
PAPER = Paper("Diffusability", "Skorokhodov et al., 2025, arXiv 2502.14831", TABLES, CLAIMS)
