"""Which models of a study cannot be built, and which slot is the cause.

Each model is built on torch's meta device, without memory for its weights, and passes one crop and one held-out
picture. That takes little time, but loading torch takes seconds; so models that could be built are remembered in the
user's cache folder, by a content hash of their settings and of the code that builds them.
"""

import functools
import hashlib
import json
import os
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablate.identity import signature
from ablate.recipe.recipe import Part, Recipe, weight
from ablate.recipe.validation import explain
from ablate.slots import registry
from ablate.slots.level_file import LevelError
from ablate.slots.targets import Target
from ablate.store.user_cache import user_cache

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
    skipped: set[tuple[Any, ...]] = field(default_factory=set)
    results: dict[tuple[Any, ...], BuildFailure | None] = field(default_factory=dict)
    tried: list[Recipe] = field(default_factory=list)
    """Keeps the parts alive whose ids are the keys of `results`."""

    def failure(self, recipe: Recipe) -> BuildFailure | None:
        """Why the model of a recipe, that of one stage, cannot be built; None if it can or was skipped."""
        parts = [id(part) for slot, part in recipe.parts.items() if slot not in IRRELEVANT]
        key = (*parts, *_frozen(recipe))
        if key not in self.results and len(self.results) >= self.most:
            self.skipped.add(key)
            return None
        if key not in self.results:
            self.tried.append(recipe)
            self.results[key] = build_failure(recipe)
        return self.results[key]


@dataclass(frozen=True)
class ModelSize:
    """Parameters of an autoencoder and of its discriminator, if that is trained, and the bytes of its buffers."""

    parameters: int
    buffers: int
    critic: int = 0


def build_failure(recipe: Recipe) -> BuildFailure | None:
    """Why the model of a recipe, that of one stage, cannot be built; None if it can."""
    known = _built(recipe)
    if known.exists():
        return None
    from ablate.engine.bounds import bounded
    from ablate.engine.build import try_build

    try:
        with bounded():
            size = try_build(recipe.plain())
    except (Exception, SystemExit) as error:  # a level may raise whatever torch does
        return _failure(error)
    _remember(known, json.dumps(size))
    _remember_critic(recipe)
    return None


def model_size(recipe: Recipe) -> ModelSize | None:
    """The size of a recipe's model, that of one stage, if it was built before; nothing is built for this."""
    size = _read_size(_built(recipe))
    if not isinstance(size, dict):
        return None
    critic = _read_size(_critic(recipe)) if _has_critic(recipe) else 0
    return ModelSize(size["parameters"], size["buffers"], int(critic or 0))


