"""The keys of a study file and their types, before any slot is looked into."""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationError,
    WithJsonSchema,
)

from ablate.errors import Problem, StudyError, nearest
from ablate.recipe.paths import RECIPE_SLOTS, Raw, spread
from ablate.slots.settings import Settings
from ablate.study.document import Document

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


Design = Literal["one_at_a_time", "grid", "ladder", "leave_one_out", "fraction", "list", "search"]


DESIGNS = get_args(Design)


Sampler = Literal["tpe", "random", "brute_force", "nsga2"]


SAMPLERS = get_args(Sampler)


Rule = Literal["asha", "median"]


RULES = get_args(Rule)


Designs = Annotated[
    tuple[Design, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else (value,)),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(DESIGNS)},
                {"type": "array", "items": {"enum": list(DESIGNS)}, "minItems": 1, "uniqueItems": True},
            ],
        }
    ),
]
"""One design or a list of them; one is a list of one."""


Constraints = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else (value,)),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class FractionSize(Settings):
    """How large a fraction is: by its `resolution`, if all factors have two levels, or by its `runs`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["resolution"]}, {"required": ["runs"]}]})

    resolution: int | None = Field(None, ge=3, description="3: main effects are told apart, 4: also from interactions.")
    runs: int | None = Field(None, ge=4, description="Treatments; of two-level factors a power of two.")
    interactions: list[tuple[str, str]] = Field([], description="Pairs of factors whose interaction it must tell.")


class Range(Settings):
    """All numbers from `low` to `high`, for a search; whole numbers where the setting is one."""

    low: int | FiniteFloat
    high: int | FiniteFloat
    log: bool = Field(False, description="Whether 1e-4 is as far from 1e-3 as 1e-3 is from 1e-2.")


LevelList = Annotated[
    Annotated[list[Any], Tag("levels")] | Annotated[Range, Tag("range")],
    Discriminator(lambda value: "range" if isinstance(value, dict) else "levels"),
]


class SearchSettings(Settings):
    """How design `search` goes about it."""

    sampler: Sampler = Field("tpe", description="What suggests treatments.")
    trials: int | None = Field(None, ge=1, description="Treatments it may try, the baseline among them.")
    objectives: tuple[str, ...] = Field((), description="Metrics to make better; the primary one if none are named.")
    constraints: dict[str, str] = Field({}, description="Metric -> bound, such as '<= 2' or '>= 30'.")


class TuningSettings(Settings):
    """How the nuisance settings of each treatment are tuned, for the primary metric."""

    trials: int = Field(ge=1, description="Settings tried for each treatment, the file's own among them.")
    seeds: tuple[NonNegativeInt, ...] = Field((1000,), min_length=1, description="What tuning trains with, and no row.")
    sampler: Sampler = Field("tpe", description="What suggests settings.")


class PruningSettings(Settings):
    """When treatments are stopped early."""

    rule: Rule = Field(description="How they are compared at a rung.")
    metric: str = Field(description="What is compared: during/<metric> of a quick probe, or a loss such as train/loss.")
    first: PositiveInt = Field(description="The first rung, in steps over all stages.")
    factor: int = Field(3, ge=2, description="asha: one in so many goes on, to a rung so many times as far.")


class Replicates(Settings):
    """As many seeds as it takes, within bounds: more where the primary metric's interval still holds 0."""

    fewest: int = Field(alias="from", ge=2, description="Seeds of every treatment.")
    most: int = Field(alias="to", ge=3, description="Seeds of a treatment at most.")


Seeds = Annotated[
    Annotated[int, Tag("count")] | Annotated[list[int], Tag("seeds")] | Annotated[Replicates, Tag("bounds")],
    Discriminator(lambda value: {dict: "bounds", list: "seeds"}.get(type(value), "count")),
]


