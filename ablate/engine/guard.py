"""Runs a command and ends it, with all that it has started, once standard input is closed.

Whoever starts this holds the other end of standard input. It is closed when that process ends, however it ends, so no
command outlives the sweep that started it. Run as a file, it needs nothing but Python.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

PATIENCE_S = 5.0
"""How long a command may take to end after SIGTERM; then it is killed."""

NOT_FOUND = 127


def end(child: "subprocess.Popen[bytes]") -> None:
    """End the process group of a command."""
    for stop in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, stop)
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE_S)
            break


def run(words: list[str]) -> int:
    """Run a command to its end; gives its exit code, 128 + the number of a signal that ended it."""
    try:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"cannot be started: {error}", file=sys.stderr)  # noqa: T201
        return NOT_FOUND

    def wait_for_the_end_of_input() -> None:
        sys.stdin.buffer.read()
        end(child)

    signal.signal(signal.SIGTERM, lambda *_: end(child))
    threading.Thread(target=wait_for_the_end_of_input, daemon=True).start()
    code = child.wait()
    with suppress(ProcessLookupError, PermissionError):  # what the command has left running
        os.killpg(child.pid, signal.SIGTERM)
    return code if code >= 0 else 128 - code


def main() -> None:
    """Run the command in the arguments, in a process of its own, and exit as it does.

    Ray kills the children of a worker that ends. Their children it leaves alone, and so the one that sees the end of
    standard input must be one of these.
    """
    inner = os.fork()
    if inner == 0:
        os.setsid()
        code = run(sys.argv[1:])
        sys.stderr.flush()
        os._exit(code)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(inner, signal.SIGTERM))
    _, status = os.waitpid(inner, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
