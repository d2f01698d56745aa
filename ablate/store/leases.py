"""Leases: which process works on a study or a stage, so that two sweeps on one store do nothing twice.

A lease is a file `leases/<name>.json` that names its holder. It is created only if there is none, by a hard link or
`O_EXCL` in a folder and by a conditional put in object storage. The lease of a holder that is dead is taken over by
creating `leases/<name>.<token>.json` in the same way, where the token is the holder's: only one process can do that.
The holder of a lease is therefore the last of this chain. A holder deletes the chain when it is done, the first file
first.

A holder on this machine is dead when its process is. One on another machine is dead when it has not touched its file
for `HEARTBEAT_S`, by the clock of the file system. Nothing here is needed for right numbers: a worker records what it
has trained itself. If a file system breaks its promises, work is done twice, and that is all.
"""

import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ablate.store.files import is_remote
from ablate.store.process import lives, this_process

HEARTBEAT_S = 60.0
"""A process on another machine that has not reported for this many seconds counts as dead."""


BEAT_S = 15.0
"""Seconds between two heartbeats of a held lease."""


NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"""What a file system without hard links answers."""


UNREADABLE = "unreadable"
"""Stands for the token of a lease whose file cannot be read, after a power cut for instance."""


Ticket = Mapping[str, str]
"""A held lease as JSON values: `name` and `token`. A worker that got it can tell whether it is still good."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. `work`: what it does; `since`: when it took the lease, in seconds since 1970."""

    token: str
    process: Mapping[str, Any]
    work: str
    since: float
    file: Path

    def __str__(self) -> str:
        if not self.process:
            return "a process that cannot be told from its lease"
        begun = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"{self.work} (pid {self.process['pid']} on {self.process['host']}, since {begun})"


class Leases:
    """The leases that this process holds in one store. Inside `with`, or until `close`, a thread keeps them alive."""

    def __init__(self, root: Path, work: str) -> None:
        """`root`: of the store; `work`: what this process does, for others to read."""
        self.folder = root / "leases"
        self.work = work
        self._held: dict[str, list[Path]] = {}
        self._tokens: dict[str, str] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self, name: str) -> bool:
        """Take a lease, unless another process that lives holds it. Gives whether this process holds it now."""
        path = self._file(name)
        while name not in self._held:
            chain = self._chain(name)
            if chain and self._lives(chain[-1]):
                return False
            target = path.with_name(f"{name}.{chain[-1].token}.json") if chain else path
            token = uuid.uuid4().hex
            content = {"token": token, "work": self.work, "since": time.time(), **this_process()}
            if not _create(target, json.dumps(content)):
                continue  # another process was first
            chain = self._chain(name)
            if not chain or chain[-1].token != token:  # the lease was released before it was taken over
                target.unlink(missing_ok=True)
                continue
            with self._lock:
                self._held[name] = [each.file for each in chain]
                self._tokens[name] = token
            self._keep_alive()
        return True

    def holder(self, name: str) -> Holder | None:
        """Who holds a lease, dead or alive; None if it is free."""
        chain = self._chain(name)
        return chain[-1] if chain else None

    def ticket(self, name: str) -> Ticket:
        """The ticket of a lease that this process holds."""
        return {"name": name, "token": self._tokens[name]}

    def release(self, name: str) -> None:
        """Release a lease; do nothing if this process does not hold it, or no longer does."""
        with self._lock:
            files = self._held.pop(name, [])
            token = self._tokens.pop(name, "")
        if files and is_held(self.folder.parent, {"name": name, "token": token}):
            for file in files:
                with suppress(OSError):
                    file.unlink(missing_ok=True)

    def close(self) -> None:
        """Release all leases."""
        self._closed.set()
        for name in list(self._held):
            self.release(name)

    def clear(self) -> None:
        """Delete the leases of dead processes: nobody takes over one for work that was finished before its death."""
        with suppress(OSError):
            for name in {file.name.partition(".")[0] for file in self.folder.glob("[!.]*.json")} - set(self._held):
                if self.take(name):
                    self.release(name)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _chain(self, name: str) -> list[Holder]:
        """The holders of a lease that took it over from each other; the last one holds it. Empty if it is free."""
        chain: list[Holder] = []
        file = self._file(name)
        while holder := _read(file):
            chain.append(holder)
            file = file.with_name(f"{name}.{holder.token}.json")
        return chain

    def _lives(self, holder: Holder) -> bool:
        alive = lives(holder.process) if holder.process else None
        return self._age_s(holder.file) < HEARTBEAT_S if alive is None else alive

    def _age_s(self, file: Path) -> float:
        """Seconds since a file was touched, by the clock of the file system."""
        clock = self.folder / f".clock.{uuid.uuid4().hex}"
        try:
            clock.write_bytes(b"")
            return clock.stat().st_mtime - file.stat().st_mtime
        except FileNotFoundError:  # released meanwhile
            return 0.0
        finally:
            clock.unlink(missing_ok=True)

    def _keep_alive(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="leases", daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_S):
            with self._lock:
                files = [files[-1] for files in self._held.values()]
            for file in files:
                with suppress(Exception):  # a missed beat is made up for by the next one
                    if is_remote(file):
                        file.write_bytes(file.read_bytes())
                    else:
                        os.utime(file)


def is_held(root: Path, ticket: Ticket) -> bool:
    """Whether the lease of a ticket is still held: not released, and not taken over by another process."""
    folder = root / "leases"
    name = ticket["name"]
    token = ticket["token"]
    if (folder / f"{name}.{token}.json").exists():
        return False
    file = folder / f"{name}.json"
    while holder := _read(file):
        if holder.token == token:
            return True
        file = folder / f"{name}.{holder.token}.json"
    return False


def _create(file: Path, text: str) -> bool:
    """Create a file with a text unless it exists; gives whether it was created."""
    if is_remote(file):
        try:
            file.fs.pipe_file(file.path, text.encode(), mode="create")  # type: ignore[attr-defined]
        except FileExistsError:
            return False
        return True
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, file)
        except FileExistsError:
            return temporary.stat().st_nlink == 2  # a network file system may repeat a call that had succeeded
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return _create_exclusively(file, text)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def _create_exclusively(file: Path, text: str) -> bool:
    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        return False
    return True


def _read(file: Path) -> Holder | None:
    """The holder that a file names; None if there is no such file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        process = {key: found[key] for key in ("host", "boot", "space", "pid", "started")}
        return Holder(str(found["token"]), process, str(found["work"]), float(found["since"]), file)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return Holder(UNREADABLE, {}, "", 0.0, file)
