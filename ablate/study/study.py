"""A study file, checked: `load_study(path) -> Study`, or every error at once with its line and column."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate.errors import Problem, StudyError, nearest
from ablate.recipe.consistency import contradictions
from ablate.recipe.paths import Raw, full_path
from ablate.recipe.reading import RecipeProblem, read_parts
from ablate.recipe.recipe import Part, Recipe
from ablate.recipe.variants import Variants
from ablate.slots import registry
from ablate.slots.settings import Metric
from ablate.store.shrink import Keep
from ablate.study.constraints import Constraint, read_constraints
from ablate.study.document import Document, read_document
from ablate.study.factors import Factor, check_levels, read_factors, repeated_treatments
from ablate.study.file import FileCheck, list_seeds, raw_recipe, read_file
from ablate.study.fraction import Fraction, read_fraction
from ablate.study.labels import check_labels
from ablate.study.optimal import Optimal
from ablate.study.origin import Origin
from ablate.study.primary import check_primary, default_metric, read_primaries
from ablate.study.probes import check_interest, read_probes, reported
from ablate.study.pruning import Pruning, read_pruning
from ablate.study.scales import at_scale, choose_scale, name_variant, override
from ablate.study.schema import Replicates, StudyFile
from ablate.study.search import Search, read_search
from ablate.study.titles import title_of, titled
from ablate.study.tuning import Tuning, read_tuning

SeedBounds = tuple[int, int]
"""Fewest and most seeds of a treatment, where results decide how many there are."""


@dataclass(frozen=True, eq=False, repr=False)
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
    interest: Mapping[str, float] = field(default_factory=dict)
    """Metric -> the smallest difference worth knowing, where the study's file says another one than the metric."""
    primary_of: Mapping[str, str] = field(default_factory=dict)
    """Factor -> the metric of comparisons in which it alone changes; `primary` is that of all others."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Metric or full path of a factor -> the name that the study gives it in tables and figures."""
    keep: Keep = "weights"
    """What the checkpoints of finished trials keep."""

    def __repr__(self) -> str:
        return f"<study {self.name} at scale {self.scale}>"

    @property
    def is_adaptive(self) -> bool:
        """Whether results decide which trials there are."""
        return any((self.search, self.tuning, self.pruning, self.seed_bounds))

    @property
    def variant(self) -> str:
        """Its scale and, where `--set` changes it, a hash of the changes; its folder in the store has this name."""
        return name_variant(self.scale, self.overrides)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Every metric that the study's probes report, in order, with the study's smallest effects of interest."""
        return {
            name: titled(metric, self.labels.get(name, ""), self.interest.get(name))
            for name, metric in reported(self.probes).items()
        }

    @property
    def primary_title(self) -> str:
        """The name under which tables and figures show the primary metric."""
        return title_of(self.metrics[self.primary])

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
    if document.own is not None:
        registry.use(document.own)

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
    problems += _placed(Origin(document, "", ()), wrong)
    origin = Origin(document, chosen, overrides, wrong_before=frozenset(problem.path for problem in wrong))
    recipe, wrong = _check_recipe(scaled, check)
    problems += _placed(origin, wrong)
    complete = not wrong and bool(recipe.settings) and "base" not in check.wrong
    if not alone:
        problems += _other_scales(check, raw, origin)

    # Probes and metrics.
    probes, wrong = read_probes(scaled)
    problems += [*_placed(origin, wrong), *_check_paper(document, file)]
    probes_right = bool(probes) and not wrong and "probes" not in check.wrong
    found = [] if "primary" in check.wrong else check_primary(document, file, probes, complete=probes_right)
    problems += found
    if "interest" not in check.wrong:
        problems += check_interest(document, file, probes, complete=probes_right)
    metrics = {} if found or not probes_right or "primary" in check.wrong else reported(probes)

    # Factors, and what depends on them.
    design = _read_design(document, check, Variants(scaled), metrics, problems, complete=complete, alone=alone)
    if design is not None:
        problems += repeated_treatments(document, file, Variants(raw))
        if "labels" not in check.wrong:
            problems += check_labels(document, file, design.factors, probes, complete=probes_right)
    pruning = None
    if complete and probes_right:
        pruning = read_pruning(document, file.pruning, recipe, probes, problems)
    if problems or design is None:
        return Draft(problems, origin, base, recipe, complete, probes, None)

    bounds = scaled["seeds"]
    seed_bounds = (bounds.fewest, bounds.most) if isinstance(bounds, Replicates) else None
    study = Study(
        file.study, file.question, file.paper, chosen, reason, file.design, design.factors, tuple(file.treatments),
        tuple(list_seeds(bounds)), probes, design.primary, recipe, scaled, document, overrides, design.where,
        design.fraction, design.search, tuning=design.tuning, pruning=pruning, seed_bounds=seed_bounds,
        interest=file.interest, primary_of=design.primary_of, keep=file.keep,
        labels={name if name in reported(probes) else full_path(name): label for name, label in file.labels.items()},
    )  # fmt: skip
    return Draft([], origin, base, recipe, complete, probes, study)


@dataclass(frozen=True)
class _Design:
    """The keys of a study that depend on its factors."""

    factors: tuple[Factor, ...]
    primary: str
    primary_of: Mapping[str, str]
    where: tuple[Constraint, ...]
    search: Search | None
    tuning: Tuning | None
    fraction: Fraction | Optimal | None


def _read_design(
    document: Document,
    check: FileCheck,
    variants: Variants,
    metrics: Mapping[str, Metric],
    problems: list[Problem],
    *,
    complete: bool,
    alone: bool,
) -> _Design | None:
    """What depends on the factors, None where these are wrong; adds what is wrong to `problems`.

    `metrics`: empty where it is not known which there are.
    """
    file = check.file
    if not complete or check.wrong & {"design", "factors", "treatments", "stages"}:
        check_levels(document, file, variants, problems)
        return None
    before = len(problems)
    factors = read_factors(document, file, variants, problems)
    if len(problems) > before:
        return None
    where, wrong = read_constraints(document, file, factors)
    problems += wrong
    primary_of = {} if "primary" in check.wrong else read_primaries(document, file, factors, problems)
    primary = default_metric(file) or next(iter(primary_of.values()), "")
    search, tuning, fraction = None, None, None
    if primary in metrics:
        search = read_search(document, file, factors, metrics, primary, problems)
    if primary in metrics and "nuisance" not in check.wrong:
        tuning = read_tuning(document, file, factors, variants, metrics[primary], problems)
    if not wrong and not alone:
        fraction = read_fraction(document, file, factors, where, problems)
    return _Design(factors, primary, primary_of, where, search, tuning, fraction)


def _placed(origin: Origin, problems: Iterable[RecipeProblem]) -> list[Problem]:
    """Problems of a recipe with their positions in the file."""
    return [origin.problem(path, message, at_key=at_key) for path, message, at_key in problems]


def _other_scales(check: FileCheck, raw: Raw, origin: Origin) -> list[Problem]:
    """What is wrong with the recipe at the scales that are not chosen."""
    problems: list[Problem] = []
    for scale in check.file.scales:
        if scale != origin.scale:
            scaled, found = at_scale(origin.document, raw, check.file, scale)
            its_origin = replace(origin, scale=scale, overrides=())
            problems += [*found, *_placed(its_origin, _check_recipe(scaled, check)[1])]
    return problems


def _check_recipe(raw: Raw, check: FileCheck) -> tuple[Recipe, list[RecipeProblem]]:
    """The parts of a raw recipe that are right, and all that is wrong; nothing of a `base` that is no mapping."""
    recipe, problems = read_parts(raw)
    if "base" in check.wrong:
        return recipe, []
    if not problems and recipe.settings:
        problems = [*contradictions(recipe)]
    return recipe, problems


def _check_paper(document: Document, file: StudyFile) -> list[Problem]:
    if file.paper is None or file.paper in registry.papers():
        return []
    return [document.problem(("paper",), f"unknown paper '{file.paper}'{nearest(file.paper, registry.papers())}")]
