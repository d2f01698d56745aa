"""Ablation experiments on image and video VAEs: `load` a study, `sweep` it, read its `results`.

`import ablate` loads nothing else; what `ablate.api` offers is imported when it is first used.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablate.api import load as load
    from ablate.api import results as results
    from ablate.api import sweep as sweep

__version__ = "0.1.0"

__all__ = ["__version__", "load", "results", "sweep"]


def _check_links() -> None:
    """Raise ImportError in a checkout whose symbolic links git has written as text files; the command exits instead."""
    links = ("components", "analysis", "search_spaces")
    broken = [f"ablate/{name}" for name in links if not (Path(__file__).parent / name).is_dir()]
    if not broken:
        return
    root = Path(__file__).parents[1]
    message = (
        f"ablate: the checkout {root} has no symbolic links: {', '.join(broken)} must link to the folders of these "
        f"names in {root}.\nIf git made the checkout, run there (on Windows turn on developer mode first):\n"
        f"  git config core.symlinks true\n  git checkout -- {' '.join(broken)}\n"
        "If not, replace each of them by a copy of the folder of its name."
    )
    if Path(sys.argv[0]).stem == "ablate":
        sys.exit(message)  # the command shows no traceback
    raise ImportError(message, name=__name__)


_check_links()


def __getattr__(name: str) -> Any:
    """The functions of `ablate.api`."""
    if name in __all__:
        return getattr(importlib.import_module("ablate.api"), name)
    raise AttributeError(f"module 'ablate' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
