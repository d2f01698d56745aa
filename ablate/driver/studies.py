"""Studies by file or by name in the store, and what every command and the Python API do to open one."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.driver.own_code import own_code_of
from ablate.driver.preflight import Validated, validate
from ablate.errors import Problem, StudyError, nearest
from ablate.plan.plan import Plan
from ablate.schedule.resources import gpu_count
from ablate.slots import registry
from ablate.store.card import read_card
from ablate.store.code import ship
from ablate.store.files import atomic_write, write_json
from ablate.store.folders import Store, StudyFolder
from ablate.study.document import Document, compose, read_document
from ablate.study.scales import name_variant
from ablate.study.shipped import near_file, shipped
from ablate.study.study import Study, read_study


@dataclass(frozen=True)
class StudyRequest:
    """A study as a user asks for it: its file or its name in the store, a scale, and what `--set` changes."""

    reference: str
    scale: str | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudySource:
    """The text of a study, with the scale and the overrides to read it at. `note`: what a user may not expect."""

    document: Document
    scale: str | None
    overrides: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class StoredStudy:
    """A study in the store, at one scale and with what `--set` changed. `card`: what `write_card` has written."""

    name: str
    folder: StudyFolder
    card: dict[str, Any]

    @property
    def scale(self) -> str:
        return str(self.card["scale"])

    @property
    def overrides(self) -> tuple[str, ...]:
        return tuple(self.card["overrides"])


def stored_studies(store: Store) -> list[StoredStudy]:
    """The studies in the store, the one run last first; without those whose card is damaged, which `status` names."""
    found = []
    for name, variants in store.studies().items():
        for variant in variants:
            folder = store.study(name, variant)
            if card := read_card(folder.card):
                found.append(StoredStudy(name, folder, card))
    return sorted(found, key=lambda study: -study.folder.card.stat().st_mtime)


def find_document(wanted: StudyRequest, store: Store) -> StudySource:
    """The text of a study by its file, or by its name in the store as it was last run.

    A name that the store does not hold may be that of an example study. A name without overrides stands for the study
    as it was run without `--set`, or else for its only run with `--set`. It has its own levels as they were
    last run, too, whatever has become of their folders. Raises StudyError.
    """
    reference = wanted.reference
    path = Path(reference).expanduser()
    stored = stored_studies(store)
    names = {study.name for study in stored}
    is_file = path.suffix in {".yaml", ".yml"} or path.is_file() or (path.exists() and reference not in names)
    if is_file or (reference in shipped() and reference not in names):
        return StudySource(read_document(path), wanted.scale, wanted.overrides)
    known = [study for study in stored if study.name == reference and wanted.scale in {None, study.scale}]
    if not known:
        raise StudyError([Problem(str(store.root), 0, 0, _not_stored(wanted, store, stored))])

    # The run to take its text from: without `--set` rather than with, the last one rather than those before
    plain = [study for study in known if not study.overrides]
    scale = (plain or known)[0].scale
    known = [study for study in known if study.scale == scale]
    plain = [study for study in plain if study.scale == scale]
    named = None if scale == "base" else scale
    if wanted.overrides:
        asked = name_variant(scale, wanted.overrides)
        same = [study for study in known if name_variant(scale, study.overrides) == asked]
        source = (same or plain or known)[0]
        return _stored(source, named, wanted.overrides, store)
    if plain:
        return _stored(plain[0], named, (), store)
    if len(known) > 1:
        ways = "; or ".join(_options(study.overrides) for study in known)
        message = f"study '{reference}' was run only with --set, in {len(known)} ways; add one of them: {ways}"
        raise StudyError([Problem(str(store.root), 0, 0, message)])
    note = f"study '{reference}' was run only with {_options(known[0].overrides)}; this is that run"
    return _stored(known[0], named, known[0].overrides, store, note)


def _stored(
    study: StoredStudy, scale: str | None, overrides: tuple[str, ...], store: Store, note: str = ""
) -> StudySource:
    """The text of a study in the store, with its own code."""
    text = study.card.get("text")  # cards of older stores lack it
    document = read_document(study.folder.source) if text is None else compose(text, str(study.folder.source))
    document.own, of_code = own_code_of(study.card, store)
    return StudySource(document, scale, overrides, "; ".join(filter(None, (note, of_code))))


def _not_stored(wanted: StudyRequest, store: Store, stored: list[StoredStudy]) -> str:
    """Why there is no such study, and which there are."""
    scales: dict[str, list[str]] = {}
    for study in stored:
        if study.scale not in scales.setdefault(study.name, []):
            scales[study.name].append(study.scale)
    subject = f"study '{wanted.reference}'" + (f" at scale '{wanted.scale}'" if wanted.scale else "")
    near = near_file(Path(wanted.reference))
    known = nearest(wanted.reference, {*scales, *shipped()}).partition(" (valid")[0]
    is_file = near is not None and (near.stem == wanted.reference or not known)
    hint = f"; did you mean the file '{near}'?" if is_file else "" if wanted.reference in scales else known
    if not store.root.exists():
        way_out = "run a study first (ablate sweep STUDY.yaml), or name its store with --store"
        return f"there is no such store, and no file or example of the name '{wanted.reference}'; {way_out}{hint}"
    if wanted.reference in store.studies() and wanted.reference not in scales:
        return f"the card of study '{wanted.reference}' is damaged; to write it again: ablate sweep STUDY.yaml"
    held = ", ".join(f"{name} ({' '.join(names)})" for name, names in scales.items()) or "none"
    return f"the store holds no {subject}, and there is no such file; it holds: {held}{hint}"


def _options(overrides: Iterable[str]) -> str:
    """The options of a command line that make these changes."""
    return shlex.join(word for text in overrides for word in ("--set", text))


def find_study(wanted: StudyRequest, store: Store) -> tuple[Study, str]:
    """A study by its file or its name in the store, and a note for the user or "". Raises StudyError."""
    found = find_document(wanted, store)
    return read_study(found.document, found.scale, found.overrides, gpu=gpu_count() > 0), found.note


def validate_study(found: StudySource, store: Store) -> Validated:
    """A study checked as `ablate check` does. Raises StudyError, also where another study in the store has its name."""
    checked = validate(found.document, found.scale, found.overrides, gpu=gpu_count() > 0)
    check_name(checked.study, store)
    return checked


def check_name(study: Study, store: Store) -> None:
    """Raise StudyError if the store holds another study, that is another question, under this name."""
    for held in stored_studies(store):
        if held.name == study.name and held.card["question"].split() != study.question.split():
            message = (
                f"the store {store.root} holds another study named '{study.name}', which asks: "
                f"{held.card['question']!r} (from {held.card['file']}); rename this one or use another --store"
            )
            raise StudyError([study.document.problem(("study",), message)])


def write_card(plan: Plan) -> None:
    """Write the study file and its card (scale, overrides, trials) to the store.

    With them, later commands find the study by name.
    """
    study = plan.study
    folder = plan.store.study(study.name, study.variant)
    before = read_card(folder.card)
    code = registry.own()
    own = {"code": ship(code, plan.store), "components": [str(one.path) for one in code.folders]} if code else {}
    own |= {"folder": str(code.study)} if code.study else {}
    with atomic_write(folder.source) as temporary:
        temporary.write_text(study.document.text, encoding="utf-8")
    card = {
        "name": study.name, "question": study.question, "file": study.document.file, "scale": study.scale,
        "overrides": list(study.overrides), "trials": [trial.signature for trial in plan.ready], **own,
        "text": study.document.text,
    }  # fmt: skip
    write_json(folder.card, {**card, "mirrored": before.get("mirrored")})
