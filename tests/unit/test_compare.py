"""`genclass compare`: what changed between two results folders."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from genclass.cli import app
from genclass.cli.comparing import show_comparison
from genclass.cli.terminal import Terminal
from genclass.config import parse_config
from genclass.errors import GenclassError
from genclass.reporting.compare import CellChange, compare
from genclass.reporting.results import Results
from tests.support.synthetic_results import (
    make_config,
    rewrite_predictions,
    write_cell,
    write_config,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A: three cells. B: the first again, the second with another seed, the third not yet."""
    folders = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    for folder, seed in zip(folders, (0, 7), strict=True):
        config = make_config(folder)
        write_config(config)
        write_cell(config, "randar", "four")
        write_cell(config, "dit", "four", seed=seed)
    write_cell(make_config(folders[0]), "sit", "four")
    return folders


def cell(runs: tuple[Path, Path], model: str, dataset: str = "four") -> CellChange:
    cells = compare(*map(Results, runs))
    [found] = [c for c in cells if (c.model, c.dataset) == (model, dataset)]
    return found


def predictions(root: Path, model: str) -> pd.DataFrame:
    frame = pd.read_parquet(root / f"predictions/{model}/four.parquet")
    return frame[frame["budget"] == frame["budget"].max()].set_index("image_id")


def test_the_same_scores_change_nothing(runs: tuple[Path, Path]) -> None:
    same = cell(runs, "randar")
    assert (same.status, same.changes) == ("same scores", ())
    assert same.difference is not None
    assert (same.difference.difference.value, same.difference.p_value) == (0.0, 1.0)


def test_another_seed_is_said_and_compared_image_by_image(runs: tuple[Path, Path]) -> None:
    changed = cell(runs, "dit")
    assert (changed.status, changed.reason) == ("other spec", "seed")
    a, b = (predictions(run, "dit") for run in runs)
    other = a.index[a["predicted"] != b["predicted"]]
    assert sorted(change.image_id for change in changed.changes) == sorted(other)
    assert changed.count("won") == int((b["correct"] & ~a["correct"]).sum()) > 0
    assert changed.count("lost") == int((a["correct"] & ~b["correct"]).sum()) > 0
    assert changed.count("other") == len(other) - changed.count("won") - changed.count("lost")
    assert changed.first and changed.second and changed.difference
    assert changed.difference.difference.value == pytest.approx(
        changed.second.accuracy - changed.first.accuracy
    )
    assert (changed.difference.only_first, changed.difference.only_second) == (
        changed.count("won"),
        changed.count("lost"),
    )


def test_a_cell_that_one_run_lacks_says_which(runs: tuple[Path, Path]) -> None:
    missing = cell(runs, "sit")
    assert (missing.status, missing.reason) == ("not compared", "B: not evaluated yet")
    assert missing.first is not None and missing.second is None
    assert cell(runs, "sit", "digits").reason == "A: not evaluated yet; B: not evaluated yet"


def test_fewer_images_are_compared_on_the_common_ones(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    raw = make_config(tmp_path).model_dump(mode="json")
    raw["datasets"]["four"]["images"] = 60
    config = parse_config(raw, "test")
    write_config(config)
    write_cell(config, "dit", "four", seed=3)
    fewer = cell((runs[0], tmp_path), "dit")
    assert fewer.reason == "image_list, seed; images 159 → 60, 60 in common"
    assert fewer.difference is not None and fewer.difference.images == 60


def test_other_labels_are_not_compared(runs: tuple[Path, Path], tmp_path: Path) -> None:
    config = make_config(tmp_path)
    write_config(config)
    write_cell(config, "dit", "four")
    path = tmp_path / "predictions/dit/four.parquet"
    frame = pd.read_parquet(path)
    frame["label"] = np.roll(frame["label"], 1)
    rewrite_predictions(tmp_path, "dit", "four", frame)
    assert cell((runs[0], tmp_path), "dit").reason.endswith("images have another label")


def shown(first: Results, second: Results, images: int) -> str:
    file = io.StringIO()
    show_comparison(first, second, compare(first, second), images, Terminal(file))
    return file.getvalue()


def test_a_person_reads_it(runs: tuple[Path, Path]) -> None:
    first, second = map(Results, runs)
    text = shown(first, second, 2)
    changed = cell(runs, "dit")
    assert "other spec: seed" in text
    assert f"1 of {len(compare(first, second))} cells have the same scores" in text
    assert "not compared: B: not evaluated yet" in text
    one = changed.changes[0]
    assert f"{one.kind:5}  {one.image_id}: " in text
    assert changed.changes[2].image_id not in text
    assert f"and {len(changed.changes) - 2} more" in text


def test_a_run_has_not_changed_from_itself(runs: tuple[Path, Path], tmp_path: Path) -> None:
    raw = make_config(tmp_path).model_dump(mode="json")
    raw["evaluations"] = [{"models": ["randar"], "datasets": ["four"]}]
    config = parse_config(raw, "test")
    write_config(config)
    write_cell(config, "randar", "four")
    run = Results(tmp_path)
    assert shown(run, run, 1).splitlines()[2:] == ["1 of 1 cells have the same scores, bit by bit."]


def test_names_are_no_markup(runs: tuple[Path, Path], tmp_path: Path) -> None:
    classes = tmp_path / "classes.csv"
    lines = [f"{i},folder-{i},[red]{i}[/blue]" for i in range(10)]
    classes.write_text("\n".join(["class_id,folder,name", *lines]) + "\n")
    raw = make_config(tmp_path).model_dump(mode="json")
    raw["datasets"]["four"]["labels"] = str(classes)
    config = parse_config(raw, "test")
    write_config(config)
    write_cell(config, "dit", "four", seed=7)
    first, second = Results(runs[0]), Results(tmp_path)
    assert "[/blue]" in shown(first, second, 1)


def test_the_command_gives_json(runs: tuple[Path, Path]) -> None:
    done = CliRunner().invoke(app, ["compare", *map(str, runs), "--json"])
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert (report["first"], report["second"]) == tuple(map(str, runs))
    [dit] = [c for c in report["cells"] if (c["model"], c["dataset"]) == ("dit", "four")]
    changed = cell(runs, "dit")
    assert dit["difference"]["difference"]["value"] == changed.difference.difference.value
    assert [c["kind"] for c in dit["changes"]] == [c.kind for c in changed.changes]


def test_a_folder_without_results_is_one_line(runs: tuple[Path, Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", str(runs[0]), str(tmp_path)])
    assert isinstance(done.exception, GenclassError)
    assert "the config of a run is missing: rerun the workflow" in str(done.exception)
