"""Text that was drawn into an image's background: names and dates, but laterality markers too, which look the same.

What is looked for is three or more bright shapes of letters' size in a line, upright or turned by a quarter, each alone
in the dark. It is not read. Text over the breast, dark text on a bright label and letters lower than 0.5 % of the
image's longer side are not found. docs/measured.md has the rates.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 1200  # the image is reduced to at most this long a side by a whole factor, in pixels
_CONTRAST = 0.25 * 65535  # what is brighter than the background by this may be a letter
_DARK = 0.08 * 65535  # what is brighter than the background by no more is background
_LETTER = (5, 75)  # the longer side of a letter in reduced pixels
_MOST = 1000  # shapes that are compared with one another: some lines of any page
_LEAST = 3  # letters of a line


def shows_text(pixels: NDArray[np.uint16]) -> bool:
    """Tell whether lines of letters stand in the background of a rendered image (H, W)."""
    small = _reduced(pixels)
    background = float(np.percentile(small[::8, ::8], 1))
    bright = (small > background + _CONTRAST).view(np.uint8)
    outlines, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = [cv2.boundingRect(outline) for outline in outlines if len(outline) > 1]
    boxes = np.array(found, dtype=np.int64).reshape(-1, 4)
    sides = boxes[:, 2:].max(axis=1, initial=0)
    likely = boxes[(sides >= _LETTER[0]) & (sides <= _LETTER[1])]
    if not _have_line(likely):  # most images are done here
        return False
    return _have_line(likely[[_is_alone(small, box, background) for box in likely.tolist()]])


def _reduced(pixels: NDArray[np.uint16]) -> NDArray[Any]:
    height, width = pixels.shape
    factor = -(-max(height, width) // _SIDE)
    size = (max(1, width // factor), max(1, height // factor))
    small: NDArray[Any] = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)  # fast; thinner strokes fade
    return small


def _is_alone(small: NDArray[Any], box: list[int], background: float) -> bool:
    """Tell whether the frame two pixels around a box is dark."""
    x, y, width, height = box
    part = small[max(0, y - 2) : y + height + 2, max(0, x - 2) : x + width + 2]
    frame = np.concatenate((part[0], part[-1], part[:, 0], part[:, -1]))
    return bool(np.median(frame) <= background + _DARK)


def _have_line(boxes: NDArray[Any]) -> bool:
    """Tell whether boxes (N, 4) stand in a line, along the rows or the columns."""
    some = boxes[:_MOST].astype(np.float32)
    return _have_row(some) or _have_row(some[:, [1, 0, 3, 2]])


def _have_row(boxes: NDArray[Any]) -> bool:
    """Tell whether a box has two others beside it: of nearly its height, on its level, at most 1.5 heights away."""
    x, y, width, height = boxes.T[:, :, None]
    lower, higher = np.minimum(height, height.T), np.maximum(height, height.T)
    shared = np.minimum(y + height, (y + height).T) - np.maximum(y, y.T)
    gap = np.maximum(x, x.T) - np.minimum(x + width, (x + width).T)
    beside = (shared >= 0.6 * lower) & (higher <= 2.5 * lower) & (gap <= 1.5 * higher) & (lower >= _LETTER[0])
    return bool((beside.sum(axis=1) >= _LEAST).any())  # a box is beside itself
