"""Status and shard sizes: what is read off the files of a run, and what is decided once."""

import copy
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genclass.cli.running import show_status
from genclass.cli.terminal import Terminal
from genclass.config import Config, parse_config
from genclass.jobs.partial import Partial
from genclass.jobs.rehearsal import make_image_list, make_manifest, make_scores
from genclass.paths import Run
from genclass.planning.rates import Rate, Rates
from genclass.planning.shard_size import cell_shards, record, shard_sizes
from genclass.planning.status import CellStatus, TimeLeft, status
from genclass.scores.shards import Shard
from genclass.specs.cells import specs_of
from genclass.specs.spec import Spec
from tests.support.small_config import SMALL

TRIALS, CLASSES = 4, 10
DONE, RUNNING, FAILED, STOPPED, WAITING = (Shard(n, n + 2, 0, TRIALS) for n in (0, 2, 4, 6, 8))


def small(tmp_path: Path, **changes: Any) -> Config:
    """One model on 10 images of 10 digits, 4 trials."""
    raw = copy.deepcopy(SMALL) | {"results": str(tmp_path), "shards": {"images": 2}} | changes
    raw["datasets"]["digits"] |= {"labels": "digits", "images": 10}
    raw["models"]["ours"] |= {"trials": TRIALS}
    raw["models"]["ours"]["network"]["classes"] = CLASSES
    return parse_config(raw, "small")


@pytest.fixture
def halfway(tmp_path: Path) -> Iterator[Config]:
    """A shard that is done, one at work, one that failed, one that was stopped, one that waits."""
    config = small(tmp_path)
    images = make_image_list("digits", config.datasets["digits"], CLASSES, config.seed)
    images.write(config.run.image_list("digits"))
    weights = make_manifest("checkpoints", "weights", config.checkpoints["weights"])
    weights.write(config.run.manifest("checkpoints", "weights"))
    spec = specs_of(config)["ours", "digits"]
    make_scores(spec, DONE, images, 5, tmp_path / f"scores/ours/digits/{DONE.name}.safetensors")
    logs = tmp_path / "logs/evaluate/ours/digits"
    logs.mkdir(parents=True)
    (logs / f"{RUNNING.name}.log").write_text(f"{RUNNING.name}: 1/2 images, 0.25 images/s, 4 s\n")
    (logs / f"{FAILED.name}.log").write_text("host somewhere\nerror: 4.png: no image\n")
    (logs / f"{STOPPED.name}.log").write_text("SIGTERM: stopping; a rerun goes on from here\n")
    folder = tmp_path / "partial/ours/digits"
    with partial(folder, spec, STOPPED) as left:
        left.add(0, np.zeros((TRIALS, CLASSES), np.float32), 3.0)
    with partial(folder, spec, RUNNING) as running:
        running.add(0, np.zeros((TRIALS, CLASSES), np.float32), 3.0)
        yield config


def partial(folder: Path, spec: Spec, shard: Shard) -> Partial:
    return Partial(folder, spec.sha256, shard, CLASSES)


def test_shards_are_counted_by_what_became_of_them(halfway: Config) -> None:
    (cell,) = status(halfway)
    assert (cell.done, cell.running, cell.waiting, cell.shards) == (1, 1, 2, 5)
    log = Path(halfway.results) / f"logs/evaluate/ours/digits/{FAILED.name}.log"
    assert cell.failed == [(log, "error: 4.png: no image")]
    assert cell.images_done == 2 + 1 + 1
    assert cell.rate == 0.25
    assert cell.left == TimeLeft(24.0)  # 6 images


def test_a_person_reads_it(halfway: Config) -> None:
    file = io.StringIO()
    show_status(status(halfway), Run(halfway.results).page, Terminal(file))
    lines = [line.strip() for line in file.getvalue().splitlines()]
    (row,) = (line for line in lines if line.startswith("ours"))
    assert row.split() == ["ours", "digits", "1/5", "1", "2", "1", "40%", "0.25", "24", "s"]
    log = Run(halfway.results).log("evaluate", "ours", "digits", FAILED.name)
    assert f"{log}: error: 4.png: no image" in lines
    assert lines[-1] == "1 of 5 shards are done."


def test_before_the_first_run_everything_waits(tmp_path: Path) -> None:
    (cell,) = status(small(tmp_path))
    assert (cell.done, cell.running, cell.waiting, cell.failed) == (0, 0, 5, [])
    assert cell.left is None


