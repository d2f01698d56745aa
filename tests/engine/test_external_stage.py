"""A stage that runs a script: its weights are probed, its steps logged, and whatever goes wrong is said."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ablate.driver.preflight import validate
from ablate.engine import checkpoint, guard
from ablate.engine.metrics_file import MetricsFile
from ablate.engine.run import StageResult, run_trial
from ablate.engine.stages import StepReport
from ablate.errors import StudyError
from ablate.plan.stale import find_stale
from ablate.plan.trials import Trial, expand
from ablate.store.folders import Store
from ablate.store.stage import StageFolder
from ablate.study.document import read_document
from ablate.study.study import load_study
from tests.support.own import fresh
from tests.support.scripts import COMMAND, SCRIPT, write_external, write_script

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_script(tmp_path)
    with fresh():
        yield


def run(trial: Trial, store: Store, reports: list[StepReport] | None = None) -> StageResult:
    return run_trial(trial.order(), store, CPU, 1, lambda one: reports.append(one) if reports is not None else None)


def test_what_the_script_writes_is_probed_and_logged(tmp_path: Path) -> None:
    path = write_external(tmp_path)
    validate(read_document(path), None, (), gpu=False)
    trials = expand(load_study(path))
    store = Store(tmp_path / "runs")
    reports: list[StepReport] = []
    assert run(trials[0], store, reports).status == "done"
    folder = store.stage(trials[0].signature)
    written = load_file(folder.root / "external" / "out.safetensors")
    expected = {f"module.{name}": tensor for name, tensor in written.items()}
    for prefix in ("model.", "ema."):
        found = checkpoint.load(folder.checkpoint, prefix)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    rng = np.random.default_rng(0)
    first = next(iter(written.values()))
    assert np.allclose(0.1 * rng.standard_normal(tuple(first.shape)), first.numpy(), atol=1e-6)

    # The record and the log are those of any stage
    record = folder.record()
    assert record is not None and record.steps == 4 and record.metrics["psnr"] == record.raw["psnr"]
    lines = folder.read_steps()
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [line["train/loss"] for line in lines] == [1, 1 / 2, 1 / 3, 1 / 4] and "train/note" not in lines[0]
    assert record.train_s == pytest.approx(4 / lines[0]["train/steps_per_s"])
    assert reports[-1].step == 4

    # Another gain is another trial, with other weights from the same seed
    doubled = next(trial for trial in trials if "gain=2" in trial.name and trial.seed == 0)
    assert doubled.signature != trials[0].signature
    assert run(doubled, store).status == "done"
    twice = load_file(store.stage(doubled.signature).root / "external" / "out.safetensors")
    assert all(torch.allclose(twice[name], 2 * tensor) for name, tensor in written.items())


def test_the_script_is_told_everything(tmp_path: Path) -> None:
    stage = COMMAND.replace("gain: 1.0}", 'gain: 1.0, env: {MY_VARIABLE: "7"}, cwd: work}')
    words = '../train.py, "{settings}", "{seed}", "{gain}", "--out={checkpoint}"'
    stage = stage.replace('train.py, "{settings}"', words)
    (tmp_path / "work").mkdir()
    text = SCRIPT + "import os\njson.dump([sys.argv[2:], os.getcwd(), os.environ['MY_VARIABLE'], sys.executable], "
    write_script(tmp_path, text + "open(settings['output'] + '/told.json', 'w'))\n")
    trial = expand(load_study(write_external(tmp_path, stage=stage)))[1]
    store = Store(tmp_path / "runs")
    assert run(trial, store).status == "done"
    output = store.stage(trial.signature).root / "external"
    words, cwd, variable, python = json.loads((output / "told.json").read_text())
    assert words == ["1", "1.0", f"--out={output / 'out.safetensors'}"]
    assert (cwd, variable, python) == (str(tmp_path / "work"), "7", sys.executable)
    settings = json.loads((output / "settings.json").read_text())
    assert settings["seed"] == 1 and settings["device"] == "cpu" and settings["options"] == {"gain": 1.0}
    assert settings["levels"]["data"]["crop"] == 16 and settings["levels"]["model"]["target"] == "my_pkg.vae:Pair"


@pytest.mark.parametrize("form", ["pt", "wrapped", "ddp", "beside others"])
def test_other_forms_of_checkpoints(form: str, tmp_path: Path) -> None:
    write = {
        "pt": "torch.save(state, path)",
        "wrapped": "torch.save({'state_dict': state, 'epoch': 3}, path)",
        "ddp": "torch.save({'module.' + name: one for name, one in state.items()}, path)",
        "beside others": "torch.save({'ema': {'vae.' + name: one for name, one in state.items()},"
        " 'loss': torch.zeros(1), 'step': torch.ones(1)}, path)",
    }[form]
    text = SCRIPT.replace("save_file(weights, settings[\"checkpoint\"])", (
        "import torch\npath = settings['checkpoint']\n"
        f"state = {{name: torch.from_numpy(one) for name, one in weights.items()}}\n{write}\n"))  # fmt: skip
    write_script(tmp_path, text)
    trial = expand(load_study(write_external(tmp_path, stage=COMMAND.replace("out.safetensors", "out.pt"))))[0]
    assert run(trial, Store(tmp_path / "runs")).status == "done"


SAVE = 'save_file(weights, settings["checkpoint"])'


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("rng =", "sys.exit('out of luck')\nrng =", "ended with exit code 1: out of luck"),
        ("rng =", "raise KeyError('lr')\nrng =", "KeyError: 'lr'"),
        ("rng =", "import os\nos.kill(os.getpid(), 11)\nrng =", "was ended by signal 11: it wrote no errors"),
        (SAVE, "", "ended well, but did not write"),
        (SAVE, "open(settings['output'] + '/other.bin', 'w')", "it wrote log.jsonl, other.bin"),
        (SAVE, "open(settings['checkpoint'], 'w').write('no')", "cannot be read: it is damaged or no safetensors file"),
        (SAVE, SAVE + "\nopen(settings['checkpoint'], 'r+b').truncate(999)", "it is damaged: 999 of"),
        (SAVE, "open(settings['checkpoint'], 'w').write('version https://git-lfs')", "it is a pointer of Git LFS"),
        (SAVE, "weights.popitem()\n" + SAVE, "does not fit model 'python': it lacks"),
        (SAVE, "weights['extra'] = weights['bias']\n" + SAVE, "the model has no extra"),
        (
            SAVE,
            "weights['bias'] = weights['bias'][:2]\n" + SAVE,
            "shape: bias 2 x 1 x 1 (expected 3 x 1 x 1)",
        ),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(old: str, new: str, expected: str, tmp_path: Path) -> None:
    write_script(tmp_path, SCRIPT.replace(old, new, 1))
    trial = expand(load_study(write_external(tmp_path)))[0]
    store = Store(tmp_path / "runs")
    result = run(trial, store)
    assert result.status == "failed" and expected in result.reason, result.reason
    assert "\n" not in result.reason
    if "exit code" in expected:
        assert "python train.py" in result.reason
    write_script(tmp_path)  # mended, it is another script, and so another trial
    again = expand(load_study(tmp_path / "tiny.yaml"))[0]
    assert again.signature != trial.signature and run(again, store).status == "done"


def test_weights_that_are_not_finite_have_diverged(tmp_path: Path) -> None:
    write_script(tmp_path, SCRIPT.replace(SAVE, "weights['bias'][:] = np.nan\n" + SAVE))
    trial = expand(load_study(write_external(tmp_path)))[0]
    result = run(trial, Store(tmp_path / "runs"))
    assert result.status == "diverged" and "not finite (bias)" in result.reason


def test_a_metrics_file_with_faults_costs_no_training(tmp_path: Path) -> None:
    write_script(tmp_path, SCRIPT.replace("rng =", "open(settings['metrics'], 'w')\nrng =").replace(
        "    log.flush()", "    log.write('{oops\\n') if step == 2 else None\n    log.flush()"))  # fmt: skip
    trial = expand(load_study(write_external(tmp_path)))[0]
    store = Store(tmp_path / "runs")
    result = run(trial, store)
    assert result.status == "done" and "1 line of log.jsonl cannot be read" in result.reason
    assert len(store.stage(trial.signature).read_steps()) == 4


def test_metrics_may_be_csv(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    log = MetricsFile(file, StageFolder(tmp_path / "stage"), 20)
    assert log.read() == []
    file.write_text("step,loss,phase\n1,0.5,a\n10,0.25,b\n20,0.1,c")
    assert log.read() == [{"step": 1, "train/loss": 0.5}, {"step": 10, "train/loss": 0.25}]
    assert log.step == 10
    assert log.finish(10.0) == ""
    lines = log.folder.read_steps()
    assert [line["step"] for line in lines] == [1, 10, 20] and lines[0]["train/steps_per_s"] == 2
    longer = MetricsFile(file, StageFolder(tmp_path / "longer"), 1)
    assert "logged 20 steps, but the stage says 1; write steps: 20" in longer.finish(1.0)
    missing = MetricsFile(tmp_path / "none.csv", StageFolder(tmp_path / "other"), 20)
    assert "did not write none.csv" in missing.finish(1.0)
    assert [line["step"] for line in missing.folder.read_steps()] == [20]


def test_a_script_that_is_edited_is_another_trial(tmp_path: Path) -> None:
    path = write_external(tmp_path)

    def signature() -> str:
        return expand(load_study(path))[0].signature

    before = signature()
    write_script(tmp_path, SCRIPT + "\n# a comment\n")
    assert signature() == before
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    assert signature() == before
    (tmp_path / "shapes.py").write_text((tmp_path / "shapes.py").read_text() + "MORE = 1\n")
    assert signature() != before  # it is imported
    write_script(tmp_path, SCRIPT.replace("0.1 *", "0.2 *"))
    assert signature() != before
    write_script(tmp_path)
    assert signature() == before
    (tmp_path / "settings.cfg").write_text("a = 1")
    sourced = write_external(tmp_path, stage=COMMAND.replace("gain: 1.0}", "gain: 1.0, sources: ['*.cfg']}"))
    one = expand(load_study(sourced))[0].signature
    (tmp_path / "settings.cfg").write_text("a = 2")
    assert expand(load_study(sourced))[0].signature != one


def test_a_file_that_an_option_names_makes_stale(tmp_path: Path) -> None:
    (tmp_path / "extra.txt").write_text("1")
    study = load_study(write_external(tmp_path, stage=COMMAND.replace("gain: 1.0}", "gain: 1.0, extra: extra.txt}")))
    trial = expand(study)[0]
    store = Store(tmp_path / "runs")
    assert run(trial, store).status == "done"
    assert not find_stale([trial], [], store).changes
    (tmp_path / "extra.txt").write_text("2")
    assert find_stale([trial], [], store).changes == ["stage/external extra.txt (the file was replaced by another)"]


def test_a_script_that_is_edited_in_mid_sweep_fails(tmp_path: Path) -> None:
    trial = expand(load_study(write_external(tmp_path)))[0]
    write_script(tmp_path, SCRIPT.replace("0.1 *", "0.2 *"))
    result = run(trial, Store(tmp_path / "runs"))
    assert result.status == "failed" and "have changed since the sweep began" in result.reason


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("train.py", "trian.py", "the command names trian.py, which is not in"),
        ('[python, train.py, "{settings}"]', "python train.py", "expected a list of words, found text"),
        ("[python,", "[pythno,", "there is no program 'pythno' on the PATH"),
        ("{settings}", "{setings}", "the command names {setings}; did you mean 'settings'?"),
        ("checkpoint: out.safetensors, ", "", "needs the setting 'checkpoint'"),
        ("out.safetensors", "/tmp/out.safetensors", "must be a path within the output folder"),
        ("gain: 1.0}", "gain: 1.0, cwd: nowhere}", "cwd: there is no folder"),
        ("gain: 1.0}", "gain: 1.0, sources: ['*.cfg']}", "no file in"),
        ("steps: 4", "steps: 0", "expected a number above 0"),
        ("gain: 1.0}", "gain: 1.0, content: x}", "choose another name"),
    ],
)
def test_what_is_wrong_with_the_stage_is_found_before_the_sweep(
    old: str, new: str, expected: str, tmp_path: Path
) -> None:
    assert old in COMMAND
    with pytest.raises(StudyError) as caught:
        validate(read_document(write_external(tmp_path, stage=COMMAND.replace(old, new))), None, (), gpu=False)
    assert expected in str(caught.value), str(caught.value)


def test_a_script_and_a_stage_of_training_follow_each_other(tmp_path: Path) -> None:
    """Training goes on from the script's weights, and a script is given those of the stage before it."""
    train = "- train: {steps: 2, batch: 2, lr: 1e-3, log_every: 1}"
    copy = SCRIPT.replace("import shapes", "from safetensors.numpy import load_file").replace(
        "weights = {name: (gain * 0.1 * rng.standard_normal(shape)).astype(np.float32) "
        "for name, shape in shapes.SHAPES.items()}",
        "weights = load_file(settings['initial_weights'])",
    )
    assert "shapes" not in copy
    (tmp_path / "copy.py").write_text(copy)
    last = COMMAND.replace("- external", "- again").replace("train.py", "copy.py")
    path = write_external(
        tmp_path,
        ("norm: {level: group", "loss: {l2: 1.0}\n  norm: {level: group"),
        stage=f"{COMMAND}\n  {train}\n  {last}",
    )
    trial = expand(load_study(path))[0]
    store = Store(tmp_path / "runs")
    assert run(trial, store).status == "done"
    first, second, third = (store.stage(signature) for signature in trial.signatures)
    begun = checkpoint.load(first.checkpoint, "model.")
    trained = checkpoint.load(second.checkpoint, "ema.")
    ended = checkpoint.load(third.checkpoint, "model.")
    assert all(not torch.equal(begun[name], trained[name]) for name in begun)
    assert all(torch.allclose(begun[name], trained[name], atol=0.01) for name in begun)
    assert all(torch.equal(ended[name], trained[name]) for name in ended)
    assert third.record() is not None


