"""CSAW-CC in its real layout, one quirk a test."""

import numpy as np
import pytest

from mammoprep import convert, panoptic
from mammoprep.convert import Options
from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.phantom import csaw_cc as phantom
from mammoprep.readers import READERS, csaw_cc
from mammoprep.records import Box, MaskFile, Record, Skipped

NAME = "00002_20990909_L_CC_1"
MASK = f"{NAME}_mask.png"
HEADER = "anon_patientid,exam_year,anon_filename,x_age,x_case,x_cancer_laterality,imagelaterality,viewposition"


def row(name=NAME, case=1, cancer="Left"):
    return f"00002,2012,{name}.dcm,NA,{case},{cancer},Left,CC"


def write(root, *rows, masks=(f"1,2,30,40,{MASK}",), files=(f"images/{NAME}.dcm", f"masks/{MASK}"), separator=","):
    """Write both tables with their lines as given, and empty files."""
    for name, lines in (
        ("CSAW-CC_breast_cancer_screening_data.csv", [HEADER, *(rows or [row()])]),
        (csaw_cc.MASKS, ["left,upper,right,bottom,mask_filename", *masks, *([] if masks else ["1,1,2,2,none.png"])]),
    ):
        (root / name).write_text("\n".join(lines).replace(",", separator))
    for name in files:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    return root


def read(root, **options):
    items = list(csaw_cc.read(root, **options))
    return [item for item in items if isinstance(item, Record)], [item for item in items if isinstance(item, Skipped)]


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_masked_image_becomes_a_record(tmp_path, separator):
    (record,), skipped = read(write(tmp_path, separator=separator))

    assert skipped == []
    assert (record.source, record.image_id) == (f"images/{NAME}.dcm", NAME)
    assert (record.patient_id, record.study_id) == ("00002", "00002_2012")
    assert (record.laterality, record.view, record.lesion_free) == ("L", "CC", False)
    assert record.findings[0].shape == MaskFile(f"masks/{MASK}")
    assert (record.findings[0].label, record.findings[0].source) == ("malignant", f"{csaw_cc.MASKS} row 2")
    assert record.findings[0].attributes == {"mask_filename": MASK, "cancer_laterality": "Left"}


def test_a_mask_that_is_not_there_becomes_its_box_and_is_listed(tmp_path):
    (record,), skipped = read(write(tmp_path, files=(f"images/{NAME}.dcm",)))

    assert record.findings[0].shape == Box(1, 2, 30, 40)
    assert skipped == [Skipped(f"{csaw_cc.MASKS} row 2", "table", "the mask file is not there; the row's box is used")]


@pytest.mark.parametrize("box", ["NA,NA,NA,NA", "1,2,1,9", "1,9,5,2"])
def test_without_mask_and_box_the_image_is_not_used(tmp_path, box):
    records, skipped = read(write(tmp_path, masks=[f"{box},{MASK}"], files=(f"images/{NAME}.dcm",)))

    assert records == []
    assert [(item.source[-5:], item.stage) for item in skipped] == [("row 2", "finding"), ("1.dcm", "selection")]


def test_rows_that_name_one_mask_are_one_finding(tmp_path):
    (record,), skipped = read(write(tmp_path, masks=[f"1,2,30,40,{MASK}", f"50,2,60,40,{MASK}"]))

    assert len(record.findings) == 1
    assert [(item.source[-5:], item.stage) for item in skipped] == [("row 3", "finding")]


@pytest.mark.parametrize(
    ("case", "normals", "free"), [("0", True, 1), ("0", False, 0), ("1", True, 0), ("NA", True, 0)]
)
def test_women_without_cancer_are_lesion_free_where_they_are_asked_for(tmp_path, case, normals, free):
    root = write(tmp_path, row(case=case, cancer="NA"), masks=(), files=(f"images/{NAME}.dcm",))
    records, skipped = read(root, normals=normals)

    assert [record.lesion_free for record in records] == [True] * free
    assert [item.stage for item in skipped] == ["table"] + ["selection"] * (1 - free)


def test_a_mask_of_a_woman_without_cancer_holds_and_is_listed(tmp_path):
    (record,), skipped = read(write(tmp_path, row(case=0)))

    assert not record.lesion_free
    assert [(item.source[-5:], item.stage) for item in skipped] == [("row 2", "table")]


def test_rows_and_files_without_partner_are_listed(tmp_path):
    rows = [row(), row(), row("scan"), row("00003_20990909_L_CC_1/../../etc")]
    files = (f"images/{NAME}.dcm", f"masks/{MASK}", "images/stray.dcm", "masks/stray.png")
    masks = [f"1,2,30,40,{MASK}", "1,2,30,40,00009_20990909_L_CC_1_mask.png"]
    records, skipped = read(write(tmp_path, *rows, masks=masks, files=files))

    assert [record.image_id for record in records] == [NAME]
    assert {(item.source, item.stage) for item in skipped} == {
        ("CSAW-CC_breast_cancer_screening_data.csv row 3", "table"),
        ("CSAW-CC_breast_cancer_screening_data.csv row 4", "table"),
        ("CSAW-CC_breast_cancer_screening_data.csv row 5", "table"),
        (f"{csaw_cc.MASKS} row 3", "table"),
        ("images/stray.dcm", "table"),
        ("masks/stray.png", "table"),
    }


def test_an_image_that_is_missing_keeps_its_name(tmp_path):
    (record,), _ = read(write(tmp_path, files=(f"masks/{MASK}",)))

    assert record.source == f"{NAME}.dcm"


def test_a_missing_table_and_a_wrong_scheme_are_one_line(tmp_path):
    with pytest.raises(MammoprepError, match="mask_annotations.csv does not exist"):
        read(tmp_path)
    write(tmp_path)
    with pytest.raises(UnknownNameError, match="label scheme"):
        read(tmp_path, labels="finding")
    (tmp_path / "CSAW-CC_breast_cancer_screening_data.csv").unlink()
    with pytest.raises(MammoprepError, match="no .csv with a column anon_filename"):
        read(tmp_path)


def test_a_phantom_converts_to_its_own_masks(tmp_path):
    phantom.write(tmp_path / "raw", patients=7, long_side=128)
    options = Options(labels="pathology", long_side=0, reader={"normals": True})
    counts = convert.convert(READERS["csaw-cc"], tmp_path / "raw", out=tmp_path / "out", options=options)
    content = panoptic.load(tmp_path / "out")

    masked = 0
    for image in content.images:
        path = tmp_path / "raw" / "masks" / f"{image.name}_mask.png"
        lesions = [segment.id for segment in image.segments if segment.category_id == 1]
        assert len(lesions) == path.is_file()
        if lesions:
            masked += 1
            assert np.array_equal(content.ids_of(image) == lesions[0], panoptic.read_png(path) == 255)
    assert counts.findings == {"malignant": masked}
    assert 0 < masked < counts.images