def _read_size(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _built(recipe: Recipe) -> Path:
    """The file that says that a recipe's model can be built, and how large it is."""
    plain = {slot: _relevant(slot, part) for slot, part in recipe.present.items() if slot not in IRRELEVANT}
    return _cache() / signature([plain, _frozen(recipe), _files_read(recipe), _code(), registry.own().plain()])


def _frozen(recipe: Recipe) -> list[tuple[str, ...]]:
    """The names of parts that stages freeze, which the model must have."""
    names = [getattr(stage.settings, "freeze_parts", ()) for stage in recipe.stages]
    return [(stage.settings.freeze, *parts) for stage, parts in zip(recipe.stages, names, strict=True) if parts]


def _files_read(recipe: Recipe) -> list[tuple[str, int, int]]:
    """Path, size and time of the last change of the files that a recipe's model is read from, as a released one is."""
    paths = recipe.parts["model"].settings.content_paths().values()
    return [(str(path), (found := path.stat()).st_size, found.st_mtime_ns) for path in paths if path.is_file()]


def _critic(recipe: Recipe) -> Path:
    """The file that says how large a recipe's discriminator is."""
    level = recipe.parts["discriminator"]
    return _cache() / signature(["critic", level.plain(), registry.level("discriminator", level.level).fingerprint])


def _has_critic(recipe: Recipe) -> bool:
    term = recipe.losses.get("adversarial")
    return term is not None and weight(term) > 0 and "discriminator" in recipe.parts


def _remember_critic(recipe: Recipe) -> None:
    """Note the size of a recipe's discriminator, unless it cannot be built, which is found elsewhere."""
    from ablate.engine.build import try_critic

    if _has_critic(recipe) and not _critic(recipe).exists():
        with suppress(Exception):
            _remember(_critic(recipe), json.dumps(try_critic(recipe.plain())))


def _cache() -> Path:
    """The folder of files that each stand for something that could be built."""
    return user_cache("models")


def _remember(known: Path, text: str = "") -> None:
    """Note that something could be built."""
    with suppress(OSError):  # then it is built again next time
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(text, encoding="utf-8")


def own_failure(slot: str, part: Part, crop: int) -> str:
    """Why an own level cannot be imported or built with what its slot is given; empty if it can, or is no own one.

    A loss term that is a plain class is tried on pictures of `crop` px.
    """
    name = getattr(part.settings, "target", part.level) if slot == "model" else part.level
    level = registry.level(slot, name)
    if level.folder is None and not isinstance(level, Target):
        return ""
    plain = part.plain() if slot == "loss" else {}
    known = _cache() / signature(["own", slot, name, plain, crop, level.fingerprint, str(level.path), version("torch")])
    if known.exists():
        return ""
    try:
        registry.check_build(slot, name)
        if slot == "loss" and isinstance(level, Target) and level.plain:
            from ablate.engine.build import try_term

            try_term(name, part.settings.plain(), crop)
    except LevelError as error:
        return f"{error.brief}{_advice(level.path)}"
    except ValueError as error:
        return " ".join(str(error).split())
    _remember(known)
    return ""


def stride_of(recipe: Recipe) -> int:
    """The stride of a recipe's model; where its settings do not tell, it is built to find it, which happens once.

    0 where it cannot be built.
    """
    model = recipe.parts["model"]
    if stride := model.setting("stride", 0):
        return int(stride)
    known = _cache() / signature(["stride", model.plain(), _code(), _files_read(recipe), registry.own().plain()])
    if not known.exists():
        from ablate.engine.build import find_stride

        try:
            stride = find_stride(recipe.plain())
        except (Exception, SystemExit):  # an error of its own
            return 0
        with suppress(OSError):
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(str(stride), encoding="utf-8")
        return stride
    return int(known.read_text(encoding="utf-8") or 0)


def fits(recipe: Recipe) -> bool:
    """Whether the models of a recipe can be built and suit the pictures."""
    return all(build_failure(setup) is None for setup in recipe.setups)


def _relevant(slot: str, part: Part) -> dict[str, object]:
    """The settings of a part that decide whether a model can be built."""
    plain = part.plain()
    return {name: plain.get(name) for name in ("crop", "heldout_size", "frames")} if slot == "data" else plain


def _failure(error: BaseException) -> BuildFailure:
    """The slot of the innermost level on the way to an error, or the model where there is none, and what to print.

    The reason names the kind of the error and the line of the level's file, unless the level has raised ValueError with
    a message that starts with its slot.
    """
    if isinstance(error, LevelError):
        file = Path(error.problems[0].file)
        return BuildFailure(file.parent.name, f"{error.brief}{_advice(file)}")
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, ValidationError):
        text = "; ".join(f"{'.'.join(map(str, item['loc']))}: {explain(item)}" for item in error.errors())
    explained = isinstance(error, ValueError) and bool(text)
    if explained and text.partition(":")[0] in registry.SLOTS:
        return BuildFailure(text.partition(":")[0], text)
    reason = text if explained else f"{type(error).__name__}: {text}".removesuffix(": ")
    frame = _level_frame(error)
    if frame is None:
        return BuildFailure("model", reason)
    file = Path(frame.filename)
    slot = file.parent.name
    advice = "" if explained else _advice(file)
    return BuildFailure(slot, f"{reason} ({slot}/{file.name}:{frame.lineno}){advice}")


def _level_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame of an error that is in a level's file."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if registry.slot_of(Path(frame.filename)):
            return frame
    return None


def _advice(file: Path) -> str:
    """A hint at the command that examines the level in a file; empty for a file that levels share."""
    slot = file.parent.name
    is_level = file.stem in registry.levels(slot)
    return f"; ablate check-level {slot}/{file.stem} says what is missing" if is_level else ""


@functools.cache
def _code() -> list[str]:
    """Content hash of the code that builds models, and the version of torch."""
    files = [*registry.ROOT.glob("*/*.py"), *Path(registry.__file__).parent.glob("*.py")]
    package = Path(__file__).parents[1]
    files += [*(package / "released").glob("*.py"), package / "engine" / "build.py", package / "engine" / "freeze.py"]
    readable = [file for file in sorted(files) if file.is_file() and os.access(file, os.R_OK)]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in readable))
    return [digest.hexdigest(), version("torch")]
