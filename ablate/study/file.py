"""From a parsed document to the keys of a study file: types, and rules between keys."""

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ablate.errors import KeyPath, Problem, StudyError, nearest, show_value
from ablate.recipe.paths import RECIPE_SLOTS, Raw, spread
from ablate.recipe.stages import Train
from ablate.recipe.synonyms import nearest_of
from ablate.recipe.validation import explain, is_finite
from ablate.slots.settings import Settings
from ablate.study.document import Document
from ablate.study.labels import without_labels
from ablate.study.names import RESERVED, name_fault
from ablate.study.schema import CHOICES, PARTS, Replicates, StudyFile

REPLACEMENTS: dict[str, Any] = {
    "study": "unnamed",
    "question": "",
    "base": {},
    "stages": [],
    "probes": [],
    "primary": "",
}
"""Values of required keys that are missing or wrong, so that the rest of a file can be checked."""


@dataclass(frozen=True)
class FileCheck:
    """A study's file as far as its keys and their types are right.

    `wrong`: the keys that are missing or that hold something wrong, which is left out or replaced by a default.
    """

    file: StudyFile
    problems: list[Problem]
    wrong: frozenset[str]


def read_file(document: Document) -> FileCheck:
    """Check the keys of a parsed study and their types. Raises StudyError if it is no mapping at all."""
    if not isinstance(document.data, dict):
        found = "a list" if isinstance(document.data, list) else show_value(document.data)
        message = f"a study is a mapping of keys to values, such as 'study: NAME', found {found}"
        raise StudyError([document.problem((), message)])
    problems: list[Problem] = []
    wrong: set[str] = set()
    data, mislabelled = without_labels(document, document.data)
    data = copy.copy(data)
    problems += mislabelled
    for path, message, at_key in [*_misnamed(data), *_misnamed_ranges(data)]:
        problems.append(document.problem(path, message, at_key=at_key))
        _leave_out(data, path, wrong)
    try:
        file = StudyFile.read(_finite(document, data, problems, wrong))
    except ValidationError as error:
        for item in error.errors():
            problems.append(_problem(document, item))
            _leave_out(data, item["loc"], wrong)
        file = StudyFile.read(data)
    try:
        list_seeds(file.seeds)
    except ValueError as error:
        problems.append(document.problem(("seeds",), str(error)))
        wrong.add("seeds")
        file = file.model_copy(update={"seeds": 3})
    if "design" not in wrong:
        contradictions = _check_designs(document, file, wrong)
        problems += contradictions
        wrong |= {"design"} if contradictions else set()
    return FileCheck(file, _one_per_position(problems), frozenset(wrong))


def _misnamed(data: Raw) -> Iterator[tuple[KeyPath, str, bool]]:
    """The names of the study and its scales that cannot be those of folders."""
    study = data.get("study")
    if isinstance(study, str) and RESERVED.fullmatch(study) and (message := name_fault("study", study)):
        yield ("study",), message, False
    scales = data.get("scales")
    for name in scales if isinstance(scales, dict) else ():
        if message := name_fault("scale", name):
            yield ("scales", name), message, True


def _misnamed_ranges(data: Raw) -> Iterator[tuple[KeyPath, str, bool]]:
    """Ranges whose ends have other names than `low` and `high`."""
    for key in ("factors", "nuisance"):
        factors = data.get(key)
        for path, given in factors.items() if isinstance(factors, dict) else ():
            pairs = [pair for pair in RANGE_WORDS if isinstance(given, dict) and {*pair} <= given.keys()]
            for low, high in pairs:
                meant = f"low: {show_value(given[low])}, high: {show_value(given[high])}"
                message = f"{key}.{path}: a range has no '{low}' and '{high}'; did you mean {meant}?"
                yield (key, path), message, False


RANGE_WORDS = (("from", "to"), ("min", "max"), ("start", "stop"), ("start", "end"))
"""What the ends of a range are called elsewhere."""


