"""How sure the scores are: bootstrap over patients, who are drawn whole, with all their images.

The scores of a resample come from counts by patient and from cached matches: no image is looked at again. Over folds
the patients of each fold are drawn among themselves and the folds' scores are averaged, as in the report.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammoprep.evaluation import counting, pixel_overlap, ranking
from mammoprep.evaluation.column import blocks
from mammoprep.evaluation.counting import Counts
from mammoprep.evaluation.matching import LEVELS
from mammoprep.evaluation.report import Intervals
from mammoprep.evaluation.table import Table

RESAMPLES = 1000
SEED = 0
LEVEL = 0.95

Key = tuple[str, ...]
"""A score's place in scores.json."""
Samples = dict[Key, NDArray[np.float64]]
"""Scores (B, …) in B resamples; NaN where a resample does not have one."""

_AT_A_TIME = 250
"""Resamples that are scored at a time."""
_CELLS = 2**18
"""Numbers that one array of detections by resamples may have."""


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """B resamples: the number of each image's patient (I,), and how often each patient is drawn (B, patients)."""

    patient: NDArray[np.intp]
    times: NDArray[np.int32]

    def chunks(self, *, width: int) -> Iterator[NDArray[np.int32]]:
        """Yield the images' weights (b, I) of some resamples at a time, so that (b, width) arrays stay small."""
        step = max(1, _CELLS // max(width, self.patient.size))
        for start in range(0, len(self.times), step):
            yield self.times[start : start + step, self.patient]


def draw(table: Table, *, resamples: int, seed: Sequence[int]) -> Iterator[Draws]:
    """Draw as many patients as there are, with replacement, some resamples at a time.

    The same seed and patients give the same draws.
    """
    names, patient = np.unique(table.facts["patient_id"], return_inverse=True)
    generator, share = np.random.default_rng(seed), np.full(names.size, 1 / names.size)
    for start in range(0, resamples, _AT_A_TIME):
        times = generator.multinomial(names.size, share, size=min(_AT_A_TIME, resamples - start))
        yield Draws(patient, times.astype(np.int32))


def intervals(tables: Sequence[Table], *, resamples: int = RESAMPLES, seed: int = SEED) -> Intervals | str:
    """Give percentile intervals of the scores of one table, or of the mean over the tables of folds; or why not."""
    reason = why_not(tables)
    if reason:
        return reason
    values = samples(tables, resamples=resamples, seed=seed)
    nested: dict[str, Any] = {}
    for key, drawn in values.items():
        place = nested
        for name in key[:-1]:
            place = place.setdefault(name, {})
        place[key[-1]] = limits(drawn)
    apart = tables[:1] if _are_alike(tables) else tables
    patients = sum(np.unique(table.facts["patient_id"]).size for table in apart)
    return Intervals(resamples=resamples, seed=seed, patients=patients, values=nested, level=LEVEL)


def why_not(tables: Sequence[Table]) -> str | None:
    """Say why patients cannot be drawn; None where they can."""
    patients = [table.facts["patient_id"] for table in tables]
    if not tables[0].things:
        return "the data set has no lesion classes"
    if any("" in names for names in patients):
        return "cases.csv does not give the patient of every image"
    if any(np.unique(names).size < 2 for names in patients):
        return "a bootstrap over patients needs more than one"
    return None


def samples(tables: Sequence[Table], *, resamples: int, seed: int) -> Samples:
    """Give the scores of each resample, averaged over the tables that have them.

    Tables of the same images are drawn alike, those of folds each for itself.
    """
    seeds = [(seed, 0 if _are_alike(tables) else k) for k in range(len(tables))]
    parts = [
        _resampled(table, draw(table, resamples=resamples, seed=own)) for table, own in zip(tables, seeds, strict=True)
    ]
    keys = dict.fromkeys(key for part in parts for key in part)
    return {key: mean_of([part[key] for part in parts if key in part]) for key in keys}


def _are_alike(tables: Sequence[Table]) -> bool:
    """Tell whether several networks were scored on the same images."""
    return all(table.names == tables[0].names for table in tables)


def _resampled(table: Table, draws: Iterable[Draws]) -> Samples:
    some = [resampled(table, each) for each in draws]
    return {key: np.concatenate([each[key] for each in some]) for key in some[0]}


def mean_of(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Give the mean of arrays of one shape, leaving out NaN; NaN where all are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.asarray(np.nanmean(np.stack(parts), axis=0))


def resampled(table: Table, draws: Draws) -> Samples:
    """Give every score of a table in every resample."""
    return {**_panoptic(table, draws), **_ranked(table, draws), **_pixels(table, draws)}


def limits(drawn: NDArray[np.float64]) -> Any:
    """Give the interval [low, high] of samples (B, …), nested like the score; None where no resample has one."""
    if drawn.ndim > 1:
        return tuple(limits(drawn[:, place]) for place in range(drawn.shape[1]))
    given = drawn[~np.isnan(drawn)]
    tail = round(50 * (1 - LEVEL), 6)
    return tuple(np.percentile(given, (tail, 100 - tail)).tolist()) if given.size else (None, None)


def _panoptic(table: Table, draws: Draws) -> Samples:
    """Give PQ, RQ and SQ (B, T)."""
    if table.truths is None or table.guesses is None:
        return {}
    rows, columns = table.truths, table.guesses
    total = np.zeros((4, len(draws.times), len(table.categories) + 1, LEVELS))  # TP, FP, FN, IoU
    for place in blocks(rows.pairs):
        pairs, of = rows.pairs[place], (draws.patient[rows.image[place]], rows.category[place])
        for at, counted in zip((0, 2, 3), (pairs, pairs == 0, rows.iou[place]), strict=True):
            _add(total[at], counted, of, draws.times)
    for place in blocks(columns.false):
        of = (draws.patient[columns.image[place]], columns.category[place])
        _add(total[1], columns.false[place], of, draws.times)
    found = counting.qualities(Counts(*total))
    values: Samples = {}
    for quality in ("PQ", "RQ", "SQ"):
        by_class = getattr(found, quality)  # (B, C + 1, T)
        values["sweep", quality] = mean_of([by_class[:, number] for number in table.things])
        values["detection", quality] = by_class[:, -1]
        for number in table.things:
            values["per_class", table.categories[number].name, quality] = by_class[:, number]
    return values


def _add(
    total: NDArray[np.float64],
    values: NDArray[Any],
    of: tuple[NDArray[np.intp], NDArray[np.int16]],
    times: NDArray[np.int32],
) -> None:
    """Add values (n, T) of patients and classes to their totals (B, C + 1, T) as often as the patients are drawn."""
    patients, group = np.unique(of[0], return_inverse=True)
    each = np.zeros((patients.size, *total.shape[1:]))
    np.add.at(each, (group, of[1]), values)
    total += np.tensordot(times[:, patients].astype(np.float64), each, axes=1)


def _ranked(table: Table, draws: Draws) -> Samples:
    """Give AP (B, T) and the sensitivities of FROC (B, F, R)."""
    if table.detections is None:
        return {}
    values: Samples = {}
    for number in (*table.things, len(table.categories)):
        found = ranking.ranked(table, number)
        if found is None:
            continue
        ignored = number == len(table.categories)
        place = ("detection",) if ignored else ("per_class", table.categories[number].name)
        froc = ("froc", "lesion") if ignored else ("froc", *place)
        chunks = draws.chunks(width=found.image.size)
        weighed = (ranking.weigh(found, weights) for weights in chunks)
        pairs = [(ranking.average_precision(each), ranking.sensitivity(each)) for each in weighed]
        values[*place, "AP"], values[*froc, "sensitivity"] = (np.concatenate(side) for side in zip(*pairs, strict=True))
    values["sweep", "AP"] = mean_of([values["per_class", table.categories[n].name, "AP"] for n in table.things])
    return values


def _pixels(table: Table, draws: Draws) -> Samples:
    """Give Dice and IoU (B,), pooled, per image and by class."""
    if table.confusion is None:
        return {}
    patients, classes = draws.times.shape[1], table.confusion.shape[1]
    each = np.zeros((patients, classes, classes))
    for place in blocks(table.confusion):
        np.add.at(each, draws.patient[place], table.confusion[place])
    total = np.tensordot(draws.times.astype(np.float64), each, axes=1)
    images = draws.times @ np.bincount(draws.patient, minlength=patients)
    values: Samples = {}
    for name, measure in (("dice", pixel_overlap.dice), ("iou", pixel_overlap.iou)):
        by_class = pixel_overlap.of_classes(total, measure)
        values[name, "pooled"] = mean_of([by_class[:, number] for number in table.things])
        by_patient = np.bincount(draws.patient, weights=pixel_overlap.of_images(table, measure), minlength=patients)
        values[name, "per_image"] = draws.times @ by_patient / images
        for number in table.things:
            values[name, "per_class", table.categories[number].name] = by_class[:, number]
    return values
