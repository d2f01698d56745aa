"""The MLflow mirror, against real MLflow on a real database. What it wrote is read with sqlite3, not with MLflow."""

import contextlib
import json
import math
import shutil
import signal
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from ablate.errors import ServerError
from ablate.plan.labels import format_level
from ablate.plan.trials import expand
from ablate.store.folders import Store
from ablate.store.stage import StageFolder
from ablate.track import server as server_module
from ablate.track import views
from ablate.track.mirror import Mirror, NoMirror, sync
from ablate.track.runs import connect, grid_files
from ablate.track.server import serving
from tests.support import mirrored
from tests.support.command import PATIENCE

RUNG = "+ padding=reflect s1"


TABLES = {
    "tables/table.md": "| treatment | psnr |\n|---|---|\n",
    "tables/table.csv": "treatment,psnr\n",
    "report.html": "<p>What came out</p>",
}


TWINS = (
    mirrored.STUDY[: mirrored.STUDY.index("factors:")]
    + """
factors: {loss.adversarial: [0.01, 0.0], discriminator.width: [8, 16]}
design: grid
seeds: 1
stages: [{train: {steps: 40, lr: 1e-3}}, {tune: {steps: 20, lr: 1e-4}}]
probes: [reconstruction]
primary: psnr
"""
)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow's tables take seconds to create: once is enough."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    connect(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as database:  # what was written ahead goes into the file
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def levels(tmp_path, monkeypatch):
    mirrored.use_levels(monkeypatch, tmp_path / "levels")
    yield
    mirrored.registry.level.cache_clear()


@pytest.fixture
def store(tmp_path, levels, empty_database):
    root = tmp_path / "runs"
    root.mkdir()
    shutil.copy(empty_database, root / "mlflow.db")
    return Store(root)


@pytest.fixture
def study(levels):
    return mirrored.make_study()


def open_mirror(study, store, **options):
    return Mirror(store.mlflow_uri, store.mlflow_artifacts, study, expand(study), store, **options)


def settle(mirror):
    """Wait until MLflow has been told all so far."""
    told = threading.Event()
    mirror.writer.add(told.set)
    assert told.wait(PATIENCE)


def mirror_all(study, store):
    """As a sweep does it. Gives the mirror."""
    with open_mirror(study, store) as mirror:
        for trial in mirror.runs.trials:
            mirror.start(trial)
            mirrored.write_steps(store, trial, upto=30)
            settle(mirror)
            mirror.follow(trial)
            mirrored.write_steps(store, trial)
            mirrored.write_record(store, trial)
            mirror.finish(trial)
    mirror.finish_study(TABLES, "what came out")
    assert mirror.failure is None
    return mirror


def query(store, sql, *values):
    with contextlib.closing(sqlite3.connect(store.root / "mlflow.db")) as database:
        return database.execute(sql, values).fetchall()


def run_id(store, name):
    [[found]] = query(store, "SELECT run_uuid FROM runs WHERE name = ? AND lifecycle_stage = 'active'", name)
    return found


def tags(store, name):
    return dict(query(store, "SELECT key, value FROM tags WHERE run_uuid = ?", run_id(store, name)))


def points(store, name, metric):
    sql = "SELECT step, value FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step"
    return query(store, sql, run_id(store, name), metric)


def content(store):
    """All that MLflow shows, less the times and the ids that it draws itself."""
    found = {}
    for run, name, status in query(store, "SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active'"):
        [[place]] = query(store, "SELECT artifact_uri FROM runs WHERE run_uuid = ?", run)
        root = Path(place.removeprefix("file://"))
        found[name] = {
            "status": status,
            "params": query(store, "SELECT key, value FROM params WHERE run_uuid = ? ORDER BY key", run),
            "points": query(store, "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY 1, 2, 3", run),
            "tags": {key: value for key, value in tags(store, name).items() if key != "mlflow.parentRunId"},
            "files": {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()},
            "data": len(query(store, "SELECT source_id FROM inputs WHERE destination_id = ?", run)),
        }
    found["experiment"] = sorted(query(store, "SELECT key FROM experiment_tags"))
    return found


