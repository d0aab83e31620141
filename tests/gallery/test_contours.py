"""Paths: filled by the even-odd rule they give back the mask, whatever its shape."""

import re

import numpy as np
import pytest

from mammoprep.gallery import contours


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """Fill a path by the even-odd rule: a pixel is inside where an odd number of upright lines lie left of it."""
    crossings = np.zeros(shape, dtype=int)
    for ring in path.split("M")[1:]:
        start = re.match(r"(\d+) (\d+)", ring)
        x, y = int(start[1]), int(start[2])
        points = [(x, y)]
        for way, length in re.findall(r"([hv])(-?\d+)", ring):
            x, y = (x + int(length), y) if way == "h" else (x, y + int(length))
            points.append((x, y))
        for (x, top), (other, bottom) in zip(points, [*points[1:], points[0]], strict=True):
            assert x == other or top == bottom
            if x == other:
                crossings[min(top, bottom) : max(top, bottom), x:] += 1
    return crossings % 2 == 1


def test_square_is_four_corners():
    assert contours.path(mask_of("....", ".##.", ".##.")) == "M1 1h2v2h-2z"


def test_empty_mask_has_no_path():
    assert contours.path(np.zeros((3, 4), dtype=bool)) == ""


def test_hole_is_a_ring_of_its_own():
    path = contours.path(mask_of("###", "#.#", "###"))
    assert path.count("M") == 2
    assert not filled(path, (3, 3))[1, 1]


@pytest.mark.parametrize("rows", [("#.", ".#"), (".#", "#."), ("#.#", ".#.", "#.#")])
def test_pixels_that_touch_by_their_corners_stay_apart(rows):
    mask = mask_of(*rows)
    assert np.array_equal(filled(contours.path(mask), mask.shape), mask)


def test_filling_any_mask_gives_it_back():
    draw = np.random.default_rng(0)
    for _ in range(200):
        mask = draw.random(draw.integers(1, 12, 2)) < draw.random()
        assert np.array_equal(filled(contours.path(mask), mask.shape), mask)
