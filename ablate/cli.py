"""The commands. Results on stdout, progress on stderr; exit codes 0, 1 failed, 2 usage or bad study, 130 stopped."""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from ablate import registry, schedule
from ablate.json_document import emit
from ablate.options import (
    STORE,
    Json,
    MaxHours,
    MaxTrials,
    Scale,
    Set,
    StoreOption,
    StudyFile,
    StudyName,
    Tracking,
    find,
    load,
    plan_within,
    screen,
)
from ablate.pages import figure, report
from ablate.probing.command import probe
from ablate.store import Store, StoreError
from ablate.strict_yaml import StudyError
from ablate.tabling import table

app = typer.Typer(
    help="Ablation experiments on VAEs: which part of a recipe causes which effect?",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def sweep(
    study: StudyFile,
    scale: Scale = None,
    set_: Set = None,
    store: StoreOption = STORE,
    tracking: Tracking = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="One trial after the other in this process, no Ray.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Trials at once at most.", min=1)] = None,
    cpus: Annotated[int, typer.Option("--cpus-per-trial", help="CPU cores (and threads) of a trial.", min=1)] = 1,
    gpus: Annotated[
        float | None, typer.Option("--gpus-per-trial", help="GPU share of a trial, e.g. 0.25.", min=0)
    ] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster, e.g. auto.")] = None,
    max_hours: MaxHours = None,
    max_trials: MaxTrials = None,
    rerun: Annotated[
        Literal["stale"] | None, typer.Option(help="Run again what code other than this has made; failed trials are.")
    ] = None,
) -> None:
    """Run a study: plan, train, probe, record, mirror; ends with its table. The same command resumes it."""
    from ablate.sweep import sweep as run

    machine_gpus = schedule.gpu_count()
    checked = load(study, scale, set_, gpu=machine_gpus > 0)
    share = gpus if gpus is not None else float(machine_gpus > 0)
    resources = schedule.Resources(cpus, share, workers, address)
    place = Store(store)
    if max_hours is not None or max_trials is not None:
        found = find(str(study), scale, set_, store)
        plan_within(found, store, max_hours, max_trials, measure=False, threads=cpus, redo=rerun == "stale")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # not via SIGINT: a shell's background jobs ignore that
    try:
        uri, redo = tracking or place.mlflow_uri, rerun == "stale"
        ended = run(checked, place, resources, uri, screen, inline=inline, redo=redo)
    except schedule.ClusterError as error:
        screen.print(str(error), style="red", soft_wrap=True)
        raise typer.Exit(2) from None
    except (KeyboardInterrupt, OSError) as stop:
        why = f": {stop}" if isinstance(stop, OSError) else ""
        screen.print(f"\nStopped{why}; finished trials are kept. To go on, run the same command again:", soft_wrap=True)
        screen.print(f"  ablate {' '.join(sys.argv[1:])}", soft_wrap=True)
        raise typer.Exit(1 if why else 130) from None
    print(ended.table.markdown())  # noqa: T201
    print_ending(ended.files, ended.links, ended.ran, str(store))
    if ended.failed:
        for name, reason in ended.failed.items():
            screen.print(f"failed: {name}: {reason or 'not run'}", style="red", soft_wrap=True)
        raise typer.Exit(1)


def print_ending(files: dict[str, Path], links: dict[str, str], ran: int, store: str) -> None:
    """Where to go from here."""
    lines = [f"{ran} trials run" if ran else "nothing to run: every trial was finished", ""]
    lines += [f"{form:9} {path}" for form, path in files.items()]
    lines += ["", f"MLflow: ablate ui{'' if store == 'runs' else f' --store {store}'}, then"]
    lines += [f"  {name:9} {link}" for name, link in links.items()]
    print("\n".join(lines))  # noqa: T201


