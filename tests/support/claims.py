"""Claims to be judged by planted results, and what records with these results say about them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablate.analysis.records.frame import tidy
from ablate.analysis.statistics.claims import Claim, Direction
from ablate.analysis.statistics.findings import Finding
from ablate.analysis.statistics.judgements import judge
from ablate.identity import signature
from ablate.plan.treatments import treatments
from ablate.plan.trials import expand
from ablate.store.folders import Store
from ablate.study.study import Study
from tests.support.finished import finish

Results = Mapping[str, list[float]]
"""Treatment -> psnr of each seed; -inf: the trial diverged, inf: it failed, NaN: it is pending."""


def claim(a: Any, b: Any, direction: Direction = "A above B", **others: Any) -> Claim:
    """A claim about psnr."""
    return Claim(
        **{"id": "X1", "text": "t", "metric": "psnr", "source": "s", "said_by": "paper", "caveat": "c"} | others,
        a=a, b=b, direction=direction,
    )  # fmt: skip


def fill(study: Study, store: Store, results: Results, more: Mapping[str, Results] | None = None) -> None:
    """Write the records of all trials that have a result. `more`: metric -> results in other metrics."""
    for trial in expand(study):
        values = results.get(trial.treatment.label, [math.nan] * len(study.seeds))
        value = values[trial.seed]
        if value == math.inf:
            folder = store.stage(trial.signature)
            folder.root.mkdir(parents=True)
            folder.fail("out of memory", "")
        elif not math.isnan(value):
            others = {name: rows[trial.treatment.label][trial.seed] for name, rows in (more or {}).items()}
            finish(store, trial, {"psnr": value, **others}, "diverged" if value == -math.inf else "done")


def findings(
    study: Study, folder: Path, results: Results, *claims: Claim, more: Mapping[str, Results] | None = None
) -> tuple[Finding, ...]:
    """What records with these results say, in a store of their own."""
    store = Store(folder / signature(f"{results} {more}"))
    fill(study, store, results, more)
    return judge(claims, study, treatments(study), tidy(expand(study), store))
