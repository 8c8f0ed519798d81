"""How much of a cell is scored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extent:
    """Of a cell: the first `images` of the image list, the first `trials`.

    exhaustive: how many of the images, the first, are scored exhaustively; all, unless the model
    races.
    """

    images: int
    trials: int
    exhaustive: int

    def part(self, race: bool) -> range:
        """The images that race, or those that are scored exhaustively."""
        return range(self.exhaustive, self.images) if race else range(self.exhaustive)
