"""Segments counted and turned into PQ, RQ and SQ: whole, in part, or in any number of resamples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import fsum
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from mammoprep.evaluation.column import blocks
from mammoprep.evaluation.matching import LEVELS
from mammoprep.evaluation.report import Curve, Quality
from mammoprep.evaluation.table import Table
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

    Without masks all are counted. The sum of IoUs is the same in any order.
    """
    if table.truths is None or table.guesses is None:
        return None
    rows, columns = table.truths, table.guesses
    shape = (len(table.categories) + 1, LEVELS)
    total, ious = Counts(*(np.zeros(shape) for _ in range(4))), ExactSum(shape)
    for place in blocks(rows.pairs):
        pairs, iou = rows.pairs[place], rows.iou[place]
        for category, of_class in _each_class(rows.category[place], None if truths is None else truths[place]):
            total.TP[category] += pairs[of_class].sum(axis=0)
            total.FN[category] += (pairs[of_class] == 0).sum(axis=0)
            ious.add(category, iou[of_class])
    for place in blocks(columns.false):
        false = columns.false[place]
        for category, of_class in _each_class(columns.category[place], None if guesses is None else guesses[place]):
            total.FP[category] += false[of_class].sum(axis=0)
    total.IoU[:] = ious.total()
    return total


def _each_class(category: NDArray[np.int16], chosen: Mask | None) -> Iterator[tuple[int, Mask]]:
    """Yield each class that occurs, with where it does."""
    for number in np.unique(category if chosen is None else category[chosen]).tolist():
        yield number, category == number if chosen is None else chosen & (category == number)


class ExactSum:
    """Sums (…, T) of IoUs, rounded once at the end, so that neither order nor grouping shows.

    Each number is split into its multiples of 2^-26 and 2^-52 and the rest, which floating point adds without rounding
    up to 2^27 of them; an IoU that counts is above 0.05, so that its last bit is no smaller than 2^-57.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._parts = np.zeros((3, *shape))

    def add(self, place: int, values: NDArray[np.float64]) -> None:
        """Add values (n, T) at a place."""
        high = np.floor(values * 2.0**26) * 2.0**-26
        middle = np.floor((values - high) * 2.0**52) * 2.0**-52
        for part, each in zip(self._parts, (high, middle, values - high - middle), strict=True):
            part[place] += each.sum(axis=0)

    def total(self) -> NDArray[np.float64]:
        """Give the sums."""
        flat = self._parts.reshape(3, -1).T.tolist()
        return np.array([fsum(parts) for parts in flat]).reshape(self._parts.shape[1:])


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
