"""`make results`: what the committed results lack or have outlived; with STUDIES, run these and write their results.

A folder `analysis/results/NAME` holds `records.jsonl` (all records of a study, for `--records`), and `table.md` and
`table.tex`, which are made from it alone. Nothing is run without being named: all studies together take hours.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ablate.analysis.records.frame import frame_of
from ablate.analysis.tables.likeness import warnings
from ablate.driver.records_file import plan_recorded
from ablate.driver.studies import StudyRequest
from ablate.errors import AblateError
from ablate.study.document import read_document

RESULTS = Path(__file__).parent
STUDIES = RESULTS.parents[1] / "search_spaces"
ABLATE = [sys.executable, "-m", "ablate.cli"]
SCALE = "cpu"


def main(names: list[str], store: str) -> None:
    """List what is to be done, or do it for the named studies. Exits with an error for an unknown name."""
    known = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    if unknown := set(names) - set(known):
        sys.exit(f"unknown study '{unknown.pop()}'; valid: {', '.join(known)}")
    for name in names:
        run(name, store)
    if not names:
        for name in known:
            print(f"{name:24} {'; '.join(state(name)) or 'up to date'}")  # noqa: T201
        print("to run some: make results STUDIES='NAME NAME'")  # noqa: T201


def run(name: str, store: str) -> None:
    """Sweep a study and write its results."""
    study = str(STUDIES / f"{name}.yaml")
    scale = scale_of(name)
    subprocess.run([*ABLATE, "sweep", study, *scale, "--store", store, "--rerun", "stale"], check=True)
    folder = RESULTS / name
    folder.mkdir(exist_ok=True)
    records = folder / "records.jsonl"
    records.write_text(printed("table", study, *scale, "--store", store, "--format", "records"))
    for form, suffix in (("markdown", "md"), ("latex", "tex")):
        (folder / f"table.{suffix}").write_text(printed("table", "--records", str(records), "--format", form))


def scale_of(name: str) -> list[str]:
    """The options that name the scale; none for a study without the scale."""
    return ["--scale", SCALE] if SCALE in read_document(STUDIES / f"{name}.yaml").data.get("scales", {}) else []


def printed(*arguments: str) -> str:
    """What a command prints."""
    return subprocess.run([*ABLATE, *arguments], check=True, capture_output=True, text=True).stdout


def state(name: str) -> Iterator[str]:
    """What the results of a study lack, or what they have outlived; nothing if they are up to date."""
    records = RESULTS / name / "records.jsonl"
    if not records.exists():
        yield "no results"
        return
    try:
        scale = SCALE if scale_of(name) else None
        plan, notes = plan_recorded(StudyRequest(str(STUDIES / f"{name}.yaml"), scale), records)
    except AblateError as error:
        yield f"stale: {error}"
        return
    yield from (f"stale: {note}" for note in notes)
    _, outdated = warnings(frame_of(plan), plan)
    if outdated:
        yield f"stale: {outdated.partition(';')[0]}"


if __name__ == "__main__":
    try:
        main(sys.argv[2:], sys.argv[1])
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues")
    except subprocess.CalledProcessError as error:  # the command has said why
        sys.exit(error.returncode)
