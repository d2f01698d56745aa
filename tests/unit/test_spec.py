"""Studies: what is read, and that every error names its place, what was found and what would be valid."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from ablate.driver import catalogue
from ablate.driver.preflight import validate
from ablate.errors import StudyError
from ablate.plan.trials import expand
from ablate.study.document import read_document
from ablate.study.study import load_study
from tests.support.studies import Write


def errors(path: Path, *overrides: str, scale: str | None = None) -> list[str]:
    with pytest.raises(StudyError) as error:
        load_study(path, scale, overrides)
    return [f"{p.line}:{p.column}: {p.message}" if p.line else f"{p.file}: {p.message}" for p in error.value.problems]


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("padding: reflect", "padding: refelct", "7:12", ["unknown level 'refelct' of padding", "mean 'reflect'?"]),
        ("padding: reflect", "paddding: reflect", "7:3", ["unknown slot 'paddding'", "did you mean 'padding'?"]),
        ("groups: 4", "group: 4", "6:24", ["unknown setting 'group' of norm 'group'", "did you mean 'groups'?"]),
        ("groups: 4", "groups: true", "6:32", ["norm 'group'.groups: expected a whole number, found true"]),
        ("groups: 4", "groups: 4.5", "6:32", ["norm 'group'.groups", "found 4.5"]),
        ("kl: 1e-4}", "kll: 1e-4}", "8:19", ["unknown loss term 'kll'", "did you mean 'kl'?"]),
        ("kl: 1e-4}", "kl: no}", "8:23", ["loss.kl.weight", "number", "found 'no'"]),
        ("kl: 1e-4}", "kl: -1}", "8:23", ["loss.kl.weight: expected a number of at least 0, found -1"]),
        ("loss.kl: [1, 1e-4]", "loss.kll: [1, 1e-4]", "10:3", ["unknown loss term 'kll' in 'loss.kll'", "'kl'"]),
        ("loss.kl: [1, 1e-4]", "nrom: [group, scn]", "10:3", ["unknown slot 'nrom' in 'nrom'", "did you mean 'norm'?"]),
        ("loss.kl: [1, 1e-4]", "norm: [group, snc]", "10:17", ["unknown level 'snc' of norm", "'scn'"]),
        ("loss.kl: [1, 1e-4]", "stages.train.stepz: [1, 2]", "10:3", ["unknown setting 'stepz'", "'steps'"]),
        ("loss.kl: [1, 1e-4]", "stages.trian.steps: [1, 2]", "10:3", ["unknown stage 'trian'", "'train'"]),
        ("loss.kl: [1, 1e-4]", "loss.kl: [1]", "10:3", ["has 1 level; it needs at least two"]),
        ("loss.kl: [1, 1e-4]", "loss.kl: [1, 1.0]", "10:3", ["names a level twice"]),
        ("seeds: 2", "seeds: 2\ndesign: lader", "12:9", ["unknown design 'lader'", "did you mean 'ladder'?"]),
        ("seeds: 2", "seeds: 2\ndesign: [grid, lader]", "12:16", ["unknown design 'lader'", "(valid: fraction, "]),
        ("seeds: 2", "seeds: 2\ndesign: [grid, list]", "12:16", ["'list' cannot be combined with another design"]),
        ("seeds: 2", "seeds: 2\ndesign: [grid, ladder, grid]", "12:24", ["design 'grid' is named twice"]),
        ("seeds: 2", "seeds: 2\ndesign: []", "12:9", ["design: expected at least one"]),
        ("seeds: 2", "seeds: 2\ndesign: 3", "12:9", ["design: expected a design, found 3"]),
        (
            "[1, 1e-4]", "[1, 1e-4, 1e-6]\ndesign: ladder", "10:3",
            ["design 'ladder' needs exactly one level besides the baseline's; 'loss.kl' has 2"],
        ),
        (
            "[1, 1e-4]", "[1e-4]\ndesign: [one_at_a_time, leave_one_out]", "10:3",
            ["design 'leave_one_out' needs exactly one level besides the baseline's; 'loss.kl' has 0"],
        ),
        ("seeds: 2", "seeds: 0", "11:8", ["expected a count or distinct numbers", "found 0"]),
        ("seeds: 2", "seeds: two", "11:8", ["seeds: expected a count or distinct numbers from 0", "found 'two'"]),
        ("seeds: 2", "sedes: 2", "11:1", ["unknown key 'sedes'", "did you mean 'seeds'?"]),
        ("steps: 6", "steps: -1", "13:20", ["stage 'train'.steps: expected a number of at least 0, found -1"]),
        ("steps: 6", "steps: 0", "13:20", ["every stage has 0 steps"]),
        ("batch: 2", "batch: 2, freeze: encoder", "13:41", ["stage 'train' freezes the encoder", "no stage before"]),
        (
            "kl: 1e-4}",
            "adversarial: {weight: 1, start: 2}}\n  discriminator: {level: patchgan, layers: 2, start: 3}",
            "8:32",
            ["enters at step 2, before", "start 3"],
        ),
        (
            "kl: 1e-4}",
            "kl: 1e-4}\n  regularizer: {level: hf_penalty, strength: 1, block: 3}",
            "9:16",
            ["'hf_penalty' needs its latents' side to be a multiple of 3", "found 8 (crop 16, stride 2)"],
        ),
        ("kl: 1e-4}", "adversarial: 1}", "4:51", ["needs crops of 24 px or more", "found 16"]),
        ("steps: 6, ", "", "13:12", ["stage 'train' needs the setting 'steps'"]),
        ("probes: [reconstruction]", "probes: [reconstrution]", "14:10", ["unknown level 'reconstrution' of probe"]),
        ("primary: psnr", "primary: psrn", "15:10", ["none of the probes reports 'psrn'", "did you mean 'psnr'?"]),
        ("study: tiny", "study: tiny/one", "1:8", ["study", "found 'tiny/one'"]),
        ("  - train", "  - train: {steps: 1, lr: 1}\n  - train", "14:5", ["two stages are named 'train'"]),
    ],
)  # fmt: skip
def test_errors_name_place_found_and_expected(
    write_study: Write, old: str, new: str, place: str, words: list[str]
) -> None:
    found = errors(write_study((old, new)))
    assert len(found) == 1, found
    assert found[0].startswith(f"{place}: "), found
    for word in words:
        assert word in found[0], found


def test_all_errors_come_at_once(write_study: Write) -> None:
    found = errors(
        write_study(("padding: reflect", "padding: refelct"), ("groups: 4", "group: 4"), ("steps: 6", "steps: -1"))
    )
    assert [line.split(":")[0] for line in found] == ["6", "7", "13"]


def test_missing_keys_and_files(write_study: Write, tmp_path: Path) -> None:
    assert errors(write_study(("primary: psnr\n", ""))) == ["1:1: the key 'primary' is missing"]
    expected = f"{tmp_path / 'none.yaml'}: cannot read the study: no such file; ablate init writes one to begin with"
    assert errors(tmp_path / "none.yaml") == [expected]


def test_contradictions_between_slots(write_study: Write) -> None:
    found = errors(write_study(("kl: 1e-4}", "kl: 1e-4, adversarial: 0.1}\n  discriminator: none")))
    assert "needs a discriminator" in found[0]
    assert "nothing to train on" in errors(write_study(("l2: 1.0, kl: 1e-4", "l2: 0")))[0]


def test_overrides_are_checked_and_named(write_study: Write) -> None:
    path = write_study()
    assert load_study(path, overrides=["loss.kl=1e-2"]).baseline.value("loss.kl") == 0.01
    assert load_study(path, overrides=["norm=scn"]).baseline.identity()["norm"] == {"level": "scn", "groups": 4}
    assert errors(path, "loss.kll=1")[0].startswith("--set loss.kll=1: unknown loss term 'kll'")
    assert errors(path, "stages.train.steps=x")[0].startswith("--set stages.train.steps=x: stage 'train'.steps")
    assert errors(path, "nothing")[0] == "--set nothing: expected PATH=VALUE, found 'nothing'"


def test_scales(write_study: Write) -> None:
    scales = "scales:\n  cpu: {stages.train.steps: 4}\n  gpu: {data.crop: 32}\nprimary: psnr"
    path = write_study(("primary: psnr", scales))
    cpu = load_study(path)
    assert (cpu.scale, cpu.baseline.value("stages.train.steps")) == ("cpu", 4)
    assert load_study(path, gpu=True).scale == "gpu"
    assert load_study(path, "gpu").baseline.value("data.crop") == 32
    assert "unknown scale 'gpuu'; did you mean 'gpu'?" in errors(path, scale="gpuu")[0]
    assert load_study(write_study()).scale == "base"


def test_every_scale_is_checked_even_if_another_is_used(write_study: Write) -> None:
    path = write_study(("primary: psnr", "scales:\n  cpu: {}\n  paper: {data.crop: big, moddel.z: 1}\nprimary: psnr"))
    found = errors(path, scale="cpu")
    assert len(found) == 2
    assert found[0].startswith("17:22: data 'leaves'.crop: expected a whole number, found 'big'")
    assert found[1].startswith("17:27: unknown slot 'moddel'")
    path = write_study(("primary: psnr", "scales:\n  cpu: {}\n  paper: {data.crop: big}\nprimary: psnr"))
    assert errors(path, scale="cpu")[0].startswith("17:22: data 'leaves'.crop")


def test_pictures_too_small_for_a_probe_are_named_at_any_scale(write_study: Write) -> None:
    small = ("probes: [reconstruction]", "probes: [reconstruction, blur]\nscales:\n  tiny: {data.heldout_size: 24}")
    with pytest.raises(StudyError) as caught:
        validate(read_document(write_study(small)), None, (), gpu=False)
    assert [problem.message for problem in caught.value.problems] == [
        "probe 'blur' needs held-out pictures of 32 px or more at stride 2, found data.heldout_size 24 "
        "(treatment 'baseline', scale tiny)"
    ]
    assert (caught.value.problems[0].line, caught.value.problems[0].column) == (16, 29)
    with pytest.raises(StudyError, match="probe 'blur'"):
        validate(read_document(write_study(small)), "tiny", (), gpu=False)
    assert validate(read_document(write_study()), None, (), gpu=False).notes == []


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("{level: leaves, ", "pictures"),
        ("{level: moving_leaves, size: 32, heldout_frames: 12, ", "data.heldout_frames 12"),
    ],
)
def test_probes_of_clips_say_how_long_these_must_be(write_study: Write, data: str, found: str) -> None:
    changes = [("{level: leaves, ", data), ("probes: [reconstruction]", "probes: [reconstruction, clip, balance]")]
    if "moving" in data:
        changes += [("image_kl, channels: [8, 8]", "video_kl, channels: [8, 8, 8]"), ("group, groups: 4", "rms")]
    with pytest.raises(StudyError) as caught:
        validate(read_document(write_study(*changes)), None, (), gpu=False)
    expected = f"probe 'balance' needs held-out clips of 16 frames or more, found {found} (treatment 'baseline'"
    assert any(expected in problem.message for problem in caught.value.problems)
    assert len(caught.value.problems) == (2 if found == "pictures" else 1)


def test_scales_and_overrides_may_name_seeds(write_study: Write) -> None:
    path = write_study(("primary: psnr", "primary: psnr\nscales:\n  gpu: {seeds: 5}"))
    assert load_study(path).seeds == (0, 1)
    assert load_study(path, "gpu").seeds == (0, 1, 2, 3, 4)
    assert load_study(path, "gpu", ["seeds=[3, 7]"]).seeds == (3, 7)
    for value in ("0", "x", "[1, 1]", "[-1]", "2.5", "true"):
        with pytest.raises(StudyError, match="seeds: expected a count or distinct numbers from 0"):
            load_study(path, None, [f"seeds={value}"])
    with pytest.raises(StudyError, match=r"seeds: bounds such as \{from: 2, to: 4\} are for the file only"):
        load_study(path, None, ["seeds={from: 2, to: 4}"])
    with pytest.raises(StudyError, match=r"--set seed=3: unknown slot 'seed' in 'seed'; did you mean 'seeds'"):
        load_study(path, None, ["seed=3"])
    with pytest.raises(StudyError, match=r"tiny.yaml:17:9: seeds: expected a count"):
        load_study(write_study(("primary: psnr", "primary: psnr\nscales:\n  gpu: {seeds: 0}")))


def test_schema_accepts_the_studies_of_the_repository_and_refuses_a_typo() -> None:
    schema = json.loads(json.dumps(catalogue.schema()))
    root = Path(__file__).parents[2] / "search_spaces"
    files = sorted(root.rglob("*.yaml"))
    assert len(files) >= 2
    from ablate.study.document import parse

    for file in files:
        jsonschema.validate(parse(file.read_text(), str(file)).data, schema)
    smoke = parse((root / "smoke.yaml").read_text(), "smoke.yaml").data
    for design in ("ladder", ["ladder", "leave_one_out"]):
        jsonschema.validate(smoke | {"design": design}, schema)
    for size in ({"resolution": 4}, {"runs": 8}):
        jsonschema.validate(smoke | {"design": "fraction", "fraction": size, "where": ["norm == 'scn'"]}, schema)
    for size in ({}, {"resolution": 4, "runs": 8}, {"resolution": 2}, {"run": 8}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(smoke | {"design": "fraction", "fraction": size}, schema)
    for wrong in ({"questoin": ""}, {"design": "lader"}, {"design": ["grid", "lader"]}, {"design": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(smoke | wrong, schema)


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "search_spaces").rglob("*.yaml")), ids=lambda p: p.stem
)
def test_every_study_of_the_repository_loads_at_every_scale(file: Path) -> None:
    study = load_study(file)
    for scale in study.document.data.get("scales", {}):
        assert load_study(file, scale).scale == scale
    assert study.name == file.stem
    if study.name in (listed := _listed_trials()):
        assert listed[study.name] == (study.search.trials if study.search else len(expand(study)))


def _listed_trials() -> dict[str, int]:
    """Study -> its number of trials, as the README of the studies has it."""
    text = (Path(__file__).parents[2] / "search_spaces" / "README.md").read_text(encoding="utf-8")
    return {study: int(trials) for study, trials in re.findall(r"^\| \[(\w+)\].*\| (\d+) \|$", text, re.MULTILINE)}


def test_the_readme_of_the_studies_lists_all_of_them() -> None:
    studies = {path.stem for path in (Path(__file__).parents[2] / "search_spaces").glob("*.yaml")}
    assert _listed_trials().keys() == studies


def test_scales_and_overrides_reach_the_settings_of_probes(write_study: Write) -> None:
    probes = ("probes: [reconstruction]", "probes: [reconstruction, diffusability]")
    scale = ("primary: psnr", "primary: psnr\nscales:\n  gpu: {probes.diffusability.budget: gpu}")
    path = write_study(probes, scale)
    found = load_study(path, "gpu", ["probes.diffusability.grid=8"]).probes[1].settings
    assert (found.budget, found.grid) == ("gpu", 8)
    for override, reason in (
        ("probes.diffusion.grid=8", "no probe 'diffusion' is run; did you mean 'diffusability'?"),
        ("probes.diffusability=8", "must be probes.PROBE.SETTING"),
        ("probes.diffusability.samples=100", "needs 256 samples or more, found 100"),
        ("probes.diffusability.gird=8", "unknown setting 'gird' of probe 'diffusability'; did you mean 'grid'?"),
    ):
        with pytest.raises(StudyError, match=re.escape(reason)):
            load_study(path, None, [override])
    with pytest.raises(StudyError, match="unknown slot 'probes'"):
        load_study(write_study(probes, ("loss.kl: [1, 1e-4]", "probes.diffusability.grid: [4, 8]")))
