"""What rare classes weigh: how often their images are drawn, and what their errors cost."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category, Image

Numbers = NDArray[np.float64]


def odds(images: Sequence[Image], categories: Sequence[Category]) -> Numbers:
    """Give each image's probability to be drawn: that of its rarest lesion class, where classes are equally likely.

    Images without a lesion count as a class of their own.
    """
    classes = [set(_lesions(image, categories)) or {0} for image in images]
    counts = Counter(chain.from_iterable(classes))
    weights: Numbers = np.array([max(1 / counts[number] for number in of_image) for of_image in classes])
    weights /= weights.sum()
    return weights


def class_weights(text: str, *, images: Sequence[Image], categories: Sequence[Category]) -> Numbers | None:
    """Give the weight of each category in the cross-entropy (C,), or None for `none`; stuff weighs 1.

    `inverse`: lesion classes weigh in inverse proportion to their lesions, on average 1; one without any weighs 1.
    Else `text` lists a number for each lesion class.
    """
    given = parse(text)
    if given == ():
        return None
    things = [category for category in categories if category.isthing]
    if given is None:
        counts = Counter(chain.from_iterable(_lesions(image, categories) for image in images))
        rare = np.array([1 / counts[category.id] if counts[category.id] else np.nan for category in things])
        given = tuple(np.nan_to_num(rare / np.nanmean(rare), nan=1.0)) if counts else (1.0,) * len(things)
    if len(given) != len(things):
        names = ", ".join(category.name for category in things)
        raise MammoprepError(f"train.class_weights lists {len(given)} numbers. Give {len(things)}: {names}.")
    by_id = {category.id: weight for category, weight in zip(things, given, strict=True)}
    return np.array([by_id.get(category.id, 1.0) for category in categories])


def parse(text: str) -> tuple[float, ...] | None:
    """Read `none` as (), `inverse` as None, and numbers with commas between them; ValueError for anything else."""
    if text in ("none", "inverse"):
        return () if text == "none" else None
    numbers = tuple(float(part) for part in text.strip("()[] ").split(","))
    if not all(0 < number < np.inf for number in numbers):
        raise ValueError(text)
    return numbers


def _lesions(image: Image, categories: Sequence[Category]) -> list[int]:
    """Give the category of each of an image's lesions."""
    things = {category.id for category in categories if category.isthing}
    return [s.category_id for s in image.segments if s.category_id in things and not s.iscrowd]
