"""The MLflow mirror of a study. The store is the truth: everything in the mirror can be written again from it.

One thread of the driver writes, and it sends nothing twice: step metrics come with the last step sent as a tag in the
same call, and a finished run has the hash of its record as a tag. MLflow would store +inf as 1.8e308, and NaN as a
point that no chart can draw; the mirror writes both as tags `metric.<name>` instead.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from ablate.errors import ServerError
from ablate.identity import signature
from ablate.plan.colors import colors
from ablate.plan.commands import command
from ablate.plan.labels import format_level
from ablate.plan.treatments import Treatment
from ablate.plan.trials import Trial, is_complete, read_step_log
from ablate.redaction import redact
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.store.leases import Leases
from ablate.store.record import Record
from ablate.store.stage import StageFolder
from ablate.study.study import Study
from ablate.track import texts, views
from ablate.track.look import database_file, describe_failure, is_locked
from ablate.track.runs import Experiment, Run, grid_files, unusable
from ablate.track.writer import Service, Writer, queued, safe

BATCH = 900
"""Points per call; MLflow takes at most 1000 metrics, params and tags together."""


OPENING_S = 120.0
"""Longest wait, in seconds, for another process that opens MLflow's database."""


RunKey = tuple[str | None, ...]
"""Signature, treatment and seed. Treatments that compute the same share a signature, but each has its own run."""


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
        self.trials = trials
        self.store = store
        self.report = report
        self.runs: dict[RunKey, Run] = {}
        self.treatments = {trial.treatment.label: trial.treatment for trial in trials}
        self.planned = list(treatments)
        self.colors = colors([*self.planned, *self.treatments.values()])
        self.by_treatment = {(trial.treatment.label, trial.seed): trial for trial in trials if trial.role == "trial"}

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
        self.trials = [*self.trials, trial]
        self.treatments.setdefault(trial.treatment.label, trial.treatment)
        self.colors = colors([*self.planned, *self.treatments.values()])
        if trial.role == "trial":
            self.by_treatment[trial.treatment.label, trial.seed] = trial

    @queued
    def start(self, trial: Trial) -> None:
        """Show a trial as running, unless it has ended already."""
        if not is_complete(self.store.stage(trial.signature).record(), trial):
            self.experiment.resume(self._run(trial, {"ablate.status": "running"}))

    def follow(self, trial: Trial) -> None:
        """Send the step metrics logged since the last call. Skipped while other calls wait; the next one catches up."""
        if not (self.writer and self.writer.is_behind):
            self._follow(trial)

    @queued
    def finish(self, trial: Trial) -> None:
        """Send everything that the store holds of a trial that has ended. Does nothing if MLflow shows it already."""
        self._finish(trial)

    @safe
    def finish_study(self, files: dict[str, str], note: str) -> None:
        """Send what is still missing of any trial, the study's artifacts (path -> text) and its description `note`."""
        for trial in self.trials:
            if trial.pruned or self.store.stage(trial.signature).status() not in {"running", "pending"}:
                self._finish(trial)
        self.experiment.send(self.study_run, files)
        if views.REPORT in files:
            self.experiment.tag({"ablate.report": views.REPORT})
        self.experiment.tag({"ablate.compared": " ".join(self._compared_runs())})
        self.experiment.write(self.study_run, tags={"mlflow.note.content": note})
        self.experiment.end(self.study_run, "FINISHED")

    @queued
    def _follow(self, trial: Trial) -> None:
        self._send_steps(trial, self._run(trial))

    def _compared_runs(self) -> list[str]:
        """Ids of the runs that the comparison opens with: the first seed of the first treatments."""
        first: dict[str, Trial] = {}
        for trial in self.trials:
            if trial.role == "trial":
                first.setdefault(trial.treatment.label, trial)
        ids = [run.id for trial in first.values() if (run := self.runs.get(_key(self._tags(trial))))]
        return ids[: views.COMPARED]

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
        runs = self.experiment.runs()
        self._open_study_run(next((run for run in runs if run.tags.get("ablate.role") == "study"), None))
        self.runs = {_key(run.tags): run for run in runs if "ablate.signature" in run.tags}
        wanted = {_key(tags): tags for tags in map(self._tags, self.trials)}
        for key, run in self.runs.items():  # runs of an older study file get a role that no view shows
            self.experiment.write(run, tags=wanted.get(key, {"ablate.role": "past"}))

        # Views
        self.pictures = {path.stem for trial in self.trials for path in self._pictures(trial)}
        self._write_views()

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
        self.study_run = known or self.experiment.create(study.name, tags, _now_ms())
        self.experiment.resume(self.study_run)
        self.experiment.tag({"ablate.run": self.study_run.id})
        files = {"study.yaml": study.document.text, "study.json": json.dumps(texts.resolved(study), indent=1)}
        self.experiment.send(self.study_run, files)

    @safe
    def _stop(self, interrupted: bool) -> None:
        """Mark runs that still show as running as killed; the study's own only if the sweep was interrupted."""
        for run in [*self.runs.values(), *([self.study_run] if interrupted else [])]:
            if run.status == "RUNNING":
                self.experiment.write(run, tags={"ablate.status": "pending"})
                self.experiment.end(run, "KILLED")

    def _run(self, trial: Trial, more_tags: dict[str, str] | None = None) -> Run:
        """The run of a trial, which is created if there is none yet. Its only params are the factors and the seed."""
        tags = self._tags(trial)
        if _key(tags) not in self.runs:
            record = self.store.stage(trial.signature).record()
            start_ms = self._end_ms(trial) - int(record.wall_s * 1000) if record else _now_ms()
            self.runs[_key(tags)] = self.experiment.create(trial.name, tags, start_ms)
        treatment = trial.treatment
        levels = {
            path: format_level(level) for path, level in {**treatment.levels, **(treatment.nuisance or {})}.items()
        }
        self.experiment.write(self.runs[_key(tags)], params={**levels, "seed": str(trial.seed)}, tags=more_tags)
        return self.runs[_key(tags)]

    def _tags(self, trial: Trial) -> dict[str, str]:
        """The tags of a trial's run."""
        treatment = trial.treatment
        return {
            "ablate.role": trial.role, "ablate.study": self.study.name, "ablate.treatment": treatment.label,
            "ablate.seed": str(trial.seed), "ablate.baseline": str(treatment.is_baseline).lower(),
            "ablate.order": f"{list(self.treatments).index(treatment.label):04d}", "ablate.signature": trial.signature,
            "mlflow.parentRunId": self.study_run.id, "mlflow.runColor": self.colors[treatment.label],
        }  # fmt: skip

    def _finish(self, trial: Trial) -> None:
        """Send how a trial ended: pruned, finished or failed."""
        run = self._run(trial)
        folder = self.store.stage(trial.signature)

        # Pruned
        if trial.pruned:
            self._send_steps(trial, run)
            self.experiment.write(run, tags={"ablate.status": "pruned", "ablate.reason": trial.pruned})
            self.experiment.end(run, "KILLED", _now_ms())
            return

        # Already sent
        record = folder.record()
        content = read_json(folder.record_file) or folder.read_error()
        content_hash = signature(content)
        status = "FINISHED" if record else "FAILED"
        if (run.tags.get("ablate.content"), run.status) == (content_hash, status):
            return

        # Finished or failed
        self._send_steps(trial, run)
        if record:
            self._send_record(trial, run, record, folder, content_hash)
        else:
            reason = folder.failure() or "ended without a record"
            self.experiment.send(run, {"error.txt": content.get("trace", reason)})
            tags = {"ablate.status": "failed", "ablate.reason": reason, "ablate.content": content_hash}
            self.experiment.write(run, tags=tags)
        self.experiment.end(run, status, self._end_ms(trial))

    def _send_steps(self, trial: Trial, run: Run) -> None:
        """Send the logged lines after the last one sent, at most `BATCH` points per call."""
        points: dict[tuple[str, int], float] = {}
        last = int(run.tags.get("ablate.step", 0))
        for line in read_step_log(trial, self.store, last):
            step = int(line.pop("step"))
            if step <= last:  # logged twice, by a second worker that took the stage for abandoned
                continue
            if len(points) + len(line) > BATCH:
                self.experiment.write(run, points, tags={"ablate.step": str(last)})
                points = {}
            points |= {(name, step): value for name, value in line.items() if math.isfinite(value)}
            last = step
        self.experiment.write(run, points, tags={"ablate.step": str(last)})

    def _send_record(self, trial: Trial, run: Run, record: Record, folder: StageFolder, content_hash: str) -> None:
        """Send a record with its files. Metrics go to step 0: MLflow draws metrics of later steps as curves, not bars.

        The tag `ablate.content` says that all of it was sent; MLflow writes the tags of a call last.
        """
        # Metrics; those that are not finite become tags
        metrics = {**record.metrics, **{f"raw/{name}": value for name, value in record.raw.items()}}
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        more_tags = {f"metric.{name}": str(value) for name, value in metrics.items() if name not in finite}
        for outdated in [tag for tag in run.tags if tag.startswith("metric.") and tag not in more_tags]:
            self.experiment.untag(run, outdated)

        # Files
        files: dict[str, str | bytes] = {"settings.json": json.dumps(trial.order(), indent=1)}
        if folder.per_image.exists():
            files["per_image.json"] = folder.per_image.read_text(encoding="utf-8")
        for picture in self._pictures(trial):
            files |= grid_files(picture, views.PICTURES, trial.signature)
            more_tags["mlflow.loggedImages"] = "True"
        self.experiment.send(run, files)

        # Data set, points and tags
        data = trial.treatment.recipe.parts["data"]
        self.experiment.send_data_set(run, data.level, record.data or signature(data.identity()), data.plain())
        points = {(name, 0): value for name, value in finite.items() if run.metrics.get(name) != value}
        tags = {
            "ablate.status": record.status, "ablate.steps": str(record.steps), "ablate.reason": record.reason,
            "mlflow.note.content": self._note(trial, record), **more_tags, "ablate.content": content_hash,
        }  # fmt: skip
        self.experiment.write(run, points, tags=tags, time_ms=self._end_ms(trial))

        # What depends on this record
        self._update_notes(trial)
        if new := {path.stem for path in self._pictures(trial)} - self.pictures:
            self.pictures |= new
            self._write_views()

    def _update_notes(self, reference: Trial) -> None:
        """Write the notes of finished trials that are measured against this one, which may have ended before it."""
        for trial in self.trials:
            if (trial.treatment.reference, trial.seed) == (reference.treatment.label, reference.seed):
                run = self.runs.get(_key(self._tags(trial)))
                record = self.store.stage(trial.signature).record()
                if run and record and "ablate.content" in run.tags:
                    self.experiment.write(run, tags={"mlflow.note.content": self._note(trial, record)})

    def _note(self, trial: Trial, record: Record) -> str:
        """The description of a run: the primary metric and its difference from the reference (`texts.note`)."""
        label = trial.treatment.reference
        reference = self.by_treatment.get((label, trial.seed)) if label else None
        reference_record = self.store.stage(reference.signature).record() if reference else None
        return texts.note(self.study.metrics[self.study.primary], record, reference_record, label)

    def _write_views(self) -> None:
        if views.is_supported():
            self.experiment.tag(views.view_tags(self.study, self.treatments, self.pictures, self.experiment.created))

    def _pictures(self, trial: Trial) -> list[Path]:
        return sorted(self.store.stage(trial.signature).pictures.glob("*.png"))

    def _end_ms(self, trial: Trial) -> int:
        """When the trial's record or its error was written, in ms since 1970; now, if neither was."""
        folder = self.store.stage(trial.signature)
        files = [path for path in (folder.record_file, folder.error) if path.exists()]
        return int(files[0].stat().st_mtime * 1000) if files else _now_ms()


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


def _key(tags: dict[str, str]) -> RunKey:
    return tuple(tags.get(f"ablate.{name}") for name in ("signature", "treatment", "seed"))


def _now_ms() -> int:
    return int(time.time() * 1000)
