"""`ablate verify`."""

from typing import Annotated

import typer

from ablate.cli.options import STORE, Json, StoreOption
from ablate.cli.output import emit
from ablate.store.folders import Store


def verify(
    store: StoreOption = STORE,
    repair: Annotated[
        bool, typer.Option("--repair", help="Move damaged files aside, so that the next sweep makes them again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read every file of a store and name those that are damaged. Exits with 1 if any is left damaged."""
    from ablate.driver import verify as verification

    runs = Store(store)
    found = verification.verify(runs)
    if repair and found.damaged:
        verification.repair(runs, found)
    if as_json:
        damaged = {str(path): fault for path, fault in found.damaged.items()}
        emit({"sound": found.sound, "unverified": len(found.unverified), "damaged": damaged, "repaired": repair})
    else:
        for path, fault in found.damaged.items():
            print(f"damaged: {path}: {fault}")  # noqa: T201
        print(  # noqa: T201
            f"{found.sound} files are as they were written, {len(found.unverified)} have no checksum (from an older "
            f"version), {len(found.damaged)} are damaged{' and were moved aside' if repair and found.damaged else ''}"
        )
    if found.damaged and not repair:
        raise typer.Exit(1)
