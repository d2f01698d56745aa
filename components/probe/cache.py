"""Chunked clips: how far clips that are processed in chunks differ from the same clips processed whole.

A model that caches the last frames of each temporal convolution gives every chunk the result that it has within the
whole clip, if everything else looks at single frames or stays within a group. IV-VAE (Wu et al., arXiv 2411.06449)
compares that with overlapping chunks. Here those overlap by one frame: the last frame of the previous group takes the
place of a clip's first frame and is dropped afterwards. Each chunk is decoded by itself, so it sees nothing else of the
past.
"""

import torch
from torch import Tensor

from ablate.slots import Chunked, Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "cache/error",
        "gl",
        "down",
        "largest difference from the whole clip, with cached frames",
        decimals=4,
        interest=0.5,
    ),
    Metric(
        "cache/overlap",
        "gl",
        "down",
        "rms difference from the whole clip, with chunks that overlap by a frame",
        interest=0.5,
    ),
)


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def shortest(self) -> int:
        """Fewest frames of a held-out clip at which the first metric is reported, for groups of 4."""
        return 9


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for models that cannot work in chunks, and no `cache/error` for those that refuse to cache."""
    vae = subject.vae
    if not isinstance(vae, Chunked) or subject.clips is None or subject.frames < 1 + 2 * vae.groups:
        return ProbeResult({})
    x = subject.whole_clips
    whole = subject.clip_reconstruction

    # chunks that overlap by a frame
    first = x[:, :, :1]
    groups = x[:, :, 1:].split(vae.groups, dim=2)
    fronts = [first, *(group[:, :, -1:] for group in groups[:-1])]
    overlapping = [
        subject.reconstruct(torch.cat([front, group], 2))[:, :, 1:] for front, group in zip(fronts, groups, strict=True)
    ]
    difference = torch.cat(overlapping, 2) - whole[:, :, 1:]
    metrics = {"cache/overlap": difference.square().mean().sqrt().item() * 255}

    # chunks with cached frames, unless the model refuses
    try:
        error = (_reconstruct_cached(vae, [first, *groups]) - whole).abs().max()
    except ValueError:
        return ProbeResult(metrics)
    return ProbeResult({"cache/error": error.item() * 255, **metrics})


@torch.inference_mode()
def _reconstruct_cached(vae: Chunked, chunks: list[Tensor]) -> Tensor:
    """Reconstruct clips in [0, 1] that are given in chunks. Raises ValueError if the model refuses."""
    latents = (posterior.mean for posterior in vae.encode_chunks(x * 2 - 1 for x in chunks))
    return torch.cat(list(vae.decode_chunks(latents)), 2) / 2 + 0.5
