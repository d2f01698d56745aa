"""`ablate new`."""

import keyword
import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.options import Components, fail, screen
from ablate.errors import nearest
from ablate.slots import discover, registry
from ablate.store.files import atomic_write

STARTERS = Path(__file__).parents[1] / "starters"


def new(
    level: Annotated[str, typer.Argument(metavar="SLOT/LEVEL", help="The level to write, for instance norm/mine.")],
    components: Components = None,
) -> None:
    """Write an own level to begin with: components/SLOT/LEVEL.py, commented, which passes its exam."""
    slot, _, name = level.partition("/")
    if slot not in registry.SLOTS:
        fail(f"unknown slot '{slot}'{nearest(slot, registry.SLOTS)}; give SLOT/LEVEL, for instance norm/mine")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        expected = "a word of lower-case letters, digits and '_' that begins with a letter, for instance"
        fail(f"the name of a level: expected {expected} {slot}/mine, found '{name}'")
    if name in registry.shipped_levels(slot):
        fail(f"{slot}/{name} is a shipped level, {registry.ROOT / slot / f'{name}.py'}; choose another name")
    if len(discover.given) > 1:
        fail("--components: name one folder to write to")
    folder = discover.given[0] if discover.given else Path("components")
    file = folder / slot / f"{name}.py"
    if file.exists():
        fail(f"{file} is there already and stays as it is; choose another name, or delete it first")
    text = (STARTERS / f"{slot}.py").read_text(encoding="utf-8").replace("starter", name)
    with atomic_write(file) as temporary:
        temporary.write_text(text.replace("Starter", name.title().replace("_", "")), encoding="utf-8")
    print(file)  # noqa: T201
    option = f" --components {shlex.quote(str(folder))}" if folder != Path("components") else ""
    screen.print(f"examine it:  ablate check-level {slot}/{name}{option}", soft_wrap=True)
    screen.print(f"in a study:  {_use(slot, name)}", soft_wrap=True)


def _use(slot: str, name: str) -> str:
    """How a study names a level."""
    return {"loss": f"loss: {{l2: 1.0, {name}: 0.1}}", "probe": f"probes: [reconstruction, {name}]"}.get(
        slot, f"{slot}: {name}"
    )
