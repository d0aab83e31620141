"""CMMD in its real layout, one quirk a test; its real table to the last row."""

from collections import Counter
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from mammoprep import convert, panoptic
from mammoprep.convert import Options
from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.phantom import cmmd as phantom
from mammoprep.phantom.dicom import write_plain
from mammoprep.readers import READERS, cmmd
from mammoprep.records import Record, Skipped

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
HEADER = ("ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype")
RIGHT_BENIGN = ("D1-0001", "R", 44, 2, "calcification", "Benign", None)
SERIES = "07-18-2010-NA-NA-79377/1.000000-NA-70244"


def write(root, *rows, images=()):
    """Write the workbook, and header-only files: (patient, file name, attributes)."""
    book = openpyxl.Workbook()
    for row in (HEADER, *rows):
        book.worksheets[0].append(row)
    book.save(root / "CMMD_clinicaldata_revision.xlsx")
    for patient, name, attributes in images:
        path = root / "CMMD" / patient / SERIES / name
        write_plain(path, np.zeros((2, 2), np.uint8), attributes=attributes)
    return root


def side(laterality, position="CC"):
    return {"ImageLaterality": laterality, "ViewPosition": position}


def read(root, **options):
    items = list(cmmd.read(root, **options))
    return [item for item in items if isinstance(item, Record)], [item for item in items if isinstance(item, Skipped)]


def both_sides(root):
    images = [("D1-0001", f"1-{n}.dcm", side(*each)) for n, each in enumerate(["L", "R"], start=1)]
    images += [("D1-0001", "1-3.dcm", side("L", "MLO")), ("D1-0001", "1-4.dcm", side("R", "MLO"))]
    return write(root, RIGHT_BENIGN, images=images)


def test_a_missing_row_is_lesion_free_where_the_user_says_so(tmp_path):
    records, skipped = read(both_sides(tmp_path), missing_rows="normal")

    assert [record.image_id for record in records] == ["D1-0001_L_CC", "D1-0001_L_MLO"]
    assert records[0].source == f"CMMD/D1-0001/{SERIES}/1-1.dcm"
    assert (records[0].patient_id, records[0].laterality, records[0].view) == ("D1-0001", "L", "CC")
    assert all(record.lesion_free and not record.findings for record in records)
    assert [(item.source[-7:], item.reason) for item in skipped] == [
        ("1-2.dcm", "benign side, without outlines"),
        ("1-4.dcm", "benign side, without outlines"),
    ]


def test_a_missing_row_means_nothing_by_itself(tmp_path):
    records, skipped = read(both_sides(tmp_path))

    assert records == []
    assert Counter(item.stage for item in skipped) == {"selection": 4}
    assert sum("--missing-rows normal" in item.reason for item in skipped) == 2


def test_a_patient_of_whom_the_table_says_nothing_is_not_normal(tmp_path):
    images = [("D2-0009", "1-1.dcm", side("L")), ("stray", "1-1.dcm", side("L"))]
    records, skipped = read(write(tmp_path, RIGHT_BENIGN, images=images), missing_rows="normal")

    assert records == []
    assert [(item.source.split("/")[1:2], item.reason) for item in skipped] == [
        (["D2-0009"], "the table has no row of the patient"),
        (["stray"], "the file is in no folder named like D1-0001"),
        ([], "the row says 2 images of this side, 0 are there"),
    ]


def test_the_side_is_taken_from_the_orientation_where_the_header_has_no_laterality(tmp_path):
    orientations = [["A", "R"], ["A", "FR"], ["P", "L"], ["P", "FL"]]
    images = [("D1-0001", f"1-{n}.dcm", {"PatientOrientation": each}) for n, each in enumerate(orientations)]
    records, skipped = read(write(tmp_path, RIGHT_BENIGN, images=images), missing_rows="normal")

    assert [record.source[-7:] for record in records] == ["1-0.dcm", "1-1.dcm"]
    assert [record.image_id for record in records] == ["D1-0001_L", "D1-0001_L_2"]
    assert [item.source[-7:] for item in skipped] == ["1-2.dcm", "1-3.dcm"]


