"""What VIVAT says, and we ask, about how a model is trained.

Its length (A1), a last stage of tuning (A2, F) and the preparation of its pictures (C3).
"""

from ablate.analysis.statistics.claims import Claim, Extreme

STEPS = "stages.train.steps"


FREEZE, TUNING_STEPS = "stages.tune.freeze", "stages.tune.steps"


RESIZE = "data.resize"


DECODER_ALONE = {FREEZE: "encoder", TUNING_STEPS: Extreme.MOST}


WHOLE_MODEL = {FREEZE: "none", TUNING_STEPS: Extreme.MOST}


NO_TUNING = {TUNING_STEPS: 0}


TUNING = (
    *(
        Claim(
            id=name,
            text=f"The shift of colours is one of early training: training longer cures it{kind}.",
            a={STEPS: Extreme.MOST},
            b={STEPS: Extreme.LEAST},
            metric=metric,
            direction="A below B",
            source="sections 4 and 5.2, color shift",
            said_by="paper",
            caveat="As large a cure without the adversarial term would mean that the term is not the cause. The two "
            "lengths are two runs, each with its own course of the learning rate, not one run seen twice.",
        )
        for name, metric, kind in (("A1d", "color/bias_norm", ""), ("A1e", "color/dE00", ", as one sees it"))
    ),
    Claim(
        id="A2a",
        text="Tuning the decoder alone cures the shift better than training the whole model for as many steps.",
        a={FREEZE: "encoder"},
        b={FREEZE: "none"},
        metric="color/dE00",
        direction="A below B",
        source="section 5.2, color shift, names both as cures and does not compare them",
        said_by="us",
        caveat="Steps are equal, cost is not: without the encoder's gradients a step is cheaper.",
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
        caveat="Any further steps may do it, not those of the decoder in particular: see A2a.",
    ),
    Claim(
        id="A2c",
        text="Training the whole model for as many steps more cures the shift.",
        a=WHOLE_MODEL,
        b=NO_TUNING,
        metric="color/dE00",
        direction="A below B",
        source="section 5.2, color shift",
        said_by="paper",
        caveat="The learning rate starts anew: part of the cure may be its course rather than the steps.",
    ),
)


DIRECT_CROP = (
    "The paper speaks of HD sources, whose crops are mere magnifications. Sources of few pixels, or sharp in every "
    "pixel, lose nothing by a direct crop. Held-out crops are reduced by bicubic in all treatments."
)


ALIASES = "Nearest neighbour leaves aliases, whose power may pass for detail: of the two metrics MTF50 is the fair one."


BILINEAR = "Antialiased, bilinear is only a little softer than bicubic: little difference is to be expected."


PREPROCESSING = tuple(
    Claim(
        id=f"C3{letter}",
        text=f"Training on pictures reduced by bicubic before the crop gives {gain} than {other}.",
        a={RESIZE: "bicubic"},
        b={RESIZE: level},
        metric=metric,
        direction="A above B",
        source="section 5.1" if level != "bilinear" else "follows section 5.1, which names nearest and bicubic alone",
        said_by="paper" if level != "bilinear" else "us",
        caveat=caveat,
    )
    for letter, level, other, metric, gain, caveat in (
        ("a", "none", "on direct crops", "blur/mtf50", "sharper reconstructions", DIRECT_CROP),
        ("b", "none", "on direct crops", "blur/hf_hi", "more of the finest detail", DIRECT_CROP),
        ("c", "nearest", "by nearest neighbour", "blur/mtf50", "sharper reconstructions", ALIASES),
        ("d", "nearest", "by nearest neighbour", "blur/hf_hi", "more of the finest detail", ALIASES),
        ("e", "bilinear", "by bilinear", "blur/mtf50", "sharper reconstructions", BILINEAR),
        ("f", "bilinear", "by bilinear", "blur/hf_hi", "more of the finest detail", BILINEAR),
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
        caveat="The paper's gain is in FID, by which its 'increase' must mean an improvement. FID takes thousands of "
        "pictures and is not measured here; PSNR may stand still while it improves.",
    ),
    Claim(
        id="F1b",
        text="At the end, tuning the decoder alone costs no PSNR against training the whole model for as many steps.",
        a={FREEZE: "encoder"},
        b={FREEZE: "none"},
        metric="psnr",
        direction="A above B",
        source="follows section 5.3, which does not compare the two",
        said_by="us",
        caveat="Not lower is all that is claimed: only 'opposite' speaks against it. The whole model has more to learn "
        "with, so that it should win where it has not settled yet.",
    ),
)
