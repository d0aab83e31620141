"""Segments counted and turned into PQ, RQ and SQ: whole, in part, or in any number of resamples."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from mammoprep.evaluation.matching import LEVELS
from mammoprep.evaluation.report import Curve, Quality
from mammoprep.evaluation.table import Guesses, Table, Truths
from mammoprep.panoptic import Mask


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """True positives, false positives, false negatives and the summed IoU of the true positives, (…, C + 1, T) each.

    Class C stands for all thing classes as one.
    """

    TP: NDArray[np.float64]
    FP: NDArray[np.float64]
    FN: NDArray[np.float64]
    IoU: NDArray[np.float64]

    @property
    def weight(self) -> NDArray[np.float64]:
        """Give TP + FP/2 + FN/2 (…, C + 1, T); 0 where a class does not occur."""
        return self.TP + self.FP / 2 + self.FN / 2


@dataclass(frozen=True, slots=True, eq=False)
class Qualities:
    """PQ, RQ and SQ (…, C + 1, T); NaN for a class that does not occur."""

    PQ: NDArray[np.float64]
    RQ: NDArray[np.float64]
    SQ: NDArray[np.float64]


def count(table: Table, truths: Mask | None = None, guesses: Mask | None = None) -> Counts | None:
    """Count the true segments and predictions that the masks (N,) and (P,) choose; None without panoptic predictions.

    Without masks all are counted. `fsum` gives the same sum of IoUs in any order.
    """
    if table.truths is None or table.guesses is None:
        return None
    rows, columns = table.truths, table.guesses
    shape = (len(table.categories) + 1, LEVELS)
    total = Counts(*(np.zeros(shape) for _ in range(4)))
    for category in range(shape[0]):
        of_class = rows.category == category if truths is None else truths & (rows.category == category)
        pairs, ious = rows.pairs[of_class], rows.iou[of_class]
        total.TP[category] = pairs.sum(axis=0)
        total.FN[category] = (pairs == 0).sum(axis=0)
        total.IoU[category] = [fsum(level) for level in ious.T.tolist()]
        of_class = columns.category == category if guesses is None else guesses & (columns.category == category)
        total.FP[category] = columns.false[of_class].sum(axis=0)
    return total


def by_group(
    rows: Truths, columns: Guesses, *, group: NDArray[np.intp], groups: int, classes: int
) -> NDArray[np.float64]:
    """Count by group of images: TP, FP, FN, summed IoU (G, C + 1, T, 4); `group` (I,) is the group of each image."""
    total = np.zeros((groups, classes + 1, LEVELS, 4))
    hit = (rows.pairs, rows.pairs == 0, rows.iou)
    for place, values in zip((0, 2, 3), hit, strict=True):
        np.add.at(total[..., place], (group[rows.image], rows.category), values)
    np.add.at(total[..., 1], (group[columns.image], columns.category), columns.false)
    return total


def qualities(counts: Counts) -> Qualities:
    """Give PQ = RQ · SQ, RQ = TP / (TP + FP/2 + FN/2) and SQ, the mean IoU of the true positives, 0 without any."""
    weight = counts.weight
    occurs = weight > 0
    of = np.where(occurs, weight, 1.0)
    return Qualities(
        PQ=np.where(occurs, counts.IoU / of, np.nan),
        RQ=np.where(occurs, counts.TP / of, np.nan),
        SQ=np.where(occurs, counts.IoU / np.maximum(counts.TP, 1), np.nan),
    )


def curve(values: NDArray[np.float64]) -> Curve | None:
    """Give a score at each threshold; None where it is NaN, which is at all of them or at none."""
    return None if np.isnan(values).any() else tuple(values.tolist())


def mean_quality(classes: Iterable[Quality]) -> tuple[Curve | None, Curve | None, Curve | None]:
    """Give PQ, RQ and SQ, each its own mean over the classes that occur."""
    entries = tuple(classes)
    return mean_curve(e.PQ for e in entries), mean_curve(e.RQ for e in entries), mean_curve(e.SQ for e in entries)


def mean_curve(curves: Iterable[Curve | None]) -> Curve | None:
    """Give the mean of the curves that are given."""
    given = [each for each in curves if each is not None]
    return tuple(fmean(level) for level in zip(*given, strict=True)) if given else None
