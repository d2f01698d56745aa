"""Adding to a study runs what is new; trials whose code has changed since are rerun on demand, and nothing else."""

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ablate.adaptive.recall import plan_study
from ablate.driver.overview import count_statuses, summarise
from ablate.engine import provenance
from ablate.engine.provenance import component_sources
from ablate.plan.stale import is_stale, set_aside
from ablate.plan.trials import Trial, expand, pending
from ablate.schedule.inline import run_inline
from ablate.schedule.resources import Resources
from ablate.slots import fingerprint, registry
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.store.stage import StageFolder
from ablate.study.study import load_study
from tests.support.studies import Write
from tests.support.training import run_to_end, run_until

TUNE = (
    "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}",
    "  - train: {steps: 3, batch: 2, lr: 3e-3}\n  - tune: {steps: 2, batch: 2, lr: 1e-3}",
)


LEVELS = ("  loss.kl: [1, 1e-4]", "  stages.tune.lr: [1e-3, 1e-4]")


def recorded(store: Store, trial: Trial) -> Record:
    record = store.stage(trial.signature).record()
    assert record
    return record


def made_by_other_code(folder: StageFolder, *levels: str) -> None:
    record = folder.record()
    assert record
    record.code["components"] |= dict.fromkeys(levels, "another source")
    folder.finish(record)


