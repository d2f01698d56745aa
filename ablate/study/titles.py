"""The names under which tables and figures show metrics and levels, where a study gives none of its own.

They are kept here, apart from the levels' own files, because wording must not make finished trials stale.
"""

from dataclasses import dataclass, fields
from typing import Any

from ablate.slots.settings import Metric


@dataclass(frozen=True)
class TitledMetric(Metric):
    """A metric with the name under which tables and figures show it, beside its unit."""

    title: str = ""


def titled(metric: Metric, label: str = "", interest: float | None = None) -> TitledMetric:
    """The metric as a study shows it: under the study's `label`, or the shipped name, or its own.

    `interest`: the study's smallest effect of interest, if it gives one.
    """
    values = {item.name: getattr(metric, item.name) for item in fields(Metric)}
    changes = {} if interest is None else {"interest": interest}
    return TitledMetric(**{**values, **changes}, title=label or METRICS.get(metric.name, metric.name))


def title_of(metric: Metric) -> str:
    """The name under which tables and figures show a metric."""
    return metric.title if isinstance(metric, TitledMetric) else METRICS.get(metric.name, metric.name)


def titles_of_levels(path: str, level: Any) -> dict[str, str]:
    """Level's own name -> shipped name, for the slot at a path; empty for settings."""
    return LEVELS.get(path, {}) if isinstance(level, str | dict) else {}


