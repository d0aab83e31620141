"""DICOM SEG files: frames, segments and the images they refer to."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import ExplicitVRLittleEndian

from mammoprep.pixels import PixelError, identify, read_frames, read_segments

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "dicom" / "seg-test-SEG.dcm"
MASKS = np.zeros((3, 5, 7), dtype=np.uint8)
MASKS[0, 1, 2:4], MASKS[1, 2, 3], MASKS[2, 4, 6] = 1, 1, 1


def item(**values):
    content = Dataset()
    for keyword, value in values.items():
        setattr(content, keyword, value)
    return content


def reference(uid):
    return [item(SourceImageSequence=[item(ReferencedSOPInstanceUID=uid)])]


def write(path, *, frames=((1, "1.2.1"), (2, "1.2.1"), (1, "1.2.1")), **changes):
    """Write a SEG of three frames of 5 x 7 pixels: 35 bits each, so that they do not begin at whole bytes."""
    content = item(
        Modality="SEG",
        SOPInstanceUID="1.2.9",
        SegmentationType="BINARY",
        NumberOfFrames=3,
        Rows=5,
        Columns=7,
        SamplesPerPixel=1,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        PixelRepresentation=0,
        PhotometricInterpretation="MONOCHROME2",
        SegmentSequence=[item(SegmentNumber=n, SegmentLabel=label) for n, label in ((1, "mass"), (2, "cyst"))],
        PerFrameFunctionalGroupsSequence=[
            item(
                SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
                **({"DerivationImageSequence": reference(uid)} if uid else {}),
            )
            for number, uid in frames
        ],
        PixelData=pack_bits(MASKS.ravel()),
        **{},
    )
    for keyword, value in changes.items():
        setattr(content, keyword, value) if value is not None else delattr(content, keyword)
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, content, enforce_file_format=False, implicit_vr=False, little_endian=True)
    return path


def test_segments_name_their_image_and_frames(tmp_path):
    first, second = read_segments(write(tmp_path / "s.dcm"))

    assert (first.number, first.label, first.sop_uid, first.frames) == (1, "mass", "1.2.1", (0, 2))
    assert (second.number, second.label, second.sop_uid, second.frames) == (2, "cyst", "1.2.1", (1,))


def test_a_segment_over_two_images_is_two(tmp_path):
    found = read_segments(write(tmp_path / "s.dcm", frames=((1, "1.2.1"), (1, "1.2.2"), (1, "1.2.2"))))

    assert [(each.sop_uid, each.frames) for each in found] == [("1.2.1", (0,)), ("1.2.2", (1, 2))]


def test_the_only_image_may_stand_in_the_header_alone(tmp_path):
    listed = [item(ReferencedInstanceSequence=[item(ReferencedSOPInstanceUID="1.2.7")])]
    frames = ((1, ""), (2, ""), (1, ""))

    assert {each.sop_uid for each in read_segments(write(tmp_path / "s.dcm", frames=frames))} == {""}
    path = write(tmp_path / "s.dcm", frames=frames, ReferencedSeriesSequence=listed)
    assert {each.sop_uid for each in read_segments(path)} == {"1.2.7"}


@pytest.mark.parametrize("place", range(3))
def test_frames_of_bits_are_unpacked(tmp_path, place):
    assert np.array_equal(read_frames(write(tmp_path / "s.dcm"), [place]), MASKS[place] == 1)


def test_frames_are_united(tmp_path):
    assert np.array_equal(read_frames(write(tmp_path / "s.dcm"), [0, 2]), (MASKS[0] | MASKS[2]) == 1)


def test_a_fractional_mask_begins_at_half(tmp_path):
    values = np.where(MASKS == 1, 128, 127).astype(np.uint8)
    changes = {"SegmentationType": "FRACTIONAL", "MaximumFractionalValue": 255, "PixelData": values.tobytes() + b"\0"}
    path = write(tmp_path / "s.dcm", BitsAllocated=8, BitsStored=8, HighBit=7, **changes)

    assert np.array_equal(read_frames(path, [1]), MASKS[1] == 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"SegmentationType": "LABELMAP"}, "neither binary nor fractional"),
        ({"PerFrameFunctionalGroupsSequence": None}, "does not say what its frames show"),
        ({"PerFrameFunctionalGroupsSequence": [item()]}, "does not say which segment"),
    ],
)
def test_a_header_that_does_not_say_enough(tmp_path, change, reason):
    with pytest.raises(PixelError, match=reason):
        read_segments(write(tmp_path / "s.dcm", **change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"PixelData": b"\0\0"}, "damaged or cut off"),
        ({"Rows": 65535, "Columns": 65535}, "65535 rows"),
    ],
)
def test_pixels_that_cannot_be_read(tmp_path, change, reason):
    with pytest.raises(PixelError, match=reason):
        read_frames(write(tmp_path / "s.dcm", **change), [2])


def test_a_missing_file(tmp_path):
    for read in (read_segments, identify):
        with pytest.raises(PixelError, match="cannot be read"):
            read(tmp_path / "none.dcm")


@pytest.mark.skipif(not REAL.is_file(), reason="the real test files are not beside the project")
def test_the_real_seg_has_pydicom_s_masks():
    breast, tissue = read_segments(REAL)
    witness = pydicom.dcmread(REAL).pixel_array

    assert identify(REAL).modality == "SEG"
    assert (breast.label, tissue.label, breast.frames, tissue.frames) == ("Breast", "Glandular tissue", (0,), (1,))
    assert breast.sop_uid == "1.2.840.113681.167838594.1562401072.4432.2071"
    for segment in (breast, tissue):
        mask = read_frames(REAL, segment.frames)
        assert np.array_equal(mask, witness[segment.frames[0]] == 1)
    assert read_frames(REAL, breast.frames).sum() == 2_491_411
