"""The breast region on drawn mammograms: a half disc at the chest wall, and what else real images show."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoprep import anatomy
from mammoprep.anatomy import breast

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "cdd-cesm-mini"


def half_disc(height=600, width=400, radius=250):
    rows, columns = np.mgrid[:height, :width]
    return (rows - height / 2) ** 2 + columns**2 < radius**2


def mammogram(mask, *, background=0, noise=0):
    """Draw tissue that brightens from the skin (12000) to the chest wall (40000)."""
    depth = cv2.distanceTransform(np.pad(mask, ((0, 0), (1, 0)), "edge").astype(np.uint8), cv2.DIST_L2, 5)[:, 1:]
    pixels = np.where(mask, 12000 + 28000 * depth / depth.max(), background)
    pixels += np.random.default_rng(0).normal(0, 1, mask.shape) * noise
    return pixels.clip(0, 65535).astype(np.uint16)


def iou(found, true):
    return (found & true).sum() / (found | true).sum()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("scale", [1, 3])
def test_the_breast_is_found_on_either_side_and_at_any_size(side, scale):
    true = np.kron(half_disc(), np.ones((scale, scale), dtype=bool))
    true = true if side == "left" else true[:, ::-1]
    assert iou(breast(mammogram(true)), true) > 0.98


def test_the_mask_is_boolean_and_of_the_same_shape():
    found = breast(mammogram(half_disc(611, 397)))
    assert found.dtype == np.bool_
    assert found.shape == (611, 397)


def test_the_outline_does_not_move_when_the_image_is_reduced():
    true = half_disc(1759, 1400, radius=750)
    found = breast(mammogram(true))
    rows, columns = np.nonzero(found)
    assert abs(rows.mean() - np.nonzero(true)[0].mean()) < 2
    assert abs(columns.max() - 750) < 2 * 1759 / 512


@pytest.mark.parametrize("background", [0, 3000, 8000])
def test_a_background_that_is_not_black_is_no_breast(background):
    true = half_disc()
    assert iou(breast(mammogram(true, background=background, noise=300)), true) > 0.97


def test_labels_and_paddles_are_left_out():
    true = half_disc()
    pixels = mammogram(true)
    pixels[20:60, 300:360] = 65535  # a label
    pixels[560:563, :] = 30000  # a paddle's edge along the image
    pixels[300:303, 240:] = 30000  # and one that touches the breast
    found = breast(pixels)
    assert not found[20:60, 300:360].any()
    assert iou(found, true) > 0.97


def test_dark_fat_inside_is_breast():
    true = half_disc()
    pixels = mammogram(true)
    pixels[280:320, 60:120] = 0
    pixels[350:380, :30] = 0  # at the chest wall
    assert iou(breast(pixels), true) > 0.98


def test_nothing_of_a_black_image_and_all_of_a_bright_one():
    black = np.zeros((600, 400), dtype=np.uint16)
    assert not breast(black).any()
    assert not breast(black + 300).any()
    assert breast(black + 20000).all()
    assert breast(black + 65535).all()


def test_an_image_without_background_is_all_breast():
    tissue = np.random.default_rng(0).normal(30000, 4000, (600, 400))
    assert breast(cv2.GaussianBlur(tissue, (0, 0), 9).astype(np.uint16)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (5, 3)])
def test_tiny_images(shape):
    assert breast(np.full(shape, 30000, dtype=np.uint16)).shape == shape


@pytest.mark.skipif(not REAL.is_dir(), reason="the real test files are not beside the project")
def test_real_images_are_breast_and_background():
    paths = sorted(REAL.glob("*/*.jpg"))[::10]
    shares = [breast(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.uint16) * 257).mean() for path in paths]
    assert len(shares) > 15
    assert all(0.3 < share < 0.95 for share in shares)


def found(*lit, shape=(50, 40)):
    mask = np.zeros(shape, dtype=bool)
    for rows, columns in lit:
        mask[rows, columns] = True
    return mask


def test_a_crop_leaves_a_margin_and_stays_inside():
    mask = found((slice(10, 30), slice(0, 20)))
    # Twice as large: 20 to 60 and 0 to 40, with 2 % of 100 around.
    assert anatomy.crop(mask, 100, 80) == (0, 18, 42, 62)
    assert anatomy.crop(found(), 100, 80) == (0, 0, 80, 100)


def test_the_side_of_the_chest_wall_is_where_more_breast_lies():
    assert anatomy.faces_left(found((slice(10, 30), slice(15, 40)))) is True
    assert anatomy.faces_left(found((slice(10, 30), slice(0, 25)))) is False
    assert anatomy.faces_left(found((slice(10, 30), slice(0, 40)))) is None
    assert anatomy.faces_left(found()) is None


def test_a_part_of_the_breast_is_the_same_as_in_the_whole():
    found = cv2.circle(np.zeros((64, 40), dtype=np.uint8), (5, 30), 20, 1, -1).astype(bool)
    whole = anatomy.enlarge(found, 500, 310)
    assert np.array_equal(anatomy.enlarge(found, 500, 310, part=(90, 100, 260, 333)), whole[100:333, 90:260])
