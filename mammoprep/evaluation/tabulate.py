"""A tally put into columns: segments matched, images numbered from 0; no more than some images at a time."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from mammoprep import parallel
from mammoprep.evaluation.column import Column
from mammoprep.evaluation.detections import Ranking
from mammoprep.evaluation.matching import FIXED_LEVELS, LESION, LEVELS, Matching, Outcome, Scene, judge
from mammoprep.evaluation.table import Detections, Guesses, Table, Truths
from mammoprep.evaluation.tally import ImageTally, Tally
from mammoprep.panoptic import Mask, Segment

BATCH = 512
"""Images whose tallies are in memory at a time."""
_FACTS = ("patient_id", "view", "density", "manufacturer")
_BITS = 2 ** np.arange(LEVELS, dtype=np.uint32)


def tabulate(tally: Tally, *, matching: Matching) -> Table:
    """Put a tally into columns."""
    return tabulate_each(tally, (matching,))[matching]


def tabulate_each(tally: Tally, matchings: Collection[Matching]) -> dict[Matching, Table]:
    """Put a tally into columns once for each matching; the tables share all but what the matching makes of them."""
    growing = _Growing(tally, matchings)
    for some in parallel.batched(tally.images, BATCH):
        growing.add(some)
    return growing.tables()


def pack(levels: Mask) -> NDArray[np.uint32]:
    """Give a bit a threshold (D,), the first lowest, from a mask (D, T)."""
    bits: NDArray[np.uint32] = (levels * _BITS).sum(axis=1, dtype=np.uint32)
    return bits


class _Array:
    """An array (N, …) in memory that grows."""

    def __init__(self, dtype: DTypeLike, shape: Sequence[int] = ()) -> None:
        self._dtype = dtype
        self._parts: list[NDArray[Any]] = [np.zeros((0, *shape), dtype)]

    def append(self, rows: ArrayLike) -> None:
        self._parts.append(np.asarray(rows, self._dtype))

    def whole(self) -> NDArray[Any]:
        self._parts = [np.concatenate(self._parts)]
        return self._parts[0]


class _Sides:
    """The columns of true and predicted segments; those that hang on the matching, once for each."""

    def __init__(self, number: Mapping[int, int], matchings: Collection[Matching]) -> None:
        self._number, self._matchings = number, matchings
        kinds = {"image": np.int32, "category": np.int16, "label": np.int16, "area": np.int64}
        self._same = [{name: _Array(kind) for name, kind in kinds.items()} for _ in range(2)]
        self._truths = {
            each: {
                "pairs": Column(np.int16, (LEVELS,)),
                "iou": Column(np.float64, (LEVELS,)),
                "taken_as": Column(np.int16, (len(FIXED_LEVELS),)),
            }
            for each in matchings
        }
        self._guesses = {
            each: {"false": Column(np.bool_, (LEVELS,)), "repeated": Column(np.int16, (LEVELS,))} for each in matchings
        }

    def add(self, images: Iterable[tuple[int, ImageTally]]) -> None:
        found = [(i, self._number[c], scene) for i, image in images for c, scene in (image.scenes or {}).items()]
        if not found:
            return
        for side, segments in enumerate(self._same):
            self._add_segments(segments, [(i, c, (s.truths, s.guesses)[side]) for i, c, s in found])
        for matching in self._matchings:
            outcomes = judge([scene for *_, scene in found], matching=matching)
            pairs = [(scene, outcome) for (*_, scene), outcome in zip(found, outcomes, strict=True)]
            columns = self._truths[matching] | self._guesses[matching]
            columns.pop("taken_as").append(np.concatenate([self._taken_as(*pair) for pair in pairs]))
            for name, column in columns.items():
                column.append(np.concatenate([getattr(outcome, name) for outcome in outcomes]))

    def _add_segments(self, columns: Mapping[str, _Array], found: Sequence[tuple[int, int, Sequence[Segment]]]) -> None:
        """Add image, class, label and area of each segment."""
        counts = [len(segments) for *_, segments in found]
        every = [segment for *_, segments in found for segment in segments]
        columns["image"].append(np.repeat([image for image, *_ in found], counts))
        columns["category"].append(np.repeat([number for _, number, _ in found], counts))
        columns["label"].append([self._number[segment.category_id] for segment in every])
        columns["area"].append([segment.area for segment in every])

    def _taken_as(self, scene: Scene, outcome: Outcome) -> NDArray[np.int16]:
        labels = [*(self._number[guess.category_id] for guess in scene.guesses), -1]
        taken: NDArray[np.int16] = np.array(labels, dtype=np.int16)[outcome.partner[:, FIXED_LEVELS]]
        return taken

    def columns(self, matching: Matching) -> tuple[Truths, Guesses]:
        """Give both sides."""
        true, guessed = ({name: column.whole() for name, column in side.items()} for side in self._same)
        of: tuple[Mapping[str, Any], ...] = (self._truths[matching], self._guesses[matching])
        return Truths(**true, **of[0]), Guesses(**guessed, **of[1])


class _Growing:
    """The columns of a table while images are added."""

    def __init__(self, tally: Tally, matchings: Collection[Matching]) -> None:
        self._categories, self._matchings = tally.categories, matchings
        self._number = {category.id: i for i, category in enumerate(tally.categories)} | {LESION: len(tally.categories)}
        classes, given = len(tally.categories), {"panoptic", "instances", "semantic"} - tally.not_given.keys()
        self._names: list[str] = []
        self._facts = {name: _Array(np.str_) for name in _FACTS}
        self._images = {
            "square_mm": _Array(np.float64),
            "annotated": _Array(np.int32, (classes,)),
            "lesion_free": _Array(np.bool_),
            "missing": _Array(np.bool_),
        }
        self._sides = _Sides(self._number, matchings) if "panoptic" in given else None
        self._confusion = Column(np.int64, (classes + 1, classes + 1)) if "semantic" in given else None
        self._lesions = _Array(np.int32, (classes + 1,)) if "instances" in given else None
        kinds = {"image": np.int32, "category": np.int16, "score": np.float64, "matched": np.uint32}
        self._detections = {name: Column(kind) for name, kind in {**kinds, "ignored": np.uint32}.items()}

    def add(self, images: Sequence[ImageTally]) -> None:
        """Add some images."""
        first = len(self._names)
        self._names += [image.name for image in images]
        for name, column in self._facts.items():
            column.append([getattr(image.facts, name) for image in images])
        columns = self._images
        columns["square_mm"].append([image.facts.square_mm for image in images])
        columns["annotated"].append([[i.annotated.get(c.id, 0) for c in self._categories] for i in images])
        for name in ("lesion_free", "missing"):
            columns[name].append([getattr(image, name) for image in images])
        if self._sides:
            self._sides.add(enumerate(images, start=first))
        if self._confusion is not None:
            self._confusion.append(np.stack([image.confusion for image in images if image.confusion is not None]))
        if self._lesions:
            self._add_detections(images, first, self._lesions)

    def _add_detections(self, images: Sequence[ImageTally], first: int, lesions: _Array) -> None:
        """Add the detections, and the lesions of each image and class."""
        counts = np.zeros((len(images), len(self._number)), dtype=np.int32)
        rankings: list[tuple[int, int, Ranking]] = []
        for i, image in enumerate(images):
            for category, ranking in (image.rankings or {}).items():
                rankings.append((first + i, self._number[category], ranking))
                counts[i, self._number[category]] = ranking.truths
        lesions.append(counts)
        if not rankings:
            return
        each = [ranking.scores.size for *_, ranking in rankings]
        columns = self._detections
        columns["image"].append(np.repeat([image for image, *_ in rankings], each))
        columns["category"].append(np.repeat([number for _, number, _ in rankings], each))
        columns["score"].append(np.concatenate([ranking.scores for *_, ranking in rankings]))
        for name in ("matched", "ignored"):
            columns[name].append(pack(np.concatenate([getattr(ranking, name).T for *_, ranking in rankings])))

    def tables(self) -> dict[Matching, Table]:
        """Give the tables, when all images are in."""
        same: defaultdict[str, Any] = defaultdict(lambda: None)
        same |= {name: column.whole() for name, column in self._images.items()}
        same["facts"] = {name: column.whole() for name, column in self._facts.items()}
        same |= {"categories": self._categories, "names": tuple(self._names), "confusion": self._confusion}
        if self._lesions:
            same |= {"lesions": self._lesions.whole(), "detections": Detections(**self._detections)}
        tables = {}
        for matching in self._matchings:
            same["truths"], same["guesses"] = self._sides.columns(matching) if self._sides else (None, None)
            tables[matching] = Table(**{field.name: same[field.name] for field in fields(Table)})
        return tables
