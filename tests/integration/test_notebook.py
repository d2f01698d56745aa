"""The API in real kernels: docs/notebook.ipynb runs as it is committed; interrupted and killed sweeps continue."""

import json
import queue
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import PATIENCE, metrics, records
from tests.support.notebook import NOTEBOOK, read, run, tidy
from tests.support.studies import LONG, Write

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


def outputs(notebook: Any) -> list[list[tuple[str, ...]]]:
    """The kinds of output of each cell of code."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [
        [(output.output_type, *sorted(output.get("data", {}))) for output in cell.outputs if "name" not in output]
        for cell in cells
    ]


def test_the_notebook_runs_as_it_is_committed(tmp_path: Path) -> None:
    again = tidy(run(tmp_path))
    assert outputs(again) == outputs(read()) and sum(map(len, outputs(again))) >= 6
    shown = json.dumps(again.cells)
    assert "10 of 10 trials done" in shown and "10/10 done" in shown and "\\\\toprule" in shown


def test_the_committed_notebook_names_no_machine() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    texts = [line for line in text.splitlines() if '"image/png"' not in line]
    assert not re.findall(r"/(?:home|root|tmp|usr|work|Users)/|\\x1b|\\u001b", "\n".join(texts))
    counts = [cell.execution_count for cell in read().cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)) and len(text) < 200_000


@pytest.fixture
def kernel() -> Iterator[tuple[Any, Any]]:
    """A kernel and its client."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def execute(client: Any, code: str) -> str:
    """Run a cell to its end; gives what it printed and showed."""
    said: list[str] = []

    def note(message: Any) -> None:
        content = message["content"]
        shown = content.get("data", {}).get("text/plain", "")
        said.append(content.get("text") or shown or "\n".join(content.get("traceback", [])))

    client.execute_interactive(code, timeout=PATIENCE, output_hook=note)
    return "".join(said)


def begin(client: Any, code: str, condition: Callable[[], Any]) -> None:
    """Start a cell and wait, while it runs, until the condition is true."""
    client.execute(code)
    deadline = time.monotonic() + PATIENCE
    while not condition():
        try:
            message = client.get_iopub_msg(timeout=0.05)
        except queue.Empty:
            message = None
        assert not (message and message["msg_type"] == "error"), message["content"]
        assert time.monotonic() < deadline


@pytest.mark.parametrize("how", ["interrupt", "restart"])
def test_a_stopped_cell_continues(
    how: str, kernel: tuple[Any, Any], undisturbed: Path, write_study: Write, tmp_path: Path
) -> None:
    manager, client = kernel
    study = write_study(*LONG)
    store = tmp_path / "runs"
    cell = f"import ablate\nablate.sweep({str(study)!r}, store={str(store)!r}, workers=1, tracking='none')"
    begin(client, cell, lambda: len(records(store)) >= 1)
    if how == "interrupt":
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=PATIENCE)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
    else:
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=PATIENCE)
    before = records(store)
    assert 1 <= len(before) < 4
    said = execute(client, cell)
    assert "4 of 4 trials done" in said, said
    assert before.items() <= records(store).items(), "a finished trial was run again"
    assert metrics("tiny", store) == metrics("tiny", undisturbed)
