"""Panoptic quality's pairs: which predicted segment counts for which true one, at any IoU threshold."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mammoprep.panoptic import Mask, Runs, Segment

Matching = Literal["one-to-one", "paper"]
"""`one-to-one` maximises the summed IoU; `paper` counts every pair above the threshold, as published figures do."""

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 19))
"""The sweep: 0.05, 0.10 … 0.90."""
FIXED = (0.05, 0.1, 0.25, 0.5)
"""Thresholds of the sweep that are always shown, whichever is the best."""
SHOWN = 1
"""Place in FIXED of the threshold at which one number has to do: 0.1."""
FIXED_LEVELS = tuple(THRESHOLDS.index(threshold) for threshold in FIXED)
LEVELS = len(THRESHOLDS)
VOID = 0
LESION = 0
"""Stands among the category ids for all thing classes as one: what is scored with the class ignored."""

_TIE = 1e-11
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One class in one image, all that any threshold and either matching needs.

    `truths` are the G true segments, crowds left out, `guesses` the P predicted ones, both in the order of their first
    pixels. `ious` (G, P) of each with each; `ignored` (P,): the prediction lies by more than half on void or crowd, so
    that unmatched it is no false positive.
    """

    truths: tuple[Segment, ...]
    guesses: tuple[Segment, ...]
    ious: NDArray[np.float64]
    ignored: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What becomes of each segment of a scene at T thresholds.

    `pairs` (G, T): how many predictions count for a true segment, more than one only as published; `iou` (G, T): their
    summed IoU; `partner` (G, T): the column of the one with the largest IoU, -1 for none; `false` (P, T);
    `repeated` (P, T): true segments beyond the first that a prediction counts for.
    """

    pairs: NDArray[np.int64]
    iou: NDArray[np.float64]
    partner: NDArray[np.int64]
    false: Mask
    repeated: NDArray[np.int64]


def overlaps(first: Runs, second: Runs) -> dict[tuple[int, int], int]:
    """Count the pixels of each pair of values, 0 … 2^24 - 1, in two maps of one size.

    Only the starts of the runs in which neither map changes are looked at: an order of magnitude fewer than the pixels.
    """
    starts = np.concatenate((first.starts, second.starts))
    order = np.argsort(starts, kind="stable")  # two rising rows, which a stable sort merges
    starts = np.append(starts[order], first.shape[0] * first.shape[1])
    lengths = starts[1:] - starts[:-1]
    of_first = order < first.starts.size
    places = [np.cumsum(mask) - 1 for mask in (of_first, ~of_first)]  # -1 before the second one's start, for no pixel
    one, other = (side.index[place] for side, place in zip((first, second), places, strict=True))
    shape = (first.labels.size, second.labels.size)
    table = np.bincount(one * shape[1] + other, weights=lengths, minlength=shape[0] * shape[1]).reshape(shape)
    return {(int(first.labels[i]), int(second.labels[j])): int(table[i, j]) for i, j in np.argwhere(table)}


def scenes(
    truth: Sequence[Segment],
    predicted: Sequence[Segment],
    shared: Mapping[tuple[int, int], int],
    *,
    things: Collection[int] = (),
    places: tuple[Mapping[int, int], Mapping[int, int]] = ({}, {}),
) -> dict[int, Scene]:
    """Compare the segments of one image class by class, and under LESION those of the classes `things` as one.

    `shared` are the `overlaps` of truth and prediction. The rules are panopticapi's: ground-truth void is taken out of
    the union; of several crowds of one class the last listed counts. Segments stand in the order of `places`, their
    first pixels on either side, and of their ids where that is not said: so no tie hangs on the numbering.
    """
    groups: dict[int, Collection[int]] = {s.category_id: (s.category_id,) for s in (*truth, *predicted)}
    if not groups.keys().isdisjoint(things):
        groups[LESION] = things
    rows, columns = (
        sorted(side, key=lambda segment, first=first: (first.get(segment.id, 0), segment.id))  # type: ignore[misc]
        for side, first in zip((truth, predicted), places, strict=True)
    )
    crowds = {segment.category_id: segment.id for segment in truth if segment.iscrowd}
    return {
        category: _scene(
            [s for s in rows if s.category_id in classes and not s.iscrowd],
            [s for s in columns if s.category_id in classes],
            shared,
            excused=(VOID, *(number for label, number in crowds.items() if label in classes)),
        )
        for category, classes in groups.items()
    }


def _scene(
    rows: Sequence[Segment],
    columns: Sequence[Segment],
    shared: Mapping[tuple[int, int], int],
    *,
    excused: Sequence[int],
) -> Scene:
    """Compare true and predicted segments; `excused` are the ids on which a prediction is no false positive."""
    ious, ignored = np.zeros((len(rows), len(columns))), np.zeros(len(columns), dtype=bool)
    for column, guess in enumerate(columns):
        void = shared.get((VOID, guess.id), 0)
        for row, segment in enumerate(rows):
            common = shared.get((segment.id, guess.id), 0)
            if common:
                ious[row, column] = common / (segment.area + guess.area - common - void)
        ignored[column] = sum(shared.get((region, guess.id), 0) for region in excused) / guess.area > 0.5
    return Scene(tuple(rows), tuple(columns), ious, ignored)


def judge(scenes: Sequence[Scene], *, matching: Matching, thresholds: Sequence[float] = THRESHOLDS) -> list[Outcome]:
    """Say what becomes of each segment of each scene at each of T thresholds; a pair needs IoU > t."""
    of_shape: dict[tuple[int, ...], list[int]] = {}
    for place, scene in enumerate(scenes):
        of_shape.setdefault(scene.ious.shape, []).append(place)
    outcomes: dict[int, Outcome] = {}
    for places in of_shape.values():  # scenes of one shape at once: most are of one segment on either side
        ious, ignored = (np.stack([getattr(scenes[place], name) for place in places]) for name in ("ious", "ignored"))
        outcomes |= zip(places, _judge(ious, ignored, matching, thresholds), strict=True)
    return [outcomes[place] for place in range(len(scenes))]


def _judge(
    ious: NDArray[np.float64], ignored: Mask, matching: Matching, thresholds: Sequence[float]
) -> Iterator[Outcome]:
    """Judge S scenes of one shape from their IoUs (S, G, P) and `ignored` (S, P)."""
    chosen = pair(ious, matching=matching, thresholds=thresholds)
    counted = np.where(chosen, ious[:, None], 0.0)
    pairs, hits = chosen.sum(axis=3), chosen.sum(axis=2)
    best = counted.argmax(axis=3) if ious.shape[2] else np.zeros_like(pairs)
    columns = (
        pairs,
        np.sort(counted, axis=3).sum(axis=3),  # added in order of size, not of ids: one sum for any numbering
        np.where(pairs > 0, best, -1),
        (hits == 0) & ~ignored[:, None],
        np.maximum(hits - 1, 0),
    )
    return (Outcome(*each) for each in zip(*(column.swapaxes(1, 2) for column in columns), strict=True))


def pair(
    ious: NDArray[np.float64], *, matching: Matching, thresholds: Sequence[float] = THRESHOLDS
) -> NDArray[np.bool_]:
    """Give the pairs (S, T, G, P) that count as matched at each threshold, from the IoUs (S, G, P) of S scenes."""
    above: NDArray[np.bool_] = ious[:, None] > np.asarray(thresholds)[:, None, None]
    if matching == "one-to-one":
        shared = (above.sum(axis=2) > 1).any(axis=2) | (above.sum(axis=3) > 1).any(axis=2)
        for scene, level in np.argwhere(shared):
            above[scene, level] = _assign(np.where(above[scene, level], ious[scene], 0.0))
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
