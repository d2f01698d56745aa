"""What the files that recipes name hold now, and how that differs from what trials were made from.

What is not there any more, such as a folder of another machine, cannot be compared and makes nothing stale.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ablate.data.content import Content, describe_change, merge_contents
from ablate.data.sources import read_contents
from ablate.plan.trials import Trial
from ablate.recipe.recipe import Part, Recipe, weight
from ablate.recipe.stages import Train
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.store.record import read_header


class Contents:
    """The present content of what levels read. Each level with its settings is looked at once, when first asked for."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[tuple[str, int], tuple[Part, list[Content]]] = {}
        """Slot and id of a part's settings -> the part, which keeps the id its own, and its contents."""

    def of_trial(self, trial: Trial) -> dict[str, str]:
        """Source -> content hash of all that a trial reads, its probes included."""
        stages = [self.of_stage(trial, stage.name) for stage in trial.treatment.recipe.stages]
        return merge_contents(stages) | self._digests(("probe", probe) for probe in trial.probes)

    def of_stage(self, trial: Trial, stage: str) -> dict[str, str]:
        """Source -> content hash of all that one stage of a trial reads."""
        recipe = trial.treatment.recipe
        settings = recipe.settings[stage]
        command = {} if isinstance(settings, Train) else self._digests([("stage", Part(stage, settings))])
        return self._digests(_used(recipe.at(stage))) | command

    def changed(self, before: Mapping[str, str], trial: Trial) -> dict[str, str]:
        """Of what a trial was made from, the sources that have other content now -> how they differ, in words."""
        return self._differences(before, self.of_trial(trial)) if before else {}

    def changed_before(self, trial: Trial) -> dict[str, str]:
        """As `changed`, for the stages that an unfinished trial would go on from."""
        found: dict[str, str] = {}
        for signature, stage, forks in trial.stages_with_forks:
            for folder in (self.store.stage(signature), *(self.store.stage(fork.signature) for fork in forks)):
                if before := content_in(folder.checkpoint):
                    found |= self._differences(before, self.of_stage(trial, stage.name))
        return found

    def _digests(self, parts: Iterable[tuple[str, Part]]) -> dict[str, str]:
        return {content.source: content.digest for slot, part in parts for content in self._contents(slot, part)}

    def _contents(self, slot: str, part: Part) -> list[Content]:
        key = slot, id(part.settings)
        if key not in self._known:
            try:
                found = read_contents(slot, part.level, part.settings, self.store.data)
            except Exception:  # of a data level, such as a folder that is not there
                found = []
            self._known[key] = part, found
        return self._known[key][1]

    def _differences(self, before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
        changed = [source for source, digest in before.items() if now.get(source, digest) != digest]
        return {source: describe(source, before[source], now[source], self.store, self._files()) for source in changed}

    def _files(self) -> dict[str, dict[str, str]]:
        """Content hash -> files, of all that was looked at."""
        return {content.digest: content.files for _, contents in self._known.values() for content in contents}


def content_in(checkpoint: Path) -> dict[str, str]:
    """Source -> content hash of what a checkpoint was trained from; empty if there is none, or if it does not say."""
    try:
        header = read_header(checkpoint) or {}
    except ValueError:  # damaged, which is found elsewhere
        return {}
    return dict(header.get("content", {}))


def describe(
    source: str, before: str, now: str, store: Store, known: Mapping[str, dict[str, str]] | None = None
) -> str:
    """How the content of a source differs from before, in words. `known`: the files of contents, by hash."""
    old, new = (
        (known or {}).get(digest) or (read_json(store.content(digest)) or {}).get("files") for digest in (before, now)
    )
    change = describe_change(old, new) if old is not None and new is not None else "other content"
    return f"{source} ({change})"


def _used(recipe: Recipe) -> Iterator[tuple[str, Part]]:
    """Slot and part of each level that a recipe uses."""
    terms = {name: term for name, term in recipe.losses.items() if weight(term)}
    for slot, part in recipe.present.items():
        if slot != "discriminator" or "adversarial" in terms:
            yield slot, part
    yield from (("loss", term) for term in terms.values())
