"""The plan: numbers by hand, what counts as done, and how long it may take."""

import copy
import dataclasses
import io
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from genclass.cli.planning import show_plan
from genclass.cli.terminal import Terminal, short
from genclass.config import Config, Evaluations, RacingStrategy, load_config, parse_config, schema
from genclass.errors import GenclassError
from genclass.jobs.rehearsal import make_image_list, make_manifest, make_scores
from genclass.planning.plan import Plan, PlannedCell, plan
from genclass.planning.rates import GPUS, Rate, Rates, choose_rates, guessed_rates
from genclass.planning.work import candidate_count, race_share
from genclass.scores.score_file import ScoreFile
from genclass.scores.shards import Shard
from genclass.specs.dataset import scored_dataset
from genclass.specs.spec import specify
from tests.support.small_config import SMALL

REPOSITORY = Path(__file__).parents[2]


def small(tmp_path: Path, **dataset: Any) -> Config:
    """RandAR-L on 7 images of 10 digits, 20 trials, in shards of 3 images."""
    raw = copy.deepcopy(SMALL)
    raw["results"] = str(tmp_path)
    raw["shards"] = {"images": 3}
    raw["datasets"]["digits"] |= {"labels": "digits"} | dataset
    raw["models"]["ours"]["network"]["classes"] = 10
    return parse_config(raw, "small")


def rates(**values: float) -> Rates:
    return Rates("A device", "made up", {"ours": Rate(**values)})


def only_cell(found: Plan) -> PlannedCell:
    (cell,) = found.cells
    return cell


def test_the_numbers_of_a_small_config(tmp_path: Path) -> None:
    config = small(tmp_path)
    speed = rates(passes_per_second=100.0, seconds_per_image=2.0, seconds_per_job=10.0)
    cell = only_cell(plan(config, speed))
    assert (cell.images, cell.classes, cell.trials) == (7, 10, 20)
    assert cell.shards == 3  # 3 + 3 + 1 images
    assert cell.passes == 7 * 10 * 20
    work = config.models["ours"].system.work
    assert cell.flops == 1400 * work.score + 7 * work.image
    assert cell.seconds == pytest.approx(1400 / 100 + 7 * 2 + 3 * 10)
    assert cell.seconds_left == cell.seconds
    assert cell.score_bytes == 1400 * 4
    assert cell.shards_done == cell.passes_done == 0


def test_flops_are_those_that_the_classifiers_record() -> None:
    # 24 layers: 2 x 512 positions x (4 d^2 + 3 d h) everywhere but in half of the last layer,
    # half a square of attention, and the head at 256 positions.
    d, h, n = 1024, 2816, 256
    layer = 2 * (4 * d * d + 3 * d * h)
    last = 2 * n * 2 * 2 * d * d + n * (layer - 2 * 2 * d * d)
    attention = 23 * 4 * 512 * 512 * d // 2 + 4 * 256 * 512 * d // 2
    by_hand = 23 * 512 * layer + last + attention + 256 * 2 * d * 16384
    model = load_config(REPOSITORY / "config.yaml").models["randar-l"]
    assert model.system.work.score == by_hand
    assert model.system.work.image == model.encoder.operations(256) > 0


def test_candidates_are_the_list_or_the_number_in_the_config(tmp_path: Path) -> None:
    speed = rates(passes_per_second=1.0)
    assert only_cell(plan(small(tmp_path), speed)).classes == 10
    present = small(tmp_path, candidates="present", classes=4)
    assert only_cell(plan(present, speed)).classes == 4
    with pytest.raises(GenclassError, match=r"^datasets.digits: .* add `classes:`, their number$"):
        plan(small(tmp_path, candidates="present"), speed)


def make_shards(config: Config, seed: int, shards: list[Shard]) -> None:
    dataset, model = config.datasets["digits"], config.models["ours"]
    classes = candidate_count("digits", dataset)
    images = make_image_list("digits", dataset, classes, config.seed)
    images.write(config.run.image_list("digits"))
    manifest = make_manifest("checkpoints", "weights", config.checkpoints["weights"])
    manifest.write(config.run.manifest("checkpoints", "weights"))
    files = dict.fromkeys(model.system.checkpoints, manifest.sha256)
    scored = scored_dataset("digits", dataset, images, classes)
    spec = specify(model, scored, files, seed, model.trials)
    for shard in shards:
        make_scores(
            spec.of(shard), shard, images, 5, config.run.shard("ours", "digits", shard.name)
        )


