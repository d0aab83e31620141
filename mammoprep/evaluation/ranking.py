"""What ranked detections are worth on images that weigh differently: average precision and FROC on cached matches.

A weight is how often an image counts: 1 for all is the plain score, 0 or 1 a part of them, whole numbers a resample.
The copies of an image stand at its place, so that of equal scores in it the earlier detection goes first in all copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.evaluation.column import blocks
from mammoprep.evaluation.detections import Ranking
from mammoprep.evaluation.detections import precision as precision_of
from mammoprep.evaluation.matching import FIXED_LEVELS, LEVELS
from mammoprep.evaluation.table import Detections, Table
from mammoprep.panoptic import Mask

Weights = NDArray[Any]
"""How often each image counts (B, I), in B resamples."""

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""False positives an image at which FROC is read."""
RECALLS = np.linspace(0.0, 1.0, 101)
_EPSILON = np.spacing(1)


@dataclass(frozen=True, eq=False)
class Ranked:
    """One class's detections (D,) in falling order of score, equal ones in the order of the images.

    `matched` and `ignored` (D,) have a bit a threshold, see table.Detections; `lesions` (I,) those of each image.
    """

    image: NDArray[np.int32]
    score: NDArray[np.float64]
    matched: NDArray[np.uint32]
    ignored: NDArray[np.uint32]
    lesions: NDArray[np.int32]

    def is_hit(self, level: int) -> Mask:
        """Tell which are right (D,) at one threshold."""
        return at_level(self.matched & ~self.ignored, level)

    def is_false(self, level: int) -> Mask:
        """Tell which are wrong (D,) at one threshold."""
        return at_level(~self.matched & ~self.ignored, level)

    @cached_property
    def hits(self) -> tuple[NDArray[np.int32], ...]:
        """Give the places of the right ones at each threshold."""
        return tuple(np.flatnonzero(self.is_hit(level)).astype(np.int32) for level in range(LEVELS))

    @cached_property
    def ends(self) -> NDArray[np.intp]:
        """Give the last place of each score: where equal scores go in together, none of them is favoured."""
        return np.flatnonzero(np.diff(self.score, append=-np.inf))


def ranked(table: Table, category: int) -> Ranked | None:
    """Give the detections of one class, numbered as in `Table`; None where there are no detections to speak of."""
    if table.detections is None or table.lesions is None:
        return None
    found: Detections = table.detections
    columns = (found.image, found.score, found.matched, found.ignored)
    parts: list[list[NDArray[Any]]] = [[column[:0]] for column in columns]
    for place in blocks(found.category):
        of_class = found.category[place] == category
        for part, column in zip(parts, columns, strict=True):
            part.append(column[place][of_class])
    image, score, matched, ignored = (np.concatenate(part) for part in parts)
    order = np.argsort(-score, kind="mergesort")
    return Ranked(image[order], score[order], matched[order], ignored[order], table.lesions[:, category])


def at_level(bits: NDArray[np.uint32], level: int) -> Mask:
    """Give the bits (D,) of one threshold."""
    return (bits >> np.uint32(level) & np.uint32(1)).astype(bool)


