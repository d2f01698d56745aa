"""Files whose content decides results: what was made from other content is stale, refused or begun again."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

from ablate.adaptive.recall import plan_study
from ablate.analysis.tables.build import build_table
from ablate.components.loss import perceptual
from ablate.data import content
from ablate.data.content import describe_change, files_below, hash_files
from ablate.data.prepare import prepare
from ablate.driver.overview import count_statuses, describe_trial, summarise
from ablate.driver.plan_text import print_plan
from ablate.driver.sweep import tell_stale
from ablate.driver.tables import Look, study_table
from ablate.engine.content import ContentChanged
from ablate.engine.run import run_trial
from ablate.engine.stages import cached_corpus
from ablate.errors import StoreError, UsageError
from ablate.plan.stale import set_aside
from ablate.plan.trials import Trial, pending
from ablate.schedule.inline import run_inline
from ablate.schedule.resources import Resources
from ablate.store.files import write_json
from ablate.store.folders import Store
from ablate.store.record import Record, read_header
from ablate.study.study import Study, load_study
from tests.support.studies import Write
from tests.support.training import CPU, run_to_end, run_until

LEAVES = "{level: leaves, crop: 16, resize: none, heldout_size: 32, heldout_count: 4}"


def draw(path: Path, seed: int, side: int = 40) -> None:
    """A picture of noise, uncompressed: all of one side have the same size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "BMP")


