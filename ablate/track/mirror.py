"""The MLflow mirror of a study. The truth is the store; whatever is written here can be written again from it.

There is one writer, a thread of the driver, and it sends nothing twice: step metrics carry the last step as a tag in
the same call, and a finished run carries the hash of the record that it shows. MLflow keeps +inf as 1.8e308, and NaN as
a point that no chart can draw; here both are tags `metric.<name>` and no points.
"""

import functools
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self

from ablate.identity import signature
from ablate.plan.labels import colors, show
from ablate.plan.trials import Trial, answers, logged
from ablate.store.files import read_json
from ablate.store.folders import StageFolder, Store
from ablate.store.record import Record
from ablate.study.study import Study
from ablate.track import views
from ablate.track.runs import Experiment, Run, grid_files
from ablate.track.writer import Writer

BATCH = 900
"""Points a call; MLflow takes 1000 metrics, params and tags together."""


RunKey = tuple[str | None, ...]
"""Signature, treatment and seed. Treatments that compute the same share a signature; each has its own run."""


P = ParamSpec("P")


Method = Callable[Concatenate["Mirror", P], None]


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _contained(method: Method[P]) -> Method[P]:
    """The one place where MLflow's errors end: the first is reported and turns the mirror off, the sweep goes on."""

    @functools.wraps(method)
    def call(self: "Mirror", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.failure is None:
            try:
                method(self, *args, **kwargs)
            except Exception as error:
                self.failure = error
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                self.report(
                    f"MLflow failed and is left alone from here on ({reason}). The study goes on; all results are in "
                    f"the store. To bring them to MLflow later: ablate sync {self.study.name}"
                )

    return call


def _in_turn(method: Method[P]) -> Method[P]:
    """The call is made by the mirror's own thread, after those before it; at once where none runs."""
    contained = _contained(method)

    @functools.wraps(method)
    def call(self: "Mirror", /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.writer:
            self.writer.add(functools.partial(contained, self, *args, **kwargs))
        else:
            contained(self, *args, **kwargs)

    return call


class Mirror:
    """Shows one study at one scale in MLflow: an experiment, a run for the study and under it a run for every trial.

    Within `with`, trials are mirrored by a thread, so that training never waits for MLflow; the end waits for it.
    `artifacts` is where pictures and tables go, a folder that both this process and MLflow's server can read; None
    leaves the place to the server. No method raises what MLflow raises: `report` is told, `failure` holds the error.
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
        report: Callable[[str], None] = _to_stderr,
    ):
        self.uri, self.artifacts, self.study, self.trials, self.store = uri, artifacts, study, trials, store
        self.report = report
        self.failure: Exception | None = None
        self.writer: Writer | None = None
        self.runs: dict[RunKey, Run] = {}
        self.treatments = {trial.treatment.label: trial.treatment for trial in trials}
        self.colors = colors(self.treatments.values())
        self.by_name = {(trial.treatment.label, trial.seed): trial for trial in trials if trial.role == "trial"}

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

    @_in_turn
    def add(self, trial: Trial) -> None:
        """Take in a trial that a search has suggested."""
        self.trials = [*self.trials, trial]
        self.treatments.setdefault(trial.treatment.label, trial.treatment)
        self.colors = colors(self.treatments.values())
        if trial.role == "trial":
            self.by_name[trial.treatment.label, trial.seed] = trial

    @_in_turn
    def start(self, trial: Trial) -> None:
        """Show a trial as running, unless it has ended by now."""
        if not answers(self.store.stage(trial.signature).record(), trial):
            self.experiment.revive(self._run(trial, {"ablate.status": "running"}))

    def follow(self, trial: Trial) -> None:
        """Send the step metrics that were logged since the last time; where other calls wait, leave it for later."""
        if not (self.writer and self.writer.is_behind):
            self._follow(trial)

    @_in_turn
    def finish(self, trial: Trial) -> None:
        """Send all that the store holds of a trial that has ended. Does nothing where MLflow shows it already."""
        self._finish(trial)

    @_contained
    def finish_study(self, files: dict[str, str], note: str) -> None:
        """Send whatever is still missing of any trial, the study's artifacts (path -> text) and its description."""
        for trial in self.trials:
            if trial.pruned or self.store.stage(trial.signature).status() not in {"running", "pending"}:
                self._finish(trial)
        self.experiment.send(self.study_run, files)
        if views.REPORT in files:
            self.experiment.tag({"ablate.report": views.REPORT})
        self.experiment.tag({"ablate.compared": " ".join(self._compared())})
        self.experiment.write(self.study_run, tags={"mlflow.note.content": note})
        self.experiment.end(self.study_run, "FINISHED")

    @_in_turn
    def _follow(self, trial: Trial) -> None:
        self._send_steps(trial, self._run(trial))

    def _compared(self) -> list[str]:
        """Runs of the first treatments with their first seed."""
        first: dict[str, Trial] = {}
        for trial in self.trials:
            if trial.role == "trial":
                first.setdefault(trial.treatment.label, trial)
        ids = [run.id for trial in first.values() if (run := self.runs.get(_key(self._tags(trial))))]
        return ids[: views.COMPARED]

    def links(self, base_url: str) -> dict[str, str]:
        """Name -> link into MLflow's pages, each on a view worth opening. Empty if MLflow has failed."""
        return {} if self.failure else views.links(base_url, self.experiment.id, self.experiment.tags)

    @_contained
    def _open(self) -> None:
        study = self.study
        name = study.name if study.scale == "base" else f"{study.name} ({study.scale})"
        folder = self.artifacts / study.name / study.scale if self.artifacts else None
        tags = {"ablate.study": study.name, "ablate.scale": study.scale, "mlflow.note.content": study.question}
        self.experiment = Experiment(self.uri, name, folder, tags)
        runs = self.experiment.runs()
        self._open_study_run(next((run for run in runs if run.tags.get("ablate.role") == "study"), None))
        self.runs = {_key(run.tags): run for run in runs if "ablate.signature" in run.tags}
        wanted = {_key(tags): tags for tags in map(self._tags, self.trials)}
        for key, run in self.runs.items():  # the views show role "trial": nothing that an older study file asked for
            self.experiment.write(run, tags=wanted.get(key, {"ablate.role": "past"}))
        self.pictures = {path.stem for trial in self.trials for path in self._pictures(trial)}
        self._write_views()

    def _open_study_run(self, known: Run | None) -> None:
        study = self.study
        tags = {"ablate.role": "study", "ablate.study": study.name, "mlflow.note.content": study.question}
        self.study_run = known or self.experiment.create(study.name, tags, _now())
        self.experiment.revive(self.study_run)
        self.experiment.tag({"ablate.run": self.study_run.id})
        resolved = {
            "study": study.name, "question": study.question, "paper": study.paper, "scale": study.scale,
            "overrides": study.overrides, "design": study.designs, "seeds": study.seeds, "primary": study.primary,
            "factors": {factor.path: factor.levels for factor in study.factors},
            "probes": [probe.plain() for probe in study.probes], "baseline": study.baseline.plain(),
        }  # fmt: skip
        texts = {"study.yaml": study.document.text, "study.json": json.dumps(resolved, indent=1)}
        self.experiment.send(self.study_run, texts)

    @_contained
    def _stop(self, interrupted: bool) -> None:
        """Leave no run that looks alive, except the study's if `finish_study` may still come."""
        for run in [*self.runs.values(), *([self.study_run] if interrupted else [])]:
            if run.status == "RUNNING":
                self.experiment.write(run, tags={"ablate.status": "pending"})
                self.experiment.end(run, "KILLED")

    def _run(self, trial: Trial, more_tags: dict[str, str] | None = None) -> Run:
        """The trial's run: found again, or created. The factors and the seed are its only params."""
        tags = self._tags(trial)
        if _key(tags) not in self.runs:
            record = self.store.stage(trial.signature).record()
            begun = self._ended(trial) - int(record.wall_s * 1000) if record else _now()
            self.runs[_key(tags)] = self.experiment.create(trial.name, tags, begun)
        treatment = trial.treatment
        levels = {path: show(level) for path, level in {**treatment.levels, **(treatment.nuisance or {})}.items()}
        self.experiment.write(self.runs[_key(tags)], params={**levels, "seed": str(trial.seed)}, tags=more_tags)
        return self.runs[_key(tags)]

    def _tags(self, trial: Trial) -> dict[str, str]:
        treatment = trial.treatment
        return {
            "ablate.role": trial.role, "ablate.study": self.study.name, "ablate.treatment": treatment.label,
            "ablate.seed": str(trial.seed), "ablate.baseline": str(treatment.is_baseline).lower(),
            "ablate.order": f"{list(self.treatments).index(treatment.label):04d}", "ablate.signature": trial.signature,
            "mlflow.parentRunId": self.study_run.id, "mlflow.runColor": self.colors[treatment.label],
        }  # fmt: skip

    def _finish(self, trial: Trial) -> None:
        run, folder = self._run(trial), self.store.stage(trial.signature)
        if trial.pruned:
            self._send_steps(trial, run)
            self.experiment.write(run, tags={"ablate.status": "pruned", "ablate.reason": trial.pruned})
            self.experiment.end(run, "KILLED", _now())
            return
        record = folder.record()
        content = read_json(folder.record_file) or read_json(folder.error) or {}
        mark, status = signature(content), "FINISHED" if record else "FAILED"
        if (run.tags.get("ablate.content"), run.status) == (mark, status):
            return
        self._send_steps(trial, run)
        if record:
            self._send_record(trial, run, record, folder, mark)
        else:
            reason = folder.failure() or "ended without a record"
            self.experiment.send(run, {"error.txt": content.get("trace", reason)})
            tags = {"ablate.status": "failed", "ablate.reason": reason, "ablate.content": mark}
            self.experiment.write(run, tags=tags)
        self.experiment.end(run, status, self._ended(trial))

    def _send_steps(self, trial: Trial, run: Run) -> None:
        points: dict[tuple[str, int], float] = {}
        last = int(run.tags.get("ablate.step", 0))
        for line in logged(trial, self.store, last):
            step = int(line.pop("step"))
            if step <= last:  # logged by a second worker too, which took the stage for abandoned
                continue
            if len(points) + len(line) > BATCH:
                self.experiment.write(run, points, tags={"ablate.step": str(last)})
                points = {}
            points |= {(name, step): value for name, value in line.items() if math.isfinite(value)}
            last = step
        self.experiment.write(run, points, tags={"ablate.step": str(last)})

    def _send_record(self, trial: Trial, run: Run, record: Record, folder: StageFolder, mark: str) -> None:
        """Metrics go to step 0: MLflow draws what has a later step as a curve, not as a bar.

        `mark` says that all is there; MLflow writes the tags of a call last.
        """
        found = {**record.metrics, **{f"raw/{name}": value for name, value in record.raw.items()}}
        finite = {name: value for name, value in found.items() if math.isfinite(value)}
        texts = {f"metric.{name}": str(value) for name, value in found.items() if name not in finite}
        for outdated in [tag for tag in run.tags if tag.startswith("metric.") and tag not in texts]:
            self.experiment.untag(run, outdated)
        files: dict[str, str | bytes] = {"settings.json": json.dumps(trial.order(), indent=1)}
        if folder.per_image.exists():
            files["per_image.json"] = folder.per_image.read_text(encoding="utf-8")
        for picture in self._pictures(trial):
            files |= grid_files(picture, views.PICTURES, trial.signature)
            texts["mlflow.loggedImages"] = "True"
        self.experiment.send(run, files)
        data = trial.treatment.recipe.parts["data"]
        self.experiment.send_data_set(run, data.level, record.data or signature(data.identity()), data.plain())
        points = {(name, 0): value for name, value in finite.items() if run.metrics.get(name) != value}
        tags = {
            "ablate.status": record.status, "ablate.steps": str(record.steps), "ablate.reason": record.reason,
            "mlflow.note.content": self._note(trial, record), **texts, "ablate.content": mark,
        }  # fmt: skip
        self.experiment.write(run, points, tags=tags, time_ms=self._ended(trial))
        self._renew_notes(trial)
        if new := {path.stem for path in self._pictures(trial)} - self.pictures:
            self.pictures |= new
            self._write_views()

    def _renew_notes(self, reference: Trial) -> None:
        """Of the finished trials that are measured against this one: workers end in any order."""
        for trial in self.trials:
            if (trial.treatment.reference, trial.seed) == (reference.treatment.label, reference.seed):
                run, record = self.runs.get(_key(self._tags(trial))), self.store.stage(trial.signature).record()
                if run and record and "ablate.content" in run.tags:
                    self.experiment.write(run, tags={"mlflow.note.content": self._note(trial, record)})

    def _note(self, trial: Trial, record: Record) -> str:
        """The run's description: the primary metric, its change from its reference at that seed, what went wrong."""
        metric = self.study.metrics[self.study.primary]
        if metric.name not in record.metrics:
            return f"{record.status}: {record.reason}"
        value = record.metrics[metric.name]
        note = f"{metric.name} {value:.{metric.decimals}f} {metric.unit}"
        label = trial.treatment.reference
        twin = self.by_name.get((label, trial.seed)) if label else None
        reference = self.store.stage(twin.signature).record() if twin else None
        if reference and metric.name in reference.metrics:
            change = value - reference.metrics[metric.name]
            name = "the baseline" if label == "baseline" else f"'{label}'"
            note += f", {change:+.{metric.decimals}f} from {name} with the same seed"
        return note

    def _write_views(self) -> None:
        if views.knows_views():
            self.experiment.tag(views.view_tags(self.study, self.treatments, self.pictures, self.experiment.created))

    def _pictures(self, trial: Trial) -> list[Path]:
        return sorted(self.store.stage(trial.signature).pictures.glob("*.png"))

    def _ended(self, trial: Trial) -> int:
        """When the trial's record or its error was written, ms."""
        folder = self.store.stage(trial.signature)
        files = [path for path in (folder.record_file, folder.error) if path.exists()]
        return int(files[0].stat().st_mtime * 1000) if files else _now()


class NoMirror:
    """The no-op twin of `Mirror`."""

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
) -> Mirror:
    """Mirror all that the store holds of a study; what MLflow has already stays. Raises what MLflow raises."""
    with Mirror(uri, artifacts, study, trials, store, report=lambda text: None) as mirror:
        mirror.finish_study(files, note or study.question)
    if mirror.failure:
        raise mirror.failure
    return mirror


def _key(tags: dict[str, str]) -> RunKey:
    return tuple(tags.get(f"ablate.{name}") for name in ("signature", "treatment", "seed"))


def _now() -> int:
    return int(time.time() * 1000)
