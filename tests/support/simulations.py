"""What the verdicts and intervals do on made-up answers whose truth is known.

The tests run these some dozens of times; `python -m tests.support.simulations` runs them longer and
prints the figures of docs/statistics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from genclass.analysis.contrasts import mcnemar_power
from genclass.analysis.efficiency import ALLOWANCE, Curve, Matched, match
from genclass.analysis.intervals import mean_over_sets, tango, trial_noise, wilson
from genclass.analysis.sequential import (
    PairedSet,
    accuracy_so_far,
    confidence_sequence,
    look,
    mean_evidence,
)
from genclass.analysis.verdicts import adjust, judge
from genclass.config import load_config
from genclass.planning.budget import costs_of
from genclass.planning.rates import guessed_rates
from genclass.reporting.assumed import assumed_accuracies
from genclass.reporting.paper import Paper
from genclass.reporting.statements import Statements
from tests.support.hours import claims_decided, claims_of, dearer_races, night


def paired_sets(
    random: np.random.Generator,
    images: int,
    differences: Sequence[float],
    discordant: float,
    shared: bool = False,
) -> list[PairedSet]:
    """Test sets of right and wrong.

    Args:
        differences: the true one of each test set. discordant: the share of images that one
            classifier alone has right. shared: the same images in all, answered alike in part.
    """
    common = random.random(images)
    sets = []
    for place, difference in enumerate(differences):
        own = random.random(images)
        chance = np.where(random.random(images) < 0.5, common, own) if shared else own
        first = (discordant + difference) / 2
        values = (chance < first) * 1.0 - (chance > 1 - (discordant - first))
        ids = [f"{'' if shared else place}/{image}" for image in range(images)]
        sets.append(PairedSet(str(place), pd.Series(values, index=ids)))
    return sets


def rate(
    times: int, happens: Callable[[np.random.Generator], bool | float], seed: int = 0
) -> float:
    """How often it happens."""
    random = np.random.default_rng(seed)
    return float(np.mean([happens(random) for _ in range(times)]))


# ---- verdicts


def decided(
    times: int, images: int, differences: Sequence[float], discordant: float, seed: int = 0
) -> dict[str, float]:
    """How often a claim over test sets of so many images gets which word, and when.

    holds, reversed: at completion. holds_early, reversed_early: at some look, after every round.
    any: at some look or at completion. single: a single test set is decided at completion.
    """
    random = np.random.default_rng(seed)
    names = ("holds", "reversed", "holds_early", "reversed_early", "any", "single")
    counts = dict.fromkeys(names, 0)
    for _ in range(times):
        sets = paired_sets(random, images, differences, discordant)
        found = judge(sets)
        early = {"first": "holds", "second": "reversed"}.get(found.looks.first_decided or "")
        counts["holds"] += found.word == "holds"
        counts["reversed"] += found.word == "reversed"
        counts["holds_early"] += early == "holds"
        counts["reversed_early"] += early == "reversed"
        counts["any"] += early is not None or found.word != "undecided"
        if len(sets) > 1:
            singles = adjust([judge([one]) for one in sets])
            counts["single"] += any(one.word != "undecided" for one in singles)
    return {name: count / times for name, count in counts.items()}


def rounds_to_decide(
    times: int, images: int, differences: Sequence[float], discordant: float, seed: int = 0
) -> np.ndarray:
    """After how many rounds evidence decided for the claim; infinite: not within `images`."""
    random = np.random.default_rng(seed)
    found = [look(paired_sets(random, images, differences, discordant)) for _ in range(times)]
    return np.array([(one.decided == "first" and one.after) or np.inf for one in found])


# ---- intervals


def tango_covers(times: int, images: int, difference: float, discordant: float) -> float:
    def covers(random: np.random.Generator) -> bool:
        [one] = paired_sets(random, images, [difference], discordant)
        values = one.differences.to_numpy()
        found = tango(int((values > 0).sum()), int((values < 0).sum()), images)
        return found.low <= difference <= found.high

    return rate(times, covers)


def wilson_covers(times: int, images: int, accuracy: float) -> float:
    def covers(random: np.random.Generator) -> bool:
        found = wilson(random.binomial(images, accuracy) / images, images)
        return found.low <= accuracy <= found.high

    return rate(times, covers)


def mean_covers(
    times: int, images: int, differences: Sequence[float], discordant: float, shared: bool
) -> float:
    truth = float(np.mean(differences))

    def covers(random: np.random.Generator) -> bool:
        sets = paired_sets(random, images, differences, discordant, shared)
        found = mean_over_sets([one.differences for one in sets]).estimate
        return found.low <= truth <= found.high

    return rate(times, covers)


def sequence_covers(times: int, images: int, difference: float, discordant: float) -> float:
    """Is the truth inside the confidence sequence at every look?"""

    def covers(random: np.random.Generator) -> bool:
        [one] = paired_sets(random, images, [difference], discordant)
        values = one.differences.to_numpy(float)
        sides = mean_evidence(values, difference), mean_evidence(-values, -difference)
        found = confidence_sequence(values)
        inside = bool(found.low <= difference <= found.high)
        assert inside == (max(side.max() for side in sides) < np.log(40) + 1e-3) or inside
        return inside

    return rate(times, covers)


def accuracy_sequence_covers(times: int, images: int, accuracy: float) -> float:
    def covers(random: np.random.Generator) -> bool:
        found = accuracy_so_far((random.random(images) < accuracy) * 1.0)
        return found.low <= accuracy <= found.high

    return rate(times, covers)


def noise_covers(times: int, images: int, orders: int, mistake: float = 0.0) -> float:
    """How often the accuracies of two runs on the same images agree within the noise of trials.

    An image's answer with all orders is right with a chance of its own; halves of them are noisier.

    Args:
        mistake: what the second run's accuracy is wrong by.
    """

    def agrees(random: np.random.Generator) -> bool:
        margins = random.standard_normal(images) * 2 + 1.5  # of the mean score, in trials' noise

        def answers(number: int) -> np.ndarray:
            return margins + random.standard_normal(images) * 3 / np.sqrt(number) > 0

        halves = [
            margins + random.standard_normal(images) * 3 / np.sqrt(orders / 2) for _ in range(2)
        ]
        ours = float((sum(halves) > 0).mean())
        shares = np.mean([half > 0 for half in halves], axis=0)
        other = round(float(answers(orders).mean()) - mistake, 3)
        spread = 1.96 * np.sqrt(2 * trial_noise(shares, 2)) + 0.0005
        return abs(ours - other) <= spread

    return rate(times, agrees)


# ---- efficiency


def curves(
    random: np.random.Generator,
    images: int,
    challenger: Sequence[float],
    reference: Sequence[float],
) -> Matched:
    """Two curves with these true accuracies at 1, 2, 4, ... trials; images are hard or easy."""
    hard = random.random((images, 1))
    ids = [str(image) for image in range(images)]

    def draw(accuracies: Sequence[float]) -> Curve:
        own = random.random((images, len(accuracies)))
        mixed = np.where(random.random((images, len(accuracies))) < 0.7, hard, own)
        budgets = tuple(2**place for place in range(len(accuracies)))
        return Curve(budgets, (pd.DataFrame((mixed < np.asarray(accuracies)) * 1.0, index=ids),))

    return match(draw(challenger), draw(reference))


def true_factor(challenger: Sequence[float], reference: Sequence[float]) -> float:
    """The protocol factor in trials, from the true accuracies."""
    target = reference[-1] - ALLOWANCE
    stays = [all(a >= target for a in challenger[place:]) for place in range(len(challenger))]
    return 2 ** (len(reference) - 1) / 2 ** stays.index(True) if any(stays) else 0.0


def low_end_covers(
    times: int, images: int, challenger: Sequence[float], reference: Sequence[float]
) -> float:
    """How often the lower end of the protocol factor is not above the truth."""
    truth = true_factor(challenger, reference)
    costs = [[2.0**place for place in range(len(one))] for one in (challenger, reference)]

    def covers(random: np.random.Generator) -> bool:
        return curves(random, images, challenger, reference).protocol(*costs).low <= truth

    return rate(times, covers)


def ahead_rate(
    times: int, images: int, challenger: Sequence[float], reference: Sequence[float]
) -> float:
    """How often "the reference reaches it at no budget" is said."""
    return rate(times, lambda random: curves(random, images, challenger, reference).ahead)


FLAT = (0.45, 0.45, 0.45, 0.45, 0.45)
RISING = (0.40, 0.50, 0.56, 0.60, 0.62)
BEST_AT_ONE = (0.476, 0.46, 0.45, 0.44, 0.431)  # the miniature's DiT on four classes


def line(what: str, value: float) -> None:
    print(f"{what:<72}{value:.3f}", flush=True)


def print_verdicts(times: int) -> None:
    print("No difference: how often a word is wrong")
    words = {
        "holds": "'holds' at completion",
        "reversed": "'reversed' at completion",
        "holds_early": "'holds' at some look before",
        "reversed_early": "'reversed' at some look before",
        "any": "any word, ever",
        "single": "a single test set is named, at completion",
    }
    for sets, images in ((8, 160), (16, 160), (1, 160), (4, 2000), (1, 2000)):
        found = decided(times, images, [0.0] * sets, 0.2)
        for key, word in words.items():
            if sets > 1 or key != "single":
                line(f"{sets} x {images}: {word}", found[key])
    found = decided(times, 2000, [0.09, -0.09], 0.25)
    line("2 x 2000, +9 and -9 points: any word on the mean, ever", found["any"])


def print_power(times: int) -> None:
    print("RandAR-XL against DiT-XL: images until evidence decides, and of a fixed size")
    for name, difference, discordant in (
        ("ImageNet-R", 0.128, 0.30),
        ("ImageNet-Sketch", 0.092, 0.28),
        ("ImageNet-A", 0.080, 0.20),
        ("ImageNet val", 0.041, 0.20),
    ):
        rounds = rounds_to_decide(times, 4000, [difference], discordant)
        for share in (0.5, 0.9):
            evidence = np.quantile(rounds, share, method="inverted_cdf")
            fixed = next(
                n for n in range(10, 9999) if mcnemar_power(n, discordant, difference) >= share
            )
            print(f"{name}: {share:.0%} of runs by {evidence:.0f}; fixed size {fixed}", flush=True)
    rounds = rounds_to_decide(times, 1000, [0.041, 0.128, 0.092, 0.080], 0.25)
    for share in (0.5, 0.9):
        images = np.quantile(rounds, share, method="inverted_cdf")
        print(f"their mean: {share:.0%} of runs by {images:.0f} rounds of four images")


def print_coverage(times: int) -> None:
    print("Coverage of 95 % intervals")
    line("Wilson, 160 images, accuracy .9", wilson_covers(times, 160, 0.9))
    line("Tango, 160 images, +5 points, 20 % discordant", tango_covers(times, 160, 0.05, 0.2))
    line("Tango, 2000 images, +5 points, 20 % discordant", tango_covers(times, 2000, 0.05, 0.2))
    line("mean over 8 x 160", mean_covers(times, 160, [0.05] * 8, 0.2, False))
    line("mean over 5 x 160, the same images", mean_covers(times, 160, [0.05] * 5, 0.2, True))
    line("mean over 4 x 40", mean_covers(times, 40, [0.05] * 4, 0.2, False))
    line("confidence sequence, at every look to 1000", sequence_covers(times, 1000, 0.05, 0.2))
    sequence = accuracy_sequence_covers(times, 1000, 0.8)
    line("confidence sequence of an accuracy of .8, at every look to 1000", sequence)
    print("Agreement with the paper's value within the noise of trials, 20 orders")
    for images in (2000, 7500, 30_000):
        line(f"{images} images: two runs agree", noise_covers(times, images, 20))
        wrong = noise_covers(times, images, 20, 0.015)
        line(f"{images} images: they agree although one is 1.5 points wrong", wrong)


def print_efficiency(times: int) -> None:
    print("The lower end of the protocol factor is not above the truth")
    for images in (160, 2000):
        line(f"{images}: both flat", low_end_covers(times, images, FLAT, FLAT))
        line(f"{images}: both rise", low_end_covers(times, images, RISING, RISING))
        line(f"{images}: the reference falls", low_end_covers(times, images, RISING, BEST_AT_ONE))
        ahead = ahead_rate(times, images, (0.45, 0.5, 0.5, 0.5, 0.5), FLAT)
        line(f"{images}: 'at no budget' is said though equal", ahead)


def print_hours(times: int) -> None:
    """The nights of README: config.yaml on an H100 as it is guessed, races as they are guessed."""
    config = load_config(Path(__file__).parents[2] / "config.yaml")
    paper = Paper.load()
    statements = Statements.load(paper)
    accuracies = assumed_accuracies(config, paper, statements)
    planned = costs_of(config, guessed_rates(config, "H100"))
    headline = statements.claims[0]
    alone = [(headline.name, (name,)) for name in headline.datasets]
    for dearer in (1.0, 5.0):
        costs = {cell: dearer_races(config, cell, cost, dearer) for cell, cost in planned.items()}
        print(f"Races over timesteps {dearer:g} times as dear as planned")
        for hours in (8.0, 24.0, 100.0):
            nights = [night(config, hours, costs, accuracies, seed) for seed in range(times)]
            named = {
                name: float(
                    np.mean(
                        [
                            not any(key[0] == name[0] and key[2] == name[1] for key in one.open)
                            for one in nights
                        ]
                    )
                )
                for name in alone
            }
            print(f"{hours:g} hours, {times} nights:")
            line(
                "  the headline on " + ", ".join(n[1][0] for n in alone[1:]) + ", each by itself",
                float(
                    np.mean(
                        [
                            not any(
                                key[0] == headline.name and key[2] in [n[1] for n in alone[1:]]
                                for key in one.open
                            )
                            for one in nights
                        ]
                    )
                ),
            )
            for name, share in named.items():
                widths = [one.widths.get(name[1][0], 200.0) for one in nights]
                line(f"  the headline on {name[1][0]}", share)
                line("  half of its interval there, points (median)", float(np.median(widths)) / 2)
            line(
                "  claims decided in their mean",
                float(np.mean([claims_decided(one) for one in nights])),
            )
            line(
                "  claims that have comparisons",
                float(np.mean([len(claims_of(one)) for one in nights])),
            )
            line("  comparisons decided", float(np.mean([len(one.decided) for one in nights])))
            line("  comparisons", float(np.mean([len(one.decided | one.open) for one in nights])))
            line("  hours spent", float(np.mean([one.spent for one in nights])))


SECTIONS = {
    "hours": print_hours,
    "verdicts": print_verdicts,
    "power": print_power,
    "coverage": print_coverage,
    "efficiency": print_efficiency,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--times", type=int, default=500, help="runs of each simulation")
    arguments = parser.parse_args()
    for name in arguments.sections or SECTIONS:
        SECTIONS[name](arguments.times)


if __name__ == "__main__":
    main()