def test_what_is_done_need_not_be_done_again(tmp_path: Path) -> None:
    config = small(tmp_path, candidates="present", classes=7)
    make_shards(config, config.seed, [Shard(0, 3, 0, 20), Shard(3, 6, 0, 5)])
    speed = rates(passes_per_second=10.0, seconds_per_job=1.0)
    cell = only_cell(plan(config, speed))
    assert (cell.shards, cell.shards_done) == (5, 2)  # new ones have 3 x 10 / 7 images: 4
    assert cell.passes_done == 7 * (3 * 20 + 3 * 5)
    assert cell.seconds_left == pytest.approx(7 * (3 * 15 + 1 * 20) / 10 + 3)


def test_a_cell_of_fewer_images_and_trials_counts_what_is_in_it(tmp_path: Path) -> None:
    config = small(tmp_path, candidates="present", classes=7)
    make_shards(config, config.seed, [Shard(0, 3, 0, 20)])
    first = config.evaluations[0].model_copy(update={"images": 2, "trials": 5})
    cell = only_cell(
        plan(config.model_copy(update={"evaluations": [first]}), rates(passes_per_second=1))
    )
    assert (cell.images, cell.trials, cell.shards, cell.shards_done) == (2, 5, 1, 1)
    assert cell.passes == cell.passes_done == 7 * 2 * 5


def test_scores_of_another_seed_are_not_done(tmp_path: Path) -> None:
    config = small(tmp_path, candidates="present", classes=7)
    make_shards(config, config.seed + 1, [Shard(0, 3, 0, 20)])
    assert only_cell(plan(config, rates(passes_per_second=1.0))).shards_done == 0


def test_a_wrong_number_of_classes_is_said(tmp_path: Path) -> None:
    make_shards(small(tmp_path, candidates="present", classes=7), 1, [])
    config = small(tmp_path, candidates="present", classes=8)
    with pytest.raises(GenclassError, match=r"digits.classes is 8, but its images are of 7"):
        plan(config, rates(passes_per_second=1.0))


def test_what_is_compiled_is_counted_once(tmp_path: Path) -> None:
    speed = {"passes_per_second": 2.0, "seconds_per_job": 10.0}
    config = small(tmp_path, candidates="present", classes=7)
    before = only_cell(plan(config, rates(**speed)))
    compiling = rates(**speed, seconds_to_compile=40.0)
    cell = only_cell(plan(config, compiling))
    assert cell.shards == 2
    assert (cell.seconds, cell.seconds_left) == (before.seconds + 40, before.seconds_left + 40)
    # A job of 4 images has 280 s of work: it is not compiled where that would take longer.
    assert only_cell(plan(config, rates(**speed, seconds_to_compile=1e4))) == before
    one_job = config.model_copy(update={"shards": config.shards.model_copy(update={"images": 7})})
    assert cell.seconds == only_cell(plan(one_job, compiling)).seconds + 10  # one start more
    # A job that is done has compiled it.
    make_shards(config, config.seed, [Shard(0, 3, 0, 20)])
    left = only_cell(plan(config, rates(**speed))).seconds_left
    assert only_cell(plan(config, compiling)).seconds_left == left


def test_what_is_compiled_serves_all_sets_of_as_many_candidates(tmp_path: Path) -> None:
    raw = small(tmp_path).model_dump(mode="json", exclude_defaults=True)
    digits = raw["datasets"]["digits"]
    raw["datasets"] |= {
        "again": digits,
        "few": digits | {"candidates": "present", "classes": 4},
    }
    raw["evaluations"] = [{"models": ["ours"], "datasets": ["digits", "again", "few"]}]
    config = parse_config(raw, "small")
    before, after = (
        plan(config, rates(passes_per_second=1.0, seconds_to_compile=s)) for s in (0.0, 40.0)
    )
    pairs = zip(before.cells, after.cells, strict=True)
    assert [more.seconds - less.seconds for less, more in pairs] == [40, 0, 40]
    assert after.totals["seconds_left"] == before.totals["seconds_left"] + 80


