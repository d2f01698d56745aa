"""Reads the file of a level: its settings and metrics, without running the rest of the file.

`Config`, `METRICS`, `CHEAP` and `COSTLY` are run; they may use builtins, names imported from the modules in
`LIGHT_MODULES`, and of `ablate.slots` those in `ablate.slots.LIGHT`. The rest of the file is parsed and not run, so
that planning never loads torch.
"""

import ast
import builtins
import functools
import symtable
import sys
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ablate import slots
from ablate.errors import AblateError, Problem, nearest
from ablate.slots.fingerprint import fingerprint
from ablate.slots.hooks import hidden_hooks
from ablate.slots.own_code import OwnCode, OwnFolder
from ablate.slots.settings import Metric, Settings

LIGHT_MODULES = {"math", "typing", "pathlib", "pydantic", "ablate.data.prepare", "ablate.data.remote"}
"""Modules, beside `ablate.slots`, whose names `Config` and `METRICS` may use."""


DECLARED = ("Config", "METRICS", "CHEAP", "COSTLY")
"""What is read from a level's file; all else is run only when the level is built."""


class LevelError(AblateError, ValueError):
    """A level's file that cannot be used, with every problem and its place in the file."""

    def __init__(self, problems: list[Problem]):
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))

    @property
    def brief(self) -> str:
        """All problems in one line, for a message about something else, such as a study that names the level."""
        lines = [f"{problem.line}: " if problem.line else " " for problem in self.problems]
        found = zip(self.problems, lines, strict=True)
        return "; ".join(f"{problem.file}:{line}{problem.message}" for problem, line in found)


@dataclass(frozen=True)
class Level:
    """A level as its source describes it, not yet imported."""

    slot: str
    name: str
    path: Path
    doc: str
    Config: type[Settings]
    metrics: tuple[Metric, ...]
    cheap: bool
    costly: bool
    code: OwnCode = field(default_factory=OwnCode, compare=False, repr=False)
    folder: OwnFolder | None = None
    """The folder of own levels that it is from; None for a shipped level."""

    @property
    def module(self) -> str:
        """The name that its file is imported by."""
        return f"{self.folder.package if self.folder else 'ablate.components'}.{self.slot}.{self.name}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """Content hash of the code behind this level; see `ablate/slots/fingerprint.py`."""
        prepared_by = ["ablate.data.prepare"] if self.slot == "data" else []  # what all pictures pass through
        if self.folder is None:
            return fingerprint([f"ablate.components.{self.slot}.{self.name}", *prepared_by], self.path.parents[1])
        own = self.code.resolver(self.folder)
        return fingerprint([f"components.{self.slot}.{self.name}", *prepared_by], COMPONENTS, own)


COMPONENTS = Path(__file__).parents[1] / "components"


def read_level(
    slot: str,
    name: str,
    path: Path,
    base: type[Settings] = Settings,
    code: OwnCode | None = None,
    folder: OwnFolder | None = None,
) -> Level:
    """Describe a level without importing it; its Config must inherit `base`. Raises LevelError with all problems.

    `code` and `folder`: of an own level, whose source was read before.
    """
    tree = _parse(path, folder.files[f"{slot}/{name}.py"] if folder else None)
    package = folder.package if folder else "ablate.components"
    declared = read_declarations(slot, path, tree, base, f"{package}.{slot}.{name}:settings")
    return Level(slot, name, path, ast.get_docstring(tree) or "", *declared, code or OwnCode(), folder)


Declared = tuple[type[Settings], tuple[Metric, ...], bool, bool]
"""Config, METRICS, CHEAP and COSTLY."""


def read_declarations(slot: str, path: Path, tree: ast.Module, base: type[Settings], module: str) -> Declared:
    """Run what a level's source declares, as a module of this name. Raises LevelError with all problems."""
    declarations = [node for node in map(_light_part, tree.body) if node]
    if problems := [*_heavy_names(path, tree, declarations), *_missing(path, tree, base)]:
        raise LevelError(problems)
    values = _run(path, declarations, module)
    if problems := list(_wrong_values(path, slot, base, declarations, values)):
        raise LevelError(problems)
    if problems := list(_wrong_fields(path, tree, values["Config"])):
        raise LevelError(problems)
    return values["Config"], values.get("METRICS", ()), values.get("CHEAP", False), values.get("COSTLY", False)


def _parse(path: Path, source: bytes | None = None) -> ast.Module:
    try:
        return ast.parse(path.read_bytes() if source is None else source, filename=str(path))
    except SyntaxError as error:
        problem = _problem(path, error.lineno or 1, f"invalid Python: {error.msg}", error.offset or 1)
    except ValueError as error:  # null bytes
        problem = _problem(path, 1, f"invalid Python: {error}")
    except OSError as error:
        problem = Problem(_shown(path), 1, 1, f"the file cannot be read: {error.strerror or error}")
    raise LevelError([problem])


