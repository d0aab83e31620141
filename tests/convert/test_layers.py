"""The stored grid, and masks on it."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mammoprep.convert import layers
from mammoprep.convert.layers import Grid, Layer


@pytest.mark.parametrize(
    ("native", "long_side", "stored"),
    [
        ((3518, 2800), 1024, (1024, 815)),
        ((2800, 3518), 1024, (815, 1024)),
        ((600, 400), 1024, (600, 400)),
        ((1024, 300), 1024, (1024, 300)),
        ((3518, 2800), 0, (3518, 2800)),
        ((4000, 3), 100, (100, 1)),
    ],
    ids=["portrait", "landscape", "never upscaled", "just so", "native", "at least a pixel"],
)
def test_the_long_side_decides_the_grid(native, long_side, stored):
    grid = layers.fit(*native, long_side=long_side)

    assert (grid.height, grid.width) == stored
    assert (grid.scale_y, grid.scale_x) == (stored[0] / native[0], stored[1] / native[1])


def test_eight_bits_are_the_sixteenth_bit_means_over_257():
    pixels = np.array(
        [[257, 257, 0, 0], [257, 257, 0, 128], [65535] * 4, [65535, 65535, 65535, 64507]], dtype=np.uint16
    )

    stored = layers.resize_image(pixels, Grid(4, 4, 2, 2), bits=8)

    assert stored.dtype == np.uint8
    assert stored.tolist() == [[1, 0], [255, 254]]  # the means are 257, 32, 65535 and 65278


def test_sixteen_bits_are_the_means():
    pixels = np.array([[10, 20, 1, 1], [30, 40, 1, 1]], dtype=np.uint16)
    assert layers.resize_image(pixels, Grid(2, 4, 1, 2), bits=16).tolist() == [[25, 1]]


@given(height=st.integers(2, 300), width=st.integers(2, 60), long_side=st.integers(1, 299), seed=st.integers(0, 99))
def test_stored_pixels_are_opencvs_means_to_a_grey_level_of_sixteen_bits(height, width, long_side, seed):
    pixels = np.random.default_rng(seed).integers(0, 65536, (height, width), dtype=np.uint16)
    grid = layers.fit(height, width, long_side=long_side)
    stored = layers.resize_image(pixels, grid, bits=16)
    means = cv2.resize(pixels, (grid.width, grid.height), interpolation=cv2.INTER_AREA) if grid.is_smaller else pixels
    assert np.abs(stored.astype(int) - means).max() <= 1


def test_sixteen_bits_at_native_size_are_the_rendered_values():
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(layers.resize_image(pixels, layers.fit(256, 256, long_side=0), bits=16), pixels)


def test_every_value_is_rounded_to_the_nearest_of_eight_bits():
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)

    stored = layers.resize_image(pixels, Grid(256, 256, 256, 256), bits=8)

    assert (stored == np.rint(pixels / 257)).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_part_is_stored_and_mirrored(mirrored):
    grid = layers.fit(8, 12, long_side=3, part=(2, 1, 8, 7), mirrored=mirrored)  # 6 x 6 pixels to 3 x 3
    mask = np.zeros((8, 12), dtype=bool)
    mask[1:3, 2:4] = mask[6:, 7:] = True  # the first stored pixel, and a quarter of the last

    assert (grid.height, grid.width, grid.crop_x0, grid.crop_y0) == (3, 3, 8 if mirrored else 2, 1)
    assert (grid.scale_x, grid.scale_y) == (-0.5 if mirrored else 0.5, 0.5)
    expected = np.zeros((3, 3), dtype=bool)
    expected[0, 0] = True
    expected = expected[:, ::-1] if mirrored else expected
    assert (layers.shrink(mask, grid).full(3, 3) == expected).all()
    stored = layers.resize_image(mask.astype(np.uint16) * 65535, grid, bits=8)
    assert stored[0].tolist() == ([0, 0, 255] if mirrored else [255, 0, 0])
    assert stored[2].tolist() == ([64, 0, 0] if mirrored else [0, 0, 64])


def test_nothing_of_a_mask_lies_in_the_part():
    mask = np.zeros((8, 12), dtype=bool)
    mask[:, 9:] = True
    assert layers.shrink(mask, Grid(8, 12, 4, 4, (2, 1, 6, 5))) is None


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("part", [None, (8, 16, 32, 64)])
def test_a_region_found_in_a_smaller_copy_lies_where_it_lies_in_the_image(mirrored, part):
    found = np.zeros((20, 10), dtype=bool)
    found[6:14, 3:6] = True
    grid = layers.fit(80, 40, long_side=0, part=part, mirrored=mirrored)
    native = np.kron(found, np.ones((4, 4), dtype=bool))

    ours, theirs = layers.spread(found, grid), layers.shrink(native, grid)

    # Between the centres of two pixels of the copy the edge is half way: both agree but for rounded corners.
    assert (ours.full(grid.height, grid.width) != theirs.full(grid.height, grid.width)).sum() <= 4 * 4
    assert ours.box == theirs.box


def test_half_of_a_pixel_is_enough_and_less_is_not():
    mask = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)  # covers 2 of 4, and 1 of 4

    assert layers.shrink(mask, Grid(2, 4, 1, 2)) is not None
    assert layers.shrink(mask, Grid(2, 4, 1, 2)).full(1, 2).tolist() == [[True, False]]


def test_a_lesion_that_covers_half_of_no_pixel_keeps_the_one_it_covers_most():
    mask = np.zeros((100, 100), dtype=bool)
    mask[19:22, 40:43] = True  # one row in stored pixel (1, 4), two in (2, 4)

    assert np.argwhere(layers.shrink(mask, Grid(100, 100, 10, 10)).full(10, 10)).tolist() == [[2, 4]]


def test_an_empty_mask_has_no_layer():
    assert layers.shrink(np.zeros((8, 8), dtype=bool), Grid(8, 8, 4, 4)) is None
    assert layers.cut(np.zeros((8, 8), dtype=bool)) is None


@settings(max_examples=150, deadline=None)
@given(
    mask=arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    share=st.tuples(st.fractions(0, 1), st.fractions(0, 1)),
)
def test_coverage_is_exact(mask, share):
    """Cut each native pixel into as many parts as there are stored pixels: a stored one then holds whole parts."""
    height, width = mask.shape
    rows, columns = (max(1, round(part * side)) for part, side in zip(share, mask.shape, strict=True))
    parts = np.kron(mask, np.ones((rows, columns), dtype=int))
    covered = parts.reshape(rows, height, columns, width).sum(axis=(1, 3))
    half = 2 * covered >= height * width

    layer = layers.shrink(mask, Grid(height, width, rows, columns))

    if not mask.any():
        assert layer is None
    elif half.any():
        assert (layer.full(rows, columns) == half).all()
    else:
        assert (layer.full(rows, columns) <= (covered == covered.max())).all()


@pytest.mark.parametrize("stored", [815, 1023, 1024, 2799, 2800])
def test_a_full_mask_stays_full_at_any_scale(stored):
    layer = layers.shrink(np.ones((3, 2800), dtype=bool), Grid(3, 2800, 1, stored))

    assert layer.box == (0, 0, stored, 1)
    assert layer.area == stored


def test_a_straight_edge_lands_on_the_nearest_stored_pixel():
    mask = np.zeros((1, 2800), dtype=bool)
    mask[:, 701:] = True

    left = layers.shrink(mask, Grid(1, 2800, 1, 815)).x

    assert left == round(Fraction(701 * 815, 2800))


def test_the_smaller_lies_on_top():
    large, small = Layer(0, 0, np.ones((3, 3), dtype=bool)), Layer(1, 1, np.ones((1, 1), dtype=bool))

    for order in ([large, small], [small, large]):
        ids = layers.stack(order, height=3, width=4)
        assert ids[1, 1] == order.index(small) + 1
        assert np.count_nonzero(ids == order.index(large) + 1) == 8
        assert ids[:, 3].tolist() == [0, 0, 0]


def test_of_equals_the_earlier_lies_on_top():
    pair = [Layer(0, 0, np.ones((1, 2), dtype=bool)), Layer(1, 0, np.ones((1, 2), dtype=bool))]
    assert layers.stack(pair, height=1, width=3).tolist() == [[1, 1, 2]]


def test_layers_are_the_same_by_place_and_shape():
    one = Layer(1, 2, np.ones((2, 2), dtype=bool))

    assert one.same_as(Layer(1, 2, np.ones((2, 2), dtype=bool)))
    assert not one.same_as(Layer(2, 2, np.ones((2, 2), dtype=bool)))
    assert not one.same_as(Layer(1, 2, np.eye(2, dtype=bool)))
