"""Schedules of growing effort: cheap scores of all classes, dear ones of the best. No torch.

A-VARC+ (https://github.com/Yi-Chung-Chen/A-VARC, eval.py) scores the classes in stages. A stage
scores its candidates on the first scales of some samples of the image, and its best go on; a stage
replaces the scores of the one before, and the last decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage: how many of its candidates it keeps, on how many samples and scales."""

    keep: int
    samples: int  # the clean one counts: 1 is no noise at all
    scales: int  # the first ones, of which the log p are summed


SCHEDULES = {
    # Every class on the whole image: VAR without A-VARC+.
    "plain": (Stage(1, 1, 10),),
    # The README's example, for 100 classes.
    "readme": (Stage(10, 1, 6), Stage(3, 1, 10), Stage(1, 3, 10)),
    # The other one in the repository's notes, for 1,000 classes.
    "notes": (Stage(1000, 1, 3), Stage(100, 1, 6), Stage(10, 3, 8), Stage(1, 5, 10)),
}
SIGMA = 0.1  # standard deviation of the samples' noise, in units of the latent: the script's


def check_stages(stages: Sequence[Stage], scales: int) -> None:
    """Raises ValueError, in one line: no schedule for an image of so many scales."""
    if not stages:
        raise ValueError("a schedule needs at least one stage")
    for number, stage in enumerate(stages, start=1):
        if stage.keep < 1 or stage.samples < 1 or not 1 <= stage.scales <= scales:
            raise ValueError(
                f"stage {number}: it must keep at least 1 class, on at least 1 sample and 1 to "
                f"{scales} scales, got {stage}"
            )
    kept = [stage.keep for stage in stages]
    if kept[-1] != 1 or kept != sorted(kept, reverse=True):
        raise ValueError(f"the classes that stages keep must fall to 1 in the last, got {kept}")


def candidates(stages: Sequence[Stage], classes: int) -> list[int]:
    """How many classes each stage scores, all of them in the first."""
    counts = [classes]
    for stage in stages[:-1]:
        counts.append(min(counts[-1], stage.keep))
    return counts


def passes(stages: Sequence[Stage], classes: int) -> list[tuple[int, int]]:
    """(forward passes, scales of each) of every stage, for one image."""
    return [
        (count * stage.samples, stage.scales)
        for count, stage in zip(candidates(stages, classes), stages, strict=True)
    ]