def _heavy_names(path: Path, tree: ast.Module, declarations: list[ast.stmt]) -> Iterator[Problem]:
    """The names that declarations use and may not, each where it is used first."""
    allowed = {*dir(builtins), "__name__"}.union(*map(_bound, declarations))
    for node in declarations:
        used = set() if isinstance(node, ast.Import | ast.ImportFrom) else _free_names(node) - allowed
        seen = sorted((item.lineno, item.col_offset, item.id) for item in _names(node) if item.id in used)
        for line, column, name in sorted({item[2]: item for item in reversed(seen)}.values()):
            owner = next(name for name in DECLARED if name in _bound(node))
            yield _problem(path, line, _forbid(tree, owner, name), column + 1)


def _forbid(tree: ast.Module, owner: str, name: str) -> str:
    """Why a declaration may not use a name, what it may use, and what to do instead."""
    origin = next((node for node in tree.body if name in _bound(node)), None)
    module = getattr(origin, "module", None) or name
    if module == "ablate.slots" and name not in slots.__all__:
        return f"{owner} uses '{name}', which ablate.slots does not have{nearest(name, slots.LIGHT)}"
    if isinstance(origin, ast.Import | ast.ImportFrom):
        found = f"imported from {module} in line {origin.lineno}"
        mend = "use a plain value, such as a string or a number, and convert it in build"
        if module in LIGHT_MODULES:
            mend = "import it in a statement of its own"
        elif module.startswith("ablate.slots.") and name in slots.LIGHT:
            mend = f"from ablate.slots import {name}"
    elif origin:
        found = f"defined in line {origin.lineno}"
        mend = f"write the value itself{', or define it within Config' if owner == 'Config' else ''}"
    else:
        found, mend = "which is not defined", "correct the name, or import it"
    return (
        f"{owner} uses '{name}', {found}. Config, METRICS, CHEAP and COSTLY are read without running the rest of the "
        f"file, so they may use only builtins, names imported from {', '.join(sorted(LIGHT_MODULES))}, and from "
        f"ablate.slots {', '.join(sorted(slots.LIGHT))}. To mend it: {mend}"
    )


def _missing(path: Path, tree: ast.Module, base: type[Settings]) -> Iterator[Problem]:
    """What every level's file must define and this one does not."""
    if not any(isinstance(node, ast.ClassDef) and node.name == "Config" for node in tree.body):
        other = next((node.lineno for node in tree.body if "Config" in _bound(node)), 0)
        found = "is not a class of this file" if other else "is missing"
        message = f"Config {found}; a level's settings are a class, even without any: class Config({base.__name__})"
        yield _problem(path, other or 1, message)
    if not any("build" in _bound(node) for node in tree.body):
        message = "build is missing; build(config, ...) makes the level (its arguments: ablate/slots/training.py)"
        yield _problem(path, 1, message)


def _run(path: Path, declarations: list[ast.stmt], name: str) -> dict[str, Any]:
    """Run declarations as a module of this name; gives the names that they define."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # pydantic looks a class's module up to resolve its annotations
    try:
        exec(compile(ast.Module(declarations, type_ignores=[]), str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, SystemExit):
            raise exits(path, error, "read") from error
        message = f"its settings cannot be read: {type(error).__name__}: {' '.join(str(error).split())}"
        raise LevelError([_problem(path, _raised_at(path, error), message)]) from error
    return module.__dict__


def exits(path: Path, error: SystemExit, state: str) -> LevelError:
    """The error of a level's file that ends the process, such as by sys.exit. `state`: "read" or "built"."""
    message = f"exits while it is {state} (SystemExit: {error}); raise ValueError with a message instead"
    return level_error(path, _raised_at(path, error), message)


def level_error(path: Path, line: int, message: str) -> LevelError:
    """One error at a line of a level's file."""
    return LevelError([_problem(path, line, message)])


def _raised_at(path: Path, error: BaseException) -> int:
    """The innermost line of a file that an error passed through; 1 where it did not."""
    steps = reversed(traceback.extract_tb(error.__traceback__))
    return next((step.lineno for step in steps if Path(step.filename).parts[-2:] == path.parts[-2:]), None) or 1


