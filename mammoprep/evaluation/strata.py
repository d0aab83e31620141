"""Scores of parts: of the images by what is known of them, of the lesions by their size and class."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import pi
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mammoprep.evaluation import counting, pixel_overlap, ranking
from mammoprep.evaluation.counting import Counts, curve, mean_curve, mean_quality
from mammoprep.evaluation.matching import FIXED_LEVELS
from mammoprep.evaluation.report import Curve, Missed, Quality, Sizes, Stratum
from mammoprep.evaluation.table import Table
from mammoprep.panoptic import Mask

_Entry = TypeVar("_Entry")

UNKNOWN = "not given"
SIZES = {
    "size_mm2": ((pi * 5**2, pi * 10**2), ("under 79 mm2", "79 to 314 mm2", "314 mm2 and more")),
    "size_px2": ((32**2, 96**2), ("under 32 x 32 px", "32 x 32 to 96 x 96", "96 x 96 px and more")),
}
"""Edges of the sizes and their names: the area of a disc 10 and 20 mm across, as the T stages of breast cancer divide
diameters; COCO's in stored pixels where the spacing is unknown."""


def strata(table: Table) -> dict[str, dict[str, Stratum]]:
    """Score every part that the images, the segments and cases.csv make known."""
    found: dict[str, dict[str, Stratum]] = {}
    for name in ("view", "density", "manufacturer"):
        values = table.facts[name]
        if values.any():
            found[name] = in_order({str(v) or UNKNOWN: of_images(table, values == v) for v in np.unique(values)})
    free = {"lesion-free": table.lesion_free, "with lesions": ~table.lesion_free}
    found["lesion_free"] = {name: of_images(table, images) for name, images in free.items() if images.any()}
    found["class"] = {table.categories[number].name: of_class(table, number) for number in table.things}
    for name in SIZES:
        sizes = {title: of_size(table, *masks) for title, masks in size_masks(table, name)}
        sizes = {title: entry for title, entry in sizes.items() if entry.lesions or any(entry.false_positives or ())}
        if sizes:
            found[name] = sizes
    return found


def in_order(parts: Mapping[str, _Entry]) -> dict[str, _Entry]:
    """Put parts gathered from folds, each of which may lack some, into one order: sizes rising, the unknown last."""
    sizes = [title for _, titles in SIZES.values() for title in titles]
    return {t: parts[t] for t in sorted(parts, key=lambda t: (sizes.index(t) if t in sizes else -1, t == UNKNOWN, t))}


def of_images(table: Table, images: Mask) -> Stratum:
    """Score the images that the mask (I,) chooses."""
    rows = images[table.truths.image] if table.truths else None
    columns = images[table.guesses.image] if table.guesses else None
    lesions = table.annotated[images][:, table.things].sum()
    part = _Part(rows, columns, images, table.things)
    return _stratum(table, part, shown=int(images.sum()), rated=int(images.sum()), lesions=int(lesions))


def of_class(table: Table, number: int) -> Stratum:
    """Score one thing class; its images are those that show it."""
    rows = table.truths.category == number if table.truths else None
    columns = table.guesses.category == number if table.guesses else None
    lesions = table.annotated[:, number]
    part = _Part(rows, columns, np.ones(len(table.names), dtype=bool), [number])
    return _stratum(table, part, shown=int((lesions > 0).sum()), rated=len(table.names), lesions=int(lesions.sum()))


def of_size(table: Table, rows: Mask, columns: Mask) -> Stratum:
    """Score true lesions and predictions of one size: a miss counts by the lesion's size, a false one by its own."""
    places = table.truths.image[rows & np.isin(table.truths.category, table.things)] if table.truths else rows[:0]
    part = _Part(rows, columns, None, table.things)
    return _stratum(table, part, shown=np.unique(places).size, rated=len(table.names), lesions=places.size)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """True segments (N,), predictions (P,), images (I,) for AP and Dice, and the classes that count."""

    rows: Mask | None
    columns: Mask | None
    images: Mask | None
    classes: list[int]


