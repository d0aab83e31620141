"""Pixel data in every transfer syntax, and pixel data that does not fit its header."""

import io
import math

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.encoders import JPEG2000LosslessEncoder, JPEGLSLosslessEncoder, RLELosslessEncoder

from mammoprep.pixels import PixelError, pixel_data, read
from mammoprep.pixels.dicom import parse

GREY = np.random.default_rng(5).integers(0, 4096, (66, 50)).astype(np.uint16)
GREY[:40] = np.add.outer(np.arange(40), 60 * np.arange(50))  # smooth above, noise below
SIGNED = GREY.astype(np.int16) - 2048


def stored(path):
    return pixel_data.decode(parse(path.read_bytes()).frame)


def described(cells, bits):
    dataset = Dataset()
    dataset.Rows, dataset.Columns = cells.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * cells.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(cells.dtype.kind == "i")
    return dataset


def by_pydicom(encoder, plugin):
    def encode(cells, bits):
        dataset = described(cells, bits)
        dataset.PixelData = cells.tobytes()
        return encoder.encode(dataset, index=0, encoding_plugin=plugin)

    return encode


def jpeg_lossless(cells, bits, predictor=1):
    contents = cells.view(f"u{cells.itemsize}") & 2**bits - 1
    return imagecodecs.jpeg_encode(contents, lossless=True, bitspersample=bits, predictor=predictor)


def jpeg_ls(cells, bits):
    return imagecodecs.jpegls_encode(cells.view(f"u{cells.itemsize}"))


def jpeg_2000(cells, bits):
    return imagecodecs.jpeg2k_encode(cells, codecformat="j2k", level=0, reversible=True, bitspersample=bits)


def htj2k(cells, bits):
    return imagecodecs.htj2k_encode(cells, reversible=True)


LOSSLESS = {
    uid.RLELossless: by_pydicom(RLELosslessEncoder, "pydicom"),
    uid.JPEGLossless: lambda cells, bits: jpeg_lossless(cells, bits, predictor=4),
    uid.JPEGLosslessSV1: jpeg_lossless,
    uid.JPEGLSLossless: by_pydicom(JPEGLSLosslessEncoder, "pyjpegls"),
    uid.JPEGLSNearLossless: jpeg_ls,
    uid.JPEG2000Lossless: by_pydicom(JPEG2000LosslessEncoder, "pylibjpeg"),
    uid.JPEG2000: jpeg_2000,
    uid.HTJ2KLossless: htj2k,
    uid.HTJ2KLosslessRPCL: htj2k,
    uid.HTJ2K: htj2k,
}


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.name[:40])
@pytest.mark.parametrize(
    ("cells", "bits"),
    [((GREY >> 4).astype(np.uint8), 8), (GREY, 12), (SIGNED, 12), (GREY << 2, 14), (GREY << 4, 16), (SIGNED << 4, 16)],
    ids=["8 bit", "12 bit", "12 bit signed", "14 bit", "16 bit", "16 bit signed"],
)
def test_lossless_compression_changes_no_pixel(write_dicom, syntax, cells, bits):
    expected = read(write_dicom(cells, BitsStored=bits)).pixels
    path = write_dicom(cells, BitsStored=bits, syntax=syntax, codestreams=[LOSSLESS[syntax](cells, bits)])
    np.testing.assert_array_equal(read(path).pixels, expected)
    for witness in {"pydicom", "pyjpegls", "pylibjpeg", "gdcm"} & set(get_decoder(syntax).available_plugins):
        np.testing.assert_array_equal(pixel_array(path, decoding_plugin=witness), cells)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes(write_dicom, syntax):
    expected = read(write_dicom(SIGNED, BitsStored=12)).pixels
    np.testing.assert_array_equal(read(write_dicom(SIGNED, BitsStored=12, syntax=syntax)).pixels, expected)


def test_big_endian_words_are_swapped(write_dicom):
    words = np.array([[1, 2], [3, 0x0203]], dtype=np.uint16)
    path = write_dicom(words, data=words.byteswap().tobytes(), syntax=uid.ExplicitVRBigEndian)
    np.testing.assert_array_equal(stored(path), words)
    pairs = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    path = write_dicom(pairs, data=b"\2\1\4\3", vr="OW", syntax=uid.ExplicitVRBigEndian)
    np.testing.assert_array_equal(stored(path), pairs)


