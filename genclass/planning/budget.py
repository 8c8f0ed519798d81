"""The budget of a run of hours: how many images each cell gets, by what they buy.

Hours are seconds of one device, those that the score files of a results folder say. First come the
comparisons that are not decided, the cheapest first; one number of images for both sides. What is
left goes to every cell: n = min(N, lambda sqrt(1 / c)) images a test set, c being what an image
costs there in all models (the least mean of variances at that cost). Decided anew at each start,
with what the first jobs took in place of what was guessed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import NormalDist

from genclass.config import Config, Extent
from genclass.errors import GenclassError
from genclass.planning.allotment import Allotment, Cell
from genclass.planning.plan import compiled_before, share_of_races
from genclass.planning.rates import Rates
from genclass.planning.work import candidate_count
from genclass.scores.score_file import Stamp, finished_shards
from genclass.scores.shards import Shard
from genclass.specs.cells import specs_of

# A run is divided, so that what the first jobs took and found decides over the rest.
STAGES = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
ENOUGH_OF_IT = 0.98  # of the hours: what is left is less than a job of each cell
CHANCES = (0.8, 0.97)  # of a verdict, that images are given for: first to all, then to all
SHARD_SECONDS, SHARDS = 180.0, 100  # a job takes so long, or such a part of the hours
COMPANY = 1 / 50  # of the hours: a row that costs less goes along with those that are compared
STEP = 10  # images are given in tens
CONTROL = 1 / 10  # of what races get: for images that are scored exhaustively beside them

_NORMAL = NormalDist()
_LOOKS = {True: 1.2, False: 1.7}  # how much more than 2 log E it takes, by signs or by betting
_COMPLETE = _NORMAL.inv_cdf(1 - 0.0125)  # p at most .025, two-sided


@dataclass(frozen=True)
class Wish:
    """A comparison that is not decided yet.

    claim, title: for people. difference: the expected distance from the null hypothesis, above 0;
    variances: of an image's difference, by test set. rounds_variance: of the mean over the test
    sets, where it is known. enough: the evidence that decides; by_signs: how it is looked at
    (`genclass.analysis.sequential.look`). weight: how many verdicts it counts as.
    """

    claim: str
    title: str
    models: tuple[str, str]
    datasets: tuple[str, ...]
    difference: float
    variances: tuple[float, ...]
    enough: float
    by_signs: bool
    rounds_variance: float | None = None
    weight: float = 1.0

    @property
    def cells(self) -> list[Cell]:
        both = dict.fromkeys(self.models)  # one, where a model is compared with itself
        return [(model, dataset) for dataset in self.datasets for model in both]

    def rounds(self, chance: float) -> int:
        """After how many images of each test set it is decided with this chance, about."""
        variance = self._variance
        looks = self._threshold + _NORMAL.inv_cdf(chance)
        return max(1, math.ceil(variance * (looks / self.difference) ** 2))

    def chance(self, images: Sequence[int], asked: Sequence[int]) -> float:
        """Of a verdict with these images of each test set, of so many: a normal approximation."""
        found = 0.0
        if rounds := min(images, default=0):
            distance = self.difference * math.sqrt(rounds / self._variance)
            found = _NORMAL.cdf(distance - self._threshold)
        if all(n >= of for n, of in zip(images, asked, strict=True)):
            sets = len(images) ** 2
            parts = (v / (n * sets) for v, n in zip(self.variances, images, strict=True))
            distance = self.difference / math.sqrt(sum(parts))
            found = max(found, _NORMAL.cdf(distance - _COMPLETE))
        return found

    def half_width(self, images: Sequence[int]) -> float | None:
        """Of the interval that holds whenever one looks, about; None: without an image."""
        rounds = min(images, default=0)
        if not rounds:
            return None
        return min(1.0, self._threshold * math.sqrt(self._variance / rounds))

    @property
    def _variance(self) -> float:
        if self.rounds_variance is not None:
            return self.rounds_variance
        return sum(self.variances) / len(self.variances) ** 2

    @property
    def _threshold(self) -> float:
        return math.sqrt(2 * math.log(self.enough) * _LOOKS[self.by_signs])


@dataclass(frozen=True)
class CellCost:
    """What a cell's images take.

    asked: by the config; seconds: of an image; scored: the ranges that are there, under all trials.
    Where the model races: control: how many images the config asks to be scored exhaustively, too;
    exhaustive: how many, the first, are in this run, each in `whole_seconds`; exhaustively: the
    ranges of them that are there. compiling: what the first job with more work than that takes on
    top, once for all cells of a model that have so many `candidates`.
    """

    asked: int
    seconds: float
    scored: tuple[range, ...] = ()
    control: int = 0
    exhaustive: int = 0
    whole_seconds: float = 0.0
    exhaustively: tuple[range, ...] = ()
    candidates: int = 0
    compiling: float = 0.0

    def of(self, images: int) -> float:
        """Seconds until the leading images are there, without compiling."""
        first = min(images, self.exhaustive)
        raced = _missing(range(first, images), self.scored) * self.seconds
        return raced + _missing(range(first), self.exhaustively) * self.whole_seconds

    @property
    def there(self) -> int:
        """Leading images that are there."""
        end = _end(0, self.exhaustively)
        if end < self.exhaustive:
            return min(end, self.asked)
        return min(_end(self.exhaustive, self.scored), self.asked)


def _missing(wanted: range, there: Iterable[range]) -> int:
    """How many are not there; what is there does not overlap."""
    found = (len(range(max(r.start, wanted.start), min(r.stop, wanted.stop))) for r in there)
    return max(0, len(wanted) - sum(found))


def _end(start: int, there: Iterable[range]) -> int:
    """Up to where everything is there from `start` on."""
    for one in sorted(there, key=lambda r: r.start):
        if one.start > start:
            break
        start = max(start, one.stop)
    return start


def costs_of(config: Config, rates: Rates) -> dict[Cell, CellCost]:
    """What every cell's images take: as its shards did, else as other shards of its model did
    beside the rates, else as those of any model did; without any, as the rates say.

    Raises:
        GenclassError: a rate, or a number of classes, is missing.
    """
    specs, extents = specs_of(config), config.cells()
    finished = {
        cell: finished_shards(config.run.scores(*cell), specs.get(cell)) for cell in extents
    }
    candidates = {cell: candidate_count(cell[1], config.datasets[cell[1]]) for cell in extents}
    kept = compiled_before(config, finished)
    planned: dict[Cell, dict[bool, float]] = {}  # seconds of an image that races or does not
    for cell, extent in extents.items():
        model = cell[0]
        rate = rates.models.get(model)
        if rate is None:
            raise GenclassError(
                f"{config.run.calibration}: '{model}' is not in it: repeat: "
                f"genclass calibrate -c CONFIG"
            )
        scores = candidates[cell] * extent.trials if config.models[model].system.work.score else 0
        scoring = scores / rate.passes_per_second
        raced = share_of_races(config, cell, finished)
        share = raced.share if raced else 1.0
        planned[cell] = {
            False: scoring + rate.seconds_per_image,
            True: scoring * share + rate.seconds_per_image,
        }

    def pace(cells: Iterable[Cell]) -> float | None:
        """How many times as long as planned they took."""
        took = expected = 0.0
        for cell in cells:
            for shard, header in finished[cell].items():
                took += header.seconds
                part = len(shard.trials) / extents[cell].trials
                expected += planned[cell][shard.race] * len(shard.images) * part
        return took / expected if took and expected else None

    everything = pace(extents) or 1.0
    costs = {}
    for cell, extent in extents.items():
        alike = [other for other in extents if other[0] == cell[0]]
        factor = pace([cell]) or pace(alike) or everything
        races = extent.exhaustive < extent.images
        there = {
            race: tuple(s.images for s in finished[cell] if s.race == race and whole(s, extent))
            for race in (False, True)
        }
        costs[cell] = CellCost(
            asked=extent.images,
            seconds=planned[cell][races] * factor,
            scored=there[races],
            control=extent.exhaustive if races else 0,
            exhaustive=extent.exhaustive if races else 0,
            whole_seconds=planned[cell][False] * factor,
            exhaustively=there[False] if races else (),
            candidates=candidates[cell],
            compiling=0.0
            if (cell[0], candidates[cell]) in kept
            else rates.models[cell[0]].seconds_to_compile,
        )
    return costs


def whole(shard: Shard, extent: Extent) -> bool:
    """Does a shard hold all trials of its images?"""
    return shard.trial_start == 0 and shard.trial_stop >= extent.trials


def spread(
    costs: Mapping[Cell, CellCost], wishes: Sequence[Wish], rows: Collection[Cell], seconds: float
) -> dict[Cell, int]:
    """How many images each cell gets for so many seconds, beside what is there.

    rows: cells that stand beside those that are compared, and go along where they cost little.
    """
    given = {cell: cost.there for cell, cost in costs.items()}
    left = seconds

    def price(wanted: Mapping[Cell, int]) -> float:
        return _more(costs, given, wanted)

    def wanted(wish: Wish, rounds: int) -> dict[Cell, int]:
        return {c: max(given[c], min(rounds, costs[c].asked)) for c in wish.cells}

    def give(images: Mapping[Cell, int]) -> None:
        nonlocal left
        left -= price(images)
        given.update(images)

    def hope(wish: Wish, chance: float) -> float:
        asked = _asked(costs, wish)
        images = [min(wish.rounds(chance), number) for number in asked]
        return max(wish.chance(images, asked), 1e-3)

    for chance in CHANCES:
        unpaid: list[Wish] = []
        open_wishes = [wish for wish in wishes if all(cell in costs for cell in wish.cells)]
        while open_wishes:
            prices = [price(wanted(wish, wish.rounds(chance))) for wish in open_wishes]
            # For a verdict's chance: where all images there are do not suffice, it is lower.
            worth = [
                cost / (wish.weight * hope(wish, chance))
                for cost, wish in zip(prices, open_wishes, strict=True)
            ]
            cheapest = min(range(len(prices)), key=worth.__getitem__)
            wish = open_wishes.pop(cheapest)
            if prices[cheapest] <= left:
                give(wanted(wish, wish.rounds(chance)))
            else:
                unpaid.append(wish)
        give(_company(costs, given, rows, seconds, left))
        if unpaid:
            break
    if unpaid:
        # The cheapest of them as far as it goes: what is there counts later, too.
        wish = min(unpaid, key=lambda w: price(wanted(w, w.rounds(CHANCES[0]))))
        most = max(costs[cell].asked for cell in wish.cells)
        give(wanted(wish, _largest(most, lambda n: price(wanted(wish, n)) <= left)))
    else:
        give(_rest(costs, given, left))
    return {cell: images for cell, images in given.items() if images}


def _company(
    costs: Mapping[Cell, CellCost],
    given: Mapping[Cell, int],
    rows: Collection[Cell],
    seconds: float,
    left: float,
) -> dict[Cell, int]:
    """The rows that cost little, with as many images as those that are compared on the set."""
    most: dict[str, int] = defaultdict(int)
    for (_, dataset), images in given.items():
        most[dataset] = max(most[dataset], images)
    found = {}
    for cell in sorted(set(rows) & set(costs), key=lambda c: costs[c].seconds):
        images = min(most[cell[1]], costs[cell].asked)
        price = _more(costs, given, {cell: images})
        if images > given[cell] and price <= min(COMPANY * seconds, left):
            found[cell] = images
            left -= price
    return found


def _rest(
    costs: Mapping[Cell, CellCost], given: Mapping[Cell, int], left: float
) -> dict[Cell, int]:
    """Every cell: n = lambda sqrt(1 / c) images of a test set, c what an image takes in all."""
    together: dict[str, float] = defaultdict(float)
    for (_, dataset), cost in costs.items():
        together[dataset] += cost.seconds

    def images(scale: float) -> dict[Cell, int]:
        return {
            cell: max(
                given[cell], min(cost.asked, int(scale / math.sqrt(together[cell[1]] or 1e-9)))
            )
            for cell, cost in costs.items()
        }

    def price(wanted: Mapping[Cell, int]) -> float:
        return _more(costs, given, wanted)

    # Up to where even the dearest set is whole.
    end = max((cost.asked for cost in costs.values()), default=0) * math.sqrt(
        max(together.values(), default=0.0) or 1e-9
    )
    if price(images(end + 1)) <= left:
        return images(end + 1)
    low, high = 0.0, end + 1
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if price(images(middle)) <= left else (low, middle)
    return images(low)


def _asked(costs: Mapping[Cell, CellCost], wish: Wish) -> list[int]:
    """How many images of each of its test sets the config asks of both sides."""
    return [min(costs[m, dataset].asked for m in wish.models) for dataset in wish.datasets]


def _largest(most: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to `most` that something holds for, which holds up to some number."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Budget:
    """What is decided. hours, spent: of one device; more: is anything left to be scored?"""

    allotment: Allotment
    spent: float
    more: bool


def spent_hours(config: Config) -> float:
    """What the score files of the results folder took.

    Without unfinished shards: what is in them counts once they are finished, as does their price.
    """
    seconds = 0.0
    for path in (config.run.root / "scores").glob("*/*/images-*.safetensors"):
        with suppress(GenclassError):
            seconds += Stamp.read(path).header.seconds
    return seconds / 3600


def decide(
    config: Config, hours: float, costs: Mapping[Cell, CellCost], wishes: Sequence[Wish]
) -> Budget:
    """Decide over the next stage, with what is there and what was decided before. Writes nothing.

    Raises:
        GenclassError: the earlier record is damaged.
    """
    before = Allotment.read(config.run.budget)
    return allot(hours, spent_hours(config), before, costs, wishes, main_rows(config))


def allot(
    hours: float,
    spent: float,
    before: Allotment | None,
    costs: Mapping[Cell, CellCost],
    wishes: Sequence[Wish],
    rows: Collection[Cell] = (),
) -> Budget:
    """The next stage of a run of so many hours, of which some are spent.

    What was decided before under as many hours is finished first; then follows the next stage. What
    is there is always in it: nothing is thrown away.
    """
    sizes = before.shard_sizes() if before else {}
    left = 3600 * (hours - spent)
    kept = dict(before.exhaustive) if before else {}
    if before and before.hours == hours:
        costs = _controlled(costs, kept)
    else:
        costs, kept = with_controls(costs, wishes, rows, left, kept)

    def budget(images: Mapping[Cell, int], more: bool) -> Budget:
        return Budget(_allotment(hours, costs, images, sizes, kept), spent, more)

    floor = {cell: cost.there for cell, cost in costs.items() if cost.there}
    if before:
        earlier = {cell: n for cell, n in before.cells().items() if cell in costs}
        if _price(costs, earlier) <= max(0.0, left):
            floor |= {cell: max(n, floor.get(cell, 0)) for cell, n in earlier.items()}
            if before.hours == hours and _price(costs, earlier):
                return budget(floor, more=True)
    if spent < ENOUGH_OF_IT * hours:
        given = spread(costs, wishes, rows, left)
        for stage in STAGES:
            limit = 3600 * (stage * hours - spent)
            if limit < 3600 * (1 - ENOUGH_OF_IT) * hours:
                continue
            images = _part_of(given, floor, costs, limit / left)
            # Of a part that comes to little in tens of images, the next one is taken.
            if _price(costs, images) > (0 if stage == STAGES[-1] else limit / 2):
                return budget(images, more=True)
    return budget(floor, more=False)


def with_controls(
    costs: Mapping[Cell, CellCost],
    wishes: Sequence[Wish],
    rows: Collection[Cell],
    seconds: float,
    kept: Mapping[str, int],
) -> tuple[dict[Cell, CellCost], dict[str, int]]:
    """The costs in a run of so many seconds, and by test set how many images races are scored
    exhaustively on in it, too: never fewer than are `kept`, and all where there is time for all."""
    all_of_them: dict[str, int] = {}
    for (_, name), cost in costs.items():
        all_of_them[name] = max(all_of_them.get(name, 0), cost.control)
    everything = _controlled(costs, all_of_them)
    if _price(everything, {cell: cost.asked for cell, cost in costs.items()}) <= seconds:
        return everything, all_of_them
    without = _controlled(costs, kept)
    controls = _controls(without, spread(without, wishes, rows, seconds), kept)
    return _controlled(costs, controls), controls


def _controls(
    costs: Mapping[Cell, CellCost], given: Mapping[Cell, int], kept: Mapping[str, int]
) -> dict[str, int]:
    """By test set, images for `CONTROL` of what its races get."""
    races: dict[str, float] = defaultdict(float)
    one: dict[str, float] = defaultdict(float)
    most: dict[str, int] = {}
    for cell, images in given.items():
        cost = costs[cell]
        if cost.control:
            races[cell[1]] += images * cost.seconds
            one[cell[1]] += cost.whole_seconds
            most[cell[1]] = max(most.get(cell[1], 0), cost.control)
    found = {name: min(most[name], int(CONTROL * races[name] / one[name])) for name in races}
    return {name: max(found.get(name, 0), kept.get(name, 0)) for name in {**kept, **found}}


def _controlled(
    costs: Mapping[Cell, CellCost], controls: Mapping[str, int]
) -> dict[Cell, CellCost]:
    """With so many images that are scored exhaustively, too, where models race."""
    return {
        cell: replace(cost, exhaustive=min(cost.control, controls.get(cell[1], 0)))
        for cell, cost in costs.items()
    }


@dataclass(frozen=True)
class Forecast:
    """What so many more hours would buy, from what is there on: before anything is known, a guess.

    chances: of a verdict, a wish each; images: of each cell.
    """

    hours: float
    images: dict[Cell, int]
    wishes: tuple[Wish, ...]
    chances: tuple[float, ...]

    def of(self, wish: Wish) -> list[int]:
        """Images of each of its test sets that both sides have."""
        return [
            min(self.images.get((model, dataset), 0) for model in wish.models)
            for dataset in wish.datasets
        ]


def forecast(
    config: Config, hours: float, costs: Mapping[Cell, CellCost], wishes: Sequence[Wish]
) -> Forecast:
    """What is to be expected of `hours` more; infinite: of all images."""
    if math.isfinite(hours):
        costs, _ = with_controls(costs, wishes, main_rows(config), 3600 * hours, {})
    images = spread(costs, wishes, main_rows(config), 3600 * hours)
    found = Forecast(hours, images, tuple(wishes), ())
    chances = [wish.chance(found.of(wish), _asked(costs, wish)) for wish in wishes]
    return replace(found, chances=tuple(chances))


def main_rows(config: Config) -> set[Cell]:
    """The cells of the main table."""
    table = config.report.main_table
    if table is None:
        return set()
    return {(row.model, column) for row in table.rows for column in table.columns}


def _part_of(
    whole: Mapping[Cell, int],
    floor: Mapping[Cell, int],
    costs: Mapping[Cell, CellCost],
    share: float,
) -> dict[Cell, int]:
    """The share of what is to come of each cell, in tens."""
    images = {}
    for cell, number in whole.items():
        least = floor.get(cell, 0)
        part = least + max(0.0, min(1.0, share)) * max(0, number - least)
        images[cell] = min(costs[cell].asked, max(least, STEP * round(part / STEP)))
    return {cell: n for cell, n in (dict(floor) | images).items() if n}


def _more(
    costs: Mapping[Cell, CellCost], given: Mapping[Cell, int], wanted: Mapping[Cell, int]
) -> float:
    """Seconds of the images that are wanted, beyond those that are given already."""
    scoring = sum(costs[cell].of(n) - costs[cell].of(given[cell]) for cell, n in wanted.items())
    compiling = _compiling(costs, wanted)
    if compiling:  # seldom: only before a model's first job
        models = {model for model, _ in compiling}
        theirs = {cell: n for cell, n in given.items() if cell[0] in models}
        paid = _compiling(costs, theirs)
        compiling = {code: s for code, s in compiling.items() if code not in paid}
    return scoring + sum(compiling.values())


def _price(costs: Mapping[Cell, CellCost], images: Mapping[Cell, int]) -> float:
    """Seconds of so many images, compiling included."""
    scoring = sum(costs[cell].of(n) for cell, n in images.items())
    return scoring + sum(_compiling(costs, images).values())


def _compiling(
    costs: Mapping[Cell, CellCost], images: Mapping[Cell, int]
) -> dict[tuple[str, int], float]:
    """By model and number of candidates, seconds of compiling: where a cell is more work."""
    return {
        (cell[0], costs[cell].candidates): costs[cell].compiling
        for cell, n in images.items()
        if 0 < costs[cell].compiling < costs[cell].of(n)
    }


def _allotment(
    hours: float,
    costs: Mapping[Cell, CellCost],
    images: Mapping[Cell, int],
    sizes: Mapping[Cell, int],
    controls: Mapping[str, int],
) -> Allotment:
    wished = max(SHARD_SECONDS, 3600 * hours / SHARDS)

    def size(cost: CellCost) -> int:
        """In images that are scored exhaustively: `cell_shards` gives races as many more."""
        seconds = cost.whole_seconds or cost.seconds
        return max(1, min(cost.asked, int(wished / max(seconds, 1e-9))))

    shards = {cell: sizes.get(cell) or size(costs[cell]) for cell in images}
    return Allotment.of(hours, dict(images), shards, dict(controls))
