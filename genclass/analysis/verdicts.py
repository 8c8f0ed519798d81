"""From a contrast to a word: holds, reversed, or undecided, whenever one looks.

While images are to come, the evidence of `genclass.analysis.sequential` decides; once all are
there, the fixed-size tests of `genclass.analysis.contrasts` do. Either errs with a chance of at
most 2.5 %, both together of at most 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from genclass.analysis.contrasts import LEVEL, Contrast, contrast, holm
from genclass.analysis.intervals import Estimate
from genclass.analysis.sequential import ENOUGH, Looks, PairedSet, Side, difference_so_far, look

Word = Literal["holds", "reversed", "undecided"]

_WORDS: dict[Side | None, Word] = {"first": "holds", "second": "reversed", None: "undecided"}


@dataclass(frozen=True)
class Judgement:
    """What is known of one contrast: "the first is right more often than the second".

    difference: with the 95 % interval of the fixed size where all images are there, else with a
    confidence sequence. contrast: of the images that are there. p_value: of the word, adjusted
    where it is one of several: of the test, or one over the evidence while images are to come.
    earlier: another word that was decided on the way, after so many rounds (`looks.after`).
    """

    word: Word
    difference: Estimate
    contrast: Contrast
    looks: Looks
    complete: bool
    p_value: float
    earlier: Word | None = None


def judge(sets: Sequence[PairedSet], margin: float = 0.0) -> Judgement:
    """Judge the mean over test sets, or the only one.

    It holds (is reversed) where the 95 % interval lies above (below) -margin and the test's p-value
    is at most .025; while images are to come, where the evidence reaches 40.

    Args:
        sets: at least one, each with an image.
        margin: see `contrast`.
    """
    found = contrast([one.differences for one in sets], margin)
    looks = look(sets, margin)
    if not all(one.complete for one in sets):
        earlier = None if looks.first_decided == looks.decided else _WORDS[looks.first_decided]
        chance = min(1.0, 1 / looks.evidence)
        word = _WORDS[looks.decided]
        so_far = difference_so_far(sets, margin)
        return Judgement(word, so_far, found, looks, False, chance, earlier)
    word = _word(found, found.p_value)
    earlier = None if looks.decided in (None, _SIDES[word]) else _WORDS[looks.decided]
    return Judgement(word, found.difference, found, looks, True, found.p_value, earlier)


_SIDES: dict[Word, Side | None] = {word: side for side, word in _WORDS.items()}


def adjust(judgements: Sequence[Judgement]) -> list[Judgement]:
    """The same, as several of which any may be named: all wrong words together stay at the level.

    Holm's adjustment for those that are complete; while images are to come, m of them need evidence
    of 40 m. Intervals stay as they are.
    """
    adjusted = holm([one.p_value for one in judgements])
    found = []
    for one, p_value in zip(judgements, adjusted, strict=True):
        if one.complete:
            word = _word(one.contrast, p_value)
            found.append(replace(one, word=word, p_value=p_value, earlier=None))
        else:
            p_value = min(1.0, len(judgements) / one.looks.evidence)
            word = one.word if one.looks.evidence >= ENOUGH * len(judgements) else "undecided"
            found.append(replace(one, word=word, p_value=p_value, earlier=None))
    return found


def _word(found: Contrast, p_value: float) -> Word:
    if p_value > LEVEL:
        return "undecided"
    if found.difference.low > -found.margin:
        return "holds"
    return "reversed" if found.difference.high < -found.margin else "undecided"
