"""What results add to a study: suggestions of a search, tuned settings, pruned treatments, further seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.study.search import Suggestion


@dataclass(frozen=True)
class Known:
    """What results have added to a study so far; empty for a study whose file alone determines its trials.

    `searched`: the suggestions of its search in order, without the baseline. `tuned`: changed levels of a treatment, as
    canonical text -> the nuisance levels that its tuning has chosen. `pruned`: signature of a treatment's first trial
    -> why the treatment was stopped. `replicates`: changed levels of a treatment, as canonical text -> its number of
    seeds, if that is more than the lower bound.
    """

    searched: tuple[Suggestion, ...] = ()
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pruned: Mapping[str, str] = field(default_factory=dict)
    replicates: Mapping[str, int] = field(default_factory=dict)


NOTHING = Known()
