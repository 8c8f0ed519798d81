"""The budget of a run of hours: what it buys, and that nothing is bought twice."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from genclass.cli import app
from genclass.config import Config, RacingStrategy
from genclass.errors import GenclassError
from genclass.planning.allotment import Allotment, allotted, controlled
from genclass.planning.budget import (
    CHANCES,
    STAGES,
    CellCost,
    Wish,
    allot,
    costs_of,
    decide,
    forecast,
    spent_hours,
    spread,
)
from genclass.planning.rates import Rate, Rates
from genclass.planning.shard_size import shard_sizes
from genclass.reporting.so_far import gather, wishes_so_far
from tests.support.halfway import score, small
from tests.support.simulations import rounds_to_decide

A, B, C = "a", "b", "c"


def wish(models: tuple[str, str], dataset: str, difference: float, variance: float = 0.25) -> Wish:
    return Wish("claim", "title", models, (dataset,), difference, (variance,), 40.0, True)


def costs(**seconds: float) -> dict[tuple[str, str], CellCost]:
    return {(name, "set"): CellCost(10_000, one) for name, one in seconds.items()}


def test_the_cheapest_verdict_comes_first() -> None:
    wishes = [wish((A, C), "set", 0.1), wish((A, B), "set", 0.1)]
    images = wishes[0].rounds(0.8)
    enough = images * (1 + 2) + 1
    given = spread(costs(a=1, b=2, c=50), wishes, (), enough)
    # Both sides of a comparison have one number of images; what is left starts the other.
    assert given[A, "set"] == given[B, "set"] == images
    assert (C, "set") not in given
    given = spread(costs(a=1, b=2, c=50), wishes, (), enough + 50 * 60)
    assert given[C, "set"] == 60


def test_what_is_there_is_not_paid_again() -> None:
    there = {(A, "set"): CellCost(1000, 1.0, (range(100), range(150, 200)))}
    assert there[A, "set"].there == 100
    assert there[A, "set"].of(200) == 50
    assert spread(there, [], (), 0.0) == {(A, "set"): 100}


def test_a_cheap_row_goes_along() -> None:
    prices = costs(a=1, b=2, c=0.001)
    needed = wish((A, B), "set", 0.1).rounds(0.8)
    given = spread(prices, [wish((A, B), "set", 0.1)], {(C, "set")}, 3.01 * needed)
    assert given[C, "set"] == needed


def test_what_no_claim_needs_is_spread_by_what_it_buys() -> None:
    prices = {(A, "dear"): CellCost(10**6, 4.0), (A, "cheap"): CellCost(10**6, 1.0)}
    given = spread(prices, [], (), 6000.0)
    assert given[A, "cheap"] == pytest.approx(2 * given[A, "dear"], rel=0.01)
    assert 4 * given[A, "dear"] + given[A, "cheap"] == pytest.approx(6000, rel=0.01)
    assert spread(prices, [], (), 1e9) == dict.fromkeys(prices, 10**6)


def test_hours_hold_the_compilation_of_each_model_once() -> None:
    cost = CellCost(10**6, 4.0, candidates=10, compiling=1000.0)
    few = replace(cost, candidates=5)
    prices = {(A, "one"): cost, (A, "two"): cost, (A, "few"): few, (B, "one"): cost}
    given = spread(prices, [], (), 12_000.0)
    scoring = sum(prices[cell].of(n) for cell, n in given.items())
    assert scoring == pytest.approx(12_000 - 3 * 1000, rel=0.01)
    # Too little work is not compiled.
    given = spread(prices, [], (), 3000.0)
    assert sum(prices[c].of(n) for c, n in given.items()) == pytest.approx(3000, rel=0.01)
    # What is given to a comparison first has paid for what comes after it.
    wishes = [wish((A, B), "one", 0.1)]
    images = wishes[0].rounds(CHANCES[1])
    given = spread(prices, wishes, (), 2 * (4.0 * images + 1000) + 4000)
    assert sum(prices[c].of(n) for c, n in given.items()) >= 8 * images + 3000


@pytest.mark.parametrize(
    ("differences", "discordant"),
    [([0.128], 0.3), ([0.08], 0.2), ([0.041, 0.128, 0.092, 0.08], 0.25)],
)
def test_the_chance_of_a_verdict_is_what_simulation_says(
    differences: list[float], discordant: float
) -> None:
    variances = tuple(discordant - difference**2 for difference in differences)
    one = Wish(
        claim="claim",
        title="title",
        models=(A, B),
        datasets=tuple(map(str, range(len(differences)))),
        difference=float(np.mean(differences)),
        variances=variances,
        enough=40.0,
        by_signs=len(differences) == 1,
    )
    rounds = rounds_to_decide(150, 900, differences, discordant)
    for chance in (0.5, 0.8):
        images = one.rounds(chance)
        assert float(np.mean(rounds <= images)) == pytest.approx(chance, abs=0.13)
        assert one.chance([images] * len(differences), [10**6] * len(differences)) == pytest.approx(
            chance, abs=0.01
        )


CELLS = [(model, "digits") for model in ("randar", "dit")]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two models on 300 images; an image takes 20 seconds of RandAR's, 100 of DiT's."""
    config = small(tmp_path / "run", ["randar", "dit"], ["digits"])
    rates = Rates("a device", "told", {"randar": Rate(10.0), "dit": Rate(5.0)})
    config.run.root.mkdir(exist_ok=True)
    rates.write(config.run.calibration)
    return config


