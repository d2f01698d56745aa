"""Reduces checkpoints that nothing is left to go on from, while a sweep runs and for `ablate gc`."""

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from ablate.adaptive.recall import plan_study
from ablate.driver.studies import StudyRequest, find_study, stored_studies
from ablate.errors import AblateError, StoreError
from ablate.plan.plan import Plan
from ablate.plan.trials import Trial, is_complete
from ablate.store.files import is_remote
from ablate.store.folders import Store
from ablate.store.leases import Leases
from ablate.store.scratch import abandoned, remove
from ablate.store.shrink import Keep, shrink

ORDER: tuple[Keep, ...] = ("none", "ema", "weights", "all")
"""What may be kept, the least first."""


class Keeper:
    """Reduces the checkpoints of earlier stages and forks in a thread, as the trials of a plan end.

    The worker itself reduces the checkpoint that a trial ends with. A stage that several trials share keeps all: a row
    that is added later would have to train it again. Where results add trials, nothing is reduced before the end.
    """

    def __init__(self, plan: Plan) -> None:
        self.store = plan.store
        self.is_active = plan.study.keep != "all" and not plan.study.is_adaptive and not is_remote(plan.store.root)
        trials = list({trial.signature: trial for trial in plan.ready}.values())
        self._uses = Counter(base for trial in trials for base in trial.signatures[:-1])
        self._users: dict[str, list[Trial]] = {}
        for trial in trials:
            for fork in (fork for forks in trial.forks for fork in forks):
                self._users.setdefault(fork.signature, []).append(trial)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="keeper")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=error is not None)

    def ended(self, trial: Trial) -> None:
        """Note that a trial has ended."""
        if self.is_active:
            self._pool.submit(self._release, trial)

    def _release(self, trial: Trial) -> None:
        if not _is_done(trial, self.store):
            return
        with suppress(OSError):  # for instance a full disk: nothing depends on this
            for signature, stage, forks in trial.stages_with_forks:
                folder = self.store.stage(signature)
                if self._uses[signature] == 1 and folder.has_ended(stage.settings.steps):
                    shrink(folder.checkpoint, trial.keep)
                for fork in forks:
                    if all(_is_done(user, self.store) for user in self._users[fork.signature]):
                        shrink(self.store.stage(fork.signature).checkpoint, "none")


@dataclass
class Garbage:
    """What can be freed in a store.

    `bytes_of`: file or folder -> bytes. `left`: study that was left alone -> why.
    """

    bytes_of: dict[Path, int] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.bytes_of.values())


def collect(store: Store, keep: Keep | None, *, stale: bool, dry: bool) -> Garbage:
    """Free what no study of the store needs any more. `dry`: only say what could be freed.

    These are the checkpoints of finished trials, down to what each study keeps, or `keep`; checkpoints of stages and
    forks that no pending trial goes on from; temporary files of processes that have ended; with `stale` also what
    `--rerun stale` has moved aside. Stages of a study that cannot be read are left alone. Raises StoreError while a
    sweep runs.
    """
    if is_remote(store.root):
        raise StoreError(f"{store.root}: only a store in a folder can be freed of what it does not need")
    found = Garbage()
    with Leases(store.root, "ablate gc") as leases:
        for lease in sorted((store.root / "leases").glob("*.json")) if not dry else ():
            name = lease.name.partition(".")[0]
            if not leases.take(name):
                raise StoreError(f"{store.root} is in use by {leases.holder(name)}: free it when that has ended")
        for checkpoint, kept in _reducible(store, keep, found).items():
            if freed := shrink(checkpoint, kept, dry=dry):
                found.bytes_of[checkpoint] = freed
        leftovers = abandoned(store.root, store.root.glob("stages/*"))
        leftovers += [store.root / "stale"] if stale and (store.root / "stale").is_dir() else []
        for path in leftovers:
            found.bytes_of[path] = _size(path)
        if not dry:
            remove(leftovers)
    return found


def _reducible(store: Store, keep: Keep | None, found: Garbage) -> dict[Path, Keep]:
    """Checkpoint of an ended stage or fork -> what is kept of it."""
    kept: dict[str, Keep] = {}
    steps: dict[str, int] = {}
    needed: set[str] = set()
    unread = set()
    for study in stored_studies(store):
        try:
            request = StudyRequest(study.name, None if study.scale == "base" else study.scale, study.overrides)
            plan = plan_study(find_study(request, store)[0], store)
        except AblateError as error:
            found.left[f"{study.name} ({study.scale})"] = str(error).splitlines()[0]
            unread |= set(study.card.get("trials", []))
            continue
        for trial in plan.ready:
            if not trial.pruned and not _is_done(trial, store):
                needed.update(trial.all_signatures)
                continue
            level = keep or plan.study.keep
            for signature, stage, forks in trial.stages_with_forks:
                steps[signature] = stage.settings.steps
                kept[signature] = max(kept.get(signature, "none"), level, key=ORDER.index)
                for fork in forks:
                    steps[fork.signature] = fork.step
                    kept[fork.signature] = max(
                        kept.get(fork.signature, "none"), "all" if level == "all" else "none", key=ORDER.index
                    )
    ended = {mark for mark in kept.keys() - needed - unread if store.stage(mark).has_ended(steps[mark])}
    return {store.stage(mark).checkpoint: kept[mark] for mark in sorted(ended)}


def _is_done(trial: Trial, store: Store) -> bool:
    return is_complete(store.stage(trial.signature).record(), trial)


def _size(path: Path) -> int:
    files: Iterable[Path] = path.rglob("*") if path.is_dir() else [path]
    return sum(os.lstat(file).st_size for file in files if not file.is_dir())
