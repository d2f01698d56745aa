"""Command lines that a user can paste, for messages."""

import shlex

from ablate.store.folders import Store
from ablate.study.study import Study

DEFAULT_STORE = "runs"
"""The store that commands use where none is named."""


def command(verb: str, study: Study, store: Store) -> str:
    """`ablate VERB` for a study in a store, quoted for a shell: `ablate sync tiny --set seeds=5 --store 'my runs'`."""
    words = ["ablate", verb, study.name]
    words += [] if study.scale == "base" else ["--scale", study.scale]
    words += [word for text in study.overrides for word in ("--set", text)]
    words += [] if str(store.root) == DEFAULT_STORE else ["--store", str(store.root)]
    return shlex.join(words)
