"""Radiologists' outlines drawn as boolean masks: polygon, ellipse, stroke, run lengths, and unions of them."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mammoprep.errors import MammoprepError
from mammoprep.records import Ellipse, Outline, PointXY, Polygon, RunLengths, Stroke, Union

Mask = NDArray[np.bool_]
"""A boolean mask (H, W)."""
Crossings = tuple[NDArray[np.intp], NDArray[np.float64]]
"""Where the line through a row's pixel centres enters or leaves a shape: rows (N,) of the image and x (N,)."""

MOST_CROSSINGS = 2**22
"""Crossings of rows that a ring may have: a zigzag of 1,000 turns over a tall image, where a lesion has 2 a row."""
_FURTHEST = 2.0**31  # a coordinate beyond it is no pixel; below it, differences of coordinates stay exact enough


def draw(outline: Outline, *, height: int, width: int) -> Mask:
    """Draw an outline as a mask (height, width): a pixel belongs to it if and only if its centre lies inside.

    What leaves the image is clipped. Polygons follow the even-odd rule; one with fewer than three distinct points is a
    stroke of width 1. An outline too thin to hold a pixel centre takes the pixels under its points (an ellipse's: its
    centre), so no lesion vanishes. Raises MammoprepError for an outline without points, with a negative radius or
    width, or with coordinates that are no numbers, and for run lengths of another size or sum than the image's.
    """
    if isinstance(outline, RunLengths):
        return _decode(outline, height=height, width=width)
    if isinstance(outline, Union):
        union = np.zeros((height, width), dtype=np.bool_)
        for part in outline.parts:
            union |= draw(part, height=height, width=width)
        return union
    points = _points(outline)
    frame = np.zeros((height, width), dtype=np.bool_)
    drawn = [_fill(frame, crossings) for crossings in _shapes(outline, height=height)]
    if not any(drawn):
        for x, y in points:
            if 0 <= x < width and 0 <= y < height:
                frame[int(y), int(x)] = True
    return frame


def run_box(code: RunLengths) -> tuple[int, int, int, int] | None:
    """Give the bounding box x0, y0, x1, y1 (half-open) of a run-length code; None where it is empty.

    Raises MammoprepError as `draw` does.
    """
    counts, height = _counts(code), code.size[0]
    ends = np.cumsum(counts)
    filled = (np.arange(counts.size) % 2 == 1) & (counts > 0)
    if not filled.any():
        return None
    (left, top), (right, bottom) = np.divmod((ends - counts)[filled], height), np.divmod(ends[filled] - 1, height)
    if (left < right).any():  # a run that goes on in the next column touches the image's lower and upper edge
        top, bottom = np.array([0]), np.array([height - 1])
    return int(left[0]), int(top.min()), int(right[-1]) + 1, int(bottom.max()) + 1


def _decode(code: RunLengths, *, height: int, width: int) -> Mask:
    """Lay runs of 0 and 1 in turn down the columns."""
    if code.size != (height, width):
        raise MammoprepError(f"The run-length code is of an image of {code.size[0]}x{code.size[1]} pixels.")
    counts = _counts(code)
    runs = np.repeat(np.arange(counts.size) % 2 == 1, counts)
    return np.ascontiguousarray(runs.reshape(width, height).T)


def _counts(code: RunLengths) -> NDArray[np.int64]:
    """Give the run lengths of a code, which add up to the image's pixels."""
    height, width = code.size
    if isinstance(code.counts, str):
        counts = _unpack(code.counts)
    else:  # a number beyond those of NumPy is no run of an image, as a negative one
        counts = np.array([count if abs(count) < _FURTHEST else -1 for count in code.counts], dtype=np.int64)
    if counts.size == 0 or counts.min() < 0 or counts.max() > height * width or counts.sum() != height * width:
        raise MammoprepError("The run lengths do not add up to the image's pixels.")
    return counts


