"""Errors of bad studies: all at once, each at its cause, the same from `check`, `plan` and `sweep`."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ablate.cli.main import main
from ablate.driver import models
from ablate.errors import StudyError, nearest
from ablate.plan.trials import expand
from ablate.recipe.stages import Train
from ablate.recipe.synonyms import SYNONYMS
from ablate.slots import registry
from ablate.study.document import read_document
from ablate.study.schema import CHOICES, StudyFile
from ablate.study.study import load_study

Write = Callable[..., Path]
Run = Callable[..., tuple[int, list[str]]]

FIVE = (
    ("level: leaves", "level: folder, path: nowhere"),
    ("padding: reflect", "paddding: reflect"),
    ("seeds: 2", "seeds: 0"),
    ("probes: [reconstruction]", "probes: [reconstrution]"),
    ("primary: psnr", "primary: psrn"),
)
SLOTS = ", ".join(sorted(slot for slot in registry.SLOTS if slot != "probe"))
PROBES = ", ".join(registry.levels("probe"))
SET = "set norm.groups"
BUILT = "the model cannot be built: norm:"
NOWHERE = "there is no folder nowhere in HERE; paths are relative to the folder in which the command runs"
COMMANDS = (["check"], ["plan"], ["plan", "--measure"], ["sweep", "--inline", "--tracking", "none"])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Run a command in this process: its exit code, and what it prints without the lines that quote the file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*arguments: str | Path) -> tuple[int, list[str]]:
        monkeypatch.setattr("sys.argv", ["ablate", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = (text.replace(f" in {tmp_path};", " in HERE;") for text in capsys.readouterr())
        lines = [line for line in (err + out).splitlines() if " | " not in line and line.strip() not in {"", "| ^"}]
        return int(exit_.value.code or 0), [line for line in lines if not line.strip().startswith("|")]

    yield call


def scales(text: str) -> tuple[str, str]:
    return "primary: psnr", f"primary: psnr\nscales:\n{text}"


FACTOR = "loss.kl: [1, 1e-4]"
STAGE = "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}"


@pytest.mark.parametrize(
    ("changes", "arguments", "expected"),
    [
        # The causes of models that cannot be built: base, factor, scale, --set; what is changed is named.
        ([("groups: 4", "groups: 3")], [], [
            f"6:9: {BUILT} 8 channels do not divide into 3 groups; {SET} (treatment 'baseline', scale base)"]),
        ([("  norm: {level: group, groups: 4}\n", "")], [], [
            f"5:10: {BUILT} 8 channels do not divide into 32 groups; {SET} (treatment 'baseline', scale base) "
            "(the file does not name norm, so this is its default level)"]),
        ([(FACTOR, "norm.groups: [4, 3, 8]")], [], [
            f"10:20: {BUILT} 8 channels do not divide into 3 groups; {SET} (treatment 'groups=3', scale base)"]),
        ([(FACTOR, "model.channels: [[8, 8], [8, 6]]")], [], [
            f"10:28: {BUILT} 6 channels do not divide into 4 groups; {SET} "
            "(treatment 'channels=8-6', scale base)"]),
        ([scales("  cpu: {norm.groups: 3}\n  gpu: {model.channels: [8, 14]}\n")], [], [
            f"17:22: {BUILT} 8 channels do not divide into 3 groups; {SET} (treatment 'baseline', scale cpu)",
            f"18:25: {BUILT} 14 channels do not divide into 4 groups; {SET} "
            "(treatment 'baseline', scale gpu)"]),
        ([("groups: 4", "groups: 3"), scales("  cpu: {model.channels: [16, 16]}\n  gpu: {}\n")], [], [
            f"6:9: {BUILT} 16 channels do not divide into 3 groups; {SET} "
            "(treatment 'baseline', scale cpu)"]),
        ([], ["--set", "norm.groups=3"], [
            f"--set norm.groups=3: {BUILT} 8 channels do not divide into 3 groups; {SET} "
            "(treatment 'baseline', scale base)"]),
        ([("seeds: 2", "seeds: 2\nnuisance: {model.channels: [[8, 8], [8, 6]]}\ntuning: {trials: 3}")], [], [
            f"12:37: {BUILT} 6 channels do not divide into 4 groups; {SET} "
            "(treatment 'channels=8-6', scale base)"]),
        # Crops and strides.
        ([("crop: 16", "crop: 33")], [], [
            "4:31: crop must be a multiple of the stride 2 of model 'image_kl', found 33; the nearest: 32 and 34"]),
        ([("heldout_size: 32", "heldout_size: 33")], [], [
            "4:83: heldout_size must be a multiple of the stride 2 of model 'image_kl', found 33; "
            "the nearest: 32 and 34"]),
        ([(FACTOR, "data.crop: [16, 17]")], [], [
            "10:19: crop must be a multiple of the stride 2 of model 'image_kl', found 17; the nearest: 16 and 18"]),
        ([scales("  gpu: {data.crop: 33}\n")], ["--set", "data.crop=17"], [
            "--set data.crop=17: crop must be a multiple of the stride 2 of model 'image_kl', found 17; "
            "the nearest: 16 and 18",
            "17:20: crop must be a multiple of the stride 2 of model 'image_kl', found 33; the nearest: 32 and 34"]),
        ([("[reconstruction]", "[reconstruction, blur]"), ("heldout_size: 32", "heldout_size: 24")], [], [
            "14:26: probe 'blur' needs held-out pictures of 32 px or more at stride 2, found data.heldout_size 24 "
            "(treatment 'baseline', scale base)"]),
        # Folders, at the setting that names them.
        ([("level: leaves", "level: folder, path: nowhere")], [], [
            f"4:31: data/folder: {NOWHERE} (treatment 'baseline', scale base)"]),
        ([], ["--set", "data={level: folder, path: nowhere, crop: 16, resize: none, heldout_size: 32}"], [
            "--set data={level: folder, path: nowhere, crop: 16, resize: none, heldout_size: 32}: "
            f"data/folder: {NOWHERE} (treatment 'baseline', scale base)"]),
        # The command line.
        ([], ["--set", "base.norm=scn"], [
            "--set base.norm=scn: unknown slot 'base' in 'base.norm'; drop 'base.': 'norm'"]),
        ([], ["--set", "seeds=abc"], [
            "--set seeds=abc: seeds: expected a count or distinct numbers from 0, such as 3 or [0, 1, 2], "
            "found 'abc'"]),
        ([], ["--set", "norm"], ["--set norm: expected PATH=VALUE, found 'norm'"]),
        ([], ["--set", "norm.groups=[4"], [
            "--set norm.groups=[4: not valid YAML: expected ',' or ']': the list that begins in line 1 is not closed"]),
        ([], ["--set", "steps=3", "--set", "train.lr=1", "--set", "kl=1", "--set", "groups=4"], [
            "--set steps=3: unknown slot 'steps' in 'steps'; did you mean 'stages.train.steps'?",
            "--set train.lr=1: unknown slot 'train' in 'train.lr'; did you mean 'stages.train.lr'?",
            "--set kl=1: unknown slot 'kl' in 'kl'; did you mean 'loss.kl'?",
            "--set groups=4: unknown slot 'groups' in 'groups'; did you mean 'norm.groups'?"]),
        ([], ["--scale", "paper"], [
            "--scale paper: unknown scale 'paper'; the study has no scales: leave --scale out"]),
        ([scales("  cpu: {base.norm: scn, seeds: x}\n")], [], [
            "17:9: unknown slot 'base' in 'base.norm'; drop 'base.': 'norm'",
            "17:25: seeds: expected a count or distinct numbers from 0, such as 3 or [0, 1, 2], found 'x'"]),
        # Values of another type, and how they are written instead.
        ([("steps: 6", "steps: [6, 7]")], [], [
            "13:20: stage 'train'.steps: expected a whole number, found [6, 7]; to vary it, put it under factors: "
            "'stages.train.steps: [6, 7]'"]),
        ([("steps: 6", "steps: 1e3")], [], [
            "13:20: stage 'train'.steps: expected a whole number, found 1000.0; write 1000"]),
        ([("steps: 6", "steps: 1_000")], [], [
            "13:20: stage 'train'.steps: expected a whole number, found '1_000'; write 1000 without quotes or '_'"]),
        ([("lr: 3e-3", "lr: .inf")], [], ["13:37: stage 'train'.lr: expected a finite number, found inf"]),
        ([("lr: 3e-3", "lr:")], [], ["13:36: stage 'train'.lr: expected a number, found nothing (null)"]),
        ([("groups: 4", "groups: true")], [], ["6:32: norm 'group'.groups: expected a whole number, found true"]),
        ([("groups: 4", "groups: 0")], [], ["6:32: norm 'group'.groups: expected a number above 0, found 0"]),
        ([("channels: [8, 8]", "channels: 8")], [], [
            "5:38: model 'image_kl'.channels: expected a list, found 8; write [8]"]),
        ([(FACTOR, "norm: scn")], [], [
            "10:9: factors.norm: expected a list of levels, such as [scn, …], found 'scn'"]),
        ([("probes: [reconstruction]", "probes: reconstruction")], [], [
            "14:9: probes: expected a list, found 'reconstruction'; write [reconstruction]"]),
        ([("padding: reflect", "regularizer: null")], [], [
            "7:16: regularizer: expected a level or a mapping with 'level', found nothing (null); write none (valid: "
            f"{', '.join(registry.levels('regularizer'))})"]),
        ([scales("  cpu:\n")], [], ["17:7: scales.cpu: expected a mapping, found nothing; write {} for no changes"]),
        # Names that mean something else here.
        ([("kl: 1e-4}", "mse: 1}")], [], [
            "8:19: unknown loss term 'mse'; did you mean 'l2'? (valid: adversarial, kl, l1, l2, perceptual)"]),
        ([("padding: reflect", "padding: Reflection")], [], [
            "7:12: unknown level 'Reflection' of padding; did you mean 'reflect'? "
            "(valid: circular, reflect, replicate, zeros)"]),
        ([("padding: reflect", "activation: gelu")], [], [
            "7:3: unknown slot 'activation'; 'activation' is a setting of model: "
            "model: {level: image_kl, activation: …}"]),
        ([("seeds: 2", "seeds: 2\nlr: 1e-3")], [], [
            "12:1: unknown key 'lr'; 'lr' is a setting of a stage: put it under 'stages', as in '- train: {lr: …}'"]),
        ([("primary: psnr", "primary: grid/const_fold4")], [], [
            "15:10: primary: none of the probes reports 'grid/const_fold4'; add probe 'grid', which does "
            "(valid: psnr, ssim)"]),
        ([("primary: psnr", "primary: reconstruction")], [], [
            "15:10: primary: none of the probes reports 'reconstruction'; "
            "it is a probe, whose metrics are psnr, ssim"]),
        ([("primary: psnr", "primary: psnr\ninterest: {psrn: 0.5, ssim: -0.01}")], [], [
            "16:12: interest.psrn: none of the probes reports 'psrn'; did you mean 'psnr'? (valid: psnr, ssim)",
            "16:29: interest.ssim: expected a difference above 0, in the metric's unit, found -0.01"]),
        ([("primary: psnr", "primary: psnr\ninterest: {psnr: half}")], [], [
            "16:18: interest.psnr: expected a number, found 'half'"]),
        # Errors of several phases.
        (FIVE, [], [
            f"4:31: data/folder: {NOWHERE} (treatment 'baseline', scale base)",
            f"7:3: unknown slot 'paddding'; did you mean 'padding'? (valid: {SLOTS})",
            "11:8: seeds: expected a count or distinct numbers from 0, such as 3 or [0, 1, 2], found 0",
            f"14:10: unknown level 'reconstrution' of probe; did you mean 'reconstruction'? (valid: {PROBES})",
            "15:10: primary: none of the probes reports 'psrn'; did you mean 'psnr'?"]),
        ([("groups: 4", "groups: 3"), ("primary: psnr", "primary: psrn"), ("seeds: 2", "seeds: 2\nseeds: 3")], [], [
            f"6:9: {BUILT} 8 channels do not divide into 3 groups; {SET} (treatment 'baseline', scale base)",
            "12:1: duplicate key 'seeds', first given in line 11",
            "16:10: primary: none of the probes reports 'psrn'; did you mean 'psnr'? (valid: psnr, ssim)"]),
        # What a hostile study holds: names, nesting, characters.
        ([("primary: psnr", "primary: psnr\nscales:\n  a.b: {}\n")], [], [
            "17:3: the name of a scale: expected letters, digits, '_' and '-', of which the first is "
            "a letter or a digit, found 'a.b'"]),
        ([("- train:", "- a/b:")], [], [
            "13:5: the name of a stage: expected letters, digits, '_' and '-', of which the first is "
            "a letter or a digit, found 'a/b'"]),
        ([("- train:", "- '':")], [], [
            "13:5: the name of a stage: expected letters, digits, '_' and '-', of which the first is "
            "a letter or a digit, found ''"]),
        ([("study: tiny", "study: " + "x" * 65)], [], [
            "1:8: study: expected at most 64 characters, found "
            "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"]),
        ([("primary: psnr", "primary: psnr\nscales:\n  " + "y" * 65 + ": {}\n")], [], [
            "17:3: the name of a scale has at most 64 characters, found 65"]),
        ([("- train:", "- a.b:")], [], [
            "13:5: the name of a stage: expected letters, digits, '_' and '-', of which the first is "
            "a letter or a digit, found 'a.b'"]),
        # Levels as settings, and settings that are named twice.
        ([(FACTOR, "norm.level: [group, scn]")], [], [
            "10:3: 'norm.level' is the level of a slot; write 'norm'"]),
        ([("factors:\n  " + FACTOR, "design: list\ntreatments: [{norm.level: scn}]")], [], [
            "10:15: 'norm.level' is the level of a slot; write 'norm'"]),
        ([("seeds: 2", "seeds: 2\nnuisance: {norm.level: [group, scn]}\ntuning: {trials: 3}")], [], [
            "12:12: 'norm.level' is the level of a slot; write 'norm'"]),
        ([("padding: reflect", "padding: " + "[" * 250 + "]" * 250)], [], [
            "7:61: nested too deeply: more than 50 lists or mappings within each other"]),
        ([("padding: reflect", "padding: " + "[" * 52 + "]" * 52)], [], [
            "7:61: nested too deeply: more than 50 lists or mappings within each other"]),
        ([("question: Does a strong KL weight cost PSNR?", "question: \"ti\\uD800ny\"")], [], [
            "2:11: the escape '\\uD800' is half a character; write the whole one, as '\\U0001F600'"]),
        ([("padding: reflect", "\"pad\\uD800\": reflect")], [], [
            "7:3: the escape '\\uD800' is half a character; write the whole one, as '\\U0001F600'"]),
        ([("question: Does a strong KL weight cost PSNR?", "question: \"ti\\U00110000ny\"")], [], [
            "2:14: not valid YAML: the escape '\\U00110000' stands for no character; the last is "
            "'\\U0010FFFF'"]),
        ([("question: Does a strong KL weight cost PSNR?", "question: \"ti\\UFFFFFFFFny\"")], [], [
            "2:14: not valid YAML: the escape '\\UFFFFFFFF' stands for no character; the last is "
            "'\\U0010FFFF'"]),
        ([(FACTOR, "loss.kl: [1, 1e-4]\n  loss.kl.weight: [2, 1e-4]")], [], [
            "11:3: factor 'loss.kl.weight' overlaps with factor 'loss.kl'"]),
        ([("factors:\n  " + FACTOR, "design: list\ntreatments: [{loss.kl: 1, loss.kl.weight: 2}]")], [], [
            "10:27: factor 'loss.kl.weight' overlaps with factor 'loss.kl'"]),
        ([("factors:\n  " + FACTOR, "design: list\ntreatments: [{loss.kl: 0.5}, {loss.kl: 1}, {loss.kl: 1.0}]")], [], [
            "10:44: treatment 3 is the same as treatment 2"]),
        ([("factors:\n  " + FACTOR, "design: list\ntreatments: [{loss.kl: 1}, {loss.kl: 1e-4}]")], [], [
            "10:28: treatment 2 is the baseline"]),
        ([("factors:\n  " + FACTOR, "design: list\ntreatments: [{}]")], [], [
            "10:14: treatment 1 changes nothing"]),
        ([("factors:\n  " + FACTOR, "design: list\ntreatments: [{loss.kl: 1}, {}]")], [], [
            "10:28: treatment 2 changes nothing"]),
        ([("seeds: 2", "seeds: 2\nnuisance: {norm: [group, scn]}\ntuning: {trials: 3, seeds: [1000, 1000]}")], [], [
            "13:35: tuning: seed 1000 is named twice"]),
        # Numbers out of bounds.
        ([("lr: 3e-3", "lr: 3e-3, betas: [1, 1]")], [], [
            "13:51: stage 'train'.betas: expected a number below 1, found 1",
            "13:54: stage 'train'.betas: expected a number below 1, found 1"]),
        ([("steps: 6", "steps: 10000000000000000000000000")], [], [
            "13:20: stage 'train'.steps: expected a number of at most 1000000000, found "
            "10000000000000000000000000"]),
        ([("batch: 2", "batch: 2000000000")], [], [
            "13:30: stage 'train'.batch: expected a number of at most 1000000000, found 2000000000"]),
        ([("seeds: 2", "seeds: [100000000000000]")], [], [
            "11:8: seeds: expected numbers of at most 4294967295, found 100000000000000"]),
        ([("lr: 3e-3", "lr: 3e-3, probe_every: -1")], [], [
            "13:56: stage 'train'.probe_every: must be at least 0, which is never, found -1"]),
        # Stages that train nothing, or that another model stops.
        ([(STAGE, STAGE + "\n  - b: {steps: 2, lr: 1e-3, freeze: encoder, loss: {l2: 0}}")], [], [
            "14:52: stage 'b' freezes the encoder, and no loss term reaches the decoder"]),
        ([(STAGE, "  - a: {steps: 2, lr: 1e-3, model: {channels: [8, 16]}}\n" + STAGE)], [], [
            "13:36: stage 'train' has another model than 'a' before it and can take over its weights "
            "by init 'inflate' alone, found 'scratch'; add 'init: inflate' in stage 'train'"]),
        ([("norm: {level: group, groups: 4}", "norm: group"),
          ("channels: [8, 8]", "channels: [32, 32]"),
          (FACTOR, "data.crop: [16, 2]")], [], [
            "10:19: the model cannot be built: Expected more than 1 value per channel when training, "
            "got input size [1, 32, 1, 1] (model/image_kl.py:LINE) (treatment 'crop=2', scale base)"]),
        ([("[reconstruction]", "[reconstruction, blur]")], ["--set", "data.heldout_size=8"], [
            "--set data.heldout_size=8: probe 'reconstruction' needs held-out pictures of 12 px or "
            "more at stride 2, found data.heldout_size 8 (treatment 'baseline', scale base)",
            "--set data.heldout_size=8: probe 'blur' needs held-out pictures of 32 px or more at "
            "stride 2, found data.heldout_size 8 (treatment 'baseline', scale base)"]),
        ([], ["--set", "loss.adversarial=0.1"], [
            "--set loss.adversarial=0.1: the discriminator needs crops of 24 px or more, found 16"]),
        # No levels, of paths that exist and of those that do not.
        *(([(FACTOR, f"{path}: []")], [], [f"10:{len(path) + 5}: {path}: no level is listed"])
          for path in ("loss.kl", "foo", "norm.foo", "stages.x.lr", "stages.train.command")),
        ([("factors:", "nuisance:\n  norm.foo: []\ntuning: {trials: 2}\nfactors:")], [], [
            "10:13: norm.foo: no level is listed"]),
        # Ranges, constraints and the command line.
        ([("factors:\n  " + FACTOR, "factors: {}")], [], [
            "9:1: design 'one_at_a_time' needs 'factors'"]),
        ([(FACTOR, "loss.kl: {from: 1, to: 2}"), ("seeds: 2", "seeds: 2\ndesign: search\nsearch: {trials: 3}")], [], [
            "10:12: factors.loss.kl: a range has no 'from' and 'to'; did you mean low: 1, high: 2?"]),
        ([(FACTOR, "loss.kl: {low: .nan, high: 2}"),
          ("seeds: 2", "seeds: 2\ndesign: search\nsearch: {trials: 3}")], [], [
            "10:18: factors.loss.kl.low: expected a finite number, found nan"]),
        ([(FACTOR, "loss.kl: {low: x, high: 2}"),
          ("seeds: 2", "seeds: 2\ndesign: search\nsearch: {trials: 3}")], [], [
            "10:18: factors.loss.kl.low: expected a finite number, found 'x'"]),
        ([(FACTOR, "loss.kl: {low: 1, high: 1}"),
          ("seeds: 2", "seeds: 2\ndesign: search\nsearch: {trials: 3}")], [], [
            "10:12: loss.kl: the range is empty: low equals high"]),
        ([("seeds: 2", "seeds: 2\nwhere: loss.kl = 1")], [], [
            "12:16: where: not an expression: write == to compare, not ="]),
        ([("seeds: 2", "seeds: 2\nwhere: kl > 1")], [], [
            "12:8: where: unknown factor 'kl'; did you mean 'loss.kl'?"]),
        ([("seeds: 2", "seeds: 2\nwhere: loss.kl < " + "1" * 5000)], [], [
            "12:18: where: a number of 5000 digits is too large"]),
        ([], ["--set", "primary=psnr"], [
            "--set primary=psnr: 'primary' is a key of the file; --set changes only the recipe, "
            "stages, seeds and probes"]),
        ([], ["--set", "seeds={from: 2, to: 4}"], [
            "--set seeds={from: 2, to: 4}: seeds: bounds such as {from: 2, to: 4} are for the file "
            "only; give a count or a list here"]),
        ([], ["--set", "seeds.x=1"], [
            "--set seeds.x=1: unknown setting 'seeds.x'; seeds have no settings: write 'seeds'"]),
        ([("base:\n", "x: &x {padding: zeros}\nbase:\n  <<: *x\n")], [], [
            "3:1: unknown key 'x' (valid: base, design, factors, fraction, interest, keep, labels, nuisance, paper, "
            "primary, probes, pruning, question, scales, search, seeds, stages, study, treatments, tuning, "
            "where)",
            "5:3: merge keys are not supported; repeat the keys"]),
        ([("level: leaves", "level: folder, path: ''")], [], [
            "4:31: data 'folder'.path: empty path; name a file or folder"]),
        ([("level: leaves", "level: folder, path: " + "z" * 300)], [], [
            "4:31: data 'folder'.path: a path of 300 characters is too long: a name in it has at "
            "most 255, the whole at most 4095"]),
        ([("seeds: 2", "seeds: 2\ndesign: null")], [], [
            "12:9: design: expected a design, found nothing (null)"]),
    ],
)  # fmt: skip
def test_each_error_is_at_its_cause(
    write_study: Write, run: Run, changes: list[tuple[str, str]], arguments: list[str], expected: list[str]
) -> None:
    path = write_study(*changes)
    code, lines = run("check", path, *arguments)
    assert code == 2
    count = f"{len(expected)} error{'s' * (len(expected) != 1)}"
    found = [re.sub(r"\.py:\d+\)", ".py:LINE)", line.removeprefix(f"{path}:")) for line in lines]
    if changes == FIVE:  # with no probe known, the metrics of all are named
        found[4] = found[4].partition(" (valid")[0]
    assert found == [*expected, count]


@pytest.mark.parametrize("changes", [FIVE, [("groups: 4", "groups: 3")], [("crop: 16", "crop: 33")]])
def test_all_commands_refuse_alike(write_study: Write, run: Run, changes: list[tuple[str, str]]) -> None:
    path = write_study(*changes)
    printed = []
    for command in COMMANDS:
        code, lines = run(*command, path)
        assert code == 2
        printed.append(lines)
    assert printed == [printed[0]] * len(COMMANDS)
    assert not (path.parent / "runs").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "{file}: the file is empty; ablate init writes a study to begin with"),
        (b"# nothing\n", "{file}: the file is empty; ablate init writes a study to begin with"),
        (b"- a\n- b\n", "{file}:1:1: a study is a mapping of keys to values, such as 'study: NAME', found a list"),
        (b"hello\n", "{file}:1:1: a study is a mapping of keys to values, such as 'study: NAME', found 'hello'"),
        (b"\xff\xfea\x00", "{file}: cannot read the study: it is not UTF-8 text (byte 1 is 0xff); a study is a YAML "
                            "file, saved as UTF-8"),
        (b"a: \x00\n", "{file}:1:4: not valid YAML: the character U+0000 is not allowed; is this a text file?"),
        (b"a:\n\tb: 1\n", "{file}:2:1: not valid YAML: a tab; YAML is indented with spaces alone"),
        (b"a: {@}\n", "{file}:1:5: not valid YAML: a value cannot start with '@'; put it in quotes"),
        (b"a: b: c\n", "{file}:1:5: not valid YAML: ': ' is not allowed here; put a value that holds ': ' in quotes, "
                       "or align the line with its neighbours"),
        (b"a: [1\nb: 2\n", "{file}:2:2: not valid YAML: expected ',' or ']': the list that begins in line 1 is not "
                           "closed"),
        (b"a: 'x\nb: 2\n", "{file}:1:4: not valid YAML: the quote that begins in line 1 is not closed"),
        (b"a: 1\n---\nb: 2\n", "{file}:2:1: not valid YAML: a second document starts here; a study is one document, "
                               "without '---'"),
        (b"[" * 5000, "{file}: not a study: its values are nested too deeply"),
    ],
)  # fmt: skip
def test_files_that_are_no_studies(tmp_path: Path, run: Run, content: bytes, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    for command in (COMMANDS[0], COMMANDS[1], COMMANDS[3]):
        code, lines = run(*command, path)
        assert (code, lines) == (2, [expected.format(file=path), "1 error"])


def test_folders_and_missing_files_are_no_studies(tmp_path: Path, run: Run) -> None:
    for command in COMMANDS:
        folder = f"{tmp_path}: cannot read the study: it is a folder; name the YAML file in it"
        assert run(*command, tmp_path) == (2, [folder, "1 error"])
        missing = tmp_path / "none.yaml"
        expected = f"{missing}: cannot read the study: no such file; ablate init writes one to begin with"
        assert run(*command, missing) == (2, [expected, "1 error"])


def test_json_has_every_error_with_its_position(write_study: Write, run: Run) -> None:
    path = write_study(*FIVE)
    code, lines = run("check", path, "--json")
    found = json.loads("\n".join(lines))
    assert code == 2 and found["ok"] is False
    positions = [(error["file"], error["line"], error["column"]) for error in found["errors"]]
    assert positions == [(str(path), *place) for place in ((4, 31), (7, 3), (11, 8), (14, 10), (15, 10))]
    assert all(error["message"] for error in found["errors"])


def test_what_another_scale_lacks_on_this_machine_is_a_note(write_study: Write, run: Run) -> None:
    """With --scale the same is an error; --set changes the scale to run alone."""
    path = write_study(scales("  cpu: {}\n  gpu: {data: {level: folder, path: nowhere}, seeds: 3}\n"))
    code, lines = run("check", path)
    assert code == 0
    assert lines == [
        f"note: {path}:18:15: scale 'gpu' cannot run on this machine: data/folder: {NOWHERE} "
        "(treatment 'baseline', scale gpu)",
        f"{path}: good (scale cpu: 2 treatments, 4 trials)",
    ]
    assert run("plan", path, "--json")[0] == 0
    code, lines = run("check", path, "--scale", "gpu")
    assert code == 2 and "there is no folder nowhere" in lines[0]
    assert run("check", path, "--scale", "gpu", "--set", "data=leaves")[1] == [
        f"{path}: good (scale gpu: 2 treatments, 6 trials)"
    ]


def test_a_model_that_could_be_built_is_not_built_again(
    write_study: Write, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study((FACTOR, "norm: [group, scn]"))
    assert run("check", path)[0] == 0
    built = []
    monkeypatch.setattr("ablate.engine.build.try_build", built.append)
    assert run("plan", path)[0] == 0 and built == []
    assert run("plan", path, "--set", "norm.groups=2")[0] == 0 and len(built) == 2


def test_of_many_models_some_are_built_and_the_rest_is_said(
    write_study: Write, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablate.driver.scale_check.MOST_MODELS", 3)
    path = write_study((FACTOR, "norm: [group, scn]\n  padding: [reflect, zeros]\n  norm.groups: [4, 2]"),
                       ("seeds: 2", "seeds: 1\ndesign: grid"))  # fmt: skip
    code, lines = run("check", path)
    assert code == 0
    assert lines == [
        "note: scale base: the first 3 different models were built; 5 more were not",
        f"{path}: good (scale base: 8 treatments, 8 trials)",
    ]
    monkeypatch.setattr("ablate.driver.preflight.MOST_TREATMENTS", 5)
    lines = run("check", path)[1]
    assert lines[0] == "note: 5 of 8 treatments were checked: each level alone, and one in 2 others"


def test_contradicting_levels_are_at_the_level(write_study: Write) -> None:
    levels = "loss.adversarial: [0, 0.1]\n  discriminator: [patchgan, none]"
    path = write_study(("crop: 16", "crop: 24"), (FACTOR, levels), ("factors:", "design: grid\nfactors:"))
    with pytest.raises(StudyError) as caught:
        expand(load_study(path))
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [(11, 25)]


def test_every_synonym_stands_for_a_name_that_there_is() -> None:
    valid = {slot: registry.levels(slot) for slot in registry.SLOTS}
    valid |= {what: list(names) for what, names in CHOICES.values()}
    settings = {name for slot in registry.SLOTS for level in registry.levels(slot)
                for name in registry.level(slot, level).Config.model_fields}  # fmt: skip
    valid |= {
        "slot": list(registry.SLOTS),
        "key": list(StudyFile.model_fields),
        "setting": [*settings, *Train.model_fields],
    }
    for kind, names in SYNONYMS.items():
        assert set(names.values()) <= set(valid[kind]), kind
        assert not names.keys() & set(valid[kind]) or kind == "setting", kind


def test_the_nearest_name_is_that_of_the_meaning_first() -> None:
    assert nearest("Batch-Norm", ["group", "batch"], {"batchnorm": "group"}).startswith("; did you mean 'group'?")
    assert nearest("PSNR", ["psnr", "ssim"]) == "; did you mean 'psnr'? (valid: psnr, ssim)"
    assert nearest("x", []) == ""


def test_aliases_that_stand_for_millions_of_values_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(StudyError, match="a study of more than 200000 values"):
        read_document(path)


def test_pictures_beyond_pillows_limit_are_named(
    write_study: Write, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (64, 64)).save(folder / f"small{i}.png")
    Image.new("RGB", (100, 100)).save(folder / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64)
    path = write_study(("level: leaves", f"level: folder, path: {folder}"))
    code, lines = run("check", path)
    assert code == 2 and "large.png" in lines[0]
    assert "pictures are of more pixels than Pillow opens (about 179 million); reduce or cut them" in lines[0]


def test_failures_name_the_slot_whose_code_raised(write_study: Write) -> None:
    study = load_study(write_study(("groups: 4", "groups: 3")))
    failure = models.build_failure(study.baseline)
    assert failure and failure.slot == "norm"
