"""The stored grid, and masks on it."""

from fractions import Fraction

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


def test_every_value_is_rounded_to_the_nearest_of_eight_bits():
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)

    stored = layers.resize_image(pixels, Grid(256, 256, 256, 256), bits=8)

    assert (stored == np.rint(pixels / 257)).all()


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
