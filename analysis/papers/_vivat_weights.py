"""Claims of VIVAT, and ours, about loss weights: colour shift (A1), grid (B) and blur (C1, C2)."""

from ablate.analysis.statistics.claims import Claim

KL = "loss.kl"
ADVERSARIAL = "loss.adversarial"
PERCEPTUAL = "loss.perceptual"
BREAKDOWN = "At such weights training may break down, and other errors may hide the grid: check PSNR."
UNKNOWN_THRESHOLD = "The paper does not say above which value a weight is too large: this one may be small enough."


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
    ),
)


GRID = (
    Claim(
        id="B1a",
        text="Too large an adversarial weight draws a grid, and lowering it reduces the grid.",
        a={ADVERSARIAL: 0.1},
        b={ADVERSARIAL: 0.01},
        metric="grid/nat_z",
        direction="A above B",
        source="sections 4 and 5.2, grid",
        said_by="paper",
        caveat="An equally strong grid without the adversarial term would point to another cause. The metric detects "
        "grids that are the same in all images. The paper does not say which weight was too large: 0.1 is the weight "
        "in the code that it builds on.",
    ),
    Claim(
        id="B1b",
        text="As B1a, for grids that differ from image to image.",
        a={ADVERSARIAL: 0.1},
        b={ADVERSARIAL: 0.01},
        metric="grid/comb_db",
        direction="A above B",
        source="sections 4 and 5.2, grid",
        said_by="paper",
        caveat="As for B1a. The metric also detects grids that the image modulates.",
    ),
    Claim(
        id="B1c",
        text="An adversarial weight a hundred times VIVAT's draws a grid too.",
        a={ADVERSARIAL: 1.0},
        b={ADVERSARIAL: 0.01},
        metric="grid/comb_db",
        direction="A above B",
        source="sections 4 and 5.2, grid",
        said_by="paper",
        caveat=BREAKDOWN,
    ),
    Claim(
        id="B1d",
        text="There is more of a grid without an adversarial term than with a small one: the dependence is U-shaped.",
        a={ADVERSARIAL: 0.0},
        b={ADVERSARIAL: 0.01},
        metric="grid/comb_db",
        direction="A above B",
        source="Open-Sora-Plan, pull request 145: a VAE trained without a discriminator drew grids that one removed",
        said_by="us",
        caveat="If it is reproduced, it contradicts the advice to keep lowering the weight.",
    ),
    *(
        Claim(
            id=name,
            text=f"An adversarial weight {times} times VIVAT's draws a grid{kind}.",
            a={ADVERSARIAL: weight},
            b={ADVERSARIAL: 0.01},
            metric=metric,
            direction="A above B",
            source="sections 4 and 5.2, grid",
            said_by="paper",
            caveat=caveat,
        )
        for name, times, weight, metric, kind, caveat in (
            ("B1e", "three", 0.03, "grid/nat_z", ", alike in all images", UNKNOWN_THRESHOLD),
            ("B1f", "three", 0.03, "grid/comb_db", "", UNKNOWN_THRESHOLD),
            ("B1g", "thirty", 0.3, "grid/nat_z", ", alike in all images", BREAKDOWN),
            ("B1h", "thirty", 0.3, "grid/comb_db", "", BREAKDOWN),
            ("B1i", "a hundred", 1.0, "grid/nat_z", ", alike in all images", BREAKDOWN),
        )
    ),
    *(
        Claim(
            id=name,
            text=f"Even VIVAT's adversarial weight leaves a grid{kind}, which a third of it reduces further.",
            a={ADVERSARIAL: 0.01},
            b={ADVERSARIAL: 0.003},
            metric=metric,
            direction="A above B",
            source="follows sections 4 and 5.2, grid: the paper stops at 0.01",
            said_by="us",
            caveat="The verdict 'opposite' would suggest that the grid is smallest at a weight above 0: see B1d.",
        )
        for name, metric, kind in (("B1j", "grid/nat_z", ", alike in all images"), ("B1k", "grid/comb_db", ""))
    ),
    Claim(
        id="B1m",
        text="The grid of a large adversarial weight does not show on constant colours.",
        a={ADVERSARIAL: 0.1},
        b={ADVERSARIAL: 0.01},
        metric="grid/const_fold",
        direction="A equals B",
        source="ours, about sections 4 and 5.2, grid",
        said_by="us",
        caveat="Constant colours show grids drawn by the upsampling and the padding. If the decoder resizes, then "
        "convolves, and pads by reflection, they show none with any weights, so no test on them can detect this grid.",
        margin=0.05,
    ),
    Claim(
        id="B2a",
        text="The perceptual loss alone draws a grid.",
        a={PERCEPTUAL: 1.0, ADVERSARIAL: 0.0},
        b={PERCEPTUAL: 0.0, ADVERSARIAL: 0.0},
        metric="grid/comb_db",
        direction="A above B",
        source="Open-Sora-Plan, pull request 145; the pooling layers behind LPIPS would explain it",
        said_by="us",
        caveat="Speaks of LPIPS only where the features are those of LPIPS, not of random weights.",
    ),
    Claim(
        id="B2b",
        text="The perceptual loss also draws a grid beside a small adversarial term.",
        a={PERCEPTUAL: 1.0},
        b={PERCEPTUAL: 0.0},
        metric="grid/comb_db",
        direction="A above B",
        source="Open-Sora-Plan, pull request 145; the pooling layers behind LPIPS would explain it",
        said_by="us",
        caveat="Speaks of LPIPS only where the features are those of LPIPS, not of random weights.",
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
    ),
    Claim(
        id="C1b",
        text="As C1a, for the power of the finest detail.",
        a={KL: 1e-4},
        b={KL: 1e-3},
        metric="blur/hf_hi",
        direction="A above B",
        source="sections 4 and 5.2, blur",
        said_by="paper",
        caveat="Noise and grids add power too: it indicates sharpness only together with C1a.",
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
        id="C2a",
        text="A larger adversarial weight restores detail, at the price of a grid (B1).",
        a={ADVERSARIAL: 0.1},
        b={ADVERSARIAL: 0.01},
        metric="blur/hf_hi",
        direction="A above B",
        source="section 5.2, blur",
        said_by="paper",
        caveat="A grid has power at high frequencies too: if B1a or B1b is reproduced, read this together with C2b.",
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
