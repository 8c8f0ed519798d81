"""Intervals, tests, verdicts and efficiency: against published examples, statsmodels, simulations.

docs/statistics.md names these tests; `python -m tests.support.simulations` shows their figures.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp
from statsmodels.api import OLS
from statsmodels.stats.contingency_tables import mcnemar as oracle_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_confint

from genclass.analysis.contrasts import (
    LEVEL,
    contrast,
    holm,
    mcnemar_power,
    power,
    sign_flip,
)
from genclass.analysis.efficiency import Curve, match
from genclass.analysis.intervals import mcnemar, mean_over_sets, tango, trial_noise, wilson
from genclass.analysis.sequential import (
    PairedSet,
    accuracy_so_far,
    confidence_sequence,
    difference_so_far,
    mean_evidence,
    rounds,
    sign_evidence,
)
from genclass.analysis.verdicts import adjust, judge
from tests.support import simulations as simulate


def signs(first: int, second: int, images: int, name: str = "set") -> pd.Series:
    """Differences of so many images that one of two classifiers alone has right, shuffled."""
    values = np.zeros(images)
    values[:first], values[first : first + second] = 1, -1
    np.random.default_rng(first + second).shuffle(values)
    return pd.Series(values, index=[f"{name}/{image}" for image in range(images)])


def paired(first: int, second: int, images: int, name: str = "set") -> PairedSet:
    return PairedSet(name, signs(first, second, images, name))


def in_part(one: PairedSet, images: int) -> PairedSet:
    """The first images are there, the others to come."""
    ids = tuple(one.differences.index[images:])
    return PairedSet(one.name, one.differences.iloc[:images], ids)


# ---- intervals and tests against examples and statsmodels


@pytest.mark.parametrize(("right", "images"), [(0, 10), (10, 10), (81, 263), (1560, 2000)])
def test_wilson_is_that_of_scipy_and_statsmodels(right: int, images: int) -> None:
    expected = binomtest(right, images).proportion_ci(method="wilson")
    found = wilson(right / images, images)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    oracle = proportion_confint(right, images, method="wilson")
    assert (found.low, found.high) == pytest.approx(oracle, abs=1e-12)


def test_wilson_of_a_published_example() -> None:
    # Newcombe 1998, Two-sided confidence intervals for the single proportion: 81 of 263.
    found = wilson(81 / 263, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "images", "low", "high"),
    [
        (12, 2, 50, 0.0611, 0.3447),  # Tango 1998 and Newcombe 1998, pairs 36 12 2 0
        (1, 7, 21, -0.517, -0.026),  # Fagerland, Lydersen and Laake 2014, airway reactivity
    ],
)
def test_tango_of_published_examples(
    first: int, second: int, images: int, low: float, high: float
) -> None:
    found = tango(first, second, images)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(("a", "b", "n"), [(0, 0, 9), (9, 0, 9), (0, 9, 9), (0.5, 0, 9), (4, 4, 9)])
def test_tango_at_the_edges(a: float, b: float, n: int) -> None:
    found, mirrored = tango(a, b, n), tango(b, a, n)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-9)


@pytest.mark.parametrize(("first", "second"), [(12, 2), (4, 0), (0, 1), (30, 30), (70, 41)])
def test_mcnemar_is_exact(first: int, second: int) -> None:
    expected = oracle_mcnemar([[5, first], [second, 5]], exact=True).pvalue
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(0, 0) == 1


@given(st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=30, deadline=None)
def test_flipping_signs_of_right_and_wrong_is_mcnemars_test(first: int, second: int) -> None:
    found = sign_flip(signs(first, second, 100).to_numpy() / 100)
    assert found == pytest.approx(mcnemar(first, second))


def test_drawn_flips_are_close_to_all_flips() -> None:
    random = np.random.default_rng(1)
    values = random.standard_normal(14) + 0.5
    every = np.array(np.meshgrid(*[(-1, 1)] * 14)).reshape(14, -1).T @ np.abs(values)
    expected = float((np.abs(every) >= abs(values.sum()) - 1e-9).mean())
    assert sign_flip(values) == pytest.approx(expected)  # enumerated
    many = np.concatenate([values, np.full(3000, 1e-9) * random.choice((-1, 1), 3000)])
    many += np.linspace(0, 1e-7, len(many))  # all of another size: drawn
    assert sign_flip(many) == pytest.approx(expected, abs=0.01)
    assert sign_flip(np.zeros(5)) == 1


def test_holm_is_that_of_statsmodels() -> None:
    p_values = [0.02, 0.001, 0.3, 0.011, 0.011, 0.9]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_the_mean_over_sets_is_clustered_by_image() -> None:
    random = np.random.default_rng(0)
    first = pd.Series(random.random(200), index=[f"a{i}" for i in range(200)])
    other = pd.Series(random.random(100), index=[f"b{i}" for i in range(100)])
    found = mean_over_sets([first, other])
    variance = (first.var() / 200 + other.var() / 100) / 4
    assert found.value == pytest.approx((first.mean() + other.mean()) / 2)
    assert found.error == pytest.approx(variance**0.5)
    # One set is Student's t.
    interval = ttest_1samp(first, 0).confidence_interval()
    alone = mean_over_sets([first]).estimate
    assert (alone.low, alone.high) == pytest.approx((interval.low, interval.high))
    # The same images twice are as sure as once, not more; statsmodels clusters alike.
    shifted = first + 0.2 * random.random(200)
    both = mean_over_sets([first, shifted])
    values, groups = pd.concat([first, shifted]), np.tile(np.arange(200), 2)
    dummies = np.repeat(np.eye(2), 200, axis=0)
    fit = OLS(values.to_numpy(), dummies).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    clustered = float(np.sqrt(np.full(2, 0.5) @ fit.cov_params() @ np.full(2, 0.5)))
    assert both.error == pytest.approx(clustered * np.sqrt(200 / 199))
    assert mean_over_sets([first, first]).error == pytest.approx(mean_over_sets([first]).error)
    one_image = mean_over_sets([first.iloc[:1]]).estimate
    assert (one_image.low, one_image.high) == (-1, 1)


def test_shares_of_right_answers_have_a_paired_interval() -> None:
    """Many orders against one: averaged counts in Tango's formula are far too wide."""
    random = np.random.default_rng(2)
    chance = random.beta(4, 1, 160)
    one_order = random.binomial(20, chance) / 20
    whole = (chance > 0.5) * 1.0
    differences = pd.Series(whole - one_order, index=range(160))
    found = contrast([differences])
    assert found.test == "sign-flip test"
    assert found.only_first is None
    old = tango(float((whole * (1 - one_order)).sum()), float(((1 - whole) * one_order).sum()), 160)
    new = found.difference
    assert old.value == pytest.approx(new.value)
    assert (old.high - old.low) > 1.5 * (new.high - new.low)


