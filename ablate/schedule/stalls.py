"""Finds stages that hang: whose heartbeats say that they train, but show no new step for too long.

The driver looks at the heartbeats of the workers (`ablate.engine.pulse`) and measures time by its own clock. Only steps
are judged. A worker that builds a model, compiles or makes its first step, saves or probes says so in its heartbeat,
and takes as long as it takes; only a process that is stopped is found whatever it does.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ablate.engine.pulse import BEAT_S, REMOTE_BEAT_S, STEP_BYTES
from ablate.plan.tree import Node
from ablate.store.files import is_remote, read_json
from ablate.store.folders import Store
from ablate.store.process import is_stopped, lives

STEPS = 100
"""A stage hangs if it makes no step for this many times its median step, and for `FLOOR_S`."""


FLOOR_S = 600.0


PATIENCE_S = 5.0
"""How long a process may take to write its stacks, before it is killed without."""


MOST_PACES = 101
"""How many of the last measured paces the median is taken of."""

LEAST_PACES = 3
"""Before so many were measured, a pace is not known; the first one may hold a compilation."""


Heartbeat = Mapping[str, Any]


@dataclass
class Watched:
    """What was seen of a stage: its last heartbeat that differed from the one before, when, and its seconds per step.

    `mark`: the part of a heartbeat that changes with progress. `is_begun`: whether its worker has given a sign of life.
    """

    node: Node
    mark: tuple[Any, ...]
    since: float
    is_begun: bool = False
    step: int = -1
    step_since: float = 0.0
    paces: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Stall:
    """A stage that hangs. `stood_s`: seconds without progress; `is_stopped`: whether its process was stopped."""

    node: Node
    heartbeat: Heartbeat
    stood_s: float
    limit_s: float
    is_stopped: bool

    def describe(self, stacks: Path | None, step: int | None = None) -> str:
        """The stall in words. `stacks`: where its stacks are, None if there are none; `step`: the last, if known."""
        last = int(self.heartbeat["step"]) if step is None else step
        steps = self.heartbeat["steps"]
        if self.is_stopped:
            what = f"its worker was stopped after step {last} of {steps}"
        elif self.node.stage.is_external:
            what = f"the command has logged no step and written nothing since step {last} of {steps}"
        else:
            what = f"step {last + 1} of {steps} does not end"
        where = f"its stacks are in {stacks}" if stacks else "its worker did not give its stacks"
        return (
            f"hangs: {what} (stage '{self.node.stage.name}', {self.stood_s:.0f} s without progress, "
            f"limit {self.limit_s:.0f} s); {where}"
        )


class StallWatch:
    """Watches the stages that run. `limit_s`: seconds without progress; None for a limit by each stage's own pace.

    The shortest limit is that of three heartbeats.
    """

    def __init__(self, store: Store, limit_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        remote = is_remote(store.root)
        self.limit_s = None if limit_s is None else max(limit_s, 3 * (REMOTE_BEAT_S if remote else BEAT_S))
        self.every = 30.0 if remote else min(5.0, (self.limit_s or FLOOR_S) / 12)
        self.clock = clock
        self.watched: dict[str, Watched] = {}
        self._looked = clock()

    def begin(self, key: str, node: Node) -> None:
        """Watch a stage from now on; `key` is the caller's. Heartbeats of earlier workers do not count."""
        self.watched[key] = Watched(node, _mark(read_heartbeat(node, self.store)), self.clock())

    def end(self, key: str) -> None:
        """Watch a stage no longer."""
        self.watched.pop(key, None)

    def look(self) -> dict[str, Stall]:
        """The stages that hang, by key, which are no longer watched then. Looks only every few seconds."""
        now = self.clock()
        if now - self._looked < self.every:
            return {}
        slept = now - self._looked > 3 * self.every + PATIENCE_S  # this process itself: stopped, or starved
        self._looked = now
        found: dict[str, Stall] = {}
        for key, seen in list(self.watched.items()):
            heartbeat = read_heartbeat(seen.node, self.store)
            mark = _mark(heartbeat)
            if slept or mark != seen.mark:
                self._advance(seen, heartbeat, mark, now)
            elif heartbeat and seen.is_begun:
                stopped = is_stopped(heartbeat)
                limit = self._limit(seen) if heartbeat.get("phase") == "training" else None
                limit = limit or (self.limit_s or FLOOR_S if stopped else None)
                if limit and now - seen.since > limit:
                    found[key] = Stall(seen.node, heartbeat, now - seen.since, limit, stopped)
                    self.end(key)
        return found

    def _advance(self, seen: Watched, heartbeat: Heartbeat, mark: tuple[Any, ...], now: float) -> None:
        """Note a changed heartbeat, and the pace if it is of the same worker."""
        same = mark[:2] == seen.mark[:2]
        seen.is_begun |= mark != seen.mark and bool(heartbeat)
        seen.mark = mark
        seen.since = now
        step = int(heartbeat.get("step", -1))
        if step != seen.step:
            if same and seen.step >= 0 and step > seen.step:
                seen.paces = [*seen.paces, (now - seen.step_since) / (step - seen.step)][-MOST_PACES:]
            seen.step = step
            seen.step_since = now

    def _limit(self, seen: Watched) -> float | None:
        """Seconds without progress after which a stage hangs; None while its pace is not known."""
        if self.limit_s is not None:
            return self.limit_s
        return max(FLOOR_S, STEPS * median(seen.paces)) if len(seen.paces) >= LEAST_PACES else None


def read_heartbeat(node: Node, store: Store) -> Heartbeat:
    """The last heartbeat of the worker of a stage; empty if there is none."""
    found = read_json(store.stage(node.trial.signature).running)
    return found if isinstance(found, dict) and {"step", "pid"} <= found.keys() else {}


def _mark(heartbeat: Heartbeat) -> tuple[Any, ...]:
    """What of a heartbeat changes with progress; the process comes first."""
    return tuple(heartbeat.get(key) for key in ("pid", "started", "step", "phase", "activity"))


def take_stacks_and_kill(heartbeat: Heartbeat) -> tuple[bool, str, int | None]:
    """Kill the process of a heartbeat, after it has written its stacks. To be called on its machine.

    Gives whether it was found, its stacks (empty if it does not answer), and the last step that it has finished.
    """
    if not lives(heartbeat):
        return False, "", None
    pid = int(heartbeat["pid"])
    text, step = read_stacks(heartbeat)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True, text, step


def read_stacks(heartbeat: Heartbeat) -> tuple[str, int | None]:
    """The stacks of a process of this machine, and the last step that it has finished; see `offer_stacks`."""
    if heartbeat.get("stacks") is None:
        return "", None
    pid = int(heartbeat["pid"])
    file = Path(f"/proc/{pid}/fd/{heartbeat['stacks']}")
    try:
        size = file.stat().st_size
        os.kill(pid, signal.SIGUSR2)
        deadline = time.monotonic() + PATIENCE_S
        content = b""
        while time.monotonic() < deadline:
            time.sleep(0.2)
            before = content
            content = file.read_bytes()
            if len(content) > size and content == before:
                break
    except OSError:
        return "", None
    return content[size:].decode("utf-8", "replace"), int.from_bytes(content[:STEP_BYTES], "little")
