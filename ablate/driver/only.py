"""One driver at a time for each study at a scale: others wait until it has ended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from ablate.adaptive.recall import plan_study
from ablate.plan.trials import pending
from ablate.store.folders import Store
from ablate.store.leases import Leases
from ablate.study.study import Study

POLL_S = 1.0
"""Seconds between two looks at a lease that another process holds."""


NEWS_S = 10.0
"""Seconds between two looks at how far the other process is."""


@contextmanager
def only_driver(study: Study, store: Store, screen: Console) -> Iterator[None]:
    """Hold the lease of a study at its scale. Waits, with its progress on `screen`, while another process holds it.

    A search, tuning, pruning and the number of seeds depend on results, and MLflow has one experiment: two drivers
    would decide twice. The lease of a driver that was killed is taken over (see `ablate.store.leases`), and what it has
    left on stages is deleted.
    """
    name = f"study-{study.name}@{study.variant}"
    with Leases(store.root, f"a sweep of {study.name} at scale {study.variant}") as leases:
        told = 0.0
        finished = -1
        while not leases.take(name):
            holder = leases.holder(name)
            if finished < 0 and holder:
                _say(screen, f"waits for {holder}; Ctrl-C stops this command alone")
            if time.monotonic() - told > NEWS_S:
                told = time.monotonic()
                ready = plan_study(study, store).ready
                before, finished = finished, len(ready) - len(pending(ready, store))
                if finished != before:
                    _say(screen, f"waiting: {finished} of {len(ready)} trials are finished")
            time.sleep(POLL_S)
        leases.clear()
        yield


def _say(screen: Console, text: str) -> None:
    screen.print(Text(text, style="yellow"), soft_wrap=True)
