"""Where the breast is in a mammogram."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""A boolean mask (H, W)."""

_SIDE = 512  # long side, in pixels, of the reduced image in which the region is found
_SHARE = 0.08  # of the way from background to tissue: above a scanner's haze, below the fat under the skin
_FLOOR = 0.01  # of white; darker than this is black in every mammogram
_TISSUE = 0.5  # of the bright half: a darker half that comes this close is no background
_BRUSH = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))  # what is thinner, such as a paddle's edge, lets go
_STRANDS = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))  # fat between strands of tissue is breast
_MARGIN = 0.02  # of the image's long side, left around the breast by a crop: 6 mm of 30 cm
_GAP = 64  # a dark stretch of the image's border up to this long, with breast on both sides, is breast too


def breast(pixels: NDArray[np.uint16]) -> Mask:
    """Find the breast (H, W) in a rendered mammogram: the largest bright component, holes filled.

    Nothing of a black image is breast, all of an image without background is. The outline is right to two pixels of the
    image reduced to 512.
    """
    return enlarge(find(pixels), *pixels.shape)


def find(pixels: NDArray[np.uint16]) -> Mask:
    """Find the breast as `breast` does, in the image reduced to 512 pixels on its longer side."""
    height, width = pixels.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.blur(cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST_EXACT), (3, 3))
    bright = (small > _threshold(small)).astype(np.uint8)
    core = _largest(cv2.morphologyEx(bright, cv2.MORPH_OPEN, _BRUSH))
    tissue = cv2.bitwise_and(cv2.dilate(core, _BRUSH), bright)
    closed = cv2.morphologyEx(tissue, cv2.MORPH_CLOSE, _STRANDS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return _filled(cv2.bitwise_or(tissue, closed)).view(np.bool_)


def enlarge(found: Mask, height: int, width: int, *, part: tuple[int, int, int, int] | None = None) -> Mask:
    """Bring what `find` gives to the size of the image (height, width), or to a part (x0, y0, x1, y1) of it."""
    x0, y0, x1, y1 = part or (0, 0, width, height)
    rows, columns = found.shape
    across, down = columns / width, rows / height
    centres = np.array([[across, 0, (x0 + 0.5) * across - 0.5], [0, down, (y0 + 0.5) * down - 0.5]])
    grey, flags = found.view(np.uint8) * 255, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    mask: Mask = cv2.warpAffine(grey, centres, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_REPLICATE) > 127
    return mask


def crop(found: Mask, height: int, width: int) -> tuple[int, int, int, int]:
    """Give the part (x0, y0, x1, y1), half-open, of an image of (height, width) that holds the breast and a margin.

    Of an image without breast it is the whole.
    """
    x, y, columns, rows = cv2.boundingRect(found.view(np.uint8))
    if not columns:
        return (0, 0, width, height)
    scale_x, scale_y, margin = width / found.shape[1], height / found.shape[0], _MARGIN * max(height, width)
    return (
        max(0, math.floor(x * scale_x - margin)),
        max(0, math.floor(y * scale_y - margin)),
        min(width, math.ceil((x + columns) * scale_x + margin)),
        min(height, math.ceil((y + rows) * scale_y + margin)),
    )


def faces_left(found: Mask) -> bool | None:
    """Tell whether the chest wall is on the right: more of the breast lies there. None where neither side has more."""
    columns = np.count_nonzero(found, axis=0)
    half = columns.size // 2
    left, right = int(columns[:half].sum()), int(columns[columns.size - half :].sum())
    return None if left == right else right > left


def _threshold(small: NDArray[Any]) -> float:
    """Give the grey value above which a pixel is breast."""
    levels = (small >> 8).astype(np.uint8)
    otsu, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_OTSU)
    counts = np.bincount(levels.ravel(), minlength=256)
    cut = int(otsu) + 1
    background = float(counts[:cut].argmax())
    brighter = np.cumsum(counts[cut:])
    tissue = float(cut + np.searchsorted(brighter, brighter[-1] / 2)) if brighter.size and brighter[-1] else background
    if background >= _TISSUE * tissue:
        background = 0.0
    return max(background + _SHARE * (tissue - background), _FLOOR * 255) * 256


def _largest(mask: NDArray[Any]) -> NDArray[Any]:
    """Keep the largest component; of two equal ones the upper."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return (labels == areas.argmax() + 1).astype(np.uint8) if areas.size else mask


def _filled(mask: NDArray[Any]) -> NDArray[Any]:
    """Fill what the mask encloses, alone or with the border of the image."""
    for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        lit = np.flatnonzero(side)
        for start, stop in zip(lit[:-1], lit[1:], strict=True):
            if stop - start <= _GAP:
                side[start:stop] = 1
    outside = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(outside, None, (0, 0), 2)
    filled: NDArray[Any] = (outside[1:-1, 1:-1] != 2).astype(np.uint8)
    return filled
