"""The bright side of a box: Gaussian blur, adaptive Otsu threshold, hull (M-ODISE, arXiv 2407.14326)."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu

from mammoprep.pseudo_mask.hull import Contour, contours, enclose, inscribed_ellipse
from mammoprep.pseudo_mask.recipe import Mask, Method, Recipe, Threshold, Window

CLASSES: dict[Threshold, int] = {"otsu": 2, "multi-otsu": 3}
"""Classes of grey that each threshold separates, in the order in which they are tried; the brightest is taken."""
PLAUSIBLE_SHARE = (0.05, 0.90)
"""Shares of the box between which a foreground is believed. A lesion that touches all four sides of its box fills about
pi/4 of it; nearly all of it means that no edge was found, next to nothing that a vessel or a speck was."""
PLAUSIBLE_BORDER = 0.5
"""Share of the box's outermost pixels above which the foreground is what surrounds the lesion, not the lesion."""
LEAST_CONTRAST = 1.0
"""Range of the blurred box, in pixel values, below which there is only rounding noise to separate."""
LARGEST = 256
"""Longer side, in pixels, to which a box is reduced first where the recipe's lengths are the box's."""
LARGEST_EXACT = 384
"""Longer side, in pixels, above which a blur of sigma LEAST_WIDE or more is computed at every second pixel."""
LEAST_WIDE = 4.0
_BINS = 256  # as in scikit-image's threshold_otsu


def separate(
    pixels: NDArray[np.uint16], window: Window, within: Mask, *, recipe: Recipe
) -> tuple[Mask, Method, float | None]:
    """Give the mask (h, w) of a window of an image (H, W), how it was found, and the threshold; never empty.

    Only the pixels of `within` (h, w) are separated. The methods are tried from the recipe's on until a foreground is
    plausible; the inscribed ellipse is the last.
    """
    if recipe.unit == "box" and max(within.shape) > LARGEST:
        return _separate_reduced(pixels, window, within, recipe=recipe)
    unit = recipe.unit_in_pixels(*within.shape)
    sigma, height, width = recipe.sigma * unit, *within.shape
    halved = max(height, width) > LARGEST_EXACT and sigma >= LEAST_WIDE
    blurred = (_blur_halved if halved else _blur)(pixels, window, sigma=sigma)
    valid = np.ascontiguousarray(within[::2, ::2]) if halved else within
    if recipe.centre:
        blurred = _centred(blurred, valid, weight=recipe.centre)
    methods = list(CLASSES)
    for method in methods[methods.index(recipe.threshold) :]:
        threshold = _otsu(blurred, valid, classes=CLASSES[method])
        if threshold is None:
            continue
        fine = cv2.resize(blurred, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR) if halved else blurred
        bright = (fine[:height, :width] > threshold) & within
        bright, outlines = _without_specks(bright, min_area=recipe.min_area * unit**2)
        if _plausible(bright, within):
            return enclose(bright, outlines, recipe=recipe), method, threshold
    return inscribed_ellipse(height, width), "ellipse", None


