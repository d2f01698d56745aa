"""Papers: their claims can be judged, their tables are as published, unknown papers are refused."""

from pathlib import Path

import pytest

from ablate.analysis import papers
from ablate.analysis.papers.diffusability import PAPER as DIFFUSABILITY
from ablate.analysis.papers.iv_vae import PAPER as IV_VAE
from ablate.analysis.papers.ltx_grid import PAPER as LTX_GRID
from ablate.analysis.papers.vivat import PAPER
from ablate.analysis.records.frame import tidy
from ablate.analysis.statistics.judgements import judge
from ablate.errors import StudyError
from ablate.plan.signatures import stage_signatures
from ablate.plan.treatments import treatments
from ablate.plan.trials import expand
from ablate.slots import registry
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.studies import Write


@pytest.mark.parametrize("name", registry.papers())
def test_claims_are_well_formed(name: str) -> None:
    reported = {m.name for probe in registry.levels("probe") for m in registry.level("probe", probe).metrics}
    paper = papers.load(name)
    assert paper.claims
    assert len({one.id for one in paper.claims}) == len(paper.claims)
    for one in paper.claims:
        assert one.metric in reported, one
        assert set(one.metrics) <= reported
        assert one.direction in {"A above B", "A below B", "A equals B", "A differs from B"}
        assert one.margin is None or not one.is_order
        assert not one.along or (isinstance(one.b, dict) and one.along in one.a.keys() & one.b.keys())
        assert one.said_by in {"paper", "us"}
        assert one.text.strip() and one.source.strip() and one.caveat.strip()
        assert one.a != one.b or one.against
        for path in one.factors:
            slot, *rest = path.split(".")
            assert slot in {*registry.SLOTS, "stages"}, path
            assert slot != "loss" or rest[0] in registry.levels("loss"), path
    for table in paper.tables.values():
        assert table.source.strip() and table.rows
        assert {len(row) for row in table.rows.values()} == {len(table.columns)}


def test_vivats_claims_about_weights_are_judged_in_its_study() -> None:
    """All but those of B2a, which need two factors at once, and those at weights that the study leaves out."""
    path = Path(__file__).parents[2] / "search_spaces" / "vivat_losses.yaml"
    expected = {"A1a", "A1b", "A1c", "B1a", "B1b", "B1c", "B1d", "B1i", "B1m", "B2b", "C2a", "C2b"}
    expected |= {"C1a", "C1b", "C1c", "C1d", "C1e", "C1f"}
    for scale in ("cpu", "gpu", "paper"):
        study = load_study(path, scale)
        frame = tidy(expand(study), Store(Path("nowhere")))
        found = judge(PAPER.claims, study, treatments(study), frame)
        unreported = {*found[0].claim.metrics}.union(*(one.claim.metrics for one in found)) - study.metrics.keys()
        assert {one.claim.id for one in found if {*one.overall.lacks} <= unreported} >= expected
        weights = {name: study.baseline.value(f"loss.{name}") for name in PAPER.tables["3"].rows}
        assert weights == {name: row[0] for name, row in PAPER.tables["3"].rows.items()}


def test_vivats_claims_compare_recipes_that_exist(write_study: Write) -> None:
    tuned = "checkpoint_every: 3}\n  - tune: {steps: 3, batch: 2, lr: 1e-3}"
    study = load_study(
        write_study(
            ("norm: {level: group", "norm: {level: scn"),
            ("crop: 16, resize: none", "crop: 32, resize: bicubic, resize_to: 48"),
            ("loss.kl: [1, 1e-4]", "stages.train.steps: [6, 3]\n  stages.tune.steps: [3, 0]"),
            ("checkpoint_every: 3}", tuned),
        )
    )
    for found in judge(PAPER.claims, study, treatments(study), tidy(expand(study), Store(Path("nowhere")))):
        one = found.claim
        a = study.recipe(one.a)
        if isinstance(one.b, dict):
            assert stage_signatures(a, 0) != stage_signatures(study.recipe(one.b), 0), one.id


def test_vivats_tables_have_the_papers_numbers() -> None:
    psnr, ssim = PAPER.tables["1 PSNR"], PAPER.tables["1 SSIM"]
    assert psnr.rows["VIVAT"] == (31.25, 33.82, 32.61, 39.35)
    assert psnr.rows["Flux VAE"][1:3] == (33.99, 32.65)
    assert (psnr.rows["DC-VAE"][0], ssim.rows["DC-VAE"][0]) == (23.7, 0.65)
    assert ssim.rows["Stable Diffusion 3 VAE"] == (0.86, 0.89, 0.87, 0.93)
    best = {
        column: max(psnr.rows, key=lambda row: float(psnr.rows[row][i] or 0)) for i, column in enumerate(psnr.columns)
    }
    assert list(best.values()) == ["VIVAT", "Flux VAE", "Flux VAE", "VIVAT"]
    assert psnr.rows.keys() == ssim.rows.keys()
    assert PAPER.tables["2"].rows["EMA decay"] == (0.9999,)
    assert PAPER.tables["3"].rows == {"kl": (1e-4,), "l2": (1.0,), "adversarial": (0.01,), "perceptual": (0.1,)}
    assert PAPER.tables["4"].rows["beta 2"] == (0.95,)


