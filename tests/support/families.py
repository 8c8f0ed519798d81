"""Families of a test's own, and the registry as it was before them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genclass import families

CARD = '''\
"""A family that is asked, and never run."""

from typing import Any, Literal

from genclass import Family, Role, Scoring, Trial, Work


class Options(Scoring):
    sharpness: float = 1.0


class Small(Family):
    Options = Options
    likelihood = False

    architecture: Literal["small"]
    depth: int = 2

    def role(self, options: Options) -> Role:
        return "other"

    def trial(self, options: Options) -> Trial:
        return Trial("draw")

    def work(self, options: Options) -> Work:
        return Work(score=10, image=3)

    def network(self) -> Any:
        raise NotImplementedError

    def scorer(self) -> Any:
        raise NotImplementedError
'''


def write_card(path: Path, **replaced: str) -> Path:
    """CARD with some words replaced, for example `small="tiny"`."""
    text = CARD
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


@contextmanager
def registry_as_before() -> Iterator[None]:
    """What a test registers is forgotten after it, and it knows no plugins of other tests."""
    known = (families.FAMILIES, families.ENCODERS, families._ORIGINS, families._PLUGINS)
    before = [dict(mapping) for mapping in known]
    for name, origin in before[2].items():
        if origin.startswith("plugin"):
            for mapping in known[:3]:
                mapping.pop(name, None)
    families._PLUGINS.clear()
    try:
        yield
    finally:
        for mapping, content in zip(known, before, strict=True):
            mapping.clear()
            mapping.update(content)
