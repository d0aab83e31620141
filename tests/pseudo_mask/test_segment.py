import math
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.morphology import disk

from mammoprep.errors import MammoprepError
from mammoprep.pseudo_mask import ADAPTIVE, PAPER, Recipe, clip, otsu, segment
from mammoprep.records import Box

HULLS = ("concave", "alpha", "convex", "none")
SHARP = {"sigma": 0.0, "min_area": 0}


def grey(rows, values):
    return np.array([[values[character] for character in row] for row in rows], dtype=np.uint16)


def whole(pixels):
    return Box(0, 0, pixels.shape[1], pixels.shape[0])


def texture(height, width, seed=0):
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 4) * 12000 + noise * 800


def lesion(radius, seed=0):
    """Give an image with a blurred disc on textured ground, its true mask, and the disc's box."""
    side = 4 * radius
    truth = np.zeros((side, side), dtype=bool)
    truth[radius : 3 * radius + 1, radius : 3 * radius + 1] = disk(radius)
    disc = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), radius / 12) * 12000
    pixels = np.clip(20000 + disc + texture(side, side, seed), 0, 65535).astype(np.uint16)
    return pixels, truth, Box(radius, radius, 3 * radius + 1, 3 * radius + 1)


def dice(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def iou(mask, other):
    return (mask & other).sum() / (mask | other).sum()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(1, 2, 4, 6), (1, 2, 4, 6)),
        (Box(0.5, 0.51, 2.5, 2.51), (0, 1, 2, 3)),
        (Box(-5, -5, 3.2, 2.8), (0, 0, 3, 3)),
        (Box(7, 5, 1e30, math.inf), (7, 5, 10, 8)),
        (Box(2.6, 1, 3.4, 5), None),
        (Box(10, 1, 12, 5), None),
        (Box(1, -9, 4, 0), None),
        (Box(4, 1, 4, 5), None),
        (Box(5, 1, 4, 5), None),
        (Box(math.nan, 1, 4, 5), None),
    ],
)
def test_clip_takes_the_pixels_whose_centre_lies_in_the_box(box, expected):
    assert clip(box, height=8, width=10) == expected


def test_box_outside_the_image_is_refused():
    with pytest.raises(MammoprepError, match="no pixel of the 10 x 8 image"):
        segment(np.zeros((8, 10), np.uint16), Box(20, 1, 30, 5))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"sigma": -1}, "--sigma is -1"),
        ({"sigma": math.nan}, "--sigma is nan"),
        ({"hull_ratio": 1.1}, "--hull-ratio is 1.1"),
        ({"min_area": -1}, "--min-area is -1"),
        ({"threshold": "otzu"}, "Did you mean 'otsu'"),
        ({"hull": "concav"}, "Did you mean 'concave'"),
        ({"unit": "boxes"}, "Did you mean 'box'"),
        ({"centre": -0.5}, "--centre is -0.5"),
    ],
)
def test_recipe_refuses_what_it_does_not_know(option, said):
    with pytest.raises(MammoprepError, match=said):
        Recipe(**option)


@pytest.mark.parametrize("hull", HULLS)
@pytest.mark.parametrize("radius", [40, 90])
def test_lesion_on_textured_ground_is_found(hull, radius):
    pixels, truth, box = lesion(radius)
    found = segment(pixels, box, recipe=Recipe(hull=hull))
    assert (found.method, found.fallback) == ("otsu", False)
    assert type(found.threshold) is float
    assert 20000 < found.threshold < 32000
    assert dice(found.mask, truth) > 0.8


def straight(pixels, window, *, ratio):
    """Follow the paper with scikit-image, with all foreground pixels in the hull instead of the contours."""
    y0, y1, x0, x1 = window
    blurred = gaussian(pixels.astype(float), 7, mode="nearest", truncate=3, preserve_range=True)[y0:y1, x0:x1]
    threshold = threshold_otsu(blurred)
    labels = label(blurred > threshold, connectivity=2)
    bright = np.isin(labels, np.flatnonzero(np.bincount(labels.ravel())[1:] >= PAPER.min_area) + 1)
    y, x = np.nonzero(bright)
    hull = shapely.concave_hull(shapely.multipoints(np.column_stack([x, y])), ratio=ratio)
    grid_y, grid_x = np.mgrid[: y1 - y0, : x1 - x0]
    return shapely.intersects_xy(hull, grid_x, grid_y), threshold


