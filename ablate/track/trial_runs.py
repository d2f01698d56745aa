"""The runs of a study's trials in MLflow: what each of them shows, and what of it has been sent already."""

import json
import math
import time
from collections.abc import Iterable
from pathlib import Path

from ablate.identity import signature
from ablate.plan.colors import colors
from ablate.plan.labels import format_level
from ablate.plan.treatments import Treatment
from ablate.plan.trials import Trial, is_complete, read_step_log
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.store.stage import StageFolder
from ablate.study.study import Study
from ablate.track import texts, views
from ablate.track.runs import Experiment, Run, grid_files

BATCH = 900
"""Points per call; MLflow takes at most 1000 metrics, params and tags together."""


RunKey = tuple[str | None, ...]
"""Signature, treatment and seed. Treatments that compute the same share a signature, but each has its own run."""


class TrialRuns:
    """A run for each trial, under the study's own. Nothing is sent twice; every method may raise MLflow's errors.

    `trials`: those of the study so far. `planned`: all treatments of the plan, in their order, which colours follow.
    """

    experiment: Experiment
    study_run: Run

    def __init__(self, study: Study, trials: list[Trial], store: Store, planned: Iterable[Treatment]):
        self.study = study
        self.trials = trials
        self.store = store
        self.treatments = {trial.treatment.label: trial.treatment for trial in trials}
        self.planned = list(planned)
        self.colors = colors([*self.planned, *self.treatments.values()])
        self.by_treatment = {(trial.treatment.label, trial.seed): trial for trial in trials if trial.role == "trial"}
        self.by_key: dict[RunKey, Run] = {}

    def open(self, experiment: Experiment, study_run: Run, known: list[Run]) -> None:
        """Bring the experiment's known runs, and its views, up to date with the study."""
        self.experiment = experiment
        self.study_run = study_run
        self.by_key = {_key(run.tags): run for run in known if "ablate.signature" in run.tags}
        wanted = {_key(tags): tags for tags in map(self._tags, self.trials)}
        for key, run in self.by_key.items():  # runs of an older study file get a role that no view shows
            self.experiment.write(run, tags=wanted.get(key, {"ablate.role": "past"}))
        self.pictures = {path.stem for trial in self.trials for path in self._pictures(trial)}
        self._write_views()

    def add(self, trial: Trial) -> None:
        """Add a trial that a search has suggested."""
        self.trials = [*self.trials, trial]
        self.treatments.setdefault(trial.treatment.label, trial.treatment)
        self.colors = colors([*self.planned, *self.treatments.values()])
        if trial.role == "trial":
            self.by_treatment[trial.treatment.label, trial.seed] = trial

    def start(self, trial: Trial) -> None:
        """Show a trial as running, unless it has ended already."""
        if not is_complete(self.store.stage(trial.signature).record(), trial):
            self.experiment.resume(self._run(trial, {"ablate.status": "running"}))

    def follow(self, trial: Trial) -> None:
        """Send the step metrics logged since the last call."""
        self._send_steps(trial, self._run(trial))

    def finish(self, trial: Trial) -> None:
        """Send how a trial ended: pruned, finished or failed. Does nothing if MLflow shows it already."""
        run = self._run(trial)
        folder = self.store.stage(trial.signature)

        # Pruned
        if trial.pruned:
            self._send_steps(trial, run)
            self.experiment.write(run, tags={"ablate.status": "pruned", "ablate.reason": trial.pruned})
            self.experiment.end(run, "KILLED", now_ms())
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

    def compared(self) -> list[str]:
        """Ids of the runs that the comparison opens with: the first seed of the first treatments."""
        first: dict[str, Trial] = {}
        for trial in self.trials:
            if trial.role == "trial":
                first.setdefault(trial.treatment.label, trial)
        ids = [run.id for trial in first.values() if (run := self.by_key.get(_key(self._tags(trial))))]
        return ids[: views.COMPARED]

    def _run(self, trial: Trial, more_tags: dict[str, str] | None = None) -> Run:
        """The run of a trial, which is created if there is none yet. Its only params are the factors and the seed."""
        tags = self._tags(trial)
        if _key(tags) not in self.by_key:
            record = self.store.stage(trial.signature).record()
            start_ms = self._end_ms(trial) - int(record.wall_s * 1000) if record else now_ms()
            self.by_key[_key(tags)] = self.experiment.create(trial.name, tags, start_ms)
        treatment = trial.treatment
        levels = {
            path: format_level(level) for path, level in {**treatment.levels, **(treatment.nuisance or {})}.items()
        }
        self.experiment.write(self.by_key[_key(tags)], params={**levels, "seed": str(trial.seed)}, tags=more_tags)
        return self.by_key[_key(tags)]

    def _tags(self, trial: Trial) -> dict[str, str]:
        """The tags of a trial's run."""
        treatment = trial.treatment
        return {
            "ablate.role": trial.role, "ablate.study": self.study.name, "ablate.treatment": treatment.label,
            "ablate.seed": str(trial.seed), "ablate.baseline": str(treatment.is_baseline).lower(),
            "ablate.order": f"{list(self.treatments).index(treatment.label):04d}", "ablate.signature": trial.signature,
            "mlflow.parentRunId": self.study_run.id, "mlflow.runColor": self.colors[treatment.label],
        }  # fmt: skip

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
                run = self.by_key.get(_key(self._tags(trial)))
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
        return int(files[0].stat().st_mtime * 1000) if files else now_ms()


def _key(tags: dict[str, str]) -> RunKey:
    return tuple(tags.get(f"ablate.{name}") for name in ("signature", "treatment", "seed"))


def now_ms() -> int:
    """Now, in ms since 1970."""
    return int(time.time() * 1000)
