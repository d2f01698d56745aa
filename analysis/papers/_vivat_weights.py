"""Claims of VIVAT, and ours, about loss weights: colour shift (A1) and blur (C1, C2).

A claim that a weight draws an artifact requires the artifact at that weight: where it is nowhere, a difference between
two readings of its metric is one of other errors. A claim that a weight cures it requires it at the other weight.
"""

from ablate.analysis.statistics.claims import Claim, Requirement

KL = "loss.kl"
ADVERSARIAL = "loss.adversarial"

SHIFTED = Requirement("color/bias_norm", "A")
"""By at least the smallest shift of interest, 1 gl, above which a common tint can be told from chance."""

BLURRED = Requirement("blur/mtf50", "B", at_most=0.4)
"""Unblurred pictures read 0.4 cycles/px or more at any contrast."""


COLOR = (
    Claim(
        id="A1a",
        text="Training against a discriminator shifts the colours of reconstructions, early in training.",
        a={ADVERSARIAL: 0.01},
        b={ADVERSARIAL: 0.0},
        metric="color/bias_norm",
        direction="A above B",
        source="section 4, color shift",
        said_by="paper",
        caveat="An equal shift without the adversarial term would mean that the term is not the cause. The paper sees "
        "the shift early in training and cures it by training longer, so long runs may not show it.",
        requires=(SHIFTED,),
    ),
    Claim(
        id="A1b",
        text="The shift moves all images towards one colour, like a collapse to one mode.",
        a={ADVERSARIAL: 0.01},
        b={ADVERSARIAL: 0.0},
        metric="color/coherence",
        direction="A above B",
        source="section 4, color shift",
        said_by="paper",
        caveat="Meaningful only if there is a shift: coherence is meaningless below 0.2 grey levels of bias.",
        requires=(SHIFTED, Requirement("color/bias_norm", "B", at_least=0.2)),
    ),
    Claim(
        id="A1c",
        text="A larger adversarial weight shifts the colours more.",
        a={ADVERSARIAL: 0.1},
        b={ADVERSARIAL: 0.01},
        metric="color/bias_norm",
        direction="A above B",
        source="follows section 4, color shift: the paper names the adversarial set-up but not its weight",
        said_by="us",
        caveat="A shift that does not grow with the weight would point to another cause.",
        requires=(SHIFTED,),
    ),
    Claim(
        id="A1f",
        text="The tint is yellow.",
        a={ADVERSARIAL: 0.01},
        b=0.0,
        metric="color/db",
        direction="A above B",
        of="value",
        source="section 4, color shift: 'in our case all the pictures had a yellow tint'",
        said_by="paper",
        caveat="The paper speaks of its own case: another tint is as much a shift, and its colour may depend on data.",
        requires=(SHIFTED,),
    ),
)


BLUR = (
    Claim(
        id="C1a",
        text="A large KL weight blurs; a tenth of it cured the blur.",
        a={KL: 1e-4},
        b={KL: 1e-3},
        metric="blur/mtf50",
        direction="A above B",
        source="sections 4 and 5.2, blur",
        said_by="paper",
        caveat="The paper does not say where it started from: 1e-3 assumes that it ended at the 1e-4 of table 3.",
        requires=(BLURRED,),
    ),
    Claim(
        id="C1b",
        text="As C1a: with a tenth of the weight, the power of the finest detail is closer to the source's.",
        a={KL: 1e-4},
        b={KL: 1e-3},
        metric="blur/hf_hi",
        direction="A below B",
        source="sections 4 and 5.2, blur",
        said_by="paper",
        caveat="Noise and grids add power too: it indicates sharpness only together with C1a.",
        requires=(BLURRED,),
    ),
    Claim(
        id="C1c",
        text="As C1a, for the fidelity of reconstructions.",
        a={KL: 1e-4},
        b={KL: 1e-3},
        metric="psnr",
        direction="A above B",
        source="sections 2.3 and 5.2, blur: stronger regularization loses detail and degrades reconstruction",
        said_by="paper",
        caveat="PSNR counts every error, not only blur.",
    ),
    Claim(
        id="C1d",
        text="Of two KL weights four decades apart, the smaller one reconstructs better.",
        a={KL: 1e-6},
        b={KL: 1e-2},
        metric="psnr",
        direction="A above B",
        source="sections 2.3 and 4, blur",
        said_by="paper",
        caveat="These are the ends of a trend. If the posterior has already collapsed, less weight changes nothing.",
    ),
    Claim(
        id="C1e",
        text="A KL weight far above VIVAT's blurs.",
        a={KL: 1e-4},
        b={KL: 1.0},
        metric="blur/mtf50",
        direction="A above B",
        source="section 4, blur",
        said_by="paper",
        caveat="If the posterior has collapsed, reconstructions are wrong altogether rather than blurred: check PSNR.",
        requires=(BLURRED,),
    ),
    Claim(
        id="C1f",
        text="With a tenth of the KL weight the latents carry more information; this is how it cures the blur.",
        a={KL: 1e-4},
        b={KL: 1e-3},
        metric="health/kl_nats",
        direction="A above B",
        source="section 4, blur: a high weight makes the distribution of the latents too simple",
        said_by="paper",
        caveat="If the blur changes but the information does not, the KL weight has its effect in another way.",
    ),
    Claim(
        id="C1g",
        text="A tenth of the KL weight solves the problem: no blur is left.",
        a={KL: 1e-4},
        b=0.4,
        metric="blur/mtf50",
        direction="A above B",
        source="section 5.2, blur: 'decreasing weight of KL divergence by 10 times solved the problem'",
        said_by="paper",
        caveat="The bound is ours: unblurred pictures read 0.4 cycles/px or more. Short runs blur with any weight.",
        requires=(Requirement("blur/mtf50", {KL: 1e-3}, at_most=0.4),),
    ),
    Claim(
        id="C2a",
        text="A larger adversarial weight restores the power of the finest detail, at the price of a grid (B1).",
        a={ADVERSARIAL: 0.1},
        b={ADVERSARIAL: 0.01},
        metric="blur/hf_hi",
        direction="A below B",
        source="section 5.2, blur",
        said_by="paper",
        caveat="A grid has power at high frequencies too: if B1a or B1b is reproduced, read this together with C2b.",
        requires=(Requirement("blur/hf_hi", "B", at_most=0.95),),
    ),
    Claim(
        id="C2b",
        text="The detail that the adversarial term adds is invented; it is not that of the source.",
        a={ADVERSARIAL: 0.1},
        b={ADVERSARIAL: 0.01},
        metric="blur/coherence",
        direction="A below B",
        source="ours, about section 5.2, blur",
        said_by="us",
        caveat="The verdict 'opposite' would mean that the adversarial term recovers true detail.",
    ),
)
