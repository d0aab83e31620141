"""All that the scores of some images are made of, as columns: counted whole, in part, or resampled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mammoprep.evaluation.detections import Ranking
from mammoprep.evaluation.matching import FIXED_LEVELS, LESION, LEVELS, Matching, Outcome, Scene, judge
from mammoprep.evaluation.tally import ImageTally, Tally
from mammoprep.panoptic import Category, Mask, Segment

_Number = TypeVar("_Number", np.bool_, np.int16, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Truths:
    """True segments (N,), crowds left out: their image, class, area in stored px², and what counts for them.

    Classes are numbered from 0 in the order of the categories. Lesions are there twice, the second time as class C, all
    thing classes as one, with their own class as `label`. `pairs` and `iou` (N, T): see matching.Outcome.
    `taken_as` (N, F): the label of the prediction that counts, at each FIXED threshold, -1 for none.
    """

    image: NDArray[np.int32]
    category: NDArray[np.int16]
    label: NDArray[np.int16]
    area: NDArray[np.int64]
    pairs: NDArray[np.int16]
    iou: NDArray[np.float64]
    taken_as: NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class Guesses:
    """Predicted segments (P,), numbered as true ones. `false` and `repeated` (P, T): see matching.Outcome."""

    image: NDArray[np.int32]
    category: NDArray[np.int16]
    label: NDArray[np.int16]
    area: NDArray[np.int64]
    false: Mask
    repeated: NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Detections (D,) image by image, those of a class in falling order of their score.

    `matched` (D, T) by COCOeval; `ignored` (D, T): on a crowd, neither right nor wrong.
    """

    image: NDArray[np.int32]
    category: NDArray[np.int16]
    score: NDArray[np.float64]
    matched: Mask
    ignored: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """I images of C classes; what the predictions lack is None.

    `facts` maps patient_id, view, density and manufacturer to texts (I,); `square_mm` (I,): mm² of a stored pixel, NaN
    where unknown; `annotated` (I, C): true segments of each class, crowds left out; `lesions` (I, C + 1): those in
    instances.json, which detections can find; `confusion` (I, C + 1, C + 1): pixels of each true and predicted class, 0
    being none.
    """

    categories: tuple[Category, ...]
    names: tuple[str, ...]
    facts: Mapping[str, NDArray[np.str_]]
    square_mm: NDArray[np.float64]
    annotated: NDArray[np.int32]
    lesion_free: Mask
    missing: Mask
    truths: Truths | None
    guesses: Guesses | None
    detections: Detections | None
    lesions: NDArray[np.int32] | None
    confusion: NDArray[np.int64] | None

    @property
    def things(self) -> list[int]:
        """Give the numbers of the thing classes."""
        return [number for number, category in enumerate(self.categories) if category.isthing]

    def number_of(self, name: str) -> int:
        """Give the number of a class by its name."""
        return next(number for number, category in enumerate(self.categories) if category.name == name)


