"""The committed tables are those of the committed records, byte for byte.

The code of levels may have changed since: the table then says so, and `make results` names the study.
"""

import re
from pathlib import Path

import pytest

from tests.support.command import inside

RESULTS = Path(__file__).parents[2] / "analysis" / "results"
STALE = re.compile(r"^(?:- Warning|% warning): the code of .* has changed since .*\n(?:(?=\n)\n)?", re.M)
"""The warning that the code of levels has changed, with the blank line after it in Markdown."""

FOLDERS = sorted(path.parent for path in RESULTS.glob("*/records.jsonl"))


@pytest.mark.parametrize("form, suffix", [("markdown", "md"), ("latex", "tex")])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_table_of_the_records_is_the_committed_one(folder: Path, form: str, suffix: str) -> None:
    done = inside("table", "--records", folder / "records.jsonl", "--format", form)
    assert (done.returncode, done.stderr) == (0, "")
    assert STALE.sub("", done.stdout) == (folder / f"table.{suffix}").read_text()


def test_there_are_results() -> None:
    assert FOLDERS


def test_the_table_of_the_readme_is_the_committed_one() -> None:
    committed = (RESULTS / "grid_and_border" / "table.md").read_text()
    readme = (RESULTS.parents[1] / "README.md").read_text()
    rows = [line for line in committed.splitlines() if line.startswith("|")]
    assert len(rows) == 8 and "\n".join(rows) in readme
    answer = committed[committed.index("Answer:") :]
    told = " ".join(readme[readme.index("> Answer:") :].replace("\n> ", " ").split())
    for number in ("+4.838 gl [+2.519, +7.158]", "48.4 ×", "+0.36 dB [−1.67, +2.38]", "17 seeds would detect 0.5 dB"):
        assert number in answer and number in told


def test_the_claims_of_the_readme_are_the_committed_ones() -> None:
    committed = (RESULTS / "vivat_losses" / "table.md").read_text()
    found = {
        cells[0]: (cells[2].split("[")[0], cells[2].partition("[")[2], cells[5])
        for line in committed[committed.index("| claim |") :].splitlines()
        if (cells := [" ".join(cell.split()) for cell in line.strip("|").split("|")])[0][:1] in {"A", "B", "C"}
        and len(cells) == 6
    }
    readme = (RESULTS.parents[1] / "README.md").read_text()
    told = re.findall(r"^\| ([ABC]\d\w): .* \| (\S+)[^|]*\[([^|]+) \| ([^|]+) \|$", readme, re.M)
    assert len(told) == 8
    for claim, value, interval, verdict in told:
        assert (value, "".join(interval.split()), verdict) == (
            found[claim][0].strip(), "".join(found[claim][1].split()), found[claim][2],
        )  # fmt: skip
    verdicts = [verdict for _, _, verdict in found.values()]
    counts = [sum(one.startswith(word) for one in verdicts) for word in ("reproduced", "opposite", "no effect", "not")]
    assert (
        f"Of its {len(found)} claims {sum(counts[:3])} are decided: {counts[0]} reproduced, {counts[1]} opposite,"
        in (" ".join(readme.split()))
    )


def test_what_the_readme_says_of_the_remedies_is_committed() -> None:
    committed = (RESULTS / "vivat_artifacts" / "table.md").read_text()
    readme = " ".join((RESULTS.parents[1] / "README.md").read_text().split())
    found = {
        cells[0]: ("".join(cells[2].split()), cells[5])
        for line in committed[committed.index("| claim |") :].splitlines()
        if re.fullmatch(r"[A-F]\d\w", (cells := [cell.strip() for cell in line.strip("|").split("|")])[0])
    }
    decided = sum(verdict.startswith(("reproduced", "opposite", "no effect")) for _, verdict in found.values())
    absent = sum(verdict == "not observed" for _, verdict in found.values())
    assert f"{decided} of its {len(found)} claims are decided, {absent} are about artifacts that do not" in readme
    assert found["D1a"] == ("−3.05[−5.06,−1.03]", "reproduced") and "(−3.05 gl [−5.06, −1.03])" in readme
    assert found["D2a"] == ("+0.74[+0.63,+0.84]", "opposite") and "0.74 gl [0.63, 0.84] are left" in readme