def coco_precision(found: Ranked) -> tuple[float, ...] | None:
    """Give AP (T,) by COCOeval itself, one threshold at a time; None without a lesion."""
    lesions = int(found.lesions.sum())
    if not lesions:
        return None
    values = []
    for level in range(LEVELS):
        matched, ignored = (at_level(bits, level)[None] for bits in (found.matched, found.ignored))
        curve = precision_of([Ranking(found.score, matched, ignored, lesions)])
        values.append(0.0 if curve is None else float(curve.mean(axis=1)[0]))
    return tuple(values)


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Detections on images that count so often: lesions (B,), and detections down to each one (B, D)."""

    found: Ranked
    weights: Weights
    lesions: NDArray[np.integer]
    down_to: NDArray[np.int32]


def weigh(found: Ranked, weights: Weights) -> Weighed:
    """Count lesions and detections in B resamples."""
    down_to = np.cumsum(weights[:, found.image], axis=1, dtype=np.int32)
    return Weighed(found, weights, weights @ found.lesions, down_to)


def average_precision(weighed: Weighed) -> NDArray[np.float64]:
    """Give AP (B, T), the mean of `precision` over the recalls; NaN without a lesion."""
    wanted = _least_hits(weighed.lesions)
    levels = [_precision(_hits(weighed, level), wanted).mean(axis=1) for level in range(LEVELS)]
    return np.where(weighed.lesions[:, None] > 0, np.stack(levels, axis=1), np.nan)


def precision(weighed: Weighed, *, level: int) -> NDArray[np.float64]:
    """Give the precision (B, 101) at `RECALLS` at one threshold, as COCOeval on images that stand there so often.

    0 everywhere without a lesion.
    """
    return _precision(_hits(weighed, level), _least_hits(weighed.lesions))


def tied_precision(found: Ranked, *, hits_first: bool) -> NDArray[np.float64]:
    """Give AP (T,) if of equal scores the right detections went first, or last: how far their order can move it.

    The matches stay as they are. NaN without a lesion.
    """
    once = np.ones((1, found.lesions.size), dtype=np.int64)
    if found.ends.size == found.image.size:
        untied: NDArray[np.float64] = average_precision(weigh(found, once))[0]
        return untied
    levels = []
    for level in range(LEVELS):
        hit = found.is_hit(level)
        order = np.lexsort((~hit if hits_first else hit, -found.score))
        turned = Ranked(
            found.image[order], found.score[order], found.matched[order], found.ignored[order], found.lesions
        )
        levels.append(precision(weigh(turned, once), level=level).mean())
    return np.where(found.lesions.any(), levels, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class _Hits:
    """The right detections at one threshold, H of them: their places (H,), and what is there down to each (B, H).

    Between two hits precision falls and recall stands, so that no other places need be looked at.
    """

    places: NDArray[np.int32]
    hits: NDArray[np.int32]
    down_to: NDArray[np.int32]
    ignored: NDArray[np.int32] | None


def _hits(weighed: Weighed, level: int) -> _Hits:
    found, weights = weighed.found, weighed.weights
    places, left_out = found.hits[level], None
    if found.ignored.any():
        ignored = at_level(found.ignored, level)
        left_out = np.cumsum(weights[:, found.image] * ignored, axis=1, dtype=np.int32)
    hits = np.cumsum(weights[:, found.image[places]], axis=1, dtype=np.int32)
    down_to = weighed.down_to[:, places]
    return _Hits(places, hits, down_to if left_out is None else down_to - left_out[:, places], left_out)


def _precision(hits: _Hits, wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    best = np.maximum.accumulate((hits.hits / (hits.down_to + _EPSILON))[:, ::-1], axis=1)[:, ::-1]
    return _at(best, _first(hits.hits, wanted), beyond=0.0)


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


def sensitivity(weighed: Weighed, rates: Sequence[float] = RATES) -> NDArray[np.float64]:
    """Give the share of lesions found (B, F, R) at each FIXED IoU, with no more than each of R false ones an image.

    It is that of the lowest score with no more false ones, so that it can be had: equal scores go in together. NaN
    without a lesion.
    """
    allowed = np.floor(np.multiply.outer(weighed.weights.sum(axis=1), rates)).astype(np.int64)
    of = np.where(weighed.lesions > 0, weighed.lesions, 1)[:, None]
    shares = [_hits_within(weighed, level, allowed) / of for level in FIXED_LEVELS]
    return np.where(weighed.lesions[:, None, None] > 0, np.stack(shares, axis=1), np.nan)


def _hits_within(weighed: Weighed, level: int, allowed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Count the hits (B, R) whose score lets in no more false ones than allowed (B, R)."""
    hits, found = _hits(weighed, level), weighed.found
    ends = found.ends[np.searchsorted(found.ends, hits.places)]  # of the hits' scores
    last = np.searchsorted(hits.places, ends, side="right") - 1  # hit of the same score
    down_to = weighed.down_to[:, ends] - (0 if hits.ignored is None else hits.ignored[:, ends])
    counted = hits.hits[:, last]
    return _at(counted.astype(np.float64), _first(down_to - counted, allowed + 1) - 1, beyond=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Where FROC is read, at one IoU: each rate's score (None where the first score is too many) and what it costs.

    `lesion_free`: false positives per lesion-free image at that score, None without such images.
    """

    score: tuple[float | None, ...]
    lesion_free: tuple[float | None, ...]


def operating_points(found: Ranked, lesion_free: Mask, *, level: int) -> Points:
    """Give the scores at which the sensitivities of all images are had."""
    false = found.is_false(level)
    everywhere, elsewhere = (np.cumsum(mask)[found.ends] for mask in (false, false & lesion_free[found.image]))
    scores, free = found.score[found.ends], int(lesion_free.sum())
    last = [int(np.searchsorted(everywhere, rate * lesion_free.size, side="right")) - 1 for rate in RATES]
    return Points(
        score=tuple(float(scores[place]) if place >= 0 else None for place in last),
        lesion_free=tuple((int(elsewhere[p]) if p >= 0 else 0) / free if free else None for p in last),
    )
