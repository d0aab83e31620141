"""A DATASET's lesions as DICOM SEG lie where they lie in the raw file, and say how they were drawn."""

import csv
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mammoprep import panoptic, targets
from mammoprep.errors import MammoprepError
from mammoprep.targets import truth_seg

ROWS, COLUMNS = 24, 20
ROW = {"image_id": "a", "crop_x0": "0", "crop_y0": "0", "scale_x": "1", "scale_y": "1"}


def mammogram(path: Path, *, rows: int = ROWS, columns: int = COLUMNS) -> None:
    content = Dataset()
    content.SOPClassUID, content.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.2", f"1.2.3.4.1{path.stem}"
    content.StudyInstanceUID, content.SeriesInstanceUID = "1.2.3.4.2", "1.2.3.4.3"
    content.PatientName, content.PatientID = "Doe^Jane", "PID-7"
    content.Modality, content.ImageLaterality = "MG", "L"
    content.Rows, content.Columns, content.SamplesPerPixel = rows, columns, 1
    content.PhotometricInterpretation, content.PixelRepresentation = "MONOCHROME2", 0
    content.BitsAllocated = content.BitsStored = 8
    content.HighBit = 7
    content.PixelData = bytes(rows * columns)
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID
    content.save_as(path, enforce_file_format=True)


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    for number in range(1, 5):
        mammogram(tmp_path / "raw" / f"{number}.dcm")
    return tmp_path / "raw"


def export(dataset, out, raw):
    return targets.export(dataset, out, options=targets.Options("dicom-seg", raw=raw))


def test_each_lesion_is_a_segment_of_its_mammogram(dataset, raw, lesions, tmp_path):
    report = export(dataset, tmp_path / "out", raw)
    assert report.not_held["images without a lesion have no object"] == 1
    assert not (tmp_path / "out" / "free.dcm").exists()
    for number, name in ((1, "a b"), (2, "größe"), (4, "<x>&'\"")):
        made = highdicom.seg.segread(tmp_path / "out" / f"{name}.dcm")
        pixels = made.get_pixels_by_source_instance([f"1.2.3.4.1{number}"])[0]
        assert all((pixels[:, :, place] == mask).all() for place, (_, mask) in enumerate(lesions[name]))
        assert (str(made.PatientName), made.StudyInstanceUID) == ("Doe^Jane", "1.2.3.4.2")
    labels = [each.SegmentLabel for each in pydicom.dcmread(tmp_path / "out" / "a b.dcm").SegmentSequence]
    assert labels == ["BI-RADS 3", "müll & <b>"]


def test_a_pseudo_mask_is_not_called_drawn_by_hand(dataset, raw, tmp_path):
    content = panoptic.read_json(dataset / "panoptic.json", hint="")
    content["annotations"][0]["segments_info"][1]["pseudo_mask"] = {"method": "otsu"}
    panoptic.write_json(dataset / "panoptic.json", content)
    export(dataset, tmp_path / "out", raw)
    by_hand, from_box = pydicom.dcmread(tmp_path / "out" / "a b.dcm").SegmentSequence
    assert (by_hand.SegmentAlgorithmType, from_box.SegmentAlgorithmType) == ("MANUAL", "SEMIAUTOMATIC")
    assert "SegmentationAlgorithmIdentificationSequence" not in by_hand
    named = from_box.SegmentationAlgorithmIdentificationSequence[0]
    assert named.AlgorithmName == "mammoprep pseudo-mask"


def test_a_stored_mask_grows_to_native_size_where_it_was_cut_out():
    # stored = (native - crop) * scale: native rows 2 … 5 and columns 4 … 9 were halved to 2 x 3
    row = ROW | {"native_height": "8", "native_width": "12", "crop_y0": "2", "crop_x0": "4"}
    row |= {"scale_x": "0.5", "scale_y": "0.5"}
    native = truth_seg.to_native(np.array([[True, False, False], [False, False, True]]), row)
    expected = np.zeros((8, 12), dtype=bool)
    expected[2:4, 4:6] = expected[4:6, 8:10] = True
    assert (native == expected).all()


def test_a_mirrored_mask_is_turned_back():
    row = ROW | {"native_height": "1", "native_width": "4", "crop_x0": "4", "scale_x": "-1"}
    assert truth_seg.to_native(np.array([[True, False, False, False]]), row).tolist() == [[False, False, False, True]]


def test_a_pseudonym_is_found_by_the_table_beside_the_data_set(dataset, raw, tmp_path):
    path = dataset / "cases.csv"
    text = path.read_text(encoding="utf-8")
    for number in range(1, 5):
        text = text.replace(f"{number}.dcm", f"pseudonym{number}")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MammoprepError, match=r"pseudonym1 does not exist.*DATASET\.key\.csv"):
        export(dataset, tmp_path / "out", raw)
    with (tmp_path / "DATASET.key.csv").open("w", newline="") as file:
        rows = [(f"pseudonym{number}", f"{number}.dcm") for number in range(1, 5)]
        csv.writer(file).writerows([("pseudonym", "file"), *rows])
    assert export(dataset, tmp_path / "out", raw).images == 4
    (raw / "1.dcm").write_bytes(b"no DICOM")
    with pytest.raises(MammoprepError, match="pseudonym1 is no DICOM file") as error:
        export(dataset, tmp_path / "other", raw)
    assert "1.dcm" not in str(error.value)


def test_wrong_files_are_named_and_nothing_is_left(dataset, raw, tmp_path):
    mammogram(raw / "2.dcm", rows=10)
    with pytest.raises(MammoprepError, match=r"2\.dcm has 10x20 pixels, the lesions are of 24x20"):
        export(dataset, tmp_path / "out", raw)
    (raw / "2.dcm").write_bytes(b"no DICOM")
    with pytest.raises(MammoprepError, match=r"2\.dcm is no DICOM file"):
        export(dataset, tmp_path / "out", raw)
    with pytest.raises(MammoprepError, match="nowhere is no folder"):
        export(dataset, tmp_path / "out", raw / "nowhere")
    with pytest.raises(MammoprepError, match="hold one another"):
        export(dataset, raw / "out", raw)
    assert not (tmp_path / "out").exists()


def test_a_source_outside_the_raw_folder_is_refused(dataset, raw, tmp_path):
    path = dataset / "cases.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("1.dcm", "../raw/1.dcm"), encoding="utf-8")
    with pytest.raises(MammoprepError, match="does not exist"):
        export(dataset, tmp_path / "out", raw)


def test_without_the_map_to_native_pixels_one_line_says_so():
    with pytest.raises(MammoprepError, match="native to stored of a"):
        truth_seg.to_native(np.ones((2, 2), dtype=bool), ROW)
