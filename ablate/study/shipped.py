"""The example studies that come with the package: `ablate sweep smoke` needs no file."""

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
    """What to say of the example studies where there is no such file."""
    if missing.stem in shipped():
        return f"; the example study comes with the package: name it '{missing.stem}'"
    return "" if missing.suffix or missing.parent.name else f", nor an example study{nearest(str(missing), shipped())}"