def test_downloads_and_disk() -> None:
    found = plan(config := load_config(REPOSITORY / "config.yaml"), guessed_rates(config, "H200"))
    by_name = {name: download for download in found.downloads for name in download.names}
    noise = by_name["imagenet-c-gaussian-noise-1"]
    assert noise is by_name["imagenet-c-gaussian-noise-5"]  # one archive
    assert noise is not by_name["imagenet-c-jpeg-compression-1"]
    assert by_name["randar-l"].bytes == 1371702040
    known = sum(download.bytes or 0 for download in found.downloads)
    assert found.totals["download_bytes"] == known
    unpacked = sum(d.bytes or 0 for d in found.downloads if d.unpacked)
    scores = found.totals["score_bytes"]
    assert found.totals["disk_bytes"] == 2 * scores + known + unpacked


def test_a_calibration_is_read_and_must_fit(tmp_path: Path) -> None:
    config = small(tmp_path)
    measured = rates(passes_per_second=7.0, seconds_to_compile=12.0)
    measured.write(tmp_path / "calibration.json")
    assert Rates.read(tmp_path / "calibration.json") == measured
    older = (tmp_path / "calibration.json").read_text()
    older = older.replace(',\n   "seconds_to_compile": 12.0', "")
    (tmp_path / "calibration.json").write_text(older)
    assert Rates.read(tmp_path / "calibration.json") == rates(passes_per_second=7.0)
    other = dataclasses.replace(measured, models={"another": Rate(1.0)})
    with pytest.raises(GenclassError, match="'ours' is not in it: repeat: genclass calibrate"):
        plan(config, other)
    (tmp_path / "calibration.json").write_text('{"device": "x"}')
    with pytest.raises(GenclassError, match="no calibration of this version"):
        Rates.read(tmp_path / "calibration.json")


def test_a_plan_by_the_calibration_or_of_a_gpu_for_programs_and_persons(tmp_path: Path) -> None:
    config = small(tmp_path)
    found = json.loads(plan(config, choose_rates(config, "A100")).as_json())
    assert found["device"] == "A100"
    assert found["cells"][0]["passes"] == found["totals"]["passes"] == 1400
    rates(passes_per_second=0.5, seconds_per_job=0.0).write(tmp_path / "calibration.json")
    assert "Left to do: 46.7 min of one A device (made up)." in shown(
        plan(config, choose_rates(config))
    )
    with pytest.raises(GenclassError, match="unknown GPU 'B1': known: A100"):
        choose_rates(config, "B1")


def test_a_plan_keeps_its_first_columns_on_a_narrow_terminal() -> None:
    config = load_config(REPOSITORY / "config.yaml")
    found = plan(config, guessed_rates(config, "H100"))
    assert max(map(len, shown(found, 80).splitlines()[:-4])) <= 80
    narrow = shown(found, 40)
    for cell in found.cells:
        assert f"\n{cell.model}" in narrow
        assert f"\n {cell.dataset}" in narrow
    assert "too narrow for: " in narrow


def shown(found: Plan, width: int | None = None) -> str:
    file = io.StringIO()
    show_plan(found, Terminal(file, width))
    return file.getvalue()


def test_numbers_are_short() -> None:
    cases = {0: "0", 999: "999", 1000: "1 k", 12_345: "12.3 k", 999_999: "1 M", 2e21: "2 Z"}
    assert {number: short(number) for number in cases} == cases
    assert short(1.5e9, "B") == "1.5 GB"


def test_the_whole_paper_takes_seconds_and_no_torch() -> None:
    code = (
        "import sys\n"
        "from genclass.cli.planning import plan\n"
        "plan(['config.yaml'], 'H100')\n"
        "assert 'torch' not in sys.modules"
    )

    def seconds() -> float:  # of the processor: others may be using the machine
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    start = seconds()
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)
    assert seconds() - start < 5


