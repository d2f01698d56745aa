"""The committed tables are those of the committed records, byte for byte."""

from pathlib import Path

import pytest

from tests.support.command import inside

RESULTS = Path(__file__).parents[2] / "analysis" / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/records.jsonl"))


@pytest.mark.parametrize("form, suffix", [("markdown", "md"), ("latex", "tex")])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_table_of_the_records_is_the_committed_one(folder: Path, form: str, suffix: str) -> None:
    done = inside("table", "--records", folder / "records.jsonl", "--format", form)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (folder / f"table.{suffix}").read_text()


def test_there_are_results() -> None:
    assert FOLDERS