def test_levels_and_seeds_that_are_added_are_all_that_is_run(write_study: Write, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    first = expand(load_study(write_study(("seeds: 2", "seeds: 1"))))
    for trial in first:
        store.stage(trial.signature).finish(Record(trial.signature, 0, "done", "", 6, probes=trial.probe_keys))
    more = expand(load_study(write_study(("kl: [1, 1e-4]", "kl: [1, 1e-4, 0.1]"))))
    assert [trial.name for trial in pending(more, store)] == ["baseline s1", "kl=0.1 s0", "kl=1 s1", "kl=0.1 s1"]


def test_what_other_code_has_made_is_redone(write_study: Write, tmp_path: Path) -> None:
    """Of two treatments with two seeds that share their first stages, one trial by another padding."""
    study, store = load_study(write_study(TUNE, LEVELS)), Store(tmp_path / "runs")
    trials = expand(study)
    run_inline(trials, store, Resources(), lambda event: None)
    before = {trial.name: recorded(store, trial) for trial in trials}
    assert set_aside(trials, store) == [] and pending(trials, store) == []
    made_by_other_code(store.stage(trials[0].signature), "padding/reflect")
    planned = summarise(plan_study(study, store), redo=True)
    assert planned["pending"] == 1 and summarise(plan_study(study, store))["pending"] == 0
    assert planned["estimate_s"] is not None and count_statuses(plan_study(study, store))["trials"]["stale"] == 1
    assert set_aside(trials, store) == [trials[0]] and pending(trials, store) == [trials[0]]
    for mark in trials[0].signatures:
        assert not store.stage(mark).root.exists() and (store.set_aside(mark) / "checkpoint.safetensors").exists()
    run_inline(pending(trials, store), store, Resources(), lambda event: None)
    for trial in trials:
        record = recorded(store, trial)
        assert not is_stale(record) and record.metrics == before[trial.name].metrics
        assert (record.train_s == before[trial.name].train_s) == (trial is not trials[0])


def test_where_only_a_probe_has_changed_nothing_is_trained(write_study: Write, tmp_path: Path) -> None:
    study = load_study(write_study(("seeds: 2", "seeds: 1"), ("[reconstruction]", "[reconstruction, color]")))
    trials, store = expand(study), Store(tmp_path / "runs")
    run_inline(trials, store, Resources(), lambda event: None)
    folder, before = store.stage(trials[1].signature), recorded(store, trials[1])
    made = folder.checkpoint.stat().st_mtime_ns
    made_by_other_code(folder, "probe/color")
    assert set_aside(trials, store) == [trials[1]] and pending(trials, store) == [trials[1]]
    assert set(recorded(store, trials[1]).probes) == {"reconstruction"}
    run_inline(pending(trials, store), store, Resources(), lambda event: None)
    after = recorded(store, trials[1])
    assert not is_stale(after) and after.metrics == before.metrics and after.probes == before.probes
    assert folder.checkpoint.stat().st_mtime_ns == made


def test_a_trial_that_two_versions_have_trained_is_stale(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage continued by other code, and a stage that starts from one that other code has trained."""
    trial = expand(load_study(write_study(TUNE, ("lr: 3e-3}", "lr: 3e-3, log_every: 1, checkpoint_every: 1}"))))[0]
    for step in (2, 5):  # of three in the first stage, and of two in the second
        store = Store(tmp_path / str(step))
        run_until(step, trial, store)
        with monkeypatch.context() as patch:
            patch.setattr(
                provenance, "component_sources", lambda order: {**component_sources(order), "norm/group": "x"}
            )
            run_to_end(trial, store)
        record = recorded(store, trial)
        assert record.code["components"]["norm/group"] == provenance.MIXED and is_stale(record)
        assert registry.changed(record.code["components"]) == ["norm/group"]
    store = Store(tmp_path / "whole")
    run_until(5, trial, store)
    run_to_end(trial, store)
    assert not is_stale(recorded(store, trial))


HELPERS = {
    "norm/mine.py": '''
        """A level."""
        from ablate.components.norm._near import near
        from ablate.slots import Settings

        class Config(Settings):
            """None."""

        def build(config):
            return near()
        ''',
    "norm/_near.py": """
        def near():
            from ..shared import far  # relative, within a function, by `from package import module`
            return far.far()
        """,
    "norm/_unrelated.py": "SIZE = 1\n",
    "shared/__init__.py": "",
    "shared/far.py": '''
        """Far away."""
        import ablate.components.norm._near  # a cycle

        def far():
            """One."""
            return 1  # one
        ''',
    "probe/mine.py": '''
        """A probe."""
        from ablate.components.probe._measure import measure
        from ablate.slots import Metric, ProbeSettings

        METRICS = (Metric("m", "", "up"),)

        class Config(ProbeSettings):
            """None."""

        def build(config):
            return measure
        ''',
    "probe/_measure.py": "def measure(subject):\n    return {}\n",
}


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """Two levels with helpers of their own, and how a file of theirs is edited: path, text, new text."""
    root = tmp_path / "components"
    for path, text in HELPERS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(textwrap.dedent(text).lstrip())

    def forget() -> None:
        registry.level.cache_clear()
        fingerprint.read_source.cache_clear()

    def change(path: str, old: str, new: str) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new))
        forget()

    monkeypatch.setattr(registry, "ROOT", root)
    forget()
    yield change
    forget()


@pytest.mark.parametrize(
    ("path", "old", "new", "stale"),
    [
        ("norm/mine.py", "return near()", "return near", ["norm/mine"]),
        ("norm/_near.py", "far.far()", "far.far() + 1", ["norm/mine"]),
        ("shared/far.py", "return 1", "return 2", ["norm/mine"]),
        ("shared/far.py", "return 1  # one", "return 1 - ", ["norm/mine"]),
        ("shared/far.py", '"""One."""', '"""The first of all numbers."""', []),
        ("shared/far.py", "    return 1  # one", "\n    return (\n        1\n    )", []),
        ("norm/_unrelated.py", "SIZE = 1", "SIZE = 2", []),
        ("probe/_measure.py", "return {}", "return {'m': 1}", ["probe/mine"]),
    ],
)
def test_an_edit_is_noticed_however_far_away(
    path: str, old: str, new: str, stale: list[str], edit: Callable[[str, str, str], None]
) -> None:
    made_by = {f"{slot}/mine": registry.level(slot, "mine").fingerprint for slot in ("norm", "probe")}
    record = Record("0", 0, "done", "", 6, code={"components": made_by})
    assert not is_stale(record)
    edit(path, old, new)
    assert registry.changed(made_by) == stale and is_stale(record) == bool(stale)


def test_a_level_that_is_gone_or_broken_counts_as_changed(edit: Callable[[str, str, str], None]) -> None:
    made_by = {"norm/mine": registry.level("norm", "mine").fingerprint, "norm/gone": "0" * 16}
    edit("norm/mine.py", "def build", "def biuld")
    assert registry.changed(made_by) == ["norm/mine", "norm/gone"]


def test_arguments_without_defaults_keep_their_place(tmp_path: Path) -> None:
    """`def f(*, a, b=1)` and `def f(*, a=1, b)` differ only in which default is absent."""
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text("def f(*, a, b=1): ...")
    second.write_text("def f(*, a=1, b): ...")
    assert fingerprint.read_source(first, "ablate.x").digest != fingerprint.read_source(second, "ablate.x").digest


def test_what_a_shipped_level_depends_on() -> None:
    """Helpers and the base classes that levels build on count; the registry and the engine do not."""
    root = registry.ROOT
    source = fingerprint.read_source(root / "norm" / "scn.py", "ablate.components.norm.scn")
    found = {fingerprint.defining_module(imported, root) for imported in source.imports}
    assert found == {"ablate.components.shared.layers", "ablate.slots.settings"}
    source = fingerprint.read_source(root / "branch" / "ktc.py", "ablate.components.branch.ktc")
    found = {fingerprint.defining_module(imported, root) for imported in source.imports}
    assert {"ablate.components.branch.single", "ablate.slots.video"} <= found and "ablate.slots" not in found
    assert root.parent / "components" == root


@pytest.mark.parametrize(
    ("more", "used"),
    [("", set()), (", l1: 0", set()), (", adversarial: 0.1", {"loss/adversarial", "discriminator/patchgan"})],
)
def test_what_took_no_part_is_no_component(more: str, used: set[str], write_study: Write) -> None:
    """A discriminator without its term, and terms of weight 0, make no record stale."""
    study = load_study(write_study(("kl: 1e-4}", f"kl: 1e-4{more}}}"), ("crop: 16", "crop: 24")))
    found = set(component_sources(expand(study)[0].order()))
    assert found & {"loss/l1", "loss/adversarial", "discriminator/patchgan"} == used
    assert {"loss/l2", "norm/group", "probe/reconstruction", "data/leaves"} <= found


def test_fingerprints_cost_little() -> None:
    """Each file is read once, whatever the number of records."""
    fingerprint.read_source.cache_clear()
    registry.level.cache_clear()
    everything = [(slot, name) for slot in registry.SLOTS for name in registry.levels(slot)]
    for _ in range(2):
        for slot, name in everything:
            assert registry.level(slot, name).fingerprint
    counted = (registry.ROOT, *(fingerprint.PACKAGE / name for name in ("slots", "data", "released", "store")))
    files = sum(1 for folder in counted for _ in folder.rglob("*.py"))
    read = fingerprint.read_source.cache_info()
    assert read.misses == read.currsize < files
