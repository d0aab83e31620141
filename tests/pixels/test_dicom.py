"""Headers as real files have them: incomplete, odd, damaged, or none at all."""

import logging
import math
import struct
import tracemalloc
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset

from mammoprep.pixels import Facts, PixelError, read, read_facts
from mammoprep.pixels.dicom import parse

CELLS = np.arange(12, dtype=np.uint16).reshape(3, 4)
PATIENT = {"PatientName": "Doe^Jane", "PatientID": "4711-secret", "PatientComments": "Doe^Jane"}


def facts(path):
    return parse(path.read_bytes()).facts


def tones(path):
    return parse(path.read_bytes()).tones


def coded(value):
    item = Dataset()
    item.CodeValue = value
    return item


def lut(first, data, vr=None):
    item = Dataset()
    item.add_new("LUTDescriptor", vr or ("SS" if first < 0 else "US"), [len(data), first, 16])
    item.add_new("LUTData", "US", data)
    return item


def test_facts_of_a_full_header(write_dicom):
    path = write_dicom(
        CELLS,
        Manufacturer="SIEMENS",
        ImagerPixelSpacing=[0.085, 0.09],
        PixelSpacing=[1, 1],
        ImageLaterality="L",
        Laterality="R",
        ViewPosition="MLO",
    )
    assert facts(path) == Facts("SIEMENS", 0.085, "L", "MLO")


def test_facts_from_the_second_place(write_dicom):
    path = write_dicom(CELLS, PixelSpacing=[0.07, 0.08], Laterality="R", ViewCodeSequence=[coded("399162004")])
    assert facts(path) == Facts("", 0.07, "R", "CC")


def test_facts_that_are_absent_or_nonsense(write_dicom):
    assert facts(write_dicom(CELLS)) == Facts("", None, "", "")
    assert facts(write_dicom(CELLS, PixelSpacing=[0, 0], ImageLaterality="B")) == Facts("", None, "", "")
    assert facts(write_dicom(CELLS, ViewCodeSequence=[coded("R-00000")])).view == ""


def test_the_older_view_codes_are_known(write_dicom):
    assert facts(write_dicom(CELLS, ViewCodeSequence=[coded("R-10226")])).view == "MLO"


@pytest.mark.parametrize(
    ("orientation", "side"),
    [(["A", "R"], "L"), (["A", "FR"], "L"), (["P", "L"], "R"), (["P", "FL"], "R"), (["A", "L"], ""), (["A"], "")],
)
def test_the_side_follows_from_the_orientation(write_dicom, orientation, side):
    assert facts(write_dicom(CELLS, PatientOrientation=orientation)).laterality == side
    assert facts(write_dicom(CELLS, PatientOrientation=orientation, ImageLaterality="R")).laterality == "R"


def test_facts_are_read_without_pixels(write_dicom):
    path = write_dicom(CELLS, ImageLaterality="L", ViewPosition="MLO", data=b"")

    assert read_facts(path) == Facts(laterality="L", view="MLO")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PixelError, match="or the file is not DICOM"):
        read_facts(path)


