"""Looks into MLflow without MLflow: whether a study's runs are there, whether the database is whole."""

import json
import os
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

SQLITE = "sqlite:///"


PATIENCE_S = 5.0
"""Seconds that a server may take to answer."""


def database_file(uri: str) -> Path | None:
    """The file of a SQLite database; None for a server or another kind of database."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def holds(uri: str, experiment: str, signatures: Collection[str]) -> bool | None:
    """Whether MLflow holds the whole runs of these trials in an experiment; None if that cannot be seen from here.

    A server is only asked for the experiment.
    """
    if file := database_file(uri):
        return file.exists() and set(signatures) <= _sent(file, experiment)
    if uri.startswith(("http://", "https://")):
        query = urllib.parse.urlencode({"experiment_name": experiment})
        address = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}"
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
                found = json.load(answer)["experiment"]
                return str(found["lifecycle_stage"]) == "active"
        except urllib.error.HTTPError as error:
            return False if error.code == 404 else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return None


def _sent(file: Path, experiment: str) -> set[str]:
    """Signatures of the runs that were sent to the end; empty if the database cannot be read."""
    query = (
        "select s.value from experiments e join runs r using (experiment_id) "
        "join tags s on s.run_uuid = r.run_uuid and s.key = 'ablate.signature' "
        "join tags c on c.run_uuid = r.run_uuid and c.key = 'ablate.content' "
        "where e.name = ? and e.lifecycle_stage = 'active' and r.lifecycle_stage = 'active'"
    )
    try:
        with closing(_open(file)) as database:
            return {str(value) for (value,) in database.execute(query, (experiment,))}
    except sqlite3.Error:
        return set()


def is_locked(error: Exception) -> bool:
    """Whether an error of MLflow's, of SQLAlchemy's or of SQLite's says that another process locks the database."""
    return "database is locked" in str(error) or "database table is locked" in str(error)


def users_of(file: Path) -> list[str]:
    """The processes of this machine, but this one, that have a database open, as far as the system tells of them."""
    wanted = {str(part.resolve()) for part in file.parent.glob(f"{file.name}*")}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) != os.getpid() and any(os.readlink(fd) in wanted for fd in (process / "fd").iterdir()):  # noqa: PTH115
                words = (process / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ").split()
                found.append(f"{' '.join(words):.80} (pid {process.name})")
        except OSError:  # ended meanwhile, or of another user
            continue
    return sorted(found)


def describe_failure(error: Exception, uri: str) -> str:
    """An error of MLflow's in one line; of a locked database, with who has it open and the way out."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    if not is_locked(error):
        return f"{reason:.{LONGEST}}"
    file = database_file(uri)
    users = users_of(file) if file else []
    who = f"by one of these: {'; '.join(users)}" if users else "by a process that cannot be seen from here"
    return f"MLflow's database {file or uri} is locked {who}; end it, or use --tracking with a server"


LONGEST = 300
"""Characters of a reason."""


def database_fault(file: Path) -> str:
    """How SQLite says that a database is damaged; empty if it is not, or if another process keeps it locked."""
    try:
        with closing(_open(file)) as database:
            answer = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:  # locked, or not to be opened here: not damaged
        return ""
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if answer == "ok" else answer


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=PATIENCE_S)