def test_recipe_equals_a_straight_implementation():
    random = np.random.default_rng(3)
    pixels = np.clip(30000 + texture(300, 260, seed=3) * 2, 0, 65535).astype(np.uint16)
    compared = 0
    for _ in range(20):
        y0, x0 = random.integers(0, (180, 140))
        y1, x1 = (y0, x0) + random.integers(60, 120, size=2)
        found = segment(pixels, Box(x0, y0, x1, y1), recipe=PAPER)
        if found.method == "otsu":
            compared += 1
            expected, threshold = straight(pixels, (y0, y1, x0, x1), ratio=PAPER.hull_ratio)
            assert found.threshold == pytest.approx(threshold, rel=0.002)
            assert iou(found.mask[y0:y1, x0:x1], expected) > 0.98
    assert compared >= 12


def test_alpha_hull_is_that_of_the_alphashape_library():
    from alphashape import alphashape

    pixels, _, _ = lesion(30, seed=5)
    plain = segment(pixels, Box(20, 20, 100, 110), recipe=Recipe(hull="none"))
    found = segment(pixels, Box(20, 20, 100, 110), recipe=Recipe(hull="alpha"))
    contours, _ = cv2.findContours(plain.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it still uses numpy's matrix class
        hull = alphashape(np.concatenate(contours)[:, 0], 2 / 90)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    assert np.array_equal(found.mask, shapely.intersects_xy(hull, x, y) | plain.mask)


@pytest.mark.parametrize("window", [(0, 0, 301, 280), (61, 40, 240, 203), (100, 0, 301, 281), (9, 80, 300, 91)])
def test_a_wide_blur_at_every_second_pixel_is_that_of_every_pixel(window):
    pixels = np.clip(30000 + texture(281, 301), 0, 65535).astype(np.uint16)
    x0, y0, x1, y1 = window
    exact, halved = (blur(pixels, window, sigma=7) for blur in (otsu._blur, otsu._blur_halved))
    assert halved.shape == (math.ceil((y1 - y0) / 2), math.ceil((x1 - x0) / 2))
    fine = cv2.resize(halved, None, fx=2, fy=2)[: y1 - y0, : x1 - x0]
    assert np.abs(exact - fine)[1:-1, 1:-1].max() < 0.01 * np.ptp(exact)


@pytest.mark.parametrize(("hull", "alike"), [("none", 0.995), ("convex", 0.995), ("alpha", 0.99), ("concave", 0.99)])
def test_a_large_box_gets_the_mask_that_every_pixel_gives(hull, alike, monkeypatch):
    pixels, truth, box = lesion(230)
    found = segment(pixels, box, recipe=Recipe(hull=hull))
    monkeypatch.setattr(otsu, "LARGEST_EXACT", 10_000)
    exact = segment(pixels, box, recipe=Recipe(hull=hull))
    assert not np.array_equal(found.mask, exact.mask)
    assert dice(found.mask, exact.mask) > alike
    assert dice(found.mask, truth) > 0.9
    assert found.threshold == pytest.approx(exact.threshold, rel=0.01)


@pytest.mark.parametrize("box", [Box(0, 0, 900, 1), Box(3, 0, 4, 600), Box(0, 0, 385, 3), Box(0, 0, 899, 600)])
def test_a_long_box_blurred_at_every_second_pixel_keeps_a_mask_in_the_box(box):
    pixels = np.random.default_rng(0).integers(0, 65535, (600, 900)).astype(np.uint16)
    tissue = np.zeros(pixels.shape, dtype=bool)
    tissue[:, 1:450:2] = True
    for within in (None, tissue):
        mask = segment(pixels, box, tissue=within, recipe=PAPER).mask
        assert mask.any()
        assert mask.sum() == mask[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)].sum()


def test_far_pixels_change_nothing_and_near_ones_do():
    pixels, _, box = lesion(40)
    found = segment(pixels, box, recipe=PAPER)
    far, near = pixels.copy(), pixels.copy()
    far[: 40 - 21] = 65535
    near[40 - 10 : 40] = 65535
    assert np.array_equal(segment(far, box, recipe=PAPER).mask, found.mask)
    assert not np.array_equal(segment(near, box, recipe=PAPER).mask, found.mask)


@pytest.mark.parametrize("recipe", [PAPER, ADAPTIVE])
def test_constant_box_becomes_its_inscribed_ellipse(recipe):
    found = segment(np.full((6, 8), 1234, np.uint16), Box(2, 1, 6, 5), recipe=recipe)
    assert (found.method, found.threshold, found.fallback) == ("ellipse", None, True)
    assert np.array_equal(
        found.mask[1:5, 2:6], np.array(grey([".##.", "####", "####", ".##."], {".": 0, "#": 1}), bool)
    )
    assert found.mask.sum() == 12