def _wrong_values(
    path: Path, slot: str, base: type[Settings], declarations: list[ast.stmt], values: dict[str, Any]
) -> Iterator[Problem]:
    """Declarations of another type than they must have."""
    lines = {name: node.lineno for node in declarations for name in _bound(node)}
    config, metrics = values["Config"], values.get("METRICS", ())
    if not (isinstance(config, type) and issubclass(config, base)):
        found = ", ".join(parent.__name__ for parent in getattr(config, "__bases__", ())) or repr(config)
        message = f"Config must inherit {base.__name__} of ablate.slots, found {found}; write Config({base.__name__})"
        yield _problem(path, lines["Config"], message)
    elif hidden := hidden_hooks(config, base):
        message = f"the field '{hidden[0]}' of Config hides {base.__name__}.{hidden[0]}; give the field another name"
        yield _problem(path, lines["Config"], message)
    if not isinstance(metrics, tuple) or not all(isinstance(metric, Metric) for metric in metrics):
        hint = "; a tuple of one ends with a comma: (Metric(...),)" if isinstance(metrics, Metric) else ""
        yield _problem(path, lines["METRICS"], f"METRICS: expected a tuple of Metric, found {metrics!r}{hint}")
    elif slot == "probe" and not metrics:
        message = "METRICS is missing or empty; a probe declares what it reports: METRICS = (Metric(...),)"
        yield _problem(path, lines.get("METRICS", 1), message)
    for name in ("CHEAP", "COSTLY"):
        if not isinstance(value := values.get(name, False), bool):
            yield _problem(path, lines[name], f"{name}: expected True or False, found {value!r}")


def _wrong_fields(path: Path, tree: ast.Module, config: type[Settings]) -> Iterator[Problem]:
    """Fields of Config with a name that is taken, or with a default that the field itself does not accept."""
    lines = _field_lines(tree)
    if "level" in config.model_fields:
        message = "a field of Config must not be named 'level', the key of the level's name in a study; rename it"
        yield _problem(path, lines.get("level", lines["Config"]), message)
        return
    optional = {name for name, field in config.model_fields.items() if not field.is_required()}
    try:
        defaults = config.model_construct().model_dump(mode="json", include=optional, warnings=False)
        config.read(defaults)
    except ValidationError as error:
        for item in error.errors():
            name = str(item["loc"][0]) if item["loc"] else ""
            if name in optional:  # the others are missing, or the defaults are not enough without them
                message = f"default of {name}: {_expected(item['msg'])}, found {item['input']!r}"
                yield _problem(path, lines.get(name, lines["Config"]), message)
    except (Exception, SystemExit) as error:
        message = f"its defaults cannot be read: {type(error).__name__}: {' '.join(str(error).split())}"
        yield _problem(path, lines["Config"], message)


def _field_lines(tree: ast.Module) -> dict[str, int]:
    """Lines of Config, under its name, and of its fields."""
    config = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    fields = [node for node in config.body if isinstance(node, ast.AnnAssign)]
    return {"Config": config.lineno, **{name: node.lineno for node in fields for name in _bound(node)}}


def _expected(message: str) -> str:
    """A message of pydantic, such as "Input should be greater than 0", as what is expected."""
    words = message.removeprefix("Input should be ")
    if words == message:
        return message
    return f"expected {'a number ' if words.startswith(('greater', 'less')) else ''}{words}"


def _problem(path: Path, line: int, message: str, column: int = 1) -> Problem:
    """A problem at a place in a level's file, which is shown from the working directory on."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # of an own level that the store holds
        lines = []
    return Problem(_shown(path), line, column, message, lines[line - 1] if line <= len(lines) else "")


def _shown(path: Path) -> str:
    """A path from the working directory on, or the whole path of a file elsewhere."""
    file = path.resolve()
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _light_part(node: ast.stmt) -> ast.stmt | None:
    """The part of a statement that is run to read a level's settings, if any."""
    if isinstance(node, ast.ImportFrom) and node.module == "ablate.slots":
        names = [alias for alias in node.names if alias.name in slots.LIGHT]
        return ast.copy_location(ast.ImportFrom(node.module, names, node.level), node) if names else None
    if isinstance(node, ast.ImportFrom):
        return node if node.module in {*LIGHT_MODULES, "__future__"} and not node.level else None
    if isinstance(node, ast.Import):
        return node if all(alias.name in LIGHT_MODULES for alias in node.names) else None
    if isinstance(node, ast.ClassDef):
        return node if node.name == "Config" else None
    return node if isinstance(node, ast.Assign | ast.AnnAssign) and _bound(node).intersection(DECLARED) else None


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a file defines, within `if` and `try` too."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {item.id for target in targets for item in _names(target)}
    return set().union(*(_bound(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)))


def _names(node: ast.AST) -> list[ast.Name]:
    """The names in a statement or expression."""
    return [item for item in ast.walk(node) if isinstance(item, ast.Name)]


def _free_names(node: ast.stmt) -> set[str]:
    """The names of a statement that are looked up outside of it, those in its functions included."""
    found: set[str] = set()
    tables = [symtable.symtable(ast.unparse(node), "level", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        at_top = table.get_type() == "module"
        found |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (symbol.is_global() or (at_top and not symbol.is_assigned()))
        }
    return found
