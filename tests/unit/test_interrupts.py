"""Interrupts that Python drops are raised again, those that it does not drop are raised as ever."""

import os
import signal
import threading

import pytest

from ablate.schedule.interrupts import raised_again


class Finalized:
    """Gets a signal while it is finalized, where Python prints an exception and goes on."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        sum(range(1000))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_a_finalizer_is_raised_at_the_next_step(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), raised_again() as check:
            check()
            one = Finalized(number)
            del one
            check()
            pytest.fail("the interrupt was lost")
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_a_handler_that_raises_nothing_stops_nothing() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with raised_again() as check:
            os.kill(os.getpid(), signal.SIGTERM)
            check()
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_change_no_handlers() -> None:
    found = []

    def look() -> None:
        with raised_again() as check:
            check()
            found.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]
