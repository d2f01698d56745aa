"""Records, cards and other files of a store, changed: each command reads on without them, or says which file it is."""

import contextlib
import functools
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ablate.adaptive.recall import plan_study
from ablate.analysis.tables.build import build_table
from ablate.driver.overview import count_statuses, list_studies, list_trials, status_of
from ablate.driver.studies import StudyRequest, find_study, write_card
from ablate.driver.verify import verify
from ablate.errors import AblateError
from ablate.plan.trials import Trial
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.finished import finish_all
from tests.support.fuzzing import changed, fuzzed
from tests.support.studies import write_study

TEMPORARY = tempfile.TemporaryDirectory(prefix="fuzz-")


@functools.cache
def finished() -> tuple[Store, Path, list[Trial]]:
    """A store with the finished tiny study."""
    folder = Path(TEMPORARY.name)
    study = write_study(folder)
    store = Store(folder / "runs")
    loaded = load_study(study)
    trials = finish_all(loaded, store, lambda trial: {"psnr": 20.0 + trial.seed, "ssim": 0.5})
    write_card(plan_study(loaded, store))
    return store, study, trials


@functools.cache
def originals(kind: str) -> list[Any]:
    """The files of one kind as plain data, without format and checksum, as in a store of an older version."""
    store, _, trials = finished()
    paths = {
        "record": [store.stage(trial.signature).record_file for trial in trials],
        "card": [store.study("tiny", "base").card],
    }[kind]
    values = [json.loads(path.read_text()) for path in paths]
    return [{key: entry for key, entry in value.items() if key not in {"_format", "_checksum"}} for value in values]


@contextlib.contextmanager
def replaced(path: Path, content: bytes) -> Any:
    """Another content of a file, for a while."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before)


def read_all() -> int:
    """What `table`, `status`, `show`, `studies` and `verify` read; gives how many trials are not done then."""
    store, file, _ = finished()
    fresh = Store(store.root)
    for read in (_table, _by_name, lambda: list_studies(fresh), lambda: verify(fresh)):
        with contextlib.suppress(AblateError):
            read()
    study = load_study(file)
    plan = plan_study(study, fresh)
    for trial in plan.ready:
        status_of(trial, fresh)
    json.dumps(list_trials(plan, ""))
    return len(plan.ready) - count_statuses(plan)["trials"]["done"]


def _table() -> None:
    store, file, _ = finished()
    table = build_table(plan_study(load_study(file), Store(store.root)))
    assert table.markdown() and table.csv() and table.latex() and table.html()
    json.dumps(table.json(), allow_nan=False)


def _by_name() -> None:
    find_study(StudyRequest("tiny"), Store(finished()[0].root))


def contents(kind: str) -> Any:
    """The content of a changed file: mostly JSON."""
    good = st.deferred(lambda: changed(originals(kind)).map(lambda value: json.dumps(value).encode()))
    return (
        good
        | good
        | st.tuples(good, st.integers(0, 400), st.binary(max_size=3)).map(
            lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] + 1 :]
        )
        | st.sampled_from(
            [b"", b"null", b"[]", b"3", b'"x"', b"[" * 100_000, b"{" * 9, b"\x00" * 50, b"\xff\xfe", b"9" * 9000]
        )
    )


@fuzzed(0.06, contents("record"))
def test_a_changed_record_is_read_or_left_out(content: bytes) -> None:
    store, _, trials = finished()
    with replaced(store.stage(trials[0].signature).record_file, content):
        assert read_all() <= 1, "only the trial itself"


@fuzzed(0.05, contents("card"))
def test_a_changed_card_is_read_or_left_out(content: bytes) -> None:
    store, _, _ = finished()
    with replaced(store.study("tiny", "base").card, content):
        assert read_all() == 0


FILES: dict[str, Callable[[Store, Trial], Path]] = {
    "error.json": lambda store, trial: store.stage(trial.signature).error,
    "running.json": lambda store, trial: store.stage(trial.signature).running,
    "settings.json": lambda store, trial: store.stage(trial.signature).settings,
    "steps.jsonl": lambda store, trial: store.stage(trial.signature).steps,
    "per_image.json": lambda store, trial: store.stage(trial.signature).per_image,
}


@fuzzed(0.03, st.sampled_from(sorted(FILES)), contents("record"))
def test_another_file_of_a_stage_may_hold_anything(name: str, content: bytes) -> None:
    store, _, trials = finished()
    path = FILES[name](store, trials[1])
    path.touch()
    with replaced(path, content):
        assert read_all() == 0
