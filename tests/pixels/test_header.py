"""Headers read from a path: deflated ones that would grow without end, and what is no DICOM."""

import zlib

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mammoprep.pixels import PixelError, header, identify, read_facts, read_segments
from mammoprep.pixels.header import read_header

CELLS = np.arange(12, dtype=np.uint16).reshape(3, 4)


def test_a_deflated_header_is_read(write_dicom):
    path = write_dicom(CELLS, syntax=DeflatedExplicitVRLittleEndian, PatientID="p")
    assert identify(path).patient_id == "p"
    assert "PixelData" not in read_header(path)
    assert "PixelData" in read_header(path, pixels=True)


@pytest.mark.parametrize("use", [identify, read_facts, read_segments])
def test_a_deflated_file_that_grows_too_much_is_refused_before(write_dicom, monkeypatch, use):
    monkeypatch.setattr(header, "MOST_BYTES", 2**22)
    path = write_dicom(CELLS, syntax=DeflatedExplicitVRLittleEndian, PatientID="p")
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    start = path.read_bytes().index(DeflatedExplicitVRLittleEndian.encode()) + len(DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:start] + deflate.compress(bytes(2**24)) + deflate.flush())
    with pytest.raises(PixelError, match="grows to more than 4194304 bytes"):
        use(path)


def test_what_is_not_there_or_no_dicom_is_one_reason(tmp_path):
    with pytest.raises(PixelError, match="cannot be read"):
        read_header(tmp_path / "none.dcm")
    (tmp_path / "a.dcm").write_bytes(b"no header at all")
    with pytest.raises(PixelError, match="not DICOM"):
        read_header(tmp_path / "a.dcm", force=False)
