"""Progress on stderr: a live table on a terminal, one line per event elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ablate.plan.tree import stage_tree, trained_signatures
from ablate.plan.trials import Trial
from ablate.schedule.agenda import Event
from ablate.slots.settings import Metric
from ablate.store.folders import Store

TO_COME = ""
"""In place of a signature: all stages of the trials whose settings are not known yet."""


class ProgressDisplay:
    """Follows a sweep of `trials`, some of which are pending, and at most `to_come` that depend on their results."""

    def __init__(
        self,
        trials: list[Trial],
        pending: list[Trial],
        store: Store,
        primary: Metric,
        console: Console,
        to_come: int = 0,
    ):
        self.total, self.store, self.primary, self.console = len(trials) + to_come, store, primary, console
        over = trained_signatures(pending, store)
        nodes = [node for node in stage_tree(pending, over) if node.signature not in over]
        self.left = {node.signature: node.steps for node in nodes}
        """Steps to go of each stage and fork; those that trials share are made once."""
        self.ends = {node.signature: node.stage.before + node.until for node in nodes}
        """The steps of a trial by the end of each."""
        self.left[TO_COME] = to_come * trials[0].steps
        pruned = sum(bool(trial.pruned) for trial in trials)
        self.counts = {"done": len(trials) - len(pending) - pruned, "diverged": 0, "failed": 0, "pruned": pruned}
        self.running: dict[str, Event] = {}
        self.best: tuple[float, str] | None = None
        self.first: tuple[float, int] | None = None
        """When the first steps were reported, and how many were left then: what came before was start-up."""
        self.live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def notice(self, event: Event) -> None:
        """Take in an event and show it."""
        signature = event.trial.signature
        if event.kind == "suggested":
            self.total += self.left[TO_COME] < event.trial.steps  # a seed that nobody could foresee
            self.left[TO_COME] = max(0, self.left[TO_COME] - event.trial.steps)
            for mark, stage in zip(event.trial.signatures, event.trial.treatment.recipe.stages, strict=True):
                if not self.store.stage(mark).has_ended(stage.settings.steps):
                    self.left.setdefault(mark, stage.settings.steps)
                    self.ends.setdefault(mark, stage.before + stage.settings.steps)
        elif event.kind == "started":
            self.running[signature] = event
        elif event.kind == "progress":
            self.running[signature] = event
            for mark in event.trial.marks:
                if mark in self.left:
                    self.left[mark] = min(self.left[mark], max(0, self.ends[mark] - event.step))
            self.first = self.first or (time.monotonic(), sum(self.left.values()))
        elif event.kind == "interrupted":
            self.console.print(Text(f"{event.trial.name}  {event.reason}", style="yellow"), soft_wrap=True)
        else:
            self.running.pop(signature, None)
            for mark in event.trial.marks:
                self.left.pop(mark, None)
            self.counts[event.kind] += 1
            self._line(event)
        if self.live:
            self.live.update(self._table())

    def eta_s(self) -> float | None:
        """Seconds left, from the steps per second measured so far over all workers."""
        if self.first is None:
            return None
        begun, left_then = self.first
        left = sum(self.left.values())
        made = left_then - left
        return (time.monotonic() - begun) / made * left if made > 0 else None

    def _line(self, event: Event) -> None:
        record = self.store.stage(event.trial.signature).record()
        value = record.metrics.get(self.primary.name) if record else None
        if value is not None and event.trial.role == "trial" and self._beats(value):
            self.best = (value, event.trial.name)
        shown = f"  {self.primary.name} {value:.{self.primary.decimals}f}" if value is not None else ""
        reason = f"  {event.reason}" if event.reason else ""
        finished = sum(self.counts.values())
        eta = self.eta_s()
        rest = f"  {duration(eta)} left" if eta and not self.live else ""
        style = {"done": "green", "diverged": "yellow", "failed": "red", "pruned": "yellow"}[event.kind]
        text = Text.assemble(
            f"[{finished}/{self.total}] ", (event.kind, style), f"  {event.trial.name}{shown}{reason}{rest}"
        )
        self.console.print(text, soft_wrap=True)

    def _beats(self, value: float) -> bool:
        if self.best is None or self.primary.direction not in {"up", "down"}:
            return self.best is None
        return value > self.best[0] if self.primary.direction == "up" else value < self.best[0]

    def _table(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for event in list(self.running.values()):
            share = event.step / event.steps if event.steps else 0.0
            loss = f"loss {event.losses['train/loss']:.4f}" if event.losses else "starting"
            steps = f"{event.step}/{event.steps}" if event.steps else ""
            table.add_row(event.trial.name, ProgressBar(1.0, share, width=24), steps, loss)
        eta = self.eta_s()
        parts = [f"{self.counts['done']}/{self.total} done", f"{len(self.running)} running"]
        parts += [f"{self.counts[kind]} {kind}" for kind in ("diverged", "failed", "pruned") if self.counts[kind]]
        if self.best:
            parts.append(f"best {self.primary.name} {self.best[0]:.{self.primary.decimals}f} ({self.best[1]})")
        parts.append(f"{duration(eta)} left" if eta else "measuring speed")
        return Group(table, Text(" · ".join(parts), style="bold"))


def duration(seconds: float) -> str:
    """`42 s`, `7 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
