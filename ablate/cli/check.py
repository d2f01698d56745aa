"""`ablate check`."""

from typing import Any

import typer

from ablate.adaptive.search import future_suggestions
from ablate.adaptive.tuning import tuning_search
from ablate.cli.options import Components, Json, Scale, Set, StudyFile, print_notes
from ablate.cli.output import emit
from ablate.errors import Problem, StudyError
from ablate.plan.known import NOTHING
from ablate.plan.treatments import treatments
from ablate.schedule.resources import gpu_count
from ablate.study.document import read_document
from ablate.study.study import Study


def check(
    study: StudyFile, scale: Scale = None, set_: Set = None, components: Components = None, as_json: Json = False
) -> None:
    """Check a study: every error at once, with its line and column. Starts nothing.

    It refuses what `sweep` would refuse: keys, levels and settings that are not valid or contradict each other, folders
    and weights that are missing, pictures too small for a probe, and any treatment whose model cannot be built.

    Every scale of the file is checked. At the scale that --scale names, trials are counted and missing folders or
    weights are errors; at other scales they are only notes. --set applies to that scale only.

    Only the headers of pictures are read. Truncated pictures are found by `sweep` and `plan --measure`, which decode
    them.
    """
    from ablate.driver.preflight import validate

    try:
        checked = validate(read_document(study), scale, tuple(set_ or ()), gpu=gpu_count() > 0)
        count = count_trials(checked.study)
    except StudyError as error:
        if not as_json:
            raise
        emit({"ok": False, "errors": [_plain(problem) for problem in error.problems], "notes": []})
        raise typer.Exit(2) from None
    if as_json:
        emit({"ok": True, "errors": [], "notes": [*checked.notes, *checked.missing]})
        return
    print_notes([*checked.notes, *checked.missing])
    print(f"{study}: good ({count})")  # noqa: T201


def _plain(problem: Problem) -> dict[str, Any]:
    return {key: getattr(problem, key) for key in ("file", "line", "column", "message")}


def count_trials(study: Study) -> str:
    """How many treatments and trials a study has, as text. Raises StudyError where levels contradict each other."""
    rows = treatments(study)
    count = len(rows) + future_suggestions(study, NOTHING)
    least = f"{count * study.seed_bounds[0]} to " if study.seed_bounds else ""
    text = f"scale {study.scale}: {count} treatments, {least}{count * len(study.seeds)} trials"
    if tuning := study.tuning:
        settings = sum(1 + future_suggestions(tuning_search(study, row.changed), NOTHING) for row in rows)
        text += f", {settings * len(tuning.seeds)} more to tune them"
    return text
