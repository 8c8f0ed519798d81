"""The report while jobs run: from score files, the images that are there, and nothing twice."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import genclass.reporting.so_far as so_far
from genclass.analysis.accuracy import MEAN_LOG_P
from genclass.analysis.measure import measure
from genclass.analysis.sequential import PairedSet
from genclass.cli.running import show_claims
from genclass.cli.terminal import Terminal
from genclass.config import Config, Extent, RacingStrategy
from genclass.data.image_list import ImageList
from genclass.jobs.rehearsal import make_scores
from genclass.reporting.arms import Arm
from genclass.reporting.claims import paired_set
from genclass.reporting.results import Results
from genclass.reporting.so_far import CellSoFar, claims_so_far, gather, render_so_far
from genclass.scores.merge import MergedScores, merge
from genclass.scores.score_file import ScoreFile
from genclass.scores.shards import Shard
from genclass.specs.cells import specs_of
from tests.support.halfway import score, small

CELL, OTHER = ("randar", "digits"), ("dit", "digits")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """RandAR has 140 of 300 images, and 40 more behind a gap; DiT 100."""
    config = small(tmp_path / "run", ["randar", "dit"], ["digits"])
    score(config, *CELL, (0, 60), (60, 140), (200, 240))
    score(config, *OTHER, (0, 100))
    return config


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_a_cell_is_its_longest_prefix(config: Config) -> None:
    found = gather(config)
    assert found[CELL] == CellSoFar(140, 300, apart=40)
    assert found[OTHER] == CellSoFar(100, 300)
    lines = so_far.notes(found)
    assert "0 of 2 evaluations are complete, 2 are under way; 240 of 600 images." in lines[0]
    assert lines[1:] == ["Left out: images behind a gap, which count later: 40."]


def test_it_is_what_merging_and_measuring_would_say(config: Config, tmp_path: Path) -> None:
    gather(config)
    run, spec = config.run, specs_of(config)[CELL]
    files = sorted(run.scores(*CELL).iterdir())[:2]
    images = ImageList.read(run.image_list("digits"))
    record = merge(files, spec, images, Extent(140, 20, 140), tmp_path / "merged")
    metrics, predictions = measure(MergedScores(tmp_path / "merged", record, spec), spec, record)
    written = read(run.so_far.metrics(*CELL))
    assert {key: written[key] for key in metrics} == json.loads(json.dumps(metrics))
    order = ["budget", "image_id"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(run.so_far.predictions(*CELL)).sort_values(order, ignore_index=True),
        predictions.sort_values(order, ignore_index=True),
        check_dtype=False,
    )


def raced(config: Config) -> Config:
    """RandAR races but for 100 images, of which all are there, and of the others 50."""
    model = config.models["randar"]
    race = model.model_copy(update={"strategy": RacingStrategy(kind="racing")})
    models = config.models | {"randar": race}
    config = config.model_copy(update={"models": models, "exhaustive": 100})
    spec = specs_of(config)[CELL]
    rows = ImageList.read(config.run.image_list("digits"))
    shard = Shard(100, 150, 0, 20, race=True)
    make_scores(spec, shard, rows, 5, config.run.shard(*CELL, shard.name))
    return config


def test_a_race_so_far_is_what_merging_and_measuring_would_say(
    config: Config, tmp_path: Path
) -> None:
    config = raced(config)
    assert gather(config)[CELL].images == 150
    run, spec = config.run, specs_of(config)[CELL]
    names = ["images-00000-00059", "images-00060-00139", "images-00100-00149"]
    files = [next(run.scores(*CELL).glob(f"{name}*")) for name in names]
    images = ImageList.read(run.image_list("digits"))
    record = merge(files, spec, images, Extent(150, 20, 100), tmp_path / "merged")
    metrics, predictions = measure(MergedScores(tmp_path / "merged", record, spec), spec, record)
    assert metrics["control"]["images"] == 100
    written = read(run.so_far.metrics(*CELL))
    assert {key: written[key] for key in metrics} == json.loads(json.dumps(metrics))
    order = ["raced", "budget", "image_id"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(run.so_far.predictions(*CELL)).sort_values(order, ignore_index=True),
        predictions.sort_values(order, ignore_index=True),
        check_dtype=False,
    )


def test_before_any_image_raced_the_exhaustive_answers_stand_for_the_race(config: Config) -> None:
    config = raced(config)
    for file in config.run.scores(*CELL).glob("*.race-020.safetensors"):
        file.unlink()
    assert gather(config)[CELL].images == 100
    metrics = read(config.run.so_far.metrics(*CELL))
    assert (metrics["racing"], metrics["exhaustive"], metrics["control"]) == (True, 100, None)
    frame = pd.read_parquet(config.run.so_far.predictions(*CELL))
    frame = frame[frame["budget"] == 20].set_index("image_id")
    answers = [frame[frame["raced"] == kind]["predicted"].sort_index() for kind in (True, False)]
    pd.testing.assert_series_equal(*answers)


def test_one_order_of_a_race_is_of_all_images_at_every_look(config: Config) -> None:
    """Also while the images that are there are all scored exhaustively."""
    config = raced(config)
    asked = config.cells()[CELL].images
    many, one = (Arm("randar", budget, MEAN_LOG_P, "", None) for budget in (20, 1))
    found = []
    for there in (150, 100):
        assert gather(config)[CELL].images == there
        pair = paired_set(Results(config.run.so_far, config), many, one, "digits")
        assert isinstance(pair, PairedSet)
        assert (len(pair.differences), len(pair.to_come)) == (there, asked - there)
        assert set(pair.differences) <= {-1.0, 0.0, 1.0}
        found.append(pair.differences)
        for file in config.run.scores(*CELL).glob("*.race-020.safetensors"):
            file.unlink()
    pd.testing.assert_series_equal(found[0].loc[found[1].index], found[1])


def test_metrics_of_an_older_version_are_measured_again(config: Config) -> None:
    gather(config)
    path = config.run.so_far.metrics(*CELL)
    expected = path.read_bytes()
    older = json.loads(expected)
    del older["race_accuracy"]
    path.write_text(json.dumps(older))
    gather(config)
    assert path.read_bytes() == expected


def test_what_was_read_is_not_read_again(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    gather(config)
    read_files = []
    real = so_far.ScoreFile.read

    def read_file(path: Path) -> ScoreFile:
        read_files.append(path.name)
        return real(path)

    monkeypatch.setattr(so_far.ScoreFile, "read", read_file)
    before = config.run.so_far.metrics(*CELL).stat().st_mtime_ns
    gather(config)
    assert read_files == []
    assert config.run.so_far.metrics(*CELL).stat().st_mtime_ns == before
    score(config, *CELL, (140, 200))
    assert gather(config)[CELL].images == 240
    # What stood behind the gap is read now, for the first time.
    assert read_files == [
        f"images-{a}.trials-000-019.safetensors" for a in ("00140-00199", "00200-00239")
    ]


def test_another_spec_and_damage_are_left_out_and_counted(config: Config) -> None:
    other = config.model_copy(update={"seed": 1})
    score(other, *OTHER, (100, 150))
    path = config.run.shard(*CELL, "images-00060-00139.trials-000-019")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = gather(config)
    assert found[OTHER] == CellSoFar(100, 300, other_spec=1)
    assert found[CELL] == CellSoFar(60, 300, apart=40, damaged=1)
    assert so_far.notes(found)[1:] == [
        "Left out: images behind a gap, which count later: 40.",
        "Left out: score files of another spec: 1.",
        "Left out: damaged score files: 1.",
    ]
    for shard in config.run.scores(*CELL).iterdir():
        shard.unlink()
    assert gather(config)[CELL] == CellSoFar(0, 300)
    assert not config.run.so_far.metrics(*CELL).exists()


def test_the_page_says_how_many_images_are_there(config: Config) -> None:
    found = render_so_far(config)
    assert found.page == config.run.root / "so-far/report/report.html"
    assert not config.run.page.exists() and not (config.run.root / "config.json").exists()
    page = found.page.read_text()
    assert "140 of 300 images" in page and found.notes[0] in page
    table = read(config.run.root / "so-far/report/tables/main.json")
    rows = {row["title"]: row["cells"]["digits"] for row in table["rows"]}
    cell = rows["RandAR, K = 20"]
    assert (cell["images"], cell["to_come"]) == (140, 160)
    # An interval that may be looked at every day is wider than one that may be once.
    n, p = 140, cell["value"]
    assert cell["high"] - cell["low"] > 2.5 * 1.96 * np.sqrt(p * (1 - p) / n)
    claims = {claim.name: claim for claim in claims_so_far(config)}
    claim = claims["any-order-beats-diffusion"]
    assert "100 of 300 images so far" in claim.sentences[0]  # those that both have
    assert claim.rows[0].cells[0].images_display == "100 of 300"


def test_a_person_is_told_what_is_decided(config: Config) -> None:
    file = io.StringIO()
    show_claims(claims_so_far(config), Terminal(file))
    text = " ".join(file.getvalue().split())
    assert re.search(r"more accurate than diffusion: (holds|undecided|reversed) on Digits", text)
    assert "not tested" not in text


def test_complete_cells_are_as_in_the_last_report(config: Config) -> None:
    score(config, *CELL, (140, 200), (240, 300))
    found = gather(config)
    assert found[CELL] == CellSoFar(300, 300)
    render_so_far(config)
    table = read(config.run.root / "so-far/report/tables/main.json")
    cell = table["rows"][2]["cells"]["digits"]
    n, p = 300, cell["value"]
    assert cell["to_come"] == 0
    assert cell["high"] - cell["low"] < 2.2 * 1.96 * np.sqrt(p * (1 - p) / n)
