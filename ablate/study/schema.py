"""The keys of a study file and their types, before any slot is looked into."""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    NonNegativeInt,
    Tag,
    WithJsonSchema,
)

from ablate.slots.settings import Settings
from ablate.store.shrink import KEEPS, Keep
from ablate.study.names import LONGEST_NAME, NAME

Count = Annotated[int, Field(le=10**9)]
"""Treatments, trials or steps: no more than any machine runs."""


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
    """The size of a fraction: its `resolution`, if all factors have two levels, or its `runs`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["resolution"]}, {"required": ["runs"]}]})

    resolution: Count | None = Field(
        None, ge=3, description="3: main effects are told apart, 4: also from interactions."
    )
    runs: Count | None = Field(None, ge=4, description="Treatments; of two-level factors a power of two.")
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
    """The settings of design `search`."""

    sampler: Sampler = Field("tpe", description="What suggests treatments.")
    trials: Count | None = Field(None, ge=1, description="Treatments it may try, the baseline among them.")
    objectives: tuple[str, ...] = Field((), description="Metrics to make better; the primary one if none are named.")
    constraints: dict[str, str] = Field({}, description="Metric -> bound, such as '<= 2' or '>= 30'.")


class TuningSettings(Settings):
    """How the nuisance settings of each treatment are tuned: for the best primary metric."""

    trials: Count = Field(ge=1, description="Settings tried for each treatment, the file's own among them.")
    seeds: tuple[NonNegativeInt, ...] = Field(
        (1000,), min_length=1, description="Seeds of tuning alone; no row of the table uses them."
    )
    sampler: Sampler = Field("tpe", description="What suggests settings.")


class PruningSettings(Settings):
    """When treatments are stopped early."""

    rule: Rule = Field(description="How they are compared at a rung.")
    metric: str = Field(description="What is compared: during/<metric> of a quick probe, or a loss such as train/loss.")
    first: Count = Field(gt=0, description="The first rung, in steps over all stages.")
    factor: Count = Field(
        3,
        ge=2,
        description="asha: one in `factor` treatments continues, to a rung `factor` times as far.",
    )


class Replicates(Settings):
    """Bounds on the seeds of a treatment: it gets more while its interval of the primary metric still holds 0."""

    fewest: int = Field(alias="from", ge=2, description="Seeds of every treatment.")
    most: int = Field(alias="to", ge=3, description="Seeds of a treatment at most.")


Seeds = Annotated[
    Annotated[int, Tag("count")] | Annotated[list[int], Tag("seeds")] | Annotated[Replicates, Tag("bounds")],
    Discriminator(lambda value: {dict: "bounds", list: "seeds"}.get(type(value), "count")),
]


Primary = Annotated[
    Annotated[str, Tag("metric")] | Annotated[dict[str, str], Tag("by factor")],
    Discriminator(lambda value: "by factor" if isinstance(value, dict) else "metric"),
]
"""One metric, or a metric for each factor, by path, and for all other comparisons, by `default`."""


class StudyFile(Settings):
    """The keys of a study file. `ablate schema` prints this as JSON schema for editors."""

    study: str = Field(
        pattern=NAME, max_length=LONGEST_NAME, description="Short name: MLflow experiment, folder in the store."
    )
    question: str = Field(description="What the study finds out, in one sentence.")
    paper: str | None = Field(None, description="The source whose claims are checked against the results.")
    base: dict[str, Any] = Field(description="The baseline: slot -> level, or a mapping with 'level' and settings.")
    factors: dict[str, LevelList] = Field(
        {},
        description="Dotted path -> levels that the study tries, or their range; {level: scn, label: SCN (ours)} "
        "is level scn under another name.",
    )
    design: Designs = Field(("one_at_a_time",), description="Which treatments are run: a design, or a list of them.")
    fraction: FractionSize | None = Field(None, description="For design 'fraction': {resolution: 4} or {runs: 8}.")
    search: SearchSettings | None = Field(None, description="For design 'search': {sampler: tpe, trials: 24}.")
    nuisance: dict[str, LevelList] = Field(
        {}, description="Like 'factors', but tuned for each treatment, not compared."
    )
    tuning: TuningSettings | None = Field(None, description="How 'nuisance' is tuned: {trials: 6}.")
    pruning: PruningSettings | None = Field(None, description="Whether and how bad treatments are stopped early.")
    where: Constraints = Field((), description="What treatments must fulfil, e.g. not (norm == 'scn' and loss.kl > 1).")
    treatments: list[dict[str, Any]] = Field([], description="For design 'list': each a mapping factor -> level.")
    seeds: Seeds = Field(3, description="How many replicates, their seeds, or {from: 3, to: 8}: more where needed.")
    stages: list[dict[str, dict[str, Any]]] = Field(description="Legs of training in order, each 'name: {settings}'.")
    probes: list[str | dict[str, Any]] = Field(description="Examinations of every trained model.")
    primary: Primary = Field(
        description="The metric of the planned comparisons, which are corrected for their number; or factor -> metric, "
        "with 'default' for comparisons in which other factors change."
    )
    interest: dict[str, FiniteFloat] = Field(
        {}, description="Metric -> smallest difference worth knowing, in its unit; else the metric's own."
    )
    labels: dict[str, str] = Field(
        {}, description="Metric, or dotted path of a factor -> its name in tables and figures."
    )
    keep: Keep = Field(
        "weights",
        description="What checkpoints of finished trials hold: weights and their average; all, to go on training from "
        "them; the average (ema) alone; none.",
    )
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
    "keep": ("kept part", KEEPS),
}
