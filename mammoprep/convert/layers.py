"""One image's masks on the stored grid: resized, and laid over one another into a map of segment ids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic

_HALF = 0.5 - 1e-9
"""A stored pixel belongs to a mask that covers half of it; the rest is for rounding."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The stored pixels of a native image: stored = native · (scale_x, scale_y), never more pixels than native."""

    native_height: int
    native_width: int
    height: int
    width: int

    @property
    def is_smaller(self) -> bool:
        """Tell whether there are fewer stored than native pixels."""
        return (self.height, self.width) != (self.native_height, self.native_width)

    @property
    def scale_x(self) -> float:
        """Give stored pixels per native pixel along a row, in (0, 1]."""
        return self.width / self.native_width

    @property
    def scale_y(self) -> float:
        """Give stored pixels per native pixel along a column, in (0, 1]."""
        return self.height / self.native_height


@dataclass(frozen=True, slots=True)
class Layer:
    """A mask that is empty but for `crop` (h, w), whose corner lies at (x, y)."""

    x: int
    y: int
    crop: NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Give the area in pixels."""
        return int(np.count_nonzero(self.crop))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Give COCO's [x, y, w, h]."""
        return (self.x, self.y, self.crop.shape[1], self.crop.shape[0])

    def full(self, height: int, width: int) -> NDArray[np.bool_]:
        """Give the mask (height, width)."""
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[self.y : self.y + self.crop.shape[0], self.x : self.x + self.crop.shape[1]] = self.crop
        return mask

    def same_as(self, other: "Layer") -> bool:
        """Tell whether both cover the same pixels."""
        return self.box == other.box and bool(np.array_equal(self.crop, other.crop))


def fit(height: int, width: int, *, long_side: int) -> Grid:
    """Give the grid whose longer side is `long_side` pixels, or the native one where that is smaller (or for 0)."""
    longest = max(height, width)
    if not 0 < long_side < longest:
        return Grid(height, width, height, width)
    stored = (max(1, round(side * long_side / longest)) for side in (height, width))
    return Grid(height, width, *stored)


def resize_image(pixels: NDArray[np.uint16], grid: Grid, *, bits: int) -> NDArray[Any]:
    """Give the stored image: native (H, W) of 16 bits averaged over each stored pixel, as 8 (v / 257) or 16 bits."""
    stored: NDArray[Any] = pixels
    if grid.is_smaller:
        stored = cv2.resize(pixels, (grid.width, grid.height), interpolation=cv2.INTER_AREA)
    return stored if bits == 16 else ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8)


def cut(mask: NDArray[np.bool_]) -> Layer | None:
    """Cut a mask to what it covers; None where it is empty."""
    x, y, width, height = panoptic.mask_box(mask)
    return Layer(x, y, mask[y : y + height, x : x + width].copy()) if width else None


def shrink(mask: NDArray[np.bool_], grid: Grid) -> Layer | None:
    """Give the stored pixels that a native mask (H, W) covers by half or more; None where it is empty.

    Where it covers half of no pixel, the one that it covers most is taken: no lesion vanishes. Coverage is exact: the
    integral of a mask, linear within each native pixel, is read at the edges of the stored ones.
    """
    native = cut(mask)
    if native is None or not grid.is_smaller:
        return native
    x, columns = _edges(native.x, native.crop.shape[1], scale=grid.scale_x)
    y, rows = _edges(native.y, native.crop.shape[0], scale=grid.scale_y)
    integral = cv2.integral(native.crop.view(np.uint8))
    coverage = _between(_between(integral, rows).T, columns).T * (grid.scale_x * grid.scale_y)
    inside = cut(coverage >= min(_HALF, coverage.max()))
    return inside and Layer(x + inside.x, y + inside.y, inside.crop)


def _edges(start: int, length: int, *, scale: float) -> tuple[int, NDArray[np.float64]]:
    """Give the first stored pixel that a native interval touches, and the edges of all, from the interval's start."""
    first, last = math.floor(start * scale), math.ceil((start + length) * scale)
    return first, np.clip(np.arange(first, last + 1) / scale - start, 0, length)


def _between(integral: NDArray[Any], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give what lies between each two edges along the first axis of an integral, which is linear between its rows."""
    below = edges.astype(np.intp)
    above = np.minimum(below + 1, len(integral) - 1)
    lower = integral[below]
    sums = lower + (edges - below)[:, None] * (integral[above] - lower)
    return np.diff(sums, axis=0)


def stack(layers: Sequence[Layer], *, height: int, width: int) -> NDArray[np.int32]:
    """Lay masks over one another into a map (H, W) of their positions from 1; 0 is where none lies.

    The smaller lies on top; of two of equal area, the earlier.
    """
    ids = np.zeros((height, width), dtype=np.int32)
    for position in sorted(range(len(layers)), key=lambda i: (-layers[i].area, -i)):
        layer = layers[position]
        rows, columns = layer.crop.shape
        ids[layer.y : layer.y + rows, layer.x : layer.x + columns][layer.crop] = position + 1
    return ids
