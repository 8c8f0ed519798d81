"""How much an evaluation is, read off the config alone. No torch."""

from __future__ import annotations

from genclass.config import Dataset
from genclass.data.class_lists import ClassList
from genclass.errors import GenclassError


def candidate_count(name: str, dataset: Dataset) -> int:
    """How many classes are scored on a dataset.

    Raises:
        GenclassError: they are the present ones, and the config does not say how many.
    """
    if dataset.candidates == "all":
        return len(ClassList.load(dataset.labels).entries)
    if dataset.classes is None:
        raise GenclassError(
            f"datasets.{name}: its candidates are the classes present: add `classes:`, their number"
        )
    return dataset.classes
