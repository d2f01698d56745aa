"""Workers that hang while they train: found, told with their stacks, replaced; what is only slow is left alone."""

import json
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.support.command import PATIENCE, Done, ablate, document, metrics, start, wait_for
from tests.support.scripts import SCRIPT, write_external, write_script
from tests.support.studies import Write

LIMIT = ("--stall-minutes", "0.1")
"""Six seconds, the shortest limit that there is."""


STUCK = '''"""l2, which hangs in the forward pass of one step."""

import os
import re
import threading
import time
from pathlib import Path

from torch.nn import functional as F

from ablate.slots import LossSettings, Term


class Config(LossSettings):
    """`how`: it hangs. `at`: the step, counted in a process. `flag`: the file which says that it has hung before."""

    how: str = "sleeps"
    at: int = 0
    flag: str = ""


def build(config):
    term = Stuck()
    term.config = config
    term.calls = 0
    return term


class Stuck(Term):
    of = "reconstruction"

    def forward(self, step):
        self.calls += 1
        if self.calls == self.config.at and not (self.config.flag and Path(self.config.flag).exists()):
            if self.config.flag:
                Path(self.config.flag).touch()
            hang(self.config.how)
        return F.mse_loss(step.y, step.x)


def hang(how):
    if how == "sleeps":
        time.sleep(10_000)
    elif how == "waits for a lock":
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    elif how == "holds the interpreter":
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif how == "is slow":
        time.sleep(15)
'''

SLOW_PROBE = '''"""The mean of the reconstruction, after a long time."""

import time

from ablate.slots import Metric, ProbeResult, ProbeSettings

METRICS = (Metric("mean", "1", "none", "mean of the pixels"),)


class Config(ProbeSettings):
    """No settings."""


def build(config):
    return examine


def examine(subject):
    time.sleep(12)
    return ProbeResult({"mean": float(subject.reconstruction.mean())})
'''


def write_level(tmp_path: Path, slot: str, name: str, text: str) -> None:
    folder = tmp_path / "components" / slot
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text)


def stuck(write_study: Write, tmp_path: Path, how: str, at: int, flag: Path | None, *more: tuple[str, str]) -> Path:
    write_level(tmp_path, "loss", "stuck", STUCK)
    term = f"stuck: {{weight: 1.0, how: {how}, at: {at}, flag: '{flag or ''}'}}"
    return write_study(
        ("l2: 1.0", term), ("  loss.kl: [1, 1e-4]", "  loss.kl: [1e-4, 1e-3]"), ("seeds: 2", "seeds: 1"), *more
    )


def sweep(study: Path, store: Path, *more: str) -> Done:
    return ablate("sweep", study, "--store", store, "--tracking", "none", "--workers", "1", *more)


@pytest.mark.parametrize("how", ["sleeps", "waits for a lock", "holds the interpreter"])
def test_a_step_that_hangs_once_costs_nothing_but_time(write_study: Write, tmp_path: Path, how: str) -> None:
    flag = tmp_path / "hung"
    study, store = stuck(write_study, tmp_path, how, 5, flag), tmp_path / "runs"
    done = sweep(study, store, *LIMIT)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "hangs" in line]
    assert "step 5 of 6 does not end (stage 'train', " in said and "limit 6 s" in said and "tried once more" in said
    (stacks,) = store.glob("stages/*/stacks.txt")
    assert str(stacks) in said and "stuck.py" in stacks.read_text() and " in hang" in stacks.read_text()
    assert "lost its worker" not in done.stderr
    again = sweep(study, tmp_path / "undisturbed", "--inline")
    assert again.returncode == 0 and metrics(study, store) == metrics(study, tmp_path / "undisturbed")


def test_a_step_that_hangs_twice_fails_its_trial_alone(write_study: Write, tmp_path: Path) -> None:
    write_level(tmp_path, "loss", "stuck", STUCK)
    term = "stuck: {weight: 1.0, how: sleeps, at: 0}"
    study = write_study(
        ("l2: 1.0", term), ("  loss.kl: [1, 1e-4]", "  loss.stuck.at: [0, 3]"), ("seeds: 2", "seeds: 1")
    )
    store = tmp_path / "runs"
    done = sweep(study, store, *LIMIT)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert "at=3" in failed and "step 3 of 6 does not end" in failed and "stacks.txt, as it did when" in failed
    assert sum("tried once more" in line for line in done.stderr.splitlines()) == 1
    assert (
        document("status", study, "--store", store)["trials"] | {"done": 1, "failed": 1, "running": 0}
        == (document("status", study, "--store", store)["trials"])
    )
    (error,) = store.glob("stages/*/error.json")
    assert " in hang" in json.loads(error.read_text())["trace"]


