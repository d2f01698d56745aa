"""Calls to a slow place, made in a thread of their own, so that nobody waits for them."""

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Writer:
    """Makes calls one after the other, in the order in which they were given. They must not raise."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    @property
    def is_behind(self) -> bool:
        """Whether calls wait for the one that is being made."""
        return not self._calls.empty()

    def add(self, call: Callable[[], None]) -> None:
        self._calls.put(call)

    def close(self) -> None:
        """Wait until all calls are made."""
        self._calls.put(None)
        self._thread.join()

    def _work(self) -> None:
        while call := self._calls.get():
            call()