def test_lossy_jpeg_of_8_and_12_bits(write_dicom):
    smooth = np.add.outer(np.arange(0, 2048, 64), np.arange(0, 2048, 64)).astype(np.uint16)
    twelve = imagecodecs.jpeg_encode(smooth, level=95, bitspersample=12)
    path = write_dicom(smooth, BitsStored=12, syntax=uid.JPEGExtended12Bit, codestreams=[twelve])
    np.testing.assert_allclose(stored(path), smooth, atol=25)
    file = io.BytesIO()
    Image.fromarray((smooth >> 4).astype(np.uint8)).save(file, "JPEG", quality=95)
    path = write_dicom(smooth.astype(np.uint8), syntax=uid.JPEGBaseline8Bit, codestreams=[file.getvalue()])
    np.testing.assert_array_equal(stored(path), np.asarray(Image.open(file)))


def test_a_frame_may_come_in_fragments(write_dicom):
    from pydicom.encaps import encapsulate, itemize_frame

    codestream = jpeg_lossless(GREY, 12)
    path = write_dicom(GREY, BitsStored=12, syntax=uid.JPEGLosslessSV1, codestreams=[codestream])
    items = b"".join(itemize_frame(codestream, 3))
    whole = encapsulate([codestream])
    content = path.read_bytes()
    at = content.index(whole)
    path.write_bytes(content[:at] + b"\xfe\xff\x00\xe0\0\0\0\0" + items + content[at + len(whole) :])
    np.testing.assert_array_equal(stored(path), GREY)


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_a_plug_in_helps_where_imagecodecs_cannot(write_dicom, monkeypatch, syntax):
    def refuse(*_):
        raise ImportError("not built")

    for name in ("jpegls_decode", "jpeg2k_decode"):
        monkeypatch.setattr(imagecodecs, name, refuse)
    path = write_dicom(GREY, BitsStored=12, syntax=syntax, codestreams=[LOSSLESS[syntax](GREY, 12)])
    np.testing.assert_array_equal(stored(path), GREY)


PLANE = np.arange(12, dtype=np.uint8).reshape(3, 4)
TRIPLE = np.stack([PLANE] * 3, axis=-1)


@pytest.mark.parametrize(
    "layout",
    [
        {"PlanarConfiguration": 0},
        {"PlanarConfiguration": 1, "data": np.moveaxis(TRIPLE, -1, 0).tobytes()},
        {"syntax": uid.JPEG2000Lossless, "codestreams": [imagecodecs.jpeg2k_encode(TRIPLE, level=0)]},
    ],
    ids=["by pixel", "by plane", "compressed"],
)
def test_colour_is_read_where_it_is_grey(write_dicom, layout):
    np.testing.assert_array_equal(stored(write_dicom(TRIPLE, **layout)), PLANE)


def check_refused(path, capfd):
    with pytest.raises(PixelError) as caught:
        read(path)
    assert capfd.readouterr() == ("", ""), "nothing is printed"
    return str(caught.value)


def test_colour_is_refused(write_dicom, capfd):
    cells = TRIPLE.copy()
    cells[1, 2, 1] += 1
    assert check_refused(write_dicom(cells, PlanarConfiguration=0), capfd) == "the image is in colour"


def test_cut_off_pixel_data(write_dicom, capfd):
    path = write_dicom(GREY)
    path.write_bytes(path.read_bytes()[:-600])
    assert check_refused(path, capfd) == "pixel data has 6000 of 6600 bytes"


@pytest.mark.parametrize(("rows", "columns"), [(65, 50), (66, 49), (67, 50), (66, 51)])
@pytest.mark.parametrize("syntax", [None, *LOSSLESS], ids=str)
def test_rows_and_columns_that_lie(write_dicom, capfd, rows, columns, syntax):
    compressed = {"syntax": syntax, "codestreams": [LOSSLESS[syntax](GREY, 12)]} if syntax else {}
    reason = check_refused(write_dicom(GREY, BitsStored=12, Rows=rows, Columns=columns, **compressed), capfd)
    said = f"the header says {rows} × {columns} pixels, the pixel data has 66 × 50"
    assert reason == said if syntax not in (None, uid.RLELossless) else "bytes" in reason or "damaged" in reason


def test_a_codestream_of_three_channels_under_a_grey_header(write_dicom, capfd):
    path = write_dicom(PLANE, syntax=uid.JPEG2000, codestreams=[imagecodecs.jpeg2k_encode(TRIPLE, level=0)])
    assert check_refused(path, capfd) == "the header says 3 × 4 pixels, the pixel data has 3 × 4 × 3"