@app.command()
def check(study: StudyFile, as_json: Json = False) -> None:
    """Validate a study file: every error at once, with its line and column. Starts nothing."""
    from ablate.preflight import check_scales, preflight
    from ablate.spec import load_study
    from ablate.suggest import each_level, to_come
    from ablate.trials import expand

    try:
        found = load_study(study)
        trials = expand(found)
        preflight(found, [*trials, *each_level(found)])
        check_scales(found)
    except StudyError as error:
        if as_json:
            keys = ("file", "line", "column", "message")
            emit({"ok": False, "errors": [{key: getattr(problem, key) for key in keys} for problem in error.problems]})
            raise typer.Exit(2) from None
        raise
    if as_json:
        emit({"ok": True, "errors": []})
    else:
        treatments = len({trial.treatment.label for trial in trials}) + to_come(found)
        least = f"{treatments * found.seed_bounds[0]} to " if found.seed_bounds else ""
        count = f"{treatments} treatments, {least}{treatments * len(found.seeds)} trials"
        if tuning := found.tuning:
            count += f", {treatments * tuning.trials * len(tuning.seeds)} more to tune them"
        print(f"{study}: good ({count})")  # noqa: T201


@app.command()
def plan(
    study: StudyFile,
    scale: Scale = None,
    set_: Set = None,
    store: StoreOption = STORE,
    measure: Annotated[
        bool, typer.Option("--measure", help="Make a few real steps of each kind and examine the outcome.")
    ] = False,
    max_hours: MaxHours = None,
    max_trials: MaxTrials = None,
    as_json: Json = False,
) -> None:
    """List treatments, stages, what is pending and what it costs. Starts nothing."""
    from ablate import reports

    found = find(str(study), scale, set_, store)
    summary = plan_within(found, store, max_hours, max_trials, measure=measure)
    emit(summary) if as_json else reports.print_plan(found, summary, page())


@app.command()
def status(
    study: StudyName, scale: Scale = None, set_: Set = None, store: StoreOption = STORE, as_json: Json = False
) -> None:
    """Count trials done, running, pending, failed, diverged and stale (made by other code)."""
    from ablate import reports

    found = find(study, scale, set_, store)
    counts = reports.status(found, Store(store))
    emit(counts) if as_json else print("  ".join(f"{n} {kind}" for kind, n in counts["trials"].items()))  # noqa: T201


@app.command()
def show(
    study: StudyName,
    scale: Scale = None,
    set_: Set = None,
    store: StoreOption = STORE,
    trial: Annotated[str | None, typer.Option(help="Only trials whose name or signature contains this.")] = None,
    as_json: Json = False,
) -> None:
    """Show the trials of a study in full."""
    from ablate import reports

    rows = reports.show(find(study, scale, set_, store), Store(store), trial or "")
    emit(rows) if as_json else reports.print_trials(rows, page())


for command in (table, report, figure, probe):
    app.command()(command)


@app.command()
def ui(
    store: StoreOption = STORE,
    tracking: Tracking = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; the next free one if it is taken.")] = 5000,
) -> None:
    """Start MLflow's pages on 127.0.0.1 over the store and print links that open on the right view."""
    from ablate.ui import ServerError, serve

    place = Store(store)
    try:
        serve(place, tracking or place.mlflow_uri, port)
    except ServerError as error:
        screen.print(str(error), style="red", soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def sync(
    study: StudyName, scale: Scale = None, set_: Set = None, store: StoreOption = STORE, tracking: Tracking = None
) -> None:
    """Mirror a study's records to MLflow again; nothing is doubled."""
    from ablate.sweep import resync

    place = Store(store)
    found = find(study, scale, set_, store)
    for name, link in resync(found, place, tracking or place.mlflow_uri).items():
        print(f"{name:9} {link}")  # noqa: T201


@app.command()
def components(
    slot: Annotated[str | None, typer.Argument(help="Only this slot.")] = None, as_json: Json = False
) -> None:
    """List the levels of every slot with their settings."""
    from ablate import reports

    if slot is not None and slot not in registry.SLOTS:
        raise typer.BadParameter(f"unknown slot '{slot}'; valid: {', '.join(registry.SLOTS)}")
    catalogue = reports.catalogue([slot] if slot else list(registry.SLOTS))
    emit(catalogue) if as_json else reports.print_catalogue(catalogue, page())


@app.command()
def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from ablate import reports

    emit(reports.schema())


def page() -> Console:
    """Stdout; wide where it is not a terminal, so that a table in a file keeps its columns."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def main() -> None:
    """The `ablate` command."""
    try:
        app()
    except StudyError as error:
        count = f"{len(error.problems)} error{'s' * (len(error.problems) != 1)}"
        print(f"{error}\n{count}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except StoreError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
