"""A mask as the outline that a browser draws: an SVG path along the edges of its pixels."""

from collections.abc import Iterator

import numpy as np

from mammoprep.panoptic import Mask

_Corner = tuple[int, int]


def path(mask: Mask) -> str:
    """Give the SVG path of a mask (H, W): a ring around each part and each hole, filled by the even-odd rule.

    It runs along the edges of the pixels, pixel (row r, column c) being the square from (c, r) to (c + 1, r + 1), so
    that filling it gives back the mask at any zoom. Empty for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return ""
    y, x = int(rows[0]), int(columns[0])
    return "".join(_ring(corners, x=x, y=y) for corners in _rings(mask[y : rows[-1] + 1, x : columns[-1] + 1]))


def _ring(corners: list[_Corner], *, x: int, y: int) -> str:
    """Write a ring as a start and the steps from corner to corner, across and down in turn."""
    left, top = corners[0]
    steps = "".join(
        f"h{other[0] - corner[0]}" if other[1] == corner[1] else f"v{other[1] - corner[1]}"
        for corner, other in zip(corners, corners[1:], strict=False)
    )
    return f"M{x + left} {y + top}{steps}z"


def _rings(mask: Mask) -> Iterator[list[_Corner]]:
    """Yield the corners of each closed line of pixel edges, the mask on its right hand."""
    ends = _edges(mask)
    while ends:
        start = next(iter(ends))  # the left end of an upper edge, before which none goes the same way: a corner
        corners, point, way = [], start, (0, 0)
        while True:
            end = ends[point].pop()
            if not ends[point]:
                del ends[point]
            step = (end[0] - point[0], end[1] - point[1])
            if step != way:
                corners.append(point)
            point, way = end, step
            if point == start:
                break
        yield corners


def _edges(mask: Mask) -> dict[_Corner, list[_Corner]]:
    """Give where the edges lead from each corner, the upper ones first, row after row; (x, y) in pixels."""
    around = np.pad(mask, 1)
    inside = around[1:-1, 1:-1]
    sides = (
        (around[:-2, 1:-1], (0, 0), (1, 0)),  # above: to the right
        (around[1:-1, 2:], (1, 0), (1, 1)),  # right: down
        (around[2:, 1:-1], (1, 1), (0, 1)),  # below: to the left
        (around[1:-1, :-2], (0, 1), (0, 0)),  # left: up
    )
    ends: dict[_Corner, list[_Corner]] = {}
    for neighbour, start, end in sides:
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            ends.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    return ends
