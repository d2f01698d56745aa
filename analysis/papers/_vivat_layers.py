"""Claims of VIVAT, and ours, about padding and normalisation: corners (D) and droplets (E).

Claims about corners require a frame with zeros, those about droplets require droplets with group normalisation: the
metrics that they compare also answer to the worst detail, and then say nothing about the artifact.
"""

from ablate.analysis.statistics.claims import Claim, Requirement

PADDING = "padding"
NORM = "norm"
INTERPOLATION = "norm.interp"
REGULARIZER = "regularizer"

FRAMED = Requirement("border/excess_b4", {PADDING: "zeros"})
"""An error in the outer 4 px that exceeds the interior's by the smallest effect of interest."""

DROPLETS = Requirement("droplet/incidence", "B", at_least=0.2)
"""A droplet in every fifth picture."""

MANY_WITHOUT = (
    "The paper concedes that many models pad with zeros and show no such frame. In short runs the excess varies much "
    "between seeds."
)

OURS_ABOUT_PADDING = "follows section 5.2, corner artifact, which names only reflection in all layers"


REMEDIES = tuple(
    Claim(
        id=f"D1{letter}",
        text=text,
        a={PADDING: level},
        b={PADDING: "zeros"},
        metric=metric,
        direction="A below B",
        source="sections 4 and 5.2, corner artifact" if level == "reflect" else OURS_ABOUT_PADDING,
        said_by="paper" if level == "reflect" else "us",
        caveat=caveat,
        requires=(FRAMED,),
    )
    for letter, level, metric, text, caveat in (
        ("a", "reflect", "border/excess_b4",
         "Zero padding blurs a frame around the picture; padding by reflection cures it.", MANY_WITHOUT),
        ("b", "reflect", "border/cc_ratio",
         "As D1a, for all change near a border, not only for error.", MANY_WITHOUT),
        ("c", "replicate", "border/excess_b4",
         "Padding by repetition of the border pixel cures the frame too.", MANY_WITHOUT),
        ("d", "replicate", "border/cc_ratio",
         "As D1c, for all change near a border, not only for error.", MANY_WITHOUT),
        ("e", {"level": "reflect", "where": "decoder"}, "border/excess_b4",
         "Reflection in the decoder alone cures the frame: the decoder draws the frame.",
         "If D1f is reproduced too, either half is sufficient, or each contributes a part."),
        ("f", {"level": "reflect", "where": "encoder"}, "border/excess_b4",
         "Reflection in the encoder alone cures the frame: the latents near the border cause it.",
         "If D1e is reproduced too, either half is sufficient, or each contributes a part."),
    )
)  # fmt: skip


CORNER = (
    *REMEDIES,
    Claim(
        id="D2a",
        text="Padding by reflection cures the frame completely.",
        a={PADDING: "reflect"},
        b=0.0,
        metric="border/excess_b4",
        direction="A equals B",
        source="section 5.2, corner artifact: 'completely cured'",
        said_by="paper",
        caveat="It says nothing of other costs of reflection: check PSNR.",
        requires=(FRAMED,),
    ),
)


SIGNS = (
    ("droplet/growth", "grow less from block to block of the decoder"),
    ("droplet/blob", "draw weaker spots into the picture"),
    ("droplet/act_maxmed", "stand out less among activations"),
)

LATENT_SIGN = ("droplet/z_maxmed", "stand out less among the norms of the latent")

MAY_NOT_FORM = (
    "Droplets may not form at all in short runs; without droplets these numbers are those of the worst detail. Check "
    "droplet/incidence over three seeds or more."
)


DROPLET = (
    *(
        Claim(
            id=f"E1{letter}",
            text=f"With spatially conditional normalisation, droplets {sign}.",
            a={NORM: "scn"},
            b={NORM: "group"},
            metric=metric,
            direction="A below B",
            source="sections 4 and 5.2, droplet artifact, and figure 3"
            if metric != LATENT_SIGN[0]
            else "follows section 4, droplet artifact, which names high norms in latent codes as the cause",
            said_by="paper" if metric != LATENT_SIGN[0] else "us",
            caveat=MAY_NOT_FORM,
            requires=(DROPLETS,),
        )
        for letter, (metric, sign) in zip("abcg", (*SIGNS, LATENT_SIGN), strict=True)
    ),
    *(
        Claim(
            id=f"E1{letter}",
            text=f"With an outlier penalty on the latents instead of another normalisation, droplets {sign}.",
            a={NORM: "group", REGULARIZER: {"level": "outlier", "strength": 1.0}},
            b={NORM: "group", REGULARIZER: "none"},
            metric=metric,
            direction="A below B",
            source="Movie Gen (arXiv 2410.13720), whose penalty VIVAT aims to avoid",
            said_by="us",
            caveat=f"{MAY_NOT_FORM} Movie Gen's strength of 1e5 is relative to losses of unknown reduction: if its "
            "pixel loss is a sum over 256 x 256 pixels, it corresponds to about 0.5 here.",
            requires=(DROPLETS,),
        )
        for letter, (metric, sign) in zip("def", SIGNS, strict=True)
    ),
    Claim(
        id="E2a",
        text="Without zero padding, droplets are not confined to the corners but appear anywhere.",
        a={PADDING: "reflect", NORM: "group"},
        b={PADDING: "zeros", NORM: "group"},
        metric="droplet/blob_border",
        direction="A above B",
        source="section 5.2, droplet artifact",
        said_by="paper",
        caveat="Meaningful only if there are droplets (droplet/incidence): otherwise the position is that of the worst "
        "detail.",
        requires=(DROPLETS, Requirement("droplet/incidence", "A", at_least=0.2)),
    ),
    Claim(
        id="E4a",
        text="With spatially conditional normalisation no droplets are left.",
        a={NORM: "scn"},
        b=0.0,
        metric="droplet/incidence",
        direction="A equals B",
        source="section 5.2, droplet artifact: 'helps us get rid of the droplet artifact'",
        said_by="paper",
        caveat="Rare droplets need many pictures: the margin is a droplet in every tenth of them.",
        requires=(Requirement("droplet/incidence", {NORM: "group"}, at_least=0.2),),
    ),
    Claim(
        id="E5a",
        text="Where droplets form, activation norms grow on consecutive layers of the decoder.",
        a={NORM: "group"},
        b=1.0,
        metric="droplet/growth",
        direction="A above B",
        source="section 4, droplet artifact, and figure 3",
        said_by="paper",
        caveat="The figure shows one example. Norms may grow without droplets too: E1a compares.",
        requires=(Requirement("droplet/incidence", "A", at_least=0.2),),
    ),
    *(
        Claim(
            id=f"E3{letter}",
            text=f"If the latent's scale and shift are resized by nearest neighbour, the edges of blocks appear{kind}.",
            a={NORM: "scn", INTERPOLATION: "nearest"},
            b={NORM: "scn", INTERPOLATION: "bilinear"},
            metric=metric,
            direction="A above B",
            source="ours, about section 5.2, droplet artifact: a side effect of its remedy",
            said_by="us",
            caveat="Constant colours cannot show it, as their latents are constant away from the border.",
            requires=(Requirement(sign, "A", at_least=clean),),
        )
        for letter, metric, kind, sign, clean in (
            ("a", "grid/comb_db", "", "grid/comb_db", 1.0),
            ("b", "grid/nat_fold", ", alike in all images", "grid/nat_z", 1.3),
        )
    ),
)