def run_to_the_end(
    config: Config, hours: float, cost: float = 1.0
) -> tuple[list[Allotment], float]:
    """Decide and score until nothing is left; each score file takes `cost` times what was told."""
    allotments: list[Allotment] = []
    rates = Rates.read(config.run.calibration)
    while True:
        wanted, _ = wishes_so_far(config)
        found = decide(config, hours, costs_of(config, rates), wanted)
        found.allotment.write(config.run.budget)
        if not found.more:
            return allotments, found.spent
        allotments.append(found.allotment)
        assert len(allotments) <= len(STAGES)
        for (model, dataset), images in found.allotment.cells().items():
            there = costs_of(config, rates)[model, dataset].there
            if images > there:
                score(
                    config,
                    model,
                    dataset,
                    (there, images),
                    seconds=cost * (images - there) * {"randar": 20.0, "dit": 100.0}[model],
                )


def test_a_run_ends_at_its_hours(config: Config) -> None:
    allotments, spent = run_to_the_end(config, 4.0)
    assert spent == pytest.approx(4.0, rel=0.06)
    assert len(allotments) > 2
    assert run_to_the_end(config, 4.0) == ([], spent)  # nothing to do
    more, later = run_to_the_end(config, 6.0)
    assert more and later == pytest.approx(6.0, rel=0.06)
    assert run_to_the_end(config, 4.0) == ([], later)  # nothing is thrown away


def test_what_the_first_jobs_took_replaces_what_was_told(config: Config) -> None:
    allotments, spent = run_to_the_end(config, 4.0, cost=3.0)
    assert spent == pytest.approx(4.0, rel=0.1)
    assert 3600 * spent == pytest.approx(
        3
        * sum(
            20 * n if cell[0] == "randar" else 100 * n for cell, n in allotments[-1].cells().items()
        )
    )


def test_what_a_job_compiled_need_not_be_compiled_again(config: Config) -> None:
    told = {"randar": Rate(10.0, seconds_to_compile=50.0), "dit": Rate(5.0, seconds_to_compile=60)}
    rates = Rates("a device", "told", told)
    costs = costs_of(config, rates)
    assert [costs[cell].compiling for cell in CELLS] == [50, 60]
    score(config, "randar", "digits", (0, 10), seconds=200.0)
    costs = costs_of(config, rates)
    assert [costs[cell].compiling for cell in CELLS] == [0, 60]


def test_everything_ends(config: Config) -> None:
    _, spent = run_to_the_end(config, 1000.0)
    assert spent == pytest.approx(300 * 120 / 3600, rel=0.01)
    assert run_to_the_end(config, 1000.0) == ([], spent)


def test_a_stopped_run_goes_on_with_what_it_was_at(config: Config) -> None:
    rates = Rates.read(config.run.calibration)
    wanted, _ = wishes_so_far(config)
    first = decide(config, 4.0, costs_of(config, rates), wanted)
    first.allotment.write(config.run.budget)
    score(config, "randar", "digits", (0, 10), seconds=900.0)
    again = decide(config, 4.0, costs_of(config, rates), wanted)
    assert again.more and again.allotment == first.allotment
    assert spent_hours(config) == pytest.approx(0.25)


def test_the_workflow_reads_what_was_allotted(config: Config) -> None:
    assert allotted(config) is config
    of_hours = config.model_copy(update={"hours": 2.0})
    with pytest.raises(GenclassError, match="first: genclass budget --hours 2 -c CONFIG"):
        allotted(of_hours)
    Allotment.of(2.0, {CELLS[0]: 30}, {CELLS[0]: 7}).write(config.run.budget)
    narrow = allotted(of_hours)
    assert {cell: extent.images for cell, extent in narrow.cells().items()} == {CELLS[0]: 30}
    assert shard_sizes(narrow) == {CELLS[0]: 7}
    assert shard_sizes(config)[CELLS[0]] != 7
    config.run.budget.write_text("{")
    with pytest.raises(GenclassError, match="delete it and rerun"):
        allotted(of_hours)


