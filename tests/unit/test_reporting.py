"""Tables, claims, figures and the page, from results folders with made-up scores."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from genclass.analysis.intervals import Estimate
from genclass.analysis.verdicts import Word
from genclass.config import Config, load_config, parse_config
from genclass.data.image_list import ImageList, ImageRow
from genclass.errors import GenclassError
from genclass.jobs.rehearsal import WARNING, rehearsed
from genclass.reporting.claims import Claim, Comparison, build_claims, efficiency_tables
from genclass.reporting.figures import build_figures
from genclass.reporting.gallery import build_gallery
from genclass.reporting.page import render
from genclass.reporting.paper import Paper, PaperValue
from genclass.reporting.provenance import git_state
from genclass.reporting.results import Results
from genclass.reporting.statements import Statement, Statements
from genclass.reporting.tables import Cell, Column, Row, Table, build_tables, latex, show
from genclass.scores.merge import MergeRecord
from tests.support.synthetic_results import (
    make_config,
    rewrite_predictions,
    write_cell,
    write_config,
    write_results,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole results folder, rendered."""
    config = write_results(tmp_path_factory.mktemp("whole"))
    render(config.results)
    return Path(config.results)


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """Its cells, to be changed."""
    for part in ("metrics", "merged", "predictions", "specs"):
        shutil.copytree(
            whole / part, tmp_path / part, ignore=shutil.ignore_patterns("*.safetensors")
        )
    write_config(make_config(tmp_path))
    return tmp_path


def main_cell(root: Path, row: int, column: str) -> Cell:
    table = build_tables(Results(root), Paper.load())[0]
    place = [entry.key for entry in table.columns].index(column)
    return table.rows[row].cells[place]


# ---- cells and tables


def test_a_cell_is_the_mean_over_groups_with_wilsons_interval(whole: Path) -> None:
    metrics = json.loads((whole / "metrics/randar/digits.json").read_text())
    one = metrics["accuracy"]["mean_log_p"][0]
    cell = main_cell(whole, 1, "digits")
    assert cell.estimate is not None
    assert cell.estimate.value == one["mean"]
    assert (cell.groups, cell.deviation, cell.images) == (20, one["deviation"], 397)
    assert cell.estimate.low < one["mean"] < cell.estimate.high
    [origin] = cell.origins
    assert origin.spec == metrics["spec"]
    assert [Path(file["file"]).exists() for file in origin.files] == [True, True]
    assert "merged/randar/digits.safetensors" in origin.command


def test_the_mean_column_is_the_mean_of_its_row(whole: Path) -> None:
    table = json.loads((whole / "report/tables/main.json").read_text())
    for row in table["rows"]:
        *values, mean = [cell["value"] for cell in row["cells"].values()]
        assert mean == pytest.approx(sum(values) / len(values))
        assert row["cells"]["mean"]["low"] < mean < row["cells"]["mean"]["high"]