def as_old(folder: Path) -> None:
    """Let an hour seem to have passed since the files were written: their hashes are kept from now on."""
    for path in folder.rglob("*"):
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 3_600_000_000_000))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(6):
        draw(tmp_path / "pictures" / f"{i}.bmp", i)
    as_old(tmp_path / "pictures")
    return tmp_path / "pictures"


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes are kept at once, though ctime cannot be set back."""
    monkeypatch.setattr(content, "SETTLED_NS", -3_600_000_000_000)


@pytest.fixture
def study_of(write_study: Write, pictures: Path) -> Callable[..., Study]:
    """The tiny study on these pictures, with one seed unless it is given more."""
    data = LEAVES.replace("leaves", f"folder, path: {pictures}")

    def load(*more: tuple[str, str], seeds: int = 1) -> Study:
        return load_study(write_study((LEAVES, data), ("seeds: 2", f"seeds: {seeds}"), *more))

    return load


def run_all(study: Study, store: Store) -> list[Trial]:
    trials = plan_study(study, store).ready
    run_inline(pending(trials, store), store, Resources(), lambda event: None)
    assert not pending(trials, store)
    return trials


def record_of(trial: Trial, store: Store) -> Record:
    record = store.stage(trial.signature).record()
    assert record
    return record


def changed(study: Study, store: Store) -> list[str]:
    """What `status` names as changed; the count of stale trials and the plan must agree with it."""
    found = count_statuses(plan_study(study, store))
    summary = summarise(plan_study(study, store))
    assert found["changed"] == summary["changed"] and bool(found["trials"]["stale"]) == bool(summary["stale"])
    return list(found["changed"])


def replaced(path: Path) -> None:
    draw(path / "0.bmp", 100)


def renamed(path: Path) -> None:
    (path / "0.bmp").rename(path / "9.bmp")


def added(path: Path) -> None:
    draw(path / "deep" / "6.bmp", 6)


def removed(path: Path) -> None:
    (path / "0.bmp").unlink()


def exchanged(path: Path) -> None:
    """Two pictures exchange their names: the same files, the same contents, but other pixels by each name."""
    (path / "0.bmp").rename(path / "x")
    (path / "1.bmp").rename(path / "0.bmp")
    (path / "x").rename(path / "1.bmp")


def larger_with_old_time(path: Path) -> None:
    stat = (path / "0.bmp").stat()
    draw(path / "0.bmp", 100, 44)
    os.utime(path / "0.bmp", ns=(stat.st_atime_ns, stat.st_mtime_ns))


def same_size_and_old_time(path: Path) -> None:
    stat = (path / "0.bmp").stat()
    draw(path / "0.bmp", 100)
    os.utime(path / "0.bmp", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path / "0.bmp").stat().st_size == stat.st_size
    assert (path / "0.bmp").stat().st_mtime_ns == stat.st_mtime_ns


def touched(path: Path) -> None:
    os.utime(path / "0.bmp")


def rewritten(path: Path) -> None:
    (path / "0.bmp").write_bytes((path / "0.bmp").read_bytes())


def littered(path: Path) -> None:
    (path / "notes.txt").write_text("none of the pictures")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replaced, "(of 6 files 1 replaced (0.bmp))"),
        (renamed, "(of 6 files 1 renamed (0.bmp to 9.bmp))"),
        (added, "(of 6 files 1 new (deep/6.bmp))"),
        (removed, "(of 6 files 1 gone (0.bmp))"),
        (exchanged, "(of 6 files 2 replaced (0.bmp, 1.bmp))"),
        (larger_with_old_time, "(of 6 files 1 replaced (0.bmp))"),
        (same_size_and_old_time, "(of 6 files 1 replaced (0.bmp))"),
        (touched, ""),
        (rewritten, ""),
        (littered, ""),
    ],
)
def test_what_makes_a_trial_stale(
    change: Callable[[Path], None], said: str, study_of: Callable[..., Study], pictures: Path, tmp_path: Path
) -> None:
    """And the prepared pictures: those of changed files are not taken for those of the present ones."""
    study = study_of()
    store = Store(tmp_path / "runs")
    part = study.recipe({}).parts["data"]
    before = prepare(part.level, part.settings.plain(), store.data)
    source = f"data/folder {pictures}"
    assert before.content and before.content.source == source
    trial = plan_study(study, store).ready[0]
    store.stage(trial.signature).finish(
        Record(trial.signature, 0, "done", "", 6, {"psnr": 20.0}, probes=trial.probe_keys,
               content={source: before.content.digest})
    )  # fmt: skip
    write_json(store.content(before.content.digest), {"files": before.content.files})
    assert changed(study, store) == []
    change(pictures)
    assert changed(study, store) == ([f"{source} {said}"] if said else [])
    after = prepare(part.level, part.settings.plain(), store.data)
    assert (after.fingerprint == before.fingerprint) == (not said)


def test_planning_reads_no_file_twice(
    study_of: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    hash_file = content._hash
    monkeypatch.setattr(content, "_hash", lambda path: (read.append(path), hash_file(path))[1])
    study, store = study_of(), Store(tmp_path / "runs")
    run_all(study, store)
    assert len(read) == 6
    for _ in range(2):
        assert changed(study, store) == []
    assert len(read) == 6


def test_a_row_on_other_pictures_is_not_paired_silently(
    study_of: Callable[..., Study], pictures: Path, tmp_path: Path
) -> None:
    """The whole way: a row is added after the pictures were replaced, then all is made again."""
    store = Store(tmp_path / "runs")
    first = study_of(("[1, 1e-4]", "[1, 1e-4]"))
    trials = run_all(first, store)
    assert not build_table(plan_study(first, store)).mixed
    replaced(pictures)
    more = study_of(("[1, 1e-4]", "[1, 1e-4, 0.1]"))
    said = f"data/folder {pictures} (of 6 files 1 replaced (0.bmp))"

    # Told before it runs, and by plan
    lines = Console(record=True, width=2000, file=io.StringIO())
    plan = plan_study(more, store)
    tell_stale(plan, lines)
    print_plan(plan, summarise(plan), lines)
    text = lines.export_text()
    assert f"2 finished trials are stale: {said} changed since" in text
    assert f"2 trials are stale: {said} changed since" in text and "--rerun stale" in text

    # The table refuses and names what differs
    run_all(more, store)
    table = build_table(plan_study(more, store))
    assert f"the trials were made from different data: {said}" in table.mixed
    assert table.mixed in table.layout.warnings
    with pytest.raises(UsageError, match=r"from different data.*--mixed-code"):
        study_table(plan_study(more, store), None, None, Look())
    study_table(plan_study(more, store), None, None, Look(), mixed=True)
    with_row = {trial.signature: record_of(trial, store).content for trial in plan_study(more, store).ready}
    assert len({str(found) for found in with_row.values()}) == 2

    # Made again
    ready = plan_study(more, store).ready
    assert {trial.signature for trial in set_aside(ready, store)} == {trial.signature for trial in trials}
    run_all(more, store)
    table = build_table(plan_study(more, store))
    assert not table.mixed and changed(more, store) == []
    assert "different data" not in table.markdown() and "changed since" not in table.markdown()


def test_one_that_has_changed_for_all_rows_is_told(
    study_of: Callable[..., Study], pictures: Path, tmp_path: Path
) -> None:
    store, study = Store(tmp_path / "runs"), study_of()
    run_all(study, store)
    replaced(pictures)
    table = build_table(plan_study(study, store))
    assert not table.mixed and any("0.bmp)) has changed since" in text for text in table.layout.warnings)
    described = describe_trial(plan_study(study, store).ready[0], store)
    assert described["stale"] and described["changed"] and described["content"]


def test_pictures_that_are_gone_make_nothing_stale(
    study_of: Callable[..., Study], pictures: Path, tmp_path: Path
) -> None:
    """A colleague who has the store alone reads its table."""
    store, study = Store(tmp_path / "runs"), study_of()
    run_all(study, store)
    shutil.rmtree(pictures)
    assert changed(study, store) == []
    assert not build_table(plan_study(study, store)).layout.warnings


def test_other_files_under_the_same_relative_path(
    write_study: Write, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(
        write_study((LEAVES, LEAVES.replace("leaves", "folder, path: pictures")), ("seeds: 2", "seeds: 1"))
    )
    store = Store(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    run_all(study, store)
    for i in range(6):
        draw(tmp_path / "elsewhere" / "pictures" / f"{i}.bmp", 50 + i)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert changed(study, store) == ["data/folder pictures (of 6 files 6 replaced (0.bmp, 1.bmp, 2.bmp, …))"]
    shutil.copytree(tmp_path / "pictures", tmp_path / "third" / "pictures")
    monkeypatch.chdir(tmp_path / "third")
    assert changed(study, store) == []


STAGES = (
    "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}",
    "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 1, checkpoint_every: 3}\n"
    "  - tune: {steps: 2, batch: 2, lr: 1e-3}",
)


def test_a_stage_is_not_continued_on_other_pictures(
    study_of: Callable[..., Study], pictures: Path, tmp_path: Path
) -> None:
    """Neither by a worker nor by a sweep; with --rerun stale it is begun again and equals an undisturbed run."""
    store, study = Store(tmp_path / "runs"), study_of(STAGES)
    trial = plan_study(study, store).ready[0]
    run_until(5, trial, store)
    header = read_header(store.stage(trial.signatures[0]).checkpoint)
    assert header and header["step"] == 3 and header["content"]
    replaced(pictures)
    cached_corpus.cache_clear()  # as in a new process
    result = run_trial(trial.order(), store, CPU, 1, lambda progress: None)
    assert result.status == "failed" and result.reason.startswith(ContentChanged.__name__)
    assert "0.bmp" in result.reason and "--rerun stale" in result.reason
    with pytest.raises(StoreError, match=r"would go on from what was made before.*0\.bmp.*--rerun stale"):
        tell_stale(plan_study(study, store), Console(quiet=True))
    assert changed(study, store) and summarise(plan_study(study, store))["begun"] == 1
    assert set_aside([trial], store) == [trial]
    tell_stale(plan_study(study, store), Console(quiet=True))
    found = run_to_end(trial, store)
    expected = run_to_end(trial, Store(tmp_path / "fresh"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_process_that_holds_the_old_pictures_may_go_on(
    study_of: Callable[..., Study], pictures: Path, tmp_path: Path
) -> None:
    """It trains on what it has opened, says so in the record, and the trial is stale afterwards."""
    store, study = Store(tmp_path / "runs"), study_of(STAGES)
    trial = plan_study(study, store).ready[0]
    run_until(5, trial, store)
    replaced(pictures)
    found = run_to_end(trial, store)
    assert changed(study, store)
    draw(pictures / "0.bmp", 0)
    assert not changed(study, store)
    expected = run_to_end(trial, Store(tmp_path / "fresh"))
    assert all(torch.equal(found[name], expected[name]) for name in expected if name.startswith("model."))


def test_the_children_of_a_base_on_other_pictures(
    study_of: Callable[..., Study], pictures: Path, tmp_path: Path
) -> None:
    """Two rows share a base: the finished row is stale, the other is refused rather than built on the old base."""
    store = Store(tmp_path / "runs")
    study = study_of(STAGES, ("  loss.kl: [1, 1e-4]", "  stages.tune.lr: [1e-3, 1e-4]"))
    base, child = plan_study(study, store).ready
    assert base.signatures[0] == child.signatures[0]
    run_to_end(base, store)
    replaced(pictures)
    stale = plan_study(study, store).stale
    assert [trial.name for trial in stale.finished] == [base.name]
    assert [trial.name for trial in stale.begun] == [child.name]
    cached_corpus.cache_clear()
    assert "ContentChanged" in run_trial(child.order(), store, CPU, 1, lambda progress: None).reason
    set_aside([base, child], store)
    assert not store.stage(base.signatures[0]).root.exists()
    run_all(study, store)
    assert changed(study, store) == []
    assert record_of(base, store).content == record_of(child, store).content


def test_a_new_probe_does_not_look_at_other_pictures(
    study_of: Callable[..., Study], pictures: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "runs")
    run_all(study_of(), store)
    replaced(pictures)
    more = study_of(("[reconstruction]", "[reconstruction, color]"))
    assert len(plan_study(more, store).stale.begun) == 2
    with pytest.raises(StoreError, match="--rerun stale"):
        tell_stale(plan_study(more, store), Console(quiet=True))


def test_an_old_record_says_nothing_of_content(study_of: Callable[..., Study], pictures: Path, tmp_path: Path) -> None:
    store, study = Store(tmp_path / "runs"), study_of()
    for trial in run_all(study, store):
        record = record_of(trial, store)
        record.content = {}
        store.stage(trial.signature).finish(record)
    replaced(pictures)
    assert changed(study, store) == []


def released(folder: Path, seed: int) -> None:
    """A diffusers folder with weights of the tiny study's model."""
    import diffusers

    torch.manual_seed(seed)
    vae = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 8], latent_channels=4, layers_per_block=1, norm_num_groups=4,
    )  # fmt: skip
    vae.save_pretrained(folder)