class StudyFile(Settings):
    """The keys of a study file. `ablate schema` prints this as JSON schema for editors."""

    study: str = Field(pattern=NAME, description="Short name: MLflow experiment, folder in the store.")
    question: str = Field(description="What the study finds out, in one sentence.")
    paper: str | None = Field(None, description="The source whose claims the results are held against.")
    base: dict[str, Any] = Field(description="The baseline: slot -> level, or a mapping with 'level' and settings.")
    factors: dict[str, LevelList] = Field({}, description="Dotted path -> levels that the study tries, or their range.")
    design: Designs = Field(("one_at_a_time",), description="Which treatments are run: a design, or a list of them.")
    fraction: FractionSize | None = Field(None, description="For design 'fraction': {resolution: 4} or {runs: 8}.")
    search: SearchSettings | None = Field(None, description="For design 'search': {sampler: tpe, trials: 24}.")
    nuisance: dict[str, LevelList] = Field(
        {}, description="Like 'factors', but tuned for each treatment, not compared."
    )
    tuning: TuningSettings | None = Field(None, description="How 'nuisance' is tuned: {trials: 6}.")
    pruning: PruningSettings | None = Field(None, description="Whether hopeless treatments are stopped early.")
    where: Constraints = Field((), description="What treatments must fulfil, e.g. not (norm == 'scn' and loss.kl > 1).")
    treatments: list[dict[str, Any]] = Field([], description="For design 'list': each a mapping factor -> level.")
    seeds: Seeds = Field(3, description="How many replicates, their seeds, or {from: 3, to: 8}: more where needed.")
    stages: list[dict[str, dict[str, Any]]] = Field(description="Legs of training in order, each 'name: {settings}'.")
    probes: list[str | dict[str, Any]] = Field(description="Examinations of every trained model.")
    primary: str = Field(description="The one metric that the correction for multiple comparisons is for.")
    scales: dict[str, dict[str, Any]] = Field({}, description="Scale -> overrides (dotted path -> value).")


PARTS: dict[str, type[Settings]] = {
    "fraction": FractionSize,
    "factors": Range,
    "nuisance": Range,
    "pruning": PruningSettings,
    "search": SearchSettings,
    "seeds": Replicates,
    "tuning": TuningSettings,
}


CHOICES = {
    "design": ("design", DESIGNS),
    "search": ("sampler", SAMPLERS),
    "tuning": ("sampler", SAMPLERS),
    "pruning": ("rule", RULES),
}


def read_file(document: Document) -> StudyFile:
    """Check the top level of a parsed study. Raises StudyError with every problem."""
    if not isinstance(document.data, dict):
        raise StudyError([document.problem((), "a study is a mapping of keys to values")])
    try:
        file = StudyFile.read(document.data)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            loc = item["loc"]
            if loc[0] == "seeds":
                loc = (loc[0], *loc[2:])
            if loc[0] in {"factors", "nuisance"}:  # the name of a branch of `LevelList` follows the factor's path
                loc = (*loc[:2], *loc[3:])
            name = ".".join(str(word) for word in loc if isinstance(word, str))
            if item["type"] == "extra_forbidden":
                known = PARTS[str(loc[0])] if loc[1:] else StudyFile
                message = f"unknown key '{name}'{nearest(str(loc[-1]), known.model_fields)}"
            elif item["type"] == "missing":
                message = f"the key '{name}' is missing"
            elif item["type"] == "literal_error":
                what, valid = CHOICES[str(loc[0])]
                message = f"unknown {what} '{item['input']}'{nearest(str(item['input']), valid)}"
            else:
                message = f"{name}: {item['msg'][:1].lower() + item['msg'][1:]}, found {item['input']!r}"
            problems.append(document.problem(loc, message, at_key=item["type"] == "extra_forbidden"))
        raise StudyError(_one_per_place(problems)) from None
    try:
        list_seeds(file.seeds)
    except ValueError as error:
        raise StudyError([document.problem(("seeds",), str(error))]) from None
    if problems := _check_designs(document, file):
        raise StudyError(problems)
    return file


def list_seeds(seeds: Any) -> list[int]:
    """All seeds that a study may use, from their number, a list of them, or bounds. Raises ValueError for others."""
    if isinstance(seeds, Replicates):
        if seeds.fewest >= seeds.most:
            raise ValueError(f"seeds: expected 'from' below 'to', found {seeds.fewest} and {seeds.most}")
        return [*range(seeds.most)]
    found = [*range(seeds)] if type(seeds) is int else seeds
    numbers = found if isinstance(found, list) and all(type(seed) is int and seed >= 0 for seed in found) else []
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds: expected a count or distinct numbers from 0, found {seeds}")
    return numbers


