"""`ablate check-level`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ablate.cli.options import Components, Json, fail, use_own_levels
from ablate.cli.output import emit, page
from ablate.errors import nearest
from ablate.slots import registry

if TYPE_CHECKING:
    from ablate.testing import Exam, Point


def check_level(
    level: Annotated[str, typer.Argument(metavar="SLOT/LEVEL", help="A level, for instance norm/scn.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Give a setting of the level; repeatable.")
    ] = None,
    components: Components = None,
    as_json: Json = False,
) -> None:
    """Check that a level does what its slot asks for: build it, run it, and say in words what is missing."""
    use_own_levels()
    slot, name = find_level(level)
    try:
        settings = dict(map(read_setting, set_ or ()))
        path = registry.level(slot, name).path
        exam = make_exam(slot, name, settings)
    except Exception as error:  # whatever a level's file may raise while it is read
        fail(str(error) if isinstance(error, ValueError) else f"{level}: {type(error).__name__}: {error}")
    points = list(exam.run())
    passed = all(point.status == "ok" for point in points)
    if as_json:
        found = [{key: getattr(point, key) for key in ("name", "claim", "status", "message")} for point in points]
        emit({"level": f"{slot}/{name}", "file": str(path), "passed": passed, "points": found})
    else:
        print_points(f"{slot}/{name}", points, page())
    if not passed:
        raise typer.Exit(1)


def find_level(level: str) -> tuple[str, str]:
    """Slot and name of a level. Exits with 2 for one that there is not."""
    slot, _, name = level.partition("/")
    if slot not in registry.SLOTS:
        fail(f"unknown slot '{slot}'{nearest(slot, registry.SLOTS)}; give SLOT/LEVEL, for instance norm/scn")
    if name not in registry.levels(slot):
        hint = nearest(name, registry.levels(slot))
        fail(f"unknown level '{name}' of {slot}{hint}; a new level is a file components/{slot}/NAME.py")
    return slot, name


def read_setting(text: str) -> tuple[str, Any]:
    """Name and value of `NAME=VALUE`, the value as in YAML. Raises ValueError without a `=`."""
    from ablate.study.document import parse_value

    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: expected NAME=VALUE")
    return name, parse_value(value)


def make_exam(slot: str, name: str, settings: dict[str, Any]) -> "Exam":
    """The exam of a level. Raises ValueError for settings that it does not take."""
    import torch

    from ablate.testing import EXAMS, Missing

    torch.set_num_threads(1)
    exam: Exam = type("CheckedLevel", (EXAMS[slot],), {"level": name, "settings": settings})()
    try:
        exam.read(settings)
    except Missing as error:
        raise ValueError(f"{slot}/{name}: {error}") from None
    return exam


def print_points(level: str, points: "list[Point]", out: Console) -> None:
    """One line for each point, and below it what is missing."""
    for point in points:
        out.print(f"  {point.status:10} {point.claim}", soft_wrap=True)
        if point.message:
            out.print(f"  {'':10} {point.message}", soft_wrap=True, style="red")
    count = sum(point.status == "ok" for point in points)
    out.print(f"{level}: {count} of {len(points)} points fulfilled", soft_wrap=True, style="bold")
