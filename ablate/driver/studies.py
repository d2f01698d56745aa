"""Studies by file or by name in the store."""

from dataclasses import dataclass
from pathlib import Path

from ablate.errors import Problem, StudyError, nearest
from ablate.plan.plan import Plan
from ablate.store.files import atomic_write, read_json, write_json
from ablate.store.folders import Store
from ablate.study.document import Document, compose, read_document
from ablate.study.shipped import shipped
from ablate.study.study import Study, read_study


@dataclass(frozen=True)
class StudySource:
    """The text of a study, with the scale and the overrides to read it at."""

    document: Document
    scale: str | None
    overrides: tuple[str, ...]


def find_document(reference: str, store: Store, scale: str | None, overrides: tuple[str, ...]) -> StudySource:
    """The text of a study by its file, or by its name in the store as it was last run.

    A name that the store does not hold may be that of an example study. Raises StudyError.
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
    if card is None:
        message = f"{folder.card} is damaged; to write it again, sweep the study's file: ablate sweep STUDY.yaml"
        raise StudyError([Problem(str(store.root), 0, 0, message)])
    named = None if card["scale"] == "base" else card["scale"]
    text = card.get("text")  # cards of older stores lack it
    document = read_document(folder.source) if text is None else compose(text, str(folder.source))
    return StudySource(document, named, (*card["overrides"], *overrides))


def find_study(reference: str, store: Store, scale: str | None, overrides: tuple[str, ...], *, gpu: bool) -> Study:
    """A study by its file or its name in the store. Raises StudyError."""
    found = find_document(reference, store, scale, overrides)
    return read_study(found.document, found.scale, found.overrides, gpu=gpu)


def check_name(study: Study, store: Store) -> None:
    """Raise StudyError if the store holds another study, that is another question, under this name."""
    for scale in store.studies().get(study.name, []):
        card = read_json(store.study(study.name, scale).card)
        if card and card["question"].split() != study.question.split():
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
    with atomic_write(folder.source) as temporary:
        temporary.write_text(study.document.text, encoding="utf-8")
    card = {
        "name": study.name, "question": study.question, "file": study.document.file, "scale": study.scale,
        "overrides": list(study.overrides), "trials": [trial.signature for trial in plan.ready],
        "text": study.document.text,
    }  # fmt: skip
    write_json(folder.card, {**card, "mirrored": before.get("mirrored")})