def test_missing_cells_say_why(copied: Path) -> None:
    (copied / "metrics/dit/digits.json").unlink()
    assert main_cell(copied, 3, "digits").missing == "not evaluated yet"
    assert main_cell(copied, 3, "mean").missing == "without Digits"

    (copied / "metrics/sit/digits.json").write_text('{"spec": ')
    assert main_cell(copied, 4, "digits").missing.startswith("damaged: delete ")

    (copied / "specs/randar/sketch.json").write_text('{"seed":43}')
    assert main_cell(copied, 2, "sketch").missing == "measured under an older spec: rerun"


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "{}", "[]", "null", "NaN", "\xff"),
        {"trials": 0},
        {"images": 396},
        {"calibration": None},
        {"accuracy": {}},
        {"predictions": "0" * 64},
    ],
)
def test_metrics_that_are_none_cost_their_cell_alone(
    copied: Path, wrong: str | dict[str, Any]
) -> None:
    path = copied / "metrics/dit/digits.json"
    culprit = path
    if isinstance(wrong, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
        culprit = copied / "predictions/dit/digits.parquet" if "predictions" in wrong else path
    else:
        path.write_bytes(wrong.encode("latin-1"))
    assert main_cell(copied, 3, "digits").missing == f"damaged: delete {culprit} and rerun"
    assert main_cell(copied, 3, "sketch").estimate is not None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1.5", "-0.1", "true", '"0.5"'])
def test_an_accuracy_that_cannot_be_is_damage(copied: Path, value: str) -> None:
    path = copied / "metrics/dit/digits.json"
    path.write_text(re.sub(r'"mean": [0-9.]+', f'"mean": {value}', path.read_text(), count=1))
    assert main_cell(copied, 3, "digits").missing == f"damaged: delete {path} and rerun"


@pytest.mark.parametrize("part", ["merged/{}/digits.json", "predictions/{}/digits.parquet"])
def test_what_is_of_another_cell_is_not_shown(copied: Path, part: str) -> None:
    path = copied / part.format("dit")
    path.write_bytes((copied / part.format("sit")).read_bytes())
    assert main_cell(copied, 3, "digits").missing == f"damaged: delete {path} and rerun"
    assert main_cell(copied, 4, "digits").estimate is not None
    path.unlink()
    path.mkdir()
    assert "Is a directory" in main_cell(copied, 3, "digits").missing


def test_the_page_renders_from_whatever_is_there(copied: Path, whole: Path) -> None:
    shutil.copytree(whole / "manifests", copied / "manifests")
    (copied / "metrics/dit/digits.json").write_text("[]")
    (copied / "merged/sit/digits.json").unlink()
    (copied / "predictions/randar/sketch.parquet").write_bytes(b"PAR1")
    (copied / "predictions/randar/digits.parquet").unlink()
    (copied / "specs/dit/sketch.json").write_bytes(b"\xff")
    (copied / "manifests/checkpoints/dit.json").write_text("null")
    (copied / "images").mkdir()
    (copied / "images/digits.csv").write_bytes(b"\xff\x00")
    assert render(copied).missing == 4
    text = "".join(Page((copied / "report/report.html").read_text()).text)
    assert f"{copied / 'manifests/checkpoints/dit.json'} is no manifest" in text


def test_a_config_in_which_every_model_races_has_a_page(tmp_path: Path) -> None:
    raw = make_config(tmp_path).model_dump(mode="json")
    strategy = {"kind": "fixed", "rounds": [[5, 5], [10, 2], [15, 1]]}
    race = {**raw["models"]["randar"], "title": "RandAR, racing", "strategy": strategy}
    raw["models"] = {"randar-racing": race, "randar": raw["models"]["randar"]}
    raw["evaluations"] = [{"models": ["randar-racing"], "datasets": ["four"]}]
    main = raw["report"]["tables"]["main"]
    main |= {"rows": [{"model": "randar-racing"}], "columns": ["four"], "mean": False}
    raw["report"] |= {"tables": {"main": main}, "gallery": []}
    config = parse_config(raw, "test")
    write_config(config)
    write_cell(config, "randar-racing", "four")
    assert render(tmp_path).missing == 0
    assert "RandAR, racing" in "".join(Page((tmp_path / "report/report.html").read_text()).text)


def test_a_budget_beyond_the_evaluated_one_is_missing(copied: Path) -> None:
    raw = make_config(copied).model_dump(mode="json")
    raw["models"]["randar"]["trials"] = 40
    write_config(parse_config(raw, "test"))
    assert main_cell(copied, 2, "digits").missing == "budget 40 asked, 20 evaluated"
    assert main_cell(copied, 1, "digits").estimate is not None


def test_what_the_config_does_not_evaluate_says_so(copied: Path) -> None:
    raw = make_config(copied).model_dump(mode="json")
    raw["evaluations"] = [{"models": ["randar"], "datasets": ["digits"]}]
    write_config(parse_config(raw, "test"))
    assert main_cell(copied, 2, "rotation").missing == "not in the config"


def test_an_aggregation_without_meaning_is_missing(copied: Path) -> None:
    raw = make_config(copied).model_dump(mode="json")
    raw["report"]["tables"]["main"]["rows"][3]["aggregation"] = "logsumexp"
    write_config(parse_config(raw, "test"))
    assert main_cell(copied, 3, "digits").missing == "logsumexp has no meaning for diffusion"


@pytest.mark.parametrize(
    ("paper", "verdict"), [(0.78, "agrees"), (0.76, "agrees"), (0.70, "higher"), (0.85, "lower")]
)
def test_the_verdict_respects_the_interval(paper: float, verdict: str) -> None:
    cell = Cell(Estimate(0.78, 0.76, 0.80), paper=PaperValue(paper, "row", "source"))
    assert cell.verdict == verdict
    assert cell.difference == pytest.approx(0.78 - paper)


def test_numbers_are_shown_as_people_write_them() -> None:
    assert show(0.9915, "percent") == "99.2"
    assert show(-0.0123, "points") == "−1.2"
    assert show(0.0123, "points") == "+1.2"
    assert [show(v, "factor") for v in (0, 1.25, 24.6)] == ["never", "1.2×", "25×"]


NASTY = """RandAR <script>alert(1)</script> & "$\\x" '_%#{}~^"""


def nasty_table() -> Table:
    cells = (Cell(Estimate(0.5, 0.4, 0.6), images=10), Cell(missing=NASTY))
    columns = (Column("a", NASTY), Column("b", "b"))
    return Table("nasty", NASTY, NASTY, NASTY, columns, (Row(NASTY, cells, NASTY),))


def test_latex_is_escaped() -> None:
    assert latex("a_b & 5 % of $x^2$ #1 {y} ~\\") == (
        r"a\_b \& 5 \% of \$x\textasciicircum{}2\$ \#1 \{y\} \textasciitilde{}\textbackslash{}"
    )
    lines = nasty_table().as_latex()
    assert "<script>" not in lines
    assert r"\textless{}script\textgreater{}" in lines
    assert r"\toprule" in lines


def test_csv_and_json_hold_the_names_as_they_are() -> None:
    table = nasty_table()
    rows = list(csv.DictReader(io.StringIO(table.as_csv())))
    assert [(row["row"], row["group"]) for row in rows] == [(NASTY, NASTY)] * 2
    assert [row["value"] for row in rows] == ["0.5", ""]
    assert rows[1]["missing"] == NASTY
    parsed = json.loads(json.dumps(table.as_json()))
    assert parsed["rows"][0]["title"] == NASTY
    assert parsed["rows"][0]["cells"]["b"]["value"] is None


def test_text_is_aligned() -> None:
    lines = nasty_table().as_text().splitlines()
    assert lines[1].rstrip().endswith("b")
    assert lines[3].split()[-2:] == ["50.0", "-"]


# ---- the paper


def test_every_paper_row_of_the_full_config_is_known() -> None:
    paper, tables = Paper.load(), load_config(ROOT / "config.yaml").report.tables
    found = 0
    for table in tables.values():
        if table.kind == "accuracy":
            keys = [row.paper for row in table.rows] + list(table.paper_rows)
            found += sum(paper.accuracy_of(k, d) is not None for k in keys for d in table.columns)
        else:
            for dataset in table.datasets:
                for budget in table.budgets:
                    value = paper.aggregation_of(table.paper, dataset, "mean_log_p", budget)
                    found += value is not None
    assert found > 40


def test_an_unknown_paper_row_is_one_line_with_a_hint() -> None:
    with pytest.raises(GenclassError, match=r"unknown row 'DiT-X' .* did you mean 'DiT-XL'\?"):
        Paper.load().accuracy_of("DiT-X", "imagenet")


def test_a_damaged_paper_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "paper.yaml"
    path.write_text("sources: {}\naccuracy: 3\n")
    with pytest.raises(GenclassError, match=r"paper\.yaml: 'accuracy'"):
        Paper.load(path)


def test_paper_values_stand_beside_measured_ones(copied: Path) -> None:
    raw = make_config(copied).model_dump(mode="json")
    raw["datasets"]["imagenet"] = raw["datasets"].pop("digits")
    raw["evaluations"][0]["datasets"][0] = "imagenet"
    for part in ("metrics", "merged", "predictions", "specs"):
        for path in (copied / part).glob("*/digits.*"):
            path.rename(path.with_stem("imagenet"))
    tables = raw["report"]["tables"]
    tables["main"]["columns"][0] = tables["aggregation"]["datasets"][0] = "imagenet"
    raw["report"]["gallery"] = []
    tables["main"]["rows"][2]["paper"] = "RandAR-L, K=20"
    tables["main"]["rows"][3]["paper"] = "DiT-L"
    tables["main"]["paper_rows"] = ["ViT-L"]
    tables["aggregation"]["paper"] = "RandAR-XL"
    write_config(parse_config(raw, "test"))
    main, aggregation = build_tables(Results(copied), Paper.load())
    assert main.rows[2].cells[0].paper == PaperValue(
        0.78, "RandAR-L, K=20", main.rows[2].cells[0].paper.source
    )
    assert "secondary source" in main.rows[2].cells[0].paper.source
    assert main.rows[2].cells[1].paper is None
    assert main.rows[5].title == "ViT-L"
    assert (main.rows[5].cells[0].estimate, main.rows[5].cells[0].paper.value) == (None, 0.803)
    assert [cell.paper.value for cell in aggregation.rows[2].cells][-1] == 0.760
    difference = claim_of(copied, "any-order-beats-diffusion").rows[0].cells[0].paper
    assert difference.value == pytest.approx(0.780 - 0.771)
    # The trials of an order-marginalised row are exchangeable, those of diffusion are not.
    assert main.rows[2].cells[0].verdict_trials == "higher"
    assert main.rows[3].cells[0].verdict_trials is None
    summary = render(copied)
    assert "(80.3)" in summary.main
    assert "in brackets: the paper (secondary source)" in summary.main.splitlines()[0]
    assert "the paper’s value (from a secondary source)" in summary.page.read_text()
    assert "secondary source" in (copied / "report/tables/main.tex").read_text()
    assert "paper 78.0" in summary.page.read_text()


# ---- claims


def claims_of(root: Path) -> dict[str, Claim]:
    return {claim.name: claim for claim in build_claims(Results(root), Paper.load())}


def claim_of(root: Path, name: str) -> Claim:
    paper = Paper.load()
    every = Statements.load(paper).claims
    statements = Statements(claims=[claim for claim in every if claim.name == name])
    [claim] = build_claims(Results(root), paper, statements)
    return claim


def test_the_claims_are_tested_on_the_same_images(whole: Path) -> None:
    claims = claims_of(whole)
    raster = claims["order-marginalised-beats-raster"]
    assert (raster.kind, raster.verdict) == ("holds", "holds in the mean over 8 test sets")
    [row] = raster.rows
    randar = json.loads((whole / "metrics/randar/digits.json").read_text())
    other = json.loads((whole / "metrics/randar-raster/digits.json").read_text())
    expected = (
        randar["accuracy"]["mean_log_p"][-1]["mean"] - other["accuracy"]["mean_log_p"][0]["mean"]
    )
    assert row.cells[0].estimate.value == pytest.approx(expected)
    assert list(claims)[-1] == "efficiency"
    assert [row.title for row in claims["any-order-beats-flow"].rows] == ["RandAR − SiT"]
    assert len(claims["efficiency"].rows) == 2
    assert all(cell.origins for cell in row.cells[:-1])
    assert row.cells[0].paired.test == "exact McNemar test"
    many = claims["more-orders-are-better"].rows[0]
    assert many.cells[0].paired.test == "sign-flip test"  # shares of twenty groups
    low = many.cells[0].estimate.low
    assert low > 0


def test_the_order_is_that_of_the_main_table(copied: Path) -> None:
    # The workflow writes the config with sorted keys.
    text = json.dumps(make_config(copied).model_dump(mode="json"), sort_keys=True)
    (copied / "config.json").write_text(text)
    results = Results(copied)
    assert [table.name for table in build_tables(results, Paper.load())] == ["main", "aggregation"]
    assert results.datasets[:2] == ["digits", "rotation"]
    assert results.models == ["randar-raster", "randar", "dit", "sit"]


def test_networks_of_one_size_are_compared(copied: Path) -> None:
    raw = make_config(copied).model_dump(mode="json")
    raw["models"]["dit-large"] = raw["models"]["dit"] | {"title": "DiT, large"}
    raw["report"]["tables"]["main"]["rows"].append({"model": "dit-large"})

    def compared() -> list[str]:
        write_config(parse_config(raw, "test"))
        return [row.title for row in claim_of(copied, "any-order-beats-diffusion").rows]

    raw["models"]["dit-large"]["network"] = raw["models"]["dit"]["network"] | {"size": "L"}
    assert compared() == ["RandAR − DiT"]
    raw["models"]["dit-large"]["network"]["size"] = "B"
    assert compared() == ["RandAR − DiT", "RandAR − DiT, large"]
    # The claim is one about networks of size XL, where there are any.
    raw["models"]["dit-large"]["network"]["size"] = "XL"
    raw["models"]["randar"]["network"]["size"] = "XL"
    assert compared() == ["RandAR − DiT, large"]


def test_a_claim_without_its_models_is_not_tested_here(copied: Path) -> None:
    raw = make_config(copied).model_dump(mode="json")
    raw["report"]["tables"]["main"]["rows"] = [{"model": "randar"}]
    write_config(parse_config(raw, "test"))
    claims = claims_of(copied)
    diffusion = claims["any-order-beats-diffusion"]
    assert diffusion.kind == "untested"
    assert diffusion.verdict == "not tested here: no diffusion model in the main table"
    assert claims["efficiency"].verdict == (
        "not tested here: no diffusion or flow model in the main table"
    )
    assert claims["competitive-with-discriminative"].verdict == (
        "not tested here: no discriminative model in the main table"
    )
    assert claims["more-orders-are-better"].kind == "holds"


def test_a_test_set_that_is_not_there_leaves_a_claim_undecided(copied: Path) -> None:
    (copied / "metrics/randar-raster/sketch.json").unlink()
    raster = claim_of(copied, "order-marginalised-beats-raster")
    assert (raster.kind, raster.verdict) == ("undecided", "undecided in the mean over 8 test sets")
    assert "Undecided without Sketch: RandAR, raster order: not evaluated yet." in raster.sentences
    assert "in the mean over 7 test sets" in raster.sentences[0]
    assert raster.rows[0].cells[-1].word == "undecided"
    shutil.rmtree(copied / "metrics/randar-raster")
    raster = claim_of(copied, "order-marginalised-beats-raster")
    assert raster.kind == "undecided"
    assert "not evaluated yet" in raster.sentences[0]


def answers(root: Path, model: str, dataset: str, right: list[bool]) -> None:
    """Rewrite how a model's whole budget answers."""
    path = root / f"predictions/{model}/{dataset}.parquet"
    frame = pd.read_parquet(path)
    whole = frame["budget"] == frame["budget"].max()
    frame.loc[whole, "correct"] = right
    frame.loc[whole, "share"] = [float(value) for value in right]
    rewrite_predictions(root, model, dataset, frame)


def test_one_reversed_test_set_is_named_and_does_not_decide(copied: Path) -> None:
    for dataset in make_config(copied).datasets:
        images = 159 if dataset == "four" else 397
        lost = dataset == "four"
        sides = [place >= 40 for place in range(images)], [place >= 10 for place in range(images)]
        answers(copied, "dit", dataset, sides[0] if not lost else sides[1])
        answers(copied, "randar", dataset, sides[1] if not lost else sides[0])
    claim = claim_of(copied, "any-order-beats-diffusion")
    assert claim.kind == "holds"
    assert claim.verdict == "holds in the mean over 8 test sets, reversed on Four classes"
    assert "One by one, adjusted for being 8: holds on 7, reversed on 1." in claim.sentences


def test_what_is_undecided_says_how_many_images_would_decide(copied: Path) -> None:
    raw = make_config(copied).model_dump(mode="json")
    raw["datasets"]["imagenet"] = raw["datasets"].pop("digits")
    raw["evaluations"] = [{"models": ["randar", "dit"], "datasets": ["imagenet"]}]
    raw["report"]["tables"]["main"]["columns"] = ["imagenet"]
    raw["report"]["tables"]["aggregation"]["datasets"] = ["imagenet"]
    raw["report"]["gallery"] = []
    for part in ("metrics", "merged", "predictions", "specs"):
        for path in (copied / part).glob("*/digits.*"):
            path.rename(path.with_stem("imagenet"))
    write_config(parse_config(raw, "test"))
    path = copied / "predictions/randar/imagenet.parquet"
    frame = pd.read_parquet(path).sort_values(["budget", "image_id"], ignore_index=True)
    right = frame["predicted_logsumexp"] == frame["label"]
    places = frame.groupby("budget").cumcount()
    frame["correct"] = right.where(places >= 6, places < 4)  # for mean log p; and two against
    frame["predicted_logsumexp"] = frame["predicted_logsumexp"].where(places >= 6, frame["label"])
    frame.loc[places < 4, "predicted_logsumexp"] = -1
    rewrite_predictions(copied, "randar", "imagenet", frame)
    claim = claim_of(copied, "mean-log-p-beats-logsumexp")
    assert (claim.kind, claim.verdict) == ("undecided", "undecided on Digits")
    [cell] = claim.rows[0].cells
    assert (cell.paired.only_first, cell.paired.only_second) == (4, 2)
    assert "exact McNemar test p 0.69" in claim.sentences[0]
    assert (
        "If the paper’s difference of +5.3 points is true, 397 images decide it"
        in (claim.sentences[1])
    )
    # The others name test sets of the paper that are not in this config.
    diffusion = claim_of(copied, "any-order-beats-diffusion")
    assert diffusion.kind == "undecided"
    gaps = [text for text in diffusion.sentences if text.startswith("Undecided without")]
    assert gaps[0] == "Undecided without imagenet-r: RandAR: not in the config."
    assert claim_of(copied, "efficiency").kind == "undecided"


@pytest.mark.parametrize(
    ("words", "kind", "verdict"),
    [
        (["holds"], "holds", "holds in the mean over 2 test sets"),
        (["holds", "holds"], "holds", "holds in all 2 comparisons, in the mean over 2 test sets"),
        (
            ["holds", "reversed", "reversed"],
            "reversed",
            "reversed in 2 of 3 comparisons, in the mean over 2 test sets",
        ),
        (
            ["holds", "undecided"],
            "undecided",
            "undecided in the mean over 2 test sets, in 1 of 2 comparisons",
        ),
        ([], "untested", "not tested here: no such model"),
    ],
)
def test_verdicts(words: list[Word], kind: str, verdict: str) -> None:
    statement = build_statement()
    row = Row("a − b", ())
    comparisons = tuple(Comparison("a − b", word, (), (), row) for word in words)
    columns = (Column("x", "X"), Column("y", "Y"))
    claim = Claim(statement, "source", columns, comparisons, "such model")
    assert (claim.kind, claim.verdict) == (kind, verdict)


def build_statement(**changes: Any) -> Statement:
    raw = {
        "name": "a-claim",
        "statement": "One is better",
        "first": {"role": "any-order"},
        "second": {"role": ["diffusion", "flow"]},
        "datasets": ["x", "y"],
        "source": {"table": "main table", "from": "summaries"},
    }
    return Statement.model_validate(raw | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": {"role": "wavelet"}}, "'raster', 'next-scale', 'any-order'"),
        ({"first": {}}, "give it a role"),
        ({"direction": "not_lower"}, "needs a margin"),
        ({"second": {"budget": "one"}, "measure": "cost"}, "second needs a role"),
        ({"nome": 3}, "Extra inputs"),
    ],
)
def test_a_wrong_claim_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        build_statement(**changes)