def test_a_sweep_as_mlflow_shows_it(study, store):
    mirror = mirror_all(study, store)
    seen = content(store)
    assert set(seen) == {"tiny_losses", "experiment", *(trial.name for trial in mirror.runs.trials)}
    assert "kl=1 s0" in seen
    colors = {}
    for trial in mirror.runs.trials:
        run = seen[trial.name]
        levels = {path: format_level(level) for path, level in trial.treatment.levels.items()}
        assert dict(run["params"]) == {**levels, "seed": str(trial.seed)}
        record = store.stage(trial.signature).record()
        assert {(name, value) for name, step, value in run["points"] if step == 0} == set(record.metrics.items())
        assert run["tags"]["ablate.treatment"] == trial.treatment.label
        assert run["tags"]["ablate.baseline"] == str(not trial.treatment.changed).lower()
        assert run["tags"]["ablate.signature"] == trial.signature
        assert tags(store, trial.name)["mlflow.parentRunId"] == run_id(store, "tiny_losses")
        assert run["status"] == "FINISHED" and run["data"] == 1
        assert json.loads(run["files"]["settings.json"])["recipe"] == trial.treatment.recipe.plain()
        assert len([name for name in run["files"] if name.startswith("images/pictures~")]) == 2 * 3
        colors.setdefault(trial.treatment.label, set()).add(run["tags"]["mlflow.runColor"])
    assert all(len(given) == 1 for given in colors.values()), "seeds of a treatment share its colour"
    assert len(set.union(*colors.values())) == len(colors), "treatments differ in colour"
    parent = seen["tiny_losses"]
    assert parent["files"]["study.yaml"].decode() == mirrored.STUDY
    assert parent["files"]["tables/table.csv"].decode() == TABLES["tables/table.csv"]
    assert parent["tags"]["mlflow.note.content"] == "what came out" and parent["status"] == "FINISHED"
    described = query(store, "SELECT value FROM experiment_tags WHERE key = 'mlflow.note.content'")
    assert described == [(study.question,)]


def test_the_note_says_the_change_from_the_baseline_of_the_same_seed(study, store):
    mirror_all(study, store)
    psnr = {trial.name: store.stage(trial.signature).record().metrics["psnr"] for trial in expand(study)}
    change = psnr["kl=1 s1"] - psnr["baseline s1"]
    assert tags(store, "kl=1 s1")["mlflow.note.content"].startswith(
        f"psnr {psnr['kl=1 s1']:.2f} dB, {change:+.2f} from"
    )
    assert "from the baseline" not in tags(store, "baseline s1")["mlflow.note.content"]


def test_notes_speak_of_the_reference_even_if_it_ends_last(levels, store):
    text = mirrored.STUDY.replace("[1, 1e-2, 1e-4, 1e-6]", "[1e-4, 1]").replace("factors:", "design: ladder\nfactors:")
    study = mirrored.make_study(text)
    rung, below = (next(trial for trial in expand(study) if trial.name == name) for name in (RUNG, "+ kl=1 s1"))
    with open_mirror(study, store) as mirror:
        psnr = [mirrored.write_record(store, rung).metrics["psnr"]]
        mirror.finish(rung)
        settle(mirror)
        assert tags(store, RUNG)["mlflow.note.content"] == f"psnr {psnr[0]:.2f} dB"
        psnr.append(mirrored.write_record(store, below).metrics["psnr"])
        mirror.finish(below)
    assert mirror.failure is None
    note = f"psnr {psnr[0]:.2f} dB, {psnr[0] - psnr[1]:+.2f} from '+ kl=1' with the same seed"
    assert tags(store, RUNG)["mlflow.note.content"] == note