def with_modifiers(*codes):
    item = coded("R-10242")
    item.ViewModifierCodeSequence = [coded(code) for code in codes]
    return [item]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, ()),
        ({"PresentationIntentType": "FOR PRESENTATION", "BurnedInAnnotation": "NO"}, ()),
        ({"PresentationIntentType": "FOR PROCESSING"}, ("for processing",)),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2.1"}, ("for processing",)),
        ({"BreastImplantPresent": "YES", "PartialView": "YES"}, ("implant", "partial view")),
        ({"BurnedInAnnotation": "YES"}, ("burned-in text",)),
        ({"ViewCodeSequence": with_modifiers("399055006", "R-102D6")}, ("magnification", "spot compression")),
        ({"ViewModifierCodeSequence": [coded("R-102D5")]}, ("implant displaced",)),
        ({"ViewCodeSequence": with_modifiers("4711-secret")}, ()),
    ],
)
def test_attributes_in_words_of_our_own(write_dicom, elements, expected):
    assert facts(write_dicom(CELLS, **elements)).attributes == expected


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"NumberOfFrames": 10**6, "Rows": 8000, "Columns": 8000}, "the file has more than one frame"),
        ({"Rows": 65535, "Columns": 65535}, "the header says 65535 rows and 65535 columns"),
    ],
)
def test_a_header_that_says_too_much_is_refused_before_memory_is_taken(write_dicom, elements, reason):
    path = write_dicom(CELLS, **elements)
    tracemalloc.start()
    try:
        with pytest.raises(PixelError, match=reason):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_codestream_larger_than_its_header_says_is_not_decoded(write_dicom, monkeypatch):
    codestream = imagecodecs.jpeg2k_encode(CELLS, codecformat="j2k", level=0)
    size = codestream.index(b"\xff\x51") + 6
    huge = codestream[:size] + struct.pack(">2I", 65535, 65535) + codestream[size + 8 :]
    monkeypatch.setattr(imagecodecs, "jpeg2k_decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(PixelError, match="the pixel data has 65535 × 65535"):
        read(write_dicom(CELLS, syntax=uid.JPEG2000, codestreams=[huge]))


def test_a_file_of_many_gigabytes_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "tomosynthesis.dcm"
    with path.open("wb") as file:
        file.truncate(2**33)  # a hole, which takes no room on the disk
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(PixelError, match=r"^the file has 8589934592 bytes, more than one image can have$"):
        read(path)


def test_a_deflated_file_is_refused_before_it_has_grown(write_dicom):
    path = write_dicom(CELLS, syntax=uid.DeflatedExplicitVRLittleEndian)
    content, name = path.read_bytes(), uid.DeflatedExplicitVRLittleEndian.encode()
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    body = b"".join(deflate.compress(bytes(2**24)) for _ in range(33)) + deflate.flush()
    path.write_bytes(content[: content.index(name) + len(name)] + body)
    tracemalloc.start()
    try:
        with pytest.raises(PixelError, match="the deflated file grows to more than 536870912 bytes"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def element(tag, vr, value):
    return struct.pack("<HH2sH", *tag, vr, len(value)) + value


def headless(*elements):
    """A data set without preamble and file meta information, explicit little endian."""
    size = element((0x28, 0x10), b"US", b"\1\0") + element((0x28, 0x11), b"US", b"\2\0")
    depth = b"".join(element((0x28, tag), b"US", b"\x10\0") for tag in (0x100, 0x101))
    grey = element((0x28, 4), b"CS", b"MONOCHROME2 ")
    data = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 4) + b"\0\0\1\0"
    return element((8, 0x60), b"CS", b"MG") + b"".join(elements) + grey + size + depth + data


def test_a_file_without_preamble_and_meta_information(tmp_path):
    path = tmp_path / "7f1b"
    path.write_bytes(headless())
    assert read(path).pixels.tolist() == [[0, 65535]]


def test_lists_that_a_script_wrote_as_text(tmp_path):
    path = tmp_path / "image.dicom"
    spacing = element((0x18, 0x1164), b"DS", b"[0.085, 0.085]")
    windows = element((0x28, 0x1050), b"DS", b"[10, 20] ") + element((0x28, 0x1051), b"DS", b"[4, 6]")
    names = element((0x28, 0x1055), b"LO", b"['CURRENT', 'STANDARD']")
    path.write_bytes(headless(spacing, windows, names))
    assert facts(path).pixel_spacing_mm == 0.085
    assert [(w.center, w.width, w.name) for w in tones(path).windows] == [(10, 4, "CURRENT"), (20, 6, "STANDARD")]


@pytest.mark.filterwarnings("error")
def test_identifiers_that_are_no_uids_are_no_matter(tmp_path, capfd, caplog):
    path = tmp_path / "image.dicom"
    path.write_bytes(headless(element((8, 0x18), b"UI", b"4e3a578fe535ea4f5258d3f7f4419db8")))
    with caplog.at_level(logging.DEBUG):
        assert read(path).pixels.tolist() == [[0, 65535]]
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, []),
        ({"WindowCenter": "", "WindowWidth": ""}, []),
        ({"WindowCenter": 5, "WindowWidth": 3}, [(5, 3)]),
        ({"WindowCenter": [5, 6], "WindowWidth": [3, 4]}, [(5, 3), (6, 4)]),
        ({"WindowCenter": [5, 6], "WindowWidth": 3}, [(5, 3), (6, 3)]),
        ({"WindowCenter": [5, 6, 7], "WindowWidth": [3, 4]}, [(5, 3), (6, 4)]),
        ({"WindowCenter": 5}, []),
    ],
)
def test_windows(write_dicom, elements, expected):
    assert [(window.center, window.width) for window in tones(write_dicom(CELLS, **elements)).windows] == expected


def test_a_window_that_is_no_number_matters_only_when_chosen(tmp_path):
    path = tmp_path / "image.dicom"
    path.write_bytes(headless(element((0x28, 0x1050), b"DS", b"NaN "), element((0x28, 0x1051), b"DS", b"1,5 ")))
    assert math.isnan(tones(path).windows[0].width)
    assert read(path, window="full").pixels.tolist() == [[0, 65535]]
    with pytest.raises(PixelError, match="no number"):
        read(path)


