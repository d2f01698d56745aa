"""Workers that are killed for lack of the host's memory, by the kernel and by Ray: told apart from other losses.

A control group of version 1 or 2 limits what the sweep may use. The tests need the right to make one.
"""

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ablate.store import host_memory
from ablate.store.folders import Store
from tests.support.command import PATIENCE, Done, command, environment, metrics
from tests.support.scripts import SCRIPT, write_external, write_script
from tests.support.studies import Write

GB = 1 << 30

LIMIT = 4 * GB

CGROUPS = Path("/sys/fs/cgroup")


def limit_memory(group: Path, limit: int) -> None:
    """Set the bytes that the processes of a control group may use."""
    first = group / "memory.limit_in_bytes"
    (first if first.exists() else group / "memory.max").write_text(str(limit))


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with little memory, removed in the end."""
    first = (CGROUPS / "memory").is_dir()
    folder = (CGROUPS / "memory" if first else CGROUPS) / f"ablate-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
        limit_memory(folder, LIMIT)
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    yield folder
    folder.rmdir()


def within(group: Path, *arguments: str | Path, env: dict[str, str] | None = None, only: bool = False) -> Done:
    """Run the command in a control group; nothing is left in it. `only`: the command sees this group as the machine."""
    seen = f"unshare --mount bash -c 'mount --bind {group} {group.parent} && exec \"$@\"' bash" if only else ""
    enter = f'echo $$ > {group}/cgroup.procs; exec {seen} "$@"'
    done = subprocess.run(
        ["bash", "-c", enter, "bash", *command(*arguments)],
        capture_output=True, text=True, env=environment(env), timeout=PATIENCE, check=False,
    )  # fmt: skip
    for _ in range(100):
        if not (group / "cgroup.procs").read_text().strip():
            break
        subprocess.run(["sleep", "0.5"], check=True)
    return done


GREEDY = '''"""`image_kl` that takes memory until it is killed where it decodes too many pictures at once."""

import time

import torch
from pydantic import PositiveInt

from ablate.components.model import image_kl
from ablate.slots import ModelSettings


class Config(ModelSettings):
    """`room`: in pictures. `pause`: seconds between two pieces of 200 MB."""

    room: int
    pause: float = 0.0
    channels: tuple[PositiveInt, ...]
    latent_channels: PositiveInt

    @property
    def stride(self) -> int:
        return 1 << (len(self.channels) - 1)


def build(config, encoder, decoder):
    plain = image_kl.Config(channels=config.channels, latent_channels=config.latent_channels, blocks=1)
    model = Greedy(plain, encoder, decoder)
    model.room = config.room
    model.pause = config.pause
    return model


class Greedy(image_kl.ImageKL):
    def decode(self, z):
        pieces = []
        while torch.is_grad_enabled() and len(z) > self.room:
            pieces.append(bytearray(b"x") * (200 << 20))
            time.sleep(self.pause)
            assert len(pieces) < 60, "the limit does not hold"
        return super().decode(z)
'''


def greedy(write_study: Write, tmp_path: Path, room: int, pause: float = 0.0) -> Path:
    folder = tmp_path / "components" / "model"
    folder.mkdir(parents=True)
    (folder / "greedy.py").write_text(GREEDY)
    return write_study(
        ("image_kl, channels: [8, 8], latent_channels: 4, blocks: 1",
         f"greedy, channels: [8, 8], latent_channels: 4, room: {room}, pause: {pause}"),
        ("batch: 2", "batch: 4"), ("seeds: 2", "seeds: 1"),
    )  # fmt: skip


def check_micro_batches(done: Done, store: Path, by: str) -> None:
    """The first trial lost one worker for lack of memory, as is said, and both were trained in two micro-batches."""
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    said = [line for line in done.stderr.splitlines() if "out of memory in stage 'train'" in line]
    assert len(said) == 1 and "continues with each batch in 2 micro-batches: its worker was " in said[0], done.stderr
    assert by in said[0] and "lost its worker" not in done.stderr
    runs = Store(store)
    records = [record for mark in runs.stage_signatures() if (record := runs.stage(mark).record())]
    assert [record.parts for record in records] == [2, 2]
    assert "baseline into 2" in done.stdout


def test_a_worker_killed_by_the_kernel_goes_on_in_micro_batches(
    write_study: Write, tmp_path: Path, group: Path
) -> None:
    study, store = greedy(write_study, tmp_path, 2), tmp_path / "runs"
    words = ("sweep", study, "--store", store, "--tracking", "none", "--workers", "1")
    done = within(group, *words, env={"RAY_memory_monitor_refresh_ms": "0"})
    check_micro_batches(done, store, "killed by the kernel for lack of memory: ")

    # The same numbers, but for rounding, as with enough memory
    (tmp_path / "components" / "model" / "greedy.py").write_text(GREEDY.replace("len(z) > self.room", "False"))
    plain = within(group, *words[:3], tmp_path / "plain", *words[4:], "--inline")
    assert plain.returncode == 0, plain.stderr
    for name, values in metrics(study, tmp_path / "plain").items():
        assert metrics(study, store)[name] == pytest.approx(values, abs=1e-3)


def test_a_worker_killed_by_rays_memory_monitor_goes_on_in_micro_batches(
    write_study: Write, tmp_path: Path, group: Path
) -> None:
    """By itself Tune would end with this. The monitor sees a machine in which nothing else uses memory."""
    study, store = greedy(write_study, tmp_path, 2, pause=0.2), tmp_path / "runs"
    if psutil.virtual_memory().available < 8 * GB:
        pytest.skip("the machine has less than 8 GB to spare")
    limit_memory(group, 12 * GB)
    how = {"RAY_memory_monitor_refresh_ms": "100", "RAY_memory_usage_threshold": "0.5"}
    words = ("sweep", study, "--store", store, "--tracking", "none", "--workers", "1")
    done = within(group, *words, env=how, only=True)
    check_micro_batches(done, store, "killed by Ray's memory monitor: ")


def test_a_picture_for_which_there_is_no_room(write_study: Write, tmp_path: Path, group: Path) -> None:
    """It fails with the whole cause, after all sizes."""
    study, store = greedy(write_study, tmp_path, 0), tmp_path / "runs"
    words = ("--tracking", "none", "--workers", "1")
    done = within(group, "sweep", study, "--store", store, *words, env={"RAY_memory_monitor_refresh_ms": "0"})
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("in 2 micro-batches") == done.stderr.count("in 4 micro-batches") == 1
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert failed and all("its worker was killed by the kernel for lack of memory" in line for line in failed)


def test_a_command_that_is_killed_for_memory(tmp_path: Path, group: Path) -> None:
    write_script(tmp_path, SCRIPT.replace("rng =", "kept = [b'x' * (200 << 20) for _ in range(60)]\nrng ="))
    how = ("--store", tmp_path / "runs", "--tracking", "none", "--inline")
    done = within(group, "sweep", write_external(tmp_path), *how)
    assert done.returncode == 1 and "was killed by the kernel for lack of memory (" in done.stderr, done.stderr


def test_a_kill_without_evidence_is_no_shortage() -> None:
    """Of a process that ends by SIGKILL from elsewhere the counter does not rise."""
    child = subprocess.Popen(["sleep", "100"])
    seen = {"pid": child.pid, "kills": host_memory.kill_count()}
    child.kill()
    child.wait()
    if seen["kills"]:
        assert Path(seen["kills"][0]).exists() and os.path.basename(seen["kills"][0])  # noqa: PTH119
    assert host_memory.was_killed(seen) == ""
