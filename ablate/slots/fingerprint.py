"""Content hash of the code behind a level: its own file and every module of this package that it imports.

A record holds the fingerprint of each level that its trial used. When one of them changes, the record is stale.

- Imports are read from the source, without running it: imports within functions, relative ones and those of
  `from package import module` count. A name that a package only hands on (`from ablate.slots import Metric`) leads to
  the module that defines it.
- A module counts by its syntax tree without docstrings: comments, formatting and wording change nothing.
- Own levels (`ablate/slots/own_code.py`) count with their helpers and with the user's modules that they import.
- A level that is an object of an installed package (`torch.nn:HuberLoss`) counts with all of this package.
- The engine (`ablate/engine/`) does not count, because no level imports it. `ablate.plan.signatures.FORMAT` stands for
  it and is part of every signature. Nor does the registry, which finds levels and computes nothing.

Files are read once per process.
"""

import ast
import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ablate.slots.installed import is_installed, package_digest
from ablate.slots.own_import import Module

PACKAGE = Path(__file__).parents[1]


NOT_COUNTED = "ablate.slots.registry"
"""Finds and reads levels; the data preparation imports it, and through that most data levels."""


Imported = tuple[str, str | None]
"""A module, and the name that is imported from it, if any."""


@dataclass(frozen=True)
class Source:
    """A module as its file describes it. `exports`: name -> where it comes from, for names that it imports.

    `imports`: from this package. `others`: from elsewhere.
    """

    digest: str
    imports: tuple[Imported, ...]
    exports: dict[str, Imported]
    others: tuple[Imported, ...] = ()


def _no_module(name: str) -> Module | None:
    return None


def fingerprint(modules: Iterable[str], components: Path, own: Callable[[str], Module | None] = _no_module) -> str:
    """Content hash of modules and of what they import from this package, directly or through others.

    `components`: the folder that is imported as `ablate.components`. `own`: gives the user's modules by name.
    """
    digests: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in digests or module == NOT_COUNTED:
            continue
        source = None
        if not _is_ours(module):
            found = own(module)
            if found and is_installed(found):
                digests[module] = package_digest(found, module)
            elif found:
                source = parse_source(found.source, module, is_package=found.is_package)
        elif path := _file(module, components):
            source = read_source(path, module)
        if source:
            digests[module] = source.digest
            waiting += [defining_module(imported, components) for imported in source.imports]
            waiting += _candidates(source)
    text = "\n".join(f"{module} {digests[module]}" for module in sorted(digests))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file(module: str, components: Path) -> Path | None:
    """The file of a module of this package; None where there is none."""
    parts = module.split(".")[1:]
    stem = components.joinpath(*parts[1:]) if parts[:1] == ["components"] else PACKAGE.joinpath(*parts)
    candidates = (stem / "__init__.py", stem.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


def defining_module(imported: Imported, components: Path) -> str:
    """The module that an import leads to; where a package hands on a name, the module that the name is from."""
    seen: set[Imported] = set()
    module, name = imported
    while name is not None and (module, name) not in seen:
        seen.add((module, name))
        if _file(f"{module}.{name}", components):
            return f"{module}.{name}"
        path = _file(module, components)
        if path is None or path.name != "__init__.py":
            break
        module, name = read_source(path, module).exports.get(name, (module, None))
    return module


def imported_modules(content: bytes, module: str, *, is_package: bool = False) -> list[str]:
    """Names of the modules outside of this package that a module may import; of some there may be no file."""
    return _candidates(parse_source(content, module, is_package=is_package))


def _candidates(source: Source) -> list[str]:
    """What imports from elsewhere may lead to: `from a.b import c` to `a`, `a.b` and `a.b.c`."""
    names = [f"{module}.{name}" if name else module for module, name in source.others]
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join(words[:count]) for words in parts for count in range(1, len(words) + 1)))


@functools.cache
def read_source(path: Path, module: str) -> Source:
    """Digest and imports of a module. A file that Python cannot parse counts by its bytes."""
    return parse_source(path.read_bytes(), module, is_package=path.name == "__init__.py")


@functools.lru_cache(maxsize=1024)
def parse_source(content: bytes, module: str, *, is_package: bool) -> Source:
    """As `read_source`, of a module whose file was read already."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return Source(hashlib.sha256(content).hexdigest(), (), {})
    package = module if is_package else module.rpartition(".")[0]
    imports: list[Imported] = []
    exports: dict[str, Imported] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(node, package)
            imports += [(origin, alias.name) for alias in node.names]
            if _is_ours(origin):
                exports |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
    ours = tuple(imported for imported in imports if _is_ours(imported[0]))
    others = tuple(imported for imported in imports if not _is_ours(imported[0]))
    words: list[str] = []
    _dump(tree, words)
    digest = hashlib.sha256(" ".join(words).encode("utf-8", "surrogatepass")).hexdigest()
    return Source(digest, ours, exports, others)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "ablate"


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The full name of the module that `from ... import` names, seen from within a package."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _dump(node: ast.AST, out: list[str]) -> None:
    """Append the tree as text, the same in every version of Python: no empty fields, positions or docstrings."""
    out.append(type(node).__name__)
    if isinstance(node, ast.Constant):
        out.append(repr(node.value))
        return
    out.append("(")
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, list):
            kept = [item for item in value if not _is_docstring(item)]
        else:
            kept = [] if value is None else [value]
        if kept:
            out.append(field)
        for item in kept:
            if isinstance(item, ast.AST):
                _dump(item, out)
            else:
                out.append(repr(item))
    out.append(")")


def _is_docstring(node: object) -> bool:
    """Whether a statement is only a string: a docstring, of an attribute too."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
