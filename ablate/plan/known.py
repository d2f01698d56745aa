"""What results add to a study: what a search has suggested, what tuning has chosen, what was pruned, further seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.study.search import Suggestion


@dataclass(frozen=True)
class Known:
    """What results have added to a study so far; empty where its file alone says which trials there are.

    `searched`: the suggestions of its search in order, the baseline left out. `tuned`: what a treatment changes, as
    canonical text -> the nuisance levels that its tuning has chosen. `pruned`: signature of a treatment's first trial
    -> why the treatment was stopped. `replicates`: what a treatment changes, as canonical text -> how many seeds it
    has, where that is more than the fewest.
    """

    searched: tuple[Suggestion, ...] = ()
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pruned: Mapping[str, str] = field(default_factory=dict)
    replicates: Mapping[str, int] = field(default_factory=dict)


NOTHING = Known()