GRID_CLAIMS = {
    "upsamplers": {
        *("S1a", "S1b", "S1c", "S1d", "S1e", "S1f", "S2a", "S2b", "S2c", "S2d", "S2e", "S2f", "S2g", "S2h", "S2i"),
        *("S4a", "S4b", "S4c", "S4d", "S4e", "S4f", "R1a", "R1b", "R1c", "F1a", "F1b"),
    },
    "downsamplers": {"S3a", "S3b", "S3c", "S4g", "S4h"},
    "alias_free": {"S4g", "S4h", "S4i", "S4j", "S4k"},
    "tokenizers": {
        *("S1d", "S1e", "S1f", "S5a", "S5b", "S5c", "S5d", "S5e", "S5f", "S5g", "S5h", "P1a", "P1b", "P1c", "P1d"),
    },
}


@pytest.mark.parametrize("name", GRID_CLAIMS)
def test_claims_about_grids_are_judged_in_the_studies_of_their_parts(name: str) -> None:
    """Each up-sampler with each padding; those about models name the very models of the study."""
    for scale in ("cpu", "gpu"):
        study = load_study(Path(__file__).parents[2] / "search_spaces" / f"{name}.yaml", scale)
        assert study.paper == "ltx_grid"
        frame = tidy(expand(study), Store(Path("nowhere")))
        contexts: dict[str, list[object]] = {}
        for found in judge(LTX_GRID.claims, study, treatments(study), frame):
            if found.contexts:
                contexts[found.claim.id] = [verdict.given for verdict in found.contexts]
        assert contexts.keys() == GRID_CLAIMS[name]
        if name == "upsamplers":
            both = {id for id, given in contexts.items() if given == [{}, {"padding": "zeros"}]}
            assert both == GRID_CLAIMS[name] - {"F1a", "F1b"}
            assert len(contexts["F1a"]) == 8


def test_every_claim_about_grids_has_a_study() -> None:
    assert {one.id for one in LTX_GRID.claims} == set().union(*GRID_CLAIMS.values())


def test_the_grid_report_s_figures() -> None:
    figures = LTX_GRID.tables["figures"].rows
    assert [value for row in figures.values() for value in row] == [0.124, 0.0026, 0.98]
    grey = [f"{255 * figures[row][0]:.3g}" for row in ("max |difference|", "mean |difference|")]
    assert f"{grey[0]} and {float(grey[1]):.2f} grey levels" in LTX_GRID.tables["figures"].note
    suggested = [one for one in LTX_GRID.claims if one.id[0] == "S"]
    assert {one.id[1] for one in suggested} == {row[0] for row in LTX_GRID.tables["suggestions"].rows} == set("12345")
    for one in LTX_GRID.claims:
        assert one.published is None, "the report tried none of its suggestions"
        assert one.id[0] != "S" or one.source.endswith(f"Suggested directions, {one.id[1]}")


def test_iv_vaes_ablation_and_its_differences() -> None:
    rows = list(IV_VAE.tables["ablation"].rows.values())
    assert [row[0] for row in rows] == [31.29, 31.64, 31.86, 32.12, 32.24] == sorted(row[0] for row in rows)
    published = {one.id: one.published for one in IV_VAE.claims if one.id[0] == "A"}
    assert [published[f"A{n}a"] for n in range(1, 8)] == [0.35, 0.57, 0.22, 0.48, 0.26, 0.12, 0.95]
    assert published["A1b"] == 0.004 and published["A6b"] == 0.0013
    alone, beside = published["A1a"], published["A5a"]
    assert alone is not None and beside is not None and round(beside - alone, 2) == -0.09
    assert "an interaction of -0.09 dB" in IV_VAE.tables["ablation"].note
    for name, values in IV_VAE.tables["positions"].rows.items():
        *frames, extent = (float(value or 0) for value in values)
        assert max(frames) - min(frames) == pytest.approx(extent, abs=1.1e-3), (
            name
        )  # IV-VAE's of 0.005 is read as 0.004


SPECTRAL_CLAIMS = {
    "se_strength": {
        *("S1a", "S1b", "S1c", "S1d", "S2a", "S2b", "S3a", "S3b", "S3c"),
        *("G1a", "G1b", "G1c", "G1d", "G2", "C3", "C4", "E2"),
    },
    "channels_spectrum": {"C3", "C4", "E2", "C1a", "C1b", "C2"},
    "kl_spectrum": {"C3", "C4", "E2", "K1a", "K1b", "K2", "K3"},
    "se_variants": {
        *("C3", "C4", "E2"),
        *("V1a", "V1b", "V1c", "V1d", "V2a", "V2b", "V2c", "V2d"),
        *("E1", "V3a", "V3b", "V4", "V5"),
    },
}


