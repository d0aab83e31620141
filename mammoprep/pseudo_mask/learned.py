"""A small network, run by numpy, that draws a lesion's outline from its box.

`examples/benchmarks/train_masks.py` made it. It was trained on the radiologists' free-hand outlines of
CDD-CESM (CC BY 4.0, DOI 10.7937/29kw-ae92), images of 512 pixels, and on drawn bright shapes.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Window = tuple[int, int, int, int]
"""Pixels (x0, y0, x1, y1), half-open."""

WEIGHTS = Path(__file__).with_name("learned.npz")
SIDE = 32
"""Points across the box, whatever its size."""
MARGIN = 4
"""Points that the network sees on each side of it."""
GRID = SIDE + 2 * MARGIN
_FINEST = 56  # pixels that a box keeps across before it is sampled: what is finer is averaged
_AVERAGED = 4  # along each axis; of more pixels every n-th is


@cache
def load(path: Path = WEIGHTS) -> Mapping[str, Floats]:
    """Read a network's arrays: `<block>.<n>.weight` (O, C, k, k) and `.bias` (O,), stored as halves."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.float32) for name in arrays.files}


def draw(pixels: NDArray[Any], window: Window, *, weights: Mapping[str, Floats]) -> NDArray[np.bool_]:
    """Give the mask (h, w) of the lesion in a window of an image (H, W); it may be empty."""
    x0, y0, x1, y1 = window
    logits = run(features(sample(pixels, window), window, height=pixels.shape[0]), weights=weights)
    inside = np.ascontiguousarray(logits[MARGIN:-MARGIN, MARGIN:-MARGIN])
    mask: NDArray[np.bool_] = cv2.resize(inside, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR) > 0
    return mask


def sample(pixels: NDArray[Any], window: Window) -> Floats:
    """Sample a window and an eighth of it around (GRID, GRID), in shares of white; the image's edge is continued."""
    x0, y0, x1, y1 = window
    columns, shrink_x, first_x, across = _axis(x0, x1, length=pixels.shape[1])
    rows, shrink_y, first_y, down = _axis(y0, y1, length=pixels.shape[0])
    region = pixels[rows, columns]
    size = (region.shape[1] // shrink_x, region.shape[0] // shrink_y)
    reduced = cv2.resize(region, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 65535
    to_region = np.array([[across, 0, first_x], [0, down, first_y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    points: Any = cv2.warpAffine(reduced, to_region, (GRID, GRID), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(points, dtype=np.float32)


def _axis(start: int, stop: int, *, length: int) -> tuple[slice, int, float, float]:
    """Say how an axis is sampled: what is read, how many are averaged, and where the points then lie.

    The last two are the place of the first point, from the centre of the first average, and the way to the next.
    """
    side = stop - start
    step = max(1, side // _FINEST // _AVERAGED)
    averaged = max(1, side // _FINEST // step)
    low = max(0, start - side // 7 - 2)
    count = min(length, stop + side // 7 + 2) - low
    count -= count % (averaged * step)
    way = side / SIDE / (averaged * step)
    first = (start - low) / (averaged * step) + way * (0.5 - MARGIN) - 0.5
    return slice(low + step // 2, low + count, step), averaged, first, way


def features(points: Floats, window: Window, *, height: int) -> Floats:
    """Give what the network sees (8, GRID, GRID): grey, its rank, x, y, r², the box's shape, size and contrast."""
    x0, y0, x1, y1 = window
    inside = points[MARGIN:-MARGIN, MARGIN:-MARGIN]
    spread = inside.std() + np.float32(1e-3)
    grey = np.clip((points - inside.mean()) / spread, -4, 4)
    rank = np.searchsorted(np.sort(inside, axis=None), points.ravel()).reshape(points.shape) / inside.size * 2 - 1
    y, x = (2 * (np.mgrid[:GRID, :GRID] - MARGIN) + 1) / SIDE - 1
    shape = np.log((x1 - x0) / (y1 - y0))
    size = np.log(np.sqrt((x1 - x0) * (y1 - y0)) / height) + 2
    flat = (np.full_like(points, value) for value in (shape, size, np.log(spread) + 3))
    return np.stack([grey, rank, x, y, x**2 + y**2, *flat]).astype(np.float32)


def run(image: Floats, *, weights: Mapping[str, Floats]) -> Floats:
    """Run the network, a U-Net of four scales that adds on its way up: (8, GRID, GRID) to logits (GRID, GRID)."""
    skipped, x = [], image
    for scale in ("e1", "e2", "e3"):
        skipped.append(_block(x, scale, weights))
        channels, rows, columns = skipped[-1].shape
        x = skipped[-1].reshape(channels, rows // 2, 2, columns // 2, 2).max(axis=(2, 4))
    x = _block(x, "e4", weights)
    for scale in ("3", "2", "1"):
        x = _convolve(x, f"u{scale}", weights).repeat(2, axis=1).repeat(2, axis=2)
        x = _block(x + skipped.pop(), f"d{scale}", weights)
    logits: Floats = _convolve(x, "out", weights, rectify=False)[0]
    return logits


def _block(x: Floats, name: str, weights: Mapping[str, Floats]) -> Floats:
    """Run the convolutions of a block one after the other."""
    number = 0
    while f"{name}.{number}.weight" in weights:
        x = _convolve(x, f"{name}.{number}", weights)
        number += 1
    return x


def _convolve(x: Floats, name: str, weights: Mapping[str, Floats], *, rectify: bool = True) -> Floats:
    """Convolve (C, H, W) to (O, H, W), zeros around; ReLU after it."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    (channels, height, width), side = x.shape, kernel.shape[-1]
    stacked = x
    if side > 1:
        padded = np.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        stacked = np.empty((channels, side, side, height, width), dtype=np.float32)
        for row in range(side):
            for column in range(side):
                stacked[:, row, column] = padded[:, row : row + height, column : column + width]
    sums: Floats = kernel.reshape(len(kernel), -1) @ stacked.reshape(-1, height * width) + bias[:, None]
    return (np.maximum(sums, 0) if rectify else sums).reshape(-1, height, width)
