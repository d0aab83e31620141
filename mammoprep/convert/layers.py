"""One image's masks on the stored grid: resized, and laid over one another into a map of segment ids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mammoprep import panoptic

Part = tuple[int, int, int, int]
"""A part (x0, y0, x1, y1) of an image in native pixels, half-open."""
_ROWS = 32
"""Stored rows that are averaged at a time."""
_HALF = 0.5 - 1e-9
"""A stored pixel belongs to a mask that covers half of it; the rest is for rounding."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The stored pixels of a native image or of a part (x0, y0, x1, y1) of it, half-open; never more than native.

    stored = (native - (crop_x0, crop_y0)) · (scale_x, scale_y). Where the image is mirrored left to right scale_x is
    negative and crop_x0 is the part's right edge, so that this holds as well.
    """

    native_height: int
    native_width: int
    height: int
    width: int
    part: Part | None = None
    mirrored: bool = False

    @property
    def bounds(self) -> Part:
        """Give the part of the image that is stored."""
        return self.part or (0, 0, self.native_width, self.native_height)

    @property
    def part_size(self) -> tuple[int, int]:
        """Give (height, width) of the part that is stored, in native pixels."""
        x0, y0, x1, y1 = self.bounds
        return (y1 - y0, x1 - x0)

    @property
    def is_smaller(self) -> bool:
        """Tell whether there are fewer stored than native pixels."""
        return (self.height, self.width) != self.part_size

    @property
    def crop_x0(self) -> int:
        """Give the native x of stored x = 0."""
        return self.bounds[2 if self.mirrored else 0]

    @property
    def crop_y0(self) -> int:
        """Give the native y of stored y = 0."""
        return self.bounds[1]

    @property
    def scale_x(self) -> float:
        """Give stored pixels per native pixel along a row, in (0, 1], or in [-1, 0) where mirrored."""
        return (-1 if self.mirrored else 1) * self.width / self.part_size[1]

    @property
    def scale_y(self) -> float:
        """Give stored pixels per native pixel along a column, in (0, 1]."""
        return self.height / self.part_size[0]


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


def fit(height: int, width: int, *, long_side: int, part: Part | None = None, mirrored: bool = False) -> Grid:
    """Give the grid whose longer side is `long_side` pixels, or the native one where that is smaller (or for 0)."""
    native = Grid(height, width, height, width, part, mirrored)
    longest = max(native.part_size)
    if not 0 < long_side < longest:
        long_side = longest
    stored_height, stored_width = (max(1, round(side * long_side / longest)) for side in native.part_size)
    return replace(native, height=stored_height, width=stored_width)


def resize_image(pixels: NDArray[np.uint16], grid: Grid, *, bits: int) -> NDArray[Any]:
    """Give the stored image: native (H, W) of 16 bits averaged over each stored pixel, as 8 (v / 257) or 16 bits."""
    x0, y0, x1, y1 = grid.bounds
    stored: NDArray[Any] = pixels[y0:y1, x0:x1]
    if grid.is_smaller:
        stored = cv2.resize(_average_rows(stored, grid.height), (grid.width, grid.height), interpolation=cv2.INTER_AREA)
    if grid.mirrored:
        stored = cv2.flip(stored, 1)
    return np.rint(stored).astype(np.uint16) if bits == 16 else np.rint(stored * np.float32(1 / 257)).astype(np.uint8)


def _average_rows(pixels: NDArray[np.uint16], height: int) -> NDArray[np.float32]:
    """Average the rows of (H, W) over each of `height` stored ones: most of the work, at twice OpenCV's speed."""
    rows = np.empty((height, pixels.shape[1]), dtype=np.float32)
    for top, bottom, first, last, weights in _row_weights(len(pixels), height):
        rows[top:bottom] = weights @ pixels[first:last].astype(np.float32)
    return rows


@lru_cache(maxsize=8)
def _row_weights(native: int, stored: int) -> list[tuple[int, int, int, int, Any]]:
    """Give the share of each native row in the stored rows, some of which at a time fit into the processor's cache."""
    blocks = []
    edges = np.arange(stored + 1) * (native / stored)
    for top in range(0, stored, _ROWS):
        bottom = min(top + _ROWS, stored)
        first, last = math.floor(edges[top]), min(math.ceil(edges[bottom]), native)
        inner = np.arange(first, last)
        above, below = edges[top:bottom, None], edges[top + 1 : bottom + 1, None]
        shares = np.clip(np.minimum(below, inner + 1) - np.maximum(above, inner), 0, None) * (stored / native)
        blocks.append((top, bottom, first, last, csr_array(shares.astype(np.float32))))
    return blocks


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
    return native and place(native, grid)


def place(native: Layer, grid: Grid) -> Layer | None:
    """Give the stored pixels of a native mask that is cut to what it covers, as `shrink` does."""
    layer = _reduced(_part_of(native, grid), grid)
    if layer is None or not grid.mirrored:
        return layer
    return Layer(grid.width - layer.x - layer.crop.shape[1], layer.y, np.ascontiguousarray(layer.crop[:, ::-1]))


def spread(found: NDArray[np.bool_], grid: Grid) -> Layer | None:
    """Give the stored pixels of a mask that was found in a smaller copy of the whole native image."""
    (rows, columns), (x, y) = found.shape, (grid.native_width * grid.scale_x, grid.native_height * grid.scale_y)
    across, down = columns / x, rows / y  # pixels of the copy per stored one, centre to centre below
    left, top = grid.crop_x0 * columns / grid.native_width, grid.crop_y0 * rows / grid.native_height
    centres = np.array([[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size, grey = (grid.width, grid.height), found.view(np.uint8) * 255
    return cut(cv2.warpAffine(grey, centres, size, flags=flags, borderMode=cv2.BORDER_REPLICATE) > 127)


def _part_of(native: Layer, grid: Grid) -> Layer | None:
    """Give what of a native mask lies in the part that is stored, from that part's corner."""
    if grid.part is None:
        return native
    x0, y0, x1, y1 = grid.part
    left, top = max(x0 - native.x, 0), max(y0 - native.y, 0)
    inside = cut(native.crop[top : max(y1 - native.y, 0), left : max(x1 - native.x, 0)])
    return inside and Layer(native.x + left + inside.x - x0, native.y + top + inside.y - y0, inside.crop)


def _reduced(native: Layer | None, grid: Grid) -> Layer | None:
    if native is None or not grid.is_smaller:
        return native
    scale_x, scale_y = abs(grid.scale_x), grid.scale_y
    x, columns = _edges(native.x, native.crop.shape[1], scale=scale_x)
    y, rows = _edges(native.y, native.crop.shape[0], scale=scale_y)
    integral = cv2.integral(native.crop.view(np.uint8))
    coverage = _between(_between(integral, rows).T, columns).T * (scale_x * scale_y)
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
