"""The example studies that come with the package: `ablate sweep smoke` needs no file."""

import difflib
from pathlib import Path

from ablate.errors import nearest

FOLDER = Path(__file__).parents[1] / "search_spaces"


def shipped() -> list[str]:
    """Names of the example studies, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def locate(reference: Path) -> Path:
    """The file of a study: `reference` itself, or the example study of this name where there is no such file."""
    return FOLDER / f"{reference}.yaml" if str(reference) in shipped() and not reference.is_file() else reference


def hint(missing: Path) -> str:
    """What to say where there is no such file: which example or file may be meant, or how to begin one."""
    if missing.stem in shipped():
        return f"; the example study comes with the package: name it '{missing.stem}'"
    if near := near_file(missing):
        return f"; did you mean '{near}'?"
    if missing.suffix or missing.parent.name:
        return "; ablate init writes one to begin with"
    return f", nor an example study{nearest(str(missing), shipped())}"


def near_file(missing: Path) -> Path | None:
    """The YAML file in the folder of a missing one whose name is most like its; None without any like it."""
    try:
        files = {path.stem: path for path in missing.parent.glob("*.y*ml")}
    except OSError:  # a folder that cannot be read
        return None
    close = difflib.get_close_matches(missing.stem, files, n=1, cutoff=0.6)
    return files[close[0]] if close else None
