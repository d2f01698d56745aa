"""`ablate.sweep`: run a study from Python, with a progress bar in notebooks."""

import os
import sys
from typing import Literal

from rich.console import Console

from ablate.adaptive.recall import plan_study
from ablate.api.loading import LoadedStudy, Location, find_store, load, say, say_notes
from ablate.api.reading import Results
from ablate.driver.studies import validate_study
from ablate.driver.sweep import sweep as run
from ablate.schedule.resources import default_resources

MOST_COLUMNS = 1000
"""Width of a line in a notebook, which wraps longer ones itself."""


def sweep(
    study: LoadedStudy | Location,
    store: Location | None = None,
    *,
    workers: int | None = None,
    cpus_per_trial: int = 1,
    gpus_per_trial: float | None = None,
    inline: bool = False,
    address: str | None = None,
    stall_minutes: float | None = None,
    tracking: str | None = None,
    rerun: Literal["stale"] | None = None,
) -> Results:
    """Run the trials of a study whose results the store lacks, as `ablate sweep` does, and give all its results.

    An interrupted sweep keeps what it has finished; the same call continues it, in a new process as well. Failed trials
    do not raise an error: see `Results.failed`.

    `store`: by default that of the study. `workers`: trials at once, by default as many as fit. `gpus_per_trial`: by
    default a whole GPU where there is one. `inline`: one trial at a time in this process, without Ray. `address`: of a
    Ray cluster. `stall_minutes`: a worker without a new step for so long hangs, and is replaced; by default 100 times
    its median step, at least 10 minutes. `tracking`: URI of MLflow, or "none"; by default MLFLOW_TRACKING_URI, or else
    a file in the store. `rerun="stale"`: also run trials again whose code or data have changed since. Raises
    StudyError, StoreError and UsageError before anything starts, ClusterError where Ray cannot be used.
    """
    # Check everything first
    loaded = study if isinstance(study, LoadedStudy) else load(study, store=store)
    runs = loaded.store if store is None else find_store(store)
    resources = default_resources(cpus_per_trial, gpus_per_trial, workers, address, stall_minutes)
    uri = tracking or os.environ.get("MLFLOW_TRACKING_URI") or runs.mlflow_uri
    checked = validate_study(loaded.source, runs)
    say_notes(checked.notes)

    # Run
    notebook = in_notebook()
    lines = Console(
        file=sys.stdout, force_terminal=False, force_jupyter=False, markup=False, emoji=False, width=MOST_COLUMNS
    )
    screen = lines if notebook else Console(stderr=True, highlight=False, markup=False, emoji=False)
    try:
        run(checked.study, runs, resources, uri, screen, inline=inline, redo=rerun == "stale", notebook=notebook)
    except KeyboardInterrupt:
        say("Stopped; finished trials are kept. To continue, make the same call again.")
        raise
    found = Results(plan_study(checked.study, runs))
    for name, reason in found.failed.items():
        say(f"failed: {name}: {reason or 'not run'}")
    return found


def in_notebook() -> bool:
    """Whether the code runs in a cell of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