# ---- the cases that were wrong


def test_a_mean_that_holds_is_not_reversed_by_one_small_set() -> None:
    sets = [paired(12, 4, 160, str(place)) for place in range(7)] + [paired(1, 8, 160, "last")]
    found = judge(sets)
    assert found.word == "holds"
    assert found.difference.value == pytest.approx(0.0383, abs=1e-4)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.022, 0.055), abs=1e-3)
    assert found.p_value < 1e-4
    singles = adjust([judge([one]) for one in sets])
    assert [one.word for one in singles] == ["undecided"] * 8
    certain = [paired(22, 4, 160, str(place)) for place in range(7)] + [paired(1, 18, 160, "last")]
    assert judge(certain).word == "holds"
    assert adjust([judge([one]) for one in certain])[-1].word == "reversed"


def test_the_exact_result_of_one_set_decides() -> None:
    found = judge([paired(4, 0, 160)])
    assert (found.word, found.p_value) == ("undecided", pytest.approx(0.125))
    assert found.contrast.test == "exact McNemar test"
    assert found.difference == tango(4, 0, 160)
    assert judge([paired(9, 0, 160)]).word == "holds"
    assert judge([paired(0, 9, 160)]).word == "reversed"


def test_sets_that_differ_as_much_either_way_decide_nothing() -> None:
    found = simulate.decided(30, 1000, [0.09, -0.09], 0.25)
    assert found["any"] <= 0.17
    assert found["single"] == 1


# ---- how often a word is wrong, and how often it is found


