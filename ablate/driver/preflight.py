"""Looked at before anything starts: pictures and weights, probes against pictures, models that cannot be built."""

from ablate.adaptive.search import one_trial_per_level
from ablate.errors import KeyPath, Problem, StudyError
from ablate.identity import signature
from ablate.plan.trials import Trial, expand
from ablate.recipe.recipe import Part, Recipe, weight
from ablate.store.folders import Store
from ablate.study.study import Study, read_study


def preflight(study: Study, trials: list[Trial]) -> None:
    """Raise StudyError for missing pictures or weights and too small pictures: all that needs no model to be seen."""
    seen: set[str] = set()
    problems = []
    for trial in trials:
        recipe = trial.treatment.recipe
        used = [(f"base.{slot}", part) for slot, part in recipe.parts.items()]
        used += [(f"base.loss.{term}", part) for term, part in recipe.losses.items()]
        used += [(f"base.{unit}", part) for own in recipe.own.values() for unit, part in own.items()]
        for path, part in used:
            if path.startswith("base.loss.") and not weight(part):
                continue
            mark = f"{path} {signature(part.plain())}"
            if mark in seen:
                continue
            seen.add(mark)
            problems += _preflight_part(study, tuple(path.split(".")), part)
    for i, probe in enumerate(study.probes):
        problems += _preflight_part(study, ("probes", i), probe)
    problems = problems or _mismatches(study, trials)
    problems += _unfit(study, trials)
    if problems:
        raise StudyError(problems)


def check_scales(study: Study) -> None:
    """Raise StudyError for contradictions and unfit pictures at any scale of a study, not only at its own."""
    for scale in study.document.data.get("scales", {}):
        scaled = read_study(study.document, scale, study.overrides, gpu=False)
        if problems := _unfit(scaled, [*expand(scaled), *one_trial_per_level(scaled)]):
            raise StudyError(problems)


def _unfit(study: Study, trials: list[Trial]) -> list[Problem]:
    """Probes that the held-out pictures are too small for, or that the crops do not suit, each named once."""
    problems: dict[int, Problem] = {}
    for trial in trials:
        parts = trial.treatment.recipe.parts
        stride, pictures = parts["model"].settings.stride, parts["data"].settings
        side, frames = pictures.heldout_size, pictures.heldout_length
        for i, probe in enumerate(study.probes):
            short = probe.settings.shortest() if hasattr(probe.settings, "shortest") else 1
            if (least := probe.settings.smallest(stride)) > side:
                found = f"data.heldout_size {side}"
                what = f"needs held-out pictures of {least} px or more at stride {stride}, found {found}"
            elif short > frames:
                found = f"data.heldout_frames {frames}" if frames > 1 else "pictures"
                what = f"needs held-out clips of {short} frames or more, found {found}"
            elif hasattr(probe.settings, "unfit") and (reason := probe.settings.unfit(stride, pictures.crop)):
                what = f"cannot examine crops of {pictures.crop} px at stride {stride}: {reason}"
            else:
                continue
            message = f"probe '{probe.level}' {what} (treatment '{trial.treatment.label}', scale {study.scale})"
            problems.setdefault(i, study.document.problem(("probes", i), message))
    return list(problems.values())


def _mismatches(study: Study, trials: list[Trial]) -> list[Problem]:
    """Initial weights that are of another model than the recipe's, named once."""
    for trial in trials:
        init, recipe = trial.treatment.recipe.parts["init"], trial.treatment.recipe.plain()
        if hasattr(init.settings, "mismatch") and (reason := init.settings.mismatch(recipe)):
            message = f"init '{init.level}': {reason} (treatment '{trial.treatment.label}', scale {study.scale})"
            return [study.document.problem(("base", "init"), message)]
    return []


def _preflight_part(study: Study, path: KeyPath, part: Part) -> list[Problem]:
    try:
        part.settings.preflight()
    except ValueError as error:
        return [study.document.problem(path, str(error))]
    return []


def try_models(study: Study, trials: list[Trial]) -> None:
    """Raise StudyError if the model of some treatment cannot be built or does not fit the pictures."""
    from ablate.engine.build import try_build

    built: set[str] = set()
    for trial in trials:
        for recipe in [setup.plain() for setup in trial.treatment.recipe.setups]:
            architecture = signature({slot: part for slot, part in recipe.items() if slot not in {"loss", "stages"}})
            if architecture not in built:
                built.add(architecture)
                try:
                    try_build(recipe)
                except Exception as error:
                    message = f"treatment '{trial.treatment.label}': the model cannot be built: {error}"
                    raise StudyError([study.document.problem(("base", "model"), message)]) from error


def fits(recipe: Recipe) -> bool:
    """Whether the models of a recipe can be built and suit the pictures."""
    from ablate.engine.build import try_build

    try:
        for setup in recipe.setups:
            try_build(setup.plain())
    except Exception:
        return False
    return True


def prepare_data(study: Study, trials: list[Trial], store: Store) -> list[str]:
    """Decode the pictures before any worker needs them; gives the names of damaged files that a data level left out.

    Raises StudyError for pictures that cannot be used.
    """
    from ablate.data.prepare import prepare

    skipped: list[str] = []
    setups = [setup for trial in trials for setup in trial.treatment.recipe.setups]
    for part in {signature(setup.parts["data"].plain()): setup.parts["data"] for setup in setups}.values():
        try:
            skipped += prepare(part.level, part.settings.plain(), store.data).skipped
        except ValueError as error:
            raise StudyError([study.document.problem(("base", "data"), f"data: {error}")]) from None
    return list(dict.fromkeys(skipped))
