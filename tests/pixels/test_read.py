"""The rendering as a whole, beside DCMTK's."""

import shutil
import subprocess
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset

from mammoprep.pixels import Facts, PixelError, locate, read, read_values

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)

RENDERER = shutil.which("dcm2img") or shutil.which("dcmj2pnm")
needs_dcmtk = pytest.mark.skipif(RENDERER is None, reason="DCMTK's dcm2img or dcmj2pnm is not installed")
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real test files are not beside the project")
DCMTK = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2", "SOPInstanceUID": "1.2.3"}
"""What DCMTK's own tools want of a file."""
SYNTAXES = {
    "Explicit VR Little Endian": "dcmconv +te",
    "Implicit VR Little Endian": "dcmconv +ti",
    "Explicit VR Big Endian": "dcmconv +tb",
    "Deflated": "dcmconv +td",
    "RLE": "dcmcrle",
    "JPEG lossless": "dcmcjpeg +el",
    "JPEG lossless SV1": "dcmcjpeg +e1",
    "JPEG-LS": "dcmcjpls +el",
}
"""Transfer syntaxes that DCMTK writes and reads: not JPEG 2000, which test_pixel_data.py compares to uncompressed."""


def dcmtk(path, tmp_path, *options, renderer=RENDERER):
    """Render with DCMTK, which knows neither padding nor LINEAR_EXACT."""
    out = tmp_path / "dcmtk.png"
    subprocess.run([renderer, "-O", "+on2", *options, str(path), str(out)], check=True, capture_output=True)
    return cv2.imread(str(out), cv2.IMREAD_UNCHANGED).astype(int)


def ramp(bits, signed):
    """Give every stored value, or 4096 of them with both ends."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    values = np.linspace(low, high, min(2**bits, 4096)).round()
    return values.reshape(-1, 64).astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")


def voi_lut(bits, first):
    """Give a LUT of 256 entries that bends the lower quarter of the values."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [256, first, 16])
    item.add_new("LUTData", "US", (np.linspace(0, 1, 256) ** 0.5 * 65535).round().astype(int).tolist())
    return item


@needs_dcmtk
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_every_syntax_depth_and_sign_looks_as_in_dcmtk(write_dicom, tmp_path, syntax, bits, signed):
    tool, *options = SYNTAXES[syntax].split()
    renderer = RENDERER if syntax != "JPEG-LS" or "dcm2img" in str(RENDERER) else shutil.which("dcml2pnm")
    if shutil.which(tool) is None or renderer is None:
        pytest.skip(f"DCMTK's {tool} or its renderer of {syntax} is not installed")
    cells, centre = ramp(bits, signed), 0 if signed else 2 ** (bits - 1)
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        path = write_dicom(
            cells,
            BitsStored=bits,
            PhotometricInterpretation=photometric,
            WindowCenter=[centre + 20, centre],
            WindowWidth=[2 ** (bits - 1), 2**bits],
            VOILUTSequence=[voi_lut(bits, centre - 128)],
            **DCMTK,
        )
        subprocess.run([tool, *options, path, tmp_path / "made.dcm"], check=True, capture_output=True)
        kinds = {"1": ("--use-window", "1"), "2": ("--use-window", "2"), "lut:1": ("--use-voi-lut", "1")}
        for window, wanted in (kinds | {"full": ("--min-max-window",)}).items():
            theirs = dcmtk(tmp_path / "made.dcm", tmp_path, *wanted, renderer=renderer)
            ours = read(tmp_path / "made.dcm", window=window).pixels
            assert abs(ours - theirs).max() < 257, (photometric, window)


