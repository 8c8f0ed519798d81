"""What a shard's scores cost, counted from the scores that are there. No torch."""

from __future__ import annotations

from genclass.specs.spec import Spec


def costs(spec: Spec, images: int, scored: int) -> tuple[int, int]:
    """Forward passes and FLOPs behind so many images and scores of whole trials.

    Looks at parts of a trial, if the strategy has them, count as the part of a pass that they are.
    """
    work = spec.system.work
    passes, operations = float(work.passes(images, scored)), work.operations(images, scored)
    for part, classes in spec.schedule.scores_of_parts(len(spec.candidates)).items():
        looked = work.operations(0, images * classes, part)
        operations += looked
        passes += looked / work.score
    return round(passes), operations
