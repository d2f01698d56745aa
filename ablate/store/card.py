"""The card of a study: what is known of it when it is asked for by its name."""

import re
from pathlib import Path
from typing import Any

from ablate.store import damage
from ablate.store.files import read_json

TYPES: dict[str, type | tuple[type, ...]] = {
    "name": str, "question": str, "file": str, "scale": str, "overrides": list, "trials": list, "code": str,
    "components": list, "folder": str, "text": str, "mirrored": (dict, type(None)),
}  # fmt: skip
"""Entry of a card -> the types of its value; of older cards some are missing."""

MIRRORED: dict[str, type] = {"content": str, "links": dict}


def read_card(path: Path) -> dict[str, Any]:
    """The entries of a card; empty if there is none, or if it is damaged, which is reported once."""
    card = read_json(path)
    if card is None:
        return {}
    if reason := _fault(card):
        damage.report(path, reason)
        return {}
    return {"overrides": [], **card}


def _fault(card: Any) -> str:
    """Why a JSON value is no card; empty if it is one."""
    if not isinstance(card, dict):
        return "it holds no JSON object"
    if missing := [name for name in ("question", "scale") if name not in card]:
        return f"its entry '{missing[0]}' is missing"
    wrong = [name for name, kind in TYPES.items() if name in card and not isinstance(card[name], kind)]
    texts = [*card.get("overrides", []), *card.get("components", [])] if not wrong else []
    mirrored = card.get("mirrored") or {}
    if wrong or not all(isinstance(text, str) for text in texts):
        return f"its entry '{(wrong or ['overrides'])[0]}' is not one of a card"
    if not all(isinstance(name, str) and re.fullmatch(r"[\w-]+", name) for name in card.get("trials", [])):
        return "its entry 'trials' is not one of a card"
    if not all(isinstance(mirrored.get(name, kind()), kind) for name, kind in MIRRORED.items()):
        return "its entry 'mirrored' is not one of a card"
    return ""
