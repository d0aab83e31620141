"""PNG, JPEG, PGM and TIFF files."""

import io

import numpy as np
import pytest
from PIL import Image

from mammoprep.pixels import MAX_PIXELS, Facts, PixelError, read

BYTES = np.array([[0, 1, 128], [254, 255, 7]], dtype=np.uint8)
WORDS = np.array([[0, 1, 4095], [40000, 65535, 7]], dtype=np.uint16)


@pytest.fixture
def write(tmp_path):
    def save(image, kind="PNG", **options):
        path = tmp_path / "picture.bin"
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            Image.fromarray(image).save(path, kind, **options)
        return path

    return save


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_8_bits_times_257(write, kind):
    grey = read(write(BYTES, kind))
    np.testing.assert_array_equal(grey.pixels, BYTES.astype(np.uint16) * 257)
    assert grey.facts == Facts("", None, "", "")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_stay(write, kind):
    np.testing.assert_array_equal(read(write(WORDS, kind)).pixels, WORDS)


def test_big_endian_tiff(write):
    np.testing.assert_array_equal(read(write(WORDS.astype(">u2"), "TIFF")).pixels, WORDS)


def test_16_bit_tiff_in_which_0_is_white(write):
    np.testing.assert_array_equal(read(write(WORDS, "TIFF", tiffinfo={262: 0})).pixels, 65535 - WORDS)


def test_a_jpeg_is_read_as_pillow_decodes_it(write):
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    path = write(smooth, "JPEG", quality=90)
    expected = np.asarray(Image.open(path)).astype(np.uint16) * 257
    np.testing.assert_array_equal(read(path).pixels, expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_colour_that_is_grey(write, kind):
    flat = np.full((16, 16), 99, dtype=np.uint8)
    assert (read(write(np.stack([flat] * 3, axis=-1), kind)).pixels == 99 * 257).all()


@pytest.mark.parametrize("mode", ["LA", "P", "RGBA"])
def test_other_ways_to_hold_grey(write, tmp_path, mode):
    path = tmp_path / "picture.png"
    Image.fromarray(BYTES).convert(mode).save(path)
    np.testing.assert_array_equal(read(path).pixels, BYTES.astype(np.uint16) * 257)


def test_one_bit(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(BYTES > 100).save(path)
    np.testing.assert_array_equal(read(path).pixels, np.where(BYTES > 100, 65535, 0))


def test_a_pgm_of_12_bits_spans_black_to_white(write):
    path = write(b"P5 2 1 4095\n" + np.array([0, 4095], dtype=">u2").tobytes())
    assert read(path).pixels.tolist() == [[0, 65535]]


@pytest.mark.parametrize(
    ("window", "expected"),
    [("full", [0, 32768, 65535]), ("101.5/3", [0, 32768, 65535]), ("auto", [25700, 25957, 26214])],
)
def test_windows(write, window, expected):
    assert read(write(np.array([[100, 101, 102]], dtype=np.uint8)), window=window).pixels.tolist() == [expected]


@pytest.mark.parametrize("window", ["1", "lut:1", "STANDARD"])
def test_a_picture_has_no_windows_of_its_own(write, window):
    with pytest.raises(PixelError, match="there are auto, full$"):
        read(write(BYTES), window=window)


def encoded(kind, image=None, **options):
    file = io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))
    (image or noise).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_cut_off(write, capfd, kind, share):
    content = encoded(kind)
    with pytest.raises(PixelError, match=f"^the {kind} data is damaged or cut off$"):
        read(write(content[: int(share * len(content))]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("side", [MAX_PIXELS // 8192 + 1, 65535])
def test_a_huge_header_is_refused_before_memory_is_taken(write, side):
    with pytest.raises(PixelError, match="pixels"):
        read(write(f"P5 {side} {max(side, 8192)} 255\n".encode()))


def test_colour_is_refused(write):
    with pytest.raises(PixelError, match="in colour"):
        read(write(np.array([[[1, 1, 2]]], dtype=np.uint8)))


def test_several_pages_are_refused(write):
    page = Image.fromarray(BYTES)
    with pytest.raises(PixelError, match="the file has more than one image"):
        read(write(encoded("TIFF", page, save_all=True, append_images=[page])))


@pytest.mark.parametrize("mode", ["F", "CMYK", "I"])
def test_other_kinds_of_pixels_are_refused(write, mode):
    with pytest.raises(PixelError, match=f"the TIFF data is of kind {mode}"):
        read(write(encoded("TIFF", Image.new(mode, (2, 2)))))


def test_a_jpeg_of_scans_without_end_is_refused(write):
    data = write(BYTES, "JPEG", progressive=True).read_bytes()
    assert read(write(data)).pixels.shape == BYTES.shape
    start, end = data.index(b"\xff\xda"), data.rindex(b"\xff\xd9")
    with pytest.raises(PixelError, match="the JPEG data has [0-9]+ scans; 100 are possible"):
        read(write(data[:end] + data[start:end] * 100 + data[end:]))


def test_pages_of_a_tiff_are_not_counted_to_the_last(write, monkeypatch):
    from PIL.TiffImagePlugin import TiffImageFile

    path = write(BYTES, "TIFF", save_all=True, append_images=[Image.fromarray(BYTES)] * 2)
    monkeypatch.setattr(TiffImageFile, "n_frames", property(lambda self: pytest.fail("it counts")))
    with pytest.raises(PixelError, match="more than one image"):
        read(path)
