"""Reads every file of a store and says which ones are not as they were written."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ablate.data import sealed
from ablate.errors import StoreError
from ablate.store import checksum, damage
from ablate.store.checksum import Damaged, TooNew
from ablate.store.files import is_remote, local, read_json
from ablate.store.folders import Store
from ablate.store.leases import Leases
from ablate.store.record import Record, read_header
from ablate.store.stage import StageFolder
from ablate.store.steps import read_lines
from ablate.track.look import database_fault


@dataclass
class Verified:
    """What was found. `unverified`: files without a checksum, of an older store. `damaged`: file -> how it is."""

    sound: int = 0
    unverified: list[Path] = field(default_factory=list)
    damaged: dict[Path, str] = field(default_factory=dict)

    def add(self, path: Path, fault: str | None, *, has_checksum: bool = True) -> None:
        """Add a file; `fault`: how it is damaged, None if it is not."""
        if fault is not None:
            self.damaged[path] = fault
        elif has_checksum:
            self.sound += 1
        else:
            self.unverified.append(path)


def verify(store: Store) -> Verified:
    """Read the whole store. Nothing is changed."""
    found = Verified()
    for place in ("stages", "stale"):
        for root in sorted((store.root / place).glob("*")):
            _verify_stage(StageFolder(root), found)
    for path in _study_files(store.root):
        _verify_json(path, found)
    for path in sorted((store.root / "studies").glob("*/*/*.parquet")):
        _verify_file(path, found)
    for folder in sorted(store.data.glob("*")):
        if (folder / "index.json").exists() and folder.name != damage.ASIDE:
            try:
                fault = sealed.why_damaged(folder) or None
            except ValueError as error:
                raise StoreError(str(error)) from None
            found.add(folder, fault, has_checksum=(folder / sealed.SEAL).exists())
    if not is_remote(store.root) and (store.root / "mlflow.db").exists():
        found.add(store.root / "mlflow.db", database_fault(store.root / "mlflow.db") or None)
    return found


def repair(store: Store, found: Verified) -> None:
    """Move damaged files to `damaged/` beside them; the next sweep makes again what they held. Raises StoreError."""
    with Leases(store.root, "ablate verify --repair") as leases:
        for lease in sorted((store.root / "leases").glob("*.json")):
            name = lease.name.partition(".")[0]
            if not leases.take(name):
                raise StoreError(f"{store.root} is in use by {leases.holder(name)}: repair it when that has ended")
        for path, fault in found.damaged.items():
            damage.report(path, fault)
            folder = StageFolder(path.parent if path.parent.name != "pictures" else path.parent.parent)
            of_probes = path == folder.per_image or path.parent == folder.pictures
            damage.set_aside(path)
            if of_probes and (record := folder.read_record()):
                folder.finish(replace(record, probes={}))


def _study_files(root: Path) -> Iterator[Path]:
    for pattern in ("code/*.json", "content/*.json", "studies/*/*/*.json", "studies/*/*/tuning/*.json", "needs/*.json"):
        yield from sorted(root.glob(pattern))


def _verify_stage(folder: StageFolder, found: Verified) -> None:
    for path in (folder.record_file, folder.per_image, folder.settings, folder.error, folder.running):
        if path.exists():
            _verify_json(path, found)
    if folder.record_file.exists() and folder.record_file not in found.damaged:
        try:
            Record.read(read_json(folder.record_file), folder.root.name)
        except Damaged as error:
            found.add(folder.record_file, str(error))
    _verify_checkpoint(folder, found)
    _verify_file(folder.previous, found)
    for picture in sorted(folder.pictures.glob("*.png")):
        found.add(picture, _picture_fault(picture))


def _verify_checkpoint(folder: StageFolder, found: Verified) -> None:
    """The checkpoint, whose stage it is, and the step log up to it."""
    header = None
    _verify_file(folder.checkpoint, found)
    if folder.checkpoint.exists() and folder.checkpoint not in found.damaged:
        header = read_header(folder.checkpoint) or {}
        origin = (read_json(folder.settings) or {}).get("origin")
        if header.get("signature") not in {folder.root.name, origin}:
            found.add(folder.checkpoint, f"it is the checkpoint of stage {header.get('signature')}")
            header = None
    if folder.steps.exists():
        last = (header or {}).get("log", {}).get("last")
        lines = read_lines(folder.steps, last)
        fault = damage.found().get(folder.steps)
        found.add(folder.steps, fault, has_checksum=bool(last) or not lines)


def _verify_json(path: Path, found: Verified) -> None:
    try:
        has_checksum = checksum.open_json(path.read_bytes(), checksum.key_of(path))[1]
    except FileNotFoundError:  # a sweep has removed it meanwhile
        return
    except TooNew as error:  # sound, but not for this version
        raise StoreError(f"{path}: {error}") from None
    except Damaged as error:
        found.add(path, str(error))
    else:
        found.add(path, None, has_checksum=has_checksum)


def _verify_file(path: Path, found: Verified) -> None:
    """A binary file, if there is one."""
    try:
        if path.exists():
            place = local(path)
            mark = checksum.verify_file(place)
            if path.suffix == ".safetensors" and not mark:
                _verify_layout(place)
            found.add(path, None, has_checksum=bool(mark))
    except FileNotFoundError:  # a sweep has replaced it meanwhile
        return
    except ValueError as error:
        found.add(path, str(error))


def _verify_layout(path: Path) -> None:
    """Raise Damaged if a safetensors file without a checksum cannot be opened."""
    from safetensors import SafetensorError, safe_open

    read_header(path)
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise Damaged(f"it cannot be read ({error})") from None


def _picture_fault(path: Path) -> str | None:
    """How a PNG file is damaged, by its own checksums; None if it is not."""
    from PIL import Image

    try:
        with path.open("rb") as file, Image.open(file) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError) as error:
        return f"it cannot be read ({error})"
    return None