@pytest.mark.parametrize(
    ("kind", "value", "limit", "expected"),
    [
        (np.uint16, 10000, None, (10000, 10000)),
        (np.uint16, 0, 294, (0, 294)),
        (np.uint16, 294, 0, (0, 294)),
        (np.int16, -2000, None, (-2000, -2000)),
        (np.int16, -5, -2000, (-2000, -5)),
        (np.uint16, None, 30, None),
    ],
)
@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_padding(write_dicom, kind, value, limit, expected, syntax):
    elements = {"PixelPaddingValue": value, "PixelPaddingRangeLimit": limit}
    assert tones(write_dicom(CELLS.astype(kind), syntax=syntax, **elements)).padding == expected


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_luts_are_read_in_every_encoding(write_dicom, syntax):
    cells = np.array([[-3, -2, -1, 0]], dtype=np.int16)
    path = write_dicom(
        cells.byteswap() if syntax == uid.ExplicitVRBigEndian else cells,
        syntax=syntax,
        RescaleSlope=2,
        ModalityLUTSequence=[lut(-3, [7, 8, 9, 5])],
        VOILUTSequence=[lut(5, [0, 1, 2, 3, 65535]), lut(5, [65535, 0])],
    )
    assert read(path).pixels.tolist() == [[2, 3, 65535, 0]]
    assert read(path, window="lut:2").pixels.tolist() == [[0, 0, 0, 65535]]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, "the header says 65535 rows and 65535 columns"),
        ({"Rows": 0}, "the header says 0 rows"),
        ({"Rows": None}, "the header has no Rows"),
        ({"BitsAllocated": None, "BitsStored": None}, "the header has no BitsAllocated"),
        ({"BitsAllocated": 32}, "16 bits stored in 32 allocated"),
        ({"BitsAllocated": 8}, "16 bits stored in 8 allocated"),
        ({"BitsStored": 12, "HighBit": 16}, "high bit 16 of 12 bits stored in 16 allocated"),
        ({"BitsStored": 12, "HighBit": 10}, "high bit 10 of 12"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "neither MONOCHROME1 nor MONOCHROME2"),
        ({"PhotometricInterpretation": None}, "neither MONOCHROME1 nor MONOCHROME2"),
        ({"SamplesPerPixel": 4}, "4 samples a pixel"),
        ({"NumberOfFrames": 2}, "more than one frame"),
        ({"VOILUTSequence": [Dataset()]}, "no descriptor of three numbers"),
        ({"RescaleSlope": 0}, "rescale slope"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "the window's width is 0"),
        ({"data": b""}, "pixel data"),
    ],
)
def test_headers_that_are_refused(write_dicom, elements, reason):
    with pytest.raises(PixelError, match=reason):
        read(write_dicom(CELLS, **PATIENT, **elements))


def cut(content, at):
    return content[: content.index(at)]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: b"", "the file is empty"),
        (lambda content: content[:140], "has no pixel data"),
        (lambda content: cut(content, b"MONOCHROME2"), "has no pixel data"),
        (
            lambda content: content.replace(b"\x28\0\x10\0US\2\0", b"\x28\0\x10\0US\xff\xff"),
            "pixel data is cut off",
        ),
        (lambda content: b"\x30\x82\x10\0\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03" + content, "is encrypted"),
        (lambda content: b"PK\3\4" + content, "no image: neither DICOM nor"),
        (lambda content: content[:132] + b"\xff" * 40, "no pixel data|damaged"),
    ],
)
def test_files_that_are_damaged(write_dicom, damage, reason):
    path = write_dicom(CELLS, **PATIENT)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PixelError, match=reason):
        read(path)


def test_compressed_pixel_data_that_ends_early(write_dicom):
    path = write_dicom(CELLS, syntax=uid.JPEGLosslessSV1, codestreams=[b"\xff\xd8" + b"\1" * 100])
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(PixelError, match="^the pixel data is cut off$"):
        read(path)


def test_pixel_data_that_is_encrypted(write_dicom):
    path = write_dicom(CELLS, EncryptedAttributesSequence=[Dataset()])
    path.write_bytes(cut(path.read_bytes(), b"\xe0\x7f\x10\0"))
    with pytest.raises(PixelError, match="^the pixel data is encrypted$"):
        read(path)


def test_a_file_that_is_not_there_is_named_without_its_path(tmp_path):
    with pytest.raises(PixelError, match=r"^the file cannot be read \(No such file or directory\)$"):
        read(tmp_path / "Doe^Jane")


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_broken_gives_an_image_or_a_reason(write_dicom, capfd, data):
    path = write_dicom(
        CELLS, **PATIENT, WindowCenter=[5, 6], WindowWidth=[3, 4], VOILUTSequence=[lut(5, [0, 1, 65535])]
    )
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    reason = ""
    try:
        read(path)
    except PixelError as error:
        reason = str(error)
    assert "Doe" not in reason
    assert "4711" not in reason
    assert capfd.readouterr() == ("", "")
