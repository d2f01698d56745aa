"""The commands.

Results go to stdout, progress to stderr. Exit codes: 0, 1 a trial failed, 2 wrong usage or invalid study, 130 stopped.
"""

import os
import sys

import typer

from ablate.cli.catalogue import components, schema
from ablate.cli.check import check
from ablate.cli.check_level import check_level
from ablate.cli.mlflow import sync, ui
from ablate.cli.plan import plan
from ablate.cli.probe import probe
from ablate.cli.report import figure, report
from ablate.cli.show import show, status
from ablate.cli.sweep import sweep
from ablate.cli.table import table
from ablate.cli.verify import verify
from ablate.errors import StudyError
from ablate.slots.level_file import LevelError
from ablate.store.files import StoreError

app = typer.Typer(
    help="Ablation experiments on VAEs: which part of a recipe causes which effect?",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


for command in (
    sweep, check, plan, status, show, table, report, figure, probe, ui, sync, components, check_level, schema,
    verify,
):  # fmt: skip
    app.command()(command)


def main() -> None:
    """The `ablate` command."""
    try:
        app()
    except StudyError as error:
        count = f"{len(error.problems)} error{'s' * (len(error.problems) != 1)}"
        print(f"{error}\n{count}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except (StoreError, LevelError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        reason = storage_fault(error)
        if not reason:
            raise
        print(reason, file=sys.stderr)  # noqa: T201
        sys.exit(2)


def storage_fault(error: Exception) -> str:
    """An error of a file or of object storage in one line; empty for any other error."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if type(error).__module__.startswith(("botocore.", "aiobotocore.")):
        return f"object storage cannot be used: {type(error).__name__}: {' '.join(str(error).split())}"
    return ""


if __name__ == "__main__":
    main()