def test_every_step_is_there_once_over_both_stages_however_often_it_is_followed(study, store):
    trial = expand(study)[0]
    with open_mirror(study, store) as mirror:
        mirror.start(trial)
        for upto in (0, 10, 10, 30, 45):
            mirrored.write_steps(store, trial, upto)
            settle(mirror)
            mirror.follow(trial)
            settle(mirror)
    assert tags(store, trial.name)["ablate.step"] == "45"
    mirrored.write_steps(store, trial, upto=40)  # a resumed stage begins again at its checkpoint
    with open_mirror(study, store) as mirror:
        mirror.start(trial)
        settle(mirror)
        mirror.follow(trial)
        settle(mirror)
        mirrored.write_steps(store, trial)
        with store.stage(trial.signature).steps.open("a") as file:
            file.write('{"step": 15, "train/loss": 9.0}\n')
        mirror.follow(trial)
    expected = [(step, mirrored.line(trial, 0, step)["train/loss"]) for step in range(5, 61, 5)]
    assert points(store, trial.name, "train/loss") == expected
    assert [step for step, _ in points(store, trial.name, "share/kl")] == [5, 45]


def test_points_of_a_mirror_killed_before_its_tag_are_not_doubled(study, store):
    trial = expand(study)[0]
    mirrored.write_steps(store, trial)
    for step in ("10", "0"):
        with open_mirror(study, store) as mirror:
            mirror.follow(trial)
        with contextlib.closing(sqlite3.connect(store.root / "mlflow.db")) as database, database:
            database.execute("UPDATE tags SET value = ? WHERE key = 'ablate.step'", (step,))
    with open_mirror(study, store) as mirror:
        mirror.follow(trial)
    assert mirror.failure is None
    assert [step for step, _ in points(store, trial.name, "train/loss")] == list(range(5, 61, 5))


def test_steps_logged_between_the_reads_of_two_stages_are_not_lost(study, store, monkeypatch):
    trial = expand(study)[0]
    mirrored.write_steps(store, trial, upto=30)
    read_steps = StageFolder.read_steps

    def read_and_train_on(folder):
        lines = list(read_steps(folder))
        mirrored.write_steps(store, trial)
        return lines

    with open_mirror(study, store) as mirror:
        monkeypatch.setattr(StageFolder, "read_steps", read_and_train_on)
        for _ in range(2):
            mirror.follow(trial)
            settle(mirror)
    assert mirror.failure is None
    assert [step for step, _ in points(store, trial.name, "train/loss")] == list(range(5, 61, 5))


def test_many_points_go_in_batches_that_mlflow_takes(study, store, monkeypatch):
    trial = expand(study)[0]
    folder = store.stage(trial.signatures[0])
    folder.root.mkdir(parents=True)
    lines = [{"step": step, **{f"train/m{i}": step + i for i in range(70)}} for step in range(1, 41)]
    folder.steps.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sizes = []
    with open_mirror(study, store) as mirror:
        send = mirror.experiment.client.log_batch
        monkeypatch.setattr(
            mirror.experiment.client,
            "log_batch",
            lambda run, *parts: (sizes.append(sum(map(len, parts))), send(run, *parts)),
        )
        mirror.follow(trial)
    assert mirror.failure is None
    assert len([size for size in sizes if size > 10]) == 4 and max(sizes) <= 1000, "servers take no more in one call"
    assert query(store, "SELECT count(*), count(DISTINCT key || '@' || step) FROM metrics") == [(2800, 2800)]


