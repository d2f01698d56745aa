"""Command lines that a user can paste, for messages."""

import shlex

from ablate.redaction import redact
from ablate.store.card import read_card
from ablate.store.folders import Store
from ablate.study.study import Study

DEFAULT_STORE = "runs"
"""The store that commands use where none is named."""


def command(verb: str, study: Study, store: Store) -> str:
    """`ablate VERB` for a study in a store, quoted for a shell: `ablate sync tiny --set seeds=5 --store 'my runs'`."""
    words = ["ablate", verb, study.name, *_variant(study)]
    words += [] if str(store.root) == DEFAULT_STORE else ["--store", redact(str(store.root))]
    return shlex.join(words)


def sweep_command(study: Study, store: Store, *more: str) -> str:
    """`ablate sweep FILE` for a study, with `more` words; by its name a study would have its own code as last run."""
    card = read_card(store.study(study.name, study.variant).card)
    return shlex.join(["ablate", "sweep", card.get("file", study.document.file), *_variant(study), *more])


def _variant(study: Study) -> list[str]:
    """The options that give a study its scale and its changes."""
    scale = [] if study.scale == "base" else ["--scale", study.scale]
    return [*scale, *(word for text in study.overrides for word in ("--set", text))]
