"""VIVAT: L. Novitskiy et al., "VIVAT: Virtuous Improving VAE Training through Artifact Mitigation", arXiv 2506.07863.

The paper names five artifacts of KL-VAEs with a cause and a remedy for each, and shows them in pictures. It gives no
number for any artifact or remedy, so no claim has a published value. It does not say whether its loss weights multiply
sums or means, so claims are about the order of weights, not about the weights themselves.

Claims: colour shift (A), grid (B), blur (C), corners (D), droplets (E), and tuning the decoder at the end (F). They are
in `_vivat_weights` and `_vivat_grid` (what the loss weights do), `_vivat_training` (what data, length and order of
training do) and `_vivat_layers` (what padding and normalisation do).

The paper contradicts itself about its base model: according to section 3.2 it has spatially conditional normalisation
from the start; according to section 5.2 that is added later, as the remedy for droplets. No claim depends on this. Each
is judged in every context that a study contains, so a study that varies the norm beside other factors covers both.
"""

from ablate.analysis.papers import Paper, Published
from ablate.analysis.papers._vivat_grid import GRID
from ablate.analysis.papers._vivat_layers import CORNER, DROPLET
from ablate.analysis.papers._vivat_training import FINISH, PREPROCESSING, TUNING
from ablate.analysis.papers._vivat_weights import BLUR, COLOR

DATASETS = ("ImageNet 256x256", "ImageNet 512x512", "MS COCO 2017 Test 512x512", "FFHQ 1024x1024")
NAMES = "DC-VAE is the paper's name for the deep compression autoencoder, DC-AE."


TABLES = {
    "1 PSNR": Published(
        "Image reconstruction results, PSNR in dB, higher is better",
        "table 1, upper half",
        DATASETS,
        {
            "DC-VAE": (23.7, 26.15, 25.38, 31.34),
            "Cosmos-0.1-Tokenizer-CI8x8": (30.54, 33.76, 32.28, 39.12),
            "Flux VAE": (31.09, 33.99, 32.65, 38.14),
            "Stable Diffusion 3 VAE": (29.58, 32.07, 30.94, 36.16),
            "VIVAT": (31.25, 33.82, 32.61, 39.35),
        },
        NAMES,
    ),
    "1 SSIM": Published(
        "Image reconstruction results, SSIM, higher is better",
        "table 1, lower half",
        DATASETS,
        {
            "DC-VAE": (0.65, 0.71, 0.70, 0.83),
            "Cosmos-0.1-Tokenizer-CI8x8": (0.88, 0.91, 0.90, 0.95),
            "Flux VAE": (0.89, 0.93, 0.91, 0.96),
            "Stable Diffusion 3 VAE": (0.86, 0.89, 0.87, 0.93),
            "VIVAT": (0.90, 0.92, 0.91, 0.96),
        },
        NAMES,
    ),
    "2": Published(
        "VAE training parameters",
        "table 2, appendix A.2",
        ("value",),
        {
            "precision": ("FP32",),
            "learning rate": (1e-4,),
            "EMA decay": (0.9999,),
            "latent dimension": (16,),
            "discriminator start": ("step 0",),
        },
        "Batch size, number of steps, optimiser and the discriminator's size and loss are not given.",
    ),
    "3": Published(
        "VAE losses coefficients",
        "table 3, appendix A.2",
        ("weight",),
        {"kl": (1e-4,), "l2": (1.0,), "adversarial": (0.01,), "perceptual": (0.1,)},
        "Whether the losses are sums or means is not given.",
    ),
    "4": Published(
        "Training configuration of the diffusion transformer",
        "table 4, appendix A.3.3",
        ("value",),
        {
            "optimizer": ("AdamW",),
            "learning rate": (1e-4,),
            "gradient clipping": (1.0,),
            "weight decay": (0.0,),
            "beta 1": (0.9,),
            "beta 2": (0.95,),
            "epsilon": (1e-8,),
            "schedule": ("constant + 1000 warmup",),
        },
    ),
}


CLAIMS = (*COLOR, *TUNING, *GRID, *BLUR, *PREPROCESSING, *CORNER, *DROPLET, *FINISH)
PAPER = Paper("VIVAT", "Novitskiy et al., 2025, arXiv 2506.07863", TABLES, CLAIMS)
