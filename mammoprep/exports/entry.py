"""What an annotation file says of one image, and what every format needs to say it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mammoprep.records import Finding, PointXY, RunLengths

FURTHEST = 1e6
"""Pixels: a coordinate beyond is a slip."""
MOST_PIXELS = 2**26
"""Pixels that an image may have, as in `pixels`: no mask is made for one that has more."""
MOST_POINTS = 100_000
"""Points of an outline: drawn by hand, it has a few hundred."""
POINT_DIAMETER = 20.0
"""Pixels, as CDD-CESM's smallest circles: a point marks one calcification beside circled ones."""
LINE_WIDTH = 20.0
"""Pixels."""


UNCLEAR = {"lesion_free": "no"}
"""Facts of an image that has an outline which cannot be drawn: without outlines it is not free of lesions."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file says of the image `image`, a name or path as it stands there; `where` says where.

    Findings have the class names that the file gives, "" where it gives none. `facts` are the image's own, such as its
    patient; `number` is the integer id that COCO gives it.
    """

    image: str
    where: str
    findings: tuple[Finding, ...] = ()
    size: tuple[int, int] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    number: int = 0


def finite(value: object) -> float:
    """Give a coordinate; a ValueError says that it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= FURTHEST:
        raise ValueError("a coordinate is not a number of pixels")
    return float(value)


def points_of(pairs: Iterable[Any]) -> tuple[PointXY, ...]:
    """Give the points of a list of pairs; a ValueError says what is wrong with it."""
    try:
        points = tuple((finite(x), finite(y)) for x, y in pairs)
    except TypeError:
        raise ValueError("the points are no list of pairs") from None
    if not points:
        raise ValueError("the outline has no points")
    if len(points) > MOST_POINTS:
        raise ValueError(f"the outline has more than {MOST_POINTS} points")
    return points


def size_of(height: object, width: object) -> tuple[int, int] | None:
    """Give (height, width), None where either is no positive whole number, or both are more than an image has."""
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    if min(height, width) > 0 and height * width <= MOST_PIXELS:
        return height, width
    return None


def run_lengths(crop: Any, *, x: int, y: int, size: tuple[int, int]) -> RunLengths:
    """Give the code of a mask of `size` that is empty but for `crop` (h, w), whose corner lies at (x, y)."""
    import numpy as np

    (height, width), (rows, columns) = size, crop.shape
    if x < 0 or y < 0 or x + columns > width or y + rows > height:
        raise ValueError("the mask leaves the image")
    full = np.zeros((width, height), dtype=np.int8)
    full[x : x + columns, y : y + rows] = np.asarray(crop, dtype=bool).T
    edges = np.flatnonzero(np.diff(full.ravel(), prepend=0)).tolist()
    return RunLengths(size, tuple(b - a for a, b in zip([0, *edges], [*edges, height * width], strict=True)))
