"""What ranked detections are worth on images that weigh differently: average precision and FROC on cached matches.

A weight is how often an image counts: 1 for all is the plain score, 0 or 1 a part of them, whole numbers a resample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.evaluation.matching import FIXED_LEVELS, LEVELS
from mammoprep.evaluation.table import Detections, Table
from mammoprep.panoptic import Mask

Weights = NDArray[Any]
"""How often each image counts (B, I), in B resamples."""

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""False positives an image at which FROC is read."""
RECALLS = np.linspace(0.0, 1.0, 101)
_EPSILON = np.spacing(1)


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """One class's detections (D,) in falling order of score, equal ones in the order of the images."""

    image: NDArray[np.int32]
    score: NDArray[np.float64]
    matched: Mask
    ignored: Mask
    lesions: NDArray[np.int32]

    @property
    def ends(self) -> NDArray[np.intp]:
        """Give the last place of each score: where equal scores go in together, none of them is favoured."""
        return np.flatnonzero(np.diff(self.score, append=-np.inf))


def ranked(table: Table, category: int) -> Ranked | None:
    """Give the detections of one class, numbered as in `Table`; None where there are no detections to speak of."""
    if table.detections is None or table.lesions is None:
        return None
    found: Detections = table.detections
    rows = np.flatnonzero(found.category == category)
    rows = rows[np.argsort(-found.score[rows], kind="mergesort")]
    return Ranked(
        found.image[rows], found.score[rows], found.matched[rows], found.ignored[rows], table.lesions[:, category]
    )


def average_precision(found: Ranked, weights: Weights) -> NDArray[np.float64]:
    """Give AP (B, T), the mean of `precision` over the recalls; NaN without a lesion."""
    everything = np.cumsum(weights[:, found.image], axis=1, dtype=np.int32)
    wanted = _least_hits(weights @ found.lesions)
    levels = [_precision(found, weights, level, everything, wanted).mean(axis=1) for level in range(LEVELS)]
    result = np.stack(levels, axis=1)
    result[weights @ found.lesions == 0] = np.nan
    return result


def precision(found: Ranked, weights: Weights, *, level: int) -> NDArray[np.float64]:
    """Give the precision (B, 101) at `RECALLS` at one threshold, as COCOeval on images that stand there so often.

    Only the places of the right detections are looked at: between them precision falls and recall stands.
    """
    everything = np.cumsum(weights[:, found.image], axis=1, dtype=np.int32)
    return _precision(found, weights, level, everything, _least_hits(weights @ found.lesions))


def _precision(
    found: Ranked, weights: Weights, level: int, everything: NDArray[np.int32], wanted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give `precision` from how many detections there are down to each, and how many hits each recall wants."""
    right, ignored = found.matched[:, level], found.ignored[:, level]
    if ignored.any():
        right = right & ~ignored
        everything = np.cumsum(weights[:, found.image] * ~ignored, axis=1, dtype=np.int32)
    hits = np.cumsum(weights[:, found.image[right]], axis=1, dtype=np.int32)
    best = np.maximum.accumulate((hits / (everything[:, right] + _EPSILON))[:, ::-1], axis=1)[:, ::-1]
    return _at(best, _first(hits, wanted), beyond=0.0)


def _least_hits(lesions: NDArray[np.integer]) -> NDArray[np.int64]:
    """Give the fewest hits (B, 101) with hits / lesions >= recall, in floating point as COCOeval compares them."""
    of = np.maximum(lesions, 1)[:, None]
    hits: NDArray[np.int64] = np.ceil(RECALLS * of).astype(np.int64)
    hits -= (hits - 1) / of >= RECALLS
    hits += hits / of < RECALLS
    return hits


def _first(rising: NDArray[np.integer], wanted: NDArray[np.int64]) -> NDArray[np.intp]:
    """Give in each row the first place that reaches each wanted number; the row's length where none does."""
    rows, length = rising.shape
    step = max(int(rising.max(initial=0)), int(wanted.max(initial=0))) + 1
    offset = np.arange(rows)[:, None] * step
    places: NDArray[np.intp] = np.searchsorted((rising + offset).ravel(), wanted + offset)
    places -= np.arange(rows)[:, None] * length
    return places


def _at(values: NDArray[np.float64], places: NDArray[np.intp], *, beyond: float) -> NDArray[np.float64]:
    """Take each row's values at its places; `beyond` for a place after the last."""
    padded = np.concatenate([values, np.full((len(values), 1), beyond)], axis=1)
    return np.take_along_axis(padded, places, axis=1)


def sensitivity(found: Ranked, weights: Weights, rates: Sequence[float] = RATES) -> NDArray[np.float64]:
    """Give the share of lesions found (B, F, R) at each FIXED IoU, with no more than each of R false ones an image.

    It is that of the lowest score with no more false ones, so that it can be had; NaN without a lesion.
    """
    result = np.empty((len(weights), len(FIXED_LEVELS), len(rates)))
    lesions = (weights @ found.lesions)[:, None]
    for place, level in enumerate(FIXED_LEVELS):
        hits, false = hits_and_false(found, weights, level=level)
        last = _last_allowed(false, weights.sum(axis=1), rates)
        result[:, place] = _at(hits.astype(np.float64), last, beyond=0.0) / np.where(lesions, lesions, 1)
    result[lesions[:, 0] == 0] = np.nan
    return result


def hits_and_false(found: Ranked, weights: Weights, *, level: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count what is right and what is false (B, S) down to each of the S different scores."""
    each = weights[:, found.image]
    right, counted = found.matched[:, level], ~found.ignored[:, level]
    ends = found.ends
    return np.cumsum(each * (right & counted), axis=1)[:, ends], np.cumsum(each * (~right & counted), axis=1)[:, ends]


def _last_allowed(false: NDArray[np.int64], images: NDArray[np.int64], rates: Sequence[float]) -> NDArray[np.intp]:
    """Give the last place (B, R) with no more than each rate of false ones an image; -1 (from the end) for none."""
    allowed = np.floor(np.multiply.outer(images, rates)).astype(np.int64)
    return _first(false, allowed + 1) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Where FROC is read, at one IoU: each rate's score (None where the first score is too many) and what it costs.

    `lesion_free`: false positives per lesion-free image at that score, None without such images.
    """

    score: tuple[float | None, ...]
    lesion_free: tuple[float | None, ...]


def operating_points(found: Ranked, lesion_free: Mask, *, level: int) -> Points:
    """Give the scores at which the sensitivities of all images are had."""
    images = len(lesion_free)
    _, false = hits_and_false(found, np.ones((1, images), dtype=np.int64), level=level)
    last = _last_allowed(false, np.array([images]), RATES)[0]
    _, elsewhere = hits_and_false(found, lesion_free[None].astype(np.int64), level=level)
    scores, free = found.score[found.ends], int(lesion_free.sum())
    return Points(
        score=tuple(float(scores[place]) if place >= 0 else None for place in last),
        lesion_free=tuple((int(elsewhere[0, p]) if p >= 0 else 0) / free if free else None for p in last),
    )
