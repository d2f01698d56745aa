"""The MLflow mirror of a study. The store is the truth: everything in the mirror can be written again from it.

One thread of the driver writes, and it sends nothing twice: step metrics come with the last step sent as a tag in the
same call, and a finished run has the hash of its record as a tag. MLflow would store +inf as 1.8e308, and NaN as a
point that no chart can draw; the mirror writes both as tags `metric.<name>` instead.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from ablate.errors import ServerError
from ablate.plan.commands import command
from ablate.plan.treatments import Treatment
from ablate.plan.trials import Trial
from ablate.redaction import redact
from ablate.store.folders import Store
from ablate.store.leases import Leases
from ablate.study.study import Study
from ablate.track import texts, views
from ablate.track.look import database_file, describe_failure, is_locked
from ablate.track.runs import Experiment, Run, unusable
from ablate.track.trial_runs import TrialRuns, now_ms
from ablate.track.writer import Service, Writer, queued, safe

OPENING_S = 120.0
"""Longest wait, in seconds, for another process that opens MLflow's database."""


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")


class Mirror(Service):
    """Shows one study at one scale in MLflow: an experiment, a run for the study, and under it a run for every trial.

    Inside `with`, a thread makes the calls, so that training never waits for MLflow; leaving `with` waits for the
    thread. `treatments`: all of the plan, in their order, which colours follow; by default those of the trials.
    `artifacts`: the folder for pictures and tables, which this process and MLflow's server must be able to
    read; None leaves the choice to the server. No method raises MLflow's errors: the first one is kept in `failure`
    and described to `report`.
    """

    experiment: Experiment
    study_run: Run

    def __init__(
        self,
        uri: str,
        artifacts: Path | None,
        study: Study,
        trials: list[Trial],
        store: Store,
        treatments: Iterable[Treatment] = (),
        report: Callable[[str], None] = _to_stderr,
    ):
        self.uri = uri
        self.artifacts = artifacts
        self.study = study
        self.store = store
        self.report = report
        self.runs = TrialRuns(study, trials, store, treatments)

    def __enter__(self) -> Self:
        self._open()
        self.writer = Writer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.writer
        self.writer.close()
        self.writer = None
        self._stop(kind is not None)

    def on_failure(self, error: Exception) -> None:
        """Report the first error; the sweep continues without the mirror."""
        reason = redact(describe_failure(error, self.uri))
        self.report(
            f"MLflow failed and is not used any more ({reason}). The study continues; all results are in the store. "
            f"To send them to MLflow later: {command('sync', self.study, self.store)}"
        )

    @queued
    def add(self, trial: Trial) -> None:
        """Add a trial that a search has suggested."""
        self.runs.add(trial)

    @queued
    def start(self, trial: Trial) -> None:
        """Show a trial as running, unless it has ended already."""
        self.runs.start(trial)

    def follow(self, trial: Trial) -> None:
        """Send the step metrics logged since the last call. Skipped while other calls wait; the next one catches up."""
        if not (self.writer and self.writer.is_behind):
            self._follow(trial)

    @queued
    def finish(self, trial: Trial) -> None:
        """Send everything that the store holds of a trial that has ended. Does nothing if MLflow shows it already."""
        self.runs.finish(trial)

    @safe
    def finish_study(self, files: dict[str, str], note: str) -> None:
        """Send what is still missing of any trial, the study's artifacts (path -> text) and its description `note`."""
        for trial in self.runs.trials:
            if trial.pruned or self.store.stage(trial.signature).status() not in {"running", "pending"}:
                self.runs.finish(trial)
        self.experiment.send(self.study_run, files)
        if views.REPORT in files:
            self.experiment.tag({"ablate.report": views.REPORT})
        self.experiment.tag({"ablate.compared": " ".join(self.runs.compared())})
        self.experiment.write(self.study_run, tags={"mlflow.note.content": note})
        self.experiment.end(self.study_run, "FINISHED")

    @queued
    def _follow(self, trial: Trial) -> None:
        self.runs.follow(trial)

    def links(self, base_url: str) -> dict[str, str]:
        """Name -> link to a view of the study in MLflow's pages. Empty if MLflow has failed."""
        return {} if self.failure else views.links(base_url, self.experiment.id, self.experiment.tags)

    @safe
    def _open(self) -> None:
        """Find or create the experiment and the study's run, and bring existing runs and views up to date."""
        # Experiment
        study = self.study
        name = texts.experiment_name(study)
        folder = self.artifacts / study.name / study.variant if self.artifacts else None
        tags = {"ablate.study": study.name, "ablate.scale": study.scale, "mlflow.note.content": study.question}
        with self._alone():
            if self.artifacts and (file := database_file(self.uri)):
                file.touch()  # SQLite itself would let the group read only, whatever the umask
            self.experiment = Experiment(self.uri, name, folder, tags)

        # Runs that exist already
        known = self.experiment.runs()
        self._open_study_run(next((run for run in known if run.tags.get("ablate.role") == "study"), None))
        self.runs.open(self.experiment, self.study_run, known)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other process of this store open MLflow meanwhile: two that create one database break each other."""
        with Leases(self.store.root, "opening MLflow's database") as leases:
            begun = time.monotonic()
            while not leases.take("mlflow") and time.monotonic() - begun < OPENING_S:
                time.sleep(0.1)
            yield

    def _open_study_run(self, known: Run | None) -> None:
        """Create or reopen the study's own run, and send the study to it."""
        study = self.study
        tags = {"ablate.role": "study", "ablate.study": study.name, "mlflow.note.content": study.question}
        self.study_run = known or self.experiment.create(study.name, tags, now_ms())
        self.experiment.resume(self.study_run)
        self.experiment.tag({"ablate.run": self.study_run.id})
        files = {"study.yaml": study.document.text, "study.json": json.dumps(texts.resolved(study), indent=1)}
        self.experiment.send(self.study_run, files)

    @safe
    def _stop(self, interrupted: bool) -> None:
        """Mark runs that still show as running as killed; the study's own only if the sweep was interrupted."""
        for run in [*self.runs.by_key.values(), *([self.study_run] if interrupted else [])]:
            if run.status == "RUNNING":
                self.experiment.write(run, tags={"ablate.status": "pending"})
                self.experiment.end(run, "KILLED")


class NoMirror:
    """A `Mirror` that does nothing, for sweeps without MLflow."""

    failure: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...
    def add(self, trial: Trial) -> None: ...
    def start(self, trial: Trial) -> None: ...
    def follow(self, trial: Trial) -> None: ...
    def finish(self, trial: Trial) -> None: ...
    def finish_study(self, files: dict[str, str], note: str) -> None: ...

    def links(self, base_url: str) -> dict[str, str]:
        return {}


def sync(
    uri: str,
    artifacts: Path | None,
    study: Study,
    trials: list[Trial],
    store: Store,
    files: dict[str, str],
    note: str = "",
    treatments: Iterable[Treatment] = (),
) -> Mirror:
    """Mirror everything that the store holds of a study and MLflow lacks. Raises ServerError if MLflow fails."""
    with Mirror(uri, artifacts, study, trials, store, treatments, report=lambda text: None) as mirror:
        mirror.finish_study(files, note or study.question)
    if mirror.failure and is_locked(mirror.failure):
        raise ServerError(f"{describe_failure(mirror.failure, uri)}. Then run the same command again")
    if mirror.failure:
        raise unusable(uri, mirror.failure) from None  # its text may hold a password
    return mirror
