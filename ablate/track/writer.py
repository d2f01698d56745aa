"""Calls to a slow service that may fail: made in a background thread, with errors caught."""

import functools
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")


class Writer:
    """Makes calls in a background thread, one after the other in the order given. They must not raise."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    @property
    def is_behind(self) -> bool:
        """Whether calls are waiting for the one being made."""
        return not self._calls.empty()

    def add(self, call: Callable[[], None]) -> None:
        """Queue a call."""
        self._calls.put(call)

    def close(self) -> None:
        """Wait until all calls are made, and end the thread."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while call := self._calls.get():
            call()


class Service:
    """Base of a class whose methods call the service. After the first error, `failure`, its calls do nothing."""

    failure: Exception | None = None
    writer: Writer | None = None

    def on_failure(self, error: Exception) -> None:
        """Called with the first error."""


S = TypeVar("S", bound=Service)


Method = Callable[Concatenate[S, P], None]


def safe(method: Method[S, P]) -> Method[S, P]:
    """Make a method of a `Service` catch all errors."""

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.failure is None:
            try:
                method(self, *args, **kwargs)
            except Exception as error:
                self.failure = error
                self.on_failure(error)

    return call


def queued(method: Method[S, P]) -> Method[S, P]:
    """Make a method of a `Service` safe, and leave its calls to the thread; without one, they are made at once."""
    safe_method = safe(method)

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.writer:
            self.writer.add(functools.partial(safe_method, self, *args, **kwargs))
        else:
            safe_method(self, *args, **kwargs)

    return call