def test_files_that_do_not_tell_their_side_count_as_skipped(tmp_path):
    root = write(tmp_path, RIGHT_BENIGN, images=[("D1-0001", "1-1.dcm", {}), ("D1-0001", "1-2.dcm", side("R"))])
    (root / "CMMD" / "D1-0001" / SERIES / "1-3.dcm").write_bytes(b"")
    _, skipped = read(root, missing_rows="normal")

    assert [(item.stage, item.reason) for item in skipped] == [
        ("image", "the header does not say which side it shows"),
        ("selection", "benign side, without outlines"),
        ("image", "the DICOM header is damaged or cut off, or the file is not DICOM"),
        ("table", "the row says 2 images of this side, 1 are there"),
    ]


def test_rows_that_cannot_be_used_are_listed(tmp_path):
    rows = [RIGHT_BENIGN, RIGHT_BENIGN, ("D1-0001", "B", *RIGHT_BENIGN[2:]), ("0001", "L", *RIGHT_BENIGN[2:])]
    _, skipped = read(write(tmp_path, *rows))

    assert [(item.source.split()[-1], item.stage) for item in skipped] == [
        ("3", "table"),
        ("4", "table"),
        ("5", "table"),
        ("2", "table"),  # of which no image is there
    ]


def test_a_csv_serves_as_well(tmp_path):
    lines = [HEADER, RIGHT_BENIGN]
    text = "\n".join(",".join("" if cell is None else str(cell) for cell in line) for line in lines)
    (tmp_path / "CMMD_clinicaldata_revision.csv").write_text(text)

    assert read(tmp_path)[1][0].source == "CMMD_clinicaldata_revision.csv row 2"


def test_a_table_or_an_option_that_is_wrong_is_one_line(tmp_path):
    with pytest.raises(MammoprepError, match="CMMD_clinicaldata_revision.xlsx does not exist"):
        read(tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean 'normal'"):
        read(tmp_path, missing_rows="normals")
    with pytest.raises(UnknownNameError, match="label scheme"):
        read(tmp_path, labels="birads")


def test_a_phantom_converts_to_lesion_free_images_alone(tmp_path):
    phantom.write(tmp_path / "raw", patients=3, long_side=128)
    reader, out = READERS["cmmd"], tmp_path / "out"
    with pytest.raises(MammoprepError, match="--missing-rows normal takes it as lesion-free"):
        convert.convert(reader, tmp_path / "raw", out=out, options=Options(labels="pathology"))
    options = Options(labels="pathology", reader={"missing_rows": "normal"})
    counts = convert.convert(reader, tmp_path / "raw", out=out, options=options)
    cases = panoptic.load_cases(out)

    assert counts.findings == {"benign": 0, "malignant": 0}
    assert counts.images == len(cases) > 0
    assert counts.images + sum(counts.skipped["selection"].values()) == 12


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real test files are not beside the project")
def test_every_real_row_is_accounted_for():
    records, skipped = read(SHARED / "cmmd", missing_rows="normal")

    assert records == []
    assert len({item.source for item in skipped}) == len(skipped) == 1872
    assert {item.reason for item in skipped} == {"the row says 2 images of this side, 0 are there"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real test files are not beside the project")
def test_real_rows_decide_over_images_of_their_patients(tmp_path):
    """The first twenty patients of the real table, with two images of each side."""
    (tmp_path / "CMMD_clinicaldata_revision.xlsx").symlink_to(SHARED / "cmmd" / "CMMD_clinicaldata_revision.xlsx")
    for number in range(1, 21):
        for place, laterality in enumerate("LRLR"):
            path = tmp_path / f"D1-{number:04}" / f"1-{place}.dcm"
            write_plain(path, np.zeros((2, 2), np.uint8), attributes=side(laterality, "CC" if place < 2 else "MLO"))
    records, skipped = read(tmp_path, missing_rows="normal")

    stages = Counter(item.reason.split(",")[0] for item in skipped)
    assert len(records) == 40
    assert stages["benign side"] + stages["malignant side"] == 40
    assert stages["the row says 2 images of this side"] == 1872 - 20