METRICS = {
    # images
    "psnr": "PSNR",
    "ssim": "SSIM",
    "stlpips": "ST-LPIPS",
    "lpips": "LPIPS",
    "perceptual/rfd": "Fréchet distance sources",
    "perceptual/rfd_ci": "Half interval of Fréchet distance",
    "perceptual/rfd_real": "Fréchet distance halves of sources",
    "perceptual/kid": "Kernel distance sources",
    "perceptual/kid_ci": "Half interval of kernel distance",
    "rfid": "rFID",
    "perceptual/rfid_ci": "Half interval of rFID",
    "perceptual/rfid_real": "rFID halves of sources",
    "perceptual/rfid_kid": "Kernel distance sources, Inception",
    "perceptual/rfid_kid_ci": "Half interval of kernel distance, Inception",
    "perceptual/pictures": "Pictures compared",
    "color/dE00": "Colour shift",
    "color/bias_r": "Bias red",
    "color/bias_g": "Bias green",
    "color/bias_b": "Bias blue",
    "color/bias_norm": "Colour bias",
    "color/coherence": "Tint coherence",
    "color/db": "Shift to yellow",
    "color/dE00_low_p95": "Local colour cast",
    "color/gain_r": "Contrast red",
    "color/gain_g": "Contrast green",
    "color/gain_b": "Contrast blue",
    "color/offset_r": "Black level red",
    "color/offset_g": "Black level green",
    "color/offset_b": "Black level blue",
    "color/dE00_const": "Flat-colour shift",
    "grid/nat_fold": "Grid",
    "grid/nat_z": "Grid over chance",
    "grid/comb_db": "Grid comb",
    "grid/comb_max_db": "Grid comb peak",
    "grid/const_fold": "Grid on flat colours",
    "grid/const_fold_max": "Grid on worst colour",
    "grid/const_rms": "Structure on flat colours",
    "grid/nat_fold2": "Grid 2 px",
    "grid/nat_fold4": "Grid 4 px",
    "grid/nat_fold8": "Grid 8 px",
    "grid/nat_fold16": "Grid 16 px",
    "grid/nat_fold32": "Grid 32 px",
    "grid/const_fold2": "Grid on flat colours 2 px",
    "grid/const_fold4": "Grid on flat colours 4 px",
    "grid/const_fold8": "Grid on flat colours 8 px",
    "grid/const_fold16": "Grid on flat colours 16 px",
    "grid/const_fold32": "Grid on flat colours 32 px",
    "grid/scan_db": "Strongest wave over chance",
    "grid/scan_gl": "Strongest wave",
    "grid/scan_period": "Period of strongest wave",
    "grid/polyphase": "Phase imbalance of kernels",
    "grid/comb_nr_db": "Grid comb over sources",
    "blur/mtf50": "MTF50",
    "blur/coherence": "Detail from source",
    "blur/hf_lo": "Power middle frequencies",
    "blur/hf_hi": "Power high frequencies",
    "blur/slope": "Slope of spectrum",
    "blur/edge_px": "Edge widening",
    "border/excess_b4": "Border error 4 px",
    "border/excess_b16": "Border error 16 px",
    "border/cc_ratio": "Border change by cropping",
    "border/extent_px": "Border extent",
    "border/corner_excess": "Corner error",
    "border/hf_ratio": "Border detail",
    "droplet/act_maxmed": "Activation outliers",
    "droplet/growth": "Growth of outliers",
    "droplet/z_maxmed": "Latent outliers",
    "droplet/z_p999_med": "Latent tail",
    "droplet/blob": "Blob",
    "droplet/blob_over_median": "Blob over median",
    "droplet/act_absmax": "Largest activation",
    "droplet/blob_border": "Position of blob",
    "droplet/incidence": "Images with droplet",
    "flatfield/legacy_offdc": "Off-DC share reported",
    "flatfield/legacy_max": "Largest error reported",
    "flatfield/legacy_mean": "Mean error reported",
    "flatfield/offdc_energy": "Off-DC energy",
    "flatfield/period2": "Flat field 2 px",
    "flatfield/period4": "Flat field 4 px",
    "flatfield/period8": "Flat field 8 px",
    "flatfield/period16": "Flat field 16 px",
    "flatfield/period32": "Flat field 32 px",
    "flatfield/rms_max": "Flat-field structure",
    "flatfield/dc": "Flat-field mean error",
    "flatfield/border": "Flat-field border",
    "health/active_dims": "Active channels",
    "health/kl_nats": "KL divergence",
    "health/z_std": "Latent sd",
    "health/posterior_floor": "Variances at floor",
    "health/nonfinite": "Values not finite",
    "inputs/hf_hi": "Training detail high",
    "inputs/hf_lo": "Training detail middle",
    "inputs/heldout_hf_hi": "Held-out detail high",
    "shift/error": "Shift error",
    "shift/psnr": "PSNR under shifts",
    "shift/error_stride": "Shift error whole stride",
    "frechet/random3d": "Fréchet distance random net",
    "fvd": "FVD",
    # latents
    "spec/hf_tail": "Latent high frequencies",
    "spec/gap_to_rgb": "Gap to picture spectrum",
    "spec/gap_signed": "Signed gap to picture spectrum",
    "spec/slope": "Slope of latent spectrum",
    "spec/sec50": "Energy upper half",
    "spec/sec25": "Energy above lowest quarter",
    "spec/kl_rise": "Rise by posterior noise",
    "spec/kl_floor": "Floor of posterior noise",
    "spec/hf_tail_draw": "High frequencies of draws",
    "spec/hf_tail_rgb": "High frequencies of pictures",
    "spec/hf_tail_authors": "High frequencies authors’",
    "erase/drop": "PSNR lost by erasing",
    "erase/drop50": "PSNR lost by erasing half",
    "erase/auc": "PSNR when erased",
    "erase/auc_rgb": "PSNR of erased pictures",
    "erase/match": "Erased latent vs. picture",
    "equi/dec_scale2": "Decoder scale 1/2",
    "equi/dec_scale4": "Decoder scale 1/4",
    "equi/dec_rot90": "Decoder 90° turn",
    "equi/dec_shift": "Decoder shift",
    "equi/enc_scale2": "Encoder scale 1/2",
    "equi/enc_scale4": "Encoder scale 1/4",
    "equi/enc_rot90": "Encoder 90° turn",
    "equi/enc_shift": "Encoder shift",
    "znoise/sd_3db": "Noise that costs 3 dB",
    "znoise/psnr_10": "PSNR at 10 % noise",
    "znoise/psnr_25": "PSNR at 25 % noise",
    "znoise/psnr_50": "PSNR at 50 % noise",
    "znoise/psnr_100": "PSNR at 100 % noise",
    "idim/twonn": "Intrinsic dimension",
    "idim/viv": "Velocity variance",
    "diff/fd": "Fréchet distance",
    "diff/fd_auc": "Fréchet distance learning curve",
    "diff/kid": "Kernel distance",
    "diff/sw2": "Sliced Wasserstein",
    "diff/spec_rgb": "Spectrum gap pictures",
    "diff/spec_latent": "Spectrum gap latents",
    "diff/fid": "FID",
    "diff/fd_gap": "Fréchet distance generator",
    "diff/fd_recon": "Fréchet distance reconstructions",
    "diff/fd_floor": "Fréchet distance real",
    "diff/tokens": "Tokens",
    # clips
    "clip/psnr_rest": "PSNR later frames",
    "clip/psnr_first": "PSNR first frame",
    "clip/first_gain": "Gain of first frame",
    "clip/psnr_pooled": "PSNR pooled",
    "clip/ssim_rest": "SSIM later frames",
    "clip/ssim_first": "SSIM first frame",
    "balance/gap": "Worst to best position",
    "balance/p": "Chance of imbalance",
    "balance/eta2": "Variance by position",
    "balance/skew": "Skew positions 2 and 4",
    "balance/beat": "Beat of groups",
    "balance/seam": "Seam between groups",
    "balance/luma": "Brightness by position",
    "balance/psnr_1": "PSNR position 1",
    "balance/psnr_2": "PSNR position 2",
    "balance/psnr_3": "PSNR position 3",
    "balance/psnr_4": "PSNR position 4",
    "cache/error": "Chunk error cached",
    "cache/overlap": "Chunk error overlap",
    "flicker/static": "Flicker",
    "flicker/static_first": "Flicker first frame",
    "flicker/warp": "Flicker along motion",
    "flicker/warp_plain": "Warping error",
    "flicker/matched": "Flicker along matched motion",
    "flicker/matched_share": "Share of matched motion",
    "motion/psnr_fast": "PSNR fast clips",
    "motion/psnr_slow": "PSNR slow clips",
    "motion/slope": "PSNR over speed",
    "motion/speed": "Speed",
}
"""Metric -> its name in tables and figures, beside which stands its unit."""

