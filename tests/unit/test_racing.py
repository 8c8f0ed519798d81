"""Racing: the bound's promise, replay, and the engine against exhaustive scoring."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import t as student

from genclass.cli.racing import draw_replay
from genclass.config.strategy import (
    ExhaustiveStrategy,
    FixedStrategy,
    NoiseOfTrials,
    RacingStrategy,
    Strategy,
)
from genclass.errors import GenclassError
from genclass.racing.engine import EntryScorer, race
from genclass.racing.noise import Noise, kurtosis, measure_noise, significant
from genclass.racing.pilot import (
    PILOT_IMAGES,
    Finding,
    Pilot,
    pilot,
    pilot_images,
    pilot_passes,
    shared_pilot,
)
from genclass.racing.replay import (
    alike,
    compare,
    read_scores,
    replay,
    replay_files,
    replay_pilot,
    usual_schedules,
)
from genclass.racing.schedule import (
    Exhaustive,
    Fixed,
    Racing,
    Schedule,
    build_schedule,
    race_scores,
    ranking,
)
from genclass.scorers.draws import Draws
from genclass.scorers.scorer import Prepared
from genclass.scores.score_file import Header, ScoreFile
from genclass.scores.shards import Shard
from genclass.text import digest
from tests.support.paired_scores import Timesteps, orders

# --- the bound


def dropped_ties(racing: Racing, deficits: np.ndarray) -> float:
    """The share of pairs [trials, pairs] that a race of two classes would decide at any look."""
    budget = len(deficits)
    dropped = np.zeros(deficits.shape[1], dtype=bool)
    for look in racing.looks(budget):
        level = racing.level(2, budget, look)
        dropped |= significant(deficits[:look], racing.noise, budget, level)
    return float(dropped.mean())


@pytest.mark.parametrize("trials", [5, 20])
@pytest.mark.parametrize("delta", [0.2, 0.05])
def test_a_tied_winner_is_dropped_with_probability_delta_at_most(trials: int, delta: float) -> None:
    """The worst case: two classes that tie over the budget; one of them counts as the winner."""
    noise, number = Noise(scale=3.0, degrees_of_freedom=6.0), 20_000
    random = np.random.default_rng(0)
    scale = noise.scale * np.sqrt(
        noise.degrees_of_freedom / random.chisquare(noise.degrees_of_freedom, number)
    )
    deficits = scale * random.standard_normal((trials, number))
    deficits -= deficits.mean(axis=0)  # the sum over the budget is 0
    schedule = Racing(noise, delta)
    assert delta / 4 < dropped_ties(schedule, deficits) < delta


@pytest.mark.parametrize(
    "world",
    [
        {},
        {"length": 0.5, "own": 0.05},
        {"length": 1.5, "own": 0.02, "unequal": 3},
        {"own": 1, "unequal": 3},
        {"power": 0, "own": 0.2, "unequal": 3},
        {"budget": 100, "length": 0.3, "own": 0.05},
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_promise_holds_on_unequal_and_autocorrelated_timesteps(
    world: dict[str, Any], seed: int
) -> None:
    """Of ties, and with a pilot that has measured all that it knows on 24 images."""
    timesteps = Timesteps(**{"budget": 20} | world)
    noise = measure_noise(timesteps.pilot(24, seed), exchangeable=False)
    assert dropped_ties(Racing(noise, 0.1), timesteps.ties(4000, seed)) < 0.1


def test_the_promise_is_broken_by_noise_that_is_not_as_told() -> None:
    """As docs/racing.md says: an image twice as noisy, tails of Student's t with 3 degrees."""
    random = np.random.default_rng(0)
    twice = 2 * random.standard_normal((20, 10_000))
    twice -= twice.mean(axis=0)
    assert 0.2 < dropped_ties(Racing(Noise(1.0, 16.0)), twice) < 0.45
    heavy = (random.standard_t(3, (40, 20, 1000)) / np.sqrt(6)).astype(np.float32)
    light, told = (replay(heavy, Racing(Noise(1.0, freedom))) for freedom in (100.0, 4.0))
    assert light.agreement < 0.6
    assert told.agreement > 0.95


