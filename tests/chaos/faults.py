"""Faults: what can happen to the processes of a sweep, to the files of its store and to its mirror."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.chaos.harness import STOPPED, Case, Damage, Fault, kill

WORKER = ("ray::",)


def kill_driver(case: Case, process: "subprocess.Popen[str]") -> None:
    process.kill()


def kill_everything(case: Case, process: "subprocess.Popen[str]") -> None:
    kill(case.processes())


def kill_a_worker(case: Case, process: "subprocess.Popen[str]") -> None:
    workers = case.named(*WORKER)
    kill(case.random.sample(workers, min(1, len(workers))))


def kill_all_workers(case: Case, process: "subprocess.Popen[str]") -> None:
    kill(case.named(*WORKER))


def kill_raylet(case: Case, process: "subprocess.Popen[str]") -> None:
    kill(case.named("raylet/raylet"))


def kill_gcs(case: Case, process: "subprocess.Popen[str]") -> None:
    kill(case.named("gcs_server"))


def interrupt(case: Case, process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGINT)


def interrupt_twice(case: Case, process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGINT)
    time.sleep(case.random.uniform(0, 0.5))
    process.send_signal(signal.SIGINT)


def terminate(case: Case, process: "subprocess.Popen[str]") -> None:
    process.terminate()


def terminate_group(case: Case, process: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def five_kills(case: Case, process: "subprocess.Popen[str]") -> None:
    for _ in range(4):
        time.sleep(case.random.uniform(0.5, 4))
        kill(case.processes())
        process.wait(60)
        process = case.start()
    time.sleep(case.random.uniform(0.5, 4))
    kill(case.processes())
    process.wait(60)


def stop_and_continue(case: Case, process: "subprocess.Popen[str]") -> None:
    stopped = case.processes()
    for act in (psutil.Process.suspend, psutil.Process.resume):
        for one in stopped:
            with contextlib.suppress(psutil.Error):
                act(one)
        if act is psutil.Process.suspend:
            time.sleep(STOPPED)


def second_driver(case: Case, process: "subprocess.Popen[str]") -> None:
    case.start().wait(180)


def lock_mirror(case: Case, process: "subprocess.Popen[str]") -> None:
    """Another program holds MLflow's database for a while."""
    if not (case.store / "mlflow.db").exists():
        return
    with contextlib.closing(sqlite3.connect(case.store / "mlflow.db", timeout=20)) as database:
        with contextlib.suppress(sqlite3.OperationalError):
            database.execute("begin exclusive")
        time.sleep(STOPPED)


def delete_mirror(case: Case, process: "subprocess.Popen[str]") -> None:
    for path in case.store.glob("mlflow.db*"):
        path.unlink()


PROCESS_FAULTS: tuple[Fault, ...] = (
    kill_driver, kill_everything, kill_a_worker, kill_all_workers, kill_raylet, kill_gcs, interrupt, interrupt_twice,
    terminate, terminate_group, five_kills, stop_and_continue, second_driver, lock_mirror, delete_mirror,
)  # fmt: skip

FILES = {
    "record": "stages/*/record.json",
    "per_image": "stages/*/per_image.json",
    "checkpoint": "stages/*/checkpoint.safetensors",
    "steps": "stages/*/steps.jsonl",
    "settings": "stages/*/settings.json",
    "heartbeat": "stages/*/running.json",
    "card": "studies/*/*/study.json",
    "pictures": "data/*/train.bin",
    "heldout": "data/*/heldout.npy",
    "index": "data/*/index.json",
    "columns": "**/records.parquet",
    "lease": "leases/*.json",
    "mirror": "mlflow.db",
}
"""Kinds of files of a store, as patterns."""


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _delete(path: Path) -> None:
    path.unlink()


def _future(path: Path) -> None:
    """A clock that was wrong."""
    os.utime(path, (time.time() + 1e6, time.time() + 1e6))


HARM: tuple[Callable[[Path], None], ...] = (_cut, _flip, _zeros, _empty, _delete, _future)


def _damage(kind: str, harm: Callable[[Path], None]) -> Damage:
    def damage(case: Case) -> None:
        victims = sorted(path for path in case.store.glob(FILES[kind]) if path.is_file())
        if victims:
            harm(case.random.choice(victims))

    damage.__name__ = f"{kind} {harm.__name__[1:]}"
    return damage


FILE_FAULTS: tuple[Damage, ...] = tuple(_damage(kind, harm) for kind in FILES for harm in HARM)