@pytest.mark.parametrize("inside", ["", "vae"])
def test_weights_that_training_starts_from(inside: str, write_study: Write, tmp_path: Path) -> None:
    """A retrained checkpoint, alone or in the folder of a pipeline, whose other files do not matter."""
    released(tmp_path / "sd" / inside, 0)
    init = f"  padding: zeros\n  init: {{level: checkpoint, path: {tmp_path / 'sd'}}}"
    study = load_study(write_study(("  padding: reflect", init), ("seeds: 2", "seeds: 1")))
    store = Store(tmp_path / "runs")
    trials = run_all(study, store)
    file = "/".join(filter(None, [inside, "diffusion_pytorch_model.safetensors"]))
    source = f"init/checkpoint {tmp_path / 'sd'}/{file}"
    config = source.replace("diffusion_pytorch_model.safetensors", "config.json")
    assert set(record_of(trials[0], store).content) == {source, config}
    (tmp_path / "sd" / "README.md").write_text("a model")
    assert changed(study, store) == []
    released(tmp_path / "sd" / inside, 1)
    assert changed(study, store) == [f"{source} (the file was replaced by another)"]
    assert len(set_aside(trials, store)) == 2 and len(pending(trials, store)) == 2


def test_weights_of_a_probe(write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the probe is run again, and only what names the file is stale."""
    store = Store(tmp_path / "runs")
    own = tmp_path / "components" / "probe"
    own.mkdir(parents=True)
    (own / "scaled.py").write_text(
        '"""A scale from a file times the brightness."""\n'
        "from pathlib import Path\n"
        "from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject\n\n"
        'METRICS = (Metric("scaled/mean", "1", "none", "the scale times the mean"),)\n\n\n'
        'class Config(ProbeSettings):\n    """`weights`: a file with a number."""\n\n    weights: str\n\n\n'
        "def build(config: Config) -> Probe:\n"
        "    scale = float(Path(config.weights).read_text())\n"
        '    return lambda subject: ProbeResult({"scaled/mean": scale * subject.images.mean().item()})\n'
    )
    (tmp_path / "scale.txt").write_text("2")
    probe = f"[reconstruction, {{level: scaled, weights: {tmp_path / 'scale.txt'}}}]"
    study = load_study(write_study(("[reconstruction]", probe), ("seeds: 2", "seeds: 1")))
    trials = run_all(study, store)
    before = record_of(trials[0], store)
    made = store.stage(trials[0].signature).checkpoint.stat().st_mtime_ns
    (tmp_path / "scale.txt").write_text("4")
    source = f"probe/scaled {tmp_path / 'scale.txt'}"
    assert changed(study, store) == [f"{source} (the file was replaced by another)"]
    assert set_aside(trials, store) == trials
    run_all(study, store)
    after = record_of(trials[0], store)
    assert after.metrics["scaled/mean"] == pytest.approx(2 * before.metrics["scaled/mean"])
    assert store.stage(trials[0].signature).checkpoint.stat().st_mtime_ns == made and changed(study, store) == []


def test_weights_of_a_loss_are_those_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "vgg.pth"
    save_file({"a": torch.zeros(1)}, file)
    assert perceptual.Config(weight=1.0, backbone="lpips", weights=str(file)).content_paths() == {str(file): file}
    assert perceptual.Config(weight=1.0, backbone="random_features", weights=str(file)).content_paths() == {}
    default = perceptual.Config(weight=1.0, backbone="lpips")
    assert list(default.content_paths()) == ["vgg16-397923af.pth"]
    for settings, name in (
        ({"backbone": "stlpips"}, "vgg_shift_tolerant.pth"),
        ({"backbone": "stlpips", "trunk": "alex"}, "alex_shift_tolerant.pth"),
        ({"backbone": "efficientnet"}, "efficientnet-lite0-57934424.pth"),
    ):
        assert [
            (key, path.name) for key, path in perceptual.Config(weight=1.0, **settings).content_paths().items()
        ] == [(name, name)]
        assert perceptual.Config(weight=0.0, **settings).content_paths() == {}


def test_hashes_know_a_file_by_all_its_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is hashed once; a damaged memory is not believed; a file that has just changed is read again."""
    read: list[str] = []
    hash_file = content._hash
    monkeypatch.setattr(content, "_hash", lambda path: (read.append(path), hash_file(path))[1])
    file = tmp_path / "a.bin"
    file.write_bytes(b"one")
    first = hash_files({"a": file}, tmp_path / "data")
    assert hash_files({"a": file}, tmp_path / "data") == first and len(read) == 1
    memory = next((tmp_path / "hashes").glob("*.json"))
    memory.write_text(memory.read_text().replace(first["a"], "0" * 32))
    assert hash_files({"a": file}, tmp_path / "data") == first and len(read) == 2
    monkeypatch.setattr(content, "SETTLED_NS", 2_000_000_000)
    memory.unlink()
    for _ in range(2):
        hash_files({"a": file}, tmp_path / "data")
    assert len(read) == 4 and not memory.exists()
    assert json.dumps(hash_files({"b": tmp_path / "none"}, tmp_path / "data")) == '{"b": "unreadable"}'


def test_folders_are_listed_without_circles(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a").write_text("a")
    (tmp_path / "in" / ".DS_Store").write_text("")
    (tmp_path / "in" / "deep" / "loop").symlink_to(tmp_path / "in")
    assert list(files_below(tmp_path / "in")) == ["deep/a"]


def test_a_change_in_words() -> None:
    before = {"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"}
    now = {"a": "1", "b": "9", "x": "3", "f": "6", "e": "5"}
    assert describe_change(before, now) == "of 5 files 1 replaced (b), 1 renamed (c to x), 1 gone (d), 1 new (f)"
