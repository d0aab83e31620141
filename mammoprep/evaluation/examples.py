"""Which cases to show: those of the best, the median and the worst patient, chosen by number and not by taste."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.evaluation.matching import FIXED, FIXED_LEVELS, SHOWN
from mammoprep.evaluation.table import Table


@dataclass(frozen=True, slots=True)
class Example:
    """An image, its place among the tables, and its patient's rank and PQ with the class ignored, at IoU 0.1."""

    rank: str
    name: str
    table: int
    quality: float


def examples(tables: Sequence[Table]) -> tuple[Example, ...]:
    """Choose one image each of the best, median and worst patient with a lesion: the image with most of them.

    Patients are ordered by their PQ over all their images; equal ones by the order of their first image. Empty where
    nothing panoptic or no patient is given.
    """
    found = [(*each, k) for k, table in enumerate(tables) for each in _patients(table)]
    patients = sorted(found, key=itemgetter(0))
    if not patients:
        return ()
    places = {"worst": 0, "median": len(patients) // 2, "best": len(patients) - 1}
    chosen = {place: rank for rank, place in places.items()}
    return tuple(
        Example(chosen[place], patients[place][1], patients[place][2], patients[place][0])
        for place in sorted(chosen, reverse=True)
    )


def _patients(table: Table) -> Iterator[tuple[float, str]]:
    """Yield PQ, the class ignored, and the image with most lesions of each patient with a lesion.

    Patients come in the order of their first image.
    """
    if table.truths is None or table.guesses is None:
        return
    level, lesion = FIXED_LEVELS[SHOWN], len(table.categories)
    names, first, patient = np.unique(table.facts["patient_id"], return_index=True, return_inverse=True)
    rows, columns = table.truths.category == lesion, table.guesses.category == lesion
    image = table.truths.image[rows]
    pairs, false = table.truths.pairs[rows, level], table.guesses.false[columns, level]

    def total(values: NDArray[Any], of: NDArray[np.integer]) -> NDArray[Any]:
        return np.bincount(patient[of], weights=values, minlength=names.size)

    wrong = total(false, table.guesses.image[columns]) + total(pairs == 0, image)
    weight = total(pairs, image) + wrong / 2
    quality = total(table.truths.iou[rows, level], image) / np.where(weight > 0, weight, 1)
    lesions = np.bincount(image, minlength=len(table.names))
    for number in np.argsort(first).tolist():
        own = np.flatnonzero(patient == number)
        if names[number] and lesions[own].any():
            yield float(quality[number]), table.names[own[lesions[own].argmax()]]


def caption(example: Example) -> str:
    """Say what an example is."""
    return f"{example.rank} patient, PQ {100 * example.quality:.0f} % at IoU {FIXED[SHOWN]}"
