"""Which cases to show: those of the best, the median and the worst patient, chosen by number and not by taste."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

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
    found = [(*_quality(table, name), k) for k, table in enumerate(tables) for name in _patients(table)]
    patients = sorted(found, key=itemgetter(0))
    if not patients:
        return ()
    places = {"worst": 0, "median": len(patients) // 2, "best": len(patients) - 1}
    chosen = {place: rank for rank, place in places.items()}
    return tuple(
        Example(chosen[place], patients[place][1], patients[place][2], patients[place][0])
        for place in sorted(chosen, reverse=True)
    )


def _patients(table: Table) -> list[str]:
    """Give the patients with a lesion, in the order of their first image."""
    if table.truths is None:
        return []
    ill = set(table.facts["patient_id"][table.truths.image[table.truths.category == len(table.categories)]].tolist())
    return [name for name in dict.fromkeys(table.facts["patient_id"].tolist()) if name and name in ill]


def _quality(table: Table, patient: str) -> tuple[float, str]:
    """Give a patient's PQ with the class ignored, and the image with most lesions."""
    if table.truths is None or table.guesses is None:
        return 0.0, ""
    level, lesion = FIXED_LEVELS[SHOWN], len(table.categories)
    own = table.facts["patient_id"] == patient
    rows = own[table.truths.image] & (table.truths.category == lesion)
    columns = own[table.guesses.image] & (table.guesses.category == lesion)
    pairs, false = table.truths.pairs[rows, level], int(table.guesses.false[columns, level].sum())
    weight = pairs.sum() + false / 2 + (pairs == 0).sum() / 2
    most = int(np.bincount(table.truths.image[rows]).argmax())
    return float(table.truths.iou[rows, level].sum() / weight), table.names[most]


def caption(example: Example) -> str:
    """Say what an example is."""
    return f"{example.rank} patient, PQ {100 * example.quality:.0f} % at IoU {FIXED[SHOWN]}"
