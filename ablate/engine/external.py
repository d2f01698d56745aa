"""Stages that run a command of the user's: it trains and writes a checkpoint, which is read back into the model.

The command gets a JSON file with all that the trial sets. Its output folder is `external/` in that of the stage, and
stays, so that a command which is interrupted may go on from what it has written itself.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ablate.engine import checkpoint, guard
from ablate.engine.build import Inherited, build_model, load_averaged
from ablate.engine.metrics_file import MetricsFile
from ablate.engine.train import EndedStage
from ablate.plan.trials import Order
from ablate.recipe.stages import External, Stage, search_path
from ablate.released.weights import WRAPPERS, read_tensors, without_prefix
from ablate.slots import registry
from ablate.slots.adapted_vae import AdaptedVAE
from ablate.slots.own_code import script_digest
from ablate.store import host_memory
from ablate.store.files import atomic_write, is_remote
from ablate.store.stage import StageFolder

POLL_S = 0.2

REPORT_S = 1.0
"""Seconds between two progress reports at least."""

LAST_LINES = 8
"""Lines of standard error that the error of a command quotes."""

KILLED = 128 + signal.SIGKILL
"""The exit code that `guard` gives for a command that was killed."""

LOOKED_AT = 2000
"""How many files of its output folder are looked at for whether a command makes progress."""

NAMED = 4
"""How many weights an error names."""


Report = Callable[[int, dict[str, float], str], None]
"""Gets the step of a command, what it has logged, and `written` of its output folder."""


class CommandError(RuntimeError):
    """A command of the user's failed, or what it has written cannot be used."""


def run_external(
    order: Order,
    stage: Stage,
    recipe: dict[str, Any],
    folder: StageFolder,
    header: dict[str, Any],
    previous: Inherited | None,
    device: torch.device,
    threads: int,
    report: Report,
    ended: Callable[[], None] = lambda: None,
) -> EndedStage:
    """Run the command of a stage to its end and write its weights as the stage's checkpoint.

    `ended` is called when no more progress is to be expected: the command has ended, or the last step was reported.

    Raises CommandError, with the command and the last lines of its errors, where it fails or writes no weights of the
    study's model.
    """
    settings = stage.settings
    assert isinstance(settings, External)
    study = registry.own().study or Path.cwd()
    _check_content(settings, study)
    with _output(folder) as output:
        begun = time.time()
        log = MetricsFile(output / settings.metrics if settings.metrics else None, folder, settings.steps)
        given = _settings(order, stage, recipe, output, device, threads)
        if previous:
            given["initial_weights"] = str(_write_weights(load_averaged(*previous), output / "initial.safetensors"))
        file = output / "settings.json"
        file.write_text(json.dumps(given, indent=1), encoding="utf-8")
        command = [_filled(word, {**given, **settings.options, "settings": str(file)}) for word in settings.command]
        environment = {**os.environ, "ABLATE_SETTINGS": str(file), "PATH": search_path()}
        environment = {"OMP_NUM_THREADS": str(threads), **environment, **settings.env}
        _run(command, study / settings.cwd, environment, output, log, report)
        ended()
        weights = _read_weights(output / settings.checkpoint, command, output)
        note = log.finish(time.time() - begun)

    # As a checkpoint of the stage; the weights are their own average
    vae = build_model(recipe)
    _load(vae, weights, settings.checkpoint, recipe["model"]["level"])
    header = {**header, "step": settings.steps, "log": {"counts": {}, "seconds": 0.0, "last": log.last}}
    if note:
        header["note"] = note
    if bad := [name for name, tensor in weights.items() if not tensor.float().isfinite().all()]:
        header["diverged"] = f"weights that are not finite ({bad[0]}) were written by the command"
        header["cause"] = "NaN" if any(weights[name].isnan().any() for name in bad) else "exploding gradient"
    tensors = checkpoint.pack("model.", vae.state_dict()) | checkpoint.pack("ema.", dict(vae.named_parameters()))
    saved = checkpoint.save(folder.checkpoint, {**tensors, "balance.logvar": torch.zeros(())}, header)
    report(settings.steps, {}, "")
    ended()
    return EndedStage(saved, folder.read_steps())


def _check_content(settings: External, study: Path) -> None:
    """Raise CommandError if the scripts are not those that the trial's signature covers."""
    try:
        found = script_digest(study, settings.command, settings.cwd, settings.sources)
    except (ValueError, OSError) as error:
        raise CommandError(f"{error}; the study's folder was {study}") from None
    if found != settings.content:
        raise CommandError(f"the command's scripts in {study} have changed since the sweep began; start it again")


@contextmanager
def _output(folder: StageFolder) -> Iterator[Path]:
    """The folder that a command writes to: in the stage's folder, or one of this machine for object storage."""
    if is_remote(folder.root):
        with TemporaryDirectory(prefix="ablate-") as scratch:
            yield Path(scratch)
        return
    output = folder.root.resolve() / "external"
    output.mkdir(parents=True, exist_ok=True)
    yield output