def test_each_look_is_students_t() -> None:
    """Without a union over looks, the level of a single look is met exactly."""
    noise, number, random = (
        Noise(scale=0.5, degrees_of_freedom=4.0),
        100_000,
        np.random.default_rng(1),
    )
    scale = noise.scale * np.sqrt(
        noise.degrees_of_freedom / random.chisquare(noise.degrees_of_freedom, number)
    )
    deficits = scale * random.standard_normal((12, number))
    deficits -= deficits.mean(axis=0)
    for look in (1, 5, 11):
        rate = significant(deficits[:look], noise, 12, 0.05).mean()
        assert rate == pytest.approx(0.05, abs=0.003)


def test_the_bound_by_hand() -> None:
    """Two trials of ten: freedom 3 + 1, and the bridge's variance is 2 x 8 / 10."""
    for total, level in ((10.0, 0.01), (3.0, 0.1), (30.0, 0.0001)):
        deficits = np.array([[total / 2 - 1], [total / 2 + 1]])
        statistic = total / np.sqrt((3 * 2.0**2 + 2) / 4 * 1.6)
        expected = student.sf(statistic, 4) < level
        assert significant(deficits, Noise(2.0, 3.0), 10, level)[0] == expected


def test_what_can_no_longer_be_caught_up_is_dropped() -> None:
    """One trial is left: any deficit well above one trial's noise is final."""
    deficits = np.full((19, 3), 0.5)
    deficits[:, 1] = 0.0
    deficits[:, 2] = 0.05
    result = significant(deficits, Noise(1.0, 30.0), 20, 0.001)
    assert result.tolist() == [True, False, False]


def test_weights_of_trials_are_operational_time() -> None:
    """Trials that contribute nothing neither count as time nor drop anyone."""
    deficits = np.array([[2.0, 3.0], [2.0, 3.0]])
    plain = significant(deficits, Noise(0.4, 50.0), 8, 0.01)
    silent = np.array([2.0, 0.0, 2.0, 0.0])[:, None] * np.array([[1.0, 1.5]])
    weights = (1.0, 1e-9) * 8
    told = Noise(0.4, 50.0, weights, weights)
    assert (significant(silent, told, 16, 0.01) == plain).all()
    with pytest.raises(GenclassError, match="of 16 trials, but the budget is 20"):
        significant(silent, told, 20, 0.01)


def test_what_is_not_seen_is_predicted_from_what_it_shares_with_what_is() -> None:
    """Trials that come in twins: once one of each is seen, nothing is left to chance."""
    ones = (1.0,) * 8
    twins = tuple(tuple(3.0 * np.eye(4)[i].repeat(2)[[0, 2, 4, 6, 1, 3, 5, 7]]) for i in range(4))
    deficits = np.array([[0.8, -0.4, 1.0, 0.3]]).T
    assert not significant(deficits, Noise(1.0, 50.0), 8, 0.01)
    assert significant(deficits, Noise(0.3, 50.0, ones, (0.01,) * 8, twins), 8, 0.01)


