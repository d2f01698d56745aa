"""The commands.

Results go to stdout, progress to stderr. Exit codes: 0; 1 a trial, an exam, a check of `doctor` or a condition of
`probe` failed, a file is damaged, or a sweep or server had to stop; 2 wrong usage, an invalid study or a plan over its
limit; 130 stopped by the user.
"""

import io
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ablate import __version__
from ablate.errors import AblateError, StudyError
from ablate.redaction import redact_streams

COMMANDS: dict[str, dict[str, str]] = {
    "To begin": {
        "init": "write a commented study for your own pictures",
        "doctor": "check this machine, with a fix for what it lacks",
    },
    "To run a study": {
        "check": "find every error of a study before anything starts",
        "plan": "list treatments, pending trials and their cost",
        "sweep": "train, probe and record all trials; resumes a stopped sweep",
    },
    "To read its results": {
        "studies": "list the studies of the store",
        "status": "count a study's trials by status",
        "show": "show every trial in full",
        "table": "print the table, or a paper's own table for other VAEs",
        "report": "write one HTML page with answer, table, figures, pictures",
        "figure": "draw a figure for a paper",
        "export": "write a trial's VAE as a folder that diffusers loads",
    },
    "To see it in MLflow": {
        "ui": "serve MLflow's pages and print links to every study",
        "sync": "send to MLflow what it does not have yet",
    },
    "To look after the store": {
        "verify": "read the whole store and name damaged files",
        "gc": "free the space of what no study needs any more",
    },
    "To examine other VAEs": {
        "probe": "run the probes on any checkpoint",
        "compare": "compare VAEs on the same pictures: quality and cost",
    },
    "To find or write levels": {
        "components": "list slots, levels and their settings",
        "new": "write a level to begin with, which passes its exam",
        "check-level": "check that a level does what its slot asks for",
        "schema": "print the JSON schema of study files, for editors",
    },
}
"""Heading -> command -> what it does, in the order in which a person needs them."""

SHARED_FILES = {
    "components": "catalogue", "figure": "report", "schema": "catalogue", "status": "show", "sync": "mlflow",
    "ui": "mlflow",
}  # fmt: skip
"""The files of `ablate/cli` that hold several commands; each other command is in the file of its name."""


class OnDemand(Mapping[str, Any]):
    """Every command by its name. Its file is imported when the command is first asked for."""

    def __iter__(self) -> Iterator[str]:
        return (name for described in COMMANDS.values() for name in described)

    def __len__(self) -> int:
        return sum(map(len, COMMANDS.values()))

    def __getitem__(self, name: str) -> Any:
        if name not in list(self):
            raise KeyError(name)
        function = name.replace("-", "_")
        module = import_module(f"ablate.cli.{SHARED_FILES.get(name, function)}")
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name)(getattr(module, function))
        return typer.main.get_command(alone)


class Commands(TyperGroup):
    """The commands, listed under the headings of `COMMANDS`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = OnDemand()

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.commands))
        for heading, described in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), text) for name, text in described.items()])


app = typer.Typer(
    cls=Commands,
    help="Ablation experiments on VAEs: which part of a recipe causes which effect?",
    epilog="STUDY is a file, a name in the store, or an example: ablate sweep smoke",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def print_version(asked: bool) -> None:
    """Print the version and exit, if it was asked for."""
    if asked:
        print(f"ablate {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the command itself."""


def main() -> None:
    """The `ablate` command."""
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # signs that the encoding lacks: `?` keeps tables in shape
            stream.reconfigure(errors=errors)
    redact_streams()
    try:
        app()
    except StudyError as error:
        count = f"{len(error.problems)} error{'s' * (len(error.problems) != 1)}"
        fail(f"{error}\n{count}")
    except AblateError as error:
        fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        reason = storage_fault(error)
        if not reason:
            raise
        fail(reason)


def fail(reason: str) -> None:
    """Say what is wrong, and exit with 2."""
    print(reason, file=sys.stderr)  # noqa: T201
    sys.exit(2)


def storage_fault(error: Exception) -> str:
    """An error of a path, a file or of object storage in one line; empty for any other error."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, FileNotFoundError):  # of os.getcwd
        return "the folder in which the command runs is not there any more; change to another one"
    if type(error).__module__.startswith(("botocore.", "aiobotocore.", "fsspec.", "s3fs.")):
        return f"object storage cannot be used: {type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # of Path.expanduser
        return "a path begins with '~' and the name of a user that this machine does not have"
    return ""


if __name__ == "__main__":
    main()