def _stratum(table: Table, part: _Part, *, shown: int, rated: int, lesions: int) -> Stratum:
    """Score a part, `shown` on so many images; false positives are an image of the `rated`."""
    counts = counting.count(table, part.rows, part.columns)
    names = {table.categories[number].name for number in part.classes}
    per_class = pixel_overlap.per_class(table, pixel_overlap.dice, things=True, images=part.images)
    precision = (_precision(table, part.images, number) for number in part.classes)
    return Stratum(
        *_means(counts, part.classes),
        AP=mean_curve(precision),
        images=shown,
        lesions=lesions,
        sensitivity=_sensitivity(counts, part.classes),
        false_positives=_false(counts, part.classes, images=rated),
        dice=pixel_overlap.pooled({k: v for k, v in per_class.items() if k in names and part.images is not None}),
    )


def size_masks(table: Table, name: str) -> Iterator[tuple[str, tuple[Mask, Mask]]]:
    """Yield each size of `SIZES` with its true segments (N,) and predictions (P,); stuff is in none."""
    if table.truths is None or table.guesses is None:
        return
    edges, titles = SIZES[name]
    stuff = [number for number, category in enumerate(table.categories) if not category.isthing]
    sides = []
    for side in (table.truths, table.guesses):
        scale = table.square_mm[side.image]
        known = np.isfinite(scale) if name == "size_mm2" else np.isnan(scale)
        size = side.area * np.where(np.isnan(scale), 1.0, scale)
        sides.append((known & ~np.isin(side.category, stuff), np.searchsorted(edges, size, side="right")))
    for place, title in enumerate(titles):
        (known, size), (other_known, other_size) = sides
        yield title, (known & (size == place), other_known & (other_size == place))


def missed(table: Table) -> Missed | None:
    """Give the sizes of the lesions missed and found, the class ignored: in mm² if that is known of all, else px²."""
    if table.truths is None:
        return None
    rows = table.truths.category == len(table.categories)
    scale = table.square_mm[table.truths.image[rows]]
    metric = not np.isnan(scale).any()
    areas = table.truths.area[rows] * (scale if metric else 1.0)
    hit = table.truths.pairs[rows] > 0
    return Missed(
        unit="mm2" if metric else "px2",
        missed=tuple(_sizes(areas[~hit[:, level]]) for level in FIXED_LEVELS),
        found=tuple(_sizes(areas[hit[:, level]]) for level in FIXED_LEVELS),
    )


def _sizes(areas: NDArray[np.float64]) -> Sizes:
    if not areas.size:
        return Sizes(0, None)
    low, first, middle, third, high = np.percentile(areas, (0, 25, 50, 75, 100)).tolist()
    return Sizes(areas.size, (low, first, middle, third, high))


def _means(counts: Counts | None, classes: list[int]) -> tuple[Curve | None, Curve | None, Curve | None]:
    """Give PQ, RQ and SQ, means over those of the classes that occur in the part."""
    if counts is None:
        return (None, None, None)
    found = counting.qualities(counts)
    return mean_quality(Quality(*(curve(getattr(found, q)[n]) for q in ("PQ", "RQ", "SQ"))) for n in classes)


def _precision(table: Table, images: Mask | None, number: int) -> Curve | None:
    found = ranking.ranked(table, number)
    if found is None or images is None:
        return None
    return curve(ranking.average_precision(ranking.weigh(found, images[None].astype(np.int64)))[0])


def _sensitivity(counts: Counts | None, classes: list[int]) -> Curve | None:
    if counts is None:
        return None
    hits, lesions = counts.TP[classes].sum(axis=0), (counts.TP + counts.FN)[classes].sum(axis=0)
    return curve(hits / lesions) if lesions.all() else None


def _false(counts: Counts | None, classes: list[int], *, images: int) -> Curve | None:
    return None if counts is None or not images else curve(counts.FP[classes].sum(axis=0) / images)
