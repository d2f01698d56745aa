"""A study file, checked: `load_study(path) -> Study`, or every error at once with its line and column."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate.errors import KeyPath, Problem, StudyError, nearest
from ablate.recipe.consistency import resolve
from ablate.recipe.paths import RECIPE_SLOTS, Raw, assign
from ablate.recipe.recipe import Complaint, Part, Recipe, read_part
from ablate.recipe.variants import Variants
from ablate.slots import registry
from ablate.slots.settings import Metric
from ablate.study.constraints import Constraint, ConstraintError, read_constraint
from ablate.study.document import Document, parse, parse_value
from ablate.study.factors import Factor, read_factors
from ablate.study.fraction import Fraction, read_fraction
from ablate.study.optimal import Optimal
from ablate.study.pruning import Pruning, read_pruning
from ablate.study.schema import Replicates, StudyFile, list_seeds, raw_recipe, read_file
from ablate.study.search import Search, read_search
from ablate.study.shipped import hint, locate
from ablate.study.tuning import Tuning, read_tuning

SeedBounds = tuple[int, int]
"""Fewest and most seeds of a treatment, where results decide how many there are."""


@dataclass(frozen=True, eq=False)
class Study:
    """A checked study at one scale. `raw` is the scaled `{base, stages}` that treatments are applied to."""

    name: str
    question: str
    paper: str | None
    scale: str
    scale_reason: str
    designs: tuple[str, ...]
    factors: tuple[Factor, ...]
    listed: tuple[Raw, ...]
    seeds: tuple[int, ...]
    probes: tuple[Part, ...]
    primary: str
    baseline: Recipe
    raw: Raw
    document: Document
    overrides: tuple[str, ...] = ()
    where: tuple[Constraint, ...] = ()
    fraction: Fraction | Optimal | None = None
    search: Search | None = None
    tuning: Tuning | None = None
    pruning: Pruning | None = None
    seed_bounds: SeedBounds | None = None
    """Fewest and most seeds, where there are more only for treatments that need them; `seeds` are the most."""

    @property
    def is_adaptive(self) -> bool:
        """Whether results decide which trials there are."""
        return any((self.search, self.tuning, self.pruning, self.seed_bounds))

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every metric that the study's probes report, in order."""
        return _reported(self.probes)

    @cached_property
    def variants(self) -> Variants:
        """The recipes of this study."""
        return Variants(self.raw)

    def recipe(self, levels: Mapping[str, Any]) -> Recipe:
        """The recipe of a treatment, given as factor -> level. Raises StudyError where levels contradict each other."""
        recipe, complaints = self.variants.recipe(levels)
        if recipe is None:
            what = ", ".join(f"{path}={value}" for path, value in levels.items())
            raise StudyError(
                self.document.problem(("factors",), f"treatment {what}: {text}") for _, text, _ in complaints
            )
        return recipe

    @cached_property
    def conditional(self) -> tuple[str, ...]:
        """Paths of the factors that exist only with some levels of other factors."""
        return tuple(factor.path for factor in self.factors if factor.conditional)

    def existing(self, levels: Mapping[str, Any]) -> dict[str, Any]:
        """These levels less those of settings that do not exist with the others."""
        if not self.conditional:
            return dict(levels)
        others = {path: level for path, level in levels.items() if path not in self.conditional}
        return {path: level for path, level in levels.items() if path in others or self.variants.has(path, others)}


