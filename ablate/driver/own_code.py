"""The own code of a study that is found by its name in the store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablate.errors import Problem, StudyError
from ablate.slots import discover
from ablate.slots.own_code import OwnCode
from ablate.store.code import fetch
from ablate.store.folders import Store


def own_code_of(card: dict[str, Any], store: Store) -> tuple[OwnCode, str]:
    """The own code that a study was last run with, and a note where its present files differ.

    Where the store has lost it, the folders that the card names are read. Raises StudyError where these are gone too.
    """
    if discover.given or not card.get("code"):
        found = discover.discover(None)
        found.study = Path(card["folder"]) if card.get("folder") else None
        return found, ""
    code = fetch(card["code"], store)
    if code is None:
        folders = [Path(path) for path in card["components"]]
        if missing := ", ".join(str(path) for path in folders if not path.is_dir()):
            message = (
                f"the study has own code, and both its copy in the store ({store.code(card['code'])}) and the folder "
                f"{missing} are gone; restore one of them, or name the folder by --components DIR"
            )
            raise StudyError([Problem(card["file"], 0, 0, message)])
        found = discover.discover(None, folders)
        found.study = Path(card["folder"]) if card.get("folder") else None
        return found, f"{store.code(card['code'])} is gone; the present own code is used"
    changed = [str(file) for file, content in _files(code) if file.is_file() and file.read_bytes() != content]
    gone = sorted({str(folder.path) for folder in code.folders if not folder.path.is_dir()})
    if not changed and not gone:
        return code, ""
    copy = f"a study by its name has its own code as it was last run, from {store.code(card['code'])}"
    if changed:
        present = f"name its file, {card['file']}, for the present code"
        return code, f"changed since the study was last run: {_listed(changed)}; {copy} ({present})"
    return code, f"no longer there: {_listed(gone)}; {copy}"


def _files(code: OwnCode) -> Iterator[tuple[Path, bytes]]:
    """The files of own code, with their content when it was last run."""
    for folder in code.folders:
        yield from ((folder.path / name, content) for name, content in folder.files.items())
    yield from ((Path(module.path), module.source) for module in code.modules.values())


def _listed(names: list[str]) -> str:
    """Names with commas; of more than three the first two."""
    return ", ".join(names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"])
