"""Does a map of uncertainty flag the pixels that are wrong? Of PREDICTIONS that have `uncertainty/<image>.png`."""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.evaluation import classes
from mammoprep.evaluation.classes import Agreement
from mammoprep.evaluation.report import Flagged, Uncertainty
from mammoprep.panoptic import Category, Image, Panoptic

FOLDER = "uncertainty"
LEVELS = 256
KEPT = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Shares of the pixels, the most certain ones, whose error is given."""
Counts = NDArray[np.int64]
"""Right (first row) and wrong pixels (second) at each level of uncertainty, (2, LEVELS)."""


def score(
    dataset: Path,
    predictions: Path,
    *,
    image_ids: Collection[int] | None = None,
    missing_as_empty: bool = False,
    across: bool = False,
) -> Uncertainty | None:
    """Score the maps of all images of a DATASET, or of some; None where the predictions have none.

    A pixel is wrong where its class in `semantic/` is not the true one; for lesions, where it is a lesion on one side
    alone. True void and crowds are left out. Raises MammoprepError where a map is missing or of another size; with
    `missing_as_empty` an image without one is left out. With `across` lesion classes that the two do not share are one.
    """
    if not (predictions / FOLDER).is_dir() or not (predictions / "semantic").is_dir():
        return None
    source = panoptic.load(dataset)
    images = [image for image in source.images if image_ids is None or image.id in image_ids]
    agreed = _agree(source, predictions, across=across)
    counts = np.zeros((2, 2, LEVELS), dtype=np.int64)
    for image in images:
        if missing_as_empty and not (predictions / FOLDER / f"{image.name}.png").is_file():
            continue
        counts += _count(source, predictions, image, agreed=agreed)
    return Uncertainty(pixels=int(counts[0].sum()), classes=flagged(counts[0]), lesions=flagged(counts[1]))


def _agree(source: Panoptic, predictions: Path, *, across: bool) -> Agreement:
    """Let the classes agree, where the predictions list them."""
    if not (predictions / "panoptic.json").is_file():
        return classes.by_name(source, source)
    listed = tuple(found for found in panoptic.read(predictions) if isinstance(found, Category))
    if across:
        return classes.across(source.categories, listed)
    return classes.by_name(source, Panoptic(predictions, listed, ()))


def _count(source: Panoptic, predictions: Path, image: Image, *, agreed: Agreement) -> Counts:
    """Count the right and wrong pixels of an image at each level, by class and by lesion or not: (2, 2, LEVELS)."""
    name, ids = f"{image.name}.png", source.ids_of(image)
    levels, labels = (_read(predictions / folder / name, ids.shape) for folder in (FOLDER, "semantic"))
    things = [category.id for category in agreed.categories if category.isthing]
    truth = np.zeros_like(ids)
    for segment in image.segments:
        if not segment.iscrowd:
            truth[ids == segment.id] = agreed.truth[segment.category_id]
    table = np.zeros(LEVELS, dtype=np.int32)
    for theirs, own in agreed.predicted.items():
        if theirs < LEVELS:
            table[theirs] = own
    found, counted = table[labels], truth > 0
    wrong = (found != truth, np.isin(found, things) != np.isin(truth, things))
    codes = (levels[counted] + LEVELS * each[counted].astype(np.int64) for each in wrong)
    return np.stack([np.bincount(code, minlength=2 * LEVELS).reshape(2, LEVELS) for code in codes])


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    found = panoptic.read_png(path)
    if found.dtype != np.uint8 or found.shape != shape:
        size = " x ".join(map(str, shape))
        raise MammoprepError(f"{path} is no grey PNG of 8 bits and {size} pixels. Predict at the stored size.")
    return found


def flagged(counts: Counts) -> Flagged:
    """Say how well the level tells wrong from right pixels (2, LEVELS).

    The area under the ROC curve is the probability that a wrong pixel has the higher level than a right one, ties a
    half; None where all are right or all wrong. Of pixels of one level that are kept in part, as many are wrong as of
    all of them.
    """
    right, wrong = counts.astype(np.float64)
    total = right.sum() + wrong.sum()
    below = right.cumsum() - right
    pairs = right.sum() * wrong.sum()
    area = float((wrong * (below + right / 2)).sum() / pairs) if pairs else None
    return Flagged(
        error=float(wrong.sum() / total) if total else None,
        AUROC=area,
        error_kept=dict(_errors(right, wrong)) if total else {},
    )


def _errors(right: NDArray[np.float64], wrong: NDArray[np.float64]) -> Iterator[tuple[str, float]]:
    """Yield the share of wrong pixels among the most certain ones, for each of KEPT."""
    places = np.concatenate(([0.0], (right + wrong).cumsum()))
    sums = np.concatenate(([0.0], wrong.cumsum()))
    for share in KEPT:
        yield str(share), float(np.interp(share * places[-1], places, sums) / (share * places[-1]))
