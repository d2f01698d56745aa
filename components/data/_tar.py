"""Members of tar files: where in the file the content of each lies, so that it is read without the others."""

import tarfile
from functools import lru_cache
from pathlib import Path

from ablate.data.picture import Stored


def pictures_in(tar: Path, suffixes: frozenset[str], level: str) -> dict[str, Stored]:
    """Name of each member with one of these suffixes -> where it lies. Hidden members are left out.

    Raises ValueError for a file that is damaged, compressed or no tar file, and for two members of one name.
    """
    found = tar.stat()
    return {
        name: Stored(tar, start, size)
        for name, start, size in _members(tar, found.st_mtime_ns, found.st_size, level)
        if Path(name).suffix.lower() in suffixes and not any(part.startswith(".") for part in Path(name).parts)
    }


@lru_cache(maxsize=4096)
def _members(tar: Path, changed: int, length: int, level: str) -> tuple[tuple[str, int, int], ...]:
    """Name, start and size of each member that is a file. `changed`, `length`: of the tar file, for the memory."""
    try:
        with tarfile.open(tar, "r:") as file:
            members = [(one.name.removeprefix("./"), one.offset_data, one.size) for one in file if one.isreg()]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(
            f"data/{level}: {tar} is not readable as an uncompressed tar file ({type(error).__name__}: {error}); "
            "unpack compressed ones, and repair or move away damaged ones"
        ) from None
    names = [name for name, *_ in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"data/{level}: {tar} has two members named {twice}; rename one of them")
    if any(start + size > length for _, start, size in members):
        raise ValueError(f"data/{level}: {tar} ends before its last member does; copy it again")
    return tuple(members)