def test_a_new_claim_needs_no_python(tmp_path: Path, whole: Path) -> None:
    text = (ROOT / "reports/claims.yaml").read_text()
    text += """
  - name: flow-is-not-much-worse
    statement: Flow matching is at most 30 points less accurate than diffusion
    first: {role: flow}
    second: {role: diffusion}
    datasets: [imagenet]
    direction: not_lower
    margin: 0.3
    source: {table: none, from: summaries}
"""
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    paper = Paper.load()
    statements = Statements.load(paper, path)
    claim = build_claims(Results(whole), paper, statements)[-1]
    assert (claim.name, claim.kind) == ("flow-is-not-much-worse", "holds")
    assert "It is at most 30 points worse." in claim.sentences[0]
    path.write_text(text.replace("table: none, from: summaries", "table: none, from: hearsay"))
    with pytest.raises(GenclassError, match=r"source 'hearsay' is not in paper\.yaml"):
        Statements.load(paper, path)
    path.write_text(text.replace("paper: DiT-XL}", "paper: DiT-XXL}"))
    with pytest.raises(GenclassError, match=r"unknown row 'DiT-XXL'"):
        Statements.load(paper, path)


@pytest.mark.parametrize(
    ("instead", "verdict"),
    [
        ([], "in the mean over 8 test sets"),
        (["noise-1", "noise-9", "noise-2"], "in the mean over 2 test sets"),
        (["noise-9"], "not tested here: no test set of this kind"),
    ],
)
@pytest.mark.parametrize("measure", ["accuracy", "cost"])
def test_a_config_without_the_test_sets_of_a_claim(
    whole: Path, instead: list[str], verdict: str, measure: str
) -> None:
    statement = build_statement(instead=instead, measure=measure, datasets=["imagenet-c"])
    [claim] = build_claims(Results(whole), Paper.load(), Statements(claims=[statement]))
    assert verdict in claim.verdict


