"""`ablate ui` and `ablate sync`."""

from typing import Annotated

import typer

from ablate.cli.options import STORE, Scale, Set, StoreOption, StudyName, Tracking, find, screen
from ablate.store.folders import Store


def ui(
    store: StoreOption = STORE,
    tracking: Tracking = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; another free port if it is in use.")] = 5000,
) -> None:
    """Serve MLflow on 127.0.0.1 over the store and print links that open on the right view."""
    from ablate.track.server import ServerError, serve

    runs = Store(store)
    try:
        serve(runs, tracking or runs.mlflow_uri, port)
    except ServerError as error:
        screen.print(str(error), style="red", soft_wrap=True)
        raise typer.Exit(1) from None


def sync(
    study: StudyName, scale: Scale = None, set_: Set = None, store: StoreOption = STORE, tracking: Tracking = None
) -> None:
    """Send to MLflow what it does not have yet of a study. Nothing is sent twice."""
    from ablate.driver.only import only_driver
    from ablate.driver.outputs import resync

    with only_driver(find(study, scale, set_, store).study, Store(store), screen):
        links = resync(find(study, scale, set_, store), tracking or Store(store).mlflow_uri)
    for name, link in links.items():
        print(f"{name:9} {link}")  # noqa: T201
