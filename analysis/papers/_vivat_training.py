"""Claims of VIVAT, and ours, about training: its length (A1), a last stage of tuning (A2, F), resizing (C3).

Claims about a cure require what it cures: a visible shift of colours before it, or blur with the other preparation.
"""

from ablate.analysis.statistics.claims import Claim, Extreme, Requirement

STEPS = "stages.train.steps"
FREEZE = "stages.tune.freeze"
TUNING_STEPS = "stages.tune.steps"
RESIZE = "data.resize"
DECODER_ALONE = {FREEZE: "encoder", TUNING_STEPS: Extreme.MOST}
WHOLE_MODEL = {FREEZE: "none", TUNING_STEPS: Extreme.MOST}
NO_TUNING = {TUNING_STEPS: 0}

UNTUNED_SHIFT = Requirement("color/dE00", NO_TUNING)
"""A colour difference that is just noticeable, 1, before the last stage."""

JUST_NOTICEABLE = 1.0


TUNING = (
    *(
        Claim(
            id=name,
            text=f"The shift of colours belongs to early training: training longer cures it{kind}.",
            a={STEPS: Extreme.MOST},
            b={STEPS: Extreme.LEAST},
            metric=metric,
            direction="A below B",
            source="sections 4 and 5.2, color shift",
            said_by="paper",
            caveat="An equally large cure without the adversarial term would mean that the term is not the cause. The "
            "two lengths are two separate runs, each with its own learning-rate schedule, not one run at two steps.",
            requires=(Requirement(metric, "B"),),
        )
        for name, metric, kind in (("A1d", "color/bias_norm", ""), ("A1e", "color/dE00", ", in perceived colour"))
    ),
    Claim(
        id="A1g",
        text="After longer training no shift is visible.",
        a={STEPS: Extreme.MOST},
        b=JUST_NOTICEABLE,
        metric="color/dE00",
        direction="A below B",
        source="section 5.2, color shift: 'solved in two ways'",
        said_by="paper",
        caveat="The just noticeable difference is our bound.",
        requires=(Requirement("color/dE00", {STEPS: Extreme.LEAST}),),
    ),
    Claim(
        id="A2a",
        text="Tuning the decoder alone cures the shift better than training the whole model for as many steps.",
        a={FREEZE: "encoder"},
        b={FREEZE: "none"},
        metric="color/dE00",
        direction="A below B",
        source="section 5.2, color shift, which names both as cures but does not compare them",
        said_by="us",
        caveat="The steps are equal but the cost is not: a step without the encoder's gradients is cheaper.",
        requires=(UNTUNED_SHIFT,),
    ),
    Claim(
        id="A2b",
        text="Tuning the decoder alone cures the shift.",
        a=DECODER_ALONE,
        b=NO_TUNING,
        metric="color/dE00",
        direction="A below B",
        source="section 5.2, color shift",
        said_by="paper",
        caveat="Any further training may have this effect, not only that of the decoder: see A2a.",
        requires=(UNTUNED_SHIFT,),
    ),
    Claim(
        id="A2c",
        text="Training the whole model for the same number of further steps cures the shift.",
        a=WHOLE_MODEL,
        b=NO_TUNING,
        metric="color/dE00",
        direction="A below B",
        source="section 5.2, color shift",
        said_by="paper",
        caveat="The learning-rate schedule restarts: part of the cure may be due to it rather than to the steps.",
        requires=(UNTUNED_SHIFT,),
    ),
    Claim(
        id="A2d",
        text="After tuning the decoder alone no shift is visible.",
        a=DECODER_ALONE,
        b=JUST_NOTICEABLE,
        metric="color/dE00",
        direction="A below B",
        source="section 5.2, color shift: 'solved in two ways'",
        said_by="paper",
        caveat="The just noticeable difference is our bound.",
        requires=(UNTUNED_SHIFT,),
    ),
)


DIRECT_CROP = (
    "The paper is about HD sources, whose crops are mere magnifications. Small sources, and sources that are sharp in "
    "every pixel, lose nothing by a direct crop. Held-out crops are reduced by bicubic in all treatments."
)

ALIASES = (
    "Nearest neighbour leaves aliases, whose power may be mistaken for detail: MTF50 is the fairer of the metrics."
)
BILINEAR = "With antialiasing, bilinear is only slightly softer than bicubic: expect a small difference."


CLOSER = "a power of the finest detail that is closer to the source's"


PREPROCESSING = tuple(
    Claim(
        id=f"C3{letter}",
        text=f"Training on pictures reduced by bicubic before the crop gives {gain} than {other}.",
        a={RESIZE: "bicubic"},
        b={RESIZE: level},
        metric=metric,
        direction="A above B" if metric == "blur/mtf50" else "A below B",
        source="section 5.1" if level != "bilinear" else "follows section 5.1, which names only nearest and bicubic",
        said_by="paper" if level != "bilinear" else "us",
        caveat=caveat,
        requires=(Requirement("blur/mtf50", "B", at_most=0.4),),
    )
    for letter, level, other, metric, gain, caveat in (
        ("a", "none", "on direct crops", "blur/mtf50", "sharper reconstructions", DIRECT_CROP),
        ("b", "none", "on direct crops", "blur/hf_hi", CLOSER, DIRECT_CROP),
        ("c", "nearest", "by nearest neighbour", "blur/mtf50", "sharper reconstructions", ALIASES),
        ("d", "nearest", "by nearest neighbour", "blur/hf_hi", CLOSER, ALIASES),
        ("e", "bilinear", "by bilinear", "blur/mtf50", "sharper reconstructions", BILINEAR),
        ("f", "bilinear", "by bilinear", "blur/hf_hi", CLOSER, BILINEAR),
    )
)


FINISH = (
    Claim(
        id="F1a",
        text="A last stage with a frozen encoder improves reconstructions.",
        a=DECODER_ALONE,
        b=NO_TUNING,
        metric="psnr",
        direction="A above B",
        source="section 5.3",
        said_by="paper",
        caveat="The paper's gain is in FID; its 'increase' must mean an improvement. FID needs thousands of pictures "
        "and is not measured here; it may improve while PSNR stays the same.",
    ),
    Claim(
        id="F1b",
        text="At the end, tuning the decoder alone costs no PSNR compared with training the whole model equally long.",
        a={FREEZE: "encoder"},
        b={FREEZE: "none"},
        metric="psnr",
        direction="A above B",
        source="follows section 5.3, which does not compare the two",
        said_by="us",
        caveat="The claim is only that PSNR is not lower, so only 'opposite' contradicts it. The whole model has more "
        "parameters to train, so it should win as long as training has not converged.",
    ),
)
