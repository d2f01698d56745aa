"""Stale trials, whose code has changed since, and how they are run again. See docs/stale.md."""

import shutil
from dataclasses import replace

from ablate.plan.trials import Trial
from ablate.slots import registry
from ablate.store.folders import Store
from ablate.store.leases import Leases
from ablate.store.record import Record


def is_stale(record: Record) -> bool:
    """Whether the code of a level that this record's trial used has changed since, or the level is gone."""
    return bool(_changed(record))


def set_aside(trials: list[Trial], store: Store) -> list[Trial]:
    """Let the next sweep run stale trials again; gives these trials.

    Where only probes have changed, their results are forgotten and the checkpoint stays. Else every stage of the trial
    is moved away, unless it has a record of its own that is not stale. A folder that was moved away before is replaced.
    Trials that another sweep works on are left out.
    """
    with Leases(store.root, "a sweep that repeats stale trials") as leases:
        return _set_aside(trials, store, leases)


def _set_aside(trials: list[Trial], store: Store, leases: Leases) -> list[Trial]:
    records = {trial.signature: record for trial in trials if (record := store.stage(trial.signature).record())}
    stale = [trial for trial in trials if trial.signature in records and is_stale(records[trial.signature])]
    stale = [trial for trial in stale if all(map(leases.take, trial.all_signatures))]
    kept = {signature for signature, record in records.items() if not is_stale(record)}
    # Only probes have changed: probe the checkpoint again.
    for trial in stale:
        record = records[trial.signature]
        changed = _changed(record)
        if all(path.startswith("probe/") for path in changed):
            outdated = {path.partition("/")[2] for path in changed}
            probes = {name: key for name, key in record.probes.items() if name not in outdated}
            store.stage(trial.signature).finish(replace(record, probes=probes))
            kept.add(trial.signature)
    # Something else has changed: train again.
    again = [trial for trial in stale if trial.signature not in kept]
    for signature in dict.fromkeys(signature for trial in again for signature in trial.all_signatures):
        if signature not in kept and (folder := store.stage(signature).root).exists():
            aside = store.set_aside(signature)
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(aside)
    return stale


def _changed(record: Record) -> list[str]:
    """The levels that a record's trial used and that have changed since or are gone, as `slot/level`."""
    return registry.changed(record.code.get("components", {}))
