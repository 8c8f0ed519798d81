"""Racing: the bound's promise, replay, and the engine against exhaustive scoring."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import t as student

from genclass.config import ExhaustiveStrategy, FixedStrategy, NoiseOfTrials, RacingStrategy
from genclass.errors import GenclassError
from genclass.racing.engine import PairScorer, race
from genclass.racing.pilot import pilot
from genclass.racing.replay import (
    compare,
    draw_replay,
    read_scores,
    replay,
    replay_files,
    trials_differ,
    usual_schedules,
)
from genclass.racing.schedule import (
    Exhaustive,
    Fixed,
    Noise,
    Racing,
    Schedule,
    build_schedule,
    measure_first_tokens,
    measure_noise,
    pilot_places,
    race_scores,
    ranking,
    significant,
)
from genclass.scorers.draws import Draws
from genclass.scorers.scorer import Classifier, Prepared
from genclass.scores.score_file import Header, ScoreFile
from genclass.scores.shards import Shard
from tests.unit.test_classifiers import any_order, diffusion, flow


def synthetic(
    images: int, trials: int, classes: int, spread: float, boost: float, seed: int = 0
) -> np.ndarray:
    """Scores as any-order networks were measured to give them: float32 [images, trials, classes].

    In units of the noise of a paired difference: class means that differ by `spread`, with heavy
    tails; one class, and to a lesser degree a few like it, above them by about `boost`; noise that
    is normal, independent between trials, a little different for each image and class, and grows
    with the deficit; and what a trial does to all classes, which is much larger.
    """
    random = np.random.default_rng(seed)
    scores = np.empty((images, trials, classes), dtype=np.float32)
    for image in range(images):
        means = spread * random.standard_t(6, classes)
        like = random.choice(classes, min(8, classes // 3), replace=False)
        height = boost * random.lognormal(0, 0.3)
        means[like] += 0.7 * height * random.random(len(like))
        means[random.integers(classes)] += height
        scale = np.exp(0.2 * random.standard_normal() + 0.15 * random.standard_normal(classes))
        scale *= (1 + (means.max() - means) / 100) / np.sqrt(2)
        noise = scale * random.standard_normal((trials, classes))
        scores[image] = means + noise + 20 * random.standard_normal((trials, 1)) - 2000
    return scores


# --- the bound


@pytest.mark.parametrize("trials", [5, 20])
@pytest.mark.parametrize("delta", [0.2, 0.05])
def test_a_tied_winner_is_dropped_with_probability_delta_at_most(trials: int, delta: float) -> None:
    """The worst case: two classes that tie over the budget; one of them counts as the winner."""
    noise, number = Noise(scale=3.0, freedom=6.0), 20_000
    random = np.random.default_rng(0)
    scale = noise.scale * np.sqrt(noise.freedom / random.chisquare(noise.freedom, number))
    deficits = scale * random.standard_normal((trials, number))
    deficits -= deficits.mean(axis=0)  # the sum over the budget is 0
    schedule = Racing(noise, delta)
    looks = schedule.looks(trials)
    dropped = np.zeros(number, dtype=bool)
    for look in looks:
        dropped |= significant(deficits[:look], noise, trials, delta / len(looks))
    assert delta / 4 < dropped.mean() < delta


def test_each_look_is_students_t() -> None:
    """Without a union over looks, the level of a single look is met exactly."""
    noise, number, random = Noise(scale=0.5, freedom=4.0), 100_000, np.random.default_rng(1)
    scale = noise.scale * np.sqrt(noise.freedom / random.chisquare(noise.freedom, number))
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


def test_shares_of_trials_are_operational_time() -> None:
    """Trials that contribute nothing neither count as time nor drop anyone."""
    deficits = np.array([[2.0, 3.0], [2.0, 3.0]])
    plain = significant(deficits, Noise(0.4, 50.0), 8, 0.01)
    silent = np.array([2.0, 0.0, 2.0, 0.0])[:, None] * np.array([[1.0, 1.5]])
    shares = (1.0, 1e-9) * 8
    assert (significant(silent, Noise(0.4, 50.0, shares), 16, 0.01) == plain).all()
    with pytest.raises(GenclassError, match="shares of 16 trials, but the budget is 20"):
        significant(silent, Noise(0.4, 50.0, shares), 20, 0.01)


@pytest.mark.parametrize(("scale", "freedom"), [(0.02, 6.0), (300.0, 15.0)])
def test_noise_is_measured(scale: float, freedom: float) -> None:
    random = np.random.default_rng(2)
    own = scale * np.sqrt(freedom / random.chisquare(freedom, (800, 1, 1)))
    means = scale * np.array([30.0, 20.0, 10.0, 5.0, 0.0])
    scores = means + own / np.sqrt(2) * random.standard_normal((800, 20, 5))
    noise = measure_noise(list(scores))
    assert noise.scale == pytest.approx(scale, rel=0.05)
    assert noise.freedom == pytest.approx(freedom, rel=0.3)
    assert noise.shares is None


def test_noise_of_timesteps_has_their_shares() -> None:
    random = np.random.default_rng(3)
    shares = np.array([0.3, 0.05, 0.2, 0.15, 0.1, 0.2])
    means = np.array([0.0, -2.0, -3.0, -5.0, -6.0])
    noise = np.sqrt(shares)[:, None] * random.standard_normal((500, 6, 5))
    measured = measure_noise(list(6 * shares[:, None] * means + noise), per_trial=True)
    assert measured.shares == pytest.approx(shares, abs=0.02)


def test_noise_needs_something_to_measure() -> None:
    with pytest.raises(GenclassError, match="fewer than 3 trials"):
        measure_noise([np.random.default_rng(0).standard_normal((2, 5))])
    with pytest.raises(GenclassError, match="do not differ"):
        measure_noise([np.zeros((5, 5))])
    with pytest.raises(GenclassError, match="fewer than 3 trials"):
        measure_noise([])


# --- schedules and replay


def test_ten_classes_cost_an_eighth_and_agree() -> None:
    scores = synthetic(400, 20, 10, spread=4, boost=9)
    noise = measure_noise(list(synthetic(60, 20, 10, spread=4, boost=9, seed=1)))
    played = replay(scores, Racing(noise))
    assert played.cost < 1 / 8
    assert played.agreement >= 0.995


def test_a_thousand_classes_cost_a_twelfth_and_agree() -> None:
    scores = synthetic(100, 20, 1000, spread=2, boost=9)
    noise = measure_noise(list(synthetic(30, 20, 1000, spread=2, boost=9, seed=1)))
    played = replay(scores, Racing(noise))
    assert played.cost < 1 / 12
    assert played.agreement >= 0.995
    assert (played.predictions == scores[:, 0].argmax(axis=1)).mean() < 0.97  # K = 1 would not do


def test_a_replay_scores_the_survivors_only() -> None:
    scores = synthetic(50, 12, 20, spread=2, boost=3)
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
    scores = synthetic(30, 6, 5, spread=1, boost=1)
    played = replay(scores, Exhaustive())
    assert played.cost == played.agreement == 1
    assert (played.predictions == scores.mean(axis=1, dtype=np.float64).argmax(axis=1)).all()


def test_a_fixed_schedule_keeps_its_numbers() -> None:
    scores = synthetic(30, 12, 20, spread=1, boost=1)
    played = replay(scores, Fixed(((2, 7), (5, 3))))
    assert (played.alive == [20] * 2 + [7] * 3 + [3] * 7).all()
    smaller = replay(scores, Fixed(((4, 1),)))
    assert (smaller.alive == [20] * 4 + [0] * 8).all()
    best = scores[:, :4].mean(axis=1, dtype=np.float64).argmax(axis=1)
    assert (smaller.predictions == best).all()


def test_more_delta_is_cheaper_and_first_trials_are_given_to_all() -> None:
    scores = synthetic(60, 20, 10, spread=2, boost=3)
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
    assert replay(synthetic(5, 1, 6, 1, 1), racing).cost == 1


def test_a_class_is_never_dropped_for_a_tie() -> None:
    scores = np.zeros((1, 20, 4), dtype=np.float32)
    assert replay(scores, Racing(Noise(1e-9, 100.0))).cost == 1


def test_predictions_of_races_and_of_exhaustive_scores() -> None:
    scores = np.array([[[1, 5, 2], [3, np.nan, 1]], [[4, 4, 1], [0, 0, 9]]], dtype=np.float32)
    assert ranking(scores)[:, 0].tolist() == [0, 2]


def test_scores_of_a_race_cannot_be_replayed() -> None:
    scores = synthetic(2, 4, 3, 1, 1)
    scores[1, 2, 0] = np.nan
    with pytest.raises(GenclassError, match="needs exhaustive scores"):
        replay(scores, Exhaustive())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fixed(()), r"rounds \[\]: each \[trials, keep\] needs more"),
        (lambda: Fixed(((5, 3), (2, 1))), r"rounds \[\[5, 3\], \[2, 1\]\]"),
        (lambda: Fixed(((2, 3), (5, 3))), "fewer classes than the one before"),
        (lambda: Fixed(((2, 0),)), "at least 1"),
        (lambda: Racing(Noise(1.0, 8.0), delta=1.0), "delta 1.0 must lie between 0 and 1"),
        (lambda: Racing(Noise(1.0, 8.0), first_trials=0), "first_trials 0"),
        (lambda: Noise(0.0, 8.0), "scale and freedom must be above 0"),
        (lambda: Noise(1.0, 8.0, (1.0, 0.0)), "every share"),
    ],
)
def test_nonsense_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(GenclassError, match=message):
        make()


def test_schedules_are_built_from_their_sections() -> None:
    measured = Noise(2.0, 7.0)
    section = RacingStrategy(kind="racing", delta=0.1, first_trials=2)
    assert build_schedule(section, lambda: measured) == Racing(measured, 0.1, 2)
    told = NoiseOfTrials(scale=3.0, freedom=5.0, shares=[1.0, 2.0])
    section = section.model_copy(update={"noise": told})
    expected = Racing(Noise(3.0, 5.0, (1.0, 2.0)), 0.1, 2)
    assert build_schedule(section, pytest.fail) == expected
    fixed = FixedStrategy(kind="fixed", rounds=[(1, 5), (4, 2)])
    assert build_schedule(fixed, pytest.fail) == Fixed(((1, 5), (4, 2)))
    assert build_schedule(ExhaustiveStrategy(), pytest.fail) == Exhaustive()


def test_schedules_are_compared_and_drawn(tmp_path: Path) -> None:
    scores = synthetic(40, 20, 10, spread=2, boost=4)
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


@pytest.mark.parametrize("steps", [False, True])
def test_score_files_are_replayed(tmp_path: Path, steps: bool) -> None:
    scores = synthetic(40, 20, 10, spread=2, boost=4)
    if steps:
        scores *= np.linspace(0, 2, 20, dtype=np.float32)[:, None]
    assert trials_differ(scores) == steps
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
    assert (noises["randar/digits"].shares is not None) == steps
    rows = table[table.scores == "randar/digits"].set_index("schedule")
    assert rows.loc["exhaustive, 1 trials"].passes == 10
    assert rows.loc["racing, delta 0.1"].agreement > 0.9
    given, _ = replay_files(files[3:], Noise(1.0, 8.0), deltas=(0.3,))
    assert given.schedule.str.startswith("racing").sum() == 1


def test_score_files_that_cannot_be_replayed(tmp_path: Path) -> None:
    scores = synthetic(4, 4, 5, 1, 1)
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
    header = Header(spec, shard.name, "CPU", 1.0, 1, 1, 1, 1, racing)
    path.parent.mkdir(parents=True, exist_ok=True)
    ScoreFile(
        header, ids, class_ids, class_ids[np.array(shard.images) % 10 % len(class_ids)], part
    ).write(path)
    return path


# --- the engine

BUDGET = 8
LABELS = [4, 0, 2, 5, 1, 3]
CLASSIFIERS: dict[str, Callable[[], Classifier]] = {
    "orders": any_order,
    "raster with latent noise": lambda: any_order(orders="raster", latent_noise=0.2),
    "crops": lambda: any_order(augmentation="random_crop", orders="constant"),
    "diffusion": diffusion,
    "x0, noise per trial": lambda: diffusion(noise="per_trial", weighting="x0"),
    "flow": flow,
    "repa": lambda: flow(repa=True),
}


def prepared_images(classifier: Classifier, number: int) -> list[Prepared]:
    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (number, 20, 26, 3), dtype=np.uint8)
    return [
        classifier.prepare(Image.fromarray(p), Draws(3, "digits", f"digit/{i}.png"))
        for i, p in enumerate(pixels)
    ]


def exhaustive_scores(classifier: Classifier, images: list[Prepared]) -> np.ndarray:
    classes = torch.tensor(LABELS)
    scores = [classifier.score(image, range(BUDGET), classes, 6).numpy() for image in images]
    return np.stack(scores)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_pairs_score_like_single_images(name: str) -> None:
    classifier = CLASSIFIERS[name]()
    images = prepared_images(classifier, 3)
    expected = exhaustive_scores(classifier, images)
    random = np.random.default_rng(0)
    places, trials, columns = (random.integers(0, n, 40) for n in (3, BUDGET, len(LABELS)))
    found = classifier.score_pairs(
        [images[i] for i in places], trials.tolist(), torch.tensor([LABELS[c] for c in columns])
    )
    assert found.dtype == torch.float32
    assert found.numpy() == pytest.approx(expected[places, trials, columns], rel=1e-4)


@pytest.mark.parametrize("name", ["orders", "diffusion"])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_an_exhaustive_race_is_exhaustive_scoring(name: str, batch: int) -> None:
    classifier = CLASSIFIERS[name]()
    images = prepared_images(classifier, 4)
    expected = exhaustive_scores(classifier, images)
    races = list(race(PairScorer(classifier, batch), images, LABELS, BUDGET, Exhaustive()))
    assert sorted(raced.place for raced in races) == [0, 1, 2, 3]
    for raced in races:
        assert raced.scores == pytest.approx(expected[raced.place], rel=1e-4)
        assert raced.seconds > 0


@pytest.mark.parametrize("name", ["orders", "diffusion"])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_a_race_is_its_replay_whatever_runs_beside_it(name: str, batch: int) -> None:
    classifier = CLASSIFIERS[name]()
    images = prepared_images(classifier, 6)
    exhaustive = exhaustive_scores(classifier, images)
    racing = Racing(measure_noise(list(exhaustive)), delta=0.3)
    expected = np.stack([race_scores(scores, racing) for scores in exhaustive])
    assert 0 < np.isnan(expected).mean() < 1  # some are dropped, in some trial
    together = race(PairScorer(classifier, batch), iter(images), LABELS, BUDGET, racing)
    alone = next(race(PairScorer(classifier, batch), [images[4]], LABELS, BUDGET, racing))
    for raced in [*together, alone]:
        place = 4 if raced is alone else raced.place
        assert (np.isnan(raced.scores) == np.isnan(expected[place])).all()
        assert raced.scores == pytest.approx(expected[place], rel=1e-4, nan_ok=True)


def test_batches_are_full_and_images_are_taken_as_needed() -> None:
    classifier = any_order()
    images = prepared_images(classifier, 12)
    sizes, taken = [], []
    scorer = PairScorer(classifier, 10)
    plain = classifier.score_pairs

    def counting(prepared: Any, trials: Any, classes: torch.Tensor, *tokens: Any) -> torch.Tensor:
        sizes.append(len(classes))
        return plain(prepared, trials, classes, *tokens)

    classifier.score_pairs = counting  # type: ignore[method-assign]
    source = (taken.append(i) or image for i, image in enumerate(images))  # type: ignore[func-returns-value]
    races = race(scorer, source, LABELS, BUDGET, Fixed(((1, 3), (4, 2))))
    next(races)
    assert len(taken) < 12
    assert len(list(races)) == 11
    assert sum(sizes) == 12 * (6 + 3 * 3 + 4 * 2)
    assert np.mean(np.array(sizes) == 10) > 0.8


def test_out_of_memory_halves_the_batch() -> None:
    classifier = any_order()
    images = prepared_images(classifier, 3)
    expected = exhaustive_scores(classifier, images)
    plain = classifier.score_pairs

    def small(prepared: Any, trials: Any, classes: torch.Tensor, *tokens: Any) -> torch.Tensor:
        if len(classes) > 4:
            raise torch.OutOfMemoryError
        return plain(prepared, trials, classes, *tokens)

    classifier.score_pairs = small  # type: ignore[method-assign]
    scorer = PairScorer(classifier, 16)
    for raced in race(scorer, images, LABELS, BUDGET, Exhaustive()):
        assert raced.scores == pytest.approx(expected[raced.place], rel=1e-4)
    assert scorer.batch == 4


@pytest.mark.parametrize("name", ["orders", "diffusion"])
def test_the_pilot_measures_what_exhaustive_scores_show(name: str) -> None:
    classifier = CLASSIFIERS[name]()
    images = prepared_images(classifier, 6)
    steps = name == "diffusion"
    noise, passes = pilot(PairScorer(classifier, 50), images, LABELS, BUDGET, steps)
    again, _ = pilot(PairScorer(classifier, 7), images, LABELS, BUDGET, steps)
    assert again.scale == pytest.approx(noise.scale, rel=1e-2)
    assert passes == 6 * (len(LABELS) + (BUDGET - 1) * 5)
    measured = measure_noise(list(exhaustive_scores(classifier, images)), per_trial=steps)
    assert noise.scale == pytest.approx(measured.scale, rel=0.3)
    assert noise.freedom <= 8
    assert (noise.shares is not None) == steps


def test_pilots_look_at_images_all_over_the_dataset() -> None:
    assert pilot_places(2000) == [166, 500, 833, 1166, 1500, 1833]
    assert pilot_places(3) == [0, 1, 2]
    assert pilot_places(1) == [0]


# --- a look at the first tokens


def test_a_tie_passes_the_look_at_first_tokens_as_often_as_promised() -> None:
    first = Noise(scale=2.0, freedom=6.0)
    schedule = Racing(Noise(1.0, 6.0, first_tokens=first), delta=0.2, tokens=5)
    number, budget = 40_000, 20
    random = np.random.default_rng(0)
    scale = first.scale * np.sqrt(first.freedom / random.chisquare(first.freedom, number))
    pairs = np.stack([scale * random.standard_normal(number), np.zeros(number)], axis=1)
    dropped = np.mean([not schedule.admitted(pair, budget)[1] for pair in pairs])
    level = 0.2 / (len(schedule.looks(budget)) + 1)
    assert dropped == pytest.approx(level, rel=0.1)


def test_the_noise_of_first_tokens_is_measured() -> None:
    """A quarter of the tokens shows a quarter of the difference, and noise of its own."""
    random = np.random.default_rng(1)
    means = np.array([9.0, 7.0, 5.0, 2.0, 0.0])
    whole = means + random.standard_normal((300, 8, 5)) / np.sqrt(2)
    part = means / 4 + 0.6 * random.standard_normal((300, 8, 5)) / np.sqrt(2)
    noise = measure_first_tokens(list(whole), list(part))
    assert noise.scale == pytest.approx(0.6, rel=0.05)


@pytest.mark.parametrize(
    "schedule",
    [
        Fixed(((2, 1),), first_tokens=(5, 3)),
        Racing(Noise(0.5, 8.0, first_tokens=Noise(0.3, 8.0)), delta=0.3, tokens=5),
        Racing(Noise(0.5, 8.0, first_tokens=Noise(1e-9, 8.0)), delta=0.3, tokens=5),
    ],
    ids=["fixed", "racing", "one-is-admitted"],
)
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_a_race_may_look_at_first_tokens_before_whole_orders(
    schedule: Schedule, batch: int
) -> None:
    classifier = any_order()
    images = prepared_images(classifier, 5)
    exhaustive = exhaustive_scores(classifier, images)
    labels = torch.tensor(LABELS)
    races = list(race(PairScorer(classifier, batch), iter(images), LABELS, BUDGET, schedule))
    assert sorted(raced.place for raced in races) == list(range(5))
    for raced in races:
        image = images[raced.place]
        first = classifier.token_log_probs(image, 0, labels)[:, :5].sum(dim=1).numpy()
        admitted = schedule.admitted(first, BUDGET)
        assert (np.isfinite(raced.scores[0]) == admitted).all()
        seen = np.isfinite(raced.scores)
        assert raced.scores[seen] == pytest.approx(exhaustive[raced.place][seen], rel=1e-4)
        assert not np.isfinite(raced.scores[:, ~admitted]).any()
        assert ranking(raced.scores[None])[0, 0] in np.flatnonzero(admitted)
