"""Describes in words what the designs of a study can estimate and what they cannot."""

import math
from collections.abc import Sequence

from ablate.plan.labels import short_names
from ablate.plan.treatments import Listing
from ablate.study.fraction import ROMAN, Fraction
from ablate.study.optimal import Effect, Optimal
from ablate.study.study import Study

SHOWN = 12
"""The largest number of effects, or groups of aliased effects, that are listed."""


SINGLE_FACTOR = {"ladder", "leave_one_out", "one_at_a_time"}
"""Designs that change one factor at a time, each with different levels of the other factors."""


def describe_contrasts(study: Study, listing: Listing) -> list[str]:
    """Sentences on the effects and interactions that the designs of a study can or cannot estimate."""
    factors = len(study.factors)
    sentences = [text for design in study.designs for text in _estimates(study, design, factors)]
    sequential = {"ladder", "leave_one_out"}.intersection(study.designs)
    if sequential and len(SINGLE_FACTOR.intersection(study.designs)) > 1 and factors > 1:
        sentences.append("a factor whose effect differs in size between these designs interacts with others")
    sentences += [
        f"'{constraint.text}' leaves out {count}: an effect or interaction that needs them is not estimated"
        for constraint, count in zip(study.where, listing.left_out, strict=True)
        if count
    ]
    sentences += _conditional(study)
    return sentences + _not_compared(listing) if len(study.designs) > 1 else sentences


def _estimates(study: Study, design: str, factors: int) -> list[str]:
    if design == "fraction" and study.fraction:
        names = list(short_names(study.factors).values())
        if isinstance(study.fraction, Optimal):
            return describe_optimal(study.fraction, names)
        return describe_fraction(study.fraction, names)
    if design == "grid" and factors > 1:
        return [
            "main effect of each factor",
            "interaction of every pair of factors",
            "each treatment against the baseline",
        ]
    return {
        "search": ["which treatments do best; no effects, because each suggestion depends on earlier results"],
        "one_at_a_time": ["each level against the baseline's level; no interactions"],
        "ladder": ["effect of each addition given those before it; not what another order shows, no interactions"],
        "leave_one_out": ["effect of each removal from the full recipe; not of a factor alone, no interactions"],
    }.get(design, ["each treatment against the baseline"])


def _conditional(study: Study) -> list[str]:
    """Sentences on settings that exist only with some levels, if the study has a grid."""
    return [
        f"{path} only among the treatments in which it exists" for path in study.conditional if "grid" in study.designs
    ]


def _not_compared(listing: Listing) -> list[str]:
    """Sentences on comparisons lost because an earlier design compares the same treatment with another one."""
    rows = listing.rows.values()
    references = {first.label: listing.label(first.against) for first, *_ in rows}
    wanted = [(first.label, listing.label(row.against)) for first, *others in rows for row in others]
    lost = [(row, other) for row, other in wanted if references[row] != other and references[other] != row]
    return [
        f"no comparison of '{row}' with '{other}': it is compared with '{references[row]}' instead"
        for row, other in dict.fromkeys(lost)
    ]


def describe_fraction(fraction: Fraction, names: list[str]) -> list[str]:
    """Sentences on a fraction: its size, its generators, and the aliased main effects and two-factor interactions."""
    k = len(names)
    p = k - fraction.basic
    basic = {column: name for column, name in zip(fraction.columns, names, strict=True) if column.bit_count() == 1}
    generators = [
        f"{name} = {'*'.join(basic[1 << i] for i in range(fraction.basic) if column >> i & 1)}"
        for column, name in zip(fraction.columns, names, strict=True)
        if column.bit_count() > 1
    ]
    sentences = [
        f"fraction 2^({k}-{p}) of resolution {ROMAN[fraction.resolution]}: {1 << fraction.basic} of {1 << k} "
        f"treatments, {', '.join(generators)}",
        {
            3: "main effects, each aliased with interactions of two factors: true only where those are nil",
            4: "main effects clear of two-factor interactions, some of which are aliased with each other",
        }.get(fraction.resolution, "main effects and two-factor interactions, clear of each other"),
    ]
    groups = [["*".join(names[i] for i in effect) for effect in group] for group in fraction.aliases() if group[1:]]
    sentences += [f"{first} aliased with {' and '.join(others)}" for first, *others in groups[:SHOWN]]
    if len(groups) > SHOWN:
        sentences.append(f"… and {len(groups) - SHOWN} more groups of aliased effects")
    return [*sentences, "interactions of more factors are taken to be nil"]


def describe_optimal(fraction: Optimal, names: list[str]) -> list[str]:
    """Sentences on a D-optimal fraction: its size and efficiency, what it estimates, and what it does not."""

    def listed(effects: Sequence[Effect]) -> str:
        more = f" and {len(effects) - SHOWN} more" if len(effects) > SHOWN else ""
        return ", ".join("*".join(names[i] for i in effect) for effect in effects[:SHOWN]) + more

    runs, parameters = fraction.model.shape
    pairs = [effect for effect in fraction.effects if effect[1:]]
    aliases = fraction.aliases()
    aliased = [pair for pair in aliases if aliases[pair]]
    clear = [pair for pair in aliases if not aliases[pair]]
    if runs > parameters:
        spare = f"{runs - parameters} more than parameters, to test whether what is taken to be nil is"
    else:
        spare = "no treatment more than parameters: what is taken to be nil is not tested"
    sentences = [
        f"D-optimal fraction: {runs} of {math.prod(fraction.counts)} treatments for {parameters} parameters; "
        f"D-efficiency {fraction.efficiency:.3f} (the full grid and orthogonal designs: 1)",
        f"main effects{f', {listed(pairs)}' if pairs else ''}, each adjusted for the others by least squares",
        spare,
    ]
    if aliased:
        condition = "partially aliased with the above, true only where these are nil"
        sentences.append(f"not estimated: {listed(aliased)}; {condition}")
    if clear:
        sentences.append(f"not estimated: {listed(clear)}; clear of the above")
    return [*sentences, "interactions of more factors are taken to be nil"]
