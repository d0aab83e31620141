"""A radiologist's box turned into a mask: Gaussian blur, adaptive Otsu threshold, hull (M-ODISE, arXiv 2407.14326)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import Delaunay
from skimage.filters import threshold_multiotsu

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.records import Box

Mask = NDArray[np.bool_]
"""A boolean mask (H, W)."""
Threshold = Literal["otsu", "multi-otsu"]
Method = Literal["otsu", "multi-otsu", "ellipse"]
Hull = Literal["concave", "alpha", "convex", "none"]

CLASSES: dict[Threshold, int] = {"otsu": 2, "multi-otsu": 3}
"""Classes of grey that each threshold separates, in the order in which they are tried; the brightest is taken."""
PLAUSIBLE_SHARE = (0.05, 0.90)
"""Shares of the box between which a foreground is believed. A lesion that touches all four sides of its box fills about
pi/4 of it; nearly all of it means that no edge was found, next to nothing that a vessel or a speck was."""
PLAUSIBLE_BORDER = 0.5
"""Share of the box's outermost pixels above which the foreground is what surrounds the lesion, not the lesion."""
LEAST_TISSUE = 0.25
"""Share of the box that must be breast; below it the tissue is a rim, and the threshold is taken from all pixels."""
LEAST_CONTRAST = 1.0
"""Range of the blurred box, in pixel values, below which there is only rounding noise to separate."""
MOST_POINTS = 1000
"""Contour points given to a hull, which takes 2 microseconds for each; of more, every n-th is."""
_BINS = 256  # as in scikit-image's threshold_otsu


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a box becomes a mask; the defaults are the paper's.

    `sigma` of the blur in native pixels, 0 for none. `threshold` is the method tried first. `hull_ratio` in [0, 1] is
    shapely's, from the tightest concave hull to the convex one; the paper gives none, and 0.2 is as near as any to what
    `alphashape` makes. Components under `min_area` native pixels are left out unless there is no larger one; the
    default is a disc of the blur's sigma: nothing smaller survives the blur.
    """

    sigma: float = 7.0
    threshold: Threshold = "otsu"
    hull: Hull = "concave"
    hull_ratio: float = 0.2
    min_area: int = 150

    def __post_init__(self) -> None:
        """Refuse unknown names and numbers out of range."""
        for kind, name, known in (("threshold", self.threshold, Threshold), ("hull", self.hull, Hull)):
            if name not in get_args(known):
                raise UnknownNameError(name, kind=kind, known=get_args(known))
        for option, value, most in (("sigma", self.sigma, 1000), ("hull-ratio", self.hull_ratio, 1)):
            if not 0 <= value <= most:
                raise MammoprepError(f"--{option} is {value}. Give a number from 0 to {most}.")
        if self.min_area < 0:
            raise MammoprepError(f"--min-area is {self.min_area}. Give a number of pixels, 0 or more.")


PAPER = Recipe()


@dataclass(frozen=True)
class PseudoMask:
    """A mask (H, W) of the whole image and how it came about.

    `threshold` is in pixel values, 0 … 65535, None for the ellipse. `fallback` says that `method` is not the one that
    the recipe tries first.
    """

    mask: Mask
    method: Method
    threshold: float | None
    fallback: bool


def segment(pixels: NDArray[np.uint16], box: Box, *, tissue: Mask | None = None, recipe: Recipe = PAPER) -> PseudoMask:
    """Find the lesion in a box of an image (H, W): its bright side, enclosed by one hull, never empty, all in the box.

    Where `tissue` (H, W) is given, only the box's pixels inside it are separated. Raises MammoprepError where the box
    holds no pixel of the image (see `clip`).
    """
    height, width = pixels.shape
    clipped = clip(box, height=height, width=width)
    if clipped is None:
        raise MammoprepError(f"{box} holds no pixel of the {width} x {height} image. Correct it or leave it out.")
    x0, y0, x1, y1 = clipped
    blurred = _blur(pixels, clipped, sigma=recipe.sigma)
    within = np.ones(blurred.shape, dtype=np.bool_)
    if tissue is not None and tissue[y0:y1, x0:x1].mean() >= LEAST_TISSUE:
        within = np.ascontiguousarray(tissue[y0:y1, x0:x1])
    found, method, threshold = _adaptive(blurred, within, recipe=recipe)
    mask = np.zeros(pixels.shape, dtype=np.bool_)
    mask[y0:y1, x0:x1] = found
    return PseudoMask(mask, method, threshold, fallback=method != recipe.threshold)


def clip(box: Box, *, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Give the pixels (x0, y0, x1, y1), half-open, whose centre lies in the box and the image; None where none does."""
    if not (box.x0 < box.x1 and box.y0 < box.y1):
        return None
    x0, x1 = (math.ceil(min(max(x, 0), width) - 0.5) for x in (box.x0, box.x1))
    y0, y1 = (math.ceil(min(max(y, 0), height) - 0.5) for y in (box.y0, box.y1))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _blur(pixels: NDArray[np.uint16], window: tuple[int, int, int, int], *, sigma: float) -> NDArray[np.float32]:
    """Blur a window as if the whole image were blurred: kernel and margin both end at 3 sigma."""
    x0, y0, x1, y1 = window
    margin = math.ceil(3 * sigma)
    top, left = max(y0 - margin, 0), max(x0 - margin, 0)
    region = pixels[top : y1 + margin, left : x1 + margin].astype(np.float32)
    size = (2 * margin + 1, 2 * margin + 1)
    blurred: NDArray[Any] = cv2.GaussianBlur(region, size, sigma, borderType=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(blurred[y0 - top : y1 - top, x0 - left : x1 - left])


def _adaptive(blurred: NDArray[np.float32], within: Mask, *, recipe: Recipe) -> tuple[Mask, Method, float | None]:
    """Try the thresholds from the recipe's on until a foreground is plausible; the inscribed ellipse is the last."""
    methods = list(CLASSES)
    for method in methods[methods.index(recipe.threshold) :]:
        threshold = _otsu(blurred, within, classes=CLASSES[method])
        if threshold is None:
            continue
        bright = _without_specks((blurred > threshold) & within, min_area=recipe.min_area)
        if _plausible(bright, within):
            return _enclose(bright, recipe=recipe), method, threshold
    return _inscribed_ellipse(*blurred.shape), "ellipse", None


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


def _without_specks(bright: Mask, *, min_area: int) -> Mask:
    """Keep the 8-connected components of `min_area` pixels or more, holes included; the largest where none is."""
    contours = _contours(bright)
    # Pick's theorem, exact for a chain of pixel centres, and far cheaper than labelling every pixel
    areas = [cv2.contourArea(contour) + len(contour) / 2 + 1 for contour in contours]
    least = min(min_area, max(areas))
    large = [contour for contour, area in zip(contours, areas, strict=True) if area >= least]
    kept = np.zeros(bright.shape, dtype=np.uint8)
    cv2.drawContours(kept, large, -1, 1, cv2.FILLED)
    return kept.view(np.bool_) & bright


def _contours(bright: Mask) -> Sequence[NDArray[np.int32]]:
    """Give the outer contour (N, 1, 2) of each 8-connected component: x, y of its boundary pixels in order."""
    contours: Sequence[Any] = cv2.findContours(bright.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return contours


def _plausible(bright: Mask, within: Mask) -> bool:
    """Say whether a foreground can be a lesion: not too small, not too large, not what surrounds it."""
    least, most = PLAUSIBLE_SHARE
    share = np.count_nonzero(bright) / np.count_nonzero(within)
    border = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    return bool(least <= share <= most and border.mean() <= PLAUSIBLE_BORDER)


def _enclose(bright: Mask, *, recipe: Recipe) -> Mask:
    """Add what one hull around all components encloses; it is spanned by the centres of their boundary pixels."""
    if recipe.hull == "none":
        return bright
    points = np.concatenate(_contours(bright))[:, 0]
    points = points[:: 1 + len(points) // MOST_POINTS]
    cloud = shapely.multipoints(points)
    hull = shapely.convex_hull(cloud)
    if recipe.hull == "concave":
        hull = shapely.concave_hull(cloud, ratio=recipe.hull_ratio)
    elif recipe.hull == "alpha" and hull.area > 0:  # points on one line have no triangles
        hull = _alpha_shape(points, reach=max(bright.shape) / 2)
    return bright | _rasterise(hull, *bright.shape)


def _alpha_shape(points: NDArray[np.int32], *, reach: float) -> Any:
    """Give the alpha shape of points (N, 2), alpha = 1 / reach, without holes: what the library `alphashape` defines.

    It is made of the Delaunay triangles whose circumradius is under `reach`. Between contour points these grow as wide
    as the lesion's inscribed discs, so half of the box's long side fills every lesion.
    """
    triangles: NDArray[np.int32] = points[Delaunay(points).simplices]
    edges = np.roll(triangles, -1, axis=1) - triangles.astype(np.float64)
    lengths = np.hypot(edges[..., 0], edges[..., 1])
    area_twice = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0])
    kept = triangles[lengths.prod(axis=1) < 2 * area_twice * reach]
    parts = shapely.get_parts(shapely.coverage_union_all(shapely.polygons(kept)))
    return shapely.multipolygons(shapely.polygons(shapely.get_exterior_ring(parts)))


def _rasterise(hull: Any, height: int, width: int) -> Mask:
    """Give the pixels whose centre, at whole x and y, lies in a hull with whole-numbered corners or on its edge."""
    filled, edge = np.zeros((2, height, width), dtype=np.uint8)
    rings = [shapely.get_coordinates(part).astype(np.int32) for part in shapely.get_parts(hull)]
    cv2.fillPoly(filled, rings, 1)
    cv2.polylines(edge, rings, True, 1)
    y, x = np.divmod(np.flatnonzero(edge.view(np.bool_)), width)
    shapely.prepare(hull)
    filled[y, x] = shapely.intersects_xy(hull, x, y)  # OpenCV also fills the pixels that an edge only grazes
    return filled.view(np.bool_)


def _inscribed_ellipse(height: int, width: int) -> Mask:
    """Give the ellipse that touches all sides of a box: every pixel whose centre lies in it, at least one."""
    y = (2 * np.arange(height)[:, None] + 1) / height - 1
    x = (2 * np.arange(width)[None, :] + 1) / width - 1
    ellipse: Mask = x**2 + y**2 <= 1
    return ellipse