def test_every_gpu_of_the_table_gives_a_plan() -> None:
    config = load_config(REPOSITORY / "config.yaml")
    for gpu in GPUS:
        assert f"of one {gpu} (a guess" in shown(plan(config, guessed_rates(config, gpu)))


@pytest.mark.usefixtures("registry")  # without the plugins of other tests
def test_the_schema_is_that_of_the_code() -> None:
    stored = (REPOSITORY / "config/schema.json").read_text(encoding="utf-8")
    assert stored == schema(), "write it again: genclass schema > config/schema.json"


# Races


def racing(tmp_path: Path, exhaustive: int, **model: Any) -> Config:
    """The small config, in which the model races on all but so many of 40 images."""
    raw = small(tmp_path, images=40).model_dump(mode="json", exclude_defaults=True)
    raw["exhaustive"] = exhaustive
    raw["models"]["ours"] |= {"strategy": {"kind": "racing"}} | model
    return parse_config(raw, "small")


def test_races_take_their_share_and_a_pilot(tmp_path: Path) -> None:
    cell = only_cell(plan(racing(tmp_path, 10), rates(passes_per_second=1.0)))
    assert (cell.images, cell.exhaustive) == (40, 10)
    assert (cell.race_share, cell.race_share_is_measured) == (2 / 20, False)
    pilot = 24 * (10 + 5 * 7)  # all classes in a trial, five in seven more
    assert cell.passes == 10 * 200 + 30 * 20 + pilot
    assert cell.shards == 4 + 2  # of 3 images, and of 30 that race: from 10 to 29, and to 39
    told = racing(tmp_path, 10, race_share=0.25)
    assert only_cell(plan(told, rates(passes_per_second=1.0))).passes == 10 * 200 + 30 * 50 + pilot
    whole = only_cell(plan(racing(tmp_path, 40), rates(passes_per_second=1.0)))
    assert (whole.passes, whole.race_share) == (40 * 200, None)


def test_a_fixed_schedule_says_what_it_takes(tmp_path: Path) -> None:
    rounds = {"kind": "fixed", "rounds": [[2, 4], [5, 1]]}
    cell = only_cell(plan(racing(tmp_path, 0, strategy=rounds), rates(passes_per_second=1.0)))
    assert cell.passes == 40 * (2 * 10 + 3 * 4)
    a_varc = load_config(REPOSITORY / "config.yaml").models["a-varc"]
    part = a_varc.system.work.operations(0, 1000, 6) / a_varc.system.work.score
    assert race_share(a_varc, 3, 1000) == pytest.approx((part + 10 + 2 * 3) / 3000)


def test_races_that_are_finished_tell_what_the_others_take(tmp_path: Path) -> None:
    config = racing(tmp_path, 10)
    shard = Shard(10, 30, 0, 20, race=True)
    make_shards(config, config.seed, [shard])
    cell = only_cell(plan(config, rates(passes_per_second=1.0)))
    header = ScoreFile.read(config.run.shard("ours", "digits", shard.name)).header
    assert header.racing
    assert cell.race_share_is_measured
    assert cell.race_share == header.forward_passes / (20 * 200)
    assert cell.shards_done == 1


RACED = json.loads((REPOSITORY / "tests/golden/miniature_races.json").read_text())["passes"]


@pytest.mark.parametrize("model", RACED)
def test_races_of_the_miniature_are_counted_within_30_percent(model: str, tmp_path: Path) -> None:
    config = load_config(REPOSITORY / "config/miniature.yaml")
    strategy = RacingStrategy(kind="racing", delta=0.05)
    raced = config.models[model].model_copy(update={"strategy": strategy})
    evaluation = Evaluations(models=[model], datasets=list(RACED[model]))
    config = config.model_copy(
        update={
            "results": str(tmp_path),
            "models": {model: raced},
            "evaluations": [evaluation],
            "exhaustive": 0,
        }
    )
    found = plan(config, Rates("A device", "made up", {model: Rate(passes_per_second=1.0)}))
    ten = [cell for cell in found.cells if cell.classes == 10]
    measured = sum(sum(RACED[model][cell.dataset]) for cell in ten)
    assert len(ten) == 7
    assert sum(cell.passes for cell in ten) == pytest.approx(measured, rel=0.3)
