"""Long clips in chunks: what comes out otherwise than of the whole clip.

A model that remembers the last frames of each temporal convolution gives every chunk what it would be within the clip,
if all else looks at single frames or stays within a group; IV-VAE (Wu et al., arXiv 2411.06449) holds that against
chunks that overlap. Here those share one frame: the last of the group before takes the place of a clip's first frame,
and is dropped. The chunk is decoded by itself, so that nothing else of the past is seen.
"""

import torch
from torch import Tensor

from ablate.slots import Chunked, Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("cache/error", "gl", "down", "largest difference from the whole clip, with remembered frames", decimals=4),
    Metric("cache/overlap", "gl", "down", "rms difference from the whole clip, of chunks that overlap by a frame"),
)


class Config(ProbeSettings):
    """No settings: numbers of all studies are comparable."""

    def shortest(self) -> int:
        """Frames of a held-out clip from which on the first metric is reported, for groups of 4."""
        return 9


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing of models that know no chunks, and no `cache/error` where they refuse to remember."""
    vae = subject.vae
    if not isinstance(vae, Chunked) or subject.clips is None or subject.frames < 1 + 2 * vae.groups:
        return ProbeResult({})
    x, whole = subject.whole_clips, subject.clip_reconstruction
    first, groups = x[:, :, :1], x[:, :, 1:].split(vae.groups, dim=2)
    fronts = [first, *(group[:, :, -1:] for group in groups[:-1])]
    overlapping = [
        subject.reconstruct(torch.cat([front, group], 2))[:, :, 1:] for front, group in zip(fronts, groups, strict=True)
    ]
    off = torch.cat(overlapping, 2) - whole[:, :, 1:]
    metrics = {"cache/overlap": off.square().mean().sqrt().item() * 255}
    try:
        error = (_remembering(vae, [first, *groups]) - whole).abs().max()
    except ValueError:
        return ProbeResult(metrics)
    return ProbeResult({"cache/error": error.item() * 255, **metrics})


@torch.inference_mode()
def _remembering(vae: Chunked, chunks: list[Tensor]) -> Tensor:
    """The round trip of clips in [0, 1], given in chunks. Raises ValueError where the model refuses."""
    latents = (posterior.mean for posterior in vae.encode_chunks(x * 2 - 1 for x in chunks))
    return torch.cat(list(vae.decode_chunks(latents)), 2) / 2 + 0.5