def with_lists(root: Path, images: dict[str, int]) -> None:
    """The image lists of a run, some of whose test sets have images to come."""
    raw = make_config(root).model_dump(mode="json")
    for dataset, section in raw["datasets"].items():
        number = section["images"] = images.get(dataset, 159 if dataset == "four" else 397)
        rows = [ImageRow(f"test/{i:04d}.png", f"{i}.png", 0, "0" * 64) for i in range(number)]
        ImageList(tuple(rows)).write(root / f"images/{dataset}.csv")
    write_config(parse_config(raw, "test"))


def test_unfinished_test_sets_are_judged_by_what_is_there(copied: Path) -> None:
    with_lists(copied, {})
    finished = claim_of(copied, "any-order-beats-diffusion")
    assert finished.kind == "holds"
    with_lists(copied, {"digits": 1000})
    claim = claim_of(copied, "any-order-beats-diffusion")
    assert claim.kind == "holds"
    assert "2,938 of 3,541 images so far" in claim.sentences[0]
    before, after = finished.rows[0].cells[0].estimate, claim.rows[0].cells[0].estimate
    assert after.high - after.low > before.high - before.low
    assert ("So far", "397 of 1,000 images") in claim.rows[0].cells[0].notes
    assert claim_of(copied, "efficiency").kind == "undecided"
    # One model is ahead of the other: what both have is compared.
    path = copied / "predictions/dit/digits.parquet"
    frame = pd.read_parquet(path)
    rewrite_predictions(copied, "dit", "digits", frame[frame["image_id"] < "test/0100.png"])
    claim = claim_of(copied, "any-order-beats-diffusion")
    assert ("So far", "100 of 1,000 images") in claim.rows[0].cells[0].notes
    assert claim.rows[0].cells[0].estimate.value == pytest.approx(
        first_images(copied, "randar", 100) - first_images(copied, "dit", 100)
    )


def first_images(root: Path, model: str, number: int) -> float:
    frame = pd.read_parquet(root / f"predictions/{model}/digits.parquet")
    frame = frame[frame["budget"] == frame["budget"].max()].set_index("image_id")
    return float(frame["correct"].iloc[:number].mean())