def test_more_seen_trials_predict_better() -> None:
    world = Timesteps(20)
    noise = measure_noise(world.pilot(24, seed=0), exchangeable=False)
    errors = [noise.seen(20, n).variance for n in range(1, 21)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


@pytest.mark.parametrize(("scale", "freedom"), [(0.02, 6.0), (300.0, 15.0)])
def test_noise_is_measured(scale: float, freedom: float) -> None:
    random = np.random.default_rng(2)
    own = scale * np.sqrt(freedom / random.chisquare(freedom, (800, 1, 1)))
    means = scale * np.array([30.0, 20.0, 10.0, 5.0, 0.0])
    scores = means + own / np.sqrt(2) * random.standard_normal((800, 20, 5))
    noise = measure_noise(list(scores))
    assert noise.scale == pytest.approx(scale, rel=0.05)
    assert noise.degrees_of_freedom == pytest.approx(freedom, rel=0.3)
    assert noise.trial_weights is None


def test_noise_of_timesteps_has_their_weights_and_covariance() -> None:
    world = Timesteps(20, own=0.1, length=0.5)
    noise = measure_noise(world.pilot(400, seed=1), exchangeable=False)
    assert noise.trial_weights == pytest.approx(world.weights, rel=0.3, abs=0.05)
    weights, covariance = noise.moments(20)
    # Up to multiples of the weights, which a pair's mean absorbs.
    off = np.eye(20) - np.outer(weights, weights) / (weights @ weights)
    found = noise.scale**2 * off @ covariance @ off
    expected = off @ world.covariance @ off
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97


def test_timesteps_that_are_orders_get_no_factors() -> None:
    noise = measure_noise(list(orders(60, 20, 5, spread=2, boost=2)), exchangeable=False)
    assert len(noise.factors) <= 1
    assert noise.trial_weights == pytest.approx([1] * 20, abs=0.25)


def test_heavy_tails_are_seen() -> None:
    random = np.random.default_rng(4)
    normal, heavy = random.standard_normal((24, 8, 5)), random.standard_t(3, (24, 8, 5))
    found = [kurtosis(list(s), measure_noise(list(s))) for s in (normal, heavy)]
    assert found[0] == pytest.approx(3, abs=0.3)
    assert found[1] > 3.3


def test_noise_needs_something_to_measure() -> None:
    with pytest.raises(GenclassError, match="fewer than 3 trials"):
        measure_noise([np.random.default_rng(0).standard_normal((2, 5))])
    with pytest.raises(GenclassError, match="do not differ"):
        measure_noise([np.zeros((5, 5))])
    with pytest.raises(GenclassError, match="fewer than 3 trials"):
        measure_noise([])


# --- schedules and replay


def test_ten_classes_cost_a_tenth_and_agree() -> None:
    scores = orders(424, 20, 10, spread=4, boost=9)
    played = replay(scores[24:], Racing(replay_pilot(scores, exchangeable=True)))
    assert played.cost < 1 / 10
    assert played.agreement >= 0.995


@pytest.mark.parametrize("delta", [0.1, 0.05])  # the default, and that of config.yaml
def test_a_thousand_classes_cost_a_fifteenth_and_agree(delta: float) -> None:
    """Where one order is little: it agrees with twenty on two images of five."""
    scores = orders(124, 20, 1000, spread=2, boost=0.5, gap=2.6)
    played = replay(scores[24:], Racing(replay_pilot(scores, exchangeable=True), delta))
    assert (scores[24:, 0].argmax(axis=1) == played.exhaustive).mean() == pytest.approx(
        0.41, abs=0.02
    )
    assert played.cost < 1 / 15
    assert played.agreement >= 0.995


@pytest.mark.parametrize(
    ("strategy", "whole"),
    [
        (ExhaustiveStrategy(), 20),
        (RacingStrategy(kind="racing"), 1),
        (RacingStrategy(kind="racing", first_trials=30), 20),
        (FixedStrategy(kind="fixed", rounds=[(5, 5), (10, 2)]), 5),
        (FixedStrategy(kind="fixed", parts=[(2, 5)], rounds=[(5, 3)]), 0),
    ],
)
def test_in_the_first_trials_every_class_is_scored(strategy: Strategy, whole: int) -> None:
    scores = orders(20, 20, 20, spread=2, boost=3)
    schedule = build_schedule(strategy, lambda: Noise(1.0, 8.0), 20, exchangeable=True)
    assert strategy.whole_trials(20) == whole
    for image in scores:
        seen = ~np.isnan(race_scores(image, schedule, lambda part, image=image: image[0]))
        assert seen[:whole].all()


def test_a_replay_scores_the_survivors_only() -> None:
    scores = orders(50, 12, 20, spread=2, boost=3)
    played = replay(scores, Racing(Noise(1.0, 8.0)))
    assert played.alive[:, 0].tolist() == [20] * 50
    assert (np.diff(played.alive, axis=1) <= 0).all()
    for image in range(50):
        raced = race_scores(scores[image], Racing(Noise(1.0, 8.0)))
        seen = ~np.isnan(raced)
        assert (raced[seen] == scores[image][seen]).all()
        assert seen.sum(axis=1).tolist() == played.alive[image].tolist()
        assert (np.minimum.accumulate(seen) == seen).all()  # who is out stays out
        going = seen[seen.any(axis=1)][-1]
        best = np.where(going, np.nansum(raced, axis=0), -np.inf).argmax()
        assert played.predictions[image] == best


def test_exhaustive_replays_are_exhaustive() -> None:
    scores = orders(30, 6, 5, spread=1, boost=1)
    played = replay(scores, Exhaustive())
    assert played.cost == played.agreement == 1
    assert (played.predictions == scores.mean(axis=1, dtype=np.float64).argmax(axis=1)).all()


def test_a_fixed_schedule_keeps_its_numbers() -> None:
    scores = orders(30, 12, 20, spread=1, boost=1)
    played = replay(scores, Fixed(((2, 7), (5, 3))))
    assert (played.alive == [20] * 2 + [7] * 3 + [3] * 7).all()
    smaller = replay(scores, Fixed(((4, 1),)))
    assert (smaller.alive == [20] * 4 + [0] * 8).all()
    best = scores[:, :4].mean(axis=1, dtype=np.float64).argmax(axis=1)
    assert (smaller.predictions == best).all()


def test_more_delta_is_cheaper_and_first_trials_are_given_to_all() -> None:
    scores = orders(60, 20, 10, spread=2, boost=3)
    costs = [replay(scores, Racing(Noise(1.0, 8.0), delta)).cost for delta in (0.3, 0.03, 0.003)]
    assert costs == sorted(costs)
    played = replay(scores, Racing(Noise(1.0, 8.0), first_trials=3))
    assert (played.alive[:, :3] == 10).all()


def test_looks_thin_out() -> None:
    looks = Racing(Noise(1.0, 8.0)).looks(250)
    assert looks[:8] == [1, 2, 3, 4, 5, 7, 9, 12]
    assert looks[-1] < 250
    assert len(looks) < 24
    assert Racing(Noise(1.0, 8.0)).looks(1) == []


def test_one_candidate_and_one_trial_are_no_race() -> None:
    racing = Racing(Noise(1.0, 8.0))
    single = replay(np.zeros((2, 5, 1), dtype=np.float32), racing)
    assert single.passes.tolist() == [1, 1]
    assert replay(orders(5, 1, 6, 1, 1), racing).cost == 1


def test_a_class_is_never_dropped_for_a_tie() -> None:
    scores = np.zeros((1, 20, 4), dtype=np.float32)
    assert replay(scores, Racing(Noise(1e-9, 100.0))).cost == 1


def test_predictions_of_races_and_of_exhaustive_scores() -> None:
    scores = np.array([[[1, 5, 2], [3, np.nan, 1]], [[4, 4, 1], [0, 0, 9]]], dtype=np.float32)
    assert ranking(scores)[:, 0].tolist() == [0, 2]


def test_scores_of_a_race_cannot_be_replayed() -> None:
    scores = orders(2, 4, 3, 1, 1)
    scores[1, 2, 0] = np.nan
    with pytest.raises(GenclassError, match="needs exhaustive scores"):
        replay(scores, Exhaustive())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fixed(()), "needs rounds or parts"),
        (lambda: Fixed(((5, 3), (2, 1))), r"rounds \[\[5, 3\], \[2, 1\]\]"),
        (lambda: Fixed(((2, 3), (5, 3))), "fewer classes than the one before"),
        (lambda: Fixed(((2, 0),)), "at least 1"),
        (lambda: Racing(Noise(1.0, 8.0), delta=1.0), "delta 1.0 must lie between 0 and 1"),
        (lambda: Racing(Noise(1.0, 8.0), first_trials=0), "first_trials 0"),
        (lambda: Fixed((), ((3, 5), (3, 2))), r"parts \[\[3, 5\], \[3, 2\]\]: each \[part, keep\]"),
        (lambda: Noise(0.0, 8.0), "scale and degrees of freedom must be above 0"),
        (lambda: Noise(1.0, 8.0, (1.0, 0.0), (1.0, 1.0)), "must be above 0"),
        (lambda: Noise(1.0, 8.0, (1.0, 1.0)), "unequal budgets"),
    ],
)
def test_nonsense_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(GenclassError, match=message):
        make()