def test_a_worker_that_is_stopped_is_replaced(write_study: Write, tmp_path: Path) -> None:
    """SIGSTOP, as a debugger or a frozen container does: it cannot say where it stands."""
    study, store = write_study(("steps: 6", "steps: 200"), ("seeds: 2", "seeds: 1")), tmp_path / "runs"
    process = start("sweep", study, "--store", store, "--tracking", "none", "--workers", "1", *LIMIT)
    running = wait_for(
        process,
        lambda: [path for path in store.glob("stages/*/running.json") if json.loads(path.read_text())["step"] > 20],
    )
    psutil.Process(json.loads(running[0].read_text())["pid"]).send_signal(signal.SIGSTOP)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "Traceback" not in said, said
    assert len(re.findall(r"hangs: its worker was stopped after step \d+ of 200 .* did not give its stacks", said)) == 1
    assert document("status", study, "--store", store)["trials"]["done"] == 2


def test_what_is_slow_is_no_hang(write_study: Write, tmp_path: Path) -> None:
    """The first step and a probe take more than twice the limit."""
    write_level(tmp_path, "probe", "slow", SLOW_PROBE)
    study = stuck(write_study, tmp_path, "is slow", 1, None, ("[reconstruction]", "[reconstruction, slow]"))
    done = sweep(study, tmp_path / "runs", *LIMIT)
    assert done.returncode == 0 and "hangs" not in done.stderr, done.stderr


def test_a_stopped_sweep_goes_on_without_a_word(write_study: Write, tmp_path: Path) -> None:
    """The driver and its worker stand still for longer than the limit, as on a laptop that sleeps."""
    study, store = write_study(("steps: 6", "steps: 200"), ("seeds: 2", "seeds: 1")), tmp_path / "runs"
    process = start("sweep", study, "--store", store, "--tracking", "none", "--workers", "1", *LIMIT)
    wait_for(
        process,
        lambda: [path for path in store.glob("stages/*/running.json") if json.loads(path.read_text())["step"] > 20],
    )
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in family:
        one.send_signal(signal.SIGSTOP)
    time.sleep(15)
    for one in reversed(family):
        one.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "hangs" not in said, said


def test_a_command_that_stands_still(tmp_path: Path) -> None:
    """One of two scripts logs a step and then nothing; another is silent in its log, but writes to its output."""
    hangs = "time.sleep(9999)\nlog = open"
    writes = "[(print(i, flush=True), time.sleep(1)) for i in range(12)]\nlog = open"
    text = SCRIPT.replace("log = open", f"import time\nif gain == 2:\n    {hangs.splitlines()[0]}\n{writes}")
    write_script(tmp_path, text)
    study, store = write_external(tmp_path, ("seeds: 2", "seeds: 1")), tmp_path / "runs"
    before = {process.pid for process in psutil.process_iter()}
    done = sweep(study, store, *LIMIT)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert "gain=2" in failed and "the command has logged no step and written nothing since step 0 of 4" in failed
    assert document("status", study, "--store", store)["trials"]["done"] == 1
    time.sleep(6)
    left = [one for one in psutil.process_iter(["pid", "cmdline"]) if one.pid not in before]
    assert not [one for one in left if str(tmp_path / "train.py") in " ".join(one.info["cmdline"] or [])]


def test_inline_says_where_it_hangs(write_study: Write, tmp_path: Path) -> None:
    study, store = stuck(write_study, tmp_path, "sleeps", 4, None), tmp_path / "runs"
    process = start("sweep", study, "--store", store, "--tracking", "none", "--inline", *LIMIT)
    (stacks,) = wait_for(process, lambda: [path for path in store.glob("stages/*/stacks.txt") if path.stat().st_size])
    time.sleep(1)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and str(stacks) in said and " in hang" in stacks.read_text(), said
