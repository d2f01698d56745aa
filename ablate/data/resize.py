"""Downscaling of pictures, and positions for crops."""

import numpy as np

from ablate.slots.data import Pixels, Resize


def resize(pixels: Pixels, short_side: int, method: Resize) -> Pixels:
    """Downscale `h w 3`, or each frame of `t h w 3`, to a short side in px, keeping proportions.

    Smaller pictures are returned unchanged.
    """
    from PIL import Image

    height, width = reduced_shape(pixels.shape[-3], pixels.shape[-2], short_side, method)
    if (height, width) == pixels.shape[-3:-1]:
        return pixels
    if pixels.ndim == 4:
        return np.stack([resize(frame, short_side, method) for frame in pixels])
    filters = {
        "nearest": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "area": Image.Resampling.BOX,
    }
    return np.asarray(Image.fromarray(pixels).resize((width, height), filters[method]))


def reduced_shape(height: int, width: int, short_side: int, method: Resize) -> tuple[int, int]:
    """Height and width after `resize`."""
    shorter = min(height, width)
    if method == "none" or shorter <= short_side:
        return height, width
    return round(height * short_side / shorter), round(width * short_side / shorter)


def spread(count: int, rows: int, columns: int) -> list[tuple[int, int]]:
    """`count` positions (row, column) on a regular lattice over `rows x columns`, edge to edge.

    All are different if `rows * columns` is at least `count`.
    """
    lines = min(max(1, round((count * rows / columns) ** 0.5)), count, rows)
    lines = max(lines, -(-count // columns))
    per_line = -(-count // lines)
    ys = np.linspace(0, rows - 1, lines).round() if lines > 1 else [(rows - 1) // 2]
    xs = np.linspace(0, columns - 1, per_line).round() if per_line > 1 else [(columns - 1) // 2]
    positions = [(int(y), int(x)) for y in ys for x in xs]
    return [positions[i * len(positions) // count] for i in range(count)]
