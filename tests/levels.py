"""A folder of levels that the registry and imports see in place of the shipped ones, which it links to."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ablate.slots import registry


@contextmanager
def own_levels(root: Path) -> Iterator[None]:
    """Let the registry read levels from `root`, with links to the shipped ones; new files there are levels too."""
    shipped, known = registry.ROOT, set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        for folder in (path for path in shipped.iterdir() if path.is_dir() and not path.name.startswith("_")):
            (root / folder.name).mkdir(parents=True)
            for file in folder.glob("*.py"):
                (root / folder.name / file.name).symlink_to(file.resolve())
            if folder.name in registry.SLOTS:
                package = importlib.import_module(f"ablate.components.{folder.name}")
                patch.setattr(package, "__path__", [*package.__path__, str(root / folder.name)])
        patch.setattr(registry, "ROOT", root)
        registry.level.cache_clear()
        yield
    registry.level.cache_clear()
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(root)):
            del sys.modules[name]
