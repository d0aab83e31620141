import math
import tracemalloc

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.outlines import draw, run_box
from mammoprep.records import Ellipse, Polygon, RunLengths, Stroke, Union

modest = settings(max_examples=60, deadline=None)


def rows(mask):
    return ["".join(".#"[int(pixel)] for pixel in row) for row in mask]


@pytest.mark.parametrize(
    "points",
    [
        ((1, 1), (4, 1), (4, 3), (1, 3)),
        ((1, 1), (4, 1), (4, 3), (1, 3), (1, 1)),
        ((1, 1), (1, 1), (4, 1), (4, 3), (1, 3), (1, 1), (1, 1)),
        ((1, 3), (4, 3), (4, 1), (1, 1)),
        ((1.5, 0.6), (4.4, 0.6), (4.4, 3.4), (1.5, 3.4)),
    ],
    ids=["open", "closed", "first point repeated", "other way round", "same centres inside"],
)
def test_polygon_takes_the_pixels_whose_centre_lies_inside(points):
    assert rows(draw(Polygon(points), height=4, width=5)) == [".....", ".###.", ".###.", "....."]


def test_polygon_wound_twice_around_a_place_leaves_it_out():
    outer, inner = ((0, 0), (5, 0), (5, 5), (0, 5), (0, 0)), ((1, 1), (3, 1), (3, 3), (1, 3), (1, 1))
    assert rows(draw(Polygon(outer + inner), height=5, width=5)) == ["#####", "#..##", "#..##", "#####", "#####"]


def test_bow_tie_has_two_wings():
    assert rows(draw(Polygon(((0, 0), (6, 3), (6, 0), (0, 3))), height=3, width=6)) == ["#....#", "######", "#....#"]


def test_polygons_that_share_a_diagonal_through_pixel_centres_share_no_pixel():
    lower = draw(Polygon(((0, 0), (7, 7), (0, 7))), height=7, width=7)
    upper = draw(Polygon(((0, 0), (7, 0), (7, 7))), height=7, width=7)
    assert np.array_equal(lower, ~upper)


def test_circle():
    assert rows(draw(Ellipse(2.5, 2.5, 1.2, 1.2), height=5, width=5)) == [".....", "..#..", ".###.", "..#..", "....."]


def test_ellipse_is_turned_from_the_x_axis_towards_the_y_axis():
    lying = draw(Ellipse(4.5, 4.5, 3.9, 1.2), height=9, width=9)
    assert rows(lying[3:6]) == ["..#####..", ".#######.", "..#####.."]
    assert np.array_equal(draw(Ellipse(4.5, 4.5, 3.9, 1.2, math.pi / 2), height=9, width=9), lying.T)
    falling = draw(Ellipse(4.5, 4.5, 3.9, 1.2, math.pi / 4), height=9, width=9)
    assert falling[2, 2]
    assert falling[6, 6]
    assert not falling[2, 6]


def test_stroke_has_round_ends():
    mask = draw(Stroke(((1, 3), (5, 3)), width=2), height=6, width=7)
    assert rows(mask) == [".......", ".......", "######.", "######.", ".......", "......."]


def test_stroke_follows_its_corner():
    mask = draw(Stroke(((0.5, 0.5), (4.5, 0.5), (4.5, 3.5)), width=1), height=4, width=6)
    assert rows(mask) == ["#####.", "....#.", "....#.", "....#."]


@pytest.mark.parametrize("points", [((6.2, 4.9),), ((6.2, 4.9), (6.2, 4.9))])
def test_stroke_of_one_point_is_a_disc_of_that_diameter(points):
    disc = draw(Ellipse(6.2, 4.9, 3.5, 3.5), height=10, width=12)
    assert np.array_equal(draw(Stroke(points, width=7), height=10, width=12), disc)


@pytest.mark.parametrize("points", [((1, 1.5), (6, 4.5)), ((1, 1.5), (6, 4.5), (1, 1.5)), ((3.5, 3.5),)])
def test_polygon_with_fewer_than_three_points_is_a_stroke_of_width_1(points):
    stroke = draw(Stroke(points, width=1.0), height=7, width=8)
    assert stroke.any()
    assert np.array_equal(draw(Polygon(points), height=7, width=8), stroke)