def _separate_reduced(
    pixels: NDArray[np.uint16], window: Window, within: Mask, *, recipe: Recipe
) -> tuple[Mask, Method, float | None]:
    """Do the same on the window reduced to LARGEST, without what surrounds it."""
    (height, width), (x0, y0, x1, y1) = within.shape, window
    scale = LARGEST / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    step = max(1, int(0.5 / scale))  # twice as fine as needed: of larger boxes every n-th pixel is averaged
    sampled = (
        pixels[y0 + step // 2 : y1 : step, x0 + step // 2 : x1 : step]
        if min(height, width) > step
        else pixels[y0:y1, x0:x1]
    )
    small: NDArray[Any] = cv2.resize(sampled, size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(within.view(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
    found, method, threshold = separate(small, (0, 0, *size), inside, recipe=recipe)
    enlarged = cv2.resize(found * np.uint8(255), (width, height), interpolation=cv2.INTER_LINEAR) > 127
    return enlarged, method, threshold


def _blur(pixels: NDArray[np.uint16], window: Window, *, sigma: float) -> NDArray[np.float32]:
    """Blur a window as if the whole image were blurred: kernel and margin both end at 3 sigma."""
    x0, y0, x1, y1 = window
    margin = math.ceil(3 * sigma)
    top, left = max(y0 - margin, 0), max(x0 - margin, 0)
    blurred = _gaussian(pixels[top : y1 + margin, left : x1 + margin], radius=margin, sigma=sigma)
    return blurred[y0 - top : y1 - top, x0 - left : x1 - left]


def _blur_halved(pixels: NDArray[np.uint16], window: Window, *, sigma: float) -> NDArray[np.float32]:
    """Do the same at every second pixel, (h/2, w/2) rounded up: within 1 % of the range once interpolated linearly."""
    (height, width), (x0, y0, x1, y1) = pixels.shape, window
    margin = 2 * math.ceil(1.5 * sigma)
    top, left, bottom, right = y0 - margin, x0 - margin, y1 + margin + (y1 - y0) % 2, x1 + margin + (x1 - x0) % 2
    region: NDArray[Any] = pixels[max(top, 0) : bottom, max(left, 0) : right]
    beyond = ((max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)))
    if beyond != ((0, 0), (0, 0)):
        region = np.pad(region, beyond, mode="edge")
    means = cv2.resize(region, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    # a mean adds a variance of 1/4, linear interpolation half a pixel beside its centre one of 3/4
    blurred = _gaussian(means, radius=margin // 2, sigma=math.sqrt(sigma**2 - 1) / 2)
    return np.ascontiguousarray(blurred[margin // 2 : -margin // 2, margin // 2 : -margin // 2])


def _gaussian(pixels: NDArray[Any], *, radius: int, sigma: float) -> NDArray[Any]:
    """Blur pixels (H, W) as floats; the kernel ends at the radius, and the edge is continued."""
    size = (2 * radius + 1, 2 * radius + 1)
    return cv2.GaussianBlur(pixels.astype(np.float32), size, sigma, borderType=cv2.BORDER_REPLICATE)


def _centred(blurred: NDArray[np.float32], within: Mask, *, weight: float) -> NDArray[np.float32]:
    """Darken a blurred box outwards: by `weight` standard deviations of its grey at r = 1, and with r² beyond."""
    _, deviation = cv2.meanStdDev(blurred, mask=within.view(np.uint8))
    height, width = blurred.shape
    y, x = ((2 * np.arange(side, dtype=np.float32) + 1) / side - 1 for side in (height, width))
    centred: NDArray[np.float32] = blurred - np.float32(weight * deviation.item()) * np.add.outer(y**2, x**2)
    return centred


def _otsu(blurred: NDArray[np.float32], within: Mask, *, classes: int) -> float | None:
    """Give the threshold below the brightest class; None where there are fewer greys than classes."""
    valid = within.view(np.uint8)
    low, high, _, _ = cv2.minMaxLoc(blurred, mask=valid)
    if high - low < LEAST_CONTRAST:
        return None
    beyond = high + (high - low) / 1e4  # calcHist's upper end is exclusive
    counts = cv2.calcHist([blurred], [0], valid, [_BINS], [low, beyond]).ravel()  # (256, 1) before OpenCV 5
    if np.count_nonzero(counts) < classes:
        return None
    centres = low + (np.arange(_BINS) + 0.5) * (beyond - low) / _BINS
    return float(threshold_multiotsu(classes=classes, hist=(counts, centres))[-1])  # type: ignore[no-untyped-call]


def _without_specks(bright: Mask, *, min_area: float) -> tuple[Mask, list[Contour]]:
    """Keep the 8-connected components of `min_area` pixels or more, holes included; the largest where none is.

    Gives the mask and the outer contours of what is kept.
    """
    outlines = contours(bright)
    # Pick's theorem, exact for a chain of pixel centres, and far cheaper than labelling every pixel
    areas = [cv2.contourArea(contour) + len(contour) / 2 + 1 for contour in outlines]
    least = min(min_area, max(areas))
    kept = bright.view(np.uint8).copy()
    cv2.drawContours(
        kept, [each for each, area in zip(outlines, areas, strict=True) if area < least], -1, 0, cv2.FILLED
    )
    return kept.view(np.bool_), [each for each, area in zip(outlines, areas, strict=True) if area >= least]


def _plausible(bright: Mask, within: Mask) -> bool:
    """Say whether a foreground can be a lesion: not too small, not too large, not what surrounds it."""
    least, most = PLAUSIBLE_SHARE
    share = np.count_nonzero(bright) / np.count_nonzero(within)
    border = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    return bool(least <= share <= most and border.mean() <= PLAUSIBLE_BORDER)
