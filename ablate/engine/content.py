"""Which content of files a trial is made from: noted in checkpoints and records, compared before training goes on."""

from collections.abc import Iterable
from typing import Any

from ablate.data.content import Content
from ablate.data.corpus import Corpus
from ablate.data.sources import read_contents
from ablate.engine.provenance import used_levels
from ablate.plan.content import describe
from ablate.recipe.stages import Stage
from ablate.slots import registry
from ablate.store.files import write_json
from ablate.store.folders import Store


class ContentChanged(RuntimeError):
    """A stage was begun with other content of its files than they have now."""


def stage_content(recipe: dict[str, Any], stage: Stage, corpus: Corpus | None, store: Store) -> dict[str, str]:
    """Source -> content hash of what the levels of a stage read, or its command; the store keeps the files' names.

    `corpus`: what the stage trains on, whatever has become of its files; without it these are looked at.
    """
    levels = [level for level in used_levels(recipe) if level[0] != "data" or corpus is None]
    pictures = [corpus.content] if corpus and corpus.content else []
    command = read_contents("stage", stage.name, stage.settings, store.data) if stage.is_external else []
    return _note([*pictures, *_read(levels, store), *command], store)


def probe_content(probes: Iterable[dict[str, Any]], store: Store) -> dict[str, str]:
    """As `stage_content`, of what probes read. `probes`: plain settings, each with its `level`."""
    levels = [("probe", probe["level"], {k: v for k, v in probe.items() if k != "level"}) for probe in probes]
    return _note(_read(levels, store), store)


def refuse_other(header: dict[str, Any], now: dict[str, str], store: Store) -> None:
    """Raise ContentChanged if the checkpoint with this header was trained from other content than there is now."""
    before = header.get("content", {})
    changed = [source for source, digest in now.items() if before.get(source, digest) != digest]
    if changed:
        said = "; ".join(describe(source, before[source], now[source], store) for source in changed)
        raise ContentChanged(
            f"step {header.get('step')} of stage '{header.get('stage')}' was reached with other content: {said}; "
            "put it back, or begin the stage again with --rerun stale"
        )


def _read(levels: Iterable[tuple[str, str, dict[str, Any]]], store: Store) -> list[Content]:
    return [
        content
        for slot, name, settings in levels
        for content in read_contents(slot, name, registry.level(slot, name).Config.read(settings), store.data)
    ]


def _note(contents: list[Content], store: Store) -> dict[str, str]:
    for content in contents:
        file = store.content(content.digest)
        if not file.exists():
            write_json(file, {"files": content.files})
    return {content.source: content.digest for content in contents}
