"""`python -m tests.chaos [CASES] [SEED]`: that many seeded faults, and a table of what they left.

There are as many at a time as CPUs. They take turns, half of them to processes and half to files. Exits with 1 if one
of them left anything that docs/reliability.md promises not to be left.
"""

import contextlib
import os
import random
import shutil
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from tests.chaos.faults import FILE_FAULTS, PROCESS_FAULTS
from tests.chaos.harness import SHORT, Case, Outcome, disturb
from tests.support.command import ablate
from tests.support.studies import write_study

HEAD = ("fault", "n", "survived", "lost", "run twice", "table identical", "twice in MLflow", "orphans", "litter",
        "traceback", "recovery, s (median)")  # fmt: skip


def run(cases: int, seed: int, folder: Path) -> list[Outcome]:
    """The outcomes; a line of progress each, and the folder of a case that is not good is kept."""
    undisturbed = folder / "undisturbed" / "runs"
    (folder / "undisturbed").mkdir()
    study = write_study(folder / "undisturbed", *SHORT)
    done = ablate("sweep", study, "--store", undisturbed, "--workers", "2")
    assert done.returncode == 0, done.stderr

    shuffled = list(FILE_FAULTS)
    random.Random(seed).shuffle(shuffled)

    def one(number: int) -> Outcome:
        draws = random.Random(f"{seed} {number}")
        fault = PROCESS_FAULTS[number // 2 % len(PROCESS_FAULTS)] if number % 2 == 0 else None
        damage = None if fault else shuffled[number // 2 % len(shuffled)]
        how = ("--workers", "2") if number % 4 == 0 or (fault and "kill" in fault.__name__) else ("--inline",)
        case = Case(folder / f"case{number}", draws, f"{folder.name}-{number}", how)
        outcome = disturb(case, fault, damage, undisturbed)
        print(f"[{number + 1}/{cases}] {'good' if outcome.good else 'BAD '} {outcome}", file=sys.stderr, flush=True)
        if outcome.good:
            shutil.rmtree(case.folder)
        return outcome

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, range(cases)))


def table(outcomes: list[Outcome]) -> str:
    """A Markdown table with a row per kind of fault, and one for all."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.fault.split()[0].replace("_", " ")].append(outcome)
    groups["all"] = outcomes
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for name, of_kind in groups.items():
        sums = [
            len(of_kind), sum(o.survived for o in of_kind), sum(o.lost for o in of_kind), sum(o.twice for o in of_kind),
            sum(o.identical for o in of_kind), sum(o.duplicates for o in of_kind), sum(o.orphans for o in of_kind),
            sum(bool(o.litter) for o in of_kind), sum(o.traceback for o in of_kind),
        ]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(map(str, sums))} | {median(o.recovery for o in of_kind):.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    count, seed = (int(value) for value in (*sys.argv[1:], *("200", "0")[len(sys.argv) - 1 :]))
    place = Path(tempfile.mkdtemp(prefix="chaos-"))
    found = run(count, seed, place)
    print(table(found))
    if all(outcome.good for outcome in found):
        with contextlib.suppress(OSError):
            shutil.rmtree(place)
    else:
        print(f"what was not good is in {place}", file=sys.stderr)
    sys.exit(not all(outcome.good for outcome in found))