@pytest.mark.parametrize(("sets", "images"), [(8, 160), (1, 160), (4, 500)])
def test_a_word_is_wrong_in_one_of_twenty_runs_at_most(sets: int, images: int) -> None:
    """No difference, looks after every image and at completion."""
    found = simulate.decided(60, images, [0.0] * sets, 0.2)
    # Bounds that a rate of .025 (.05 for any) exceeds in one of some thousand simulations.
    assert found["holds"] + found["reversed"] <= 0.1
    assert found["holds_early"] + found["reversed_early"] <= 0.1
    assert found["any"] <= 0.15
    assert found["single"] <= 0.1


@pytest.mark.parametrize("differences", [[0.06], [0.03] * 4])
def test_the_power_that_is_printed_is_that_of_the_verdict(differences: list[float]) -> None:
    random = np.random.default_rng(3)
    held = found = 0.0
    for _ in range(100):
        sets = simulate.paired_sets(random, 400, differences, 0.2)
        judgement = judge(sets)
        held += judgement.word == "holds"
        told = power(judgement.contrast, float(np.mean(differences)))
        assert told.power is not None
        found += told.power
    assert held / 100 == pytest.approx(found / 100, abs=0.13)


def test_the_power_is_that_of_statsmodels() -> None:
    random = np.random.default_rng(4)
    values = pd.Series(random.choice((-0.5, 0, 0.5), 4000, p=(0.1, 0.75, 0.15)))
    found = contrast([values])
    told = power(found, 0.01)
    effect = 0.01 / values.std()
    oracle = NormalIndPower(ddof=0).power(effect, 4000, LEVEL, ratio=0, alternative="two-sided")
    assert told.power == pytest.approx(oracle, abs=1e-3)
    needed = NormalIndPower().solve_power(effect, None, LEVEL, 0.8, ratio=0)
    assert told.images_needed == pytest.approx(needed, rel=0.01)
    assert told.detectable is not None
    assert power(found, told.detectable).power == pytest.approx(0.8, abs=1e-6)


def test_the_images_that_would_decide() -> None:
    # RandAR-L against DiT-L on ImageNet val, .780 and .771, a fifth of 2,000 images discordant.
    told = power(contrast([signs(210, 190, 2000)]), 0.009)
    assert told.power is not None and told.power < 0.15
    assert told.images_needed is not None and 20_000 < told.images_needed < 30_000
    assert mcnemar_power(told.images_needed, 0.2, 0.009) == pytest.approx(0.8, abs=0.01)
    assert power(contrast([signs(210, 190, 2000)]), -0.01).images_needed is None
    assert power(contrast([signs(0, 0, 20)]), 0.1).power is None


def test_evidence_decides_after_few_images_what_is_clear() -> None:
    after = simulate.rounds_to_decide(40, 3000, [0.128], 0.3)
    assert 80 < np.median(after) < 300
    fixed = next(n for n in range(10, 3000) if mcnemar_power(n, 0.3, 0.128) >= 0.5)
    assert np.median(after) < 2.5 * fixed
    together = simulate.rounds_to_decide(20, 500, [0.041, 0.128, 0.092, 0.080], 0.25)
    assert np.median(together) < 130


# ---- coverage


def test_intervals_hold_the_truth() -> None:
    """Of 300 runs at 95 %, fewer than 272 in one of two thousand simulations."""
    assert simulate.wilson_covers(300, 160, 0.9) > 0.905
    assert simulate.tango_covers(300, 160, 0.05, 0.2) > 0.905
    assert simulate.mean_covers(300, 60, [0.05] * 4, 0.2, shared=True) > 0.905
    assert simulate.mean_covers(300, 60, [0.05] * 4, 0.2, shared=False) > 0.905


def test_confidence_sequences_hold_the_truth_at_every_look() -> None:
    assert simulate.sequence_covers(60, 400, 0.05, 0.2) > 0.9
    assert simulate.accuracy_sequence_covers(60, 400, 0.8) > 0.9


# ---- evidence


def test_evidence_is_the_likelihood_ratio() -> None:
    found = np.exp(sign_evidence(np.array([1, 0, 1, 1, -1])))
    assert found == pytest.approx([1, 1, 4 / 3, 2, 2**4 * 6 / 120])  # 2^n s! f! / (n + 1)!


