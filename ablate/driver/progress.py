"""Progress: a live table on a terminal, a bar in a notebook, one line per event elsewhere."""

import sys
import time
import warnings
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

FUTURE = ""
"""Takes the place of a signature for all stages of the trials whose settings are not known yet."""


class ProgressDisplay:
    """Shows the progress of a sweep.

    `trials`: all trials that are known at the start; `pending`: those of them that are to be run. `future`: the largest
    number of trials that results may still add.
    """

    def __init__(
        self,
        trials: list[Trial],
        pending: list[Trial],
        store: Store,
        primary: Metric,
        console: Console,
        future: int = 0,
        *,
        notebook: bool = False,
    ):
        self.store = store
        self.primary = primary
        self.console = console
        self.total = len(trials) + future
        trained = trained_signatures(pending, store)
        nodes = [node for node in stage_tree(pending, trained) if node.signature not in trained]
        self.left = {node.signature: node.steps for node in nodes}
        """Signature of a stage or fork -> the steps left to train in it; steps that trials share count once."""
        self.ends = {node.signature: node.stage.before + node.until for node in nodes}
        """Signature of a stage or fork -> the step at its end, counted over all stages of a trial."""
        self.left[FUTURE] = future * trials[0].steps
        pruned = sum(bool(trial.pruned) for trial in trials)
        self.counts = {"done": len(trials) - len(pending) - pruned, "diverged": 0, "failed": 0, "pruned": pruned}
        self.running: dict[str, Event] = {}
        self.elsewhere: set[str] = set()
        """Signatures of the trials that have ended in another sweep."""
        self.best: tuple[float, str] | None = None
        self.first: tuple[float, int] | None = None
        """Time of the first progress report, and how many steps were left then. The time before is start-up."""
        self.live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self.bar = NotebookBar(sum(self.left.values())) if notebook else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()
        if self.bar:
            self.bar.close()

    def handle(self, event: Event) -> None:
        """Update the display after an event."""
        trial = event.trial
        if event.kind == "suggested":
            self.total += self.left[FUTURE] < trial.steps  # a further seed, which `future` does not include
            self.left[FUTURE] = max(0, self.left[FUTURE] - trial.steps)
            for signature, stage in zip(trial.signatures, trial.treatment.recipe.stages, strict=True):
                if not self.store.stage(signature).has_ended(stage.settings.steps):
                    self.left.setdefault(signature, stage.settings.steps)
                    self.ends.setdefault(signature, stage.before + stage.settings.steps)
        elif event.kind == "waiting":
            self.console.print(Text(f"{trial.name}  is left to {event.reason}", style="yellow"), soft_wrap=True)
        elif event.kind == "started":
            self.running[trial.signature] = event
        elif event.kind == "progress":
            self.running[trial.signature] = event
            for signature in trial.all_signatures:
                if signature in self.left:
                    self.left[signature] = min(self.left[signature], max(0, self.ends[signature] - event.step))
            self.first = self.first or (time.monotonic(), sum(self.left.values()))
        elif event.kind == "interrupted":
            self.console.print(Text(f"{trial.name}  {event.reason}", style="yellow"), soft_wrap=True)
        else:
            self.running.pop(trial.signature, None)
            self.elsewhere.update([trial.signature] if event.elsewhere else [])
            for signature in trial.all_signatures:
                self.left.pop(signature, None)
            self.counts[event.kind] += 1
            self._print_result(event)
        if self.live:
            self.live.update(self._table())
        if self.bar:
            self.bar.show(sum(self.left.values()), self._summary())

    def eta_s(self) -> float | None:
        """Seconds left, from the steps per second measured so far over all workers."""
        if self.first is None:
            return None
        start, left_at_start = self.first
        left = sum(self.left.values())
        done = left_at_start - left
        return (time.monotonic() - start) / done * left if done > 0 else None

    def _print_result(self, event: Event) -> None:
        """Print one line on a trial that has ended."""
        record = self.store.stage(event.trial.signature).record()
        value = record.metrics.get(self.primary.name) if record else None
        if value is not None and event.trial.role == "trial" and self._is_best(value):
            self.best = (value, event.trial.name)
        metric = f"  {self.primary.name} {value:.{self.primary.decimals}f}" if value is not None else ""
        reason = f"  {event.reason}" if event.reason else ""
        reason += "  by another sweep" if event.elsewhere else ""
        finished = sum(self.counts.values())
        eta = self.eta_s()
        time_left = f"  {duration(eta)} left" if eta and not self.live else ""
        style = {"done": "green", "diverged": "yellow", "failed": "red", "pruned": "yellow"}[event.kind]
        text = Text.assemble(
            f"[{finished}/{self.total}] ", (event.kind, style), f"  {event.trial.name}{metric}{reason}{time_left}"
        )
        if self.bar is None or event.kind != "done":  # a bar counts those that are done
            self.console.print(text, soft_wrap=True)

    def _is_best(self, value: float) -> bool:
        if self.best is None or self.primary.direction not in {"up", "down"}:
            return self.best is None
        return value > self.best[0] if self.primary.direction == "up" else value < self.best[0]

    def _table(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for event in list(self.running.values()):
            share = event.step / event.steps if event.steps else 0.0
            value = (event.losses or {}).get("train/loss")  # a command of the user's may log others
            loss = f"loss {value:.4f}" if value is not None else "" if event.losses else "starting"
            steps = f"{event.step}/{event.steps}" if event.steps else ""
            table.add_row(event.trial.name, ProgressBar(1.0, share, width=24), steps, loss)
        eta = self.eta_s()
        left = f"{duration(eta)} left" if eta else "measuring speed"
        return Group(table, Text(f"{self._summary()} · {left}", style="bold"))

    def _summary(self) -> str:
        """How many trials are done, running and otherwise ended, and the best so far."""
        parts = [f"{self.counts['done']}/{self.total} done", f"{len(self.running)} running"]
        parts += [f"{self.counts[kind]} {kind}" for kind in ("diverged", "failed", "pruned") if self.counts[kind]]
        if self.best:
            parts.append(f"best {self.primary.name} {self.best[0]:.{self.primary.decimals}f} ({self.best[1]})")
        return " · ".join(parts)


class NotebookBar:
    """A bar over the steps of all trials: a widget where ipywidgets is installed, else a line of text."""

    def __init__(self, steps: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tqdm's advice to install ipywidgets
            from tqdm.auto import tqdm
        self.bar = tqdm(total=steps, unit="step", file=sys.stdout)

    def show(self, left: int, summary: str) -> None:
        """Show how many steps are left, and a summary."""
        self.bar.total = max(self.bar.total, self.bar.n + left)  # results may add trials
        self.bar.set_postfix_str(summary, refresh=False)
        self.bar.update(self.bar.total - left - self.bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.refresh()
        self.bar.close()


def duration(seconds: float) -> str:
    """A duration as text: `42 s`, `7 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
