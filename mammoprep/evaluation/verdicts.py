"""What became of each lesion of an image: found or missed, and of each predicted one: right or false."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from mammoprep.evaluation.matching import FIXED, LESION, SHOWN, judge, overlaps, scenes
from mammoprep.panoptic import Runs, Segment

Word = Literal["hit", "wrong class", "missed", "false", "ignored"]
"""`ignored`: a prediction that lies by more than half on void or on a crowd."""
THRESHOLD = FIXED[SHOWN]
"""The IoU that a pair has to exceed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a segment; its `partner` on the other side, and their `iou`, where it has one."""

    word: Word
    partner: int | None = None
    iou: float | None = None


Verdicts = tuple[dict[int, Verdict], dict[int, Verdict]]
"""By segment id: of the true lesions, crowds left out, and of the predicted ones."""


def verdicts(
    truth: Sequence[Segment], predicted: Sequence[Segment], *, maps: tuple[Runs, Runs], things: Collection[int]
) -> Verdicts:
    """Pair the lesions of one image one to one at THRESHOLD with the class ignored, as `detection` of the scores does.

    `maps` (H, W) are those of the true and of the predicted segments, whose areas are the maps'; `things` are the ids
    of the thing classes, by which both sides are labelled.
    """
    places = (maps[0].first_pixels, maps[1].first_pixels)
    scene = scenes(truth, predicted, overlaps(*maps), things=things, places=places).get(LESION)
    if scene is None:
        return {}, {}
    (outcome,) = judge([scene], matching="one-to-one", thresholds=(THRESHOLD,))
    true, guessed = {}, {}
    for row, segment in enumerate(scene.truths):
        column = int(outcome.partner[row, 0])
        if column < 0:
            true[segment.id] = Verdict("missed")
            continue
        guess, iou = scene.guesses[column], float(scene.ious[row, column])
        word: Word = "hit" if guess.category_id == segment.category_id else "wrong class"
        true[segment.id], guessed[guess.id] = Verdict(word, guess.id, iou), Verdict(word, segment.id, iou)
    for column, guess in enumerate(scene.guesses):
        guessed.setdefault(guess.id, Verdict("false" if outcome.false[column, 0] else "ignored"))
    return true, guessed
