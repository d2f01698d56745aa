"""Pictures that cannot be used: why, how many, and whether the rest is enough."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ablate.slots.data import Misfit

TOO_LARGE = "of more pixels than Pillow opens (about 179 million); reduce or cut them"


@dataclass
class Rejects:
    """Collects the pictures, of `total`, that cannot be used.

    At most the fraction `tolerated` may be damaged; a picture that is intact but unsuitable (`Misfit`) never passes.
    `reasons`: reason -> names. `first`: the first error.
    """

    total: int
    tolerated: float
    reasons: dict[str, list[str]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    first: Exception | None = None

    @contextmanager
    def catch(self, name: str) -> Iterator[None]:
        """Record an exception that is raised while the named picture is read."""
        try:
            yield
        except Exception as error:  # decoders raise all kinds of errors for a damaged file
            kind = type(error).__name__
            too_large = kind == "DecompressionBombError"  # Pillow's, which is not imported here
            if not isinstance(error, Misfit) and not too_large:
                self.damaged.append(name)
            reason = TOO_LARGE if too_large else str(error) if isinstance(error, Misfit) else f"not readable ({kind})"
            self.reasons.setdefault(reason, []).append(name)
            self.first = self.first or error

    def __bool__(self) -> bool:
        return bool(self.reasons)

    @property
    def tolerable(self) -> bool:
        """Whether all are damaged files, no more than tolerated, and at least one picture is left."""
        only_damaged = len(self.damaged) == sum(map(len, self.reasons.values()))
        return only_damaged and len(self.damaged) < self.total and len(self.damaged) <= self.tolerated * self.total

    def __str__(self) -> str:
        return tally(self.total, self.reasons)


def tally(total: int, reasons: dict[str, list[str]], shown: int = 5) -> str:
    """One clause per reason: how many of the pictures, and the names of the first few."""
    clauses = []
    for reason, names in reasons.items():
        more = f" and {len(names) - shown} more" if len(names) > shown else ""
        clauses.append(f"{len(names)} of {total} pictures are {reason}: {', '.join(sorted(names)[:shown])}{more}")
    return "; ".join(clauses)
