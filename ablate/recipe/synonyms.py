"""Other names that people use for slots, levels and settings, for the hints of errors. None of them is accepted."""

from collections.abc import Iterable

from ablate.errors import nearest, squeeze

SYNONYMS: dict[str, dict[str, str]] = {
    "slot": {
        "dataset": "data", "images": "data", "pictures": "data", "autoencoder": "model", "architecture": "model",
        "network": "model", "vae": "model", "encoder": "model", "decoder": "model", "pad": "padding",
        "normalization": "norm", "normalisation": "norm", "normlayer": "norm", "upsampler": "upsample",
        "upsampling": "upsample", "up": "upsample", "downsampler": "downsample", "downsampling": "downsample",
        "down": "downsample", "losses": "loss", "criterion": "loss", "objective": "loss", "disc": "discriminator",
        "critic": "discriminator", "gan": "discriminator", "reg": "regularizer", "regulariser": "regularizer",
        "initialization": "init", "weights": "init", "checkpoint": "init", "pretrained": "init",
    },
    "data": {
        "images": "folder", "imagefolder": "folder", "directory": "folder", "dir": "folder", "path": "folder",
        "imagenet": "folder", "videos": "video_folder", "video": "video_folder", "deadleaves": "leaves",
        "synthetic": "leaves", "photographs": "photos",
    },
    "model": {
        "vae": "image_kl", "kl": "image_kl", "autoencoder": "image_kl", "autoencoderkl": "image_kl",
        "image": "image_kl", "ldm": "image_kl", "sdvae": "image_kl", "vit": "patch_vit", "transformer": "patch_vit",
        "video": "video_kl", "videovae": "video_kl", "ivvae": "video_kl",
    },
    "padding": {
        "zero": "zeros", "constant": "zeros", "same": "zeros", "none": "zeros", "reflection": "reflect",
        "mirror": "reflect", "replication": "replicate", "edge": "replicate", "border": "replicate",
        "wrap": "circular", "periodic": "circular",
    },
    "norm": {
        "bn": "group", "batch": "group", "batchnorm": "group", "gn": "group", "groupnorm": "group",
        "instance": "group", "instancenorm": "group", "in": "group", "ln": "rms", "layer": "rms",
        "layernorm": "rms", "rmsnorm": "rms", "pixelnorm": "rms", "pixel": "rms", "spatial": "scn",
        "spatialnorm": "scn", "spade": "scn", "adaptive": "scn", "movq": "scn",
    },
    "upsample": {
        "nearest": "nearest_conv", "conv": "nearest_conv", "resizeconv": "nearest_conv", "interpolate": "nearest_conv",
        "bilinear": "bilinear_conv", "linear": "bilinear_conv", "pixelshuffle": "pixel_shuffle",
        "subpixel": "pixel_shuffle", "depthtospace": "pixel_shuffle", "icnr": "pixel_shuffle_icnr",
        "deconv": "transposed_conv", "deconvolution": "transposed_conv", "transpose": "transposed_conv",
        "transposed": "transposed_conv", "convtranspose": "transposed_conv", "residual": "nearest_residual",
        "antialiased": "alias_free", "stylegan3": "alias_free",
    },
    "downsample": {
        "conv": "strided_conv", "stride": "strided_conv", "strided": "strided_conv", "avgpool": "blur_pool",
        "maxpool": "blur_pool", "pool": "blur_pool", "blur": "blur_pool", "pixelunshuffle": "space_to_depth",
        "antialiased": "alias_free", "stylegan3": "alias_free",
    },
    "loss": {
        "mse": "l2", "l2loss": "l2", "squared": "l2", "bce": "l2", "reconstruction": "l2", "rec": "l2", "mae": "l1",
        "l1loss": "l1", "absolute": "l1", "charbonnier": "l1", "huber": "l1", "smoothl1": "l1", "lpips": "perceptual",
        "vgg": "perceptual", "percep": "perceptual", "perceptualloss": "perceptual", "feature": "perceptual",
        "kld": "kl", "kldiv": "kl", "klloss": "kl", "kldivergence": "kl", "beta": "kl", "gan": "adversarial",
        "adv": "adversarial", "ganloss": "adversarial", "hinge": "adversarial", "disc": "adversarial",
        "discriminator": "adversarial", "generator": "adversarial",
    },
    "discriminator": {
        "patch": "patchgan", "nlayer": "patchgan", "nlayerdiscriminator": "patchgan", "gan": "patchgan",
        "pix2pix": "patchgan", "off": "none", "no": "none", "null": "none",
    },
    "regularizer": {
        "eqvae": "eq", "equivariance": "eq", "scaleequivariance": "se", "shiftequivariance": "af_shift", "off": "none",
        "no": "none", "null": "none",
    },
    "init": {
        "random": "scratch", "default": "scratch", "kaiming": "scratch", "xavier": "scratch", "none": "scratch",
        "pretrained": "checkpoint", "finetune": "checkpoint", "resume": "checkpoint", "released": "checkpoint",
    },
    "probe": {
        "fvd": "frechet", "psnr": "reconstruction", "ssim": "reconstruction",
        "mse": "reconstruction", "lpips": "perceptual", "stlpips": "perceptual", "rfid": "perceptual",
        "colour": "color", "droplets": "droplet",
        "borders": "border", "checkerboard": "grid", "sharpness": "blur", "fourier": "spectrum",
        "noise": "latent_noise",
    },
    "setting": {
        "learningrate": "lr", "batchsize": "batch", "numsteps": "steps", "iterations": "steps", "iters": "steps",
        "epochs": "steps", "trainsteps": "steps", "wd": "weight_decay", "decay": "weight_decay", "gradclip": "clip",
        "emadecay": "ema", "dtype": "precision", "warmupsteps": "warmup", "numgroups": "groups", "ch": "channels",
        "width": "channels", "widths": "channels", "basechannels": "channels", "latentdim": "latent_channels",
        "zchannels": "latent_channels", "embeddim": "latent_channels", "numblocks": "blocks", "layers": "blocks",
        "numresblocks": "blocks", "attention": "mid_attention", "cropsize": "crop", "imagesize": "crop",
        "resolution": "crop", "size": "crop", "folder": "path", "root": "path", "dir": "path", "hflip": "flip",
    },
    "design": {
        "oat": "one_at_a_time", "oaat": "one_at_a_time", "ofat": "one_at_a_time", "single": "one_at_a_time",
        "factorial": "grid", "fullfactorial": "grid", "full": "grid", "product": "grid", "cumulative": "ladder",
        "incremental": "ladder", "additive": "ladder", "loo": "leave_one_out", "ablation": "leave_one_out",
        "fractional": "fraction", "fractionalfactorial": "fraction", "treatments": "list", "tune": "search",
        "optuna": "search", "random": "search", "tpe": "search", "bayesian": "search",
    },
    "sampler": {
        "bayesian": "tpe", "optuna": "tpe", "grid": "brute_force", "exhaustive": "brute_force", "all": "brute_force",
        "nsgaii": "nsga2", "genetic": "nsga2", "uniform": "random",
    },
    "rule": {"hyperband": "asha", "successivehalving": "asha", "sha": "asha", "medianstopping": "median"},
    "key": {
        "name": "study", "title": "question", "baseline": "base", "recipe": "base", "ablate": "factors",
        "vary": "factors", "sweep": "factors", "constraints": "where", "seed": "seeds", "replicates": "seeds",
        "train": "stages", "training": "stages", "stage": "stages", "metrics": "probes", "probe": "probes",
        "metric": "primary", "scale": "scales", "overrides": "scales",
    },
}  # fmt: skip
"""What is named ("slot", a slot's name for its levels, "setting", …) -> other name, squeezed -> the name meant."""


def nearest_of(kind: str, name: str, valid: Iterable[str]) -> str:
    """The hint for an unknown name of a kind in `SYNONYMS`: see `nearest`."""
    return nearest(name, valid, SYNONYMS.get(kind))


def synonym(kind: str, name: str) -> str | None:
    """The name that another name of a kind stands for, None if it is not known."""
    return SYNONYMS.get(kind, {}).get(squeeze(name))
