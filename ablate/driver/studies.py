"""Studies by file or by name in the store."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import Problem, StudyError, nearest
from ablate.plan.plan import Plan
from ablate.slots import discover, registry
from ablate.slots.own_code import OwnCode
from ablate.store.code import fetch, ship
from ablate.store.files import atomic_write, read_json, write_json
from ablate.store.folders import Store
from ablate.study.document import Document, read_document
from ablate.study.shipped import shipped
from ablate.study.study import Study, read_study


@dataclass(frozen=True)
class StudySource:
    """The text of a study, with the scale and the overrides to read it at.

    `note`: what to say of its own levels, which may have changed since the study was last run.
    """

    document: Document
    scale: str | None
    overrides: tuple[str, ...]
    note: str = ""


def find_document(reference: str, store: Store, scale: str | None, overrides: tuple[str, ...]) -> StudySource:
    """The text of a study by its file, or by its name in the store as it was last run.

    A name that the store does not hold may be that of an example study. A study by its name has its own levels as they
    were last run, too, whatever has become of their folders. Raises StudyError.
    """
    path = Path(reference)
    studies = store.studies()
    is_file = path.suffix in {".yaml", ".yml"} or path.is_file() or (path.exists() and reference not in studies)
    if is_file or (reference in shipped() and reference not in studies):
        return StudySource(read_document(path), scale, overrides)
    if reference not in studies or (scale and scale not in studies[reference]):
        held = ", ".join(f"{name} ({' '.join(scales)})" for name, scales in studies.items()) or "none"
        wanted = f"study '{reference}'" + (f" at scale '{scale}'" if scale else "")
        hint = nearest(reference, studies).partition(" (valid")[0]
        message = f"the store holds no {wanted}, and there is no such file; it holds: {held}{hint}"
        raise StudyError([Problem(str(store.root), 0, 0, message)])
    folder = store.study(reference, scale or studies[reference][0])
    card = read_json(folder.card)
    named = None if card["scale"] == "base" else card["scale"]
    document = read_document(folder.source)
    document.own, note = _own_code(card, store)
    return StudySource(document, named, (*card["overrides"], *overrides), note)


def _own_code(card: dict[str, Any], store: Store) -> tuple[OwnCode, str]:
    """The own code that a study was last run with, and a note where its present files differ.

    Where the store has lost it, the folders that the card names are read. Raises StudyError where these are gone too.
    """
    if discover.given or not card.get("code"):
        found = discover.discover(None)
        found.study = Path(card["folder"]) if card.get("folder") else None
        return found, ""
    code = fetch(card["code"], store)
    if code is None:
        folders = [Path(path) for path in card["components"]]
        if missing := ", ".join(str(path) for path in folders if not path.is_dir()):
            message = (
                f"the study has own code, and both its copy in the store ({store.code(card['code'])}) and the folder "
                f"{missing} are gone; restore one of them, or name the folder by --components DIR"
            )
            raise StudyError([Problem(card["file"], 0, 0, message)])
        found = discover.discover(None, folders)
        found.study = Path(card["folder"]) if card.get("folder") else None
        return found, f"{store.code(card['code'])} is gone; the present own code is used"
    changed = [str(file) for file, content in _files(code) if file.is_file() and file.read_bytes() != content]
    gone = sorted({str(folder.path) for folder in code.folders if not folder.path.is_dir()})
    if not changed and not gone:
        return code, ""
    copy = f"a study by its name has its own code as it was last run, from {store.code(card['code'])}"
    if changed:
        present = f"name its file, {card['file']}, for the present code"
        return code, f"changed since the study was last run: {_listed(changed)}; {copy} ({present})"
    return code, f"no longer there: {_listed(gone)}; {copy}"


def _files(code: OwnCode) -> Iterator[tuple[Path, bytes]]:
    """The files of own code, with their content when it was last run."""
    for folder in code.folders:
        yield from ((folder.path / name, content) for name, content in folder.files.items())
    yield from ((Path(module.path), module.source) for module in code.modules.values())


def _listed(names: list[str]) -> str:
    """Names with commas; of more than three the first two."""
    return ", ".join(names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"])


def find_study(reference: str, store: Store, scale: str | None, overrides: tuple[str, ...], *, gpu: bool) -> Study:
    """A study by its file or its name in the store. Raises StudyError."""
    found = find_document(reference, store, scale, overrides)
    return read_study(found.document, found.scale, found.overrides, gpu=gpu)


def check_name(study: Study, store: Store) -> None:
    """Raise StudyError if the store holds another study, that is another question, under this name."""
    for scale in store.studies().get(study.name, []):
        card = read_json(store.study(study.name, scale).card)
        if card["question"].split() != study.question.split():
            message = (
                f"the store {store.root} holds another study named '{study.name}', which asks: {card['question']!r} "
                f"(from {card['file']}); rename this one or use another --store"
            )
            raise StudyError([study.document.problem(("study",), message)])


def write_card(plan: Plan) -> None:
    """Write the study file and its card (scale, overrides, trials) to the store.

    With them, later commands find the study by name.
    """
    study = plan.study
    folder = plan.store.study(study.name, study.scale)
    before = read_json(folder.card) or {}
    code = registry.own()
    own = {"code": ship(code, plan.store), "components": [str(one.path) for one in code.folders]} if code else {}
    own |= {"folder": str(code.study)} if code.study else {}
    with atomic_write(folder.source) as temporary:
        temporary.write_text(study.document.text, encoding="utf-8")
    card = {
        "name": study.name, "question": study.question, "file": study.document.file, "scale": study.scale,
        "overrides": list(study.overrides), "trials": [trial.signature for trial in plan.ready], **own,
    }  # fmt: skip
    write_json(folder.card, {**card, "mirrored": before.get("mirrored")})