def built(section: Any, measured: Noise | None = None, **options: Any) -> Schedule:
    measure = (lambda: measured) if measured else pytest.fail
    return build_schedule(section, measure, **{"candidates": 10, "exchangeable": True} | options)


def test_schedules_are_built_from_their_sections() -> None:
    measured = Noise(2.0, 7.0)
    section = RacingStrategy(kind="racing", delta=0.1, first_trials=2)
    assert built(section, measured) == Racing(measured, 0.1, 2)
    told = NoiseOfTrials(scale=3.0, degrees_of_freedom=5.0)
    section = section.model_copy(update={"noise": told})
    assert built(section) == Racing(Noise(3.0, 5.0), 0.1, 2)
    with pytest.raises(GenclassError, match="take it out of the config"):
        built(section, exchangeable=False)
    fixed = FixedStrategy(kind="fixed", rounds=[(1, 5), (4, 2)], parts=[(3, 50)])
    assert built(fixed) == Fixed(((1, 5), (4, 2)), ((3, 50),))
    assert fixed.scores_of_parts(100) == {3: 100}
    assert built(ExhaustiveStrategy()) == Exhaustive()


@pytest.mark.parametrize(
    ("freedom", "candidates", "warned"), [(17, 999, 1), (16, 999, 0), (17, 9, 0)]
)
def test_told_tails_that_are_too_light_for_many_classes_are_warned_of(
    freedom: float, candidates: int, warned: int, capsys: pytest.CaptureFixture[str]
) -> None:
    told = NoiseOfTrials(scale=3.0, degrees_of_freedom=freedom)
    built(RacingStrategy(kind="racing", noise=told), candidates=candidates)
    assert capsys.readouterr().out.count("warning: 17 degrees of freedom are told") == warned


