"""Published values on diffusability, each with its provenance; see `diffusability`."""

from ablate.analysis.papers import Published

OURS = "paper"
"""Provenance of values from the paper itself."""

PEER = "peer"
"""Provenance of values from another paper's table. Values from elsewhere are in no table."""


TABLES = {
    "abstract": Published(
        "Gains by SE: generator trained on the latents of tuned autoencoders, against those of the original ones",
        "abstract",
        ("metric", "change", "provenance"),
        {
            "ImageNet-1K 256 x 256": ("FID", "-19 %", OURS),
            "Kinetics-700 17 x 256 x 256": ("FVD", "at least -44 %", OURS),
        },
        "Its tables are not known to us.",
    ),
    "figures": Published(
        "What its figures show, and our figure that shows the same for a study",
        "captions of figures 1 to 5",
        ("shows", "study", "ablate figure", "provenance"),
        {
            "1": (
                "convergence of DiT-XL/2 with and without SE, 10,000 steps of tuning",
                "se_strength",
                "diffusion",
                OURS,
            ),
            "2": ("spectra of FluxAE by channels, RGB at 32 x 32", "channels_spectrum", "spectra", OURS),
            "3": ("spectra by KL strength, trained from scratch", "kl_spectrum", "spectra_drawn", OURS),
            "4": ("spectra with and without SE, by strength", "se_strength", "spectra", OURS),
            "5": ("reconstructions as DCT coefficients are erased", "se_variants", "erasure", OURS),
        },
        "No values were available from these figures.",
    ),
    "DFM": Published(
        "Generation from FLUX latents, DiT-B, ImageNet 512 px, 400,000 steps",
        "DFM, table 5",
        ("FID", "FDD", "IS", "provenance"),
        {
            "FLUX, flow matching": (54.50, 855.5, 21.4, PEER),
            "FLUX + SE, flow matching": (43.16, 728.9, 26.6, PEER),
            "FLUX, DFM": (34.00, 630.1, 34.2, PEER),
            "FLUX + SE, DFM": (32.89, 626.5, 35.0, PEER),
        },
        "50,000 samples. The gain shrinks to 3 % once the generator separates the bands itself.",
    ),
    "LWD": Published(
        "Reconstruction before and after tuning with SE, Aesthetic-4K",
        "LWD, tables 3 and 4",
        ("rFID", "PSNR", "SSIM", "LPIPS", "rFID, SE", "PSNR, SE", "SSIM, SE", "LPIPS, SE", "provenance"),
        {
            "Flux-VAE": (0.73, 27.18, 0.89, 0.07, 0.50, 28.14, 0.90, 0.06, PEER),
            "SD3-VAE-F16": (0.70, 19.82, 0.63, 0.30, 0.70, 22.58, 0.75, 0.18, PEER),
            "Sana-AE": (0.74, 22.16, 0.70, 0.159, 0.55, 23.64, 0.73, 0.163, PEER),
        },
        "There is no control that is tuned without SE on the same pictures, so the gain is not due to SE alone.",
    ),
    "EQ-VAE 1": Published(
        "EQ-VAE before and after: generation (gFID) and equivariance errors under rotation and scaling",
        "EQ-VAE, table 1",
        ("rFID", "gFID", "rotation", "scaling", "rFID, EQ", "gFID, EQ", "rotation, EQ", "scaling, EQ", "provenance"),
        {
            "SD-VAE": (0.90, 43.8, 0.89, 0.69, 0.82, 34.1, 0.56, 0.43, PEER),
            "SDXL-VAE": (0.67, 46.0, 1.25, 0.97, 0.65, 35.9, 0.65, 0.35, PEER),
            "SD3-VAE": (0.20, 58.9, 0.51, 0.16, 0.19, 54.0, 0.37, 0.11, PEER),
            "SD-VAE-16": (0.87, 64.1, 0.95, 0.85, 0.82, 49.7, 0.39, 0.17, PEER),
            "VQ-GAN": (7.94, 6.8, 1.35, 1.22, 7.54, 5.9, 0.64, 0.55, PEER),
        },
        "Generators: DiT-B/2 after 400,000 steps, MaskGIT for VQ-GAN. Errors differ between its tables 1 and 7.",
    ),
    "EQ-VAE 5": Published(
        "Which transformation is responsible for the effect, SD-VAE",
        "EQ-VAE, table 5",
        ("gFID", "rFID", "intrinsic dimension", "provenance"),
        {
            "none": (43.5, 0.90, 62.2, PEER),
            "rotation": (41.2, 0.73, 57.9, PEER),
            "scaling": (35.8, 0.78, 41.0, PEER),
            "rotation and scaling": (34.1, 0.82, 39.4, PEER),
            "the same, anisotropic": (33.2, 0.92, 38.9, PEER),
        },
    ),
    "EQ-VAE 6": Published(
        "The control: further training without the term",
        "EQ-VAE, table 6",
        ("gFID", "rFID", "provenance"),
        {
            "SD-VAE": (43.8, 0.90, PEER),
            "averaged weights": (43.5, 0.73, PEER),
            "5 epochs without EQ": (43.5, 0.81, PEER),
            "5 epochs with EQ": (34.1, 0.82, PEER),
        },
    ),
    "EQ-VAE 7": Published(
        "Explicit and implicit equivariance",
        "EQ-VAE, table 7",
        ("gFID", "rFID", "provenance"),
        {
            "none": (43.5, 0.90, PEER),
            "explicit, 0.1": (141.3, 117.9, PEER),
            "explicit with stopped gradient": (134.7, 109.3, PEER),
            "implicit": (34.1, 0.82, PEER),
        },
        "The explicit term has the lowest equivariance error, 0.32 and 0.11 against 0.49 and 0.15, and collapses.",
    ),
    "EQ-VAE 12": Published(
        "Reconstruction before and after EQ-VAE",
        "EQ-VAE, table 12",
        ("rFID", "PSNR", "LPIPS", "SSIM", "rFID, EQ", "PSNR, EQ", "LPIPS, EQ", "SSIM, EQ", "provenance"),
        {
            "SD-VAE": (0.90, 25.82, 0.146, 0.71, 0.82, 25.95, 0.141, 0.72, PEER),
            "SDXL-VAE": (0.67, 27.36, 0.121, 0.76, 0.65, 27.48, 0.118, 0.76, PEER),
            "SD3-VAE": (0.20, 31.27, 0.060, 0.87, 0.19, 31.06, 0.061, 0.87, PEER),
            "SD-VAE-16": (0.87, 24.67, 0.161, 0.61, 0.82, 25.21, 0.152, 0.69, PEER),
        },
    ),
}
