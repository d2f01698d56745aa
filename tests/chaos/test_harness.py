"""Two cases of `make chaos`: a fault of processes, a damaged file."""

from pathlib import Path

from tests.chaos.__main__ import run, table


def test_seeded_faults_leave_nothing_behind(tmp_path: Path) -> None:
    outcomes = run(2, 1, tmp_path)
    assert all(outcome.good for outcome in outcomes), table(outcomes)