@pytest.mark.parametrize(
    ("outline", "pixels"),
    [
        (Polygon(((2.1, 3.1), (2.3, 3.1), (2.2, 3.3))), {(3, 2)}),
        (Polygon(((0.2, 0.2), (4.2, 0.2), (2.2, 0.2))), {(0, 0), (0, 4), (0, 2)}),
        (Polygon(((1.0, 1.0), (1.0, 1.0), (1.0, 1.0))), {(1, 1)}),
        (Ellipse(4.9, 0.1, 0.05, 0.2), {(0, 4)}),
        (Ellipse(2.0, 2.0, 0.0, 0.0), {(2, 2)}),
        (Stroke(((1.1, 1.1), (3.1, 3.9)), width=0), {(1, 1), (3, 3)}),
        (Stroke(((1.0, 1.0), (-3.0, 1.0)), width=0.1), {(1, 1)}),
    ],
)
def test_outline_between_the_pixel_centres_takes_the_pixels_under_its_points(outline, pixels):
    mask = draw(outline, height=5, width=5)
    assert set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True)) == pixels


def test_what_leaves_the_image_is_clipped_never_wrapped():
    assert rows(draw(Polygon(((-9, -9), (2, -9), (2, 2), (-9, 2))), height=3, width=4)) == ["##..", "##..", "...."]
    assert rows(draw(Ellipse(4, 3, 2, 2), height=3, width=4)) == ["....", "...#", "..##"]
    assert draw(Polygon(((-99, -99), (99, -99), (99, 99), (-99, 99))), height=3, width=4).all()


@pytest.mark.parametrize("shift", [(-20, 0), (20, 0), (0, -20), (0, 20), (1e9, 1e9)])
@pytest.mark.parametrize("thin", [False, True])
def test_outline_outside_the_image_gives_an_empty_mask(shift, thin):
    x, y = shift
    size = 0.01 if thin else 4
    shapes = (
        Polygon(((x, y), (x + size, y), (x, y + size))),
        Ellipse(x + 2, y + 2, size, size, 0.3),
        Stroke(((x, y), (x + size, y)), width=size),
    )
    assert not any(draw(shape, height=10, width=10).any() for shape in shapes)


@pytest.mark.parametrize(
    "outline",
    [
        Polygon(()),
        Stroke((), width=3),
        Polygon(((0, 0), (1, math.nan), (2, 2))),
        Ellipse(1, math.inf, 2, 2),
        Ellipse(1, 1, -2, 2),
        Ellipse(1, 1, 2, 2, math.nan),
        Stroke(((1, 1),), width=-1),
        Stroke(((1, 1),), width=math.nan),
    ],
)
def test_numbers_that_outline_nothing_are_refused(outline):
    with pytest.raises(MammoprepError, match=f"^{type(outline).__name__} .*annotation file"):
        draw(outline, height=5, width=5)


def test_a_lesion_costs_one_frame_of_memory():
    tracemalloc.start()
    mask = draw(Ellipse(1400, 1700, 150, 90, 0.4), height=3518, width=2800)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask.sum() == pytest.approx(math.pi * 150 * 90, rel=0.001)
    assert peak < 1.05 * mask.nbytes


coordinate = st.floats(-30, 60)
size = st.floats(0, 40)
points = st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=12).map(tuple)
outlines = st.one_of(
    st.builds(Polygon, points),
    st.builds(Ellipse, coordinate, coordinate, size, size, st.floats(-7, 7)),
    st.builds(Stroke, points, width=size),
)


@modest
@given(outlines, st.integers(1, 30), st.integers(1, 30))
def test_a_clipped_drawing_is_a_window_of_the_whole(outline, height, width):
    mask = draw(outline, height=height, width=width)
    assert mask.shape == (height, width)
    assert mask.dtype == np.bool_
    whole = draw(outline, height=60, width=60)
    if mask.sum() > 24 and whole.sum() > 24:  # more than the pixels under its points: it was filled
        assert np.array_equal(mask, whole[:height, :width])


@modest
@given(st.floats(5, 40), st.floats(5, 40), st.floats(-4, 4), st.floats(0, 1), st.floats(0, 1))
def test_ellipse_has_the_area_of_an_ellipse(rx, ry, theta, dx, dy):
    area = draw(Ellipse(50 + dx, 50 + dy, rx, ry, theta), height=101, width=101).sum()
    assert area == pytest.approx(math.pi * rx * ry, abs=1.5 * (rx + ry))