def test_parts_narrow_the_classes_before_whole_trials() -> None:
    scores = orders(1, 4, 8, spread=1, boost=1)[0]
    parts = {2: np.arange(8.0), 3: -np.arange(8.0)}
    raced = race_scores(scores, Fixed(((2, 1),), ((2, 5), (3, 2))), parts.__getitem__)
    assert np.flatnonzero(~np.isnan(raced[0])).tolist() == [3, 4]
    assert (~np.isnan(raced)).sum(axis=1).tolist() == [2, 2, 0, 0]
    raced = race_scores(scores, Fixed((), ((2, 1),)), parts.__getitem__)
    assert (~np.isnan(raced)).sum(axis=0).tolist() == [0] * 7 + [4]  # the budget is its own
    with pytest.raises(GenclassError, match="cannot be replayed"):
        replay(scores[None], Fixed((), ((2, 1),)))


def test_a_replay_is_the_control_of_a_race() -> None:
    scores = orders(200, 20, 10, spread=2, boost=1.5)
    schedule = Racing(Noise(0.3, 16.0), delta=0.4)  # told less noise than there is, it errs
    control = replay(scores, schedule)
    assert (ranking(control.scores)[:, 0] == control.predictions).all()
    assert control.passes.tolist() == np.isfinite(control.scores).sum(axis=(1, 2)).tolist()
    low, high = control.agreement_interval()
    assert 0.8 < low < control.agreement < high < 1
    assert high - low < 0.12