def test_of_a_shard_that_reaches_beyond_the_cell_what_is_in_it_counts(halfway: Config) -> None:
    first = halfway.evaluations[0].model_copy(update={"images": 1, "trials": 3})
    (cell,) = status(halfway.model_copy(update={"evaluations": [first]}))
    assert (cell.done, cell.shards) == (1, 1)
    assert cell.images_done == cell.images == 1
    assert cell.left == TimeLeft(0.0)


def test_scores_of_another_spec_are_not_done(halfway: Config) -> None:
    (cell,) = status(halfway.model_copy(update={"seed": 2}))
    assert (cell.done, cell.images_done) == (0, 0)


def test_the_time_left_is_that_of_one_device_while_nothing_runs() -> None:
    cell = CellStatus("m", "d", images=100, images_done=25, seconds=3600.0)
    assert cell.left == TimeLeft(10_800.0, of_one_device=True)
    assert dataclasses.replace(cell, rate=0.5).left == TimeLeft(150.0)
    assert dataclasses.replace(cell, images_done=100).left == TimeLeft(0.0)


# The size of a shard


def wish(tmp_path: Path, minutes: int | None = 30, **changes: Any) -> Config:
    return small(tmp_path, target_shard_minutes=minutes, **changes)


def calibrate(config: Config, passes_per_second: float) -> None:
    rate = Rate(
        passes_per_second, seconds_per_image=2.0, seconds_per_job=60.0, seconds_to_compile=900.0
    )
    Rates("A device", "made up", {"ours": rate}).write(Run(config.results).calibration)


CELL = ("ours", "digits")


def test_the_calibration_decides_how_many_images_fit_into_the_minutes(tmp_path: Path) -> None:
    config = wish(tmp_path)
    assert shard_sizes(config) == {CELL: 2}  # not calibrated: shards.images
    calibrate(config, passes_per_second=5.0)
    # An image takes 4 x 10 / 5 + 2 = 10 s; 30 minutes less a minute of start-up, which does not
    # compile in all jobs but the first.
    assert shard_sizes(config) == {CELL: 174}
    assert shard_sizes(wish(tmp_path, 1)) == {CELL: 1}  # never none
    assert shard_sizes(wish(tmp_path, None)) == {CELL: 2}


def test_what_was_decided_is_kept_when_the_calibration_changes(tmp_path: Path) -> None:
    config = wish(tmp_path)
    calibrate(config, passes_per_second=5.0)
    assert record(config) == []
    before = Run(config.results).shard_sizes.stat()
    calibrate(config, passes_per_second=500.0)
    assert shard_sizes(config) == {CELL: 174}
    record(config)
    assert Run(config.results).shard_sizes.stat().st_mtime_ns == before.st_mtime_ns
    assert shard_sizes(wish(tmp_path, 60)) != {CELL: 174}  # another wish decides anew


def test_without_a_calibration_nothing_is_decided(tmp_path: Path) -> None:
    config = wish(tmp_path)
    models = {"ours": config.models["ours"].model_copy(update={"images_per_shard": 3})}
    given = config.model_copy(update={"models": models})
    assert shard_sizes(given) == {CELL: 3}
    assert record(given) == ["ours"]
    calibrate(given, passes_per_second=5.0)
    assert shard_sizes(given) == {CELL: 174}
    assert record(given) == []


def test_of_fewer_candidates_a_shard_has_more_images(tmp_path: Path) -> None:
    config = small(tmp_path)
    four = config.datasets["digits"].model_copy(update={"candidates": "present", "classes": 4})
    assert shard_sizes(config.model_copy(update={"datasets": {"digits": four}})) == {CELL: 5}
    unknown = four.model_copy(update={"classes": None})
    assert shard_sizes(config.model_copy(update={"datasets": {"digits": unknown}})) == {CELL: 2}


def test_a_shard_of_images_that_the_dataset_no_longer_has_is_left_out(tmp_path: Path) -> None:
    kept, beyond = Shard(0, 4, 0, TRIALS), Shard(4, 12, 0, TRIALS)
    shards = cell_shards(small(tmp_path), CELL, 6, [kept, beyond])
    assert shards == [kept, Shard(4, 6, 0, TRIALS), Shard(6, 10, 0, TRIALS)]
    fewer = small(tmp_path, evaluations=[{"models": ["ours"], "datasets": ["digits"], "images": 3}])
    assert cell_shards(fewer, CELL, 6, [kept]) == [kept]  # of a list that has them