def test_foreground_that_fills_the_box_gives_way_to_the_brightest_of_three_classes():
    pixels = np.full((20, 20), 24900, np.uint16)
    pixels[:4, :4] = 0
    pixels[8:14, 8:14] = 40000
    found = segment(pixels, whole(pixels), recipe=Recipe(**SHARP))
    assert (found.method, found.fallback) == ("multi-otsu", True)
    assert 24900 <= found.threshold < 40000
    assert np.array_equal(found.mask, pixels == 40000)
    first = segment(pixels, whole(pixels), recipe=Recipe(threshold="multi-otsu", **SHARP))
    assert (first.method, first.fallback) == ("multi-otsu", False)


@pytest.mark.parametrize("threshold", ["otsu", "multi-otsu"])
def test_foreground_that_surrounds_the_lesion_or_is_a_speck_gives_way_to_the_ellipse(threshold):
    ring = np.full((20, 20), 50000, np.uint16)
    ring[1:-1, 1:-1] = 10000
    speck = np.full((20, 20), 10000, np.uint16)
    speck[9:11, 9:11] = 50000
    for pixels in (ring, speck):
        found = segment(pixels, whole(pixels), recipe=Recipe(threshold=threshold, **SHARP))
        assert (found.method, found.threshold, found.fallback) == ("ellipse", None, True)


def test_threshold_is_taken_from_the_tissue_only():
    pixels = np.zeros((20, 30), np.uint16)
    pixels[:, 10:] = 30000
    pixels[5:15, 14:26] = 36000
    pixels[2:6, 2:6] = 65535  # a label beside the breast
    tissue = np.zeros(pixels.shape, dtype=bool)
    tissue[:, 10:] = True
    found = segment(pixels, whole(pixels), tissue=tissue, recipe=Recipe(**SHARP))
    assert found.method == "otsu"
    assert np.array_equal(found.mask, pixels == 36000)
    assert not np.array_equal(segment(pixels, whole(pixels), recipe=Recipe(**SHARP)).mask, found.mask)


def test_too_little_tissue_is_ignored():
    pixels, _, box = lesion(40)
    tissue = np.zeros(pixels.shape, dtype=bool)
    tissue[:50] = True
    without = segment(pixels, box)
    assert np.array_equal(segment(pixels, box, tissue=tissue).mask, without.mask)
    assert np.array_equal(segment(pixels, box, tissue=np.zeros_like(tissue)).mask, without.mask)


ROWS = ["..........", ".##.......", ".##...###.", "......#.#.", "......###.", "..........", ".#........", "..#......."]


@pytest.mark.parametrize(("min_area", "left_out"), [(0, ""), (3, "c"), (5, "cb"), (9, "cb"), (100, "cb")])
def test_small_components_are_left_out_unless_there_are_no_larger(min_area, left_out):
    pixels = grey(ROWS, {".": 0, "#": 60000})
    expected = pixels > 0
    expected[6:] &= "c" not in left_out
    expected[:3, :3] &= "b" not in left_out
    recipe = Recipe(sigma=0, hull="none", min_area=min_area)
    assert np.array_equal(segment(pixels, whole(pixels), recipe=recipe).mask, expected)


@pytest.mark.parametrize("hull", HULLS)
def test_hull_joins_the_components_and_stays_in_the_box(hull):
    pixels = np.zeros((60, 80), np.uint16)
    pixels[20:40, 12:28] = pixels[22:44, 38:60] = 50000
    box = Box(5, 5, 70, 55)
    found = segment(pixels, box, recipe=Recipe(hull=hull, **SHARP))
    assert found.mask[pixels > 0].all()
    assert not found.mask[:20].any()
    assert not found.mask[44:].any()
    assert label(found.mask).max() == (2 if hull == "none" else 1)
    assert found.mask[30, 33] == (hull != "none")
    assert found.mask[21, 39] == (hull == "convex")


@pytest.mark.parametrize("hull", HULLS)
@pytest.mark.parametrize(
    "rows",
    [
        [".....", "..#..", ".....", "....."],
        [".....", ".#...", "...#.", "....."],
        [".....", ".#...", "..#..", "...#.", "....."],
        [".......", ".##.##.", "......."],
    ],
    ids=["a point", "two points", "on a slope", "on a row"],
)
def test_points_on_one_line_need_no_hull(hull, rows):
    pixels = grey(rows, {".": 100, "#": 900})
    found = segment(pixels, whole(pixels), recipe=Recipe(hull=hull, **SHARP))
    gap = np.zeros(pixels.shape, dtype=bool)
    if rows[1] == ".##.##." and hull != "none":
        gap[1, 3] = True
    assert found.method == "otsu"
    assert np.array_equal(found.mask, (pixels == 900) | gap)


