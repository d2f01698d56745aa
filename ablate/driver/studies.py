"""Studies by file or by name in the store."""

from pathlib import Path

from ablate.errors import Problem, StudyError
from ablate.plan.plan import Plan
from ablate.store.files import atomic_write, read_json, write_json
from ablate.store.folders import Store
from ablate.study.document import parse
from ablate.study.shipped import shipped
from ablate.study.study import Study, load_study, read_study


def find_study(reference: str, store: Store, scale: str | None, overrides: tuple[str, ...], *, gpu: bool) -> Study:
    """A study by its file, or by its name in the store as it was last run.

    A name that the store does not hold may be that of an example study. Raises StudyError.
    """
    is_file = Path(reference).suffix in {".yaml", ".yml"} or Path(reference).exists()
    studies = {} if is_file else store.studies()
    if is_file or (reference in shipped() and reference not in studies):
        return load_study(Path(reference), scale, overrides, gpu=gpu)
    if reference not in studies or (scale and scale not in studies[reference]):
        held = ", ".join(f"{name} ({' '.join(scales)})" for name, scales in studies.items()) or "none"
        wanted = f"study '{reference}'" + (f" at scale '{scale}'" if scale else "")
        raise StudyError([Problem(str(store.root), 0, 0, f"the store holds no {wanted}; it holds: {held}")])
    folder = store.study(reference, scale or studies[reference][0])
    card = read_json(folder.card)
    document = parse(folder.source.read_text(encoding="utf-8"), str(folder.source))
    named = None if card["scale"] == "base" else card["scale"]
    return read_study(document, named, (*card["overrides"], *overrides), gpu=gpu)


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
    """Keep the study as it is run, so that its name alone finds it again."""
    study = plan.study
    folder = plan.store.study(study.name, study.scale)
    before = read_json(folder.card) or {}
    with atomic_write(folder.source) as temporary:
        temporary.write_text(study.document.text, encoding="utf-8")
    card = {
        "name": study.name, "question": study.question, "file": study.document.file, "scale": study.scale,
        "overrides": list(study.overrides), "trials": [trial.signature for trial in plan.ready],
    }  # fmt: skip
    write_json(folder.card, {**card, "mirrored": before.get("mirrored")})
