"""A mask as the outline that a browser draws: an SVG path along the edges of its pixels."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mammoprep import panoptic
from mammoprep.panoptic import Mask

_Steps = dict[int, int]
"""Where straight lines lead from each corner (x, y), which is numbered y · (W + 1) + x."""


def path(mask: Mask) -> str:
    """Give the SVG path of a mask (H, W): a ring around each part and each hole, filled by the even-odd rule.

    It runs along the edges of the pixels, pixel (row r, column c) being the square from (c, r) to (c + 1, r + 1), so
    that filling it gives back the mask at any zoom. Empty for an empty mask.
    """
    x, y, width, height = panoptic.mask_box(mask)
    if not width:
        return ""
    crop = mask[y : y + height, x : x + width]
    return "".join(_write(ring, pitch=crop.shape[1] + 1, x=x, y=y) for ring in _rings(crop))


def _write(ring: list[int], *, pitch: int, x: int, y: int) -> str:
    """Write a ring of corners as a start and the steps that follow, across and down in turn; `z` is the last."""
    rows, columns = np.divmod(np.array(ring), pitch)
    across, down = np.diff(columns)[::2].tolist(), np.diff(rows)[1::2].tolist()
    steps = "".join(f"h{right}v{below}" for right, below in zip(across, [*down, 0], strict=True))
    return f"M{x + columns[0]} {y + rows[0]}{steps.removesuffix('v0')}z"


def _rings(mask: Mask) -> Iterator[list[int]]:
    """Yield the corners of each closed line of pixel edges, the mask on its right hand."""
    pitch, around = mask.shape[1] + 1, np.pad(mask, 1).view(np.int8)
    line, first, last, sign = _runs(np.diff(around[:, 1:-1], axis=0))
    right, left = _steps(line * pitch + first, line * pitch + last, sign)
    line, first, last, sign = _runs(np.diff(around[1:-1], axis=1).T)
    up, down = _steps(last * pitch + line, first * pitch + line, sign)
    while right:
        start, corner = next(iter(right.items()))
        del right[start]
        ring = [start, corner]
        while (corner := _take(down, up, corner)) != start:
            ring.append(corner)
            corner = _take(right, left, corner)
            ring.append(corner)
        yield ring


def _take(one: _Steps, other: _Steps, corner: int) -> int:
    """Follow the line that begins at a corner, once; where pixels touch by their corners there are two."""
    end = one.pop(corner, None)
    return other.pop(corner) if end is None else end


def _steps(start: NDArray[np.intp], end: NDArray[np.intp], sign: NDArray[np.int8]) -> tuple[_Steps, _Steps]:
    """Give the lines that lead from start to end where the sign is 1, and from end to start where it is -1."""
    forth, back = sign > 0, sign < 0
    return (
        dict(zip(start[forth].tolist(), end[forth].tolist(), strict=True)),
        dict(zip(end[back].tolist(), start[back].tolist(), strict=True)),
    )


def _runs(edges: NDArray[np.int8]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.int8]]:
    """Give the runs of equal values in rows of 1 (the mask begins), -1 (it ends) and 0: row, start, end, value."""
    pitch = edges.shape[1] + 1
    flat = np.pad(edges, ((0, 0), (0, 1))).ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=np.int8(0)))
    starts = np.flatnonzero(flat[changes])
    line, first = np.divmod(changes[starts], pitch)
    return line, first, changes[starts + 1] - line * pitch, flat[changes[starts]]
