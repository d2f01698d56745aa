"""A study file, checked: `load_study(path) -> Study`, or every error at once with its line and column."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate.errors import Problem, StudyError, nearest
from ablate.recipe.consistency import contradictions
from ablate.recipe.paths import Raw
from ablate.recipe.reading import RecipeProblem, read_part, read_parts
from ablate.recipe.recipe import Part, Recipe
from ablate.recipe.synonyms import synonym
from ablate.recipe.variants import Variants
from ablate.slots import registry
from ablate.slots.level_file import Level, LevelError
from ablate.slots.settings import Metric
from ablate.study.constraints import Constraint, ConstraintError, read_constraint
from ablate.study.document import Document, read_document
from ablate.study.factors import Factor, check_levels, read_factors
from ablate.study.file import FileCheck, list_seeds, raw_recipe, read_file
from ablate.study.fraction import Fraction, read_fraction
from ablate.study.optimal import Optimal
from ablate.study.origin import Origin
from ablate.study.pruning import Pruning, read_pruning
from ablate.study.scales import at_scale, choose_scale, override
from ablate.study.schema import Replicates, StudyFile
from ablate.study.search import Search, read_search
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

    @property
    def origin(self) -> Origin:
        """Where the settings of its baseline come from."""
        return Origin(self.document, self.scale, self.overrides)

    def recipe(self, levels: Mapping[str, Any]) -> Recipe:
        """The recipe of a treatment, given as factor -> level. Raises StudyError where levels contradict each other."""
        recipe, problems = self.variants.recipe(levels)
        if recipe is None:
            origin = replace(self.origin, levels=levels)
            treatment = ", ".join(f"{path}={value}" for path, value in levels.items())
            raise StudyError(
                origin.problem(path, f"treatment {treatment}: {text}", at_key=at_key) for path, text, at_key in problems
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


@dataclass(frozen=True)
class Draft:
    """A study as far as its file can be read, and all that is wrong with the file.

    `base` and `recipe`: the parts that are right, without the scale and `--set` and with them. `complete`: whether
    `recipe` has all parts, without contradiction. `study`: None where anything is wrong.
    """

    problems: list[Problem]
    origin: Origin
    base: Recipe
    recipe: Recipe
    complete: bool
    probes: tuple[Part, ...]
    study: Study | None


def load_study(path: Path, scale: str | None = None, overrides: Iterable[str] = (), *, gpu: bool = False) -> Study:
    """Read and check a study file, or the example study of this name where there is no such file.

    `scale` names one of the file's scales; without it `gpu` is used where there is one and else `cpu`, if the file has
    it. `overrides` are `path=value` texts that come last. Raises StudyError with all problems of the file, whatever the
    scale. Folders are not looked at and models not built: see `validate`.
    """
    return read_study(read_document(path), scale, tuple(overrides), gpu=gpu)


def read_study(document: Document, scale: str | None, overrides: tuple[str, ...], *, gpu: bool) -> Study:
    """Check a parsed study; see `load_study`."""
    draft = read_draft(document, scale, overrides, gpu=gpu)
    if draft.study is None:
        raise StudyError(draft.problems)
    return draft.study


def read_draft(
    document: Document, scale: str | None, overrides: tuple[str, ...], *, gpu: bool, alone: bool = False
) -> Draft:
    """Read a parsed study as far as it goes. Raises StudyError only if it is no mapping.

    `alone`: leave out the other scales, and the choice of the treatments of design `fraction`, which may take long.
    """
    # Keys, and the raw recipe at the scale.
    check = read_file(document)
    file = check.file
    problems = [*document.problems, *check.problems]
    raw = raw_recipe(document, check, problems)
    chosen, reason = choose_scale(check, scale, problems, gpu=gpu)
    scaled, found = at_scale(document, raw, file, chosen)
    problems += found
    for text in overrides:
        problems += override(scaled, text)

    # The base, the recipe at this scale, and those at the others.
    base, wrong = _check_recipe(raw, check)
    its_origin = Origin(document, "", ())
    problems += [its_origin.problem(*item[:2], at_key=item.at_key) for item in wrong]
    wrong_before = frozenset(item.path for item in wrong)
    origin = Origin(document, chosen, overrides, wrong_before=wrong_before)
    recipe, wrong = _check_recipe(scaled, check)
    problems += [origin.problem(*item[:2], at_key=item.at_key) for item in wrong]
    complete = not wrong and bool(recipe.settings) and "base" not in check.wrong
    for other in file.scales if not alone else ():
        if other != chosen:
            its_raw, found = at_scale(document, raw, file, other)
            its_origin = Origin(document, other, (), wrong_before=wrong_before)
            problems += found
            problems += [its_origin.problem(*item[:2], at_key=item.at_key) for item in _check_recipe(its_raw, check)[1]]

    # Probes and metrics.
    probes, found = _probes(origin, scaled)
    metrics = _reported(probes)
    probes_right = bool(probes) and not found and "probes" not in check.wrong
    found += [] if "primary" in check.wrong else _check_primary(document, file, probes, complete=probes_right)
    metrics_right = probes_right and not found and "primary" not in check.wrong
    problems += [*found, *_check_paper(document, file)]

    # Factors, and what depends on them.
    before = len(problems)
    variants = Variants(scaled)
    if complete and not check.wrong & {"design", "factors", "treatments", "stages"}:
        factors = read_factors(document, file, variants, problems)
        factors_right = len(problems) == before
    else:
        factors, factors_right = (), False
        check_levels(document, file, variants, problems)
    where: tuple[Constraint, ...] = ()
    search, tuning, pruning, fraction = None, None, None, None
    if factors_right:
        where, found = _constraints(document, file, factors)
        problems += found
        if metrics_right:
            search = read_search(document, file, factors, metrics, problems)
            if "nuisance" not in check.wrong:
                tuning = read_tuning(document, file, factors, variants, metrics[file.primary], problems)
        if not found and not alone:
            fraction = read_fraction(document, file, factors, where, problems)
    if complete and probes_right:
        pruning = read_pruning(document, file.pruning, recipe, probes, problems)
    if problems:
        return Draft(problems, origin, base, recipe, complete, probes, None)

    seeds = tuple(list_seeds(scaled["seeds"]))
    bounds = scaled["seeds"]
    seed_bounds = (bounds.fewest, bounds.most) if isinstance(bounds, Replicates) else None
    study = Study(
        file.study, file.question, file.paper, chosen, reason, file.design, factors, tuple(file.treatments), seeds,
        probes, file.primary, recipe, scaled, document, overrides, where, fraction, search,
        tuning=tuning, pruning=pruning, seed_bounds=seed_bounds,
    )  # fmt: skip
    return Draft([], origin, base, recipe, complete, probes, study)


def _check_recipe(raw: Raw, check: FileCheck) -> tuple[Recipe, list[RecipeProblem]]:
    """The parts of a raw recipe that are right, and all that is wrong; nothing of a `base` that is no mapping."""
    recipe, problems = read_parts(raw)
    if "base" in check.wrong:
        return recipe, []
    if not problems and recipe.settings:
        problems = [*contradictions(recipe)]
    return recipe, problems


def _probes(origin: Origin, raw: Raw) -> tuple[tuple[Part, ...], list[Problem]]:
    found: list[RecipeProblem] = []
    parts = [read_part("probe", value, ("probes", name), found) for name, value in raw["probes"].items()]
    problems = [origin.problem(path, message, at_key=at_key) for path, message, at_key in found]
    return tuple(part for part in parts if part), problems


def _reported(probes: Iterable[Part]) -> dict[str, Metric]:
    return {metric.name: metric for probe in probes for metric in registry.level("probe", probe.level).metrics}


def _check_primary(document: Document, file: StudyFile, probes: tuple[Part, ...], *, complete: bool) -> list[Problem]:
    """Whether a probe reports the primary metric. Unless all probes are known, one that is not may report it."""
    names = [*_reported(probes)]
    known = names if complete else [metric.name for level in _every_probe() for metric in level.metrics]
    if file.primary in known:
        return []
    reporting = [level.name for level in _every_probe() if file.primary in [metric.name for metric in level.metrics]]
    if file.primary in registry.levels("probe"):
        reported = ", ".join(metric.name for metric in registry.level("probe", file.primary).metrics)
        hint = f"; it is a probe, whose metrics are {reported}"
    elif probe := synonym("probe", file.primary):
        reported = ", ".join(metric.name for metric in registry.level("probe", probe).metrics)
        hint = f"; probe '{probe}' reports {reported}"
    elif reporting:
        hint = f"; add probe '{reporting[0]}', which does{nearest('', names)}"
    else:
        hint = nearest(file.primary, known)
    return [document.problem(("primary",), f"primary: none of the probes reports '{file.primary}'{hint}")]


def _every_probe() -> Iterator[Level]:
    """All probes but those whose file is wrong."""
    for name in registry.levels("probe"):
        with suppress(LevelError):
            yield registry.level("probe", name)


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
