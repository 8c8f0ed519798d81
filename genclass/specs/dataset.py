"""What a dataset decides over the scores of any model on it, without its images."""

from __future__ import annotations

from genclass.config import Selection
from genclass.data.class_lists import ClassList
from genclass.data.image_list import ImageList
from genclass.errors import GenclassError
from genclass.specs.spec import ScoredDataset


def scored_dataset(
    name: str, selection: Selection, images: ImageList, classes: int | None
) -> ScoredDataset:
    """What a dataset decides over the scores of any model on it.

    classes: how many candidates the config says that there are, where they are those present.

    Raises:
        GenclassError: the candidates are others than the config says.
    """
    found = candidates(selection, images, ClassList.load(selection.labels))
    if selection.candidates == "present" and classes not in (None, len(found)):
        raise GenclassError(
            f"datasets.{name}.classes is {classes}, but its images are of {len(found)}: correct it"
        )
    return ScoredDataset(name, images.sha256, found, selection.border)


def candidates(selection: Selection, images: ImageList, classes: ClassList) -> list[int]:
    """The sorted ids of the classes that are scored: the whole list, or those of the images."""
    if selection.candidates == "all":
        return classes.class_ids
    return sorted({row.class_id for row in images.rows})