def test_fill_after_the_pixels_is_no_error(write_dicom):
    expected = read(write_dicom(GREY)).pixels
    np.testing.assert_array_equal(read(write_dicom(GREY, data=GREY.tobytes() + b"\0" * 12)).pixels, expected)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=str)
def test_declared_compressed_but_uncompressed(write_dicom, capfd, syntax):
    assert check_refused(write_dicom(GREY, syntax=syntax), capfd).endswith("but the pixel data is uncompressed")


def test_declared_uncompressed_but_compressed(write_dicom, capfd):
    path = write_dicom(GREY, codestreams=[jpeg_lossless(GREY, 12)])
    assert check_refused(path, capfd) == "the transfer syntax says uncompressed, but the pixel data is compressed"


@pytest.mark.parametrize(
    ("declared", "actual", "reason"),
    [
        (uid.JPEGLosslessSV1, uid.JPEGLSLossless, "says JPEG, but the pixel data is JPEG-LS"),
        (uid.JPEGLSLossless, uid.JPEG2000, "says JPEG-LS, but the pixel data is JPEG 2000"),
        (uid.JPEG2000, uid.JPEGLosslessSV1, "says JPEG 2000, but the pixel data is JPEG"),
        (uid.JPEG2000, uid.RLELossless, "says JPEG 2000, but the pixel data is something else"),
        (uid.RLELossless, uid.JPEG2000, "the RLE data is damaged or cut off"),
    ],
)
def test_another_compression_than_declared(write_dicom, capfd, declared, actual, reason):
    assert reason in check_refused(write_dicom(GREY, syntax=declared, codestreams=[LOSSLESS[actual](GREY, 12)]), capfd)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=str)
def test_a_codestream_that_is_cut_off(write_dicom, capfd, syntax, share):
    codestream = LOSSLESS[syntax](GREY, 12)
    path = write_dicom(GREY, syntax=syntax, codestreams=[codestream[: math.ceil(share * len(codestream))]])
    reason = check_refused(path, capfd)
    assert "cut off" in reason or "damaged" in reason


@pytest.mark.parametrize("syntax", sorted(set(LOSSLESS) - {uid.JPEGLossless, uid.JPEGLosslessSV1}), ids=str)
def test_a_codestream_with_a_hole(write_dicom, capfd, syntax):
    codestream = LOSSLESS[syntax](GREY, 12)
    middle = len(codestream) // 2
    path = write_dicom(GREY, syntax=syntax, codestreams=[codestream[:middle] + codestream[middle + 200 :]])
    assert "damaged" in check_refused(path, capfd)


def test_items_that_are_broken(write_dicom, capfd):
    path = write_dicom(GREY, syntax=uid.JPEGLosslessSV1, codestreams=[jpeg_lossless(GREY, 12)])
    path.write_bytes(path.read_bytes().replace(b"\xff\xd8", b"\xfe\xff", 1)[:-40])
    assert "cut off" in check_refused(path, capfd)


def test_two_frames_behind_one_offset_table(write_dicom, capfd):
    codestream = jpeg_lossless(GREY, 12)
    path = write_dicom(GREY, syntax=uid.JPEGLosslessSV1, codestreams=[codestream, codestream])
    assert check_refused(path, capfd) == "the file has more than one frame"


def test_a_transfer_syntax_that_is_not_supported(write_dicom, capfd):
    path = write_dicom(GREY, syntax=uid.MPEG2MPML, codestreams=[b"\0\0\1\xb3"])
    assert check_refused(path, capfd).startswith("the transfer syntax MPEG2 Main Profile")


def test_a_transfer_syntax_that_is_none_is_not_quoted(write_dicom, capfd):
    path = write_dicom(GREY, syntax=uid.UID("1.2.3.4711"))
    assert check_refused(path, capfd) == "the transfer syntax in the header is not supported"


@pytest.mark.parametrize("offset", [0, 63, 10**9])
def test_rle_with_wrong_offsets(write_dicom, capfd, offset):
    codestream = bytearray(LOSSLESS[uid.RLELossless](GREY, 12))
    codestream[8:12] = offset.to_bytes(4, "little")
    path = write_dicom(GREY, syntax=uid.RLELossless, codestreams=[bytes(codestream)])
    assert check_refused(path, capfd) == "the RLE data is damaged or cut off"