def test_the_efficiency_is_that_of_the_full_protocol(whole: Path) -> None:
    claim = claim_of(whole, "efficiency")
    table = tables_of(whole)["efficiency"]
    rows = {(row["second"], row["title"]): row["cells"] for row in table["rows"]}
    cell = rows["dit", "FLOPs, protocol"]["digits"]
    dit = json.loads((whole / "metrics/dit/digits.json").read_text())
    randar = json.loads((whole / "metrics/randar/digits.json").read_text())
    target = dit["accuracy"]["mean_log_p"][-1]["mean"] - 0.005
    accuracies = [entry["mean"] for entry in randar["accuracy"]["mean_log_p"]]
    stays = [all(a >= target for a in accuracies[place:]) for place in range(20)]

    def cost(metrics: dict[str, Any], trials: int) -> float:
        costs = metrics["costs"]
        return costs["flops_per_image"] + trials * costs["flops_per_image_trial"]

    assert cell["value"] == pytest.approx(cost(dit, 50) / cost(randar, 1 + stays.index(True)))
    assert cell["low"] <= cell["value"]
    assert cell["high"] is None
    assert cell["interval"].startswith("lower end ")
    for row in table["rows"]:
        for found in row["cells"].values():
            assert found["value"] >= 1 or not found["display"].startswith("≥")
    assert rows["dit", "FLOPs, cheapest"]["digits"]["value"] <= cell["value"]
    assert any(text.startswith("Against the ") for text in claim.sentences)


# ---- the page


class Page(HTMLParser):
    """What is in a page: numbers by cell, links, text that is not script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: dict[str, tuple[float, str]] = {}  # popover id -> (value, shown)
        self.intervals: dict[str, str] = {}  # popover id -> shown
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self._cell = self._value = self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        self._inside = str(attributes.get("class", "")) if tag == "span" else tag
        if tag == "td":
            self._cell = ""
        self.links += [str(attributes[key]) for key in ("href", "src") if key in attributes]
        if tag == "button" and "popovertarget" in attributes:
            self._cell = str(attributes["popovertarget"])
        if tag == "data":
            self._value = str(attributes["value"])

    def handle_data(self, data: str) -> None:
        if self._inside == "data" and self._value:
            self.numbers[self._cell] = (float(self._value), data)
            self._value = ""
        if self._inside == "interval" and self._cell and data.strip():
            self.intervals[self._cell] = data
        if self._inside not in ("script", "style"):
            self.text.append(data)


LISTS = ("mistakes", "gallery")  # that are no tables of cells


def tables_of(root: Path) -> dict[str, Any]:
    files = sorted((root / "report/tables").glob("*.json"))
    tables = {file.stem: json.loads(file.read_text()) for file in files}
    return {name: table for name, table in tables.items() if name not in LISTS}


def test_every_number_on_the_page_is_the_one_in_the_json(whole: Path) -> None:
    page = Page((whole / "report/report.html").read_text())
    expected = {
        f"cell-{name}-{place}-{column}": (cell["value"], cell["display"])
        for name, table in tables_of(whole).items()
        for place, row in enumerate(table["rows"])
        for column, cell in enumerate(row["cells"].values())
        if cell["value"] is not None
    }
    assert page.numbers == expected
    assert len(expected) > 100
    intervals = {
        f"cell-{name}-{place}-{column}": cell["interval"]
        for name, table in tables_of(whole).items()
        for place, row in enumerate(table["rows"])
        for column, cell in enumerate(row["cells"].values())
        if cell["interval"]
    }
    assert page.intervals == intervals


SPEC = re.compile(r'id="figure-([a-z-]+)".*?class="spec">(.*?)</script>', re.DOTALL)


def figures_of(root: Path) -> dict[str, list[dict[str, Any]]]:
    """What each figure of the page draws: its rows, by its name."""
    found = SPEC.findall((root / "report/report.html").read_text())
    return {name: json.loads(spec)["datasets"]["rows"] for name, spec in found}


def metrics_of(root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The metrics by the titles of model and dataset."""
    config = json.loads((root / "config.json").read_text())
    return {
        (
            config["models"][file.parent.name]["title"],
            config["datasets"][file.stem]["title"],
        ): json.loads(file.read_text())
        for file in (root / "metrics").glob("*/*.json")
    }


def drawn(*numbers: float) -> Any:
    """As figures have them, in five digits."""
    return pytest.approx(numbers, rel=1e-4)


def test_every_accuracy_in_a_figure_is_the_one_in_the_metrics(whole: Path) -> None:
    figures, metrics = figures_of(whole), metrics_of(whole)
    expected = {
        (*cell, entry["budget"]): (
            100 * entry["mean"],
            *(
                entry["budget"] * found["costs"][f"{unit}_per_image_trial"]
                for unit in ("forward_passes", "flops")
            ),
            entry["budget"] * found["costs"]["devices"][0]["seconds_per_image_trial"],
        )
        for cell, found in metrics.items()
        for entry in found["accuracy"]["mean_log_p"]
    }
    units = ("accuracy-forward-passes", "accuracy-flops", "accuracy-seconds")
    for place, name in enumerate(("accuracy-trials", *units)):
        rows = {(r["series"], r["dataset"], r["trials"]): r for r in figures[name]}
        assert {cell[:2] for cell in rows} == {cell for cell in metrics if "Noise" not in cell[1]}
        assert len(rows) == len(figures[name])
        for cell, row in rows.items():
            accuracy, *costs = expected[cell]
            assert (row["accuracy"], row.get("cost", 1)) == drawn(accuracy, (1, *costs)[place])
            assert row["low"] <= row["accuracy"] <= row["high"]
    rows = {(r["series"], r["dataset"], r["trials"]): r for r in figures["accuracy-severity"]}
    assert {cell[:2] for cell in rows} == {cell for cell in metrics if "Noise" in cell[1]}
    for (series, dataset, trials), row in rows.items():
        assert trials == metrics[series, dataset]["trials"]
        assert dataset == f"Noise {row['severity']}"
        assert [row["accuracy"]] == drawn(expected[series, dataset, trials][0])


def test_every_difference_in_a_figure_is_the_one_in_the_json(whole: Path) -> None:
    claims = tables_of(whole)["claims"]
    titles = {column["key"]: column["title"] for column in claims["columns"]}
    expected = {
        (row["title"], titles[key]): drawn(*(100 * cell[n] for n in ("value", "low", "high")))
        for row in claims["rows"]
        for key, cell in row["cells"].items()
    }
    assert expected == {
        (row["comparison"], row["dataset"]): (row["value"], row["low"], row["high"])
        for row in figures_of(whole)["claims"]
    }


def test_every_aggregation_in_a_figure_is_the_one_in_the_metrics(whole: Path) -> None:
    metrics = metrics_of(whole)
    rows = figures_of(whole)["aggregation-curves"]
    for row in rows:
        key = row["series"].replace(" ", "_")
        entries = metrics["RandAR", row["dataset"]]["accuracy"][key]
        means = {entry["budget"]: 100 * entry["mean"] for entry in entries}
        assert [row["accuracy"]] == drawn(means[row["trials"]])
    assert {row["series"] for row in rows} == {"mean log p", "mean softmax", "logsumexp"}