def test_inf_and_nan_are_tags_and_no_points(study, store):
    trial = expand(study)[0]
    mirrored.write_steps(store, trial, upto=55)
    with store.stage(trial.signature).steps.open("a") as file:
        file.write('{"step": 20, "train/loss": NaN, "train/kl": Infinity, "train/l2": 0.5}\n')
    mirrored.write_record(store, trial, psnr=math.inf, ssim=math.nan, **{"grid/fold": -math.inf})
    with open_mirror(study, store) as mirror:
        mirror.finish(trial)
    seen = tags(store, trial.name)
    assert (seen["metric.psnr"], seen["metric.ssim"], seen["metric.grid/fold"]) == ("inf", "nan", "-inf")
    stored = query(store, "SELECT key, value, is_nan FROM metrics")
    assert not {"psnr", "ssim", "grid/fold"} & {key for key, _, _ in stored}
    assert [step for step, _ in points(store, trial.name, "train/l2")][-1] == 60
    assert all(abs(value) < 1e300 and not is_nan for _, value, is_nan in stored)
    mirrored.write_record(store, trial, at=1_790_000_100.0)
    with open_mirror(study, store) as mirror:
        mirror.finish(trial)
    assert "metric.psnr" not in tags(store, trial.name) and len(points(store, trial.name, "psnr")) == 1


def test_a_record_that_another_probe_completes_adds_only_what_changed(study, store):
    trial = mirror_all(study, store).runs.trials[0]
    before = content(store)
    mirrored.write_record(store, trial, at=1_790_000_100.0, **{"grid/fold": 0.125, "new": 3.0})
    with open_mirror(study, store) as mirror:
        mirror.finish(trial)
    [psnr] = [value for name, _, value in before[trial.name]["points"] if name == "psnr"]
    assert points(store, trial.name, "psnr") == [(0, psnr)]
    assert points(store, trial.name, "new") == [(0, 3.0)]
    latest = query(
        store, "SELECT value FROM latest_metrics WHERE run_uuid = ? AND key = 'grid/fold'", run_id(store, trial.name)
    )
    assert latest == [(0.125,)], "a smaller value replaces a larger one"


def test_diverged_is_a_result_and_failed_is_not(study, store):
    diverged, failed, stopped = expand(study)[:3]
    record = mirrored.write_record(store, diverged)
    record.status, record.reason, record.metrics = "diverged", "the loss was not finite at step 7", {}
    store.stage(diverged.signature).finish(record)
    mirrored.write_steps(store, failed, upto=10)
    store.stage(failed.signature).root.mkdir(parents=True)
    store.stage(failed.signature).fail("ValueError: too small", "Traceback: all of it")
    with pytest.raises(KeyboardInterrupt), open_mirror(study, store) as mirror:
        for trial in (diverged, failed, stopped):
            mirror.start(trial)
        mirror.finish(diverged)
        mirror.finish(failed)
        raise KeyboardInterrupt
    seen = content(store)
    assert (seen[diverged.name]["status"], tags(store, diverged.name)["ablate.status"]) == ("FINISHED", "diverged")
    assert "not finite" in tags(store, diverged.name)["ablate.reason"]
    assert (seen[failed.name]["status"], tags(store, failed.name)["ablate.status"]) == ("FAILED", "failed")
    assert seen[failed.name]["files"] == {"error.txt": b"Traceback: all of it"}
    assert len(points(store, failed.name, "train/loss")) == 2
    assert (seen[stopped.name]["status"], tags(store, stopped.name)["ablate.status"]) == ("KILLED", "pending")
    assert seen["tiny_losses"]["status"] == "KILLED"
    with open_mirror(study, store) as mirror:
        mirror.start(stopped)
        settle(mirror)
        assert content(store)[stopped.name]["status"] == "RUNNING"
    assert len(content(store)) == 5, "runs are found again"


def test_sync_rebuilds_the_same_from_the_store_and_then_changes_nothing(study, store, empty_database, tmp_path):
    trials = mirror_all(study, store).runs.trials
    original = content(store)
    other = Store(tmp_path / "other")
    shutil.copytree(store.root / "stages", other.root / "stages")
    shutil.copy(empty_database, other.root / "mlflow.db")
    arguments = (other.mlflow_uri, other.mlflow_artifacts, study, trials, other, TABLES, "what came out")
    links = sync(*arguments).links("http://127.0.0.1:5000")
    rebuilt = content(other)
    assert rebuilt == original
    assert sync(*arguments).links("http://127.0.0.1:5000") == links
    assert content(other) == rebuilt
    assert query(other, "SELECT count(*) FROM runs") == [(len(trials) + 1,)]


