"""The command as a user meets it, in processes of its own: real Ray Tune, real MLflow, real signals."""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tests.support.command import Done, ablate, document, metrics, python
from tests.support.studies import ROOT, Write

Smoke = tuple[Path, Done]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Smoke]:
    """The store after one sweep of the smoke study under Ray with MLflow, and what the command said."""
    store = tmp_path_factory.mktemp("smoke") / "runs"
    yield store, ablate("sweep", ROOT / "search_spaces" / "smoke.yaml", "--store", store)


def test_help_loads_no_giant() -> None:
    code = (
        "import sys; sys.argv = ['ablate', '--help']\n"
        "from ablate.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "loaded = {'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'pydantic', 'scipy', 'yaml'} & set(sys.modules)\n"
        "print(loaded, file=sys.stderr)"
    )
    done = python(code)
    assert "sweep" in done.stdout
    assert done.stderr.strip() == "set()"


def test_planning_loads_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from ablate.driver import overview\n"
        "from ablate.study.study import load_study\n"
        "from ablate.store.folders import Store; from ablate.adaptive.recall import plan_study\n"
        f"study = load_study(Path({str(ROOT / 'search_spaces' / 'vivat_losses.yaml')!r}))\n"
        "overview.summarise(plan_study(study, Store(Path('none'))))\n"
        "print({'torch', 'ray', 'mlflow', 'optuna', 'fsspec'} & set(sys.modules))"
    )
    done = python(code)
    assert done.stdout.strip() == "set()"


def test_a_sweep_ends_with_its_table(smoke: Smoke) -> None:
    store, done = smoke
    assert done.returncode == 0, done.stderr
    assert "baseline" in done.stdout and "psnr" in done.stdout.lower()
    assert "[4/4] done" in done.stderr and "table.tex" in done.stdout and "workflowType=machine_learning" in done.stdout
    folder = store / "studies" / "smoke" / "base"
    assert {path.name for path in folder.iterdir()} == {
        "study.json",
        "study.yaml",
        "table.md",
        "table.tex",
        "table.csv",
        "report.html",
    }


def test_the_second_sweep_runs_nothing(smoke: Smoke) -> None:
    store, first = smoke
    before = {path: path.stat().st_mtime_ns for path in (store / "stages").rglob("*")}
    again = ablate("sweep", ROOT / "search_spaces" / "smoke.yaml", "--store", store)
    assert again.returncode == 0 and "nothing to run" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (store / "stages").rglob("*")} == before
    assert again.stdout.split("\n\n")[0] == first.stdout.split("\n\n")[0]