def test_every_bin_in_a_figure_is_the_one_in_the_metrics(whole: Path) -> None:
    rows = figures_of(whole)["reliability"]
    expected = [
        drawn(bin["images"], 100 * bin["confidence"], 100 * bin["accuracy"])
        for cell in dict.fromkeys((row["series"], row["dataset"]) for row in rows)
        for bin in metrics_of(whole)[cell]["calibration"]["bins"]
        if bin["images"] >= 10
    ]
    assert [(row["images"], row["confidence"], row["accuracy"]) for row in rows] == expected
    assert {row["dataset"] for row in rows} == {
        dataset for _, dataset in metrics_of(whole) if "Noise" not in dataset
    }


def test_the_mistakes_on_the_page_are_those_in_the_json(whole: Path) -> None:
    shown = " ".join("".join(Page((whole / "report/report.html").read_text()).text).split())
    for entry in json.loads((whole / "report/tables/mistakes.json").read_text()):
        for found in entry["weakest"]:
            percent = show(found["accuracy"], "percent")
            assert f"{found['name']} {percent} % of {found['images']}" in shown
        for pair in entry["confused"]:
            names = f"{pair['label_name']} taken for {pair['predicted_name']}"
            assert f"{names} {pair['images']} ×" in shown


def test_the_sentences_say_what_the_table_holds(whole: Path) -> None:
    text = "".join(Page((whole / "report/report.html").read_text()).text)
    for row in tables_of(whole)["claims"]["rows"]:
        mean = row["cells"]["mean"]
        said = f"by {mean['display'].lstrip('+−')} percentage points in the mean over 8 test sets"
        low, high = mean["low"], mean["high"]
        interval = f"{show(low, 'points')} to {show(high, 'points')} points"
        assert f"{said} (95\u00a0% interval {interval};" in text


def test_csv_agrees_with_the_json(whole: Path) -> None:
    for name, table in tables_of(whole).items():
        rows = list(csv.DictReader((whole / f"report/tables/{name}.csv").open()))
        cells = [cell for row in table["rows"] for cell in row["cells"].values()]
        assert [row["value"] for row in rows] == [
            "" if cell["value"] is None else str(cell["value"]) for cell in cells
        ]


def test_the_page_needs_no_network(whole: Path) -> None:
    text = (whole / "report/report.html").read_text()
    page = Page(text)
    local = ("data:", "#", "tables/", "figures/", "provenance.json", "predictions.parquet")
    assert [link for link in page.links if not link.startswith(local)] == []
    assert all(
        (whole / "report" / link).is_file()
        for link in page.links
        if not link.startswith(("data:", "#"))
    )
    assert "default-src 'none'" in text
    assert text.count("vega.embed") + text.count("window.vegaEmbed = vegaEmbed") <= 2
    assert len(text) < 8_000_000


