"""The user's folder of what is kept between stores and can be made again."""

import os
from pathlib import Path


def user_cache(name: str) -> Path:
    """`~/.cache/ablate/NAME`; `XDG_CACHE_HOME` takes the place of `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ablate" / name
