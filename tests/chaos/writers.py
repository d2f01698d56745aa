"""`python -m tests.chaos.writers [SECONDS]`: 16 processes that mirror trials to one MLflow server on SQLite at once.

Prints how many values they wrote and how many the database lacks; exits with 1 if it lacks any or an error was said.
"""

import multiprocessing
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ablate.plan.trials import expand
from ablate.store.folders import Store
from ablate.track.mirror import Mirror
from ablate.track.server import serving
from tests.support import mirrored

WRITERS = 16

PER_TRIAL = 3 * sum(steps // mirrored.LOG_EVERY for steps in mirrored.STEPS)
"""Values of `train/…` that a trial logs."""


def write(
    number: int, url: str, root: Path, seconds: float, results: "multiprocessing.Queue[tuple[str, int, str]]"
) -> None:
    """Mirror one study after the other until the time is up; tell each study's name, number of values and any error."""
    with pytest.MonkeyPatch.context() as patch:
        mirrored.use_levels(patch, root / f"levels{number}")
        end = time.monotonic() + seconds
        repeat = 0
        while time.monotonic() < end:
            name = f"writer_{number}_{repeat}"
            study = mirrored.make_study(mirrored.STUDY.replace("tiny_losses", name))
            trials, store = expand(study), Store(root / f"runs{number}" / str(repeat))
            with Mirror(url, None, study, trials, store) as mirror:
                for trial in trials:
                    mirror.start(trial)
                    mirrored.write_steps(store, trial)
                    mirrored.write_record(store, trial)
                    mirror.finish(trial)
            mirror.finish_study({}, "")
            results.put((name, PER_TRIAL * len(trials), str(mirror.failure or "")))
            repeat += 1


def run(seconds: float, root: Path) -> tuple[int, int, list[str]]:
    """Values written, values that the database lacks, and errors."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[tuple[str, int, str]] = context.Queue()
    database = root / "mlflow.db"
    with serving(f"sqlite:///{database}", root / "artifacts", 0) as server:
        writers = [context.Process(target=write, args=(i, server.url, root, seconds, results)) for i in range(WRITERS)]
        for writer in writers:
            writer.start()
        told = []
        while any(writer.is_alive() for writer in writers) or not results.empty():
            while not results.empty():
                told.append(results.get())
            time.sleep(0.1)
        codes = [writer.exitcode for writer in writers]
    query = """SELECT e.name, count(*) FROM metrics m JOIN runs r ON r.run_uuid = m.run_uuid
               JOIN experiments e ON e.experiment_id = r.experiment_id WHERE m.key LIKE 'train/%' GROUP BY e.name"""
    with sqlite3.connect(database) as connection:
        held = dict(connection.execute(query))
    lacking = sum(values - held.get(name, 0) for name, values, _ in told)
    errors = [error for *_, error in told if error] + [f"a writer ended with {code}" for code in codes if code]
    return sum(values for _, values, _ in told), lacking, errors


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="writers-") as place:
        written, missing, failures = run(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, Path(place))
    print(f"{WRITERS} writers: {written} values written, {missing} missing, {len(failures)} errors {failures[:3]}")
    sys.exit(bool(missing or failures))