def tabulate(tally: Tally, *, matching: Matching) -> Table:
    """Put a tally into columns, its segments matched."""
    images = tally.images
    number = {category.id: i for i, category in enumerate(tally.categories)} | {LESION: len(tally.categories)}
    truths, guesses = None, None
    if "panoptic" not in tally.not_given:
        truths, guesses = _segments(images, number, matching)
    detections, lesions = None, None
    if "instances" not in tally.not_given:
        detections, lesions = _detections(images, number)
    given = "semantic" not in tally.not_given
    names = ("patient_id", "view", "density", "manufacturer")
    return Table(
        categories=tally.categories,
        names=tuple(image.name for image in images),
        facts={name: np.array([getattr(image.facts, name) for image in images], dtype=np.str_) for name in names},
        square_mm=np.array([image.facts.square_mm for image in images]),
        annotated=np.array(
            [[image.annotated.get(c.id, 0) for c in tally.categories] for image in images], dtype=np.int32
        ),
        lesion_free=np.array([image.lesion_free for image in images], dtype=bool),
        missing=np.array([image.missing for image in images], dtype=bool),
        truths=truths,
        guesses=guesses,
        detections=detections,
        lesions=lesions,
        confusion=np.stack([i.confusion for i in images if i.confusion is not None]) if given and images else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A scene of one image and class, judged."""

    image: int
    category: int
    scene: Scene
    outcome: Outcome


def _segments(images: Sequence[ImageTally], number: Mapping[int, int], matching: Matching) -> tuple[Truths, Guesses]:
    """Give both sides' segments, scene by scene."""
    found = [(i, number[c], scene) for i, image in enumerate(images) for c, scene in (image.scenes or {}).items()]
    outcomes = judge([scene for *_, scene in found], matching=matching)
    judged = [_Judged(*each, outcome) for each, outcome in zip(found, outcomes, strict=True)]
    truths = Truths(
        *_columns(judged, [each.scene.truths for each in judged], number),
        pairs=_stack([each.outcome.pairs for each in judged], LEVELS, np.int16),
        iou=_stack([each.outcome.iou for each in judged], LEVELS, np.float64),
        taken_as=_stack([_taken_as(each, number) for each in judged], len(FIXED_LEVELS), np.int16),
    )
    guesses = Guesses(
        *_columns(judged, [each.scene.guesses for each in judged], number),
        false=_stack([each.outcome.false for each in judged], LEVELS, np.bool_),
        repeated=_stack([each.outcome.repeated for each in judged], LEVELS, np.int16),
    )
    return truths, guesses


def _columns(
    judged: Sequence[_Judged], side: Sequence[Sequence[Segment]], number: Mapping[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.int16], NDArray[np.int64]]:
    """Give image, class, label and area of each segment."""
    counts = [len(segments) for segments in side]
    return (
        np.repeat(np.array([each.image for each in judged], dtype=np.int32), counts),
        np.repeat(np.array([each.category for each in judged], dtype=np.int16), counts),
        np.array([number[segment.category_id] for segments in side for segment in segments], dtype=np.int16),
        np.array([segment.area for segments in side for segment in segments], dtype=np.int64),
    )


def _taken_as(judged: _Judged, number: Mapping[int, int]) -> NDArray[np.int16]:
    labels = np.array([*(number[guess.category_id] for guess in judged.scene.guesses), -1], dtype=np.int16)
    return labels[judged.outcome.partner[:, FIXED_LEVELS]]


def _stack(parts: Sequence[NDArray[Any]], width: int, dtype: type[_Number]) -> NDArray[_Number]:
    """Put (n, width) arrays one below the other; none give (0, width)."""
    return np.concatenate([np.zeros((0, width), dtype), *parts], dtype=dtype, casting="same_kind")


def _detections(images: Sequence[ImageTally], number: Mapping[int, int]) -> tuple[Detections, NDArray[np.int32]]:
    """Give the detections, and the lesions of each image and class."""
    lesions = np.zeros((len(images), len(number)), dtype=np.int32)
    rankings: list[tuple[int, int, Ranking]] = []
    for i, image in enumerate(images):
        for category, ranking in (image.rankings or {}).items():
            rankings.append((i, number[category], ranking))
            lesions[i, number[category]] = ranking.truths
    counts = [ranking.scores.size for *_, ranking in rankings]
    columns = (np.array([row[k] for row in rankings], dtype=np.int32) for k in (0, 1))
    image_of, class_of = (np.repeat(column, counts) for column in columns)
    return (
        Detections(
            image=image_of,
            category=class_of.astype(np.int16),
            score=np.concatenate([np.zeros(0), *(ranking.scores for *_, ranking in rankings)]),
            matched=_stack([ranking.matched.T for *_, ranking in rankings], LEVELS, np.bool_),
            ignored=_stack([ranking.ignored.T for *_, ranking in rankings], LEVELS, np.bool_),
        ),
        lesions,
    )
