"""The rendering as a whole, beside DCMTK's."""

import shutil
import subprocess
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoprep.pixels import Facts, PixelError, locate, read, read_values

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)

needs_dcmtk = pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="DCMTK's dcmj2pnm is not installed")
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real test files are not beside the project")


def dcmtk(path, tmp_path, *options):
    """Render with DCMTK, which knows neither padding nor LINEAR_EXACT."""
    out = tmp_path / "dcmtk.png"
    subprocess.run(["dcmj2pnm", "-O", "+on2", *options, str(path), str(out)], check=True, capture_output=True)
    return cv2.imread(str(out), cv2.IMREAD_UNCHANGED).astype(int)


@needs_dcmtk
@pytest.mark.parametrize("function", ["LINEAR", "SIGMOID"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("slope", [1, -0.5])
@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_generated_files_look_as_in_dcmtk(write_dicom, tmp_path, function, photometric, slope, kind):
    cells = RAMP.astype(kind) - (2048 if kind is np.int16 else 0)
    path = write_dicom(
        cells,
        BitsStored=12,
        PhotometricInterpretation=photometric,
        RescaleSlope=slope,
        RescaleIntercept=100,
        WindowCenter=[600, -300],
        WindowWidth=[1500, 900],
        VOILUTFunction=function,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.1.2",
        SOPInstanceUID="1.2.3",
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
