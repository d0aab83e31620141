"""Text in the background of an image: found in any corner, by its letters; what is no text is let be."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mammoprep.pixels import read, shows_text

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def breast(height=1500, width=1000):
    """A grey breast on the left, with bright specks in it, on black."""
    pixels = np.zeros((height, width), dtype=np.uint16)
    cv2.ellipse(pixels, (0, height // 2), (width // 2, height // 3), 0, 0, 360, 30_000, -1)
    for x in range(100, 400, 40):
        cv2.circle(pixels, (x, height // 2), 6, 60_000, -1)
    return pixels


def write(pixels, text, *, at, size=24, level=65_535, turned=False):
    """Draw text whose upper left corner is at (x, y)."""
    font = ImageFont.load_default(size=size)
    left, top, right, bottom = font.getbbox(text)
    drawn = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(drawn).text((1 - left, 1 - top), text, font=font, fill=255)
    values = np.rot90(drawn) if turned else np.asarray(drawn)
    x, y = at
    part = pixels[y : y + values.shape[0], x : x + values.shape[1]]
    part[...] = np.maximum(part, (values[: part.shape[0], : part.shape[1]] / 255 * level).astype(np.uint16))
    return pixels


@pytest.mark.parametrize("text", ["R CC", "LMLO", "ROE ANNA 12.03.1961"])
@pytest.mark.parametrize("at", [(600, 20), (600, 1300), (20, 20), (560, 700)])
def test_text_is_found_wherever_it_stands_beside_the_breast(text, at):
    assert shows_text(write(breast(), text, at=at))


@pytest.mark.parametrize(("size", "level"), [(14, 65_535), (24, 30_000), (120, 65_535)])
def test_small_faint_and_large_text_is_found(size, level):
    assert shows_text(write(breast(), "L MLO", at=(520, 20), size=size, level=level))


def test_turned_text_is_found():
    assert shows_text(write(breast(), "ROE ANNA", at=(900, 900), turned=True))


def test_text_is_found_in_a_large_image_and_in_one_that_is_not_black():
    large = write(breast(4800, 3200), "ROE ANNA", at=(2000, 60), size=60)
    assert shows_text(large)
    assert shows_text(np.maximum(large, 9_000))


@pytest.mark.parametrize("text", ["", "R", "LR"])
def test_a_breast_alone_and_fewer_than_three_letters_are_no_text(text):
    assert not shows_text(write(breast(), text, at=(700, 40)) if text else breast())


def test_a_line_an_edge_and_specks_out_of_line_are_no_text():
    pixels = breast()
    pixels[:, 900:903] = 60_000
    cv2.line(pixels, (600, 1400), (890, 1480), 60_000, 3)
    for x, y in ((620, 100), (660, 180), (700, 260), (760, 1200)):
        cv2.circle(pixels, (x, y), 7, 60_000, -1)
    assert not shows_text(pixels)


def test_letters_on_tissue_are_not_told_from_calcifications():
    assert not shows_text(write(breast(), "ROE ANNA", at=(60, 700), level=60_000))


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (40, 30)])
@pytest.mark.parametrize("value", [0, 65_535])
def test_an_even_image_has_no_text_whatever_its_size(shape, value):
    assert not shows_text(np.full(shape, value, dtype=np.uint16))


def test_a_page_of_more_letters_than_are_compared_is_found():
    page = np.zeros((1200, 1200), dtype=np.uint16)
    for y in range(10, 1170, 30):
        write(page, "NO MASS AND NO CALCIFICATION IN EITHER BREAST", at=(10, y), size=20)
    assert shows_text(page)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real test files are not beside the project")
def test_no_text_is_seen_in_real_images_without_any():
    paths = [*sorted(DATA.glob("cdd-cesm-mini/*/*.jpg"))[::10], *DATA.glob("dicom/[GO]*.dcm")]
    assert len(paths) == 22
    assert [path.name for path in paths if shows_text(read(path).pixels)] == []