def test_schedules_are_compared_and_drawn(tmp_path: Path) -> None:
    scores = orders(40, 20, 10, spread=2, boost=4)
    truth = scores.mean(axis=1).argmax(axis=1)
    schedules = usual_schedules(20, 10, Noise(1.0, 8.0))
    table = compare(scores, truth, schedules)
    assert table.schedule.tolist() == list(schedules)
    assert (table.accuracy == table.agreement).all()
    smaller = table.set_index("schedule").loc["exhaustive, 5 trials"]
    assert smaller.passes == 50
    assert smaller.cost == 0.25
    draw_replay(table.assign(scores="randar/digits"), tmp_path / "replay.json")
    assert "forward passes per image" in (tmp_path / "replay.json").read_text()


@pytest.mark.parametrize("exchangeable", [True, False])
def test_score_files_are_replayed(tmp_path: Path, exchangeable: bool) -> None:
    scores = orders(40, 20, 10, spread=2, boost=4)
    if not exchangeable:
        scores *= np.linspace(0, 2, 20, dtype=np.float32)[:, None]
    assert alike(scores) == exchangeable
    files = [
        write_shard(tmp_path / "randar" / "digits", scores, Shard(0, 30, 0, 12)),
        write_shard(tmp_path / "randar" / "digits", scores, Shard(30, 40, 0, 20)),
        write_shard(tmp_path / "randar" / "digits", scores, Shard(0, 30, 12, 20)),
        write_shard(tmp_path / "randar" / "sketch", scores, Shard(10, 20, 0, 20)),
    ]
    whole, truth = read_scores(files[:3])
    assert (whole == scores).all()
    assert truth.tolist() == [i % 10 for i in range(40)]
    table, noises = replay_files(files)
    assert list(noises) == table.scores.unique().tolist() == ["randar/digits", "randar/sketch"]
    assert (noises["randar/digits"].trial_weights is None) == exchangeable
    rows = table[table.scores == "randar/digits"].set_index("schedule")
    assert rows.loc["exhaustive, 1 trials"].passes == 10
    assert rows.loc["racing, delta 0.1"].agreement > 0.9
    given, _ = replay_files(files[3:], Noise(1.0, 8.0), deltas=(0.3,))
    assert given.schedule.str.startswith("racing").sum() == 1


def test_score_files_that_cannot_be_replayed(tmp_path: Path) -> None:
    scores = orders(4, 4, 5, 1, 1)
    later = write_shard(tmp_path, scores, Shard(0, 4, 2, 4))
    with pytest.raises(GenclassError, match="trials are missing: name every shard of its folder"):
        replay_files([later])
    with pytest.raises(GenclassError, match="2 trials of 5 classes: racing needs 3 and 2 at least"):
        replay_files([write_shard(tmp_path, scores, Shard(0, 4, 0, 2))])
    other = write_shard(tmp_path, scores, Shard(3, 4, 0, 4), spec="another")
    first = write_shard(tmp_path, scores, Shard(0, 3, 0, 4))
    with pytest.raises(GenclassError, match="another spec or budget"):
        replay_files([first, other])
    scores[0, 3, 0] = np.nan
    with pytest.raises(GenclassError, match=r"safetensors: scores of a race"):
        replay_files([write_shard(tmp_path, scores, Shard(0, 4, 0, 4), racing=True)])
    with pytest.raises(GenclassError, match="no score files"):
        replay_files([])