@modest
@given(st.lists(st.floats(1, 24), min_size=3, max_size=20), st.floats(20, 30), st.floats(20, 30))
def test_polygon_holds_the_centres_that_shapely_says_it_contains(radii, cx, cy):
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    ring = np.column_stack([cx + radii * np.cos(angles), cy + radii * np.sin(angles)])
    mask = draw(Polygon(tuple(map(tuple, ring.tolist()))), height=50, width=50)
    y, x = np.mgrid[:50, :50] + 0.5
    polygon = shapely.Polygon(ring)
    decided = shapely.distance(shapely.points(x, y), polygon.exterior) > 1e-9
    inside = shapely.contains_xy(polygon, x, y)
    assume(inside.any())
    assert np.array_equal(mask[decided], inside[decided])


whole_points = st.lists(st.tuples(st.integers(2, 19), st.integers(2, 19)), min_size=3, max_size=9, unique=True)


@modest
@given(whole_points, st.integers(0, 1000), st.integers(0, 1000))
def test_polygon_of_whole_numbers_looks_the_same_everywhere(ring, dx, dy):
    here = draw(Polygon(tuple(ring)), height=21, width=21)
    there = draw(Polygon(tuple((x + dx, y + dy) for x, y in ring)), height=dy + 21, width=dx + 21)
    assert np.array_equal(there[dy:, dx:], here)


@pytest.mark.parametrize("seed", range(8))
def test_run_lengths_are_read_as_pycocotools_writes_them(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 50, size=2))
    mask = rng.random((height, width)) < (0.0, 0.03, 0.5, 0.97, 1.0)[seed % 5]
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))

    runs = RunLengths((height, width), code["counts"].decode())
    assert np.array_equal(draw(runs, height=height, width=width), mask)
    x, y, across, down = panoptic.mask_box(mask)
    assert run_box(runs) == ((x, y, x + across, y + down) if mask.any() else None)


@pytest.mark.parametrize(
    ("counts", "box"),
    [
        ((5, 2, 5), (1, 1, 2, 3)),  # rows 1 and 2 of the second column
        ((3, 2, 7), (0, 0, 2, 4)),  # the foot of the first and the head of the second
        ((1, 1, 7, 1, 2), (0, 1, 3, 2)),
        ((0, 12), (0, 0, 3, 4)),
        ((11, 1), (2, 3, 3, 4)),
        ((4, 0, 8), None),
        ((12,), None),
    ],
)
def test_the_box_of_run_lengths_in_4_rows_and_3_columns(counts, box):
    assert run_box(RunLengths((4, 3), counts)) == box


def test_run_lengths_go_down_the_columns():
    assert draw(RunLengths((2, 3), (1, 2, 3)), height=2, width=3).tolist() == [
        [False, True, False],
        [True, False, False],
    ]


@pytest.mark.parametrize(
    "code",
    [
        RunLengths((3, 2), (1, 2, 3)),
        RunLengths((2, 3), (1, 2, 4)),
        RunLengths((2, 3), (1, -2, 7)),
        RunLengths((2, 3), ()),
        RunLengths((2, 3), ""),
        RunLengths((2, 3), "P"),
        RunLengths((2, 3), "oooooooooo0"),
        RunLengths((2, 3), "\u20ac"),
        RunLengths((2, 3), "0123"),
    ],
)
def test_damaged_run_lengths_are_refused(code):
    with pytest.raises(MammoprepError, match="run"):
        draw(code, height=2, width=3)
    if code.size == (2, 3):
        with pytest.raises(MammoprepError, match="run"):
            run_box(code)


def test_a_union_is_all_that_lies_in_a_part():
    left, right = Ellipse(1.5, 1.5, 1.2, 1.2), Ellipse(4.5, 1.5, 1.2, 1.2)
    both = draw(Union((left, right)), height=3, width=6)

    assert np.array_equal(both, draw(left, height=3, width=6) | draw(right, height=3, width=6))
    assert both.sum() == 10


def test_a_zigzag_that_would_fill_the_memory_is_refused():
    points = tuple((x % 90, 4000.0 * (x % 2)) for x in range(2000))
    with pytest.raises(MammoprepError, match="crosses the rows of the image more often"):
        draw(Polygon(points), height=4000, width=100)


@pytest.mark.parametrize("count", [10**30, -(10**30), 2**63])
def test_a_run_beyond_all_numbers_is_no_run(count):
    with pytest.raises(MammoprepError, match="do not add up"):
        draw(RunLengths((4, 5), (count, 20)), height=4, width=5)
