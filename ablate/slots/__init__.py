"""Everything that the file of a level imports: base classes, what `build` is given, what it must return.

    from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

`docs/writing_a_level.md` shows how a level is written. The names of `training`, `video` and `probe` need torch and are
loaded on first use, so that a study can be planned without it.
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
from ablate.slots.hooks import (
    BranchSettings,
    DiscriminatorSettings,
    InitSettings,
    LossSettings,
    ModelSettings,
    ProbeSettings,
    RegularizerSettings,
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
    "GROUP", "SPLITS", "BranchSettings", "ClipSettings", "DataSettings", "DiscriminatorSettings", "InitSettings",
    "LossSettings", "Metric", "Misfit", "ModelSettings", "Motion", "Picture", "Pixels", "ProbeSettings",
    "RegularizerSettings", "Resize", "Settings", "Split", "added", "cosmetic",
})  # fmt: skip
"""The names here that need no torch: those which `Config` and `METRICS` of a level may use."""

__all__ = [
    "COLOURS", "GROUP", "LOGVAR_RANGE", "SPLITS", "Alteration", "Autoencoder", "Branch", "BranchSettings", "Chunked",
    "ClipSettings", "Context", "DataSettings", "Discriminator", "DiscriminatorSettings", "Inheritance", "InitSettings",
    "Initializer", "Layers", "LossSettings", "Metric", "Misfit", "ModelSettings", "Motion", "Padding", "Past",
    "Picture", "Pixels", "Posterior", "Probe", "ProbeResult", "ProbeSettings", "Regularizer", "RegularizerSettings",
    "Resize", "SeedOf", "Settings", "Split", "Step", "Subject", "TemporalConv", "Term", "VideoLayers", "added",
    "cat_frames", "cosmetic", "group_of", "split_first",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in ("training", "video", "probe"):
            names = importlib.import_module(f"ablate.slots.{module}").__dict__
            if name in names:
                return names[name]
    raise AttributeError(f"module 'ablate.slots' has no attribute '{name}'")
