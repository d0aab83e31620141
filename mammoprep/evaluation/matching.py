"""Panoptic quality's pairs: which predicted segment counts for which true one, at any IoU threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mammoprep.panoptic import MAX_ID, Mask, Segment

Matching = Literal["one-to-one", "paper"]
"""`one-to-one` maximises the summed IoU; `paper` counts every pair above the threshold, as published figures do."""

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 19))
"""The sweep: 0.05, 0.10 … 0.90."""
VOID = 0

_TIE = 1e-11
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One class in one image, all that any threshold and either matching needs.

    `ious` (G, P) of each true segment (crowds left out) with each predicted one, both in the order of their ids;
    `ignored` (P,): the prediction lies by more than half on void or crowd, so that unmatched it is no false positive.
    """

    ious: NDArray[np.float64]
    ignored: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """True positives, false positives, false negatives and the summed IoU of the true positives, (T,) each."""

    TP: NDArray[np.int64]
    FP: NDArray[np.int64]
    FN: NDArray[np.int64]
    IoU: NDArray[np.float64]


def overlaps(first: NDArray[Any], second: NDArray[Any]) -> dict[tuple[int, int], int]:
    """Count the pixels of each pair of values, 0 … 2^24 - 1, in two maps (H, W).

    Only the starts of the runs in which neither map changes are looked at: an order of magnitude fewer than the pixels.
    """
    first, second = first.ravel(), second.ravel()
    changes = np.flatnonzero((first[1:] != first[:-1]) | (second[1:] != second[:-1])) + 1
    starts = np.concatenate(([0], changes))
    codes, where = np.unique(first[starts].astype(np.int64) << 24 | second[starts], return_inverse=True)
    counts = np.bincount(where, weights=np.diff(starts, append=first.size))
    return {(code >> 24, code & MAX_ID): int(count) for code, count in zip(codes.tolist(), counts, strict=True)}


def scenes(
    truth: Sequence[Segment], predicted: Sequence[Segment], shared: Mapping[tuple[int, int], int]
) -> dict[int, Scene]:
    """Compare the segments of one image class by class; `shared` are the `overlaps` of truth and prediction.

    The rules are panopticapi's: ground-truth void is taken out of the union; of several crowds of one class the last
    listed counts.
    """
    classes = sorted({segment.category_id for segment in (*truth, *predicted)})
    return {category: _scene(_of(truth, category), _of(predicted, category), shared) for category in classes}


def _of(segments: Sequence[Segment], category: int) -> list[Segment]:
    return [segment for segment in segments if segment.category_id == category]


def _scene(truth: list[Segment], predicted: list[Segment], shared: Mapping[tuple[int, int], int]) -> Scene:
    rows = sorted((segment for segment in truth if not segment.iscrowd), key=lambda segment: segment.id)
    columns = sorted(predicted, key=lambda segment: segment.id)
    crowd = [segment.id for segment in truth if segment.iscrowd][-1:]
    ious, ignored = np.zeros((len(rows), len(columns))), np.zeros(len(columns), dtype=bool)
    for column, prediction in enumerate(columns):
        for row, segment in enumerate(rows):
            common = shared.get((segment.id, prediction.id), 0)
            union = segment.area + prediction.area - common - shared.get((VOID, prediction.id), 0)
            ious[row, column] = common / union
        excused = sum(shared.get((region, prediction.id), 0) for region in (VOID, *crowd))
        ignored[column] = excused / prediction.area > 0.5
    return Scene(ious, ignored)


def count(scene: Scene, *, matching: Matching, thresholds: Sequence[float] = THRESHOLDS) -> Counts:
    """Count a scene's matches at each of T thresholds; a pair needs IoU > t."""
    pairs = pair(scene.ious, matching=matching, thresholds=thresholds)
    return Counts(
        TP=pairs.sum(axis=(1, 2)),
        FP=(~pairs.any(axis=1) & ~scene.ignored).sum(axis=1),
        FN=(~pairs.any(axis=2)).sum(axis=1),
        IoU=np.array([fsum(scene.ious[chosen]) for chosen in pairs]),
    )


def pair(
    ious: NDArray[np.float64], *, matching: Matching, thresholds: Sequence[float] = THRESHOLDS
) -> NDArray[np.bool_]:
    """Give the pairs (T, G, P) that count as matched at each threshold, from the IoUs (G, P)."""
    above: NDArray[np.bool_] = ious > np.asarray(thresholds)[:, None, None]
    if matching == "one-to-one":
        for level in np.flatnonzero((above.sum(axis=1) > 1).any(axis=1) | (above.sum(axis=2) > 1).any(axis=1)):
            above[level] = _assign(np.where(above[level], ious, 0.0))
    return above


def _assign(ious: NDArray[np.float64]) -> Mask:
    """Choose the pairs of the largest summed IoU, at most one a row and a column; 0 is no pair.

    Of equal sums the one with most pairs is taken, so that RQ and SQ do not hang on the numbering of the segments; of
    those left, the lexicographically first over (row, column): a pair stays if some optimum holds it and those before.
    """
    weights = np.where(ious > 0, ious + _TIE, 0.0)
    best = _largest_sum(weights)
    chosen = np.zeros(ious.shape, dtype=bool)
    for row, column in np.argwhere(weights > 0):
        if not (chosen[row].any() or chosen[:, column].any()):
            chosen[row, column] = True
            free = weights * ~chosen.any(axis=1, keepdims=True) * ~chosen.any(axis=0)
            chosen[row, column] = weights[chosen].sum() + _largest_sum(free) > best - _ROUNDING
    return chosen


def _largest_sum(weights: NDArray[np.float64]) -> float:
    return float(weights[linear_sum_assignment(weights, maximize=True)].sum())