def test_evidence_is_expected_to_be_one() -> None:
    values = np.random.default_rng(0).choice((-1, 0, 1), (4000, 12), p=(0.2, 0.6, 0.2))
    for evidence in (sign_evidence, mean_evidence):
        ends = np.exp([evidence(row)[-1] for row in values])
        assert ends.mean() == pytest.approx(1, abs=4 * ends.std() / 4000**0.5)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=60))
@settings(max_examples=40, deadline=None)
def test_a_sequence_narrows_and_mirrors(values: list[float]) -> None:
    array = np.array(values)
    found, mirrored = confidence_sequence(array), confidence_sequence(-array)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-4)
    halfway = confidence_sequence(array[: len(array) // 2])
    assert found.low >= halfway.low - 1e-4 or found.low == found.value
    shares = accuracy_so_far((array + 1) / 2)
    assert shares.low == pytest.approx((1 + found.low) / 2)


def test_the_interval_of_an_unfinished_set_agrees_with_its_verdict() -> None:
    for first, second in ((9, 0), (20, 3), (12, 3), (4, 0), (0, 14), (30, 30)):
        one = in_part(paired(first, second, 300), 299)
        found = judge([one])
        assert not found.complete
        assert (found.word == "holds") == (found.difference.low >= 0)
        assert (found.word == "reversed") == (found.difference.high <= 0)
    both = [in_part(paired(30, 2, 300, name), 250) for name in "ab"]
    found = judge(both)
    assert (found.word, found.difference.low > 0) == ("holds", True)
    assert found.difference == difference_so_far(both)


def test_a_verdict_on_the_way_is_remembered() -> None:
    values = np.concatenate([np.ones(12), np.tile([-1.0, 1.0], 200)])
    one = PairedSet("set", pd.Series(values, index=map(str, range(len(values)))))
    assert judge([in_part(one, 12)]).word == "holds"
    found = judge([one])
    assert (found.word, found.earlier, found.looks.after) == ("undecided", "holds", 9)
    turned = PairedSet("set", pd.Series(np.concatenate([np.ones(12), -np.ones(90)])), ("x",))
    assert (judge([turned]).word, judge([turned]).earlier) == ("reversed", "holds")


def test_several_unfinished_sets_need_more_evidence() -> None:
    sets = [in_part(paired(9, 0, 160, "a"), 159), in_part(paired(0, 0, 160, "b"), 159)]
    assert judge(sets[:1]).word == "holds"
    assert judge(sets[:1]).looks.evidence < 80
    assert [one.word for one in adjust([judge([one]) for one in sets])] == ["undecided"] * 2


def test_a_margin_moves_the_question() -> None:
    worse = [paired(30, 50, 1000, name) for name in "abcd"]  # 2 points worse
    assert judge(worse).word == "reversed"
    assert judge(worse, margin=0.05).word == "holds"
    assert judge([in_part(one, 999) for one in worse], margin=0.05).word == "holds"
    assert judge(worse[:1], margin=0.05).word == "holds"
    better = [paired(50, 30, 1000, name) for name in "abcd"]
    assert judge(better).word == "holds"
    assert judge(better, margin=-0.015).word == "undecided"


# ---- rounds


def test_a_round_is_the_next_image_of_every_set() -> None:
    a = PairedSet("a", pd.Series([1.0, -1.0, 0.0], index=["a1", "a2", "a3"]))
    b = PairedSet("b", pd.Series([1.0, 1.0], index=["b1", "b2"]), ("b3",))
    assert rounds([a, b]).tolist() == [1.0, 0.0]
    assert rounds([a]).tolist() == [1.0, -1.0, 0.0]


def test_images_of_one_id_are_in_one_round() -> None:
    clean = PairedSet("clean", pd.Series([1.0, 0.0, -1.0, 1.0, 1.0], index=list("pqrst")))
    noisy = PairedSet("noisy", pd.Series([1.0, 0.5], index=list("qs")))
    # p and q together, since q is the first of the noisy; then r and s.
    assert rounds([clean, noisy]).tolist() == [(0.5 + 1.0) / 2, (0.0 + 0.5) / 2]
    to_come = PairedSet("noisy", pd.Series([1.0], index=["q"]), ("s",))
    assert rounds([clean, to_come]).tolist() == [(0.5 + 1.0) / 2]
    behind = PairedSet("clean", pd.Series([1.0], index=["p"]), tuple("qrst"))
    assert rounds([behind, noisy]).tolist() == []
    with pytest.raises(ValueError, match="same order"):
        rounds([clean, PairedSet("noisy", pd.Series([1.0, 0.5], index=list("sq")))])


# ---- agreement with the paper


def test_the_noise_of_trials_is_that_of_two_runs() -> None:
    shares = np.array([0.5, 1.0, 0.0, 0.5])  # two halves: on two of four images they disagree
    assert trial_noise(shares, 2) == pytest.approx(2 * 0.5 / 16)
    assert simulate.noise_covers(200, 2000, 20) > 0.92
    # The images' own interval is 3.6 points wide at 2,000 images and would not see 1.5 points.
    assert simulate.noise_covers(100, 30_000, 20, mistake=0.015) < 0.05


# ---- efficiency


def frame(*rows: list[float]) -> pd.DataFrame:
    return pd.DataFrame(rows, index=[f"image {place}" for place in range(len(rows))])


def flat(values: list[float], images: int = 50) -> pd.DataFrame:
    """Every image alike: no doubt."""
    return frame(*[values] * images)


def test_the_factors_are_read_off_the_curves() -> None:
    challenger = Curve((1, 2, 4), (flat([0.2, 0.8, 0.9]),))
    reference = Curve((10, 50, 100), (flat([0.3, 0.797, 0.8]),))
    found = match(challenger, reference)
    assert (found.challenger_budget, found.reference_budget) == (2, 50)
    assert found.target == pytest.approx(0.795)
    costs = [3.0, 5.0, 9.0], [11.0, 51.0, 101.0]  # one once an image, one or two a trial
    assert (found.protocol(*costs).value, found.protocol(*costs).low) == (101 / 5, 101 / 5)
    assert found.cheapest(*costs).value == 51 / 5
    assert not found.ahead
    assert not found.behind


def test_a_curve_must_stay_where_it_is_as_accurate() -> None:
    wavering = Curve((1, 2, 4), (flat([0.9, 0.7, 0.9]),))
    found = match(wavering, Curve((1,), (flat([0.8]),)))
    assert found.challenger_budget == 4


def test_a_challenger_that_is_never_as_accurate() -> None:
    found = match(Curve((1, 2), (flat([0.1, 0.2]),)), Curve((1,), (flat([0.9]),)))
    assert found.challenger_budget is None
    assert found.protocol([1, 2], [1]).value == 0
    assert (found.behind, found.ahead) == (True, False)


def test_a_challenger_that_is_ahead_with_one_trial() -> None:
    """The miniature's four classes: the reference is best at one timestep, and far behind."""
    random = np.random.default_rng(0)
    found = simulate.curves(random, 160, (0.77, 0.84, 0.88, 0.9, 0.9), simulate.BEST_AT_ONE)
    assert found.ahead
    assert found.at_least([2.0, 4, 8, 16, 32], [1.0, 2, 4, 8, 16]) == 8
    assert found.protocol([2.0, 4, 8, 16, 32], [1.0, 2, 4, 8, 16]).low > 1
    assert simulate.ahead_rate(40, 160, (0.45, 0.5, 0.5, 0.5, 0.5), simulate.FLAT) <= 0.1


@pytest.mark.parametrize(
    ("challenger", "reference"),
    [
        (simulate.FLAT, simulate.FLAT),
        (simulate.RISING, simulate.RISING),
        (simulate.RISING, simulate.BEST_AT_ONE),
    ],
)
def test_the_lower_end_of_a_factor_covers(
    challenger: tuple[float, ...], reference: tuple[float, ...]
) -> None:
    assert simulate.low_end_covers(40, 160, challenger, reference) >= 0.9


def test_the_mean_curve_is_over_test_sets() -> None:
    easy, hard = flat([0.8, 0.9]), flat([0.4, 0.5], 20)
    found = match(Curve((1, 2), (easy, hard)), Curve((1,), (flat([0.65]), flat([0.55], 20))))
    assert (found.challenger_budget, found.target) == (1, pytest.approx(0.595))
