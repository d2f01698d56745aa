"""Levels that a study names as `package.module:Name`, an object of the user's own code.

`Name` is one of:

- a class that holds what the file of a level defines: a class `Config`, a function `build`, and for probes `METRICS`;
- a plain class or function, in the slots of `PLAIN`. Its arguments are the settings of the level, and
  `ablate/slots/adapters.py` makes a level of what it returns.

What a study is checked by, the names and defaults of the settings, is read from the source without running it.
"""

import ast
import importlib
import inspect
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, model_validator

from ablate.errors import Problem, nearest
from ablate.slots.fingerprint import PACKAGE, fingerprint
from ablate.slots.installed import is_installed
from ablate.slots.level_file import COMPONENTS, Level, LevelError, level_error, read_declarations
from ablate.slots.own_code import OwnCode
from ablate.slots.own_import import Module
from ablate.slots.settings import Settings

TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

PLAIN = {"model": 0, "norm": 1, "upsample": 1, "downsample": 1, "loss": 0}
"""Slots in which a plain class can be a level -> how many arguments it is given before the settings: the channels."""

OFFERED = {"model": ("stride", "latent_channels"), "norm": ("latent_channels",)}
"""Names of further arguments that a plain class of a slot is given if it takes them."""

INSTALLED = (
    "of an installed package only classes of nn.Module can be named, so that a study of somebody else's calls no other "
    "function; write one beside the study that calls it, and name that"
)

MOST_HOPS = 5
"""How often a name is followed that a module only imports from another."""


def is_target(name: str) -> bool:
    """Whether a level's name is meant as an object of a module: it holds a colon."""
    return ":" in name


@dataclass(frozen=True)
class Target(Level):
    """A level that is an object of the user's code. `plain`: whether the object is no level by itself."""

    plain: bool = False
    origin: str = ""
    """The module that defines the object."""

    @property
    def module(self) -> str:
        return self.name.partition(":")[0]

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of the object's module and of the user's modules that it imports."""
        adapter = ["ablate.slots.adapters"] if self.plain else []
        return fingerprint([self.module, self.origin, *adapter], COMPONENTS, self.code.resolver())

    def load(self) -> Any:
        """The object. Raises LevelError, at the user's line, where its module cannot be imported or lacks it."""
        try:
            module = importlib.import_module(self.module)
        except (Exception, SystemExit) as error:
            file, line = place(error, self.code, self.path)
            message = f"cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
            raise level_error(file, line, message) from error
        name = self.name.partition(":")[2]
        if not hasattr(module, name):
            raise _unusable(self.name, f"{self.path} defines no '{name}'{nearest(name, _public(vars(module)))}")
        found = getattr(module, name)
        if self.plain and is_installed(Module(str(self.path), b"")) and not _is_module(found):
            raise _unusable(self.name, INSTALLED)
        return found


class PlainSettings(Settings):
    """Settings of a plain class: those that its constructor takes. `offered`: those that are not the user's to give."""

    model_config = ConfigDict(extra="allow")

    names: ClassVar[tuple[str, ...] | None] = None
    """What the constructor takes; None where the source does not tell."""
    defaults: ClassVar[dict[str, Any]] = {}
    own: ClassVar[tuple[str, ...]] = ()
    """Settings that are not the constructor's."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        names = type(self).names
        if names is None:
            return self
        for name in self.model_extra or {}:
            if name not in {*names, *type(self).own}:
                raise ValueError(f"unknown setting '{name}'{nearest(name, names)}")
        return self

    def plain(self) -> dict[str, Any]:
        return {**type(self).defaults, **super().plain()}

    def get(self, name: str, default: Any) -> Any:
        return self.plain().get(name, default)


def read_target(slot: str, name: str, base: type[Settings], code: OwnCode) -> Target:
    """Describe the level `package.module:Name` without importing it. Raises LevelError where it cannot be used."""
    if not TARGET.fullmatch(name):
        raise _unusable(name, "expected package.module:Name, such as my_package.blocks:MyNorm")
    asked, _, word = name.partition(":")
    module = _require(asked, code)
    if module is None:
        top = asked.partition(".")[0]
        looked = ", ".join(str(root) for root in code.roots) or "no folder beside a study"
        there = f"there is no module '{asked}'" + (f" in {top}" if "." in asked and _require(top, code) else "")
        raise _unusable(name, f"{there}; looked in {looked}, and on sys.path")

    # Follow the name to the statement that defines it
    origin = asked
    node: ast.stmt | None = None
    tree = _parse(module)
    for _ in range(MOST_HOPS):
        node = next((one for one in _statements(tree) if word in _defined(one)), None)
        if not isinstance(node, ast.ImportFrom):
            break
        word = next(alias.name for alias in node.names if (alias.asname or alias.name) == word)
        origin = _origin(node, origin, is_package=module.is_package)
        following = _require(origin, code)
        if following is None:
            break
        module = following
        tree = _parse(module)
    path = Path(module.path)
    if node is None and not any(isinstance(one, ast.ImportFrom) and one.names[0].name == "*" for one in tree.body):
        public = _public({word for one in _statements(tree) for word in _defined(one)})
        raise _unusable(name, f"{path} defines no '{word}'{nearest(word, public)}")

    # What it says of itself
    if isinstance(node, ast.ClassDef) and _has_config(node):
        imports = [one for one in tree.body if isinstance(one, ast.Import | ast.ImportFrom)]
        declared = read_declarations(slot, path, ast.Module([*imports, *node.body], []), base, f"{name}:settings")
        return Target(slot, name, path, ast.get_docstring(node) or "", *declared, code, None, False, origin)
    if slot not in PLAIN:
        needs = "Config and build" + (", and METRICS," if slot == "probe" else "")
        found = f"{path}:{node.lineno}: " if node else ""
        plain = ", ".join(PLAIN)
        raise _unusable(name, f"{found}a {slot} needs {needs} in the class '{word}' (plain classes: {plain})")
    doc = ast.get_docstring(node) if isinstance(node, ast.ClassDef | ast.FunctionDef) else ""
    names, defaults = _arguments(node, PLAIN[slot])
    offered = OFFERED.get(slot, ()) if slot == "model" else ()
    members = {
        "__module__": __name__, "__doc__": f"Settings of {name}.", "model_config": ConfigDict(extra="allow"),
        "names": names, "defaults": defaults, "own": offered,
    }  # fmt: skip
    config = type("Config", (PlainSettings, base), members | ({"stride": property(_stride)} if slot == "model" else {}))
    return Target(slot, name, path, doc or "", config, (), False, False, code, None, True, origin)


def with_target(config: type[Settings]) -> type[Settings]:
    """The settings of a target together with `target`, its name."""
    return type("Config", (config,), {
        "__module__": __name__, "__annotations__": {"target": str}, "model_config": ConfigDict(extra="allow"),
    })  # fmt: skip


def _has_config(node: ast.ClassDef) -> bool:
    return any(isinstance(one, ast.ClassDef) and one.name == "Config" for one in node.body)


def _stride(config: Any) -> int:
    """The stride that is given; where none is, it is found when the model is built."""
    given = (config.model_extra or {}).get("stride")
    if given is None:
        raise AttributeError("stride is not given")
    return int(given)


def build_target(target: Target, config: Any, arguments: tuple[Any, ...]) -> Any:
    """The level that a target's object makes. Raises LevelError as `Target.load` does, and what the object raises."""
    made = target.load()
    if not target.plain:
        return made.build(made.Config.read(config.plain()), *arguments)
    from ablate.slots import adapters

    return adapters.ADAPTERS[target.slot](target.name, made, config, *arguments)


