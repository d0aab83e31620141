"""Grey values, worked out by hand from PS3.3 C.7.5, C.11.1 and C.11.2."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_voi_lut

from mammoprep.errors import MammoprepError
from mammoprep.pixels import PixelError, check_window, read
from mammoprep.pixels.tones import Lut, Tones, Window, render

WORDS = Tones(bits=16)


def greys(stored, tones=WORDS, window="auto"):
    return render(np.array([stored], dtype=np.uint16), tones=tones, window=window)[0].tolist()


def windowed(values, center, width, function="LINEAR"):
    tones = Tones(bits=16, signed=True, windows=(Window(center, width, function),))
    return greys(np.array(values, dtype=np.int16).view(np.uint16), tones)


def table(entries, *, first=0, bits=16, kind="<u2", count=None):
    data = np.array(entries).astype(kind).tobytes()
    return Lut(count or len(entries), first, bits, data, little_endian=kind != ">u2")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("kind", "bits"), [("u1", 8), ("u2", 10), ("u2", 12), ("u2", 14), ("u2", 16), ("i1", 8), ("i2", 12), ("i2", 16)]
)
@pytest.mark.parametrize("how", ["window", "full"])
def test_every_depth_sign_and_photometric_spans_black_to_white(write_dicom, photometric, kind, bits, how):
    signed = kind.startswith("i")
    low = -(2 ** (bits - 1)) if signed else 0
    cells = np.array([[low, low + (2**bits - 1) // 3, low + 2**bits - 1]]).astype(kind)
    window = {"WindowCenter": low + 2 ** (bits - 1), "WindowWidth": 2**bits} if how == "window" else {}
    path = write_dicom(cells, BitsStored=bits, PhotometricInterpretation=photometric, **window)
    expected = [0, round((2**bits - 1) // 3 / (2**bits - 1) * 65535), 65535]
    if photometric == "MONOCHROME1":
        expected = [65535 - grey for grey in expected]
    assert read(path).pixels.tolist() == [expected]


@pytest.mark.parametrize(
    ("center", "width", "values", "expected"),  # the first three are the examples of PS3.3 C.11.2.1.2.1
    [
        (2048, 4096, [-1, 0, 1365, 4095, 4096], [0, 0, 21845, 65535, 65535]),
        (2048, 1, [2047, 2048], [0, 65535]),
        (0, 100, [-51, -50, -17, 49, 50], [0, 0, 21845, 65535, 65535]),
        (1636, 1500, [886, 1385, 2385], [0, round(499 / 1499 * 65535), 65535]),
    ],
)
def test_linear(center, width, values, expected):
    assert windowed(values, center, width) == expected


@given(center=st.integers(-2000, 2000), width=st.integers(2, 65536))
@settings(max_examples=40, deadline=None)
def test_sixteen_bits_lose_nothing_of_the_windowed_range(center, width):
    tones = Tones(bits=16, signed=True, windows=(Window(center, width, "LINEAR"),))
    low, high = (center - 0.5 + side * (width - 1) / 2 for side in (-1, 1))
    values = np.arange(max(-32768, math.ceil(low)), min(32767, math.floor(high)) + 1)
    shares = np.array(greys(values.astype(np.int16).view(np.uint16), tones)) / 65535
    np.testing.assert_array_equal(np.rint((shares - 0.5) * (width - 1) + center - 0.5), values)


def test_linear_exact_has_no_half_pixel_shift():
    assert windowed([49, 50, 75, 100, 150, 151], 100, 100, "LINEAR_EXACT") == [0, 0, 16384, 32768, 65535, 65535]


def test_linear_exact_takes_a_width_below_one():
    assert windowed([99, 100, 101], 100, 0.5, "LINEAR_EXACT") == [0, 32768, 65535]
    assert windowed([99, 100, 101], 100, 1e-308, "LINEAR_EXACT") == [0, 32768, 65535]


def test_sigmoid():
    shares = [1 / (1 + math.e), 0.5, 1 / (1 + 1 / math.e)]
    assert windowed([0, 100, 200], 100, 400, "SIGMOID") == [round(share * 65535) for share in shares]
    assert windowed([-32768, 32767], 0, 1, "SIGMOID") == [0, 65535]


@given(
    center=st.floats(-40000, 40000),
    width=st.floats(1.001, 70000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
@settings(max_examples=40, deadline=None)
def test_windows_agree_with_pydicom(center, width, function):
    ramp = np.arange(-32768, 32768, 7)
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = f"{center:.6f}", f"{width:.6f}", function
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 16, 1
    with np.errstate(over="ignore"):
        theirs = (apply_voi_lut(ramp, dataset) + 32768).clip(0, 65535)
    ours = windowed(ramp, float(dataset.WindowCenter), float(dataset.WindowWidth), function)
    np.testing.assert_allclose(ours, theirs, atol=1)


@pytest.mark.parametrize(("center", "width"), [(math.nan, 5), (5, math.nan), (math.inf, 5), (5, 0), (5, -3), (5, 0.5)])
def test_a_window_that_cannot_be_applied_is_refused(center, width):
    with pytest.raises(PixelError, match="window"):
        windowed([1], center, width)


def test_an_unknown_function_is_refused():
    with pytest.raises(PixelError, match="none of LINEAR, LINEAR_EXACT and SIGMOID"):
        windowed([1], 10, 10, "LOG")


def test_a_voi_lut_holds_its_ends():
    tones = Tones(bits=16, luts=(table([0, 1365, 4095], first=10, bits=12),))
    assert greys([0, 10, 11, 12, 13, 65535], tones) == [0, 0, 21845, 65535, 65535, 65535]


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2"])
def test_a_voi_lut_of_8_bits_may_be_stored_in_bytes_or_words(kind):
    assert greys([0, 1, 2], Tones(bits=16, luts=(table([0, 85, 255], bits=8, kind=kind),))) == [0, 21845, 65535]


@pytest.mark.parametrize("first", [-2, 65534])
def test_a_negative_first_input_may_be_stored_as_unsigned(first):
    tones = Tones(bits=12, signed=True, luts=(table([0, 21845, 65535], first=first),))
    assert greys([0x0FFE, 0x0FFF, 0x0000], tones) == [0, 21845, 65535]


def test_a_large_first_input_stays_positive_where_inputs_reach_it():
    assert greys([39999, 40001], Tones(bits=16, luts=(table([0, 65535], first=40000),))) == [0, 65535]


@pytest.mark.parametrize("lut", [Lut(4, 0, 16, b"\0" * 6), Lut(4, 0, 8, b"\0" * 3), Lut(1, 0, 17, b"\0\0")])
def test_a_broken_lut_is_refused_only_when_used(lut):
    tones = Tones(bits=16, luts=(lut,), windows=(Window(1, 2, "LINEAR"),))
    assert greys([0, 1], tones, window="1") == [0, 65535]
    with pytest.raises(PixelError, match="look-up table"):
        greys([0], tones)


def test_the_rescale_comes_before_the_window():
    tones = Tones(bits=16, slope=-2, intercept=200, windows=(Window(100, 100, "LINEAR_EXACT"),))
    assert greys([25, 50, 75], tones) == [65535, 32768, 0]


@pytest.mark.parametrize(("slope", "intercept"), [(0, 0), (math.nan, 0), (1, math.inf), (1e305, 0)])
def test_a_rescale_that_loses_everything_is_refused(slope, intercept):
    with pytest.raises(PixelError, match="rescale slope"):
        greys([1], Tones(bits=16, slope=slope, intercept=intercept))


def test_the_modality_lut_comes_before_the_window():
    tones = Tones(bits=16, modality=table([50, 75, 150]), windows=(Window(100, 100, "LINEAR_EXACT"),))
    assert greys([0, 1, 2], tones) == [0, 16384, 65535]


@pytest.mark.parametrize("padding", [(7, 9), (0, 9)])
def test_padding_is_black_after_inversion(padding):
    tones = Tones(bits=16, padding=padding, inverted=True, default=Window(32768, 65536, "LINEAR"))
    assert greys([7, 8, 9, 10, 65535], tones) == [0, 0, 0, 65525, 0]


def test_padding_is_compared_before_the_rescale():
    tones = Tones(bits=16, padding=(3, 3), intercept=100, default=Window(32768, 65536, "LINEAR"))
    assert greys([3, 4, 103], tones) == [0, 104, 203]


def test_the_full_range_leaves_padding_out():
    assert greys([0, 10, 20, 30, 5000], Tones(bits=16, padding=(5000, 5000))) == [0, 21845, 43690, 65535, 0]
    assert greys([0, 10, 15, 20], Tones(bits=16, padding=(0, 0), inverted=True)) == [0, 65535, 32767, 0]


def test_a_constant_image_is_black_and_so_is_one_of_padding():
    assert greys([7, 7]) == [0, 0]
    assert greys([7, 7], Tones(bits=16, padding=(7, 7), inverted=True)) == [0, 0]


def test_bits_beside_the_stored_ones_are_overlays():
    tones = Tones(bits=12, default=Window(2048, 4096, "LINEAR"))
    assert greys([0x0FFF, 0xFFFF, 0x8555, 0xF000], tones) == [65535, 65535, 21845, 0]


def test_the_stored_bits_may_start_higher():
    tones = Tones(bits=12, shift=4, signed=True, default=Window(0, 4096, "LINEAR"))
    assert greys([0x800F, 0xD550, 0x7FF1], tones) == [0, 21845, 65535]


CHOICES = Tones(
    bits=8,
    luts=(table([0, 0, 9], bits=4), table([0, 0, 0, 15], bits=4)),
    windows=(Window(1, 2, "LINEAR", "Current"), Window(2, 2, "LINEAR", "STANDARD"), Window(3, 2, "LINEAR", "standard")),
    function="LINEAR_EXACT",
)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", [0, 0, 39321, 39321]),
        ("lut:2", [0, 0, 0, 65535]),
        ("1", [0, 65535, 65535, 65535]),
        ("2", [0, 0, 65535, 65535]),
        ("CURRENT", [0, 65535, 65535, 65535]),
        (" Standard ", [0, 0, 65535, 65535]),
        ("2/2", [0, 0, 32768, 65535]),
        ("full", [0, 21845, 43690, 65535]),
    ],
)
def test_a_window_is_chosen_by_place_name_or_value(choice, expected):
    assert render(np.array([[0, 1, 2, 3]], dtype=np.uint8), tones=CHOICES, window=choice).tolist() == [expected]


@pytest.mark.parametrize("choice", ["4", "lut:3", "bright"])
def test_a_choice_that_the_file_does_not_have_names_those_it_has(choice):
    with pytest.raises(PixelError, match=r"auto, full, 1, 2, 3, lut:1, lut:2$"):
        greys([1], CHOICES, window=choice)


@pytest.mark.parametrize("text", ["auto", "Full", "3", "lut:2", "1636/1500", "-20.5/.5", "STANDARD", "Default W/L"])
def test_window_choices_that_some_file_may_have(text):
    assert check_window(text) is None


@pytest.mark.parametrize(
    "text", ["", " ", "0", "-1", "1.5", "lut:", "lut:0", "lut:x", "5/0", "5/-1", "/", "5/", "1/2/3"]
)
def test_window_choices_that_no_file_has(text, tmp_path):
    with pytest.raises(MammoprepError, match="Say auto, full"):
        read(tmp_path / "absent", window=text)


def test_a_slope_of_infinity_is_no_number_and_warns_of_nothing():
    with pytest.raises(PixelError, match="no number"):
        render(np.zeros((2, 2), np.uint16), tones=Tones(bits=12, slope=math.inf), window="auto")
