"""Names of metrics, factors and levels: the study's own or shipped ones, in every format, and in no signature."""

import csv
import io
from pathlib import Path

import pytest

from ablate.adaptive.recall import plan_study
from ablate.analysis.figures import panels
from ablate.analysis.figures.style import compose, figure_style
from ablate.analysis.report import page
from ablate.analysis.study_results import StudyResults, gather
from ablate.errors import StudyError
from ablate.plan.labels import Names
from ablate.plan.treatments import treatments
from ablate.plan.trials import expand
from ablate.slots import registry
from ablate.store.folders import Store
from ablate.study.study import Study, load_study
from ablate.study.titles import LEVELS, METRICS, title_of
from tests.support.finished import finish_all
from tests.support.studies import Write

PLAIN = ("loss.kl: [1, 1e-4]", "loss.kl: [1, 1e-4]\n  norm: [group, scn]\n  model.channels: [[8, 8], [8, 16]]")
NAMED = (
    "loss.kl: [1, 1e-4]",
    "loss.kl: [{weight: 1, label: strong}, {level: 1e-4, label: weak}]\n"
    '  norm: [{level: group, label: GN}, {level: scn, interp: bilinear, label: "SCN (ours)"}]\n'
    "  model.channels: [[8, 8], {level: [8, 16], label: wider}]",
)
SAME = (
    "loss.kl: [1, 1e-4]",
    "loss.kl: [1, 1e-4]\n  norm: [group, {level: scn, interp: bilinear}]\n  model.channels: [[8, 8], [8, 16]]",
)
LABELS = ("primary: psnr", "primary: psnr\nlabels: {psnr: PSNR of luma, loss.kl: KL weight}")


@pytest.fixture
def found(write_study: Write, tmp_path: Path) -> StudyResults:
    study, store = load_study(write_study(NAMED, LABELS)), Store(tmp_path / "runs")
    finish_all(study, store, lambda trial: {"psnr": 20 + trial.seed * len(trial.treatment.label), "ssim": 0.5})
    return gather(plan_study(study, store))


def test_labels_change_no_signature_no_level_and_no_name_of_a_treatment(write_study: Write) -> None:
    plain, named = (load_study(write_study(*text)) for text in ((SAME,), (NAMED, LABELS)))
    assert [(trial.name, trial.signature) for trial in expand(plain)] == [
        (trial.name, trial.signature) for trial in expand(named)
    ]
    assert [factor.levels for factor in plain.factors] == [factor.levels for factor in named.factors]


def test_every_format_shows_them(found: StudyResults) -> None:
    table = found.table
    for text in (table.markdown(), table.html(), page(found), table.latex()):
        for words in ("KL weight", "strong", "GN", "SCN (ours)", "wider", "PSNR of luma"):
            assert words in text
    header, *rows = csv.reader(io.StringIO(table.csv()))
    assert "psnr mean" in header and [row[0] for row in rows] == [arm.treatment.label for arm in table.arms]
    assert table.json()["rows"][1]["label"] == "kl=1" and table.json()["rows"][2]["label"].startswith("norm=scn(")
    assert "In commands, PSNR of luma is psnr." in table.markdown()


def test_figures_show_them(found: StudyResults) -> None:
    with figure_style():
        (axes,) = compose(panels(found, "effects")).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["KL weight=strong", "norm=SCN (ours)", "channels=wider"]
    assert axes.get_xlabel().startswith("Δ PSNR of luma (dB)")
    with figure_style():
        titles = [one.get_title(loc="left") for one in compose(panels(found, "curves")).axes]
    assert titles == ["KL weight", "norm", "channels"]


def test_shipped_names_are_of_what_there_is_and_tell_all_apart() -> None:
    metrics = [metric for probe in registry.levels("probe") for metric in registry.level("probe", probe).metrics]
    assert METRICS.keys() == {metric.name for metric in metrics}
    assert len(set(METRICS.values())) == len(METRICS)
    for slot, names in LEVELS.items():
        assert names.keys() <= {*registry.levels(slot)}
        shown = [names.get(level, level) for level in registry.levels(slot)]
        assert len(set(shown)) == len(shown)
    assert title_of(metrics[0]) == METRICS[metrics[0].name]


def test_without_labels_slots_have_shipped_names_and_settings_their_values(write_study: Write) -> None:
    study: Study = load_study(write_study(PLAIN))
    names = Names(study)
    assert [names.treatment(row.label) for row in treatments(study)] == [
        "baseline", "kl=1", "norm=SCN", "channels=8-16"
    ]  # fmt: skip
    assert names.level("norm", {"level": "scn", "interp": "bilinear"}) == "SCN(interp=bilinear)"
    assert study.primary_title == "PSNR"


@pytest.mark.parametrize(
    ("replacements", "message"),
    [
        ([PLAIN, ("primary: psnr", "primary: psnr\nlabels: {psrn: PSNR}")],
         "labels.psrn: the study has no such metric or factor; did you mean 'psnr'?"),
        ([PLAIN, ("primary: psnr", "primary: psnr\nlabels: {psnr: ''}")], "labels.psnr: expected text, found ''"),
        ([PLAIN, ("primary: psnr", "primary: psnr\nlabels: {psnr: 3}")], "labels.psnr: expected text, found 3"),
        ([("[1, 1e-4]", "[{weight: 1, label: 3}, 1e-4]")], "factors.loss.kl.label: expected text, found 3"),
        ([("[1, 1e-4]", "[{label: strong}, 1e-4]")], "factors.loss.kl.label: the level that it names is missing"),
        ([("[1, 1e-4]", "[{weight: 1, label: a}, {weight: 1e-4, label: a}]")],
         "two levels of 'loss.kl' have the label 'a'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_label_is_said_at_its_place(
    write_study: Write, replacements: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write_study(*replacements))
    problem = next(one for one in caught.value.problems if message in one.message)
    assert problem.line > 0


def test_listed_treatments_have_labels_too(write_study: Write) -> None:
    rows = 'design: list\ntreatments:\n  - {norm: {level: scn, label: "SCN (ours)"}}\n'
    study = load_study(write_study(("factors:\n  loss.kl: [1, 1e-4]\n", rows)))
    assert Names(study).level("norm", "scn") == "SCN (ours)"
