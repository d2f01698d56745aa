"""What the designs of a study can estimate and what they cannot, in words."""

import math
from collections.abc import Sequence

from ablate.plan.labels import short_names
from ablate.plan.treatments import Listing
from ablate.study.fraction import ROMAN, Fraction
from ablate.study.optimal import Effect, Optimal
from ablate.study.study import Study

SHOWN = 12
"""Groups of aliased effects that are listed."""


SEVERAL = {"ladder", "leave_one_out", "one_at_a_time"}
"""Designs that estimate the effect of a factor alone, each in the presence of other levels."""


def describe_contrasts(study: Study, listing: Listing) -> list[str]:
    """A sentence for each effect or interaction that the designs can estimate, or cannot."""
    factors = len(study.factors)
    found = [text for design in study.designs for text in _estimates(study, design, factors)]
    named = {"ladder", "leave_one_out"}.intersection(study.designs)
    if named and len(SEVERAL.intersection(study.designs)) > 1 and factors > 1:
        found.append("a factor whose effect differs in size between these designs interacts with others")
    found += [
        f"'{constraint.text}' leaves out {count}: an effect or interaction that needs them is not estimated"
        for constraint, count in zip(study.where, listing.left_out, strict=True)
        if count
    ]
    found += _conditional(study)
    return found + _not_compared(listing) if len(study.designs) > 1 else found


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
        "search": ["which treatments do best; no effects: what is tried next depends on what came out before"],
        "one_at_a_time": ["each level against the baseline's level; no interactions"],
        "ladder": ["effect of each addition given those before it; not what another order shows, no interactions"],
        "leave_one_out": ["effect of each removal from the full recipe; not of a factor alone, no interactions"],
    }.get(design, ["each treatment against the baseline"])


def _conditional(study: Study) -> list[str]:
    """Settings that exist with some levels only, except where a list says itself what it compares."""
    return [
        f"{path} where it exists, not over all levels of the rest"
        for path in study.conditional
        if "grid" in study.designs
    ]


def _not_compared(listing: Listing) -> list[str]:
    """Comparisons that a design asks for but an earlier design has taken the row of, in words."""
    rows = listing.rows.values()
    against = {first.label: listing.label(first.against) for first, *_ in rows}
    wanted = [(first.label, listing.label(row.against)) for first, *others in rows for row in others]
    lost = [(row, other) for row, other in wanted if against[row] != other and against[other] != row]
    return [
        f"no comparison of '{row}' with '{other}': its row is held against '{against[row]}'"
        for row, other in dict.fromkeys(lost)
    ]


def describe_fraction(fraction: Fraction, names: list[str]) -> list[str]:
    """The size of a fraction, its generators, and what is aliased among main effects and interactions of two."""
    k, p = len(names), len(names) - fraction.basic
    basic = {column: name for column, name in zip(fraction.columns, names, strict=True) if column.bit_count() == 1}
    generators = [
        f"{name} = {'*'.join(basic[1 << i] for i in range(fraction.basic) if column >> i & 1)}"
        for column, name in zip(fraction.columns, names, strict=True)
        if column.bit_count() > 1
    ]
    found = [
        f"fraction 2^({k}-{p}) of resolution {ROMAN[fraction.resolution]}: {1 << fraction.basic} of {1 << k} "
        f"treatments, {', '.join(generators)}",
        {
            3: "main effects, each aliased with interactions of two factors: true only where those are nil",
            4: "main effects clear of two-factor interactions; of these, some are aliased with each other",
        }.get(fraction.resolution, "main effects and two-factor interactions, clear of each other"),
    ]
    groups = [["*".join(names[i] for i in effect) for effect in group] for group in fraction.aliases() if group[1:]]
    found += [f"{first} aliased with {' and '.join(others)}" for first, *others in groups[:SHOWN]]
    if len(groups) > SHOWN:
        found.append(f"… and {len(groups) - SHOWN} more groups of aliased effects")
    return [*found, "interactions of more factors are taken to be nil"]


def describe_optimal(fraction: Optimal, names: list[str]) -> list[str]:
    """The size of a D-optimal fraction, how good it is, and what is aliased of what it does not estimate."""

    def words(effects: Sequence[Effect]) -> str:
        more = f" and {len(effects) - SHOWN} more" if len(effects) > SHOWN else ""
        return ", ".join("*".join(names[i] for i in effect) for effect in effects[:SHOWN]) + more

    runs, parameters = fraction.model.shape
    pairs = [effect for effect in fraction.effects if effect[1:]]
    aliases = fraction.aliases()
    partly, clear = [pair for pair in aliases if aliases[pair]], [pair for pair in aliases if not aliases[pair]]
    spare = f"{runs - parameters} more than parameters, to test whether what is taken to be nil is"
    found = [
        f"D-optimal fraction: {runs} of {math.prod(fraction.counts)} treatments for {parameters} parameters; "
        f"D-efficiency {fraction.efficiency:.3f} (the full grid and orthogonal designs: 1)",
        f"main effects{f', {words(pairs)}' if pairs else ''}, each adjusted for the others by least squares",
        spare if runs > parameters else "no treatment more than parameters: what is taken to be nil is not tested",
    ]
    if partly:
        found.append(f"not estimated: {words(partly)}; partially aliased with the above, true only where these are nil")
    if clear:
        found.append(f"not estimated: {words(clear)}; clear of the above")
    return [*found, "interactions of more factors are taken to be nil"]
