"""docs/notebook.ipynb, run in a kernel of its own. `python -m tests.support.notebook` writes its outputs anew."""

import re
import tempfile
from pathlib import Path
from typing import Any

from tests.support.studies import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"

SECONDS = 300
"""Time for a cell before it is taken to hang."""


def read() -> Any:
    import nbformat

    return nbformat.read(NOTEBOOK, as_version=4)


def run(folder: Path) -> Any:
    """Run the notebook in a folder; raises CellExecutionError for a cell that fails."""
    from nbclient import NotebookClient

    notebook = read()
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def tidy(notebook: Any) -> Any:
    """The notebook as it is committed: of a progress bar its last state, no times of execution, no colour codes."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = _joined([output for output in cell.outputs if output.get("data", {}).get("text/html") != ""])
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Outputs with the texts of one stream that follow each other in one, as a terminal would leave them."""
    joined: list[Any] = []
    for output in outputs:
        same = bool(joined) and output.get("name", "") == joined[-1].get("name")
        if same:
            joined[-1].text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            lines = [line.rpartition("\r")[2] for line in re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", output.text).split("\n")]
            output.text = "\n".join(lines)
    return joined


if __name__ == "__main__":
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(tidy(run(Path(folder))), NOTEBOOK)
