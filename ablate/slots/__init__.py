"""What a level is given and must give back. The file of a level imports everything from here:

    from ablate.slots import Metric, Settings

Names of `training`, `video` and `probe` need torch. They are loaded when they are first asked for, so that a study can
be planned without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ablate.slots.data import (
    GROUP,
    SPLITS,
    ClipSettings,
    DataSettings,
    Misfit,
    Motion,
    Picture,
    Pixels,
    Resize,
    Split,
)
from ablate.slots.settings import Metric, Settings, added, cosmetic

if TYPE_CHECKING:
    from ablate.slots.probe import COLOURS, Probe, ProbeResult, Subject
    from ablate.slots.training import (
        LOGVAR_RANGE,
        Alteration,
        Autoencoder,
        Discriminator,
        Inheritance,
        Initializer,
        Layers,
        Padding,
        Posterior,
        Regularizer,
        SeedOf,
        Step,
        Term,
    )
    from ablate.slots.video import (
        Branch,
        Chunked,
        Context,
        Past,
        TemporalConv,
        VideoLayers,
        cat_frames,
        group_of,
        split_first,
    )

LIGHT = frozenset({
    "GROUP", "SPLITS", "ClipSettings", "DataSettings", "Metric", "Misfit", "Motion", "Picture", "Pixels", "Resize",
    "Settings", "Split", "added", "cosmetic",
})  # fmt: skip
"""The names here that need no torch: what a level's `Config` and `METRICS` may use."""

__all__ = [
    "COLOURS", "GROUP", "LOGVAR_RANGE", "SPLITS", "Alteration", "Autoencoder", "Branch", "Chunked", "ClipSettings",
    "Context", "DataSettings", "Discriminator", "Inheritance", "Initializer", "Layers", "Metric", "Misfit", "Motion",
    "Padding", "Past", "Picture", "Pixels", "Posterior", "Probe", "ProbeResult", "Regularizer", "Resize", "SeedOf",
    "Settings", "Split", "Step", "Subject", "TemporalConv", "Term", "VideoLayers", "added", "cat_frames", "cosmetic",
    "group_of", "split_first",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in ("training", "video", "probe"):
            found = importlib.import_module(f"ablate.slots.{module}").__dict__
            if name in found:
                return found[name]
    raise AttributeError(f"module 'ablate.slots' has no attribute '{name}'")
