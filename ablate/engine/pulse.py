"""Signs of life of a worker: heartbeats with what it does, and the stacks of its threads for whoever finds it hanging.

The driver reads them: see `ablate.schedule.stalls`. Nothing here waits for the device.
"""

import faulthandler
import functools
import os
import signal
import time

from ablate.store.files import is_remote
from ablate.store.host_memory import kill_count, room
from ablate.store.stage import Phase, StageFolder

BEAT_S = 2.0
"""Seconds between two heartbeats of a step loop at least; those of a new phase or a logged line come at once."""


REMOTE_BEAT_S = 15.0
"""The same in object storage, where each is a request."""


STEP_BYTES = 8
"""What comes before the stacks in the file of `offer_stacks`: the last finished step of the trial."""


@functools.cache
def offer_stacks() -> int | None:
    """Write the stacks of all threads to a file in memory whenever this process gets SIGUSR2; gives its descriptor.

    Others read it as `/proc/<pid>/fd/<descriptor>`. It works while Python itself is stuck, as in a library that holds
    the interpreter's lock. None where the system has no such file.
    """
    if not hasattr(os, "memfd_create") or not hasattr(faulthandler, "register"):
        return None
    file = os.memfd_create("stacks")
    os.write(file, bytes(STEP_BYTES))
    faulthandler.register(signal.SIGUSR2, file=file, all_threads=True)
    return file


class Pulse:
    """The heartbeats of one trial in this process. `stacks`: the descriptor of `offer_stacks`, if it is offered."""

    def __init__(self, folder: StageFolder, steps: int, stacks: int | None = None) -> None:
        self.folder = folder
        self.steps = steps
        self.stacks = stacks
        self.kills = kill_count()
        self.room = room()
        self.every = REMOTE_BEAT_S if is_remote(folder.root) else BEAT_S
        self._phase = ""
        self._last = 0.0

    def beat(self, phase: Phase, step: int, activity: str = "") -> None:
        """Write a heartbeat. `step`: the last finished one, over all stages; `activity`: see `StageFolder.beat`."""
        self._note(step)
        self._phase = phase
        self._last = time.monotonic()
        self.folder.beat(step, self.steps, phase, activity, self.stacks, self.kills, self.room)

    def tick(self, phase: Phase, step: int) -> None:
        """Write a heartbeat if the phase is another one, or if the last one is some seconds old."""
        if phase != self._phase or time.monotonic() - self._last > self.every:
            self.beat(phase, step)
        else:
            self._note(step)

    def _note(self, step: int) -> None:
        """Keep the step where the stacks are, which is more exact than a heartbeat and costs a microsecond."""
        if self.stacks is not None:
            os.pwrite(self.stacks, step.to_bytes(STEP_BYTES, "little"), 0)
