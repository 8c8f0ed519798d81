"""Evaluate: any sharding gives the same bytes, a killed job goes on, and wrong input is refused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genclass.analysis.measure import measure
from genclass.config import Extent, RacingStrategy
from genclass.config.strategy import NoiseOfTrials
from genclass.data.image_list import ImageList
from genclass.errors import GenclassError
from genclass.families.card import Trial
from genclass.jobs.partial import Partial, peek
from genclass.jobs.worker import choose_device
from genclass.racing.noise import Noise
from genclass.racing.pilot import Pilot
from genclass.racing.replay import replay, replay_pilot
from genclass.racing.schedule import Racing, race_scores
from genclass.scorers.fitting import score_image
from genclass.scorers.ordered import OrderedScorer
from genclass.scores.merge import MergedScores, MergeRecord, merge
from genclass.scores.score_file import ScoreFile
from genclass.scores.shards import Shard, plan_shards
from genclass.specs.spec import Spec
from tests.support.setting import CANDIDATES, IMAGES, Setting


def merged(setting: Setting, files: list[Path], trials: int, name: str = "merged") -> MergeRecord:
    extent = Extent(IMAGES, trials, IMAGES)
    return merge(files, setting.spec, setting.images, extent, setting.folder / name)


@pytest.mark.parametrize(
    "shards",
    [
        plan_shards(IMAGES, 20, 4),
        plan_shards(IMAGES, 20, 1, 7),
        plan_shards(IMAGES, 20, 5, existing=plan_shards(IMAGES, 8, 4)),
    ],
    ids=["by-images", "by-trials", "grown-from-8-to-20"],
)
@pytest.mark.parametrize("class_batch", [2, 16], ids=["part-of-a-trial", "several-trials"])
def test_any_sharding_merges_to_the_bytes_of_the_unsharded_run(
    setting, shards, class_batch
) -> None:
    whole = setting.run(Shard(0, IMAGES, 0, 20), class_batch=class_batch)
    merged(setting, [whole], 20, "whole")
    merged(setting, [setting.run(shard, class_batch=class_batch) for shard in shards], 20, "parts")
    assert (setting.folder / "whole").read_bytes() == (setting.folder / "parts").read_bytes()


def test_the_score_file_says_who_made_it(setting) -> None:
    file = ScoreFile.read(setting.run(Shard(1, 4, 0, 3)))
    assert file.header.spec == setting.spec.sha256
    assert file.header.forward_passes == 3 * 3 * 4
    assert file.header.flops > file.header.forward_passes
    assert file.header.seconds > 0
    assert file.header.versions["torch"] == torch.__version__
    assert file.spec == setting.spec.text
    assert file.class_ids.tolist() == CANDIDATES
    assert file.labels.tolist() == [1, 2, 3]
    assert file.image_ids == ["a/1.png", "a/2.png", "a/3.png"]
    assert not list((setting.folder / "partial").rglob("*.partial"))


class Killed(BaseException):
    """As sudden as SIGKILL, but in this process."""


def test_a_killed_shard_scores_no_image_twice(setting, monkeypatch) -> None:
    shard = Shard(0, IMAGES, 0, 4)
    expected = ScoreFile.read(setting.run(shard))
    scored: list[str] = []

    def scoring_until(limit: int) -> None:
        def score(scorer, prepared, *arguments):
            if len(scored) == limit:
                raise Killed
            scored.append(prepared.draws.image_id)
            return score_image(scorer, prepared, *arguments)

        monkeypatch.setattr("genclass.jobs.worker.score_image", score)

    scoring_until(3)
    with pytest.raises(Killed):
        setting.run(shard, destination=setting.folder / "resumed")
    assert not (setting.folder / "resumed").exists()
    scoring_until(100)
    resumed = ScoreFile.read(setting.run(shard, destination=setting.folder / "resumed"))
    assert scored == [row.image_id for row in setting.images.rows]
    np.testing.assert_array_equal(resumed.scores, expected.scores)


def test_a_record_that_was_cut_off_is_scored_again(tmp_path: Path) -> None:
    shard = Shard(0, 3, 0, 2)
    scores = np.arange(8, dtype=np.float32).reshape(2, 4)
    with Partial(tmp_path, "s" * 64, shard, classes=4) as partial:
        partial.add(0, scores, 1.0)
        partial.add(1, scores + 8, 2.0)
    whole = partial.path.read_bytes()
    for cut in range(1, 30):
        partial.path.write_bytes(whole[:-cut])
        with Partial(tmp_path, "s" * 64, shard, classes=4) as again:
            assert set(again.rows) == {0}
            assert again.seconds == 1.0
            np.testing.assert_array_equal(again.rows[0], scores)
            again.add(1, scores + 8, 2.0)
            again.add(2, scores, 0.5)
        assert again.path.read_bytes()[: len(whole)] == whole


def test_the_partial_file_of_something_else_is_refused(tmp_path: Path) -> None:
    shard = Shard(0, 3, 0, 2)
    with Partial(tmp_path, "s" * 64, shard, classes=4) as partial:
        partial.add(0, np.zeros((2, 4), np.float32), 1.0)
    with (
        pytest.raises(GenclassError, match="the partial file of another evaluation: delete it"),
        Partial(tmp_path, "s" * 64, shard, classes=5),
    ):
        pass


@pytest.mark.parametrize(("row", "value"), [(0, np.nan), (0, np.inf), (3, 0.0)])
def test_a_partial_that_holds_what_cannot_be_is_blamed_itself(
    tmp_path: Path, row: int, value: float
) -> None:
    shard = Shard(0, 3, 0, 2)
    with Partial(tmp_path, "s" * 64, shard, classes=4) as partial:
        partial.add(row, np.full((2, 4), value, np.float32), 1.0)
    with (
        pytest.raises(GenclassError, match=r"\.partial: .*row .*: delete it and rerun"),
        Partial(tmp_path, "s" * 64, shard, classes=4),
    ):
        pass


def test_a_full_disk_is_one_line_of_the_partial(tmp_path: Path) -> None:
    shard = Shard(0, 3, 0, 2)
    with (
        pytest.raises(GenclassError, match=r"\.partial: no space left in .*: free some and rerun"),
        Partial(tmp_path, "s" * 64, shard, classes=4) as partial,
    ):
        os.dup2(os.open("/dev/full", os.O_WRONLY), partial._file.fileno())
        partial.add(0, np.zeros((2, 4), np.float32), 1.0)


def test_a_partial_whose_folder_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "partial").write_text("")
    with pytest.raises(GenclassError, match=r"cannot be written: .*directory"):
        Partial(tmp_path / "partial", "s" * 64, Shard(0, 3, 0, 2), classes=4)


WAIT_WITH_LOCK = """
import sys, time
from genclass.jobs.partial import Partial, peek
from genclass.scores.shards import Shard
with Partial(sys.argv[1], "s" * 64, Shard(0, 3, 0, 2), classes=4):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_twin_waits_and_takes_over_from_a_dead_one(tmp_path: Path, capfd) -> None:
    twin = subprocess.Popen(
        [sys.executable, "-c", WAIT_WITH_LOCK, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert twin.stdout.readline() == "locked\n"
    os.kill(twin.pid, signal.SIGKILL)
    start = time.monotonic()
    with Partial(tmp_path, "s" * 64, Shard(0, 3, 0, 2), classes=4):
        pass
    twin.wait()
    assert time.monotonic() - start < 10


def test_what_a_twin_finished_is_kept(setting) -> None:
    shard = Shard(0, 2, 0, 2)
    destination = setting.run(shard)
    before = destination.stat()
    setting.run(shard)
    after = destination.stat()
    assert after.st_ino == before.st_ino
    assert after.st_mtime_ns > before.st_mtime_ns  # up to date, for Snakemake


def test_out_of_memory_halves_the_class_batch_and_keeps_the_numbers(setting, monkeypatch) -> None:
    shard = Shard(0, 2, 0, 3)
    expected = ScoreFile.read(setting.run(shard)).scores
    score = OrderedScorer.score

    def score_with_little_memory(self, prepared, trials, classes, part=None):
        if len(classes) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, prepared, trials, classes, part)

    monkeypatch.setattr(OrderedScorer, "score", score_with_little_memory)
    file = ScoreFile.read(setting.run(shard, destination=setting.folder / "x", class_batch=4))
    assert file.header.class_batch == 1
    np.testing.assert_array_equal(file.scores, expected)


class Counting:
    """Gives each class its number, in batches that fit into its memory; knows what was tried."""

    device = torch.device("cpu")
    system = SimpleNamespace(trial=Trial("order"))

    def __init__(self, memory: int) -> None:
        self.memory = memory  # classes at once
        self.tried: list[int] = []

    def score(self, prepared, trials, classes):
        self.tried.append(len(classes))
        if len(classes) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return classes.double()

    def score_image(self, trials: int, classes: int, batch: int) -> tuple[np.ndarray, int]:
        return score_image(self, None, range(trials), torch.arange(classes), batch)  # type: ignore[arg-type]


def test_no_memory_at_all_is_one_clear_line() -> None:
    with pytest.raises(GenclassError, match="out of memory with one class at a time: use a larger"):
        Counting(memory=0).score_image(trials=1, classes=3, batch=3)


@pytest.mark.parametrize(
    ("classes", "batch", "sizes"),
    [(1000, 1000, [250] * 4), (200, 1000, [200]), (1000, 240, [200] * 5), (7, 3, [3, 3, 1])],
)
def test_candidates_are_divided_evenly_and_on_a_cpu_are_250_at_once(classes, batch, sizes) -> None:
    scorer = Counting(memory=1000)
    scores, at_once = scorer.score_image(1, classes, batch)
    assert scorer.tried == sizes
    assert at_once == min(classes, batch, 250)
    np.testing.assert_array_equal(scores[0], np.arange(classes))


def test_out_of_memory_halves_what_was_tried_not_what_was_allowed() -> None:
    scorer = Counting(memory=100)
    _, at_once = scorer.score_image(trials=3, classes=40, batch=1000)
    assert scorer.tried == [120, 40, 40, 40]  # each trial by itself: two do not fit
    assert at_once == 60


def test_a_tampered_checkpoint_is_refused_before_it_is_loaded(setting) -> None:
    spec, network = setting.spec, setting.files["network"]
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    with pytest.raises(GenclassError, match=r"network\.pt: sha256 is .*: the file was changed"):
        setting.run(Shard(0, 1, 0, 1), spec)
    network.unlink()
    with pytest.raises(
        GenclassError,
        match=r"network\.pt: the checkpoint is missing: bring it back: genclass fetch",
    ):
        setting.run(Shard(0, 1, 0, 1), spec)


def test_a_tampered_image_is_refused(setting) -> None:
    path = setting.folder / "images" / "1.png"
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(GenclassError, match=r"1\.png"):
        setting.run(Shard(0, 2, 0, 1))


def test_another_image_list_and_shards_beyond_it_are_refused(setting) -> None:
    fewer = ImageList(setting.images.rows[:-1])
    with pytest.raises(GenclassError, match="the image list is not the one of the spec"):
        setting.run(Shard(0, 1, 0, 1), image_list=fewer)
    with pytest.raises(GenclassError, match="small has only 6 images: delete this shard"):
        setting.run(Shard(0, 7, 0, 1))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(GenclassError, match=r"a GPU was asked for, but torch .* sees none on"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


# Races


def racing(setting: Setting, **options: Any) -> Spec:
    return setting.specified(strategy=RacingStrategy(kind="racing", delta=0.2, **options))


NOISE = NoiseOfTrials(scale=0.5, degrees_of_freedom=8.0)


def test_a_race_is_the_replay_of_exhaustive_scores(setting) -> None:
    spec = racing(setting, noise=NOISE)
    exhaustive = ScoreFile.read(setting.run(Shard(0, IMAGES, 0, 20))).scores
    file = ScoreFile.read(setting.run(Shard(0, IMAGES, 0, 20, race=True), spec))
    expected = np.stack([race_scores(s, Racing(Noise(0.5, 8.0), 0.2)) for s in exhaustive])
    assert 0 < np.isnan(expected).mean() < 1
    np.testing.assert_allclose(file.scores, expected, rtol=1e-5)
    assert file.header.racing
    assert file.header.forward_passes == np.isfinite(expected).sum()


def test_a_pilot_measures_once_for_all_shards_and_is_paid_for_once(setting, capsys) -> None:
    spec = racing(setting)
    files = [setting.run(Shard(start, start + 3, 0, 20, race=True), spec) for start in (0, 3)]
    assert capsys.readouterr().out.count("pilot: noise") == 1
    first, second = (ScoreFile.read(file) for file in files)
    pilot = 6 * (4 + 7 * 4)  # images, all classes in one trial, (at most) five in seven more
    assert first.header.forward_passes == np.isfinite(first.scores).sum() + pilot
    assert second.header.forward_passes == np.isfinite(second.scores).sum()
    destination = setting.folder / "merged"
    record = merge(files, spec, setting.images, Extent(IMAGES, 20, 0), destination)
    assert record.racing
    metrics, predictions = measure(MergedScores(destination, record, spec), spec, record)
    assert metrics["accuracy"] == {}
    assert [entry["budget"] for entry in metrics["race_accuracy"]] == [1, 20]
    assert metrics["calibration"] is None
    assert len(predictions) == 2 * IMAGES
    assert (predictions["predicted"] != predictions["runner_up"]).all()
    (setting.folder / "partial" / spec.sha256 / "pilot.json").write_text("{")
    with pytest.raises(GenclassError, match=r"pilot\.json is no pilot .*: delete it and rerun"):
        setting.run(Shard(0, 3, 0, 20, race=True), spec, destination=setting.folder / "again")


def test_the_first_images_are_scored_exhaustively_and_control_the_race(setting) -> None:
    spec, destination = racing(setting), setting.folder / "merged"
    shards = [Shard(0, 2, 0, 20), Shard(2, 5, 0, 20), Shard(2, 6, 0, 20, race=True)]
    files = [setting.run(shard, spec.of(shard)) for shard in shards]
    extent = Extent(IMAGES, 20, 4)  # one shard reaches beyond its part, one begins before it
    record = merge(files, spec, setting.images, extent, destination)
    assert (record.exhaustive, [part.images for part in record.shards]) == (4, [2, 2, 2])
    merged = MergedScores(destination, record, spec)
    assert np.isfinite(merged.scores[:4]).all()
    assert np.isnan(merged.scores[4:]).any()
    metrics, predictions = measure(merged, spec, record)

    exhaustive = ScoreFile.read(setting.run(Shard(0, IMAGES, 0, 20))).scores
    pilot = Pilot.read(setting.folder / "partial" / spec.sha256)
    assert record.noise == pilot.noise
    played = replay(exhaustive, Racing(Noise.of(pilot.noise), 0.2))
    first, raced = (
        predictions[predictions["raced"] & (predictions["budget"] == b)] for b in (1, 20)
    )
    assert raced["predicted"].tolist() == [CANDIDATES[c] for c in played.predictions]
    # In its first trial a race has lost nobody: one order's answer is that of every image.
    assert first["predicted"].tolist() == [CANDIDATES[c] for c in exhaustive[:, 0].argmax(axis=1)]
    control = metrics["control"]
    assert control["images"] == 4
    assert control["agreeing"] == (played.predictions == played.exhaustive)[:4].sum()
    assert control["passes"] == pytest.approx(played.passes[:4].mean())

    # Curves and calibration are those of the four images, the race's accuracies of all six.
    curve = metrics["accuracy"]["mean_log_p"]
    assert [entry["images"] for entry in curve] == [4] * 20
    assert [entry["images"] for entry in metrics["accuracy"]["logsumexp"]] == [4] * 20
    answers = [(e["budget"], e["images"], e["mean"]) for e in metrics["race_accuracy"]]
    assert answers == [
        (1, 6, pytest.approx(first["correct"].mean())),
        (20, 6, pytest.approx(raced["correct"].mean())),
    ]
    whole = predictions[~predictions["raced"] & (predictions["budget"] == 20)]
    assert curve[-1]["mean"] == whole["correct"].mean()
    assert sum(entry["images"] for entry in metrics["calibration"]["bins"]) == 4
    assert metrics["costs"]["forward_passes_per_image_trial"] == 4  # classes
    passes = metrics["race_costs"]["forward_passes_per_image_trial"]
    assert passes * 20 * 4 == ScoreFile.read(files[-1]).header.forward_passes
    assert sum(entry["images"] for entry in metrics["per_class"]) == IMAGES


def test_a_race_of_images_that_are_all_scored_exhaustively_is_a_replay(setting) -> None:
    spec, destination = racing(setting), setting.folder / "merged"
    file = setting.run(Shard(0, IMAGES, 0, 20))
    record = merge([file], spec, setting.images, Extent(IMAGES, 20, IMAGES), destination)
    metrics, predictions = measure(MergedScores(destination, record, spec), spec, record)
    scores = ScoreFile.read(file).scores
    played = replay(scores, Racing(replay_pilot(scores, exchangeable=True), 0.2))
    assert metrics["control"]["passes"] == pytest.approx(played.passes.mean())
    assert metrics["race_costs"] is None
    assert predictions["raced"].sum() == 2 * IMAGES


def test_a_killed_race_goes_on(setting, monkeypatch) -> None:
    spec, shard = racing(setting, noise=NOISE), Shard(0, IMAGES, 0, 20, race=True)
    whole = ScoreFile.read(setting.run(shard, spec))
    committed: list[int] = []
    add = Partial.add

    def add_until_killed(self, row, *arguments):
        if len(committed) == 2:
            raise Killed
        committed.append(row)
        add(self, row, *arguments)

    monkeypatch.setattr(Partial, "add", add_until_killed)
    with pytest.raises(Killed):
        setting.run(shard, spec, destination=setting.folder / "resumed")
    monkeypatch.setattr(
        Partial, "add", lambda self, row, *a: committed.append(row) or add(self, row, *a)
    )
    resumed = ScoreFile.read(setting.run(shard, spec, destination=setting.folder / "resumed"))
    assert sorted(committed) == list(range(IMAGES))  # none twice
    np.testing.assert_allclose(resumed.scores, whole.scores, rtol=1e-5)
    assert resumed.header.forward_passes == whole.header.forward_passes


@pytest.mark.parametrize("strategy", [{}, {"noise": NOISE}], ids=["exhaustive", "race"])
def test_what_is_not_finite_ends_the_job_at_its_image(setting, monkeypatch, strategy) -> None:
    spec = racing(setting, **strategy) if strategy else setting.spec
    score = OrderedScorer.score

    def broken(self, prepared, trials, classes, part=None):
        bad = [
            image.draws.image_id == "a/2.png" and c == 3
            for image, c in zip(prepared, classes, strict=True)
        ]
        return score(self, prepared, trials, classes, part).masked_fill(
            torch.tensor(bad), torch.nan
        )

    monkeypatch.setattr(OrderedScorer, "score", broken)
    with pytest.raises(GenclassError, match=r"a/2\.png: .*(not finite|is nan)"):
        setting.run(Shard(0, IMAGES, 0, 20, race=bool(strategy)), spec)
    (partial,) = (setting.folder / "partial").rglob("*.partial")
    assert peek(partial)[0] <= 2  # those before it, at most
    assert not (setting.folder / "scores").exists()


@pytest.mark.timeout(300)
def test_several_processes_share_the_images_of_a_race(setting) -> None:
    spec, shard = racing(setting, noise=NOISE), Shard(0, IMAGES, 0, 20, race=True)
    alone = ScoreFile.read(setting.run(shard, spec))
    shared = setting.run(shard, spec, destination=setting.folder / "shared", gpus=["0", "1"])
    np.testing.assert_allclose(ScoreFile.read(shared).scores, alone.scores, rtol=1e-5)


def test_a_race_is_not_divided_by_trials(setting) -> None:
    for shard in (Shard(0, 2, 0, 5, race=True), Shard(0, 2, 0, 20)):
        with pytest.raises(GenclassError, match="its spec races for 20 trials: delete this shard"):
            setting.run(shard, racing(setting, noise=NOISE))
    with pytest.raises(GenclassError, match="its spec does not race: delete this shard"):
        setting.run(Shard(0, 2, 0, 20, race=True))


def test_merged_scores_are_read_image_by_image(setting) -> None:
    file = setting.run(Shard(0, IMAGES, 0, 2))
    record = merged(setting, [file], 2)
    scores = MergedScores(setting.folder / "merged", record, setting.spec).scores
    assert isinstance(scores, np.memmap)
    np.testing.assert_array_equal(scores[3], ScoreFile.read(file).scores[3])