def _finite(document: Document, data: Raw, problems: list[Problem], wrong: set[str]) -> Raw:
    """The data without what holds NaN or an infinity outside of levels and settings, whose own errors say so."""
    for key in data.keys() & {"interest", "seeds", "fraction", "search", "tuning", "pruning"}:
        if not is_finite(data[key]):
            problems.append(document.problem((key,), f"{key}: expected finite numbers, found {show_value(data[key])}"))
            _leave_out(data, (key,), wrong)
    return data


def _leave_out(data: Raw, loc: KeyPath, wrong: set[str]) -> None:
    """Remove what is wrong at a path: of factors the one that is wrong, else all that stands under the first key."""
    key = str(loc[0])
    wrong.add(key)
    if key in {"factors", "nuisance", "scales"} and loc[1:] and isinstance(data.get(key), dict):
        data[key] = {name: value for name, value in data[key].items() if name != loc[1]}
    else:
        data.pop(key, None)
        data |= {key: REPLACEMENTS[key]} if key in REPLACEMENTS else {}


def _problem(document: Document, item: Mapping[str, Any]) -> Problem:
    """One of pydantic's errors at its position, in plain words."""
    loc = item["loc"]
    if loc[0] in {"primary", "seeds"}:  # the name of a branch of a union is part of pydantic's path
        loc = (loc[0], *loc[2:])
    if loc[0] in {"factors", "nuisance"}:
        loc = (*loc[:2], *loc[3:4])
    if loc[0] == "probes":
        loc = loc[:2]
    name = ".".join(str(word) for word in loc if isinstance(word, str))
    kind = item["type"]
    if kind == "extra_forbidden":
        hint = nearest(str(loc[-1]), _keys(PARTS[str(loc[0])])) if loc[1:] else _key_hint(str(loc[0]))
        return document.problem(loc, f"unknown key '{name}'{hint}", at_key=True)
    if kind == "missing":
        return document.problem(loc, f"the key '{name}' is missing")
    if kind == "literal_error":
        what, valid = CHOICES[str(loc[0])]
        found = item["input"]
        if not isinstance(found, str):
            return document.problem(loc, f"{name}: expected a {what}, found {show_value(found)}")
        return document.problem(loc, f"unknown {what} '{found}'{nearest_of(what, found, valid)}")
    if loc[0] in {"factors", "nuisance"} and loc[2:] and loc[2] in {"low", "high"}:
        return document.problem(loc, f"{name}: expected a finite number, found {show_value(item['input'])}")
    if kind == "list_type" and loc[0] in {"factors", "nuisance"} and len(loc) == 2:
        found = item["input"]
        example = f", such as [{found}, …]" if isinstance(found, str | int | float) else ""
        message = f"{name}: expected a list of levels{example}, found {show_value(found)}"
        return document.problem(loc, message)
    if loc[0] == "scales" and len(loc) == 2 and item["input"] is None:
        return document.problem(loc, f"{name}: expected a mapping, found nothing; write {{}} for no changes")
    if loc == ("seeds",):
        return document.problem(loc, f"{SEEDS_EXPECTED}, found {show_value(item['input'])}")
    hint = ""
    if loc[0] == "stages" and kind in {"list_type", "dict_type"}:
        hint = "; each stage is an item '- NAME: {steps: …, lr: …}'"
    if loc[0] == "probes" and loc[1:]:
        return document.problem(loc, f"probes: expected a probe's name, found {show_value(item['input'])}")
    return document.problem(loc, f"{name}: {explain(item)}{hint}")


def _keys(settings: type[Settings]) -> list[str]:
    """The keys as they stand in a file."""
    return [field.alias or name for name, field in settings.model_fields.items()]


def _key_hint(key: str) -> str:
    """The way out of an unknown key: the slot, the setting of a stage or the key that is meant."""
    if key in RECIPE_SLOTS:
        return f"; '{key}' is a slot: put it under 'base'"
    if key in Train.model_fields:
        return f"; '{key}' is a setting of a stage: put it under 'stages', as in '- train: {{{key}: …}}'"
    return nearest_of("key", key, StudyFile.model_fields)


SEEDS_EXPECTED = "seeds: expected a count or distinct numbers from 0, such as 3 or [0, 1, 2]"

MOST_SEEDS = 10_000

LARGEST_SEED = 2**32 - 1
"""The largest that every random number generator takes."""