def _unpack(text: str) -> NDArray[np.int64]:
    """Give the run lengths that COCO packs into text (maskApi.c, rleToString).

    Each character but 48 is 5 bits of a number, the low ones first, bit 5 says that more follow, bit 4 of the last is
    the sign. From the fourth on a number is the difference to the run length two before it.
    """
    digits = np.frombuffer(text.encode("latin-1", "replace"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits & 32 == 0)
    lengths = np.diff(ends, prepend=-1)
    whole = ends.size > 0 and ends[-1] == digits.size - 1
    if not whole or digits.min() < 0 or digits.max() > 63 or lengths.max() > 7:
        raise MammoprepError("The run-length code is damaged.")
    places = np.arange(digits.size) - np.repeat(ends + 1 - lengths, lengths)
    numbers = np.add.reduceat((digits & 31) << (5 * places), ends + 1 - lengths)
    numbers -= np.where(digits[ends] & 16, 1 << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _points(outline: Polygon | Ellipse | Stroke) -> Sequence[PointXY]:
    """Give the points an outline is made of, once all its numbers are known to be usable."""
    if isinstance(outline, Ellipse):
        points: Sequence[PointXY] = ((outline.cx, outline.cy),)
        sizes: tuple[float, ...] = (outline.rx, outline.ry)
        angles: tuple[float, ...] = (outline.theta,)
    else:
        points, angles = outline.points, ()
        sizes = (outline.width,) if isinstance(outline, Stroke) else ()
    numbers = [number for point in points for number in point] + [*sizes, *angles]
    if not points or min(sizes, default=0) < 0 or not all(abs(number) < _FURTHEST for number in numbers):
        raise MammoprepError(
            f"{type(outline).__name__} without points, with a negative size or with a coordinate that is no number: "
            "correct it in the annotation file."
        )
    return points


def _shapes(outline: Polygon | Ellipse | Stroke, *, height: int) -> Iterator[Crossings]:
    """Yield the crossings of the simple shapes whose union an outline is."""
    match outline:
        case Ellipse():
            yield _ellipse_crossings(outline, height=height)
        case Polygon() if len(set(outline.points)) >= 3:
            yield _ring_crossings(np.array(outline.points, dtype=np.float64), height=height)
        case Polygon():
            yield from _shapes(Stroke(outline.points, width=1.0), height=height)
        case Stroke():
            radius = outline.width / 2
            for x, y in outline.points:
                yield _ellipse_crossings(Ellipse(x, y, radius, radius), height=height)
            points = np.array(outline.points, dtype=np.float64)
            for start, end in zip(points[:-1], points[1:], strict=True):
                yield _ring_crossings(_band(start, end, radius=radius), height=height)


def _band(start: NDArray[np.float64], end: NDArray[np.float64], *, radius: float) -> NDArray[np.float64]:
    """Give the rectangle (4, 2) of all points beside a segment that are at most `radius` away from it."""
    x, y = end - start
    side = np.array([-y, x]) * (radius / (np.hypot(x, y) or 1.0))
    return np.array([start + side, end + side, end - side, start - side])


def _rows(low: ArrayLike, high: ArrayLike, *, height: int) -> NDArray[np.intp]:
    """Give the half-open ranges of rows (2, N) whose centre lies in [low, high) and in the image."""
    return np.ceil(np.clip([low, high], 0, height) - 0.5).astype(np.intp)


def _ring_crossings(ring: NDArray[np.float64], *, height: int) -> Crossings:
    """Cross each edge of a ring (N, 2) with each row of the image that it passes."""
    (x0, y0), (x1, y1) = ring.T, np.roll(ring, -1, axis=0).T
    first, last = _rows(np.minimum(y0, y1), np.maximum(y0, y1), height=height)
    counts = last - first
    if counts.sum() > MOST_CROSSINGS:
        raise MammoprepError("The outline crosses the rows of the image more often than a lesion's can.")
    edge = np.repeat(np.arange(len(ring)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - first, counts)
    # multiplied before divided: for whole-numbered points each centre on an edge then falls to the same side of it
    x = x0[edge] + (row + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    return row, x


def _ellipse_crossings(ellipse: Ellipse, *, height: int) -> Crossings:
    """Solve the ellipse's equation for x in each row that it passes."""
    cosine, sine = np.cos(ellipse.theta), np.sin(ellipse.theta)
    reach_squared = (ellipse.rx * sine) ** 2 + (ellipse.ry * cosine) ** 2
    reach = np.sqrt(reach_squared)
    first, last = _rows(ellipse.cy - reach, ellipse.cy + reach, height=height)
    row = np.arange(first, last)
    dy = row + 0.5 - ellipse.cy
    middle = ellipse.cx + dy * cosine * sine * (ellipse.rx**2 - ellipse.ry**2) / reach_squared
    half = ellipse.rx * ellipse.ry * np.sqrt(np.maximum(reach_squared - dy**2, 0)) / reach_squared
    return np.tile(row, 2), np.concatenate([middle - half, middle + half])


def _fill(frame: Mask, crossings: Crossings) -> bool:
    """Set the pixels whose centre lies right of an odd number of crossings; say whether there were any."""
    rows, x = crossings
    if rows.size == 0:
        return False
    columns = np.ceil(np.clip(x, 0, frame.shape[1]) - 0.5).astype(np.intp)
    top, left = rows.min(), columns.min()
    bottom, right = rows.max() + 1, columns.max() + 1
    toggles = np.zeros((bottom - top, right - left), dtype=np.uint8)
    np.bitwise_xor.at(toggles, (rows - top, columns - left), 1)
    inside = np.bitwise_xor.accumulate(toggles, axis=1)[:, :-1].view(np.bool_)
    frame[top:bottom, left : right - 1] |= inside
    return bool(inside.any())
