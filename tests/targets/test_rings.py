"""Polygons hold exactly the centres of a mask's pixels, holes and parts too."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mammoprep import outlines
from mammoprep.records import Polygon, Union
from mammoprep.targets.rings import count_holes, join, rings_of


def drawn(rings, shape):
    polygons = tuple(Polygon(tuple(map(tuple, ring.tolist()))) for ring in rings)
    return outlines.draw(Union(polygons), height=shape[0], width=shape[1])


def mask_of(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def test_a_pixel_is_a_diamond_round_its_centre():
    (ring,) = rings_of(mask_of("...", ".#."))
    assert sorted(map(tuple, ring.tolist())) == [(1.0, 1.5), (1.5, 1.0), (1.5, 2.0), (2.0, 1.5)]


def test_corners_on_a_straight_line_are_left_out():
    (ring,) = rings_of(np.ones((5, 7), dtype=bool))
    assert len(ring) == 8
    assert (ring.min(axis=0), ring.max(axis=0)) == (pytest.approx([0, 0]), pytest.approx([7, 5]))


def test_a_hole_is_tied_to_its_outline_and_parts_that_touch_at_a_corner_are_two():
    ringed, touching = mask_of("###", "#.#", "###"), mask_of("##..", "##..", "..##")
    assert (len(rings_of(ringed)), count_holes(ringed)) == (1, 1)
    assert (len(rings_of(touching)), count_holes(touching)) == (2, 0)
    assert (drawn(rings_of(ringed), (3, 3)) == ringed).all()


def test_a_notch_that_opens_at_a_corner_is_no_hole():
    assert count_holes(mask_of("##", "#.")) == 0
    assert count_holes(mask_of("####", "#..#", "###.")) == 0


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any))
@settings(max_examples=150, deadline=None)
def test_any_mask_comes_back_from_its_polygons_and_from_one_that_joins_them(mask):
    rings = rings_of(mask)
    assert (drawn(rings, mask.shape) == mask).all()
    assert (drawn([join(rings)], mask.shape) == mask).all()
    scale = np.array([mask.shape[1], mask.shape[0]])  # as fractions of six decimals, as YOLO has them
    assert (drawn([np.round(join(rings) / scale, 6) * scale], mask.shape) == mask).all()


def test_opencv_fills_a_plain_polygon_alike():
    mask = np.zeros((40, 40), np.uint8)
    cv2.ellipse(mask, (20, 18), (12, 7), 30, 0, 360, 1, cv2.FILLED)
    (ring,) = rings_of(mask.astype(bool))
    enlarged = cv2.fillPoly(np.zeros((400, 400), np.uint8), [np.rint(ring * 10).astype(np.int32)], 1)
    assert (enlarged[5::10, 5::10] == mask).all()
