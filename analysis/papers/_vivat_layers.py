"""Claims of VIVAT, and ours, about padding and normalisation: corners (D) and droplets (E)."""

from ablate.analysis.statistics.claims import Claim

PADDING = "padding"
NORM = "norm"
INTERPOLATION = "norm.interp"
REGULARIZER = "regularizer"

MANY_WITHOUT = (
    "The paper concedes that many models pad with zeros and show no such frame. In short runs the excess varies much "
    "between seeds."
)

OURS_ABOUT_PADDING = "follows section 5.2, corner artifact, which names only reflection in all layers"


CORNER = tuple(
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


SIGNS = (
    ("droplet/growth", "grow less from block to block of the decoder"),
    ("droplet/blob", "draw weaker spots into the picture"),
    ("droplet/act_maxmed", "stand out less among activations"),
)

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
            source="sections 4 and 5.2, droplet artifact, and figure 3",
            said_by="paper",
            caveat=MAY_NOT_FORM,
        )
        for letter, (metric, sign) in zip("abc", SIGNS, strict=True)
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
        )
        for letter, metric, kind in (("a", "grid/comb_db", ""), ("b", "grid/nat_fold", ", alike in all images"))
    ),
)
