"""Records made by other code than that at hand, and how they are redone."""

import shutil
from dataclasses import replace

from ablate.plan.trials import Trial
from ablate.slots import registry
from ablate.store.folders import Store
from ablate.store.record import Record


def is_stale(record: Record) -> bool:
    """Whether a level that made this record has another source now, or is gone."""
    return bool(_changed(record))


def set_aside(trials: list[Trial], store: Store) -> list[Trial]:
    """Let the next sweep make anew what other code has made; gives the trials concerned.

    Where only probes have changed, they are forgotten and the checkpoint stays. Else all that the trial came through is
    moved away, unless it has a record of its own that the code at hand has made. What was moved away before from the
    same place is replaced.
    """
    records = {trial.signature: record for trial in trials if (record := store.stage(trial.signature).record())}
    stale = [trial for trial in trials if trial.signature in records and is_stale(records[trial.signature])]
    sound = {mark for mark, record in records.items() if not is_stale(record)}
    for trial in stale:
        record = records[trial.signature]
        if all(path.startswith("probe/") for path in _changed(record)):
            outdated = {path.partition("/")[2] for path in _changed(record)}
            kept = {name: key for name, key in record.probes.items() if name not in outdated}
            store.stage(trial.signature).finish(replace(record, probes=kept))
            sound.add(trial.signature)
    for mark in dict.fromkeys(mark for trial in stale if trial.signature not in sound for mark in trial.marks):
        if mark not in sound and (folder := store.stage(mark).root).exists():
            shutil.rmtree(store.set_aside(mark), ignore_errors=True)
            store.set_aside(mark).parent.mkdir(parents=True, exist_ok=True)
            folder.rename(store.set_aside(mark))
    return stale


def _changed(record: Record) -> list[str]:
    """The levels that made a record and have another source now, as `slot/level`."""
    return list(registry.changed(record.code.get("components", {})))
