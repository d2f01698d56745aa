"""A trial of the store by its name or signature."""

from typing import Any

from ablate.driver.studies import stored_studies
from ablate.errors import UsageError, nearest
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.store.stage import StageFolder


def find_trial(wanted: str, store: Store) -> str:
    """The signature of the one trial with this name, or whose signature begins with this. Raises UsageError."""
    signatures = (str(trial) for study in stored_studies(store) for trial in study.card.get("trials", []))
    names = {signature: _name(store.stage(signature)) for signature in signatures}
    found = [one for one in names if wanted in {one, names[one]}] or [one for one in names if one.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{one} ({names[one]})" for one in found)
        raise UsageError(f"several trials of {store.root} are '{wanted}'; name one by its signature: {listed}")
    known = [name for name in names.values() if name]
    raise UsageError(f"{store.root} has no trial '{wanted}'{nearest(wanted, known)}")


def _name(stage: StageFolder) -> str:
    """The name of the trial that a stage was the last one of; empty if it was not begun."""
    order: dict[str, Any] = read_json(stage.settings) or {}
    return str(order.get("name", ""))
