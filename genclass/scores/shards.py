"""Shards: which (image range, trial range) rectangles make up an evaluation.

A shard is named by its ranges, so what was computed under one division is found again under any
other. Snakemake parses this module; it imports nothing heavy.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from genclass.errors import GenclassError

PATTERN = r"images-\d+-\d+\.(?:trials-\d+-\d+|race-\d+)"  # Snakemake knows no {5,}
_NAME = re.compile(r"images-(\d{5,})-(\d{5,})\.(?:trials-(\d{3,})-(\d{3,})|race-(\d{3,}))(?:\.|$)")


@dataclass(frozen=True, order=True)
class Shard:
    """The images [image_start, image_stop) and trials [trial_start, trial_stop) of an evaluation.

    Names hold the first and the last of each, both included:
    `images-00000-00049.trials-000-019`. race: the images race for the answer of all these trials,
    `images-00100-01099.race-020`; exhaustive scores of the same images stand beside it.
    """

    image_start: int
    image_stop: int
    trial_start: int
    trial_stop: int
    race: bool = False

    @property
    def name(self) -> str:
        images = f"images-{self.image_start:05d}-{self.image_stop - 1:05d}"
        if self.race:
            return f"{images}.race-{self.trial_stop:03d}"
        return f"{images}.trials-{self.trial_start:03d}-{self.trial_stop - 1:03d}"

    @classmethod
    def from_name(cls, name: str) -> Shard:
        """The shard of a name (a file's suffix may follow).

        Raises:
            GenclassError: the name is none, or a range is empty.
        """
        match = _NAME.match(name)
        if not match:
            raise GenclassError(
                f"'{name}' names no shard: expected images-00000-00049.trials-000-019"
            )
        first_image, last_image = int(match[1]), int(match[2])
        race = match[5] is not None
        first_trial, last_trial = (0, int(match[5]) - 1) if race else (int(match[3]), int(match[4]))
        if last_image < first_image or last_trial < first_trial:
            raise GenclassError(f"'{name}': a range ends before it starts")
        return cls(first_image, last_image + 1, first_trial, last_trial + 1, race)

    @property
    def images(self) -> range:
        return range(self.image_start, self.image_stop)

    @property
    def trials(self) -> range:
        return range(self.trial_start, self.trial_stop)

    def images_in(self, part: range) -> range:
        """Which of its images a part of a cell takes from it."""
        return range(max(self.image_start, part.start), min(self.image_stop, part.stop))

    def overlaps(self, other: Shard) -> bool:
        return (
            self.image_start < other.image_stop
            and other.image_start < self.image_stop
            and self.trial_start < other.trial_stop
            and other.trial_start < self.trial_stop
        )


def plan_shards(
    images: int,
    trials: int,
    images_per_shard: int,
    trials_per_shard: int | None = None,
    existing: Iterable[Shard] = (),
    first: int = 0,
    race: bool = False,
) -> list[Shard]:
    """The shards that cover the images from `first` to `images`, under `trials` trials: those that
    exist, and new ones for the gaps.

    Existing shards are kept whatever their size (one that reaches beyond the cell too: merge clips
    it), except where they overlap one kept before. Gaps are cut on the regular grid of
    `images_per_shard` x `trials_per_shard` (None: all trials); race: of the new ones. Planning
    again after any of the new ones have come into existence gives the same plan.
    """
    kept: list[Shard] = []
    near: list[Shard] = []  # those kept that the next may overlap: thousands of shards are common
    for shard in sorted(existing):
        near = [other for other in near if other.image_stop > shard.image_start]
        inside = first < shard.image_stop and shard.image_start < images
        inside &= shard.trial_start < trials
        if inside and not any(shard.overlaps(other) for other in near):
            kept.append(shard)
            near.append(shard)
    new: list[Shard] = []
    near, following = [], 0
    image_step, trial_step = images_per_shard, trials_per_shard or trials
    for grid in range(first // image_step * image_step, images, image_step):
        image_start, image_stop = max(grid, first), min(grid + image_step, images)
        near = [other for other in near if other.image_stop > image_start]
        while following < len(kept) and kept[following].image_start < image_stop:
            near.append(kept[following])
            following += 1
        for trial_start in range(0, trials, trial_step):
            trial_stop = min(trial_start + trial_step, trials)
            new += _gaps(Shard(image_start, image_stop, trial_start, trial_stop, race), near)
    return sorted(kept + new)


def _gaps(cell: Shard, kept: list[Shard]) -> list[Shard]:
    """What `kept` leaves of a grid cell, cut at their image boundaries."""
    inside = [shard for shard in kept if shard.overlaps(cell)]
    if not inside:
        return [cell]
    cuts = {cell.image_start, cell.image_stop}
    cuts |= {s.image_start for s in inside} | {s.image_stop for s in inside}
    bounds = sorted(c for c in cuts if cell.image_start <= c <= cell.image_stop)
    gaps: list[Shard] = []
    for start, stop in itertools.pairwise(bounds):
        trial = cell.trial_start
        for shard in sorted(inside, key=lambda s: s.trial_start):
            if not shard.image_start <= start < shard.image_stop:
                continue
            if trial < shard.trial_start:
                gaps.append(Shard(start, stop, trial, shard.trial_start, cell.race))
            trial = max(trial, shard.trial_stop)
        if trial < cell.trial_stop:
            gaps.append(Shard(start, stop, trial, cell.trial_stop, cell.race))
    return gaps