def write_shard(
    folder: Path, scores: np.ndarray, shard: Shard, racing: bool = False, spec: str = "spec"
) -> Path:
    path = folder / f"{shard.name}.safetensors"
    part = scores[shard.image_start : shard.image_stop, shard.trial_start : shard.trial_stop]
    class_ids = np.arange(scores.shape[2]) + 5
    ids = [f"{image}.png" for image in shard.images]
    labels = class_ids[np.array(shard.images) % 10 % len(class_ids)]
    header = Header(
        spec=digest(spec),
        shard=shard.name,
        device="CPU",
        seconds=1,
        forward_passes=1,
        flops=1,
        peak_memory=1,
        class_batch=1,
        racing=racing,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    ScoreFile(header, spec, ids, class_ids, labels, part).write(path)
    return path


# --- the engine

BUDGET = 8
LABELS = [4, 0, 2, 5, 1, 3]


class Table:
    """A scorer that looks its scores up: an image is a table [trials, classes] of them.

    Of the first parts of a trial, it knows what all classes share the more of, the fewer they are.
    """

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.calls: list[tuple[int, int | None]] = []

    def score(
        self,
        prepared: Sequence[Prepared],
        trials: Sequence[int],
        classes: torch.Tensor,
        part: int | None = None,
    ) -> torch.Tensor:
        self.calls.append((len(classes), part))
        entries = zip(prepared, trials, classes.tolist(), strict=True)
        scores = torch.stack([image.encoded[trial, label] for image, trial, label in entries])
        return scores if part is None else scores * part / 10


def images_of(scores: np.ndarray) -> list[Prepared]:
    """Images with these scores, float [images, trials, columns of LABELS]."""
    nowhere = Image.new("RGB", (1, 1))
    order = np.argsort(LABELS)
    return [
        Prepared(nowhere, Draws(3, "digits", f"digit/{i}.png"), torch.from_numpy(s[:, order]))
        for i, s in enumerate(scores)
    ]


def made_up(images: int, budget: int = BUDGET, seed: int = 5) -> np.ndarray:
    return orders(images, budget, len(LABELS), spread=2, boost=2, seed=seed)


def raced(
    scores: np.ndarray, schedule: Schedule, batch: int, table: Any = None, **options: Any
) -> np.ndarray:
    """float32 [images, trials, columns], of races that share their batches."""
    scorer = EntryScorer(table or Table(), batch, **options)
    found = list(race(scorer, iter(images_of(scores)), LABELS, scores.shape[1], schedule))
    assert sorted(one.place for one in found) == list(range(len(scores)))
    assert all(one.seconds > 0 for one in found)
    return np.stack([one.scores for one in sorted(found, key=lambda one: one.place)])


@pytest.mark.parametrize(
    "schedule",
    [
        Exhaustive(),
        Racing(Noise(1.0, 8.0), delta=0.3),
        Fixed(((1, 4), (3, 2))),
        Fixed(((2, 1),), ((3, 4), (7, 2))),
        Fixed((), ((3, 1),)),
    ],
    ids=["exhaustive", "racing", "fixed", "parts", "parts-only"],
)
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_a_race_is_its_replay_whatever_runs_beside_it(schedule: Schedule, batch: int) -> None:
    scores = made_up(9)
    expected = np.stack(
        [race_scores(s, schedule, lambda part, s=s: s[0] * part / 10) for s in scores]
    )
    assert schedule == Exhaustive() or 0 < np.isnan(expected).mean() < 1
    for found, wanted in (
        (raced(scores, schedule, batch), expected),
        (raced(scores[4:5], schedule, batch), expected[4:5]),
    ):
        assert np.array_equal(found, wanted, equal_nan=True)


@pytest.mark.parametrize("timesteps", [False, True])
def test_batches_are_full_and_images_are_taken_as_needed(timesteps: bool) -> None:
    budget, noise = 40, Noise(1.0, 8.0)
    scores = made_up(60, budget)
    if timesteps:
        scores *= np.linspace(0.1, 2, budget, dtype=np.float32)[:, None]
        noise = replay_pilot(scores, exchangeable=False)
    taken, table = [], Table()
    source = (taken.append(i) or image for i, image in enumerate(images_of(scores)))  # type: ignore[func-returns-value]
    races = race(EntryScorer(table, 16), source, LABELS, budget, Racing(noise))  # type: ignore[arg-type]
    first = next(races)
    assert len(taken) < 20
    rest = list(races)
    sizes = [size for size, _ in table.calls]
    assert sum(sizes) == sum(int(np.isfinite(one.scores).sum()) for one in [first, *rest])
    assert np.mean(np.array(sizes) == 16) > 0.8


@pytest.mark.parametrize("part", [None, 3])
def test_where_sizes_are_fixed_all_that_occur_are_run_at_once(part: int | None) -> None:
    table, scores = Table(), made_up(30)
    schedule = Fixed(((1, 4), (3, 2)), ((part, 5),) if part else ())
    found = raced(scores, schedule, 16, table, fixed_sizes=True)
    assert np.array_equal(found, raced(scores, schedule, 16), equal_nan=True)
    for which in {part, None}:
        calls = [size for size, one in table.calls if one == which]
        assert set(calls[:2]) == set(calls) == {16, 2}


def test_out_of_memory_halves_the_batch() -> None:
    class Small(Table):
        def score(self, prepared: Any, trials: Any, classes: torch.Tensor, part: Any = None) -> Any:
            if len(classes) > 4:
                raise torch.OutOfMemoryError
            return super().score(prepared, trials, classes, part)

    table, scores = Small(), made_up(3)
    assert np.array_equal(raced(scores, Exhaustive(), 16, table), scores)
    assert max(size for size, _ in table.calls) == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "schedule",
    [Exhaustive(), Racing(Noise(1.0, 8.0)), Fixed(((4, 2),)), Fixed((), ((3, 2),))],
    ids=["exhaustive", "racing", "fixed", "parts"],
)
def test_what_is_not_finite_ends_the_job_at_the_first_image(
    schedule: Schedule, value: float
) -> None:
    scores = made_up(40)
    scores[2, 0, 1] = value
    done = race(EntryScorer(Table(), 6), images_of(scores), LABELS, BUDGET, schedule)  # type: ignore[arg-type]
    with pytest.raises(
        GenclassError,
        match=r"^digits/digit/2\.png: the score of class 0 in trial 0 is -?(nan|inf): ",
    ):
        assert len(list(done)) < 3


