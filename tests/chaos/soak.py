"""`python -m tests.chaos.soak [TRIALS]`: a sweep of many short trials, and how memory and open files grow with them.

The slope of each process is that of a straight line through its samples, without the first third, in which caches fill,
and without those after the last trial: the driver then makes tables and figures, whose memory is told apart.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import psutil
from scipy.stats import linregress

from tests.support.command import command, environment, kill_tree
from tests.support.studies import write_study

EVERY_S = 1.0
"""Seconds between samples."""

FEWEST = 20
"""Samples of a process that is reported."""


@dataclass(frozen=True)
class Sample:
    """One process at one moment. `bytes`: memory of its own (USS). `trials`: how many had finished."""

    trials: int
    bytes: int
    files: int


def run(trials: int, folder: Path) -> dict[str, list[Sample]]:
    """Sweep `trials` trials; the samples of the driver and of each worker."""
    study = write_study(folder, ("seeds: 2", f"seeds: {trials // 2}"))
    samples: dict[str, list[Sample]] = defaultdict(list)
    words = command("sweep", study, "--store", folder / "runs", "--workers", "2")
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said, env=environment())
        try:
            while process.poll() is None:
                finished = sum(1 for _ in (folder / "runs").glob("stages/*/record.json"))
                for name, member in members(process.pid):
                    with contextlib.suppress(psutil.Error):
                        samples[name].append(Sample(finished, member.memory_full_info().uss, member.num_fds()))
                time.sleep(EVERY_S)
        except BaseException:
            kill_tree(process)
            raise
    assert process.returncode == 0, (folder / "said.txt").read_text()
    finished = sum(1 for _ in (folder / "runs").glob("stages/*/record.json"))
    assert finished == trials // 2 * 2, finished
    return samples


def members(driver: int) -> list[tuple[str, psutil.Process]]:
    """The driver and those of its Ray's workers that run trials."""
    found = [("driver", psutil.Process(driver))]
    for process in found[0][1].children(recursive=True):
        with contextlib.suppress(psutil.Error):
            title = process.cmdline()[:1]
            if title and title[0].startswith("ray::") and "IDLE" not in title[0] and "Agent" not in title[0]:
                found.append((f"worker {process.pid}", process))
    return found


def table(samples: dict[str, list[Sample]]) -> str:
    """A Markdown table: growth of each process with the number of finished trials, with its 95 % interval."""
    lines = ["| process | samples | MB | MB per 100 trials | most MB afterwards | open files | per 100 trials |"]
    lines.append("|---" * 7 + "|")
    ended = max(one.trials for all_of in samples.values() for one in all_of)
    for name, all_of in samples.items():
        training = [one for one in all_of if one.trials < ended]
        if len(training) < FEWEST:
            continue
        late = training[len(training) // 3 :]
        grown = [slope([one.trials for one in late], values) for values in (
            [one.bytes / 1e6 for one in late], [float(one.files) for one in late])]  # fmt: skip
        last, after = late[-1], max((one.bytes for one in all_of if one.trials == ended), default=0)
        lines.append(
            f"| {name} | {len(training)} | {last.bytes / 1e6:.0f} | {grown[0]} | {after / 1e6:.0f} | {last.files} | "
            f"{grown[1]} |"
        )
    return "\n".join(lines)


def slope(trials: list[int], values: list[float]) -> str:
    """The slope per 100 trials with twice its standard error."""
    if min(trials) == max(trials):
        return "–"
    line = linregress(trials, values)
    return f"{100 * line.slope:+.2f} ± {200 * line.stderr:.2f}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        print(table(run(int(sys.argv[1]) if len(sys.argv) > 1 else 300, Path(place))))
