"""Interrupts that arrive where Python drops what their handler raises, and are raised again."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def raised_again() -> Iterator[Callable[[], None]]:
    """Note what the handlers of SIGINT and SIGTERM raise; the function that is given raises it, if it was dropped.

    Python runs a handler wherever the main thread is. In a finalizer, a weak reference's callback or a callback from
    C++ (Ray has all three), an exception is printed and goes no further, so a KeyboardInterrupt is lost there. Call the
    function often, in the main thread. In other threads, which get no signals, nothing is noted.
    """
    raised: list[BaseException] = []

    def noting(handler: Callable[[int, FrameType | None], object]) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as stop:
                raised.append(stop)
                raise

        return handle

    def check() -> None:
        if raised:
            raise raised[0]

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}
    for number, handler in before.items():
        signal.signal(number, noting(handler))
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