def test_a_changed_study_leaves_its_old_trials_out_of_the_views(study, store):
    mirror_all(study, store)
    shorter = mirrored.make_study(mirrored.STUDY.replace("[1, 1e-2, 1e-4, 1e-6]", "[1e-2, 1e-4]"))
    with open_mirror(shorter, store):
        pass
    roles = {name: tags(store, name)["ablate.role"] for name in ("kl=1 s0", "kl=0.01 s0", "tiny_losses")}
    assert roles == {"kl=1 s0": "past", "kl=0.01 s0": "trial", "tiny_losses": "study"}
    with open_mirror(study, store):
        assert tags(store, "kl=1 s0")["ablate.role"] == "trial"


def test_treatments_that_compute_the_same_have_a_run_each(store):
    study = mirrored.make_study(TWINS)
    trials = expand(study)
    assert len(trials) == 4 and len({trial.signature for trial in trials}) == 3
    for trial in trials:
        record = mirrored.Record(trial.signature, 0, "done", "", 60, {"psnr": 20.0}, probes=trial.probe_keys)
        store.stage(trial.signature).finish(record)
    with open_mirror(study, store) as mirror:
        mirror.finish(trials[0])
    mirror.finish_study({}, "")
    assert [points(store, trial.name, "psnr") for trial in trials] == [[(0, 20.0)]] * 4


def test_links_open_on_saved_views(study, store):
    mirror = open_mirror(study, store)
    assert NoMirror().links("http://x") == {}
    with mirror:
        links = mirror.links("http://127.0.0.1:5000/")
    assert list(links) == ["runs", "charts", "images", "factors", "study"]
    root = f"http://127.0.0.1:5000/#/experiments/{mirror.experiment.id}/runs"
    assert links["charts"].startswith(f"{root}?workflowType=machine_learning&viewStateShareKey=ablate-charts&")
    keys = {key for [key] in query(store, "SELECT key FROM experiment_tags")}
    assert {f"mlflow.sharedViewState.ablate-{name}" for name in ("runs", "charts", "images", "factors")} < keys
    finished = mirror_all(study, store).links("http://127.0.0.1:5000/")
    assert list(finished) == ["runs", "charts", "images", "factors", "compare", "study", "report"]
    compared = json.loads(unquote(finished["compare"].partition("?runs=")[2].partition("&")[0]))
    names = [query(store, "SELECT name FROM runs WHERE run_uuid = ?", run)[0][0] for run in compared]
    assert names[0] == "baseline s0" and len(names) == len({trial.treatment.label for trial in mirror.runs.trials})


def test_another_major_version_of_mlflow_gets_no_views_and_all_the_rest(study, store, monkeypatch):
    monkeypatch.setattr(views, "MAJOR", "4")
    links = mirror_all(study, store).links("http://127.0.0.1:5000/")
    assert list(links) == ["compare", "study", "report"]
    assert not [key for [key] in query(store, "SELECT key FROM experiment_tags") if "sharedViewState" in key]


def test_grid_pictures_keep_every_pixel(tmp_path):
    pixels = np.indices((24, 40)).sum(0)[..., None] % 2 * np.array([200, 90, 30])
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "board.png")
    files = grid_files(tmp_path / "board.png", "pictures", "mark")
    [shown] = [name for name in files if name.endswith("+compressed.webp")]
    (tmp_path / "shown.webp").write_bytes(files[shown])
    with Image.open(tmp_path / "shown.webp") as image:
        assert np.array_equal(np.asarray(image), pixels.repeat(6, 0).repeat(6, 1))


