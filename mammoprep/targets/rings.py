"""A mask as polygons that hold exactly its pixels' centres."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import find_contours

from mammoprep import panoptic
from mammoprep.panoptic import Mask

Ring = NDArray[np.float64]
"""The corners (N, 2) of a closed polygon as (x, y), filled by the even-odd rule; the first is not repeated."""


def rings_of(mask: Mask) -> list[Ring]:
    """Give a polygon for each connected part of a mask (H, W), which must not be empty.

    Holes are cut out by bridges that have no width. The corners lie half way between the centre of a pixel inside and
    that of its neighbour outside, so each centre is clearly on its side, and a single pixel is a polygon too. Parts
    that touch at a corner are two.
    """
    x, y, width, height = panoptic.mask_box(mask)
    trace: Any = find_contours  # which is untyped
    labels, _ = ndimage.label(mask[y : y + height, x : x + width])
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        crop = np.pad(labels[rows, columns] == number, 1)
        corner = np.array([x + columns.start, y + rows.start]) - 0.5  # the pad, and a pixel's centre at + 0.5
        rings = [_straight(ring[:-1, ::-1] + corner) for ring in trace(crop.astype(np.float64), 0.5)]
        found.append(join(sorted(rings, key=lambda ring: -np.prod(np.ptp(ring, axis=0)))))
    return found


def join(rings: Sequence[Ring]) -> Ring:
    """Make one polygon of several, each tied to those before it by the shortest bridge, walked there and back."""
    joined = rings[0]
    for ring in rings[1:]:
        gaps, nearest = KDTree(joined).query(ring)
        there = int(np.argmin(gaps))
        here = int(nearest[there])
        joined = np.concatenate([joined[: here + 1], np.roll(ring, -there, axis=0), ring[[there]], joined[here:]])
    return joined


def count_holes(mask: Mask) -> int:
    """Count the holes of a mask (H, W)."""
    return int(ndimage.label(~np.pad(mask, 1), structure=np.ones((3, 3)))[1]) - 1


def _straight(ring: Ring) -> Ring:
    """Leave out the corners at which a ring goes straight on."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns: Ring = ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return turns