def _check_designs(document: Document, file: StudyFile) -> list[Problem]:
    if not file.design:
        return [document.problem(("design",), "design: expected at least one")]
    messages = {i: f"design '{name}' is named twice" for i, name in enumerate(file.design) if name in file.design[:i]}
    for alone in {"list", "search"}.intersection(file.design) if len(file.design) > 1 else ():
        messages[file.design.index(alone)] = f"design '{alone}' cannot be combined with another design"
    for name in {"grid", "fraction", "search"}.intersection(file.design) if isinstance(file.seeds, Replicates) else ():
        messages[file.design.index(name)] = (
            f"design '{name}' needs as many seeds of each treatment; 'from' and 'to' are for designs that compare "
            "each with a reference"
        )
    problems = [document.problem(("design", i), message) for i, message in messages.items()]
    return [*problems, *_check_fraction(document, file), *_check_search(document, file),
            *_check_tuning(document, file)]  # fmt: skip


def _check_fraction(document: Document, file: StudyFile) -> list[Problem]:
    sizes = [] if file.fraction is None else [size for size in (file.fraction.resolution, file.fraction.runs) if size]
    if "fraction" not in file.design:
        message = f"'fraction' is for design 'fraction', not '{file.design[0]}'"
        return [] if file.fraction is None else [document.problem(("fraction",), message, at_key=True)]
    if len(sizes) == 1:
        return []
    if not sizes:
        message = "design 'fraction' needs the key 'fraction', such as {resolution: 4} or {runs: 8}"
        return [document.problem(("design", file.design.index("fraction")), message)]
    return [document.problem(("fraction",), "fraction: expected either 'resolution' or 'runs', found both")]


def _check_search(document: Document, file: StudyFile) -> list[Problem]:
    if "search" in file.design and file.search is None:
        message = "design 'search' needs the key 'search', such as {sampler: tpe, trials: 24}"
        return [document.problem(("design", file.design.index("search")), message)]
    if "search" not in file.design and file.search is not None:
        message = f"'search' is for design 'search', not '{file.design[0]}'"
        return [document.problem(("search",), message, at_key=True)]
    return []


def _check_tuning(document: Document, file: StudyFile) -> list[Problem]:
    if file.tuning and not file.nuisance:
        return [document.problem(("tuning",), "'tuning' is for 'nuisance', which names nothing to tune", at_key=True)]
    if not file.tuning:
        message = "'nuisance' needs the key 'tuning', such as {trials: 6}"
        return [document.problem(("nuisance",), message, at_key=True)] if file.nuisance else []
    if "search" in file.design:
        message = "design 'search' suggests all settings alike; put these under 'factors'"
        return [document.problem(("nuisance",), message, at_key=True)]
    if shared := sorted({*file.tuning.seeds} & {*list_seeds(file.seeds)}):
        message = f"tuning: seed {shared[0]} is one of the study's; what was tuned on a seed is confirmed on others"
        return [document.problem(("tuning", "seeds"), message)]
    return []


def _one_per_place(problems: list[Problem]) -> list[Problem]:
    """A union reports each of its branches; one complaint a place is enough."""
    return list({(problem.line, problem.column): problem for problem in reversed(problems)}.values())[::-1]


def raw_recipe(document: Document, file: StudyFile) -> Raw:
    """The raw `{base, stages, probes, seeds}` of a study, levels in long form.

    Raises StudyError for stages that are not a chain.
    """
    problems = []
    stages: Raw = {}
    for i, stage in enumerate(file.stages):
        if len(stage) != 1:
            problems.append(document.problem(("stages", i), "expected one 'name: {settings}' per item"))
        for name, settings in stage.items():
            if name in stages:
                problems.append(document.problem(("stages", i, name), f"two stages are named '{name}'", at_key=True))
            stages[name] = {
                key: spread(key, value) if key in RECIPE_SLOTS else value for key, value in settings.items()
            }
    if not stages:
        problems.append(document.problem(("stages",), "a study needs at least one stage of training"))
    if problems:
        raise StudyError(problems)
    base = {slot: spread(slot, value) for slot, value in file.base.items()}
    probes = [spread("probe", value) for value in file.probes]
    probes_by_name = {probe.get("level"): probe for probe in probes}
    return {"base": base, "stages": stages, "probes": probes_by_name, "seeds": file.seeds}