def test_figures_stand_beside_the_page(whole: Path) -> None:
    stems = {path.stem for path in (whole / "report/figures").glob("*.svg")}
    assert {"claims", "accuracy-trials", "accuracy-flops", "reliability"} <= stems
    for stem in stems:
        assert (whole / f"report/figures/{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert f'id="figure-{stem}"' in (whole / "report/report.html").read_text()


def test_predictions_of_all_models_are_one_file(whole: Path) -> None:
    frame = pd.read_parquet(whole / "report/predictions.parquet")
    assert frame.groupby(["model", "dataset"], observed=True).ngroups == 32
    key = ["model", "dataset", "image_id", "budget"]
    assert not frame.duplicated(key).any()
    row = frame[(frame["model"] == "randar") & (frame["dataset"] == "digits")]
    accuracy = row[row["budget"] == 20]["correct"].mean()
    assert accuracy == pytest.approx(main_cell(whole, 2, "digits").estimate.value)


def without_provenance(page: Path) -> str:
    return page.read_text().split('<section id="provenance">')[0]


def test_rendering_again_gives_the_same_bytes(whole: Path) -> None:
    folder = whole / "report"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    page = without_provenance(folder / "report.html")
    render(whole)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed <= {"report.html", "provenance.json"}
    assert without_provenance(folder / "report.html") == page


def test_names_are_shown_and_never_run(copied: Path) -> None:
    raw = make_config(copied).model_dump(mode="json")
    raw["models"]["randar"]["title"] = raw["datasets"]["digits"]["title"] = NASTY
    raw["report"]["title"] = raw["report"]["tables"]["main"]["caption"] = NASTY
    classes = copied / "classes.csv"
    lines = [f'{i},folder-{i},"{NASTY.replace(chr(34), 2 * chr(34))}"' for i in range(10)]
    classes.write_text("\n".join(["class_id,folder,name", *lines]) + "\n")
    raw["datasets"]["sketch"]["labels"] = str(classes)
    write_config(parse_config(raw, "test"))
    render(copied)
    text = (copied / "report/report.html").read_text()
    assert "<script>alert" not in text
    page = Page(text)
    assert page.text.count(NASTY) > 5
    assert any(NASTY in part and "taken for" in part for part in page.text)
    assert page.tags.count("script") == text.count("</script>")


def test_two_models_of_one_title_are_told_apart(copied: Path) -> None:
    raw = make_config(copied).model_dump(mode="json")
    raw["models"]["sit"]["title"] = "DiT"
    write_config(parse_config(raw, "test"))
    results = Results(copied)
    assert [results.model_title(n) for n in ("dit", "sit")] == ["DiT (dit)", "DiT (sit)"]


def test_a_folder_without_a_single_result_has_a_report(tmp_path: Path) -> None:
    write_config(make_config(tmp_path))
    summary = render(tmp_path)
    assert summary.missing == 32
    page = "".join(Page(summary.page.read_text()).text)
    assert "Nothing has been evaluated yet." in page
    assert "not evaluated yet" in page
    assert "not fetched yet" in page
    assert not (tmp_path / "report/predictions.parquet").exists()


def test_one_cell_is_enough_for_a_report(tmp_path: Path) -> None:
    config: Config = make_config(tmp_path)
    write_config(config)
    write_cell(config, "randar", "four")
    summary = render(tmp_path)
    assert summary.missing == 31
    assert "91.8" in summary.main


def test_tables_of_an_earlier_config_are_removed(copied: Path) -> None:
    render(copied)
    raw = make_config(copied).model_dump(mode="json")
    del raw["report"]["tables"]["aggregation"]
    write_config(parse_config(raw, "test"))
    render(copied)
    assert not list((copied / "report").rglob("aggregation*"))


def test_a_table_cannot_take_a_name_of_the_reports_own(copied: Path) -> None:
    raw = make_config(copied).model_dump(mode="json")
    raw["report"]["tables"]["claims"] = raw["report"]["tables"]["aggregation"]
    with pytest.raises(GenclassError, match=r"report\.tables\.claims: .* choose another"):
        parse_config(raw, "test")


def test_a_folder_without_config_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(GenclassError, match=r"config\.json: the config of a run is missing: "):
        render(tmp_path)


def test_mixed_devices_are_said_and_seconds_not_compared(copied: Path, whole: Path) -> None:
    config = make_config(copied)
    for dataset in config.datasets:
        write_cell(config, "dit", dataset, device="NVIDIA H200")
    render(copied)
    tables = tables_of(copied)
    rows = tables["efficiency"]["rows"]
    seconds = {row["second"]: row["cells"]["digits"] for row in rows if row["unit"] == "seconds"}
    assert seconds["dit"]["missing"] == "not on the same device"
    assert seconds["sit"]["value"] > 0
    page = "".join(Page((copied / "report/report.html").read_text()).text)
    assert "Left out, measured on other devices: DiT." in page
    assert "Scored on different devices: seconds are compared on Some CPU alone." in page
    provenance = json.loads((copied / "report/provenance.json").read_text())
    energy = {entry["device"]: entry["watt_hours"] for entry in provenance["devices"]}
    assert energy["Some CPU"] is None
    assert energy["NVIDIA H200"] > 0


def with_a_race(root: Path, exhaustive: int = 0) -> Config:
    """The folder's config with RandAR once more, in a race, measured on two test sets."""
    raw = make_config(root).model_dump(mode="json")
    strategy = {"kind": "fixed", "rounds": [[5, 5], [10, 2], [15, 1]]}
    race = {**raw["models"]["randar"], "title": "RandAR, racing", "strategy": strategy}
    raw["exhaustive"] = exhaustive
    raw["models"]["randar-racing"] = race
    raw["evaluations"].append({"models": ["randar-racing"], "datasets": ["digits", "four"]})
    rows = raw["report"]["tables"]["main"]["rows"]
    rows += [{"model": "randar-racing"}, {"model": "randar-racing", "trials": 1}]
    rows += [{"model": "randar-racing", "aggregation": "logsumexp"}]
    config = parse_config(raw, "test")
    write_config(config)
    for dataset in ("digits", "four"):
        write_cell(config, "randar-racing", dataset)
    return config


def test_a_race_is_a_point_of_its_own(copied: Path) -> None:
    with_a_race(copied)
    results = Results(copied)
    evaluation = results.evaluation("randar-racing", "digits")
    assert (evaluation.raced, evaluation.budgets) == (True, [20])
    assert main_cell(copied, 5, "digits").budget == 20
    assert main_cell(copied, 5, "digits").estimate is not None
    # With one order no class has been dropped yet, so every image has its answer.
    alone = main_cell(copied, 6, "digits")
    assert (alone.budget, alone.groups, alone.images) == (1, 1, 397)
    first = results.judged("randar", "digits", 1, "mean_log_p")
    assert alone.estimate is not None and first is not None
    assert alone.estimate.value == first["correct"].mean()
    assert main_cell(copied, 7, "digits").missing == (
        "a race: of its images, none is scored exhaustively"
    )

    claims = build_claims(results, Paper.load())
    rows = {claim.name: [row.title for row in claim.rows] for claim in claims}
    assert rows["more-orders-are-better"] == ["RandAR: 20 orders − 1 order"]
    # Its network is scored exhaustively beside it: the race tells only what that costs.
    assert rows["any-order-beats-diffusion"] == ["RandAR − DiT"]
    # Races stand in a table of their own, and are no part of the verdict.
    assert rows["efficiency"] == ["RandAR against DiT", "RandAR against SiT"]
    [races] = [t for t in efficiency_tables(claims, results) if t.name == "efficiency-races"]
    assert {row.group for row in races.rows} == {
        "RandAR, racing against DiT",
        "RandAR, racing against SiT",
    }
    figures = build_figures(results, claims)
    points = pd.DataFrame(figures["accuracy-forward-passes"].spec["datasets"]["rows"])
    points = points[points["dataset"] == "Digits"]
    [race] = points[points["series"] == "RandAR, racing"].to_dict("records")
    whole = points[(points["series"] == "RandAR") & (points["trials"] == 20)]["cost"].item()
    assert race["lone"]
    assert race["cost"] == 5 * 10 + 5 * 5 + 5 * 2  # of an image, until one class is left
    assert race["cost"] < whole == 200
    assert "RandAR, racing" not in figures["reliability"].legend

    render(copied)
    tables = tables_of(copied)
    rows_of_calibration = [row["title"] for row in tables["calibration"]["rows"]]
    assert "RandAR" in rows_of_calibration
    assert "RandAR, racing" not in rows_of_calibration
    assert "race-agreement" not in tables


def test_a_race_is_held_against_the_exhaustive_scores_of_its_first_images(copied: Path) -> None:
    with_a_race(copied, exhaustive=100)
    results = Results(copied)
    first = results.image_ids("digits", ["randar"])[:100]
    raced, whole = (
        results.predictions("randar-racing", "digits", ["predicted"], 20, exhaustive)
        for exhaustive in (False, True)
    )
    assert raced is not None and whole is not None
    assert (len(raced), whole.index.tolist()) == (397, first)
    same = raced.loc[first, "predicted"] == whole["predicted"]
    render(copied)
    tables = tables_of(copied)
    [row] = tables["race-agreement"]["rows"]
    agreement = row["cells"]
    assert list(agreement) == ["digits", "four"]  # those that are raced
    assert agreement["digits"]["value"] == same.mean() < 1
    assert agreement["digits"]["images"] == 100
    assert agreement["digits"]["low"] < agreement["digits"]["value"]
    savings = {row["title"]: row["cells"] for row in tables["race-savings"]["rows"]}
    assert list(savings) == ["forward passes", "FLOPs", "seconds"]
    assert savings["forward passes"]["digits"]["value"] == pytest.approx(200 / 85)
    assert savings["seconds"]["digits"]["value"] == pytest.approx(200 / 85)
    assert savings["forward passes"]["digits"]["interval"] == ""
    page = (copied / "report/report.html").read_text()
    assert page.index("Races: the same answers") < page.index("Races: how much cheaper")

    # What a race cannot tell is of the first images.
    cells = [main_cell(copied, row, "digits") for row in (5, 6, 7)]
    assert [cell.images for cell in cells] == [397, 397, 100]
    curve = results.shares("randar-racing", "digits")
    assert curve is not None
    assert (curve[0], curve[2]) == (list(range(1, 21)), sorted(first))
    assert np.isfinite(curve[1]).all()
    assert "RandAR, racing" in [row["title"] for row in tables["calibration"]["rows"]]
    seconds = results.evaluation("randar-racing", "digits").seconds
    record = MergeRecord.read(results.files.record("randar-racing", "digits"))
    assert sum(seconds.values()) == pytest.approx(sum(part.seconds for part in record.shards))


def test_a_race_with_exhaustive_scores_is_part_of_the_claims(copied: Path) -> None:
    raw = with_a_race(copied, exhaustive=100).model_dump(mode="json")
    main = raw["report"]["tables"]["main"]
    main["rows"] = [r for r in main["rows"] if r["model"] != "randar"]
    main["columns"] = ["digits"]
    write_config(parse_config(raw, "test"))
    results = Results(copied)
    claims = {claim.name: claim for claim in build_claims(results, Paper.load())}
    titles = {name: [row.title for row in claim.rows] for name, claim in claims.items()}
    assert titles["more-orders-are-better"] == ["RandAR, racing: 20 orders − 1 order"]
    assert titles["any-order-beats-diffusion"] == ["RandAR, racing − DiT"]
    assert titles["efficiency"][0] == "RandAR, racing against DiT"
    images = {name: claims[name].rows[0].cells[0].images for name in titles if titles[name]}
    assert images["more-orders-are-better"] == 397
    assert images["any-order-beats-diffusion"] == 397
    assert images["efficiency"] == 100


def test_a_network_that_only_races_is_compared(copied: Path) -> None:
    raw = with_a_race(copied).model_dump(mode="json")
    rows = raw["report"]["tables"]["main"]["rows"]
    raw["report"]["tables"]["main"]["rows"] = [r for r in rows if r["model"] != "randar"]
    write_config(parse_config(raw, "test"))
    claims = build_claims(Results(copied), Paper.load())
    rows = {claim.name: [row.title for row in claim.rows] for claim in claims}
    assert rows["any-order-beats-diffusion"] == ["RandAR, racing − DiT"]
    assert rows["more-orders-are-better"] == ["RandAR, racing: 20 orders − 1 order"]
    assert rows["mean-log-p-beats-logsumexp"] == []


def test_the_gallery_shows_what_was_explained(whole: Path) -> None:
    text = (whole / "report/report.html").read_text()
    [digits, four] = json.loads((whole / "report/tables/gallery.json").read_text())
    assert [pair["dataset"] for pair in (digits, four)] == ["digits", "four"]
    for pair in (digits, four):
        for title, model in zip(pair["titles"], pair["models"], strict=True):
            alone = f"Right by {title} alone: {pair['right_alone'][model]} of {pair['images']}"
            assert alone in text
            for entry in pair["entries"]:
                assert f"{100 * entry['answers'][model]['posterior']:.1f}&nbsp;%" in text
                assert "map" not in entry["answers"][model]
    assert text.count('alt="The image test/') == len(digits["entries"])
    assert text.count("not shown: the test set’s terms") == len(four["entries"]) > 0


def test_a_gallery_that_is_not_there_says_why(copied: Path, whole: Path) -> None:
    def reasons() -> list[str]:
        return [pair.missing for pair in build_gallery(Results(copied))]

    assert reasons() == ["not explained yet: run the workflow"] * 2
    folder = copied / "explained/randar/dit"
    folder.mkdir(parents=True)
    old = json.loads((whole / "explained/randar/dit/digits.json").read_text())
    old["specs"] = {"randar": "0" * 64, "dit": "0" * 64}
    (folder / "digits.json").write_text(json.dumps(old))
    (folder / "four.json").write_text("{}")
    assert reasons() == [
        "explained under an older spec: rerun",
        f"damaged: delete {folder / 'four.json'} and rerun",
    ]
    (copied / "metrics/dit/four.json").unlink()
    assert reasons()[1] == "DiT: not evaluated yet"
    render(copied)
    page = "".join(Page((copied / "report/report.html").read_text()).text)
    assert "No gallery: explained under an older spec: rerun." in page
    raw = make_config(copied).model_dump(mode="json")
    raw["rehearsal"] = 0.5
    write_config(parse_config(raw, "test"))
    assert reasons() == ["a rehearsal runs no networks"] * 2


def report_of(root: Path) -> dict[str, bytes]:
    """Every file of the report, by its path inside."""
    folder = root / "report"
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_file_of_a_rehearsal_says_so(copied: Path, whole: Path) -> None:
    config = rehearsed(make_config(copied).model_copy(update={"rehearsal": 1}))
    write_config(config.model_copy(update={"results": str(copied)}))
    assert render(copied).main.startswith(f"{WARNING}: Top-1 accuracy (%)\n")
    real, made_up = report_of(whole), report_of(copied)
    assert real.keys() == made_up.keys()
    assert not any(WARNING.encode() in content for content in real.values())
    for name, content in made_up.items():
        if name.endswith(".png"):  # drawn from the SVG
            assert content != real[name]
        elif name != "predictions.parquet":  # a rehearsal's images have ids that say so
            assert WARNING.encode() in content, name
        if name.endswith(".csv"):
            frame = pd.read_csv(io.BytesIO(content))
            assert set(frame.pop("warning")) == {WARNING}
            assert list(frame) == list(pd.read_csv(io.BytesIO(real[name])))


def test_one_busy_hour_does_not_decide_what_a_pass_takes(copied: Path) -> None:
    path = copied / "metrics/dit/digits.json"
    metrics = json.loads(path.read_text())
    for key in ("seconds", "seconds_per_image_trial"):
        metrics["costs"]["devices"][0][key] *= 10
    path.write_text(json.dumps(metrics))
    results = Results(copied)
    evaluations = [e for e in results.evaluations if e.model == "dit"]
    costs = {e.dataset: results.cost(e, "seconds") for e in evaluations}
    assert costs["digits"] == pytest.approx(costs["sketch"])  # ten classes each
    assert costs["digits"] == pytest.approx(costs["four"] * 10 / 4)
    total = sum(costs[e.dataset] * e.images * e.trials for e in evaluations)
    told = [e.metrics["costs"]["devices"][0]["seconds"] for e in evaluations if e.metrics]
    assert total == pytest.approx(sum(told))


def test_the_provenance_names_specs_and_checksums(whole: Path) -> None:
    provenance = json.loads((whole / "report/provenance.json").read_text())
    assert len(provenance["evaluations"]) == 32
    text = (whole / "report/report.html").read_text()
    for entry in provenance["evaluations"]:
        assert entry["spec"] in text
        assert entry["scores"] in text
    assert {entry["licence"] for entry in provenance["checkpoints"]} == {"MIT"}
    assert provenance["versions"]["scored with"]["torch"] == ["2.13.0"]


def test_outside_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) == "not in a git repository"