boxes = st.builds(
    lambda x, y, w, h: Box(x, y, x + w, y + h), st.floats(-9, 29), st.floats(-9, 19), st.floats(1, 40), st.floats(1, 40)
)
recipes = st.builds(
    Recipe,
    sigma=st.sampled_from([0.0, 1.0, 7.0]),
    threshold=st.sampled_from(["otsu", "multi-otsu"]),
    hull=st.sampled_from(HULLS),
    hull_ratio=st.floats(0, 1),
    min_area=st.integers(0, 200),
    unit=st.sampled_from(["pixel", "box"]),
    centre=st.sampled_from([0.0, 1.0, 5.0]),
)


@settings(max_examples=120, deadline=None)
@given(boxes, recipes, st.integers(0, 99), st.sampled_from([1, 2, 3, 65535]), st.sampled_from([None, 0.1, 0.5, 0.9]))
def test_any_box_of_any_image_gives_a_mask_in_the_box_the_same_each_time(box, recipe, seed, levels, tissue_share):
    random = np.random.default_rng(seed)
    pixels = (random.integers(0, levels, (20, 30)) * (65535 // levels)).astype(np.uint16)
    tissue = None if tissue_share is None else random.random((20, 30)) < tissue_share
    window = clip(box, height=20, width=30)
    assume(window is not None)
    found, again = (segment(pixels, box, tissue=tissue, recipe=recipe) for _ in range(2))
    x0, y0, x1, y1 = window
    assert found.mask.shape == (20, 30)
    assert found.mask.sum() == found.mask[y0:y1, x0:x1].sum() > 0
    assert (found.threshold is None) == (found.method == "ellipse")
    assert found.fallback == (found.method != recipe.threshold)
    assert np.array_equal(found.mask, again.mask)
    assert found.threshold == again.threshold
    plain = segment(pixels, box, tissue=tissue, recipe=replace(recipe, hull="none", hull_ratio=0))
    assert found.mask[plain.mask].all()


def test_the_papers_recipe_is_the_papers():
    assert (PAPER.sigma, PAPER.threshold, PAPER.hull, PAPER.unit, PAPER.centre) == (7, "otsu", "concave", "pixel", 0)


def test_the_adaptive_recipe_sees_the_same_in_an_image_twice_as_large():
    pixels, truth, box = lesion(40)
    small = segment(pixels, box)
    large = segment(pixels.repeat(2, axis=0).repeat(2, axis=1), Box(80, 80, 242, 242))
    assert dice(small.mask, truth) > 0.9
    assert dice(large.mask[::2, ::2], small.mask) > 0.97


def test_sigma_in_hundredths_of_the_box_is_that_many_pixels():
    pixels, _, _ = lesion(40)
    box = Box(20, 20, 120, 120)  # 100 x 100: a hundredth is one pixel, its square one pixel too
    for recipe in (Recipe(sigma=3, min_area=20), Recipe(sigma=3, min_area=20, centre=1.5)):
        in_box = segment(pixels, box, recipe=replace(recipe, unit="box"))
        assert np.array_equal(in_box.mask, segment(pixels, box, recipe=recipe).mask)


def test_the_centre_prefers_the_middle_lesion_to_a_brighter_corner():
    pixels = np.full((40, 40), 10_000, np.uint16)
    pixels[12:28, 12:28] = 20_000
    pixels[:8, :8] = 22_000
    plain = segment(pixels, whole(pixels), recipe=Recipe(hull="none", **SHARP))
    assert plain.mask[2, 2]
    centred = segment(pixels, whole(pixels), recipe=Recipe(hull="none", centre=2, **SHARP))
    assert centred.method == "otsu"
    assert centred.mask[pixels == 20_000].all()
    assert not centred.mask[2, 2]


def test_a_large_box_is_separated_on_a_reduced_one():
    pixels, truth, box = lesion(200)
    found = segment(pixels, box)
    assert (found.method, found.fallback) == ("otsu", False)
    assert dice(found.mask, truth) > 0.9
    tissue = np.zeros_like(truth)
    tissue[:, :480] = True
    inside = segment(pixels, box, tissue=tissue, recipe=replace(ADAPTIVE, hull="none")).mask
    assert inside[:, :478].any()
    assert not inside[:, 482:].any()


@pytest.mark.parametrize("box", [Box(0, 0, 900, 1), Box(3, 0, 4, 600), Box(0, 0, 257, 2), Box(0, 0, 900, 600)])
def test_a_long_box_keeps_a_mask_in_the_box(box):
    pixels = np.random.default_rng(0).integers(0, 65535, (600, 900)).astype(np.uint16)
    for hull in HULLS:
        mask = segment(pixels, box, recipe=replace(ADAPTIVE, sigma=0, min_area=0, hull=hull)).mask
        assert mask.any()
        assert mask.sum() == mask[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)].sum()