@needs_dcmtk
@pytest.mark.parametrize("function", ["LINEAR", "SIGMOID"])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("slope", [1, -0.5, -2])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_every_function_after_a_rescale_looks_as_in_dcmtk(
    write_dicom, tmp_path, function, bits, photometric, slope, signed
):
    if slope == -0.5 and bits == 8:
        pytest.skip("DCMTK rounds rescaled values to whole numbers, which of 8 bits is more than one grey level")
    span = 2**bits * abs(slope)
    path = write_dicom(
        ramp(bits, signed),
        BitsStored=bits,
        PhotometricInterpretation=photometric,
        RescaleSlope=slope,
        RescaleIntercept=100,
        WindowCenter=[f"{0.15 * span:.2f}", f"{-0.1 * span:.2f}"],
        WindowWidth=[f"{0.4 * span:.2f}", f"{0.25 * span:.2f}"],
        VOILUTFunction=function,
        **DCMTK,
    )
    for number in ("1", "2"):
        theirs = dcmtk(path, tmp_path, "--use-window", number)
        assert abs(read(path, window=number).pixels - theirs).max() < 257


@needs_dcmtk
@needs_data
@pytest.mark.parametrize(
    ("name", "window", "options"),
    [
        ("GH133", "auto", ("--use-voi-lut", "1")),
        ("GH133", "lut:3", ("--use-voi-lut", "3")),
        ("GH133", "1", ("--use-window", "1")),
        ("GH133", "HARDER", ("--use-window", "2")),
        ("OutOfBoundsOverlay", "auto", ("--use-window", "1")),
        ("OutOfBoundsOverlay", "1636/1500", ("--set-window", "1636", "1500")),
    ],
)
def test_real_files_look_as_in_dcmtk(tmp_path, name, window, options):
    path = REAL / f"{name}.dcm"
    left, top = (1700, 1000) if name == "GH133" else (400, 300)
    ours = read(path, window=window).pixels[top : top + 300, left : left + 600]
    theirs = dcmtk(path, tmp_path, "--clip-region", str(left), str(top), "600", "300", *options)
    assert ours.std() > 1000
    assert abs(ours - theirs)[ours > 0].max() < 257


@needs_data
def test_facts_of_a_real_file():
    grey = read(REAL / "GH133.dcm")
    assert grey.pixels.shape == (3062, 2394)
    assert grey.facts == Facts("GE MEDICAL SYSTEMS", 0.09409090909091, "R", "MLO")


def test_threads_leave_the_warning_filters_as_they_were(write_dicom):
    path = write_dicom(RAMP, BitsStored=12)
    before = warnings.filters.copy()
    threads = [threading.Thread(target=lambda: [read(path) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_the_same_file_gives_the_same_pixels(write_dicom):
    path = write_dicom(RAMP, BitsStored=12, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID")
    assert read(path).pixels.tobytes() == read(path).pixels.tobytes()


def test_stored_values_are_neither_windowed_nor_inverted(write_dicom):
    path = write_dicom(RAMP, BitsStored=12, PhotometricInterpretation="MONOCHROME1", WindowCenter=9, WindowWidth=3)

    assert np.array_equal(read_values(path), RAMP)


def test_stored_values_of_a_picture(tmp_path):
    cv2.imwrite(str(tmp_path / "labels.png"), np.array([[0, 1], [2, 255]], dtype=np.uint8))

    assert read_values(tmp_path / "labels.png").tolist() == [[0, 1], [2, 255]]


def test_a_file_is_looked_for_inside_its_folder_only(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in ("secret.png", "raw/image.png"):
        (tmp_path / name).touch()

    assert locate(tmp_path / "raw", "image.png") == tmp_path / "raw" / "image.png"
    with pytest.raises(PixelError, match="the path leaves the raw folder"):
        locate(tmp_path / "raw", "../secret.png")
    with pytest.raises(PixelError, match="the file is not there"):
        locate(tmp_path / "raw", "secret.png")


def test_a_name_that_no_file_can_have_is_not_there(tmp_path):
    with pytest.raises(PixelError, match="cannot be looked for|is not there"):
        locate(tmp_path, "x" * 5000)
