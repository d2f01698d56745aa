"""`ablate sweep`."""

import errno
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ablate.cli.options import (
    STORE,
    Components,
    MaxHours,
    MaxTrials,
    Scale,
    Set,
    StoreOption,
    StudyName,
    Tracking,
    screen,
    store_option,
    validated,
)
from ablate.cli.output import print_table
from ablate.cli.plan import plan_within
from ablate.schedule.ray_cluster import RayFailed
from ablate.schedule.resources import default_resources
from ablate.store.folders import Store


def sweep(
    study: StudyName,
    scale: Scale = None,
    set_: Set = None,
    components: Components = None,
    store: StoreOption = STORE,
    tracking: Tracking = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Run trials one at a time, in this process, without Ray.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Largest number of trials at once.", min=1)] = None,
    cpus: Annotated[int, typer.Option("--cpus-per-trial", help="CPU cores (and threads) per trial.", min=1)] = 1,
    gpus: Annotated[
        float | None, typer.Option("--gpus-per-trial", help="GPUs per trial; fractions allowed, e.g. 0.25.", min=0)
    ] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster, HOST:PORT or auto.")] = None,
    stall_minutes: Annotated[
        float | None,
        typer.Option(
            help="A worker without a new step for so long hangs: it is replaced, and the trial tried once more "
            "(default: 100 times its median step, at least 10)."
        ),
    ] = None,
    max_hours: MaxHours = None,
    max_trials: MaxTrials = None,
    rerun: Annotated[
        Literal["stale"] | None,
        typer.Option(
            help="Also rerun stale trials (whose code or data have changed since). Failed trials are always rerun."
        ),
    ] = None,
) -> None:
    """Run a study: plan, train, probe, record, mirror to MLflow. Ends with the table; the same command resumes it."""
    from ablate.adaptive.recall import plan_study
    from ablate.driver.sweep import sweep as run

    checked = validated(study, scale, set_, store)
    resources = default_resources(cpus, gpus, workers, address, stall_minutes)
    runs = Store(store)
    if max_hours is not None or max_trials is not None:
        plan_within(
            plan_study(checked, runs), max_hours, max_trials, measure=False, threads=cpus, redo=rerun == "stale"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # not via SIGINT: a shell's background jobs ignore that
    try:
        uri = tracking or runs.mlflow_uri
        result = run(checked, runs, resources, uri, screen, inline=inline, redo=rerun == "stale")
    except (KeyboardInterrupt, OSError) as stop:
        reason = f": {stop}" if isinstance(stop, OSError) else ""
        next_step = way_out(stop)
        screen.print(f"\nStopped{reason}; finished trials are kept. {next_step}", soft_wrap=True)
        if next_step.endswith(":"):
            screen.print(f"  {shlex.join(['ablate', *sys.argv[1:]])}", soft_wrap=True)
        raise typer.Exit(1 if reason else 130) from None
    print_table(result.table)
    print_ending(result.files, result.links, result.ran, store)
    if result.failed:
        for name, reason in result.failed.items():
            screen.print(f"failed: {name}: {reason or 'not run'}", style="red", soft_wrap=True)
        raise typer.Exit(1)


AGAIN = "run the same command again:"


MENDED = {
    (errno.ENOSPC, errno.EDQUOT): "free some space",
    (errno.EROFS, errno.EACCES, errno.EPERM): "make it writable",
    (errno.EMFILE, errno.ENFILE): "raise the number of files that may be open (ulimit -n)",
    (errno.ENOMEM,): "free some memory, or give the sweep fewer --workers",
}
"""Kinds of faults -> what must be done first, so that the same command can go on."""


PASSING = {
    errno.EIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE, errno.ESTALE,
    errno.EAGAIN, errno.EINTR, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EBUSY,
}  # fmt: skip
"""Faults that may be over the next time."""


def way_out(stop: BaseException) -> str:
    """What to do after a sweep that was stopped, or that a fault of the system has ended.

    It ends with a colon where running the same command again can help.
    """
    passing = RayFailed, ConnectionError, TimeoutError
    if not isinstance(stop, OSError) or stop.errno in PASSING or isinstance(stop, passing):
        return f"To continue, {AGAIN}"
    for kinds, first in MENDED.items():
        if stop.errno in kinds:
            return f"To continue, {first}, then {AGAIN}"
    return "The same command would meet this again; mend it first."


def print_ending(files: dict[str, Path], links: dict[str, str], ran: int, store: Path) -> None:
    """Print which files were written, and how to open MLflow."""
    lines = [f"{ran} trials run" if ran else "nothing to run: every trial was finished", ""]
    lines += [f"{form:9} {path}" for form, path in files.items()]
    if links:
        lines += ["", f"MLflow: {shlex.join(['ablate', 'ui', *store_option(store)])}, then"]
        lines += [f"  {name:9} {link}" for name, link in links.items()]
    print("\n".join(lines))  # noqa: T201