def place(error: BaseException, code: OwnCode, otherwise: Path) -> tuple[Path, int]:
    """The innermost line of the user's own files that an error passed through; line 1 of `otherwise` if it did not."""
    mine = {module.path for folder in code.folders for module in folder.modules.values()}
    mine |= {module.path for module in code.modules.values()}
    if isinstance(error, SyntaxError) and error.filename in mine:
        return Path(error.filename), error.lineno or 1
    steps = [step for step in traceback.extract_tb(error.__traceback__) if step.filename in mine]
    return (Path(steps[-1].filename), steps[-1].lineno or 1) if steps else (otherwise, 1)


def accepts(function: Any, name: str) -> bool:
    """Whether a class or function takes an argument of this name, or any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = inspect.Parameter
    return any(one.kind is kinds.VAR_KEYWORD or (one.name == name and one.kind is not kinds.POSITIONAL_ONLY)
               for one in parameters)  # fmt: skip


def _is_module(found: Any) -> bool:
    from torch import nn

    return isinstance(found, type) and issubclass(found, nn.Module)


def _unusable(name: str, message: str) -> LevelError:
    return LevelError([Problem(name, 0, 0, message)])


def _require(module: str, code: OwnCode) -> Module | None:
    if module.partition(".")[0] != "ablate":
        return code.require(module)
    file = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return Module(str(file), file.read_bytes()) if file.is_file() else None


def _parse(module: Module) -> ast.Module:
    try:
        return ast.parse(module.source, filename=module.path)
    except SyntaxError as error:
        raise level_error(Path(module.path), error.lineno or 1, f"invalid Python: {error.msg}") from None
    except ValueError as error:
        raise level_error(Path(module.path), 1, f"invalid Python: {error}") from None


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements at the top of a file, within `if` and `try` too; the last of a name counts, so it comes first."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If | ast.Try | ast.With):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        yield node


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return {node.name}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()


def _origin(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    """The full name of the module that `from ... import` names in a module."""
    if not node.level:
        return node.module or ""
    parts = module.split(".") if is_package else module.split(".")[:-1]
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _arguments(node: ast.stmt | None, given: int) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    """Names of what a class or function takes after its first `given` arguments, and the defaults that are literals.

    None for the names where the source does not tell: it takes any, or inherits its constructor.
    """
    function: ast.stmt | None = node
    if isinstance(node, ast.ClassDef):
        inits = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        function = inits[-1] if inits else None
        given += 1
    if not isinstance(function, ast.FunctionDef) or function.args.kwarg:
        return None, {}
    positional = [*function.args.posonlyargs, *function.args.args]
    pairs = list(zip(reversed(positional), reversed(function.args.defaults), strict=False))
    keywords = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    pairs += [(one, value) for one, value in keywords if value]
    names = [one.arg for one in (*positional[given:], *function.args.kwonlyargs)]
    defaults = {}
    for one, value in pairs:
        try:
            found = ast.literal_eval(value)
        except ValueError:
            continue
        if one.arg in names and _is_plain(found):
            defaults[one.arg] = list(found) if isinstance(found, tuple) else found
    return tuple(names), defaults


def _is_plain(value: Any) -> bool:
    """Whether a default is one that a study can give: a number, a text, or a list of these."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _public(names: Any) -> list[str]:
    return [name for name in names if not name.startswith("_")]
