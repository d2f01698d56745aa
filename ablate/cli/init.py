"""`ablate init`: a commented study for one's own pictures."""

import json
import shlex
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.options import screen
from ablate.errors import UsageError

PICTURES = "pictures"
"""The folder of pictures that the study names where there is none yet."""

IGNORED = ("runs/", "__pycache__/")
"""Lines of the `.gitignore`: the store, and what Python leaves beside levels of one's own."""

MOST_OPENED = 500
"""How many pictures are opened to find the smallest."""

LARGEST_SIDE = 128
"""Side of held-out crops, px, unless the pictures are smaller."""

HELDOUT = 0.2
"""Share of the pictures that are held out."""

MOST_CROPS = 32
"""Held-out crops."""

MANY = 50
"""How many pictures are assumed where there are none yet."""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to begin in (default: this one).")] = Path(),
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of your pictures (default: one found in DIR).")
    ] = None,
) -> None:
    """Write a commented study for your own pictures: study.yaml, its schema for editors, and a .gitignore.

    Nothing is overwritten. With few or no pictures it can be checked and run as soon as the folder that it names holds
    some.
    """
    folder = folder.expanduser()
    targets = {name: folder / name for name in ("study.yaml", "ablate.schema.json")}
    if pictures is not None and not pictures.expanduser().is_dir():
        raise UsageError(f"--pictures {pictures}: there is no such folder")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder to begin in")
    for path in targets.values():
        if path.exists():
            raise UsageError(f"{path} exists already, and nothing was written; name another folder: ablate init DIR")

    # Look at the pictures, then write
    source = pictures.expanduser() if pictures else find_pictures(folder)
    paths = list_pictures(source) if source else []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        targets["study.yaml"].write_text(fill_study(folder, source, paths), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}; name another folder") from None
    from ablate.driver.catalogue import schema

    targets["ablate.schema.json"].write_text(json.dumps(schema(), indent=1), encoding="utf-8")
    for path in (*targets.values(), *write_ignored(folder)):
        print(path)  # noqa: T201
    for line in next_steps(folder, source, len(paths)):
        screen.print(line, soft_wrap=True)


def find_pictures(folder: Path) -> Path | None:
    """The folder within `folder` that holds most pictures, itself or below it; None without any."""
    if not folder.is_dir():
        return None
    children = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    counts = {path: len(list_pictures(path)) for path in children if path.name != "runs"}
    best = max(counts, key=lambda path: counts[path], default=None)
    return best if best and counts[best] else None


def list_pictures(folder: Path) -> list[Path]:
    """The pictures that a study of a folder has."""
    from ablate.components.data._files import find_files
    from ablate.components.data.folder import SUFFIXES

    names, _ = find_files(folder, SUFFIXES)
    return [folder / name for name in names]


def fill_study(folder: Path, pictures: Path | None, paths: list[Path]) -> str:
    """The text of the study, with the folder of pictures and sizes that suit their number and the smallest of them."""
    path = PICTURES
    count, smallest = MANY, LARGEST_SIDE
    if pictures:
        inside = pictures.resolve().is_relative_to(folder.resolve())
        path = str(pictures.resolve().relative_to(folder.resolve()) if inside else pictures.resolve())
        count, smallest = len(paths), shortest_side(paths)

    # A held-out picture may be halved before it is cut into crops; see ablate.data.prepare.heldout_side
    side = max(16, min(smallest, LARGEST_SIDE) // 16 * 16)
    heldout = max(1, min(round(HELDOUT * count), count - 1))
    crops = min(MOST_CROPS, heldout * max(1, smallest // (2 * side)) ** 2)
    values = {
        "@PICTURES@": json.dumps(path, ensure_ascii=False), "@CROP@": str(min(64, side)), "@SIDE@": str(side),
        "@HELDOUT@": str(HELDOUT), "@COUNT@": str(crops),
    }  # fmt: skip
    text = files("ablate.cli").joinpath("init.yaml").read_text(encoding="utf-8")
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text


def shortest_side(paths: list[Path]) -> int:
    """The shortest side of the first `MOST_OPENED` pictures, px; damaged ones are for `ablate check` to name."""
    from ablate.data.picture import read_header

    sides = []
    for path in paths[:MOST_OPENED]:
        with suppress(Exception):  # decoders raise all kinds of errors for a damaged file
            sides.append(min(read_header(path)[:2]))
    return min(sides, default=LARGEST_SIDE)


def write_ignored(folder: Path) -> list[Path]:
    """Write `.gitignore`, or add the lines that an existing one lacks; gives its path if it has changed."""
    path = folder / ".gitignore"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    lacking = [line for line in IGNORED if line not in before.split()]
    if lacking:
        glue = "" if not before or before.endswith("\n") else "\n"
        path.write_text(before + glue + "".join(f"{line}\n" for line in lacking), encoding="utf-8")
    return [path] if lacking else []


def next_steps(folder: Path, pictures: Path | None, count: int) -> list[str]:
    """What to do next, line by line. `count`: of the pictures."""
    lines = []
    if pictures is None:
        wanted = shlex.quote(str(folder / PICTURES))
        lines.append(f"Put your pictures into {wanted}: png, jpg, webp, bmp or tif; two at least, dozens are better.")
    else:
        lines.append(f"The study is about the {count} pictures in {shlex.quote(str(pictures))}.")
    enter = [f"cd {shlex.quote(str(folder))}"] if folder.resolve() != Path.cwd() else []
    commands = [*enter, "ablate check study.yaml", "ablate sweep study.yaml"]
    return [*lines, "Then run:", *(f"  {line}" for line in commands)]