def test_a_job_takes_three_minutes_or_a_hundredth(config: Config) -> None:
    for hours, images in ((2.0, 9), (20.0, 36)):
        wanted, _ = wishes_so_far(config)
        costs = costs_of(config, Rates.read(config.run.calibration))
        found = decide(config, hours, costs, wanted)
        assert found.allotment.shard_sizes()[CELLS[0]] == images  # of 20 seconds each


def test_a_forecast_says_what_more_hours_buy(config: Config) -> None:
    wanted, _ = wishes_so_far(config)
    costs = costs_of(config, Rates.read(config.run.calibration))
    found = [forecast(config, hours, costs, wanted) for hours in (0.5, 4.0, math.inf)]
    expected = [sum(one.chances) for one in found]
    assert expected == sorted(expected) and expected[0] < expected[-1]
    assert found[-1].images == dict.fromkeys(CELLS, 300)
    assert sum(costs[cell].of(n) for cell, n in found[1].images.items()) <= 4 * 3600
    (headline,) = (wish for wish in wanted if wish.claim == "any-order-beats-diffusion")
    widths = [headline.half_width(one.of(headline)) or 1.0 for one in found]
    assert widths == sorted(widths, reverse=True)


def test_a_plan_of_hours_is_printed(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json())
    found = CliRunner().invoke(app, ["plan", "-c", str(path), "--hours", "4", "--json"])
    assert found.exit_code == 0, found.output
    plan = json.loads(found.stdout)
    assert {"any-order-beats-diffusion"} <= {one["claim"] for one in plan["comparisons"]}
    assert [one["hours"] for one in plan["curve"]] == [4.0, 8.0, 24.0, 100.0, None]
    shown = CliRunner().invoke(app, ["plan", "-c", str(path), "--hours", "4"])
    assert "4 hours: " in shown.output and "all images: " in shown.output


def test_races_get_a_control_for_a_tenth() -> None:
    prices = {
        (name, "set"): CellCost(10_000, 1.0, control=500, whole_seconds=20.0) for name in (A, B)
    }
    first = allot(4.0, 0.0, None, prices, [wish((A, B), "set", 0.1)])
    control = first.allotment.exhaustive["set"]
    given = 4 * 3600 / 2  # images of each, if none had a control
    assert control == pytest.approx(given / 10 / 20, rel=0.05)
    # It is kept in the next stage, and grows with more hours.
    again = allot(4.0, 1.0, first.allotment, prices, [wish((A, B), "set", 0.1)])
    assert again.allotment.exhaustive == first.allotment.exhaustive
    more = allot(40.0, 1.0, first.allotment, prices, [wish((A, B), "set", 0.1)])
    assert more.allotment.exhaustive["set"] == 500  # everything takes 11 hours
    assert allot(4000.0, 1.0, first.allotment, prices, []).allotment.exhaustive == {"set": 500}


def test_a_control_is_scored_first() -> None:
    cost = CellCost(100, 1.0, control=10, exhaustive=10, whole_seconds=20.0)
    assert cost.of(30) == 10 * 20 + 20
    half = CellCost(
        100, 1.0, (range(10, 40),), 10, exhaustive=10, whole_seconds=20.0, exhaustively=(range(5),)
    )
    assert half.of(30) == 5 * 20 and half.there == 5
    done = CellCost(
        100, 1.0, (range(10, 40),), 10, exhaustive=10, whole_seconds=20.0, exhaustively=(range(10),)
    )
    assert done.of(40) == 0 and done.there == 40


def test_the_workflow_scores_the_control_that_was_allotted(config: Config) -> None:
    race = RacingStrategy(kind="racing", delta=0.1)
    model = config.models["randar"].model_copy(update={"strategy": race})
    raced = config.model_copy(
        update={"models": config.models | {"randar": model}, "exhaustive": 200, "hours": 2.0}
    )
    assert raced.cells()["randar", "digits"].exhaustive == 200
    Allotment.of(2.0, {CELLS[0]: 90}, {CELLS[0]: 7}, {"digits": 4}).write(config.run.budget)
    extent = allotted(raced).cells()["randar", "digits"]
    assert (extent.images, extent.exhaustive) == (90, 4)
    score(controlled(raced), "randar", "digits", (0, 4))
    score(controlled(raced), "randar", "digits", (4, 90), race=True)
    found = gather(raced)["randar", "digits"]
    assert (found.images, found.asked) == (90, 300)
