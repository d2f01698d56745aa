"""What all cases of a file may hold in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

MORE_BYTES = 1 << 30
"""The memory that the cases of a file may take beyond what the process held before them."""


@pytest.fixture(autouse=True, scope="module")
def bounded_memory() -> Iterator[None]:
    """Fail if the process held `MORE_BYTES` more than at the beginning at any time. Only Linux can tell."""
    forget = Path("/proc/self/clear_refs")
    if not forget.exists():
        yield
        return
    forget.write_text("5")  # the peak begins anew: proc_pid_clear_refs(5)
    held = peak_bytes()
    yield
    more = peak_bytes() - held
    assert more < MORE_BYTES, f"{more / 2**20:.0f} MB"


def peak_bytes() -> int:
    """The largest memory that this process has held since the peak began anew."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