# --- the pilot


@pytest.mark.parametrize("exchangeable", [True, False])
def test_a_pilot_measures_what_a_replay_of_it_does(exchangeable: bool) -> None:
    scores = made_up(40, budget=12)
    few = images_of(scores[: len(pilot_images(40))])
    found = pilot(EntryScorer(Table(), 50), few, LABELS, 12, exchangeable)  # type: ignore[arg-type]
    assert found.noise == replay_pilot(scores, exchangeable)
    assert found.passes == pilot_passes(40, len(LABELS), 12, exchangeable)
    assert found.passes == PILOT_IMAGES * (6 + 5 * ((8 if exchangeable else 12) - 1))
    assert found.kurtosis == pytest.approx(3, abs=0.5)


def test_a_pilot_on_scores_that_are_not_finite_ends() -> None:
    scores = made_up(3)
    scores[1, 0, 2] = np.nan
    with pytest.raises(
        GenclassError, match=r"digit/1\.png: the score of class 2 in trial 0 is nan"
    ):
        pilot(EntryScorer(Table(), 50), images_of(scores), LABELS, BUDGET, True)  # type: ignore[arg-type]


def test_a_pilot_is_shared_and_survives_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = measure_noise(Timesteps(6).pilot(24, seed=0), exchangeable=False)
    assert noise.factors
    assert shared_pilot(tmp_path, "first", lambda: Finding(noise, 3.21, 77)) == noise
    assert shared_pilot(tmp_path, "second", pytest.fail) == noise
    assert "kurtosis 3.21" in capsys.readouterr().out
    found = Pilot.read(tmp_path)
    assert found is not None
    assert (found.shard, found.kurtosis, found.passes) == ("first", 3.21, 77)
    (tmp_path / "pilot.json").write_text('{"noise": {}}')
    with pytest.raises(GenclassError, match="delete it and rerun"):
        Pilot.read(tmp_path)


@pytest.mark.parametrize(("kurtosis", "warned"), [(3.4, 0), (3.7, 1)])
def test_a_pilot_warns_of_heavy_tails(
    kurtosis: float, warned: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared_pilot(tmp_path, "first", lambda: Finding(Noise(1.0, 8.0), kurtosis, 77))
    assert capsys.readouterr().out.count("warning: ") == warned


def test_a_pilot_scores_the_first_images() -> None:
    assert pilot_images(2000) == range(24)
    assert pilot_images(3) == range(3)