def list_seeds(seeds: Any) -> list[int]:
    """All seeds that a study may use, from their number, a list of them, or bounds. Raises ValueError for others."""
    if isinstance(seeds, Replicates):
        if seeds.fewest >= seeds.most:
            raise ValueError(f"seeds: expected 'from' below 'to', found {seeds.fewest} and {seeds.most}")
        count = seeds.most
    else:
        count = seeds if type(seeds) is int else 0
    if count > MOST_SEEDS:
        raise ValueError(f"seeds: expected at most {MOST_SEEDS}, found {count}")
    numbers = [*range(count)] if count > 0 else seeds if isinstance(seeds, list) else []
    if not numbers or not all(type(seed) is int and seed >= 0 for seed in numbers) or len({*numbers}) < len(numbers):
        raise ValueError(f"{SEEDS_EXPECTED}, found {show_value(seeds)}")
    if max(numbers) > LARGEST_SEED:
        raise ValueError(f"seeds: expected numbers of at most {LARGEST_SEED}, found {show_value(max(numbers))}")
    return numbers


def _check_designs(document: Document, file: StudyFile, wrong: Collection[str]) -> list[Problem]:
    """Whether the designs can be combined, and have the keys that they need; those in `wrong` are not looked at."""
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
    for rule, keys in ((_check_fraction, {"fraction"}), (_check_search, {"search"}),
                        (_check_tuning, {"nuisance", "tuning"})):  # fmt: skip
        problems += [] if keys & {*wrong} else rule(document, file)
    return problems


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
    seeds = file.tuning.seeds
    if repeated := [i for i, seed in enumerate(seeds) if seed in seeds[:i]]:
        message = f"tuning: seed {seeds[repeated[0]]} is named twice"
        return [document.problem(("tuning", "seeds", repeated[0]), message)]
    if max(seeds) > LARGEST_SEED:
        message = f"tuning: expected seeds of at most {LARGEST_SEED}, found {show_value(max(seeds))}"
        return [document.problem(("tuning", "seeds"), message)]
    if shared := sorted({*file.tuning.seeds} & {*list_seeds(file.seeds)}):
        message = f"tuning: seed {shared[0]} is one of the study's; what was tuned on a seed is confirmed on others"
        return [document.problem(("tuning", "seeds"), message)]
    return []


def _one_per_position(problems: list[Problem]) -> list[Problem]:
    """The first problem at each position: pydantic reports each branch of a union."""
    return list({(problem.line, problem.column): problem for problem in reversed(problems)}.values())[::-1]


def raw_recipe(document: Document, check: FileCheck, problems: list[Problem]) -> Raw:
    """The raw `{base, stages, probes, seeds}` of a study, levels in long form.

    Adds to `problems` stages that are no chain, and probes that are named twice.
    """
    file = check.file
    stages: Raw = {}
    for i, stage in enumerate(file.stages):
        if len(stage) != 1:
            problems.append(document.problem(("stages", i), "expected one 'name: {settings}' per item"))
        for name, settings in stage.items():
            if message := name_fault("stage", name):
                problems.append(document.problem(("stages", i, name), message, at_key=True))
            if name in stages:
                problems.append(document.problem(("stages", i, name), f"two stages are named '{name}'", at_key=True))
            stages[name] = {
                key: spread(key, value) if key in RECIPE_SLOTS else value for key, value in settings.items()
            }
    if not stages and "stages" not in check.wrong:
        problems.append(document.problem(("stages",), "a study needs at least one stage of training"))
    base = {slot: spread(slot, value) for slot, value in file.base.items()}
    probes: Raw = {}
    for i, value in enumerate(file.probes):
        probe = spread("probe", value)
        name = probe.get("level")
        if isinstance(name, str) and name in probes:
            problems.append(document.problem(("probes", i), f"probe '{name}' is named twice"))
        probes[name if isinstance(name, str) else f"probe {i}"] = probe
    if not probes and "probes" not in check.wrong:
        problems.append(document.problem(("probes",), "a study needs at least one probe"))
    return {"base": base, "stages": stages, "probes": probes, "seeds": file.seeds}