def test_mlflow_holds_the_study(smoke: Smoke) -> None:
    store, _ = smoke
    client = mlflow.MlflowClient(f"sqlite:///{store.resolve()}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name.startswith("smoke")]
    runs = client.search_runs([experiment.experiment_id], filter_string="tags.`ablate.role` = 'trial'")
    assert sorted(run.info.run_name for run in runs) == ["baseline s0", "baseline s1", "kl=1 s0", "kl=1 s1"]
    shown = metrics("smoke", store)
    for run in runs:
        assert set(run.data.params) == {"loss.kl", "seed"}
        assert run.data.metrics["psnr"] in {values["psnr"] for values in shown.values()}
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert [point.step for point in history] == list(range(5, 41, 5))
        assert client.list_artifacts(run.info.run_id)


def test_workers_do_not_change_results(smoke: Smoke, tmp_path: Path) -> None:
    """Two long-lived Ray workers against one process: every metric of every trial is equal to the last bit."""
    store, _ = smoke
    alone = tmp_path / "alone"
    done = ablate("sweep", ROOT / "search_spaces" / "smoke.yaml", "--store", alone, "--inline", "--tracking", "none")
    assert done.returncode == 0, done.stderr
    assert metrics("smoke", alone) == metrics("smoke", store)


def test_json_keys_that_scripts_rely_on(smoke: Smoke) -> None:
    store, _ = smoke
    file = ROOT / "search_spaces" / "smoke.yaml"
    plan = document("plan", file, "--store", store)
    keys = [
        "study",
        "scale",
        "treatments",
        "trials",
        "stages",
        "pending",
        "planned_steps",
        "distinct_steps",
        "estimate_s",
    ]
    assert set(keys) <= plan.keys(), "keys may be added, never renamed"
    assert [plan[key] for key in keys[:-1]] == ["smoke", "base", 2, 4, 4, 0, 160, 160] and plan["estimate_s"] == 0
    status = document("status", "smoke", "--store", store)
    assert status["trials"] == {
        "done": 4,
        "running": 0,
        "pending": 0,
        "failed": 0,
        "diverged": 0,
        "pruned": 0,
        "stale": 0,
    }
    rows = document("show", "smoke", "--store", store)
    assert {"treatment", "seed", "status", "reason", "metrics", "signature", "steps", "wall_s"} <= rows[0].keys()
    assert rows[0]["treatment"] == {"loss.kl": 0.0001} and rows[0]["steps"] == 40
    protocol = json.loads(next(store.glob("stages/*/record.json")).read_text())["protocol"]
    assert protocol == {
        "heldout": {
            "data": "leaves",
            "count": 8,
            "size": 64,
            "frames": 1,
            "filter": "bicubic, antialiased",
            "range": [0, 1],
        },
        "weights": {"metrics": "averaged, decay 0.999", "raw": "as the optimiser left them"},
        "probes": {"reconstruction": {}},
    }
    table = document("table", "smoke", "--store", store)
    assert {"baseline", "rows", "claims"} <= table.keys()
    cells = table["rows"][1]["cells"]["psnr"]
    assert {"mean", "sd", "delta", "low", "high", "p_holm", "verdict"} <= cells.keys() and table["rows"][1]["n"] == 2
    assert document("check", file) == {"ok": True, "errors": [], "notes": []}
    assert "groups" in document("components")["norm"]["group"]["settings"]


def test_formats_of_the_table(smoke: Smoke) -> None:
    store, _ = smoke
    assert "\\toprule" in ablate("table", "smoke", "--store", store, "--format", "latex").stdout
    assert ablate("table", "smoke", "--store", store, "--format", "csv").stdout.count("\n") >= 3
    wrong = ablate("table", "smoke", "--store", store, "--format", "latx")
    assert wrong.returncode == 2 and "latx" in wrong.stderr
    wrong = ablate("table", "smoke", "--store", store, "--metrics", "psnr,sssim")
    assert wrong.returncode == 2 and "unknown metric 'sssim'; did you mean 'ssim'?" in " ".join(wrong.stderr.split())
    looks = ("--layout", "components", "--decimals", "1", "--columns", "2", "--packages", "multirow", "--label", "kl")
    tex = ablate("table", "smoke", "--store", store, "--format", "latex", *looks).stdout
    assert "% needs \\usepackage{booktabs,amssymb,multirow}" in tex and "\\label{tab:kl}" in tex


def test_sync_rebuilds_a_lost_database(smoke: Smoke, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    shutil.copytree(smoke[0], store)
    before = mirrored(smoke[0])
    (store / "mlflow.db").unlink()
    shutil.rmtree(store / "mlartifacts")
    done = ablate("sync", "smoke", "--store", store)
    assert done.returncode == 0, done.stderr
    assert mirrored(store) == before and len(before) == 5


def mirrored(store: Path) -> dict[str, Any]:
    """What MLflow holds of the smoke study, run by run, less ids and times that MLflow draws itself."""
    client = mlflow.MlflowClient(f"sqlite:///{store.resolve()}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name.startswith("smoke")]
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        names, folders = [], [""]
        while folders:
            for item in client.list_artifacts(run.info.run_id, folders.pop()):
                (folders if item.is_dir else names).append(item.path)
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"}
        found[run.info.run_name] = (tags, run.data.params, run.data.metrics, run.info.status, sorted(names))
    return found


def test_report_and_figure(smoke: Smoke, tmp_path: Path) -> None:
    store, _ = smoke
    written = ablate("report", "smoke", "--store", store, "--out", tmp_path / "page.html")
    assert written.stdout.strip() == str(tmp_path / "page.html"), written.stderr
    assert "Does a strong KL weight cost PSNR?</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    drawn = ablate("figure", "smoke", "--store", store, "--kind", "effects", cwd=tmp_path)
    assert drawn.stdout.strip() == "smoke-effects.pdf" and (tmp_path / "smoke-effects.pdf").stat().st_size > 1000
    refused = ablate("figure", "smoke", "--store", store, "--kind", "effect")
    assert refused.returncode == 2 and "did you mean 'effects'?" in " ".join(refused.stderr.split())


def test_check_reports_every_error_as_json(write_study: Write) -> None:
    path = write_study(("padding: reflect", "padding: refelct"), ("seeds: 2", "seeds: 0"))
    done = ablate("check", path, "--json")
    assert done.returncode == 2
    (first, *_) = json.loads(done.stdout)["errors"]
    assert set(first) == {"file", "line", "column", "message"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ((("padding: reflect", "padding: refelct"),), "did you mean 'reflect'?"),
        ((("level: leaves", "level: folder, path: nowhere"),), "nowhere"),
        ((("kl: 1e-4}", "kl: 1e-4, perceptual: {weight: 1, weights: /none/vgg16.pth}}"),), "/none/vgg16.pth"),
        ((("crop: 16", "crop: 15"),), "crop must be a multiple of the stride 2"),
        ((("groups: 4", "groups: 3"),), "the model cannot be built"),
    ],
)
def test_bad_input_stops_before_anything_starts(
    write_study: Write, tmp_path: Path, changes: tuple[tuple[str, str], ...], words: str
) -> None:
    store = tmp_path / "runs"
    done = ablate("sweep", write_study(*changes), "--store", store)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (store / "studies").exists() and not (store / "stages").exists() and not (store / "mlflow.db").exists()


def test_pictures_that_do_not_fit_are_named_and_counted(write_study: Write, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8)).save(folder / f"small{i}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    done = ablate(
        "sweep", write_study(("level: leaves", f"level: folder, path: {folder}")), "--store", tmp_path / "runs"
    )
    assert done.returncode == 2 and "small0.png" in done.stderr and "broken.png" in done.stderr


def test_another_study_of_the_same_name_is_refused(smoke: Smoke, write_study: Write) -> None:
    store, _ = smoke
    done = ablate("sweep", write_study(("study: tiny", "study: smoke"), ("Does", "Why does")), "--store", store)
    assert done.returncode == 2 and "another study named 'smoke'" in done.stderr
    assert document("status", "smoke", "--store", store)["trials"]["done"] == 4


def test_a_cluster_that_is_not_there_is_said_at_once(write_study: Write, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = ablate("sweep", write_study(), "--store", tmp_path, "--tracking", "none", "--address", f"127.0.0.1:{port}")
    assert done.returncode == 2 and f"there is no Ray cluster at 127.0.0.1:{port}" in done.stderr


def test_ray_may_have_been_imported_before_its_variables_were_set(write_study: Write, tmp_path: Path) -> None:
    """As in a notebook, and after another cluster in this process; Ray's server and client then disagreed on tokens."""
    study = write_study(("seeds: 2", "seeds: 1"), ("steps: 6", "steps: 2"))
    done = ablate("sweep", study, "--store", tmp_path, "--tracking", "none", env={"RAY_AUTH_MODE": "token"})
    assert done.returncode == 0, done.stderr
