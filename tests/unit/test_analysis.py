"""Accuracies from scores, and what `measure` says. Intervals and tests: test_statistics.py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from genclass.analysis import accuracy
from genclass.analysis.accuracy import AGGREGATIONS, TrialGroups, judge
from genclass.analysis.measure import kept_budgets, measure
from genclass.errors import GenclassError
from genclass.paths import Run
from genclass.scores.merge import MergedScores, MergeRecord
from genclass.specs.spec import Spec
from tests.support.synthetic_results import make_config, write_cell

ROOT = Path(__file__).parents[2]


def draw(images: int, trials: int, classes: int, seed: int = 0) -> np.ndarray:
    scores = np.random.default_rng(seed).standard_normal((images, trials, classes))
    return (3 * scores - 100).astype(np.float32)


# ---- accuracies


def accuracies(
    scores: np.ndarray,
    class_ids: np.ndarray,
    labels: np.ndarray,
    aggregations: Sequence[str] = AGGREGATIONS,
) -> dict[int, dict[str, list[float]]]:
    """budget -> aggregation -> the accuracy of every group."""
    found: dict[int, dict[str, Any]] = {}
    for judged in judge(scores, class_ids, labels, aggregations):
        row = found.setdefault(judged.budget, {})
        row[judged.aggregation] = row.get(judged.aggregation, 0) + judged.right.sum(0)
    return {
        budget: {name: (count / len(scores)).tolist() for name, count in row.items()}
        for budget, row in found.items()
    }


def test_accuracies_are_those_of_the_golden_file() -> None:
    golden = json.loads((ROOT / "tests/golden/statistics.json").read_text())
    random = np.random.RandomState(golden["seed"])
    shape = golden["n_images"], golden["n_trials"], golden["n_classes"]
    scores = (random.standard_normal(shape) * 3 - 100).astype(np.float32)
    class_ids = random.permutation(1000)[: shape[2]]
    labels = class_ids[random.randint(0, shape[2], shape[0])]
    scores[np.arange(shape[0]), :, [class_ids.tolist().index(label) for label in labels]] += 2
    found = accuracies(scores, class_ids, labels)
    assert sorted(map(str, found)) == sorted(golden["accuracy_per_budget"])
    for budget, lists in golden["accuracy_per_budget"].items():
        for aggregation, expected in zip(AGGREGATIONS, lists, strict=True):
            # The golden values were divided in float32.
            assert found[int(budget)][aggregation] == pytest.approx(expected, abs=1e-7)


def plain_aggregate(scores: np.ndarray, aggregation: str) -> np.ndarray:
    """Slow and obviously right: one group of trials, [trials, classes], in long doubles."""
    scores = scores.astype(np.longdouble)
    if aggregation == "mean_log_p":
        return scores.mean(axis=0)
    if aggregation == "mean_softmax":
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.log((powers / powers.sum(axis=1, keepdims=True)).mean(axis=0))
    return np.log(np.exp(scores - scores.max()).mean(axis=0)) + scores.max()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("budget", [1, 2, 3, 5, 7])
def test_aggregates_are_those_of_the_definition(aggregation: str, budget: int) -> None:
    scores = draw(4, 7, 5)
    found = TrialGroups(scores).aggregate(budget, aggregation)
    assert found.shape == (4, 7 // budget, 5)
    for image in range(4):
        for group in range(7 // budget):
            part = scores[image, group * budget : (group + 1) * budget]
            expected = plain_aggregate(part, aggregation).astype(float)
            np.testing.assert_allclose(found[image, group], expected, rtol=1e-12)


def test_nothing_underflows() -> None:
    scores = np.array([[[-90_000.0, -2_000.0], [-1_000.0, -95_000.0]]], dtype=np.float32)
    for aggregation in AGGREGATIONS:
        aggregated = TrialGroups(scores).aggregate(2, aggregation)
        assert np.isfinite(aggregated).all()
    assert TrialGroups(scores).aggregate(2, "logsumexp").argmax() == 0
    assert TrialGroups(scores).aggregate(2, "mean_log_p").argmax() == 0


def test_the_size_of_a_block_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = draw(23, 6, 9), np.arange(23) % 9
    whole = accuracies(scores, np.arange(9), labels)
    for block in (1, 6 * 9 * 5, 6 * 9 * 22):
        monkeypatch.setattr(accuracy, "_BLOCK", block)
        assert accuracies(scores, np.arange(9), labels) == whole


def test_predictions_are_class_ids_of_the_candidates() -> None:
    class_ids = np.random.default_rng(1).permutation(1000)[:200]
    labels = class_ids[np.arange(50)]
    scores = np.zeros((50, 2, 200), dtype=np.float32)
    scores[np.arange(50), :, np.arange(50)] = 1
    assert accuracies(scores, class_ids, labels)[2]["mean_log_p"] == [1.0]
    assert accuracies(scores, np.arange(200), labels)[2]["mean_log_p"] == [
        float((labels == np.arange(50)).mean())
    ]


def test_of_tied_classes_the_lowest_column_wins() -> None:
    # The same three numbers, summed in other orders: sums that tie must do so exactly.
    values = np.float32([0.1, 0.2, 0.7])
    scores = np.stack([values, values[::-1], values[[1, 2, 0]]], axis=1)[None]
    found = accuracies(scores, np.array([7, 8, 9]), np.array([7]), ["mean_log_p"])
    assert found[3]["mean_log_p"] == [1.0]
    equal = np.zeros((1, 4, 3), dtype=np.float32)
    found = accuracies(equal, np.array([7, 8, 9]), np.array([7]))
    assert all(set(groups) == {1.0} for row in found.values() for groups in row.values())


def test_only_the_aggregations_asked_for_are_there() -> None:
    found = accuracies(draw(3, 4, 5), np.arange(5), np.arange(3), ["mean_log_p"])
    assert [list(row) for row in found.values()] == [["mean_log_p"]] * 4
    assert [len(row["mean_log_p"]) for row in found.values()] == [4, 2, 1, 1]


def test_no_images_are_refused() -> None:
    nothing: Any = SimpleNamespace(spec="a spec", scores=draw(0, 4, 5), racing=False)
    record: Any = SimpleNamespace(spec="a spec")
    spec: Any = None
    with pytest.raises(GenclassError, match="no images to measure"):
        measure(nothing, spec, record)


def test_races_are_refused() -> None:
    scores = draw(3, 4, 5)
    scores[1, 2, 3] = np.nan
    with pytest.raises(GenclassError, match="racing"):
        accuracies(scores, np.arange(5), np.arange(3))


# ---- measure


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_config(tmp_path_factory.mktemp("results"))
    for model in ("randar", "dit"):
        write_cell(config, model, "four")
    return Path(config.results)


def load(root: Path, model: str) -> tuple[MergedScores, dict, pd.DataFrame]:
    metrics = json.loads((root / f"metrics/{model}/four.json").read_text())
    predictions = pd.read_parquet(root / f"predictions/{model}/four.parquet")
    return merged_of(root, model), metrics, predictions


def merged_of(root: Path, model: str) -> MergedScores:
    run = Run(root)
    record = MergeRecord.read(run.record(model, "four"))
    return MergedScores(run.merged(model, "four"), record, Spec.read(run.spec(model, "four")))


def test_metrics_hold_every_budget_and_predictions_agree_with_them(cells: Path) -> None:
    merged, metrics, predictions = load(cells, "randar")
    expected = accuracies(merged.scores, merged.class_ids, merged.labels)
    for aggregation in AGGREGATIONS:
        for entry in metrics["accuracy"][aggregation]:
            groups = expected[entry["budget"]][aggregation]
            assert entry["groups"] == groups
            assert entry["mean"] == pytest.approx(np.mean(groups))
            if len(groups) > 1:
                assert entry["deviation"] == pytest.approx(np.std(groups, ddof=1))
            else:
                assert entry["deviation"] is None
    for budget, rows in predictions.groupby("budget"):
        entry = metrics["accuracy"]["mean_log_p"][budget - 1]
        assert rows["share"].mean() == pytest.approx(entry["mean"])
        assert rows["correct"].mean() == pytest.approx(entry["groups"][0])
        softmax = (rows["predicted_mean_softmax"] == rows["label"]).mean()
        assert softmax == pytest.approx(
            metrics["accuracy"]["mean_softmax"][budget - 1]["groups"][0]
        )
    assert set(predictions["predicted"]) <= {1, 4, 7, 9}
    assert (predictions["predicted"] != predictions["runner_up"]).all()
    assert len(predictions) == 20 * 159


def test_where_the_mistakes_are_adds_up(cells: Path) -> None:
    _, metrics, predictions = load(cells, "randar")
    final = predictions[predictions["budget"] == 20]
    assert sum(entry["images"] for entry in metrics["per_class"]) == 159
    assert sum(entry["correct"] for entry in metrics["per_class"]) == final["correct"].sum()
    wrong = final[~final["correct"]]
    assert sum(pair["images"] for pair in metrics["confusions"]) == len(wrong)
    counts = [pair["images"] for pair in metrics["confusions"]]
    assert counts == sorted(counts, reverse=True)
    calibration = metrics["calibration"]
    assert sum(entry["images"] for entry in calibration["bins"]) == 159
    assert final["posterior"].between(0.25, 1).all()
    gaps = [b["images"] * abs(b["accuracy"] - b["confidence"]) for b in calibration["bins"]]
    assert calibration["ece"] == pytest.approx(sum(gaps) / 159)


def test_diffusion_has_one_aggregation_and_spread_budgets(cells: Path) -> None:
    _, metrics, predictions = load(cells, "dit")
    assert list(metrics["accuracy"]) == ["mean_log_p"]
    assert len(metrics["accuracy"]["mean_log_p"]) == 50
    assert sorted(set(predictions["budget"])) == kept_budgets(50)
    assert "predicted_logsumexp" not in predictions
    assert not metrics["calibration"]["is_likelihood"]


def test_costs_are_per_image_and_trial(cells: Path) -> None:
    _, metrics, _ = load(cells, "dit")
    costs = metrics["costs"]
    assert costs["forward_passes_per_image_trial"] == 4
    assert costs["flops_per_image_trial"] == 4 * 34_000_000
    [device] = costs["devices"]
    assert device["device"] == "Some CPU"
    assert device["seconds_per_image_trial"] == pytest.approx(4 * 0.003 / 10)


def test_kept_budgets() -> None:
    assert kept_budgets(20) == list(range(1, 21))
    assert kept_budgets(250)[-3:] == [160, 200, 250]
    assert kept_budgets(60)[-2:] == [50, 60]
    assert len(kept_budgets(1000)) < 30


def test_a_record_of_other_scores_is_refused(cells: Path) -> None:
    run = Run(cells)
    merged, spec = merged_of(cells, "randar"), Spec.read(run.spec("randar", "four"))
    record = MergeRecord.read(run.record("dit", "four"))
    with pytest.raises(
        GenclassError, match=r"the scores are of spec .*, their record of .*: delete"
    ):
        measure(merged, spec, record)
    with pytest.raises(GenclassError, match=r"its record is of spec .*: delete both and rerun"):
        MergedScores(run.merged("randar", "four"), record, spec)


def test_the_script_writes_both_files_or_one_clear_line(cells: Path, tmp_path: Path) -> None:
    def run(record: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "workflow_scripts/measure.py"]
        command += ["--spec", str(Run(cells).spec("randar", "four"))]
        command += ["--scores", str(cells / "merged/randar/four.safetensors")]
        command += ["--record", str(record), "--metrics", str(tmp_path / "m.json")]
        command += ["--predictions", str(tmp_path / "p.parquet")]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    done = run(cells / "merged/randar/four.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m.json").read_text() == (cells / "metrics/randar/four.json").read_text()
    written = (tmp_path / "p.parquet").read_bytes()
    assert written == (cells / "predictions/randar/four.parquet").read_bytes()
    failed = run(tmp_path / "none.json")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert "none.json" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
