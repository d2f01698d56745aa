"""The figures of the LTX-2 grid report, and what it suggests."""

from ablate.analysis.papers import Published

SUGGESTED = "section Suggested directions"
SEEN = "section What we see"


TABLES = {
    "figures": Published(
        "Reconstruction of a constant green clip by LTX-2.3's VAE, G channel",
        SEEN,
        ("LTX-2.3",),
        {"max |difference|": (0.124,), "mean |difference|": (0.0026,), "FFT off-DC fraction": (0.98,)},
        "The differences are on [0, 1]: 31.6 and 0.66 grey levels. The clip is (0, 128, 0), 49 frames of 256 x 256 px; "
        "the middle frame is measured, with its border. The fraction is of magnitudes on [-1, 1]; white noise of a "
        "tenth of a grey level, without any grid, has the same fraction.",
    ),
    "suggestions": Published(
        "Suggested changes, roughly from least to most disruptive",
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
