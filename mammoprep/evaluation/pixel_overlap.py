"""Dice and IoU from pixels: of each class over all images, and of all lesions as one map, image by image."""

from collections.abc import Callable
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from mammoprep.evaluation.column import blocks
from mammoprep.evaluation.report import Overlap
from mammoprep.evaluation.table import Table
from mammoprep.panoptic import Mask

BETA = 1e-7
"""What the Twente thesis adds above and below the line, so that empty on empty is 1."""

Values = NDArray[np.float64]
Measure = Callable[..., Values]


def dice(shared: Values, truth: Values, predicted: Values, *, beta: float = 0.0) -> Values:
    """Give 2·|P∩G| / (|P| + |G|), `beta` added above and below; NaN where both are empty and beta is 0."""
    below = np.asarray(truth + predicted + beta, dtype=np.float64)
    return np.where(below > 0, (2 * shared + beta) / np.where(below > 0, below, 1.0), np.nan)


def iou(shared: Values, truth: Values, predicted: Values, *, beta: float = 0.0) -> Values:
    """Give |P∩G| / |P∪G|, `beta` added above and below; NaN where both are empty and beta is 0."""
    below = np.asarray(truth + predicted - shared + beta, dtype=np.float64)
    return np.where(below > 0, (shared + beta) / np.where(below > 0, below, 1.0), np.nan)


def of_classes(confusion: NDArray[np.float64], measure: Measure) -> Values:
    """Measure each class (…, C) on counts of pixels (…, C + 1, C + 1) by true and predicted class."""
    own = np.diagonal(confusion, axis1=-2, axis2=-1)
    return measure(own, confusion.sum(axis=-1), confusion.sum(axis=-2))[..., 1:]


def of_images(table: Table, measure: Measure, *, beta: float = 0.0) -> Values:
    """Measure each image (I,), all thing classes merged to one lesion map; empty on empty is 1."""
    if table.confusion is None:
        return np.zeros(0)
    things, parts = [number + 1 for number in table.things], [np.zeros(0)]
    for place in blocks(table.confusion):
        counts = table.confusion[place]
        truth, predicted = counts[:, things].sum(axis=(1, 2)), counts[:, :, things].sum(axis=(1, 2))
        parts.append(measure(counts[:, things][:, :, things].sum(axis=(1, 2)), truth, predicted, beta=beta))
    values = np.concatenate(parts)
    return np.where(np.isnan(values), 1.0, values)


def per_class(table: Table, measure: Measure, *, things: bool, images: Mask | None = None) -> dict[str, float | None]:
    """Measure each thing or stuff class on the pixels of all images, or of those in the mask (I,)."""
    if table.confusion is None:
        return {}
    total = np.zeros(table.confusion.shape[1:])
    for place in blocks(table.confusion):
        counts = table.confusion[place]
        total += counts.sum(axis=0) if images is None else counts[images[place]].sum(axis=0)
    values = of_classes(total, measure)
    return {
        category.name: None if np.isnan(value) else float(value)
        for category, value in zip(table.categories, values, strict=True)
        if category.isthing == things
    }


def pooled(classes: dict[str, float | None]) -> float | None:
    """Give the mean of the classes that occur."""
    given = [value for value in classes.values() if value is not None]
    return fmean(given) if given else None


def lesions(table: Table, measure: Measure) -> Overlap | None:
    """Measure the thing classes; None without semantic predictions."""
    if table.confusion is None:
        return None
    classes = per_class(table, measure, things=True)
    return Overlap(
        pooled=pooled(classes),
        per_image=fmean(of_images(table, measure).tolist()),
        smoothed=fmean(of_images(table, measure, beta=BETA).tolist()),
        per_class=classes,
    )
