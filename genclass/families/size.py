"""The size of a transformer, where a config does not take one that was released."""

from __future__ import annotations

from genclass.section import PositiveInt, Section


class Size(Section):
    layers: PositiveInt
    heads: PositiveInt
    width: PositiveInt

    def __str__(self) -> str:
        return f"{self.layers}x{self.width}"


class FeedForwardSize(Size):
    """Of a transformer whose feed-forward's width does not follow from its own."""

    hidden: PositiveInt
