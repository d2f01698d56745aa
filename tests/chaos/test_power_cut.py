"""A power cut at every point of a trial: whatever the disk holds then, the trial ends with the same numbers.

The operations of a real trial on its store are recorded. Every beginning of the record is then replayed into what a
disk may hold at that moment, and the trial is resumed from there.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from ablate.data.prepare import prepare
from ablate.data.sealed import why_damaged
from ablate.driver.verify import verify
from ablate.plan.trials import Trial
from ablate.store.folders import Store
from tests.support.studies import Write, trial_of
from tests.support.training import run_to_end

Loss = Literal["none", "contents", "entries"]
"""What a cut loses: nothing (a kill); contents that were not synced; besides, entries of folders that were not."""


class File:
    """A file: what it holds, and what of it is on the disk."""

    def __init__(self) -> None:
        self.content = b""
        self.on_disk = b""


class Folder:
    """A folder: its entries, and which of them are on the disk."""

    def __init__(self) -> None:
        self.entries: dict[str, File | Folder] = {}
        self.on_disk: dict[str, File | Folder] = {}

    def find(self, path: Path) -> "File | Folder":
        node: File | Folder = self
        for name in path.parts:
            assert isinstance(node, Folder)
            node = node.entries[name]
        return node

    def folder(self, path: Path) -> "Folder":
        node = self.find(path)
        assert isinstance(node, Folder)
        return node

    def apply(self, event: tuple[Any, ...]) -> None:
        """Do what an event did."""
        kind, path, *rest = event
        above = self.folder(path.parent) if path.parts else self
        if kind == "mkdir":
            above.entries[path.name] = Folder()
        elif kind == "write":
            node = above.entries.setdefault(path.name, File())
            assert isinstance(node, File)
            node.content = rest[0]
        elif kind == "sync":
            node = self.find(path)
            if isinstance(node, File):
                node.on_disk = node.content
            else:
                node.on_disk = dict(node.entries)
        elif kind == "rename":
            self.folder(rest[0].parent).entries[rest[0].name] = above.entries.pop(path.name)
        elif kind == "remove":
            del above.entries[path.name]

    def write(self, root: Path, loss: Loss) -> str:
        """Write the tree to a folder as it is after a cut; gives a hash of it."""
        root.mkdir()
        digest = hashlib.sha256()
        for name, node in sorted((self.on_disk if loss == "entries" else self.entries).items()):
            if isinstance(node, Folder):
                content = node.write(root / name, loss).encode()
            else:
                content = node.content if loss == "none" else node.on_disk
                (root / name).write_bytes(content)
            digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
        return digest.hexdigest()


@contextmanager
def recorded(root: Path) -> Iterator[list[tuple[Any, ...]]]:
    """Record what this process does to a folder: every folder made, file written, synced, renamed, removed."""
    events: list[tuple[Any, ...]] = []
    known: dict[Path, tuple[int, int, int]] = {}

    def inside(path: Any, dir_fd: int | None = None) -> Path | None:
        full = Path(f"/proc/self/fd/{dir_fd}").readlink() / path if dir_fd is not None else Path(path).absolute()
        return full.relative_to(root) if full.is_relative_to(root) else None

    def note_writes() -> None:
        """Note the files that were written since the last event."""
        for folder, _, names in os.walk(root):
            for name in names:
                path = Path(folder) / name
                stat = path.stat()
                stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if known.get(path) != stamp:
                    known[path] = stamp
                    events.append(("write", path.relative_to(root), path.read_bytes()))

    def spy(name: str, note: Callable[..., tuple[Any, ...] | None]) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            note_writes()
            event = note(*args, **options)
            result = original(*args, **options)
            if event:
                events.append(event)
                if event[0] == "rename":
                    known.clear() if (root / event[2]).is_dir() else known.update(
                        {root / event[2]: known.pop(root / event[1])}
                    )
            return result

        return call

    def renamed(source: Any, target: Any, **_: Any) -> tuple[Any, ...] | None:
        one, two = inside(source), inside(target)
        return ("rename", one, two) if one and two else None

    def at(kind: str) -> Callable[..., tuple[Any, ...] | None]:
        def note(path: Any, *_: Any, dir_fd: int | None = None, **__: Any) -> tuple[Any, ...] | None:
            place = inside(path, dir_fd)
            exists = place is not None and (root / place).exists()
            return (kind, place) if place is not None and exists == (kind == "remove") else None

        return note

    def synced(handle: int) -> tuple[Any, ...] | None:
        place = inside(Path(f"/proc/self/fd/{handle}").readlink())
        return ("sync", place) if place is not None else None

    with pytest.MonkeyPatch.context() as patch:
        for name, note in (
            ("replace", renamed), ("rename", renamed), ("unlink", at("remove")), ("remove", at("remove")),
            ("rmdir", at("remove")), ("mkdir", at("mkdir")), ("fsync", synced),
        ):  # fmt: skip
            patch.setattr(os, name, spy(name, note))
        yield events
    note_writes()


def numbers(trial: Trial, store: Store) -> tuple[Any, ...]:
    record = store.stage(trial.signature).read_record()
    assert record
    return (
        record.metrics, record.raw, record.liveness, record.steps, record.active_parameters, record.parts, record.data,
        record.status, record.probes,
    )  # fmt: skip


def states(events: list[tuple[Any, ...]], left: Path) -> Iterator[tuple[Loss, int]]:
    """Write every state that a disk may hold after a cut to `left`, each once; gives how it came to be."""
    seen: set[str] = set()
    losses: tuple[Loss, ...] = ("none", "contents", "entries")
    for loss in losses:
        tree = Folder()
        for count, event in enumerate([*events, None]):
            state = tree.write(left, loss)
            if state not in seen:
                seen.add(state)
                yield loss, count
            shutil.rmtree(left)
            if event:
                tree.apply(event)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    return {"count": 8, "size": 48, "crop": 16, "resize": "none", "heldout_size": 32, "heldout_count": 4}


def test_every_beginning_of_a_trial_ends_with_the_same_numbers(
    write_study: Write, tmp_path: Path, data: dict[str, Any]
) -> None:
    trial = trial_of(write_study())
    prepared = tmp_path / "prepared"
    prepare("leaves", data, prepared)
    place = tmp_path / "recorded"
    place.mkdir()
    (place / "data").symlink_to(prepared)
    with recorded(place) as events:
        run_to_end(trial, Store(place))
    expected = numbers(trial, Store(place))
    kinds = [event[0] for event in events]
    assert kinds.count("sync") > 15 and kinds.count("rename") > 8, "the trial's writes were not seen"

    left = tmp_path / "left"
    cuts = 0
    for cut in states(events, left):
        (left / "data").symlink_to(prepared)
        harmed = {path.name for path in verify(Store(left)).damaged}
        assert harmed <= {"running.json"}, (cut, "only a heartbeat may be worth nothing after a cut")
        run_to_end(trial, Store(left))
        assert numbers(trial, Store(left)) == expected, (cut, events[: cut[1]][-3:])
        (left / "data").unlink()
        cuts += 1
    assert cuts > 30


def test_every_beginning_of_the_preparation_ends_with_the_same_pictures(tmp_path: Path, data: dict[str, Any]) -> None:
    place = tmp_path / "recorded"
    place.mkdir()
    with recorded(place) as events:
        expected = prepare("leaves", data, place / "data").fingerprint
    left = tmp_path / "left"
    for cut in states(events, left):
        found = prepare("leaves", data, left / "data")
        assert found.fingerprint == expected, cut
        assert [why_damaged(folder) for folder in (left / "data").glob("[!ud]*")] == [""], cut
