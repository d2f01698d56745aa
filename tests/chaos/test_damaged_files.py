"""Each kind of file × each kind of damage: it is named, moved aside, made again, and the numbers are the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ablate.cli.main import app
from ablate.data.prepare import prepare
from ablate.plan.trials import expand
from ablate.store import damage
from ablate.store.files import read_json, write_json
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.studies import write_study
from tests.support.training import run_to_end, run_until

STAGES = (
    (
        "log_every: 2, checkpoint_every: 3}",
        "log_every: 1, checkpoint_every: 2}\n  - tune: {steps: 4, batch: 2, lr: 1e-3, log_every: 1}",
    ),
    ("seeds: 2", "seeds: 1"),
)
"""Two treatments of two stages."""


def cut(path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, _other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def empty(path: Path, _other: Path) -> None:
    path.write_bytes(b"")


def swap(path: Path, other: Path) -> None:
    assert other.read_bytes() != path.read_bytes()
    shutil.copyfile(other, path)


FAULTS = pytest.mark.parametrize("damaged_by", [cut, flip, empty, swap], ids=lambda fault: fault.__name__)


class Place:
    """A study's file and a store with what its sweep has left."""

    def __init__(self, folder: Path) -> None:
        self.study = folder / "tiny.yaml"
        self.store = Store(folder / "runs")

    @property
    def trials(self) -> list[str]:
        return [trial.signature for trial in expand(load_study(self.study))]

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--store", str(self.store.root)], catch_exceptions=False)

    def sweep(self) -> Result:
        done = self.run("sweep", str(self.study), "--inline", "--tracking", "none")
        assert done.exit_code == 0, done.output
        return done

    def numbers(self) -> dict[str, object]:
        return numbers(self.store, self.trials)


