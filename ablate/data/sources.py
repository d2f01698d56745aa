"""What a level reads besides its settings: pictures, folders, weights."""

from pathlib import Path

from ablate.data.content import Content, files_below, hash_files
from ablate.data.prepare import content_of
from ablate.slots.data import DataSettings
from ablate.slots.settings import Settings


def read_contents(slot: str, level: str, config: Settings, cache: Path) -> list[Content]:
    """The contents that a level with these settings reads, hashed anew only where files have changed.

    What is not there is left out. `cache`: the folder of prepared pictures. Raises what a data level raises.
    """
    pictures = content_of(level, config, cache) if isinstance(config, DataSettings) else None
    found = [pictures] if pictures else []
    for name, path in config.content_paths().items():
        if path.is_file():
            files = {path.name: path}
        elif path.is_dir() and not pictures:
            files = files_below(path)
        else:
            continue
        found.append(Content(f"{slot}/{level} {name}", hash_files(files, cache)))
    return found
