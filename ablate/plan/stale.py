"""Stale trials, whose code or data have changed since, and how they are run again. See docs/stale.md."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ablate.plan.content import Contents
from ablate.plan.trials import Trial
from ablate.slots import registry
from ablate.store.folders import Store
from ablate.store.leases import Leases
from ablate.store.record import Record


def is_stale(record: Record) -> bool:
    """Whether the code of a level that this record's trial used has changed since, or the level is gone."""
    return bool(_changed(record))


@dataclass(frozen=True)
class Stale:
    """The trials of a plan that are stale, or were begun before their data changed, and why.

    `finished`: trials whose record is stale. `begun`: trials without a complete record that would go on from a
    checkpoint of other data. `changes`: what has changed since, in words.
    """

    finished: list[Trial]
    begun: list[Trial]
    changes: list[str]

    @property
    def signatures(self) -> set[str]:
        """Signatures of both."""
        return {trial.signature for trial in (*self.finished, *self.begun)}


def find_stale(trials: Iterable[Trial], pending: Iterable[Trial], store: Store) -> Stale:
    """The stale ones of these trials. `pending`: those that are to run."""
    contents = Contents(store)
    changes: dict[str, None] = {}
    finished = []
    for trial in trials:
        record = store.stage(trial.signature).record()
        if record and (changed := changes_since(record, trial, contents)):
            finished.append(trial)
            changes |= dict.fromkeys(changed.values())
    begun = []
    for trial in pending:
        record = store.stage(trial.signature).record()
        data = contents.changed(record.content, trial) if record else contents.changed_before(trial)
        if data := {source: text for source, text in data.items() if not source.startswith("probe/")}:
            begun.append(trial)
            changes |= dict.fromkeys(data.values())
    return Stale(finished, begun, list(changes))


def changes_since(record: Record, trial: Trial, contents: Contents) -> dict[str, str]:
    """What has changed since a record was made: `slot/level`, with the path for a change of data -> in words."""
    code = {path: f"the code of {path}" for path in _changed(record)}
    return code | contents.changed(record.content, trial)


def set_aside(trials: list[Trial], store: Store) -> list[Trial]:
    """Let the next sweep run stale trials again, and begin those again whose data changed half-way; gives these trials.

    Where only probes have changed, their results are forgotten and the checkpoint stays. Else every stage of the trial
    is moved away, unless it has a record of its own that is not stale. A folder that was moved away before is replaced.
    Trials that another sweep works on are left out.
    """
    with Leases(store.root, "a sweep that repeats stale trials") as leases:
        return _set_aside(trials, store, leases)


def _set_aside(trials: list[Trial], store: Store, leases: Leases) -> list[Trial]:
    contents = Contents(store)
    records = {trial.signature: record for trial in trials if (record := store.stage(trial.signature).record())}
    changed = {
        trial.signature: changes_since(records[trial.signature], trial, contents)
        if trial.signature in records
        else contents.changed_before(trial)
        for trial in {trial.signature: trial for trial in trials}.values()
        if trial.signature in records or not trial.pruned
    }
    stale = [trial for trial in trials if changed.get(trial.signature)]
    stale = [trial for trial in stale if all(map(leases.take, trial.all_signatures))]
    kept = {signature for signature in records if not changed.get(signature)}
    # Only probes have changed: probe the checkpoint again.
    for trial in stale:
        sources = changed[trial.signature]
        if trial.signature in records and all(path.startswith("probe/") for path in sources):
            record = records[trial.signature]
            outdated = {path.partition(" ")[0].partition("/")[2] for path in sources}
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
