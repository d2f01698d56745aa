"""A study's records in one file, from which its tables and figures are made without the store that they come from.

The file is JSON lines. The first holds the study's text, scale and overrides, and what its results have added (search,
tuning, pruning, seeds); then follows a line per record, without the units of metrics, which the probes declare. Each
line has a checksum that also covers the one before. There are no checkpoints, pictures or logs, and no own levels.
"""

import atexit
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ablate.adaptive.recall import plan_study
from ablate.driver.studies import StudyRequest, find_study
from ablate.errors import UsageError
from ablate.plan.plan import Plan
from ablate.store.card import read_card
from ablate.store.checksum import Damaged, open_line, seal_line
from ablate.store.files import atomic_write, read_json, write_json
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.store.scratch import scratch_folder
from ablate.study.scales import name_variant

FORMAT = 1

STATE = re.compile(r"(searched|replicates|rungs|tuning/[0-9A-Za-z_-]+)\.json")
"""Files of a study's folder that hold what its results have added."""

_unpacked = ExitStack()
atexit.register(_unpacked.close)


@dataclass(frozen=True)
class Recorded:
    """A records file as a store of its own, for as long as this process lives. `signatures`: of its records."""

    file: Path
    name: str
    scale: str
    overrides: tuple[str, ...]
    store: Store
    signatures: frozenset[str]


def pack(plan: Plan) -> Iterator[str]:
    """The lines of a records file: the study, then the record of each finished trial in the order of the plan."""
    study = plan.study
    folder = plan.store.study(study.name, study.variant)
    records = {trial.signature: plan.store.stage(trial.signature).record() for trial in plan.ready}
    finished = [record for record in records.values() if record]
    files = (path for pattern in ("*.json", "tuning/*.json") for path in sorted(folder.root.glob(pattern)))
    state = {name: read_json(path) for path in files if STATE.fullmatch(name := str(path.relative_to(folder.root)))}
    head = {
        "ablate_records": FORMAT, "name": study.name, "question": study.question, "scale": study.scale,
        "overrides": list(study.overrides), "text": study.document.text, "state": state, "records": len(finished),
    }  # fmt: skip
    line, checksum = seal_line(head, "")
    yield line
    for record in finished:
        line, checksum = seal_line({**asdict(record), "info": {}}, checksum)
        yield line


def unpack(file: Path) -> Recorded:
    """Read a records file. Raises UsageError, with the line, for one that cannot be read or was changed."""
    head, records = _read(file)
    root = _unpacked.enter_context(scratch_folder("ablate-records"))
    store = Store(root)
    scale, overrides = str(head["scale"]), tuple(head["overrides"])
    folder = store.study(head["name"], name_variant(scale, overrides))
    card = {name: head[name] for name in ("name", "question", "scale", "overrides", "text")}
    write_json(
        folder.card,
        {**card, "file": f"{head['name']}.yaml", "trials": [record.signature for record in records]},
        durable=False,
    )
    if not read_card(folder.card):
        raise UsageError(f"{file}:1: the study is not as a records file holds it")
    with atomic_write(folder.source, durable=False) as temporary:
        temporary.write_text(head["text"], encoding="utf-8")
    for name, value in head["state"].items():
        write_json(folder.root / name, value, durable=False)
    for record in records:
        write_json(store.stage(record.signature).record_file, asdict(record), durable=False)
    return Recorded(file, head["name"], scale, overrides, store, frozenset(record.signature for record in records))


def _read(file: Path) -> tuple[dict[str, Any], list[Record]]:
    """The first line and the records of a file, each of which was verified."""
    try:
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    checksum = ""
    head: dict[str, Any] = {}
    records: list[Record] = []
    for number, line in enumerate(lines, 1):
        try:
            if number > 1 and '"ablate_records"' in line[:40]:
                raise Damaged("a second study begins; give the records of one study at one scale")
            value, checksum = open_line(line, checksum)
            if number == 1:
                _check_head(value)
                head = value
            else:
                records.append(Record.read(value, _name(value.get("signature"))))
        except Damaged as error:
            raise UsageError(f"{file}:{number}: {error}") from None
    if not head or len(records) != head["records"]:
        raise UsageError(f"{file}: it is cut short: found {len(records)} of {head.get('records', 'its')} records")
    return head, records


def _check_head(head: dict[str, Any]) -> None:
    """Raise Damaged if the first line is not that of a records file."""
    if head.get("ablate_records") != FORMAT:
        raise Damaged(
            f"it is no records file of format {FORMAT}; to write one: ablate table STUDY --format records > FILE"
        )
    kinds = {"name": str, "scale": str, "text": str, "question": str, "overrides": list, "state": dict}
    wrong = [name for name, kind in {**kinds, "records": int}.items() if not isinstance(head.get(name), kind)]
    if not wrong and not all(isinstance(text, str) for text in head["overrides"]):
        wrong = ["overrides"]
    if not wrong and not all(map(STATE.fullmatch, head["state"])):
        wrong = ["state"]
    if wrong:
        raise Damaged(f"its entry '{wrong[0]}' is not one of a records file")
    _name(head["scale"])
    _name(head["name"])


def _name(value: Any) -> str:
    """A value that names a folder. Raises Damaged if it is not one."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w-]{1,200}", value):
        raise Damaged(f"{value!r:.60} is no name")
    return value


def plan_recorded(wanted: StudyRequest | None, file: Path) -> tuple[Plan, list[str]]:
    """The plan of a study whose records are in a file, and notes for the user.

    `wanted`: the study as it is now; None for the study as it was when the records were made. Raises UsageError where
    the records are of another study, scale or overrides.
    """
    recorded = unpack(file)
    reference = wanted.reference if wanted else recorded.name
    scale = (wanted and wanted.scale) or (None if recorded.scale == "base" else recorded.scale)
    overrides = (wanted.overrides if wanted else ()) or recorded.overrides
    study, note = find_study(StudyRequest(reference, scale, overrides), recorded.store)
    if study.name != recorded.name:
        raise UsageError(f"--records {file}: these are records of study '{recorded.name}', not of '{study.name}'")
    if study.variant != name_variant(recorded.scale, recorded.overrides):
        held, asked = _run(recorded.scale, recorded.overrides), _run(study.scale, overrides)
        raise UsageError(f"--records {file}: its records are of {held}, not of {asked}")
    plan = plan_study(study, recorded.store)
    return plan, [*([note] if note else []), *_doubts(plan, recorded)]


def _run(scale: str, overrides: tuple[str, ...]) -> str:
    """How a study was run or is to be read."""
    return f"scale {scale}" + "".join(f" --set {text}" for text in overrides)


def _doubts(plan: Plan, recorded: Recorded) -> Iterator[str]:
    """What a reader of the table must know of the records: which are of no trial, and whether the baseline's are there.

    Raises UsageError if no record is of a trial of the study.
    """
    known = {trial.signature for trial in plan.ready}
    unknown = len(recorded.signatures - known)
    way_out = f"without STUDY, the table is that of the study as it was: ablate table --records {recorded.file}"
    changed = f"{plan.study.document.file} has changed since the records were made"
    if recorded.signatures and unknown == len(recorded.signatures):
        raise UsageError(
            f"--records {recorded.file}: none of its records is of a trial of the study: {changed}; {way_out}"
        )
    if unknown:
        total = len(recorded.signatures)
        yield f"{unknown} of {total} records are of no trial of the study: {changed}; {way_out}"
    baseline = {trial.signature for trial in plan.trials if trial.treatment.is_baseline}
    if not baseline & recorded.signatures:
        yield "the records lack the baseline, with which treatments are compared"