def load_study(path: Path, scale: str | None = None, overrides: Iterable[str] = (), *, gpu: bool = False) -> Study:
    """Read and check a study file, or the example study of this name where there is no such file.

    `scale` names one of the file's scales; without it `gpu` is used where there is one and else `cpu`, if the file has
    it. `overrides` are `path=value` texts that come last. Raises StudyError with all problems, whatever the scale.
    """
    path = locate(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = f"no such file{hint(path)}" if isinstance(error, FileNotFoundError) else str(error)
        raise StudyError([Problem(str(path), 0, 0, f"cannot read the study: {reason}")]) from None
    return read_study(parse(text, str(path)), scale, tuple(overrides), gpu=gpu)


def read_study(document: Document, scale: str | None, overrides: tuple[str, ...], *, gpu: bool) -> Study:
    """Check a parsed study; see `load_study`."""
    file = read_file(document)
    raw = raw_recipe(document, file)
    chosen, reason = _choose_scale(document, file, scale, gpu)
    baseline = _check_scales(document, file, raw)
    scaled, problems = _scaled(document, raw, file, chosen)
    for text in overrides:
        problems += _override(document, scaled, text)
    if not problems:
        recipe, complaints = resolve(scaled)
        problems += [_place(document, item, ("scales", chosen), overrides) for item in complaints]
        baseline = recipe or baseline
    if problems:
        raise StudyError(problems)
    probes, problems = _probes(document, scaled)
    problems += [*_check_primary(document, file, probes), *_check_paper(document, file)]
    factors = read_factors(document, file, Variants(scaled), problems)
    if problems:
        raise StudyError(problems)
    where, problems = _constraints(document, file, factors)
    search = read_search(document, file, factors, _reported(probes), problems)
    tuning = read_tuning(document, file, factors, Variants(scaled), _reported(probes)[file.primary], problems)
    pruning = read_pruning(document, file.pruning, baseline, probes, problems)
    fraction = read_fraction(document, file, factors, where, problems)
    if problems:
        raise StudyError(problems)
    seeds, bounds = tuple(list_seeds(scaled["seeds"])), scaled["seeds"]
    seed_bounds = (bounds.fewest, bounds.most) if isinstance(bounds, Replicates) else None
    return Study(
        file.study, file.question, file.paper, chosen, reason, file.design, factors, tuple(file.treatments), seeds,
        probes, file.primary, baseline, scaled, document, overrides, where, fraction, search,
        tuning=tuning, pruning=pruning, seed_bounds=seed_bounds,
    )  # fmt: skip


def _choose_scale(document: Document, file: StudyFile, scale: str | None, gpu: bool) -> tuple[str, str]:
    if scale is not None:
        if scale not in file.scales:
            raise StudyError([document.problem(("scales",), f"unknown scale '{scale}'{nearest(scale, file.scales)}")])
        return scale, "asked for"
    name, why = ("gpu", "this machine has a GPU") if gpu else ("cpu", "this machine has no GPU")
    if name in file.scales:
        return name, why
    return "base", f"the study has no scale '{name}'"


def _check_scales(document: Document, file: StudyFile, raw: Raw) -> Recipe:
    """The baseline without any scale; raises with the problems of the base and, if that is sound, of every scale."""
    baseline, complaints = resolve(raw)
    if baseline is None:
        raise StudyError(_place(document, complaint) for complaint in complaints)
    problems = []
    for scale in file.scales:
        scaled, found = _scaled(document, raw, file, scale)
        problems += found or [_place(document, item, ("scales", scale)) for item in resolve(scaled)[1]]
    if problems:
        raise StudyError(problems)
    return baseline


def _scaled(document: Document, raw: Raw, file: StudyFile, scale: str) -> tuple[Raw, list[Problem]]:
    scaled, problems = copy.deepcopy(raw), []
    for path, value in file.scales.get(scale, {}).items():
        try:
            _assign(scaled, path, value)
        except ValueError as error:
            problems.append(document.problem(("scales", scale, path), str(error), at_key=True))
    return scaled, problems


def _assign(raw: Raw, path: str, value: Any) -> None:
    """As `assign`, also for seeds and the settings of probes, which are no part of a recipe and thus no factor."""
    head, *rest = path.split(".")
    if path == "seeds":
        raw["seeds"] = list_seeds(value)
    elif head not in {*RECIPE_SLOTS, "stages", "probes"}:
        names = [*RECIPE_SLOTS, "stages", "probes", "seeds"]
        raise ValueError(f"unknown slot '{head}' in '{path}'{nearest(head, names)}")
    elif head != "probes":
        assign(raw, path, value)
    elif len(rest) != 2:
        raise ValueError(f"'{path}' must be probes.PROBE.SETTING")
    elif rest[0] not in raw["probes"]:
        raise ValueError(f"the study has no probe '{rest[0]}'{nearest(rest[0], raw['probes'])}")
    else:
        raw["probes"][rest[0]][rest[1]] = value


def _override(document: Document, raw: Raw, text: str) -> list[Problem]:
    path, equals, value = text.partition("=")
    if not equals:
        return [Problem("--set", 0, 0, f"expected PATH=VALUE, found '{text}'")]
    try:
        _assign(raw, path.strip(), parse_value(value))
    except StudyError as error:
        return [Problem(f"--set {text}", 0, 0, problem.message) for problem in error.problems]
    except ValueError as error:
        return [Problem(f"--set {text}", 0, 0, str(error))]
    return []


def _place(
    document: Document,
    complaint: Complaint,
    scale: KeyPath = (),
    overrides: tuple[str, ...] = (),
) -> Problem:
    """The origin of a complaint about a resolved recipe: the last override that touched it, the scale, or the base."""
    where, message, at_key = complaint
    dotted = ".".join(map(str, where[1:] if where[0] == "base" else where)).removesuffix(".level")
    for text in reversed(overrides):
        if _touches(text.partition("=")[0], dotted):
            return Problem(f"--set {text}", 0, 0, message)
    for known in reversed(document.keys):
        if (
            scale
            and known[: len(scale)] == scale
            and len(known) > len(scale)
            and _touches(str(known[len(scale)]), dotted)
        ):
            return document.problem((*scale, known[len(scale)]), message, at_key=at_key)
    if where[0] == "stages":
        index = next((i for i, stage in enumerate(document.data["stages"]) if where[1] in stage), 0)
        where = ("stages", index, *where[1:])
    return document.problem(where, message, at_key=at_key)


def _touches(override: str, dotted: str) -> bool:
    return f"{dotted}.".startswith(f"{override}.") or f"{override}.".startswith(f"{dotted}.")


def _probes(document: Document, raw: Raw) -> tuple[tuple[Part, ...], list[Problem]]:
    complaints: list[Complaint] = []
    parts = [read_part("probe", value, ("probes", i), complaints) for i, value in enumerate(raw["probes"].values())]
    problems = [document.problem(where, message, at_key=at_key) for where, message, at_key in complaints]
    if not raw["probes"]:
        problems.append(document.problem(("probes",), "a study needs at least one probe"))
    return tuple(part for part in parts if part), problems


def _reported(probes: Iterable[Part]) -> dict[str, Metric]:
    return {metric.name: metric for probe in probes for metric in registry.level("probe", probe.level).metrics}


def _check_primary(document: Document, file: StudyFile, probes: tuple[Part, ...]) -> list[Problem]:
    names = [metric.name for probe in probes for metric in registry.level("probe", probe.level).metrics]
    if len(probes) < len(file.probes) or file.primary in names:
        return []
    message = f"primary: none of the probes reports '{file.primary}'{nearest(file.primary, names)}"
    return [document.problem(("primary",), message)]


def _check_paper(document: Document, file: StudyFile) -> list[Problem]:
    if file.paper is None or file.paper in registry.papers():
        return []
    return [document.problem(("paper",), f"unknown paper '{file.paper}'{nearest(file.paper, registry.papers())}")]


def _constraints(
    document: Document, file: StudyFile, factors: tuple[Factor, ...]
) -> tuple[tuple[Constraint, ...], list[Problem]]:
    levels = {factor.path: factor.levels for factor in factors}
    found, problems = [], []
    for i, text in enumerate(file.where):
        try:
            found.append(read_constraint(text, levels))
        except ConstraintError as error:
            problems.append(_inside(document.problem(("where", i), f"where: {error}"), text, error.offset))
    first = {factor.path: factor.levels[0] for factor in factors}
    for i, constraint in enumerate(found):
        if len(found) == len(file.where) and not constraint.holds(first):
            message = f"where: the baseline itself is left out by '{constraint.text}'"
            problems.append(document.problem(("where", i), message))
    return tuple(found), problems


def _inside(problem: Problem, text: str, offset: int) -> Problem:
    """A problem within a text, moved to it where the text stands as it is in its line."""
    start = problem.source.find(text, problem.column - 1)
    return problem if start < 0 else replace(problem, column=start + 1 + offset)