def _settings(
    order: Order, stage: Stage, recipe: dict[str, Any], output: Path, device: torch.device, threads: int
) -> dict[str, Any]:
    """What the command is told of its trial. Paths in the levels are absolute."""
    settings = stage.settings
    assert isinstance(settings, External)
    levels = {slot: _with_absolute_paths(level) for slot, level in recipe.items() if slot in registry.SLOTS}
    return {
        "trial": order["name"], "stage": stage.name, "seed": order["seed"], "device": device.type, "threads": threads,
        "steps": settings.steps, "output": str(output), "checkpoint": str(output / settings.checkpoint),
        "metrics": str(output / settings.metrics) if settings.metrics else None, "initial_weights": None,
        "options": settings.options, "levels": levels,
    }  # fmt: skip


def _with_absolute_paths(level: Any) -> Any:
    if not isinstance(level, dict):
        return level
    return {
        key: str(Path(value).expanduser().absolute())
        if (key == "path" or key.endswith("_path")) and isinstance(value, str)
        else _with_absolute_paths(value)
        for key, value in level.items()
    }


def _filled(word: str, values: dict[str, Any]) -> str:
    """A word of a command with the values in place of the names in braces."""
    return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), word)


def _run(
    command: list[str],
    cwd: Path,
    environment: dict[str, str],
    output: Path,
    log: MetricsFile,
    report: Report,
) -> None:
    """Run a command to its end and report the steps that it logs meanwhile. It ends with this process.

    Raises CommandError where it fails.
    """
    reported = 0.0
    kills = host_memory.kill_count()
    with (output / "stdout.txt").open("wb") as out, (output / "stderr.txt").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, guard.__file__, *command],
            stdin=subprocess.PIPE, stdout=out, stderr=err, cwd=cwd, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                time.sleep(POLL_S)
                lines = log.read()
                if time.monotonic() - reported > REPORT_S:
                    reported = time.monotonic()
                    report(log.step, lines[-1] if lines else {}, written(output))
        finally:
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()
            process.wait()
    if process.returncode:
        raise CommandError(_failure(command, process.returncode, output, kills))


def written(output: Path) -> str:
    """A text that changes whenever a command writes to a file of its output folder, or adds one or a folder."""
    found = []
    for path in islice(output.rglob("*"), LOOKED_AT):
        with suppress(FileNotFoundError):  # renamed or deleted meanwhile
            found.append(path.stat())
    newest = max((stat.st_mtime_ns for stat in found), default=0)
    return f"{len(found)} files, {sum(stat.st_size for stat in found)} bytes, newest {newest}"


def _failure(command: list[str], code: int, output: Path, kills: host_memory.Kills | None) -> str:
    """What to say of a command that failed: the exit code and the last lines of its errors.

    `kills`: the count of processes that the kernel had killed for lack of memory when the command began.
    """
    said = (output / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = " | ".join(line.strip() for line in said[-LAST_LINES:] if line.strip()) or "it wrote no errors"
    by = f"was ended by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
    if code == KILLED and (evidence := host_memory.was_killed({"pid": 0, "kills": kills})):
        by = f"was killed by the kernel for lack of memory ({evidence})"
    return f"`{shlex.join(command)}` {by}: {last} (all in {output / 'stderr.txt'})"


def _read_weights(path: Path, command: list[str], output: Path) -> dict[str, Tensor]:
    """The weights in the file that a command was to write. Raises CommandError where there are none."""
    if not path.is_file():
        there = sorted(str(one.relative_to(output)) for one in output.rglob("*") if one.is_file())
        others = [name for name in there if name not in {"settings.json", "stdout.txt", "stderr.txt"}]
        found = f"wrote {', '.join(others[:NAMED])}" if others else "wrote nothing there"
        raise CommandError(f"`{shlex.join(command)}` ended well, but did not write {path}; it {found}")
    try:
        weights = read_tensors(path)
    except (ValueError, SafetensorError) as error:
        expected = "expected safetensors, or a file of torch.save with tensors alone (weights_only)"
        raise CommandError(f"{path} cannot be read: {' '.join(str(error).split())}; {expected}") from None
    if not weights:
        keys = ", ".join(WRAPPERS)
        raise CommandError(f"{path} holds no state dict (name -> tensor), neither by itself nor under {keys}")
    return weights


def _load(vae: nn.Module, weights: dict[str, Tensor], file: str, level: str) -> None:
    """Load weights into the study's model. Raises CommandError, naming weights, where they do not fit."""
    module = vae.module if isinstance(vae, AdaptedVAE) else vae
    expected = module.state_dict()
    weights, _ = without_prefix(weights, expected)
    missing = [name for name in expected if name not in weights]
    others = [name for name in weights if name not in expected]
    shaped = [
        f"{name} {_dims(weights[name])} (expected {_dims(tensor)})"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    faults = [("it lacks", missing), ("the model has no", others), ("of another shape:", shaped)]
    if said := [f"{what} {_listed(names)}" for what, names in faults if names]:
        raise CommandError(f"{file} does not fit model '{level}': {'; '.join(said)}")
    module.load_state_dict(weights)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _dims(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def _write_weights(vae: nn.Module, path: Path) -> Path:
    """Write the weights that the stage before has ended with, by the names that the model has for them."""
    from safetensors.torch import save_file

    module = vae.module if isinstance(vae, AdaptedVAE) else vae
    with atomic_write(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, temporary)
    return path