def numbers(store: Store, trials: list[str]) -> dict[str, object]:
    """All that a table is made of, by trial."""
    records = {signature: store.stage(signature).read_record() for signature in trials}
    assert all(records.values())
    return {
        signature: (r.metrics, r.raw, r.liveness, r.steps, r.active_parameters, r.probes, r.data)
        for signature, r in records.items()
        if r
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("swept")
    write_study(folder, *STAGES)
    place = Place(folder)
    place.sweep()
    return place


@pytest.fixture
def place(swept: Place, tmp_path: Path) -> Place:
    """A copy of the swept store."""
    shutil.copytree(swept.study.parent, tmp_path / "copy")
    return Place(tmp_path / "copy")


Find = Callable[[Place], list[Path]]

KINDS: dict[str, Find] = {
    "record": lambda place: [place.store.stage(mark).record_file for mark in place.trials],
    "per_image": lambda place: [place.store.stage(mark).per_image for mark in place.trials],
    "checkpoint": lambda place: [place.store.stage(mark).checkpoint for mark in place.trials],
    "steps": lambda place: [place.store.stage(mark).steps for mark in place.trials],
    "settings": lambda place: [place.store.stage(mark).settings for mark in place.trials],
    "card": lambda place: sorted(place.store.root.glob("studies/*/*/study.json")),
    "pictures": lambda place: sorted(place.store.data.glob("*/train.bin")),
    "heldout": lambda place: sorted(place.store.data.glob("*/heldout.npy")),
    "index": lambda place: sorted(place.store.data.glob("*/index.json")),
    "seal": lambda place: sorted(place.store.data.glob("*/checksums.json")),
}
"""Kind -> its files in a store."""


def damaged(place: Place, another: Place, kind: str, damaged_by: Callable[[Path, Path], None]) -> Path:
    """Damage a file of a kind; another file of the kind is that of another trial, or of another study."""
    victim, *rest = KINDS[kind](place)
    damaged_by(victim, [*rest, *KINDS[kind](another)][0])
    return victim


@pytest.fixture(scope="module")
def another(swept: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with another study on other data, as far as its files go."""
    folder = tmp_path_factory.mktemp("another")
    shutil.copyfile(swept.study, folder / "tiny.yaml")
    shutil.copytree(swept.store.root / "studies" / "tiny", folder / "runs" / "studies" / "other")
    card = folder / "runs" / "studies" / "other" / "base" / "study.json"
    write_json(card, {**read_json(swept.store.study("tiny", "base").card), "name": "other"})
    prepare("leaves", {"crop": 16, "heldout_size": 32, "heldout_count": 3, "seed": 1}, folder / "runs" / "data")
    return Place(folder)


@FAULTS
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_and_moved_aside(
    kind: str, damaged_by: Callable[[Path, Path], None], place: Place, another: Place
) -> None:
    victim = damaged(place, another, kind, damaged_by)
    broken = place.run("verify")
    named = victim.parent if victim.is_relative_to(place.store.data) else victim
    assert broken.exit_code == 1 and f"damaged: {named}: " in broken.output, broken.output
    assert place.run("verify", "--repair").exit_code == 0
    assert list((named.parent / damage.ASIDE).glob(f"{named.name}*")) and not named.exists()
    assert place.run("verify").exit_code == 0


@FAULTS
def test_a_finished_study_is_the_same_again(
    damaged_by: Callable[[Path, Path], None], place: Place, swept: Place, another: Place
) -> None:
    """A record, the values per picture of another trial, the card and the prepared pictures are damaged at once."""
    victim = place.store.stage(place.trials[1]).per_image
    damaged_by(victim, place.store.stage(place.trials[0]).per_image)
    for kind in ("record", "card", "heldout"):
        damaged(place, another, kind, damaged_by)
    before = [path.stat().st_mtime_ns for kind in ("checkpoint", "steps") for path in KINDS[kind](place)]
    done = place.sweep()
    assert "2 trials run" in done.output, done.output
    assert [path.stat().st_mtime_ns for kind in ("checkpoint", "steps") for path in KINDS[kind](place)] == before
    assert place.numbers() == swept.numbers() and place.run("verify").exit_code == 0
    assert len([path for path in place.store.root.rglob("*") if path.parent.name == damage.ASIDE]) == 4
    assert "nothing to run" in place.sweep().output


@pytest.mark.parametrize(
    ("kind", "damaged_by", "first"),
    [
        ("checkpoint", flip, 3),
        ("checkpoint", swap, 3),
        ("both", cut, 1),
        ("steps", flip, 3),
        ("steps", empty, 1),
        ("parent", flip, 1),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_stage_goes_on_from_its_last_sound_state(
    kind: str, damaged_by: Callable[[Path, Path], None], first: int, tmp_path: Path, swept: Place, place: Place
) -> None:
    """A trial that was killed at step 5 of 6, with checkpoints of steps 2 and 4, or after the first of its stages.

    `first`: the step that it makes next. The fourth line of the log is the one with the flipped bit.
    """
    trial = expand(load_study(swept.study))[0]
    store = Store(tmp_path / "killed")
    run_until(8 if kind == "parent" else 5, trial, store)
    stage = store.stage(trial.signatures[0])
    assert stage.previous.exists() == (kind != "parent")
    donor = place.store.stage(place.trials[0])
    victims = {"steps": [stage.steps], "both": [stage.checkpoint, stage.previous]}.get(kind, [stage.checkpoint])
    for victim in victims:
        damaged_by(victim, donor.root / victim.name.replace("previous", "checkpoint"))
    steps: list[int] = []
    run_to_end(trial, store, lambda done: steps.append(done.step))
    assert steps[0] == first
    assert numbers(store, [trial.signature]) == numbers(swept.store, [trial.signature])
    if kind != "steps":
        assert len(list((stage.root / damage.ASIDE).iterdir())) == len(victims)


def test_damaged_weights_are_never_probed(place: Place, swept: Place) -> None:
    """A bit of a trained trial's weights flips before it was recorded: it is trained again."""
    folder = place.store.stage(place.trials[0])
    folder.record_file.unlink()
    flip(folder.checkpoint, folder.checkpoint)
    assert "1 trials run" in place.sweep().output
    assert place.numbers() == swept.numbers()


@pytest.mark.parametrize("name", ["error.json", "running.json", "settings.json"])
@pytest.mark.parametrize("content", [b"", b"\0" * 50, b'{"reason": "hal', b"[1]", b"7"])
def test_what_only_tells_of_a_stage_stops_nothing(name: str, content: bytes, place: Place) -> None:
    folder = place.store.stage(place.trials[0])
    (folder.root / name).write_bytes(content)
    folder.record_file.unlink()
    for command in ("status", "show", "table"):
        done = place.run(command, str(place.study))
        assert done.exit_code == 0, done.output


def test_status_names_what_was_damaged(place: Place) -> None:
    victim = place.store.stage(place.trials[0]).record_file
    cut(victim, victim)
    before = place.run("status", str(place.study))
    assert f"damaged: {victim}: it is cut short" in before.output and "1 pending" in before.output
    assert place.run("verify", "--repair").exit_code == 0
    assert f"damaged: {victim.parent / damage.ASIDE / victim.name}" in place.run("status", str(place.study)).output


def test_a_store_without_checksums_is_read(place: Place, swept: Place) -> None:
    """What an older version wrote: plain JSON, plain safetensors."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    for path in place.store.root.rglob("*.json"):
        if path.name != "checksums.json":
            entries = {k: v for k, v in json.loads(path.read_text()).items() if k not in {"_format", "_checksum"}}
            path.write_text(json.dumps(entries, indent=1))
    for path in place.store.data.glob("*/checksums.json"):
        path.unlink()
    for path in place.store.root.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["ablate"])
        header["log"].pop("last")
        save_file(load_file(path), path, {"ablate": json.dumps(header)})
    for path in place.store.root.rglob("steps.jsonl"):
        lines = [{k: v for k, v in json.loads(line).items() if k != "_checksum"} for line in path.open()]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert place.numbers() == swept.numbers()
    found = place.run("verify", "--json")
    counts = json.loads(found.output)
    assert found.exit_code == 0 and counts["damaged"] == {} and counts["unverified"] >= 12
    assert "nothing to run" in place.sweep().output and place.numbers() == swept.numbers()
