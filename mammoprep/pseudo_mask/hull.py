"""Hulls: what encloses the bright side of a box, and the ellipse that needs no grey value."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from mammoprep.pseudo_mask.recipe import Mask, Recipe

MOST_POINTS = 1000
"""Contour points given to a hull, which takes 2 microseconds for each; of more, every n-th is."""


Contour = NDArray[np.int32]
"""Boundary pixels (N, 1, 2) of a component, x and y, in order."""


def contours(bright: Mask) -> Sequence[Contour]:
    """Give the outer contour of each 8-connected component."""
    found: Sequence[Any] = cv2.findContours(bright.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    return found


def enclose(bright: Mask, outlines: Sequence[Contour], *, recipe: Recipe) -> Mask:
    """Add what one hull around all components encloses; it is spanned by the centres of their outer boundary pixels."""
    if recipe.hull == "none":
        return bright
    points = np.concatenate(outlines)[:, 0]
    points = points[:: 1 + len(points) // MOST_POINTS]
    cloud = shapely.linestrings(np.append(points, points[:1], axis=0))  # made in a twentieth of a multipoint's time
    if recipe.hull == "concave":
        hull = shapely.concave_hull(cloud, ratio=recipe.hull_ratio)
    else:
        hull = shapely.convex_hull(cloud)
    if recipe.hull == "alpha" and hull.area > 0:  # points on one line have no triangles
        hull = _alpha_shape(points, reach=max(bright.shape) / 2)
    return _with_hull(bright, hull)


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


def _with_hull(bright: Mask, hull: Any) -> Mask:
    """Add the pixels whose centre, at whole x and y, lies in a hull with whole-numbered corners or on its edge."""
    filled, edge = np.zeros((2, *bright.shape), dtype=np.uint8)
    rings = [shapely.get_coordinates(part).astype(np.int32) for part in shapely.get_parts(hull)]
    cv2.fillPoly(filled, rings, 1)
    cv2.polylines(edge, rings, True, 1)
    y, x = np.divmod(np.flatnonzero(edge.view(np.bool_) > bright), bright.shape[1])
    shapely.prepare(hull)
    filled[y, x] = shapely.intersects_xy(hull, x, y)  # OpenCV also fills the pixels that an edge only grazes
    joined: Mask = bright | filled.view(np.bool_)
    return joined


def inscribed_ellipse(height: int, width: int) -> Mask:
    """Give the ellipse that touches all sides of a box: every pixel whose centre lies in it, at least one."""
    y = (2 * np.arange(height)[:, None] + 1) / height - 1
    x = (2 * np.arange(width)[None, :] + 1) / width - 1
    ellipse: Mask = x**2 + y**2 <= 1
    return ellipse
