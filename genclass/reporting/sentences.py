"""What a comparison found, in sentences that need no explanation: each number with its unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scipy.stats import beta

from genclass.analysis.contrasts import LEVEL, Power, power
from genclass.analysis.intervals import Estimate
from genclass.analysis.sequential import ENOUGH, PairedSet
from genclass.analysis.verdicts import Judgement, Word, judge
from genclass.reporting.arms import Arm, told_exhaustively
from genclass.reporting.paper import PaperValue
from genclass.reporting.races import disagreement
from genclass.reporting.results import Results
from genclass.reporting.statements import Statement
from genclass.reporting.tables import AGGREGATION_TITLES, show, show_p, trial_noun

SAID: dict[Word, str] = {
    "holds": "decided for the claim",
    "reversed": "decided against the claim",
    "undecided": "undecided",
}


def title_of(results: Results, a: Arm, b: Arm) -> str:
    model = results.model(a.model)
    if a.model != b.model:
        return f"{a.title} − {b.title}"
    name = results.model_title(a.model)
    if a.aggregation != b.aggregation:
        first, second = AGGREGATION_TITLES[a.aggregation], AGGREGATION_TITLES[b.aggregation]
        return f"{name}: {first} − {second}"
    return f"{name}: {trial_noun(model, a.budget)} − {trial_noun(model, b.budget)}"


def result(
    statement: Statement,
    a: Arm,
    b: Arm,
    sets: Sequence[PairedSet],
    judgement: Judgement,
    word: Word,
) -> str:
    """The difference in words, with its unit, interval and test."""
    estimate = judgement.difference
    first, second = a.title, b.title
    if a.model == b.model and a.aggregation != b.aggregation:
        first, second = AGGREGATION_TITLES[a.aggregation], AGGREGATION_TITLES[b.aggregation]
        first = f"{a.title} by {first}"
    more = "more" if estimate.value >= 0 else "less"
    where = f" in the mean over {len(sets)} test sets" if len(sets) > 1 else ""
    if judgement.complete:
        sure = (
            f"95 % interval {_interval(estimate)} points; {judgement.contrast.test} p "
            f"{show_p(judgement.p_value)}"
        )
    else:
        sure = (
            f"{progress(sets)} so far; an interval that holds whenever one looks: "
            f"{_interval(estimate)} points; evidence {judgement.looks.evidence:.3g}, "
            f"{ENOUGH:.0f} decide"
        )
    text = (
        f"{first} is right {more} often than {second}, by {100 * abs(estimate.value):.1f} "
        f"percentage points{where} ({sure})."
    )
    if statement.margin:
        allowed = f"{100 * statement.margin:.0f} points"
        verb = {"holds": "is", "reversed": "is not", "undecided": "may or may not be"}[word]
        text += f" It {verb} at most {allowed} worse."
    return text


def _interval(estimate: Estimate) -> str:
    return f"{show(estimate.low, 'points')} to {show(estimate.high, 'points')}"


def progress(sets: Sequence[PairedSet]) -> str:
    """'412 of 2,000 images'."""
    there = sum(len(one.differences) for one in sets)
    return f"{there:,} of {there + sum(len(one.to_come) for one in sets):,} images"


def what_would_decide(
    judgement: Judgement, told: PaperValue | None, sets: Sequence[PairedSet]
) -> list[str]:
    """The power that these images have, and how many more would be needed."""
    planned = judgement.contrast.images + sum(len(one.to_come) for one in sets)
    interval, null = judgement.difference, -judgement.contrast.margin
    if judgement.complete and not interval.low <= null <= interval.high:
        return [
            f"The interval alone would decide it, but p is above {LEVEL}: of the 5 % of error half "
            "is kept for looks while images are to come."
        ]
    found = power(judgement.contrast, told.value if told else 0.0, planned)
    if found.detectable is None:
        return ["Both answer alike on every image: how many would decide it is not known."]
    if told is None or found.power is None:
        return [
            f"These {planned:,} images decide, in four of five cases, a true difference of "
            f"{100 * found.detectable:.1f} percentage points or more."
        ]
    return [_power_sentence(found, planned)]


def _power_sentence(found: Power, planned: int) -> str:
    percent = 100 * (found.power or 0)
    chance = "over 99" if percent > 99 else "under 1" if percent < 1 else f"{percent:.0f}"
    text = (
        f"If the paper’s difference of {show(found.difference, 'points')} points is true, "
        f"{planned:,} images decide it with a chance of {chance} %"
    )
    if found.images_needed is None:
        return text + ": it is not on the claim’s side."
    return text + f"; for a chance of 80 % some {_rounded(found.images_needed):,} are needed."


def _rounded(number: int) -> int:
    """To two digits: more is not known."""
    step = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step


def one_by_one(words: Sequence[Word | None]) -> str:
    """What the single test sets say."""
    count = Counter(word for word in words if word)
    order: tuple[Word, ...] = ("holds", "reversed", "undecided")
    found = [f"{word} on {count[word]}" for word in order if count[word]]
    number = count.total()
    return f"One by one, adjusted for being {number}: {', '.join(found)}."


def leans_on_races(
    results: Results, statement: Statement, a: Arm, b: Arm, sets: list[PairedSet], word: Word
) -> str:
    """Does the verdict also hold if races err as much as they may, always against it?"""
    raced = 0
    for arm in (a, b):
        model = results.model(arm.model)
        # In its first trials, a race has lost nobody.
        decided = arm.budget > model.strategy.whole_trials(model.trials)
        raced += decided and any(
            arm.model not in told_exhaustively(results, (a, b), one.name) for one in sets
        )
    if not raced:
        return ""
    other, images = disagreement(results)
    if not images:
        return "This verdict leans on the races: nothing is scored exhaustively beside them."
    most = raced * float(beta.ppf(1 - LEVEL, other + 1, images - other)) if other < images else 1.0
    against = most if word == "holds" else -most
    shifted = judge(sets, statement.margin - against)
    measured = (
        f"they answer otherwise on {other:,} of {images:,} images, on at most {100 * most:.2g} %"
    )
    if shifted.word == word:
        return f"It does not lean on the races: {measured}, and it holds with that against it."
    return f"This verdict leans on the races: {measured}, and with that against it, it is open."


def listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
