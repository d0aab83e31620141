"""All that the scores of some images are made of, as columns: counted whole, in part, or resampled.

What is wide is on disk (`Rows`), so that a table takes about half a kilobyte of memory an image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammoprep.evaluation.column import Rows
from mammoprep.panoptic import Category, Mask


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
    pairs: Rows
    iou: Rows
    taken_as: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Guesses:
    """Predicted segments (P,), numbered as true ones. `false` and `repeated` (P, T): see matching.Outcome."""

    image: NDArray[np.int32]
    category: NDArray[np.int16]
    label: NDArray[np.int16]
    area: NDArray[np.int64]
    false: Rows
    repeated: Rows


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Detections (D,) image by image, those of a class in falling order of their score.

    `matched` by COCOeval; `ignored`: on a crowd, neither right nor wrong. Each has a bit a threshold, the first lowest.
    """

    image: Rows
    category: Rows
    score: Rows
    matched: Rows
    ignored: Rows


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
    confusion: Rows | None

    @property
    def things(self) -> list[int]:
        """Give the numbers of the thing classes."""
        return [number for number, category in enumerate(self.categories) if category.isthing]

    def number_of(self, name: str) -> int:
        """Give the number of a class by its name."""
        return next(number for number, category in enumerate(self.categories) if category.name == name)
