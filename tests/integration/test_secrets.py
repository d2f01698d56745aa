"""A small real sweep with a password in MLflow's address and tokens in the environment: none is found afterwards."""

import base64
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablate.store.folders import Store
from ablate.track.server import serving
from tests.support import own
from tests.support.command import PATIENCE, ablate, start
from tests.support.studies import Write

PASSWORD, TOKEN, KEY = "Pw-of-mlflow-1", "Token-of-hub-22", "Key-of-amazon-333"

SECRETS = [form for secret in (PASSWORD, TOKEN, KEY) for form in (secret, base64.b64encode(secret.encode()).decode())]

LEAKY = own.NORM.replace(
    "        h, z",
    "",
).replace(
    "        return self.factor",
    "        if torch.is_grad_enabled() and h.device.type != 'meta':\n"
    "            import os\n"
    "            raise OSError(f\"refused: {dict(os.environ)} at {os.environ['MLFLOW_TRACKING_URI']}\")\n"
    "        return self.factor",
)
"""A norm that raises as it trains, with the whole environment in its message."""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A temporary folder whose name is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="s") as folder:
        yield Path(folder)


def leaks(*folders: Path) -> set[str]:
    """Files under these folders that hold a secret, as `file: secret`."""
    found = set()
    walked = (place for folder in folders for place in os.walk(folder))  # a folder may vanish meanwhile
    for path in (Path(folder) / name for folder, _, names in walked for name in names):
        try:
            content = path.read_bytes() if path.is_file() else b""
        except OSError:  # of Ray, and gone meanwhile
            continue
        found |= {f"{path}: {secret}" for secret in SECRETS if secret.encode() in content}
    return found


def test_a_sweep_leaves_no_secret_behind(write_study: Write, tmp_path: Path, short_folder: Path) -> None:
    own.write_norm(tmp_path / "components", text=LEAKY)
    study, store = write_study(*own.IN_FACTORS), tmp_path / "runs"
    elsewhere = tmp_path / "mlflow"
    elsewhere.mkdir()
    with serving(f"sqlite:///{elsewhere}/mlflow.db", elsewhere / "artifacts", 0) as server:
        address = server.url.replace("://", f"://me:{PASSWORD}@")
        variables = {
            "MLFLOW_TRACKING_URI": address, "HUB_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": KEY,
            "TMPDIR": str(short_folder),
        }  # fmt: skip

        # With Ray, whose logs are read while there are some
        process = start("sweep", study, "--store", store, "--tracking", address, "--workers", "1", env=variables)
        of_ray: set[str] = set()
        logs = 0
        while process.poll() is None:
            logs = max(logs, sum(1 for _ in short_folder.glob("ablate-*/session_*/logs/*")))
            of_ray |= leaks(*short_folder.glob("ablate-*"))
            time.sleep(0.5)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1 and "failed: norm=mine" in stderr, stderr
        assert logs > 3 and not of_ray

        # Without Ray, and what reads the store
        said = [stdout, stderr]
        for command in (("sweep", "--inline"), ("status",), ("show",), ("table",), ("report",), ("sync",)):
            tracked = ("--tracking", address) if command[0] in {"sweep", "sync"} else ()
            done = ablate(command[0], study, *command[1:], "--store", store, *tracked, env=variables)
            said += [done.stdout, done.stderr]
        links = ablate("ui", "--store", store, "--tracking", address, env=variables)
        assert server.url in links.stdout and links.returncode == 0, links
        said += [links.stdout, links.stderr]

    # Terminal, store, and all that MLflow has; the failure itself is kept, with the user's name
    assert not [secret for secret in SECRETS for text in said if secret in text]
    assert (store / "studies").exists() and not leaks(store, elsewhere)
    errors = [path.read_text() for path in store.glob("stages/*/error.json")]
    assert len(errors) == 2 and all("me:***@127.0.0.1" in error for error in errors)
    with sqlite3.connect(elsewhere / "mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone()[0] >= 4


def test_a_store_elsewhere_is_named_without_its_password(write_study: Write) -> None:
    """The address of a store that cannot be reached, in every command that opens it."""
    address = f"sftp://me:{PASSWORD}@127.0.0.1:9/runs"
    for command in (("status",), ("table", "smoke"), ("sweep", "smoke"), ("verify",)):
        done = ablate(*command, "--store", address)
        assert done.returncode == 2 and PASSWORD not in done.stdout + done.stderr, done
        assert "Traceback" not in done.stderr, done.stderr


def test_mlflow_s_server_gets_its_database_out_of_sight(tmp_path: Path) -> None:
    """Other users of a machine can read the command line of every process, and not its environment."""
    import psutil

    with serving(Store(tmp_path).mlflow_uri, tmp_path / "artifacts", 0) as server:
        family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
        lines = [" ".join(member.cmdline()) for member in family]
        assert not [line for line in lines if "mlflow.db" in line]
