"""The order in which trials go through levels of unequal difficulty."""

from functools import cache


@cache
def spread(count: int) -> tuple[int, ...]:
    """The places 0 .. count - 1, each once, every prefix spread evenly over them.

    They follow the binary van der Corput sequence 1/2, 1/4, 3/4, 1/8, ..., so that the first k
    trials are a k-level classifier.
    """
    order: dict[int, None] = {}
    index = 0
    while len(order) < count:
        index += 1
        bits = f"{index:b}"
        order[int(count * int(bits[::-1], 2) / 2 ** len(bits))] = None
    return tuple(order)


def level_of(trial: int, levels: int) -> int:
    """The level 0 .. levels - 1 of a trial: all of them in spread order, then again from the start.

    A trial's level depends on nothing else, so that the trials of a smaller budget are the first
    of a larger one.
    """
    return spread(levels)[trial % levels]
