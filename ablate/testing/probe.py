"""The exam of the slot probe."""

import copy
import math
from typing import Any

import numpy as np
import torch

from ablate.errors import nearest
from ablate.slots import ProbeResult, Subject, registry
from ablate.testing import checks
from ablate.testing.exam import Exam, Missing, point
from ablate.testing.fakes import GROUPS, FakeVAE, clips, pictures

STRIDE = 4


SIDE = 64
"""Of held-out pictures, px, or more where the probe needs it."""


COARSE_STRIDE, COARSE_SIDE = 32, 192
"""Of a second autoencoder, for metrics that small strides and pictures do not give."""


CROP = 32
"""Side of training crops, px."""


class ProbeExam(Exam):
    """What a probe must fulfil: a function of a `Subject` that gives a `ProbeResult`.

    It examines a small fake autoencoder on dead leaves, or on clips of moving ones where `shortest` is above 1. A probe
    with `COSTLY` is run twice for each set of settings, others more often.
    """

    slot = "probe"

    def test_metrics(self) -> None:
        """METRICS declares each metric once, and no other probe has it"""
        names = [metric.name for metric in self.described.metrics]
        if twice := {name for name in names if names.count(name) > 1}:
            raise Missing(f"METRICS declares '{min(twice)}' twice")
        for other in registry.levels("probe"):
            if other != self.level:
                for metric in registry.level("probe", other).metrics:
                    if metric.name in names:
                        raise Missing(f"'{metric.name}' is a metric of the probe '{other}' already; rename it")

    @point
    def test_reports(self, probe: Any) -> None:
        """reports what METRICS declares, and nothing else"""
        result = self.result(probe)
        declared = {metric.name: metric for metric in self.described.metrics}
        for name in result.metrics:
            if name not in declared:
                raise Missing(f"reports '{name}', which METRICS does not declare{nearest(name, declared)}")
        found = set(result.metrics)
        owed = [name for name, metric in declared.items() if not metric.needs]
        if not set(owed) <= found and not self.described.costly and not self.of_clips:
            found |= set(probe(self.subject(coarse=True)).metrics)
        for name in owed:
            if name not in found:
                raise Missing(
                    f"METRICS declares '{name}', which is not reported; report it, take it out of METRICS, or name in "
                    "Metric(needs=...) what it needs beyond pictures"
                )

    @point
    def test_values(self, probe: Any) -> None:
        """every metric is a finite float"""
        for name, value in self.result(probe).metrics.items():
            if not isinstance(value, float):
                raise Missing(f"'{name}' must be a float, found {type(value).__name__}; use `.item()`")
            if not math.isfinite(value):
                raise Missing(f"'{name}' is {value} for a model that is not broken; expected a finite number")

    @point
    def test_details(self, probe: Any) -> None:
        """values per image are lists of floats, pictures are `h w 3` uint8"""
        result = self.result(probe)
        for name, values in result.per_image.items():
            if not isinstance(values, list) or not all(isinstance(value, float | int) for value in values):
                raise Missing(f"per_image['{name}'] must be a list of numbers; use `.tolist()`")
        for name, picture in result.pictures.items():
            if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
                found = f"{getattr(picture, 'dtype', type(picture).__name__)} {checks.text(np.shape(picture))}"
                raise Missing(f"pictures['{name}'] must be a numpy array h w 3, uint8; found {found}")

    @point
    def test_smallest(self, probe: Any) -> None:
        """reports its first metric from Config.smallest(stride) px on, a multiple of the stride"""
        first = self.described.metrics[0].name
        for stride in (2, 8):
            side = self._config.smallest(stride)
            if side % stride or side < 1:
                raise Missing(f"Config.smallest({stride}) is {side}, no multiple of the stride")
            if self.described.costly or self.of_clips:
                continue
            if first not in probe(self.subject(stride=stride, side=side)).metrics:
                raise Missing(f"'{first}' is not reported at {side} px, which is Config.smallest({stride})")

    @point
    def test_repeatable(self, probe: Any) -> None:
        """gives the same numbers each time, leaves the global random state alone, and the model as it was"""
        subject = self.subject()
        weights = copy.deepcopy(subject.vae.state_dict())
        first = checks.random_state_kept(lambda: probe(subject))
        for name, tensor in subject.vae.state_dict().items():
            if not torch.equal(tensor, weights[name]):
                raise Missing(f"the probe changes '{name}' of the model; other probes examine the same one")
        if subject.vae.training or any(parameter.requires_grad for parameter in subject.vae.parameters()):
            raise Missing("the probe leaves the model in another mode; it must stay in eval mode, without gradients")
        if self.described.costly:
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            second = probe(self.subject())
        for name, value in first.metrics.items():
            if second.metrics.get(name) != value and not math.isnan(value):
                raise Missing(f"'{name}' differs from one run to the next: {value}, then {second.metrics.get(name)}")

    def build(self, settings: Any) -> Any:
        self._config = self.read(settings)
        return super().build(settings)

    @property
    def of_clips(self) -> bool:
        """Whether it examines clips."""
        return bool(self._config.shortest() > 1)

    def result(self, probe: Any) -> ProbeResult:
        """What it reports of the fake; made once for each set of settings."""
        known: dict[str, ProbeResult] = self.__dict__.setdefault("_results", {})
        key = repr(self._config)
        if key not in known:
            found = probe(self.subject())
            if not isinstance(found, ProbeResult):
                raise Missing(f"a probe must return a ProbeResult, found {type(found).__name__}")
            known[key] = found
        return known[key]

    def subject(self, stride: int = STRIDE, side: int | None = None, *, coarse: bool = False) -> Subject:
        """A fake autoencoder with everything that a probe may ask for."""
        if coarse:
            stride, side = COARSE_STRIDE, COARSE_SIDE
        side = max(self._config.smallest(stride), SIDE) if side is None else side
        vae = FakeVAE(stride, temporal=self.of_clips).eval().requires_grad_(False)
        crop = max(CROP, stride)

        def draw(count: int, seed: int) -> torch.Tensor:
            return pictures(16, crop, 1 + seed % 1000).repeat(-(-count // 16), 1, 1, 1)[:count]

        if not self.of_clips:
            return Subject(vae, pictures(8, side), training=pictures(8, crop, 1), draw=draw)
        frames = max(20, self._config.shortest())
        x, flow, visible = clips(4, side, frames)
        subject = Subject(vae, x[:, :, frames // 2], training=pictures(8, crop, 1), draw=draw)
        subject.clips, subject.flow, subject.visible = x, flow, visible
        subject.frames = 1 + (frames - 1) // GROUPS * GROUPS
        return subject