def test_the_provenance_leaves_out_what_nothing_is_evaluated_with(tmp_path: Path) -> None:
    raw = make_config(tmp_path).model_dump(mode="json")
    raw["evaluations"] = [{"models": ["randar"], "datasets": ["digits", "four"]}]
    raw["report"]["tables"] = {}
    write_config(parse_config(raw, "test"))
    render(tmp_path)
    provenance = json.loads((tmp_path / "report/provenance.json").read_text())
    assert [entry["name"] for entry in provenance["checkpoints"]] == ["randar", "llamagen_vq"]
    assert [entry["name"] for entry in provenance["datasets"]] == ["digits", "four"]


def test_no_spreadsheet_takes_a_title_for_a_formula() -> None:
    columns = (Column("a", "A"),)
    rows = tuple(Row(title, (Cell(missing="@x"),)) for title in ("=1+1", "+1", "-1", "@a", "fine"))
    table = Table("t", "T", "", "Model", columns, rows)
    written = list(csv.DictReader(io.StringIO(table.as_csv())))
    assert {title for row in written for title in row.values()} >= {"'=1+1", "'+1", "'-1", "'@a"}
    assert not any(value[:1] in "=+-@" for row in written for value in row.values() if value)
    assert [row["title"] for row in table.as_json()["rows"]] == [r.title for r in rows]