def test_an_unreachable_database_turns_the_mirror_off_and_says_so_once(study, store):
    trial = expand(study)[0]
    said = []
    mirror = Mirror("sqlite:////dev/null/no.db", None, study, [trial], store, report=said.append)
    with mirror:
        mirror.start(trial)
        mirror.finish(trial)
    mirror.finish_study({}, "")
    assert len(said) == 1 and "ablate sync tiny_losses" in said[0]
    assert mirror.links("http://x") == {}
    with pytest.raises(ServerError, match=r"MLflow at sqlite:////dev/null/no\.db cannot be used"):
        sync("sqlite:////dev/null/no.db", None, study, [trial], store, {})


def test_a_server_that_dies_does_not_stop_the_sweep(study, store, capsys):
    trials = expand(study)
    with serving(store.mlflow_uri, store.mlflow_artifacts, 0) as server:
        assert server.url.startswith("http://127.0.0.1:")
        with Mirror(server.url, None, study, trials, store) as mirror:
            for trial in trials[:2]:
                mirror.start(trial)
                mirrored.write_steps(store, trial)
                mirrored.write_record(store, trial)
                mirror.finish(trial)
            settle(mirror)
            assert mirror.failure is None
            server.process.send_signal(signal.SIGINT)
            server.process.wait(PATIENCE)
            gate = threading.Event()
            mirror.writer.add(lambda: gate.wait(PATIENCE))
            for trial in trials[2:]:
                mirror.start(trial)
                mirror.finish(trial)
            assert mirror.failure is None, "training does not wait for MLflow, which is not reached before the gate"
            gate.set()
            settle(mirror)
            assert mirror.failure is not None
        mirror.finish_study(TABLES, "")
    said = capsys.readouterr()
    assert said.err.count("ablate sync tiny_losses") == 1 and said.out == ""
    assert dict(points(store, trials[0].name, "psnr")) == {0: store.stage(trials[0].signature).record().metrics["psnr"]}
    assert len(list(store.mlflow_artifacts.rglob("*reconstruction*.png"))) == 2, "the server keeps the pictures"


def test_ui_says_links_and_ends_with_its_server(study, store):
    mirror_all(study, store)
    code = "import sys, pathlib; from ablate.store.folders import Store; from ablate.track.server import serve; "
    code += "s = Store(pathlib.Path(sys.argv[1])); serve(s, s.mlflow_uri, int(sys.argv[2]))"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-c", code, str(store.root), port]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = [process.stdout.readline() for _ in range(7)]
    try:
        url = said[0].split()[3]
        assert not url.endswith(port), "a port in use is left alone"
        assert f"(port {port} is in use; Ctrl-C stops it)" in said[0]
        assert any(f"{url}/#/experiments/1/runs?workflowType" in line for line in said)
        assert urllib.request.urlopen(f"{url}/health", timeout=PATIENCE).status == 200
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{url}/health", timeout=2)


def test_a_server_that_cannot_start_says_why(tmp_path):
    with pytest.raises(ServerError, match="does not answer"), serving("nonsense://x", tmp_path, 0):
        pass


def test_a_port_that_another_process_takes_first_is_given_up(tmp_path, monkeypatch):
    """What took the port answers, but no HTTP."""
    with socketserver.TCPServer(("127.0.0.1", 0), Babbler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        taken = other.server_address[1]
        found = iter([taken])
        real = server_module._free_port
        monkeypatch.setattr(server_module, "_free_port", lambda host, wanted: next(found, None) or real(host, wanted))
        with serving(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts", 0) as server:
            assert not server.url.endswith(f":{taken}")
            assert urllib.request.urlopen(f"{server.url}/health", timeout=PATIENCE).status == 200
        other.shutdown()


class Babbler(socketserver.BaseRequestHandler):
    """A server of another protocol."""

    def handle(self) -> None:
        self.request.sendall(b"\xff\x00@\x80\r\n")


def test_planning_does_not_load_mlflow():
    imports = "import sys, ablate.track.mirror, ablate.track.server"
    code = f"{imports}; sys.exit('mlflow' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
