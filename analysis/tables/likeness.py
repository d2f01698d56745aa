"""Whether the trials of a table were made by the same code and data, and by those of today, and measured alike."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ablate.identity import canonical
from ablate.plan.commands import sweep_command
from ablate.plan.content import Contents, describe
from ablate.plan.labels import Names
from ablate.plan.plan import Plan
from ablate.plan.treatments import Treatment
from ablate.plan.trials import Trial
from ablate.recipe.recipe import Part, Recipe
from ablate.slots import registry
from ablate.slots.data import ClipSettings
from ablate.store.files import read_json

if TYPE_CHECKING:
    import pandas as pd

TRAINING_ONLY = {"crop", "resize", "flip", "frames"}
"""Settings of data that the held-out pictures do not depend on."""


def held_out(recipe: Recipe) -> str:
    """On which held-out pictures or clips a recipe is measured, such as "32 held-out crops of 64 px"."""
    settings = _measured(recipe).settings
    frames = settings.heldout_length if settings.clip_length > 1 else 1
    what = (
        f"clips of {frames} frames, {settings.heldout_size} px"
        if frames > 1
        else f"crops of {settings.heldout_size} px"
    )
    return f"{settings.heldout_count} held-out {what}"


def unlike(treatments: Sequence[Treatment], names: Names) -> str:
    """A warning that names the treatments that are measured on other pictures than the baseline; empty if none is."""
    data = [_measured(row.recipe) for row in treatments]
    choices = {id(part): _choice_of_heldout(part) for part in {id(part): part for part in data}.values()}
    chosen = [choices[id(part)] for part in data]
    different = [names.treatment(row.label) for row, one in zip(treatments, chosen, strict=True) if one != chosen[0]]
    if not different:
        return ""
    return (
        f"measured on other held-out pictures than the baseline, so a difference need not be one of the models: "
        f"{', '.join(different)}"
    )


def _choice_of_heldout(part: Part) -> str:
    """Those settings of data that decide which pictures are held out."""
    still = isinstance(part.settings, ClipSettings) and part.settings.frames == 1
    return canonical([still, {k: v for k, v in part.identity().items() if k not in TRAINING_ONLY}])


def _measured(recipe: Recipe) -> Part:
    """The data that a recipe is measured on, those of its last stage."""
    return recipe.setups[-1].parts["data"]


def warnings(frame: "pd.DataFrame", plan: Plan) -> tuple[str, str]:
    """Two warnings, empty if they do not apply: trials were made by different code or from different data; either has
    changed since.
    """
    mixed, outdated = _code(frame["code"])
    mixed_data, outdated_data = _data(frame, plan)
    again = sweep_command(plan.study, plan.store, "--rerun", "stale")
    of_code = bool(mixed or outdated)
    of_data = bool(mixed_data or outdated_data)
    present = "code and data" if of_code and of_data else "data" if of_data else "code"
    way_out = f"to run these trials again with the present {present}: {again}"
    unlike = " and ".join(filter(None, (mixed, mixed_data)))
    changed = [*filter(None, [outdated]), *outdated_data]
    has = "has" if len(changed) == 1 else "have"
    return (
        f"the trials were made {unlike}; {way_out}" if unlike else "",
        f"{', '.join(changed)} {has} changed since the trials were made; {way_out}" if changed else "",
    )


def _code(made_by: Iterable[dict[str, str]]) -> tuple[str, str]:
    """By which code trials were made, if it differs; which has changed since. Both are parts of a sentence."""
    fingerprints_of: dict[str, set[str]] = {}
    for components in made_by:
        for name, fingerprint in components.items():
            fingerprints_of.setdefault(name, set()).add(fingerprint)
    mixed = sorted(name for name, fingerprints in fingerprints_of.items() if len(fingerprints) > 1)
    first = {name: next(iter(fingerprints)) for name, fingerprints in fingerprints_of.items()}
    outdated = sorted(registry.changed(first))
    return (
        f"by different versions of the code of {', '.join(mixed)}" if mixed else "",
        f"the code of {', '.join(outdated)}" if outdated else "",
    )


def _data(frame: "pd.DataFrame", plan: Plan) -> tuple[str, list[str]]:
    """As `_code`, of the files that the trials were made from."""
    if not any(frame["content"]):
        return "", []
    trials = {trial.signature: trial for trial in plan.trials}
    rows = [(trials[name], content) for name, content in zip(frame["signature"], frame["content"], strict=True)]

    # Different: under equal settings of data, or files of one name
    of_settings: dict[tuple[str, str], dict[str, None]] = {}
    of_source: dict[str, dict[str, None]] = {}
    for trial, content in rows:
        settings = _choice_of_files(trial)
        for source, digest in content.items():
            of_settings.setdefault((source, settings if source.startswith("data/") else ""), {})[digest] = None
            of_source.setdefault(source, {})[digest] = None
    mixed = {source: _pair(digests) for (source, _), digests in of_settings.items() if len(digests) > 1}
    mixed |= {
        source: _pair(digests)
        for source, digests in of_source.items()
        if source not in mixed and len(digests) > 1 and _conflict(list(digests), plan)
    }
    different = "; ".join(describe(source, before, now, plan.store) for source, (before, now) in mixed.items())

    # Changed since
    contents = Contents(plan.store)
    changed = {source: text for trial, content in rows for source, text in contents.changed(content, trial).items()}
    return f"from different data: {different}" if mixed else "", list(changed.values())


def _pair(digests: Iterable[str]) -> tuple[str, str]:
    first, second, *_ = digests
    return first, second


def _choice_of_files(trial: Trial) -> str:
    """Those settings of a trial's data that may decide which files are used."""
    parts = [setup.parts["data"] for setup in trial.treatment.recipe.setups]
    chosen = [{k: v for k, v in part.identity().items() if k not in ClipSettings.model_fields} for part in parts]
    return canonical(chosen)


def _conflict(digests: Sequence[str], plan: Plan) -> bool:
    """Whether a file differs in content from one of the same name in another of these contents."""
    seen: dict[str, str] = {}
    for digest in digests:
        files = (read_json(plan.store.content(digest)) or {}).get("files", {})
        if any(seen.setdefault(name, found) != found for name, found in files.items()):
            return True
    return False
