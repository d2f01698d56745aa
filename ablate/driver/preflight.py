"""All that is checked of a study before anything starts: `check`, `plan` and `sweep` refuse the same studies.

What depends on the file alone is checked at every scale of the study. What depends on the machine, that is folders,
pictures and weights, is an error at the scale that is to run, and a note at the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ablate.driver.models import ModelCheck
from ablate.driver.scale_check import Case, ScaleCheck
from ablate.driver.unreported import unreported
from ablate.errors import Problem, StudyError
from ablate.plan.labels import format_level, short_names
from ablate.plan.treatments import list_rows
from ablate.plan.trials import Trial
from ablate.redaction import secret_place
from ablate.store.folders import Store
from ablate.study.document import Document
from ablate.study.study import Study, read_draft

MOST_TREATMENTS = 5_000
"""Treatments of a study that are checked one by one. Of more, those with one change, and others at equal distances."""

MOST_ELSEWHERE = 20
"""Different models that are built at each other scale, as `MOST_MODELS` at the one to run."""


@dataclass(frozen=True)
class Validated:
    """A study in which nothing wrong was found.

    `notes`: what was not checked, and what is not reported. `missing`: why other scales cannot run on this machine.
    """

    study: Study
    notes: list[str]
    missing: list[str]


def validate(document: Document, scale: str | None, overrides: tuple[str, ...], *, gpu: bool) -> Validated:
    """Check all of a study: its file, folders and weights, probes and models. Raises StudyError with every problem.

    `overrides` hold at the scale to run alone; the other scales are checked as the file has them.
    """
    draft = read_draft(document, scale, overrides, gpu=gpu)
    if secrets := _secrets(document, overrides):
        raise StudyError([*draft.problems, *secrets])
    check = ScaleCheck(draft.origin, draft.probes, draft.base)
    study = draft.study
    if study is None:
        check.run([Case("baseline", {}, draft.recipe)], complete=draft.complete)
        raise StudyError([*draft.problems, *check.problems, *check.missing])

    rows, problems, notes = _rows(study)
    cases, found = _cases(study, rows)
    problems += [*found, *_paper_problems(study)]
    check.run(cases)
    problems += [*check.problems, *check.missing]
    notes += check.skipped
    found, unreported_notes = unreported(study, (case.recipe for case in cases))
    problems += found
    notes += unreported_notes

    missing: list[str] = []
    for other in _other_scales(study):
        draft = read_draft(document, other, (), gpu="gpu" not in document.data.get("scales", {}), alone=True)
        if draft.study is None:
            problems += draft.problems
            continue
        models = ModelCheck(MOST_ELSEWHERE)
        check = ScaleCheck(draft.origin, draft.probes, draft.base, models=models, seen=check.seen)
        cases, found = _cases(draft.study, rows)
        problems += found
        check.run(cases)
        problems += check.problems
        notes += check.skipped
        found, _ = unreported(draft.study, (case.recipe for case in cases))
        problems += [problem for problem in found if problem not in problems]
        missing += [_note(problem, draft.study.scale) for problem in check.missing]
    if problems:
        raise StudyError(problems)
    return Validated(study, notes, missing)


def _secrets(document: Document, overrides: tuple[str, ...]) -> list[Problem]:
    """Passwords in the text of a study, its comments too, and in what `--set` changes: both are copied."""
    message = (
        "a password or token; a study is copied into the store, its report and MLflow: leave this to an environment "
        "variable, which workers and commands get"
    )
    lines = enumerate(document.text.splitlines(), start=1)
    found = [(number, place, line) for number, line in lines if (place := secret_place(line)) is not None]
    problems = [Problem(document.file, number, place + 1, message, line) for number, place, line in found]
    changes = [text for text in overrides if secret_place(text) is not None]
    return problems + [Problem(f"--set {text}", 0, 0, message) for text in changes]


def _paper_problems(study: Study) -> list[Problem]:
    """What is wrong with the claims of the study's paper."""
    from ablate.analysis import papers

    try:
        if study.paper:
            papers.load(study.paper)
    except StudyError as error:
        return error.problems
    return []


def _rows(study: Study) -> tuple[dict[str, dict[str, Any]], list[Problem], list[str]]:
    """Label -> changed levels of the treatments to check; what is wrong with the designs; what is left out."""
    problems: list[Problem] = []
    notes: list[str] = []
    rows: dict[str, dict[str, Any]] = {"baseline": {}}
    try:
        rows |= {row.label: row.changed for row, *_ in list_rows(study).rows.values()}
    except StudyError as error:
        problems += error.problems
    if len(rows) > MOST_TREATMENTS:
        step = -(-len(rows) // MOST_TREATMENTS)
        kept = {label: levels for i, (label, levels) in enumerate(rows.items()) if len(levels) < 2 or i % step == 0}
        notes.append(f"{len(kept)} of {len(rows)} treatments were checked: each level alone, and one in {step} others")
        rows = kept
    alone = (study.factors if study.search else ()) + (study.tuning.factors if study.tuning else ())
    short = short_names(alone)
    for factor in alone:
        for level in factor.levels[1:] if factor.at_baseline else ():
            rows.setdefault(f"{short[factor.path]}={format_level(level)}", {factor.path: level})
    return rows, problems, notes


def _cases(study: Study, rows: dict[str, dict[str, Any]]) -> tuple[list[Case], list[Problem]]:
    """The treatments of these rows, and contradictions between their levels."""
    cases, problems = [], []
    for label, levels in rows.items():
        try:
            cases.append(Case(label, levels, study.recipe(levels)))
        except StudyError as error:
            problems += error.problems
    return cases, problems


def _other_scales(study: Study) -> Iterator[str | None]:
    """The scales that are not to run; None for the base, unless a machine with and one without a GPU have scales."""
    scales = study.document.data.get("scales", {})
    yield from (scale for scale in scales if scale != study.scale)
    if study.scale != "base" and not {"cpu", "gpu"} <= scales.keys():
        yield None


def _note(problem: Problem, scale: str) -> str:
    """A problem of this machine at a scale that is not to run."""
    position = f"{problem.file}:{problem.line}:{problem.column}" if problem.line else problem.file
    return f"{position}: scale '{scale}' cannot run on this machine: {problem.message}"


def prepare_data(study: Study, trials: list[Trial], store: Store) -> list[str]:
    """Decode the pictures before any worker needs them; says how many files were left out or converted.

    Raises StudyError for pictures that cannot be used.
    """
    from ablate.data.picture import count_changes
    from ablate.data.prepare import prepare

    notes: dict[str, None] = {}
    setups = [setup for trial in trials for setup in trial.treatment.recipe.setups]
    for part in {id(setup.parts["data"]): setup.parts["data"] for setup in setups}.values():
        try:
            corpus = prepare(part.level, part.settings.plain(), store.data)
        except ValueError as error:
            raise StudyError([study.origin.problem(("base", "data"), f"data: {error}")]) from None
        if corpus.skipped:
            notes[f"{len(corpus.skipped)} damaged files left out: {', '.join(corpus.skipped[:5])}"] = None
        if converted := count_changes(corpus.converted):
            notes[converted] = None
    return list(notes)
