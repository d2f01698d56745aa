"""Motion of clips by block matching, for clips whose motion is not known.

For every pixel the square of `BLOCK` px around it is compared with the frame before, moved by every whole number of px
up to `REACH` across and down; the smallest mean squared difference of brightness wins (block matching: Jain and Jain,
"Displacement measurement and its application in interframe image coding", IEEE Trans. Communications 29(12), 1981; the
search is exhaustive, unlike theirs). A parabola through the winner and its neighbours gives a fraction of a px, which
is added where that lowers the difference. Where differences are equal, as on a flat surface, the shorter motion wins.

Only sources are matched, never reconstructions, so that all models are measured along the same motion.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.probe._warp import warp
from ablate.components.shared.measure import GREY_LEVELS
from ablate.slots import Subject

BLOCK = 7


REACH = 7


SHORTER = 1 / 12 / GREY_LEVELS**2  # cost of a px of length: the squared error of rounding to 8 bits


TOLERANCE = 6 / GREY_LEVELS  # rms difference of a block up to which it counts as the same surface


LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


CHUNK = 1 << 24
"""Differences that are held at once."""


@dataclass(frozen=True)
class Matched:
    """`flow` `n 2 t-1 h w`: where each pixel of frames 1 and on was in the frame before, in px, across and down.

    `found` `n t-1 h w`: where the block there differs by no more than `TOLERANCE` rms.
    """

    flow: Tensor
    found: Tensor


def matched_motion(subject: Subject) -> Matched:
    """The motion of a subject's whole clips, made once and shared by all probes. Raises TypeError without clips."""
    if "matched_motion" not in subject.shared:
        subject.shared["matched_motion"] = match(subject.whole_clips)
    found: Matched = subject.shared["matched_motion"]
    return found


def match(clips: Tensor) -> Matched:
    """The motion of clips `n 3 t h w` in [0, 1], t >= 2."""
    n, _, t, h, w = clips.shape
    before, now = (frames.transpose(1, 2).flatten(0, 1) for frames in (clips[:, :, :-1], clips[:, :, 1:]))
    pairs = max(1, CHUNK // ((2 * REACH + 1) ** 2 * h * w))
    found = [_search(*chunk) for chunk in zip(before.split(pairs), now.split(pairs), strict=True)]
    whole, fraction = (torch.cat(parts) for parts in zip(*found, strict=True))
    plain, refined = (_block_mean((now - warp(before, flow)).square()) for flow in (whole, whole + fraction))
    flow = torch.where(refined < plain, whole + fraction, whole)
    matches = torch.minimum(plain, refined)[:, 0] <= TOLERANCE**2
    return Matched(flow.unflatten(0, (n, t - 1)).transpose(1, 2), matches.unflatten(0, (n, t - 1)))


def _search(before: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
    """Displacements from frames `now` to those `before`, both `m 3 h w`: whole px and fractions, each `m 2 h w`."""
    h, w = now.shape[-2:]
    luma = now.new_tensor(LUMA)[:, None, None]
    target = (now * luma).sum(1, keepdim=True)
    source = F.pad((before * luma).sum(1, keepdim=True), [REACH] * 4, mode="replicate")
    side = 2 * REACH + 1
    costs = target.new_full((side, side, len(now), h, w), torch.inf)
    for i in range(side):
        for j in range(side):
            y, x = i - REACH, j - REACH
            moved = source[..., i : i + h, j : j + w]
            inside = slice(max(0, -y), max(0, min(h, h - y))), slice(max(0, -x), max(0, min(w, w - x)))
            cost = _block_mean((target - moved).square())[:, 0] + SHORTER * (y * y + x * x) ** 0.5
            costs[i, j][:, *inside] = cost[:, *inside]
    best = costs.flatten(0, 1).argmin(0)
    down, across = best // side, best % side
    whole = torch.stack([across - REACH, down - REACH], 1).to(now)
    return whole, torch.stack([_fraction(costs, best, across, 1), _fraction(costs, best, down, side)], 1)


def _fraction(costs: Tensor, best: Tensor, place: Tensor, stride: int) -> Tensor:
    """Where between -1/2 and 1/2 px a parabola through the cheapest displacement and its neighbours is lowest.

    `best`: the number of the cheapest among all displacements. `place`: that along the axis, whose neighbours are
    `stride` apart; 0 where one of them is missing.
    """
    flat = costs.flatten(0, 1)
    low, middle, high = (
        flat.gather(0, (best + step).clamp(0, len(flat) - 1)[None])[0] for step in (-stride, 0, stride)
    )
    bend = low - 2 * middle + high
    usable = (place > 0) & (place < len(costs) - 1) & bend.isfinite() & (bend > 0)
    return torch.where(usable, ((low - high) / (2 * bend)).clamp(-0.5, 0.5), 0)


def _block_mean(x: Tensor) -> Tensor:
    """The mean over channels and over the block around each pixel, `m c h w -> m 1 h w`.

    At the border it is over what there is of the block. A sum of shifted frames takes a seventh of the time of
    `avg_pool2d` on a CPU.
    """
    return _block_sum(x.mean(1, keepdim=True)) / _block_sum(torch.ones_like(x[:1, :1]))


def _block_sum(x: Tensor) -> Tensor:
    half = BLOCK // 2
    for dim, padding in ((-1, [half, half, 0, 0]), (-2, [0, 0, half, half])):
        size, padded = x.shape[dim], F.pad(x, padding)
        x = padded.narrow(dim, 0, size).clone()
        for shift in range(1, BLOCK):
            x.add_(padded.narrow(dim, shift, size))
    return x
