"""`ablate ui` and `ablate sync`."""

import shlex
from typing import Annotated

import typer

from ablate.cli.options import (
    STORE,
    Components,
    Scale,
    Set,
    StoreOption,
    StudyName,
    Tracking,
    find,
    screen,
    store_option,
)
from ablate.cli.studies import no_studies
from ablate.errors import ServerError, StoreError
from ablate.store.folders import Store


def ui(
    store: StoreOption = STORE,
    tracking: Tracking = None,
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; another free port if it is in use.", min=0, max=65535)
    ] = 5000,
) -> None:
    """Serve MLflow on 127.0.0.1 over the store and print links that open on the right view."""
    from ablate.track.server import serve

    runs = Store(store)
    uri = tracking or runs.mlflow_uri
    if uri == runs.mlflow_uri:
        check_mirrored(runs)

    # A spinner, or a line where there is no terminal, until the first line of the server
    starting = screen.status("starting MLflow's server (5 to 20 s)")
    if screen.is_terminal:
        starting.start()
    else:
        screen.print("starting MLflow's server (5 to 20 s)")

    def write(line: str) -> None:
        starting.stop()
        print(line, flush=True)  # noqa: T201

    try:
        serve(runs, uri, port, write=write)
    except ServerError as error:
        starting.stop()
        screen.print(str(error), style="red", soft_wrap=True)
        raise typer.Exit(1) from None
    finally:
        starting.stop()


def check_mirrored(store: Store) -> None:
    """Raise StoreError for a store that MLflow has nothing of, with the way out."""
    if (store.root / "mlflow.db").exists():
        return
    held = list(store.studies())
    if not held:
        raise StoreError(no_studies(store.root))
    sync_one = shlex.join(["ablate", "sync", held[0], *store_option(store.root)])
    raise StoreError(
        f"MLflow has nothing yet of the store {store.root}, which holds {', '.join(held)}; run: {sync_one}"
    )


def sync(
    study: StudyName,
    scale: Scale = None,
    set_: Set = None,
    components: Components = None,
    store: StoreOption = STORE,
    tracking: Tracking = None,
) -> None:
    """Send to MLflow what it does not have yet of a study. Nothing is sent twice."""
    from ablate.adaptive.recall import plan_study
    from ablate.driver.only import only_driver
    from ablate.driver.outputs import resync

    runs = Store(store)
    found = find(study, scale, set_, store).study
    with only_driver(found, runs, screen):
        links = resync(plan_study(found, runs), tracking or runs.mlflow_uri)
    for name, link in links.items():
        print(f"{name:9} {link}")  # noqa: T201
