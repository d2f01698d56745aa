"""Which models of a study cannot be built, and which slot is the cause.

Each model is built on torch's meta device, without memory for its weights, and passes one crop and one held-out
picture. That takes little time, but loading torch takes seconds; so models that could be built are remembered in the
user's cache folder, by a content hash of their settings and of the code that builds them.
"""

import functools
import hashlib
import os
import traceback
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from ablate.identity import signature
from ablate.recipe.recipe import Part, Recipe
from ablate.slots import registry

IRRELEVANT = {"loss", "discriminator", "init"}
"""Slots that a model does not depend on. It does on `data`, for the sizes of pictures, and so on `regularizer`."""


@dataclass(frozen=True)
class BuildFailure:
    """Why a model cannot be built. `slot`: of the level whose code has raised the error."""

    slot: str
    reason: str


@dataclass
class ModelCheck:
    """Tries to build models, those of the same parts once and `most` different ones; the others are `skipped`."""

    most: int
    skipped: set[tuple[int, ...]] = field(default_factory=set)
    results: dict[tuple[int, ...], BuildFailure | None] = field(default_factory=dict)
    tried: list[Recipe] = field(default_factory=list)
    """Keeps the parts alive whose ids are the keys of `results`."""

    def failure(self, recipe: Recipe) -> BuildFailure | None:
        """Why the model of a recipe, that of one stage, cannot be built; None if it can or was skipped."""
        key = tuple([id(part) for slot, part in recipe.parts.items() if slot not in IRRELEVANT])
        if key not in self.results and len(self.results) >= self.most:
            self.skipped.add(key)
            return None
        if key not in self.results:
            self.tried.append(recipe)
            self.results[key] = build_failure(recipe)
        return self.results[key]


def build_failure(recipe: Recipe) -> BuildFailure | None:
    """Why the model of a recipe, that of one stage, cannot be built; None if it can."""
    plain = {slot: _relevant(slot, part) for slot, part in recipe.present.items() if slot not in IRRELEVANT}
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ablate" / "models"
    known = cache / signature([plain, _code()])
    if known.exists():
        return None
    from ablate.engine.build import try_build

    try:
        try_build(recipe.plain())
    except Exception as error:  # a level may raise whatever torch does
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return BuildFailure(_raised_in(error), reason)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        known.touch()
    except OSError:  # then it is built again next time
        pass
    return None


def fits(recipe: Recipe) -> bool:
    """Whether the models of a recipe can be built and suit the pictures."""
    return all(build_failure(setup) is None for setup in recipe.setups)


def _relevant(slot: str, part: Part) -> dict[str, object]:
    """The settings of a part that decide whether a model can be built."""
    plain = part.plain()
    return {name: plain.get(name) for name in ("crop", "heldout_size", "frames")} if slot == "data" else plain


def _raised_in(error: Exception) -> str:
    """The slot of the innermost level on the way to an error; the model where there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        folder = Path(frame.filename).parent
        if folder.name in registry.SLOTS and folder.parent.name == registry.ROOT.name:
            return folder.name
    return "model"


@functools.cache
def _code() -> list[str]:
    """Content hash of the code that builds models, and the version of torch."""
    files = [*registry.ROOT.glob("*/*.py"), *Path(registry.__file__).parent.glob("*.py")]
    files.append(Path(__file__).parents[1] / "engine" / "build.py")
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files)))
    return [digest.hexdigest(), version("torch")]