LEVELS = {
    "norm": {"group": "GroupNorm", "rms": "RMSNorm", "rms_joint": "joint RMSNorm", "scn": "SCN"},
    "upsample": {
        "alias_free": "alias-free",
        "bilinear_conv": "bilinear + conv",
        "nearest_conv": "nearest + conv",
        "nearest_residual": "nearest + residual",
        "pixel_shuffle": "PixelShuffle",
        "pixel_shuffle_icnr": "PixelShuffle, ICNR",
        "transposed_conv": "transposed conv",
    },
    "downsample": {
        "alias_free": "alias-free",
        "blur_pool": "blur pool",
        "space_to_depth": "space to depth",
        "strided_conv": "strided conv",
    },
    "discriminator": {"patchgan": "PatchGAN"},
    "regularizer": {
        "af_shift": "AF shift",
        "chf": "CHF",
        "eq": "EQ",
        "eq_explicit": "EQ, explicit",
        "hf_penalty": "HF penalty",
        "latent_denoise": "latent denoising",
        "lcr": "LCR",
        "outlier": "outlier penalty",
        "se": "SE",
        "spectrum_matching": "spectrum matching",
    },
    "model": {"image_kl": "image VAE", "patch_vit": "patch ViT", "released": "released VAE", "video_kl": "video VAE"},
    "data": {
        "hf": "Hugging Face dataset",
        "moving_leaves": "moving leaves",
        "video_folder": "video folder",
        "webdataset": "WebDataset",
    },
    "branch": {"ktc": "KTC"},
    "context": {"tmpe": "TMPE"},
}
"""Slot -> level -> its name in tables and figures, for levels whose own name is not it already."""
