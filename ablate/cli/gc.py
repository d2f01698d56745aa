"""`ablate gc`."""

from typing import Annotated

import typer

from ablate.cli.options import STORE, Json, StoreOption, screen
from ablate.cli.output import emit
from ablate.errors import UsageError, nearest
from ablate.store.folders import Store
from ablate.store.shrink import KEEPS


def gc(
    store: StoreOption = STORE,
    keep: Annotated[
        str | None,
        typer.Option(metavar="|".join(KEEPS), help="What finished checkpoints keep (default: as each study says)."),
    ] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Also delete what --rerun stale has moved aside.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    as_json: Json = False,
) -> None:
    """Free space in the store: moments and discriminators of finished trials, unused forks, temporary files."""
    from ablate.driver.disk import show_bytes
    from ablate.driver.keep import collect

    if keep is not None and keep not in KEEPS:
        raise UsageError(f"--keep '{keep}'{nearest(keep, KEEPS)}")
    found = collect(Store(store), keep, stale=stale, dry=dry)  # type: ignore[arg-type]
    if as_json:
        files = {str(path): size for path, size in found.bytes_of.items()}
        emit({"freed": not dry, "bytes": found.total, "files": files, "left": found.left})
        return
    for name, reason in found.left.items():
        screen.print(f"study {name} cannot be read, so its stages are left alone: {reason}", soft_wrap=True)
    for path, size in found.bytes_of.items():
        print(f"{show_bytes(size):>9}  {path}")  # noqa: T201
    verb = "would be freed" if dry else "freed"
    print(f"{show_bytes(found.total)} {verb} in {len(found.bytes_of)} files")  # noqa: T201
