"""`ablate export`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ablate.cli.options import STORE, Components, Json, StoreOption
from ablate.cli.output import emit
from ablate.errors import UsageError
from ablate.store.folders import Store


def export(
    trial: Annotated[str, typer.Argument(help="Name or signature of a trial, as `ablate show` prints them.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to write, new or empty.")],
    components: Components = None,
    store: StoreOption = STORE,
    as_json: Json = False,
) -> None:
    """Write a trial's VAE as a folder that diffusers' from_pretrained loads, with a model card."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")  # its log would bury our one line
    from ablate.cli.probe import use_code_of
    from ablate.driver.trial import find_trial
    from ablate.probing.export import export as write

    runs = Store(store)
    signature = find_trial(trial, runs)
    use_code_of(runs.stage(signature).checkpoint)
    try:
        difference = write(signature, runs, to.expanduser())
    except (ValueError, ImportError) as error:
        raise error if isinstance(error, UsageError) else UsageError(str(error)) from None
    said: dict[str, Any] = {"trial": signature, "folder": str(to), "difference": difference}
    if as_json:
        emit(said)
    else:
        print(f"{to}: written; loaded by diffusers it reconstructs the same (difference {difference:.2g})")  # noqa: T201
