"""Code of the user that a study works with: own levels, and the modules and scripts that it names.

Own levels are files `<slot>/<level>.py` in folders outside of this package (`ablate/slots/discover.py` finds them). A
folder is imported as a private package: its files may import each other relatively (`from ._helper import blur`,
`from ..shared.blur import blur`), and no folder is ever on `sys.path`. A module that is named absolutely (`my_pkg.vae`)
is looked for beside the study, in the folders of own levels, and then on `sys.path`.

All files are read once and imported from what was read. What a trial runs is therefore what its fingerprint covers,
even if a file is edited in the middle of a sweep, and a worker that reads the same from the store runs the same code.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from ablate.identity import signature
from ablate.slots import own_import
from ablate.slots.fingerprint import imported_modules, parse_source
from ablate.slots.installed import is_installed
from ablate.slots.own_import import Module

Plain = dict[str, Any]


@dataclass(frozen=True, eq=False)
class OwnFolder:
    """A folder of own levels. `found`: how it was found, in words. `files`: path in the folder -> its content."""

    path: Path
    found: str
    files: dict[str, bytes]

    @cached_property
    def digest(self) -> str:
        """Content hash of the place and all files."""
        return signature([str(self.path), {name: _text(content) for name, content in self.files.items()}])

    @property
    def package(self) -> str:
        """The name of the private package that the folder is imported as."""
        return f"_ablate_own_{self.digest}"

    def levels(self, slot: str) -> list[str]:
        """Names of the folder's levels of a slot."""
        names = [name.removesuffix(".py").split("/") for name in self.files]
        return sorted(parts[1] for parts in names if len(parts) == 2 and parts[0] == slot and parts[1][:1].islower())

    def file(self, slot: str, name: str) -> Path:
        return self.path / slot / f"{name}.py"

    def module(self, name: str) -> Module | None:
        """The file of a module, named from the folder on (`norm.mine`), or of a package, which may lack `__init__`."""
        stem = name.replace(".", "/")
        if f"{stem}.py" in self.files:
            return Module(str(self.path / f"{stem}.py"), self.files[f"{stem}.py"])
        begin = f"{stem}/" if stem else ""
        if any(file.startswith(begin) for file in self.files):
            init = f"{begin}__init__.py"
            return Module(str(self.path / init), self.files.get(init, b""), is_package=True)
        return None

    @cached_property
    def modules(self) -> dict[str, Module]:
        """All modules of the private package, by their full names."""
        names = {""}
        for file in self.files:
            parts = file.removesuffix(".py").removesuffix("/__init__").split("/")
            names |= {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        found = {f"{self.package}.{name}".rstrip("."): self.module(name) for name in names if name != "__init__"}
        return {name: module for name, module in found.items() if module}


@dataclass(eq=False)
class OwnCode:
    """The own code in effect.

    `folders`: of own levels. `roots`: folders in which modules are looked for, that of the study first. `modules`:
    those that were read, by name. `scripts`: content hashes of what commands run, by `signature` of the command.
    `shipped`: the name under which the store holds all this; empty before.
    """

    folders: tuple[OwnFolder, ...] = ()
    roots: tuple[Path, ...] = ()
    study: Path | None = None
    """The folder of the study; None where it is not known, for the working directory."""
    modules: dict[str, Module] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    shipped: str = ""
    named: set[str] = field(default_factory=set)
    """Names of packages on `sys.path` whose modules were asked for."""

    def __bool__(self) -> bool:
        return bool(self.folders or self.modules or self.scripts)

    def folder_of(self, slot: str, name: str) -> OwnFolder | None:
        """The folder that holds an own level; None where there is none."""
        return next((folder for folder in self.folders if name in folder.levels(slot)), None)

    def resolver(self, folder: OwnFolder | None = None) -> Callable[[str], Module | None]:
        """Finds modules by name; `components.norm.mine` is a file of `folder`."""

        def find(name: str) -> Module | None:
            if folder and name.partition(".")[0] == "components":
                return folder.module(name.partition(".")[2])
            return self.module(name)

        return find

    def module(self, name: str) -> Module | None:
        """A module that is named absolutely, if it is the user's; it can be imported by this name from now on."""
        if name not in self.modules:
            roots = [*self.roots]
            if name.partition(".")[0] in self.named and (root := _root_on_path(name.partition(".")[0])):
                roots.append(root)
            for root in roots:
                if chain := _module_chain(root, name):
                    self.modules |= {part: module for part, module in chain.items() if part not in self.modules}
                    break
        return self.modules.get(name)

    def require(self, name: str, *, on_path: bool = True) -> Module | None:
        """As `module`, with `on_path` also for packages on `sys.path`; reads what the module imports as well."""
        if on_path:
            self.named.add(name.partition(".")[0])
        waiting = [name]
        seen: set[str] = set()
        while waiting:
            current = waiting.pop()
            if current not in seen:
                seen.add(current)
                module = self.module(current)
                if module and not is_installed(module):
                    waiting += imported_modules(module.source, current, is_package=module.is_package)
        if on_path:
            own_import.serve({part: one for part, one in self.modules.items() if not is_installed(one)})
        return self.modules.get(name)

    def serve(self) -> None:
        """Let all levels, and the modules that they import, be imported, and no other own code."""
        own_import.forget()
        for folder in self.folders:
            own_import.serve(folder.modules)
            for name, module in folder.modules.items():
                for imported in imported_modules(module.source, name, is_package=module.is_package):
                    if imported.partition(".")[0] != folder.package and self.module(imported):
                        self.require(imported, on_path=False)
        own_import.serve({name: module for name, module in self.modules.items() if not is_installed(module)})

    def script(self, command: Sequence[str], cwd: str, sources: Sequence[str]) -> str:
        """Content hash of the files that a command names, and of the user's modules that these import.

        It is read once, and known of a study that the store holds. Raises ValueError for a file that is not there.
        """
        key = signature([list(command), cwd, list(sources)])
        if key not in self.scripts:
            self.scripts[key] = script_digest(self.study or Path.cwd(), command, cwd, sources)
        return self.scripts[key]

    def plain(self) -> Plain:
        """All this as JSON values, but for modules of installed packages."""
        folders = [
            {"path": str(folder.path), "found": folder.found,
             "files": {name: _text(content) for name, content in sorted(folder.files.items())}}
            for folder in self.folders
        ]  # fmt: skip
        modules = {
            name: {"path": module.path, "source": _text(module.source), "package": module.is_package}
            for name, module in sorted(self.modules.items())
            if not is_installed(module)
        }
        return {
            "folders": folders, "study": str(self.study) if self.study else None,
            "roots": [str(root) for root in self.roots], "modules": modules, "named": sorted(self.named),
            "scripts": self.scripts,
        }  # fmt: skip


def from_plain(values: Plain, shipped: str) -> OwnCode:
    """The own code that `OwnCode.plain` has given as JSON values."""
    folders = tuple(
        OwnFolder(Path(one["path"]), one["found"], {name: _bytes(text) for name, text in one["files"].items()})
        for one in values["folders"]
    )
    modules = {
        name: Module(one["path"], _bytes(one["source"]), is_package=one["package"])
        for name, one in values["modules"].items()
    }
    roots = tuple(map(Path, values["roots"]))
    study = Path(values["study"]) if values["study"] else None
    return OwnCode(folders, roots, study, modules, dict(values["scripts"]), shipped, set(values["named"]))


LONGEST = 200
"""Characters of the name of a module at most: file systems end at 255."""

SCRIPTS = {".py", ".sh", ".bash"}
"""Endings of words of a command that can only be files."""


def script_digest(study: Path, command: Sequence[str], cwd: str, sources: Sequence[str]) -> str:
    """Content hash of the files that a command names; see `OwnCode.script`. Python counts without comments."""
    here = study / cwd
    if not here.is_dir():
        raise ValueError(f"cwd: there is no folder {here}")
    files: dict[str, Path] = {}
    for word in command:
        if "{" not in word and (here / word).is_file():
            files[word] = here / word
        elif "{" not in word and Path(word).suffix in SCRIPTS:
            raise ValueError(f"the command names {word}, which is not in {here}")
    for pattern in sources:
        found = sorted(path for path in study.glob(pattern) if path.is_file())
        if not found:
            raise ValueError(f"sources: no file in {study} is '{pattern}'")
        files |= {str(path.relative_to(study)): path for path in found}

    # The scripts, and what they import from their own folder or the working directory
    digests: dict[str, str] = {}
    code = OwnCode(roots=tuple(dict.fromkeys([*(path.parent for path in files.values()), here])))
    modules = [word for before, word in pairwise(command) if before == "-m"]
    for name, path in files.items():
        if path.suffix == ".py":
            source = parse_source(path.read_bytes(), name, is_package=False)
            digests[name] = source.digest
            modules += imported_modules(path.read_bytes(), "__main__")
        else:
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in modules:
        if not code.require(name, on_path=False) and name in command:
            raise ValueError(f"the command names the module {name}, which is not in {here}")
    digests |= {
        f"module {name}": parse_source(module.source, name, is_package=module.is_package).digest
        for name, module in code.modules.items()
    }
    return signature(digests)


def _root_on_path(top: str) -> Path | None:
    """The folder on `sys.path`, or of an editable installation, that holds a package or module; None without one."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    places = [*(spec.submodule_search_locations or [])] if spec else []
    if places:
        return Path(places[0]).parent
    return Path(spec.origin).parent if spec and spec.has_location and spec.origin else None


def _module_chain(root: Path, name: str) -> dict[str, Module]:
    """A module in a folder with the packages that hold it, by name; empty where there is no such file."""
    parts = name.split(".")
    stem = root.joinpath(*parts)
    if len(stem.name) > LONGEST:
        return {}
    file = next((one for one in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")) if one.is_file()), None)
    if file is None:
        return {}
    chain = {}
    for count in range(1, len(parts)):
        init = root.joinpath(*parts[:count]) / "__init__.py"
        content = init.read_bytes() if init.is_file() else b""
        chain[".".join(parts[:count])] = Module(str(init), content, is_package=True)
    return {**chain, name: Module(str(file), file.read_bytes(), is_package=file.name == "__init__.py")}


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