SLEEPER = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("how", ["closed", "killed", "with its children", "terminated"])
def test_a_command_ends_with_whoever_runs_it(how: str, tmp_path: Path) -> None:
    """With what it has started itself: even if its runner is killed and can do nothing more."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    pids = tmp_path / "pids"
    runner = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, {guard.__file__!r}, sys.executable, {str(tmp_path / 'sleeper.py')!r}, "
        f"{str(pids)!r}], stdin=subprocess.PIPE, start_new_session=True)\n"
        "print(p.pid, flush=True); sys.stdin.readline(); p.stdin.close(); p.wait(); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", runner], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdin
    guarded = int(process.stdout.readline())
    deadline = time.monotonic() + 60
    while not (pids.exists() and len(pids.read_text().split()) == 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    found = [int(pid) for pid in pids.read_text().split()]
    assert all(map(is_running, found))
    if how == "closed":
        process.stdin.write("\n")
        process.stdin.flush()
    elif how == "killed":
        process.kill()
    elif how == "with its children":  # as Ray ends a worker
        os.kill(guarded, signal.SIGKILL)
        process.kill()
    else:
        os.kill(guarded, signal.SIGTERM)
    while any(map(is_running, found)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, found))
    process.kill()
    process.wait()


def test_an_interruption_ends_the_command(tmp_path: Path) -> None:
    write_script(tmp_path, SCRIPT.replace("gain =", "import os, time\nopen(settings['output'] + '/pid', 'w')"
                                          ".write(str(os.getpid()))\ntime.sleep(600)\ngain ="))  # fmt: skip
    trial = expand(load_study(write_external(tmp_path)))[0]
    store = Store(tmp_path / "runs")
    pid = store.stage(trial.signature).root / "external" / "pid"

    class Stopped(BaseException):
        pass

    def stop(report: StepReport) -> None:
        if pid.exists() and pid.read_text():
            raise Stopped

    with pytest.raises(Stopped):
        run_trial(trial.order(), store, CPU, 1, stop)
    assert not is_running(int(pid.read_text()))
