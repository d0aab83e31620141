"""DICOM SEG objects say what the panoptic map says, of the mammogram that they refer to; other tools read them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.targets import dicom_seg
from mammoprep.targets.dicom_seg import Algorithm

ALGORITHM = Algorithm(name="m-odise/fold-0", version="0.1.0+0123456789ab", model="m-odise", software="0.1.0")
CATEGORIES = panoptic.make_categories(["BI-RADS 4", "Mass"])
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "dicom"
ROWS, COLUMNS = 24, 16


def mammogram(path: Path, **values: Any) -> Path:
    """Write a mammogram as an archive has it; a value of None leaves the attribute out."""
    content = Dataset()
    content.SOPClassUID, content.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.2", "1.2.3.4.1"
    content.StudyInstanceUID, content.SeriesInstanceUID = "1.2.3.4.2", "1.2.3.4.3"
    content.PatientName, content.PatientID = "Doe^Jane", "PID-7"
    content.PatientBirthDate, content.PatientSex = "19600101", "F"
    content.StudyDate, content.StudyTime, content.StudyID = "20240102", "101500", "S1"
    content.AccessionNumber, content.ReferringPhysicianName = "A1", ""
    content.Modality, content.ImageLaterality, content.ViewPosition = "MG", "L", "CC"
    content.PatientOrientation = ["A", "R"]
    content.Rows, content.Columns, content.SamplesPerPixel = ROWS, COLUMNS, 1
    content.PhotometricInterpretation, content.PixelRepresentation = "MONOCHROME2", 0
    content.BitsAllocated = content.BitsStored = 8
    content.HighBit = 7
    content.PixelData = bytes(ROWS * COLUMNS)
    for keyword, value in values.items():
        if value is None:
            delattr(content, keyword)
        else:
            setattr(content, keyword, value)
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    content.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.1"
    content.save_as(path, enforce_file_format=True)
    return path


def predicted(root: Path, *, size: tuple[int, int] = (ROWS, COLUMNS), lesions: bool = True) -> np.ndarray:
    """Write a panoptic map with two lesions, the surer one second, in breast and background; give its ids."""
    (root / "panoptic").mkdir(parents=True)
    ids = np.full(size, 4, np.int32)
    ids[:, :12] = 3
    if lesions:
        ids[2:6, 2:5], ids[10:14, 3:11] = 1, 2
    scores = {1: (1, 0.25), 2: (2, 0.8125), 3: (3, 0.9), 4: (4, 0.9)}
    segments = tuple(
        panoptic.Segment(number, scores[number][0], 1, (0, 0, 1, 1), score=scores[number][1])
        for number in np.unique(ids).tolist()
    )
    panoptic.write_ids(root / "panoptic" / "left.png", ids)
    panoptic.write_panoptic(root, categories=CATEGORIES, images=[panoptic.Image(5, "left", *size, segments)])
    return ids


@pytest.fixture
def written(tmp_path: Path) -> Path:
    source = mammogram(tmp_path / "left.dcm")
    predicted(tmp_path / "out")
    assert dicom_seg.write(tmp_path / "out", {"left": source}, algorithm=ALGORITHM) == 1
    return tmp_path / "out" / "dicom-seg" / "left.dcm"


def test_the_pixels_are_those_of_the_panoptic_map(written: Path) -> None:
    ids = panoptic.load(written.parents[1]).ids_of(panoptic.load(written.parents[1]).images[0])
    made = highdicom.seg.segread(written)
    pixels = made.get_pixels_by_source_instance(["1.2.3.4.1"])
    assert (pixels[0, :, :, 0] == (ids == 2)).all()
    assert (pixels[0, :, :, 1] == (ids == 1)).all()
    plain = pydicom.dcmread(written).pixel_array
    assert (plain == np.stack([ids == 2, ids == 1])).all()


def test_each_lesion_is_a_segment_that_says_what_and_where_and_who_found_it(written: Path) -> None:
    content = pydicom.dcmread(written)
    first, second = content.SegmentSequence
    assert [each.SegmentLabel for each in (first, second)] == ["Mass, score 0.81", "BI-RADS 4, score 0.25"]
    assert [each.SegmentedPropertyTypeCodeSequence[0].CodeValue for each in (first, second)] == ["4147007", "52988006"]
    for each in (first, second):
        assert each.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert each.AnatomicRegionSequence[0].CodeValue == "76752008"
        assert each.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeValue == "7771000"
        assert each.SegmentAlgorithmType == "AUTOMATIC"
        algorithm = each.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("m-odise/fold-0", "0.1.0+0123456789ab")
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"


def test_it_refers_to_the_mammogram_and_stands_in_its_study(written: Path) -> None:
    content = pydicom.dcmread(written)
    assert (content.Modality, content.SOPClassUID, content.SegmentationType) == (
        "SEG",
        "1.2.840.10008.5.1.4.1.1.66.4",
        "BINARY",
    )
    assert content.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"
    assert content.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.4.3"
    assert content.StudyInstanceUID == "1.2.3.4.2"
    assert (content.PatientID, str(content.PatientName), content.AccessionNumber) == ("PID-7", "Doe^Jane", "A1")
    assert content.SeriesInstanceUID != "1.2.3.4.3"
    assert content.SeriesNumber == dicom_seg.SERIES + 5
    assert (content.Rows, content.Columns, content.PatientOrientation) == (ROWS, COLUMNS, ["A", "R"])


def test_an_image_without_a_lesion_has_none(tmp_path: Path) -> None:
    source = mammogram(tmp_path / "left.dcm")
    predicted(tmp_path / "out", lesions=False)
    assert dicom_seg.write(tmp_path / "out", {"left": source}, algorithm=ALGORITHM) == 0
    assert list((tmp_path / "out" / "dicom-seg").iterdir()) == []


def test_a_long_class_name_is_cut_and_the_score_kept(tmp_path: Path) -> None:
    source = mammogram(tmp_path / "left.dcm")
    predicted(tmp_path / "out")
    content = panoptic.load(tmp_path / "out")
    panoptic.write_panoptic(
        tmp_path / "out", categories=panoptic.make_categories(["a" * 70, "b"]), images=content.images
    )
    dicom_seg.write(tmp_path / "out", {"left": source}, algorithm=ALGORITHM)
    label = pydicom.dcmread(tmp_path / "out" / "dicom-seg" / "left.dcm").SegmentSequence[1].SegmentLabel
    assert label == "a" * 52 + ", score 0.25"


def test_what_the_header_lacks_or_says_wrongly_is_left_empty(tmp_path: Path) -> None:
    with pydicom.config.disable_value_validation():
        source = mammogram(
            tmp_path / "left.dcm",
            **{"PatientID": None, "StudyTime": None, "ImageLaterality": None, "PatientOrientation": None},
            PatientBirthDate="00000000",
            PatientSex="unknown",
        )
    dicom_seg.check_source(source, algorithm=ALGORITHM)
    predicted(tmp_path / "out")
    dicom_seg.write(tmp_path / "out", {"left": source}, algorithm=ALGORITHM)
    content = pydicom.dcmread(tmp_path / "out" / "dicom-seg" / "left.dcm")
    for keyword in ("PatientID", "StudyTime", "PatientBirthDate", "PatientSex"):
        assert content[keyword].is_empty
    assert "AnatomicRegionModifierSequence" not in content.SegmentSequence[0].AnatomicRegionSequence[0]


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows"])
def test_a_file_that_cannot_be_referred_to_is_refused(tmp_path: Path, keyword: str) -> None:
    source = mammogram(tmp_path / "left.dcm", **{keyword: None})
    with pytest.raises(MammoprepError, match=rf"left\.dcm has no valid {keyword}.*DICOM SEG"):
        dicom_seg.check_source(source, algorithm=ALGORITHM)


def test_an_uid_that_is_none_is_refused_and_not_quoted(tmp_path: Path) -> None:
    with pydicom.config.disable_value_validation():
        source = mammogram(tmp_path / "left.dcm", SOPInstanceUID="0f1e2d")
    with pytest.raises(MammoprepError, match="has no valid SOPInstanceUID") as error:
        dicom_seg.check_source(source, algorithm=ALGORITHM)
    assert "0f1e2d" not in str(error.value)


def test_a_picture_is_refused(tmp_path: Path) -> None:
    panoptic.write_png(tmp_path / "left.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(MammoprepError, match=r"left\.png is no DICOM file"):
        dicom_seg.check_source(tmp_path / "left.png", algorithm=ALGORITHM)


def test_no_name_reaches_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pydicom.config.disable_value_validation():
        source = mammogram(tmp_path / "left.dcm", PatientName="Janedoe", StudyID="a study id of more than 16 letters")
    dicom_seg.check_source(source, algorithm=ALGORITHM)
    assert capfd.readouterr() == ("", "")


def test_without_highdicom_one_line_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_seg, "find_spec", lambda name: None)
    with pytest.raises(MammoprepError, match=r'pip install "mammoprep\[dicom-seg\]"'):
        dicom_seg.require()


def errors_of(path: Path) -> list[str]:
    checker = shutil.which("dciodvfy")
    if not checker:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    done = subprocess.run([checker, str(path)], capture_output=True, text=True, check=False)
    assert "Segmentation" in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("values", [{}, {"FrameOfReferenceUID": "1.2.3.4.9", "PositionReferenceIndicator": ""}])
def test_it_is_valid(tmp_path: Path, values: dict[str, str]) -> None:
    source = mammogram(tmp_path / "left.dcm", **values)
    predicted(tmp_path / "out")
    dicom_seg.write(tmp_path / "out", {"left": source}, algorithm=ALGORITHM)
    assert errors_of(tmp_path / "out" / "dicom-seg" / "left.dcm") == []


@pytest.mark.parametrize("name", ["GH133", "OutOfBoundsOverlay"])
def test_real_mammograms_can_have_one(tmp_path: Path, name: str) -> None:
    if not REAL.is_dir():
        pytest.skip("../shared/data/dicom with real files is not here")
    source = REAL / f"{name}.dcm"
    dicom_seg.check_source(source, algorithm=ALGORITHM)
    header = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    ids = predicted(tmp_path / "out", size=(header.Rows, header.Columns))
    dicom_seg.write(tmp_path / "out", {"left": source}, algorithm=ALGORITHM)
    path = tmp_path / "out" / "dicom-seg" / "left.dcm"
    assert (highdicom.seg.segread(path).pixel_array == np.stack([ids == 2, ids == 1])).all()
    assert errors_of(path) == []
