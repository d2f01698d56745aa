"""The table of `ablate compare`: VAEs side by side on the same pictures, paired by picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ablate.analysis.statistics.effects import Effect, comparable, find_changes, holm_planned, list_effects
from ablate.analysis.statistics.ranks import front, rank
from ablate.analysis.tables.published import ListedTable
from ablate.analysis.typeset.cells import Cell, Check, Column, Difference, Group, Layout, Sentence, Value, Word
from ablate.slots.data import Pixels
from ablate.slots.settings import Metric
from ablate.study.titles import title_of


@dataclass(frozen=True)
class Cost:
    """What one picture or clip costs a VAE.

    `parameters`: millions. `gflop`: of encoding and decoding, 1e9; a multiply-add counts as two. `encode_ms`,
    `decode_ms`: medians. `peak_mib`: the most that the tensors of encoding and decoding
    hold at once, without the weights. `bits`: of the latent, per
    pixel, at 16 bits per number.
    """

    parameters: float
    gflop: float
    encode_ms: float
    decode_ms: float
    peak_mib: float
    bits: float


COSTS = {
    "parameters": Metric("parameters", "M", "down", decimals=2),
    "gflop": Metric("GFLOP", "1", "down", decimals=2),
    "encode_ms": Metric("encode", "ms", "down", decimals=1),
    "decode_ms": Metric("decode", "ms", "down", decimals=1),
    "peak_mib": Metric("peak of activations", "MiB", "down", decimals=1),
    "bits": Metric("latent", "bits/px", "down", decimals=3),
}
"""Field of `Cost` -> how it is shown."""

ON_FRONT = ("gflop", "bits")
"""The costs of the Pareto front, beside the first metric: the same on every machine."""


@dataclass(frozen=True)
class Measured:
    """One VAE on `n` pictures, of which `crops` crops were probed.

    `metrics`: a number per metric. `per_picture`: values per picture, of the metrics that are means over the pictures.
    `originals`, `shown`: some of the pictures and their reconstructions, `k 3 s s`.
    """

    model: str
    stride: int
    latent_channels: int
    n: int
    crops: int
    metrics: Mapping[str, float]
    per_picture: Mapping[str, Sequence[float]]
    cost: Cost
    originals: Pixels
    shown: Pixels


Results = Mapping[int, Mapping[str, Measured]]
"""Size of the pictures in px -> name of a VAE -> what was measured; the reference comes first."""


def build(results: Results, known: Mapping[str, Metric], leads: Sequence[str], images: str, device: str) -> ListedTable:
    """Two layouts for each size, quality and cost.

    `known`: the metrics that were asked for. `leads`: those with a column; the first is the planned comparison, whose
    p-values are corrected for the number of VAEs. `images`: what the pictures are, for the notes.
    """
    layouts: list[Layout] = []
    records: list[dict[str, Any]] = []
    for size, by_name in results.items():
        effects = compare_pictures(by_name, known, leads[0])
        layouts += [
            _quality(size, by_name, effects, [known[name] for name in leads], images),
            _costs(size, by_name, known[leads[0]], device),
        ]
        records += [_record(size, name, metric, by_name[name], effects) for name in by_name for metric in known]
    about = {"reference": next(iter(next(iter(results.values())))), "images": images, "device": device}
    costs = {
        str(size): {
            name: {field.name: getattr(one.cost, field.name) for field in fields(one.cost)}
            for name, one in by_name.items()
        }
        for size, by_name in results.items()
    }
    return ListedTable({**about, "cost": costs}, tuple(layouts), tuple(records))


def compare_pictures(
    by_name: Mapping[str, Measured], known: Mapping[str, Metric], planned: str
) -> dict[str, dict[str, Effect]]:
    """Metric -> VAE -> its effect against the first VAE, paired by picture; metrics without values per picture lack."""
    names = list(by_name)
    references = dict.fromkeys(names[1:], names[0])
    found = {}
    for metric in known.values():
        if not all(metric.name in one.per_picture for one in by_name.values()):
            continue
        arms = {name: dict(enumerate(one.per_picture[metric.name])) for name, one in by_name.items()}
        changes = find_changes(comparable(metric, arms), references)
        adjusted = holm_planned({name: change.p for name, change in changes.items()}) if metric.name == planned else {}
        found[metric.name] = list_effects(metric, arms, changes, adjusted, {})
    return found


def _quality(
    size: int,
    by_name: Mapping[str, Measured],
    effects: Mapping[str, Mapping[str, Effect]],
    leads: Sequence[Metric],
    images: str,
) -> Layout:
    """The lead metrics of each VAE; of the first one also the difference from the reference and the verdict."""
    first = leads[0]
    columns = [Column("text", "VAE"), Column("value", title_of(first), first)]
    if first.name in effects:
        columns += [Column("difference", "Δ [95 % CI]", first), Column("verdict", "verdict")]
    columns += [Column("value", title_of(metric), metric) for metric in leads[1:]]
    ranks = {
        metric.name: rank(metric, [one.metrics.get(metric.name, math.nan) for one in by_name.values()])
        for metric in leads
    }
    rows = []
    for i, (name, one) in enumerate(by_name.items()):
        means = [one.metrics.get(metric.name, math.nan) for metric in leads]
        clear = [metric.name in effects and effects[metric.name][name].clear for metric in leads]
        first_mean, *others = [
            Value(mean, math.nan, metric.decimals, ranks[metric.name][i], metric is not first and differs)
            for metric, mean, differs in zip(leads, means, clear, strict=True)
        ]
        judged: list[Cell] = []
        if first.name in effects and i == 0:
            judged = [Word(""), Word("reference")]
        elif first.name in effects:
            effect = effects[first.name][name]
            change = effect.change
            judged = [
                Difference(change.mean, change.low, change.high, first.decimals, effect.clear), Word(effect.verdict)
            ]  # fmt: skip
        rows.append((Word(name), first_mean, *judged, *others))
    return Layout(
        f"compare-{size}", "compare", f"VAEs on {images}, {size} px", tuple(columns), (Group(tuple(rows)),),
        _notes(by_name, effects, first, size), (),
    )  # fmt: skip


def _notes(
    by_name: Mapping[str, Measured], effects: Mapping[str, Mapping[str, Effect]], first: Metric, size: int
) -> tuple[Sentence, ...]:
    one = next(iter(by_name.values()))
    models = "; ".join(
        f"{name}: {it.model}, stride {it.stride}, {it.latent_channels} channels" for name, it in by_name.items()
    )
    method = (
        f"{models}. {one.crops} square crops of {size} px of {one.n} pictures, the same for all VAEs; larger pictures "
        "are reduced by antialiased bicubic interpolation. Posterior means are decoded in fp32."
    )
    others = len(by_name) - 1
    corrected = (
        f" (in {title_of(first)} also p < 0.05 after Holm's correction for {others} comparisons)" if others > 1 else ""
    )
    test = (
        f"Differences from {next(iter(by_name))} are paired by picture, with Student's t; a star marks a difference "
        f"that excludes 0{corrected}. They say what other pictures would give, not another training."
    )
    return ((method,), *(((test,),) if effects else ()))


def _costs(size: int, by_name: Mapping[str, Measured], first: Metric, device: str) -> Layout:
    metrics = [first, *(COSTS[name] for name in ON_FRONT)]
    points = {
        name: [one.metrics.get(first.name, math.nan), *(getattr(one.cost, field) for field in ON_FRONT)]
        for name, one in by_name.items()
    }
    on_front = front(points, metrics)
    columns = [Column("text", "VAE"), *(Column("value", shown.name, shown) for shown in COSTS.values())]
    columns.append(Column("check", "front"))
    rows: list[tuple[Cell, ...]] = [
        (
            Word(name),
            *(Value(getattr(one.cost, field), math.nan, shown.decimals) for field, shown in COSTS.items()),
            Check(name in on_front),
        )
        for name, one in by_name.items()
    ]
    note = (
        f"One picture of {size} px on {device}, in fp32: medians of repeated runs, and the most that activations hold "
        "at once. The latent is counted at 16 bits per number. Front: no other VAE is at least as good in "
        f"{title_of(first)}, GFLOP and latent bits, and better in one of them."
    )
    return Layout(
        f"compare-{size}-cost", "compare", f"what a picture of {size} px costs", tuple(columns), (Group(tuple(rows)),),
        ((note,),), (), ranked=False,
    )  # fmt: skip


def _record(
    size: int, name: str, metric: str, one: Measured, effects: Mapping[str, Mapping[str, Effect]]
) -> dict[str, Any]:
    """A metric of a VAE at one size; None where a value is missing."""
    effect = effects.get(metric, {}).get(name)
    change = effect.change if effect else None
    numbers = {
        "value": one.metrics.get(metric, math.nan),
        "change": change.mean if change else math.nan,
        "low": change.low if change else math.nan,
        "high": change.high if change else math.nan,
        "p": change.p if change else math.nan,
        "p_holm": effect.p_holm if effect else math.nan,
    }
    shown = {key: None if math.isnan(number) else number for key, number in numbers.items()}
    return {
        "vae": name,
        "size": size,
        "n": one.n,
        "metric": metric,
        **shown,
        "verdict": effect.verdict if effect else "",
    }