@pytest.mark.parametrize("name", SPECTRAL_CLAIMS)
def test_claims_about_diffusability_are_judged_in_the_studies_of_their_factors(name: str) -> None:
    for scale in ("cpu", "gpu"):
        study = load_study(Path(__file__).parents[2] / "search_spaces" / f"{name}.yaml", scale)
        assert study.paper == "diffusability"
        frame = tidy(expand(study), Store(Path("nowhere")))
        found = judge(DIFFUSABILITY.claims, study, treatments(study), frame)
        assert [one.claim.id for one in found if one.contexts] == sorted(
            SPECTRAL_CLAIMS[name], key=[one.id for one in DIFFUSABILITY.claims].index
        )
    assert {one.id for one in DIFFUSABILITY.claims} == set().union(*SPECTRAL_CLAIMS.values())


def test_figures_on_diffusability_say_whose_they_are_and_uncertain_ones_are_not_printed() -> None:
    for key, table in DIFFUSABILITY.tables.items():
        whose = {row[table.columns.index("provenance")] for row in table.rows.values()}
        assert whose == ({"paper"} if key in {"abstract", "figures"} else {"peer"}), key
        printed = " ".join([table.title, table.note, *(str(value) for row in table.rows.values() for value in row)])
        assert not {"3.07", "2.49", "49"} & set(printed.replace("%", " ").split()), "found in secondary texts only"
    assert all(one.published is None for one in DIFFUSABILITY.claims)
    gains = DIFFUSABILITY.tables["DFM"].rows
    assert f"{1 - gains['FLUX + SE, flow matching'][0] / gains['FLUX, flow matching'][0]:.1%}" == "20.8%"  # type: ignore[operator]
    assert DIFFUSABILITY.tables["EQ-VAE 1"].rows["SD-VAE"][1:6:4] == (43.8, 34.1)
    assert DIFFUSABILITY.tables["LWD"].rows["SD3-VAE-F16"][1:6:4] == (19.82, 22.58)


def test_iv_vaes_claims_are_judged_in_its_studies() -> None:
    """The order and evenness where its parts are varied, the start where that is; claims on the start need several."""
    judged: dict[str, dict[str, int]] = {}
    for name in ("iv_vae_ablation", "iv_vae_init", "iv_vae_cache"):
        for scale in ("cpu", "gpu"):
            study = load_study(Path(__file__).parents[2] / "search_spaces" / f"{name}.yaml", scale)
            assert study.paper == "iv_vae"
            frame = tidy(expand(study), Store(Path("nowhere")))
            found = judge(IV_VAE.claims, study, treatments(study), frame)
            contexts = {one.claim.id: len(one.contexts) for one in found if one.contexts}
            assert judged.setdefault(name, contexts) == contexts, "alike at each scale"
    ablation, init, cache = judged.values()
    assert {id for id in ablation if id[0] == "A"} == {one.id for one in IV_VAE.claims if one.id[0] == "A"}
    assert ablation["G1"] == ablation["F2"] == 2 and ablation["F3"] == 1, "grouped or not, with each branch"
    assert not {"Z2", "Z3", "Z4"} & ablation.keys()
    assert {"Z1a", "Z2", "Z3", "Z4"} <= init.keys()
    assert cache["K1"] == cache["K2"] == 2, "both convolutions, with the norm that chunks need"
    assert {one.id for one in IV_VAE.claims} == ablation.keys() | init.keys() | cache.keys()


def test_unknown_papers_are_refused_where_they_are_named(write_study: Write) -> None:
    with pytest.raises(ValueError, match=r"unknown paper 'vivatt'; did you mean 'vivat'\? \(valid: .*vivat"):
        papers.load("vivatt")
    with pytest.raises(StudyError) as error:
        load_study(write_study(("study: tiny", "study: tiny\npaper: vivatt")))
    assert [(p.line, p.column) for p in error.value.problems] == [(2, 8)]
    assert "unknown paper 'vivatt'; did you mean 'vivat'?" in str(error.value)
    assert load_study(write_study(("study: tiny", "study: tiny\npaper: vivat"))).paper == "vivat"


ARTIFACTS = ("droplet/", "border/", "grid/", "blur/", "color/", "flicker/", "balance/", "shift/")
"""Probes of artifacts, whose metrics also answer to other errors."""

NEEDS_NONE = {
    "S5d": "it says that there is no grid, whatever draws one elsewhere",
    "C2b": "it is about detail that is added, not about a lack of it",
}
"""Claims on such metrics that are judged without the artifact -> why."""


def test_a_claim_about_an_artifact_requires_it() -> None:
    """On the side that is said to have it, or in a third treatment where side B is a number."""
    without = set()
    for name in registry.papers():
        for one in papers.load(name).claims:
            if not one.metric.startswith(ARTIFACTS):
                continue
            if not one.requires:
                without.add(one.id)
                continue
            more = {"A above B": "A", "A below B": "B"}.get(one.direction)
            where = {required.of if isinstance(required.of, str) else "other" for required in one.requires}
            remedied = one.metric in {"blur/mtf50", "blur/hf_hi"} and isinstance(one.b, dict)
            assert where & {"B" if remedied else more, "other", "A" if one.id == "B1m" else None}, one.id
    assert without == NEEDS_NONE.keys()
