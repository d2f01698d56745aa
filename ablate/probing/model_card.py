"""The model card of an exported VAE: where it comes from, how it was trained, what was measured.

The form is that of the Hugging Face Hub: YAML between `---` for machines, then Markdown.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate import __version__
from ablate.identity import canonical
from ablate.store.card import read_card
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.store.record import Record


@dataclass(frozen=True)
class Card:
    """`header`: of the trial's checkpoint. `record`: of the trial, if it ended. `class_name`: in diffusers."""

    header: dict[str, Any]
    record: Record | None
    store: Store
    class_name: str

    def text(self, difference: float) -> str:
        """The card. `difference`: the largest one between reconstructions of the export and of the trial."""
        recipe = self.header["settings"]
        signature = self.header["signature"]
        order = read_json(self.store.stage(signature).settings) or {}
        licence = licence_of(start) if (start := start_of(recipe)) else ""
        lines = ["---", "library_name: diffusers", *([f"license: {licence}"] if licence else []), "---", ""]
        lines += [f"# {self.class_name}, trained by a study of ablate", ""]
        for study in self._studies(signature):
            lines += [f"- Study: {study['name']} at scale {study['scale']}: {study['question']}"]
        lines += [
            f"- Treatment and seed: {order.get('name', signature)} (signature {signature})",
            f"- Start: {self._start(recipe, start, licence)}",
            f"- Data: {canonical(recipe['data'])}",
            f"- Loss: {canonical(recipe['loss'])}",
            f"- Regularizer: {canonical(recipe['regularizer'])}",
        ]
        lines += [f"- Stage {stage['name']}: {canonical(_training(stage))}" for stage in recipe["stages"]]
        lines += [
            "- Weights: averaged over the steps of training (`ema`), in fp32",
            f"- Loaded by diffusers, reconstructions differ from the trial's by at most {difference:.2g}",
            f"- Written by ablate {__version__}", "",
        ]  # fmt: skip
        return "\n".join(lines + self._metrics())

    def _studies(self, signature: str) -> list[dict[str, Any]]:
        """The cards of the studies that the trial belongs to."""
        folders = [self.store.study(name, one) for name, variants in self.store.studies().items() for one in variants]
        cards = [read_card(folder.card) for folder in folders]
        return [
            {**card, "question": " ".join(card["question"].split())}
            for card in cards
            if signature in card.get("trials", [])
        ]

    def _start(self, recipe: dict[str, Any], start: Path | None, licence: str) -> str:
        if start is None:
            return f"random weights (init {recipe['init']['level']})"
        said = f"licence {licence}" if licence else "its folder states no licence"
        digests = [digest for source, digest in self.header.get("content", {}).items() if str(start) in source]
        return f"{start} (content {' '.join(digests) or 'not known'}; {said})"

    def _metrics(self) -> list[str]:
        if self.record is None or not self.record.metrics:
            return ["No metrics were measured: the trial did not end."]
        rows = [
            f"| {name} | {value:.6g} | {self.record.info.get(name, {}).get('unit', '')} |"
            for name, value in sorted(self.record.metrics.items())
        ]
        return ["Of the held-out pictures:", "", "| metric | value | unit |", "|---|---|---|", *rows, ""]


def start_of(recipe: dict[str, Any]) -> Path | None:
    """The folder or file that training began with; None for random weights."""
    for slot in ("model", "init"):
        if path := recipe[slot].get("path"):
            return Path(path)
    return None


def licence_of(start: Path) -> str:
    """The licence in the header of the README.md beside released weights; empty where there is none."""
    root = start.expanduser()
    for folder in (root, root.parent) if root.is_file() else (root, root / "vae", root.parent):
        try:
            text = (folder / "README.md").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        header = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        found = re.search(r"^license:[ \t]*([\w.+-]+)[ \t]*$", header[1], re.MULTILINE) if header else None
        if found:
            return found[1]
    return ""


def _training(stage: dict[str, Any]) -> dict[str, Any]:
    """The settings of a stage's training."""
    shown = ("steps", "batch", "lr", "ema", "freeze", "freeze_parts", "latents", "command")
    return {name: stage[name] for name in shown if stage.get(name)}
