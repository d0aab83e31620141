"""CDD-CESM in its real layout, one quirk a test; its real annotation files to the last outline."""

import csv
import json
import math
from collections import Counter
from pathlib import Path

import openpyxl
import pytest

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.exports.entry import LINE_WIDTH, POINT_DIAMETER
from mammoprep.readers import cdd_cesm
from mammoprep.records import Ellipse, Polygon, Record, Skipped, Stroke

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
OUTLINES, WORKBOOK = cdd_cesm.OUTLINES[0], cdd_cesm.WORKBOOK[0]
NAME = "P1_L_DM_MLO"
VIA = ("#filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes")
SHEET = (
    "Image_name",
    "Patient_ID",
    "Side",
    "Type",
    "Age",
    "Breast density (ACR)",
    "BIRADS",
    "Findings",
    "View",
    "Tags",
)
SHEET = (*SHEET, "Machine", "Pathology Classification/ Follow up")
CIRCLE = {"name": "circle", "cx": 50, "cy": 60, "r": 7}
RING = {"name": "polygon", "all_points_x": [-3, 9, 9, -3], "all_points_y": [1, 1, 5, 1]}


def write_outlines(root, *regions, name=OUTLINES, header=VIA):
    """Write VIA's table: (file name, shape) a row; a shape is a dictionary or the cell's text."""
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*header, "region_attributes"))
        for file_name, shape in regions:
            cell = shape if isinstance(shape, str) else json.dumps(shape)
            writer.writerow((file_name, 1, "{}", int(cell != "{}"), 0, cell, "{}"))


def row(name=NAME, pathology="Malignant", **changes):
    """Give a row of the workbook; the column names' blanks are written as underscores."""
    patient, side, kind, view = name.strip().split("_")[:4]
    kind = "CESM" if kind == "CM" else kind
    cells = (
        name,
        int(patient[1:]),
        side,
        kind,
        46,
        "C",
        4,
        "Mass $ Scar ",
        view.rstrip("0123456789"),
        "a, b",
        1,
        pathology,
    )
    return tuple(changes.get(column, cell) for column, cell in zip(SHEET, cells, strict=True))


def write_workbook(root, *rows, name=WORKBOOK):
    book = openpyxl.Workbook()
    book.active.title = "all"
    book.create_sheet("mass_description").append(("Image_name",))
    for cells in (SHEET, *rows):
        book["all"].append(cells)
    book.save(root / name)


def write_files(root, *names):
    for name in names:
        folder = root / cdd_cesm.FOLDERS["CM" if "_CM_" in name else "DM"]
        folder.mkdir(exist_ok=True)
        (folder / name).touch()


def read(root, **options):
    items = list(cdd_cesm.read(root, **options))
    return [item for item in items if isinstance(item, Record)], [item for item in items if isinstance(item, Skipped)]


def read_shapes(root, *shapes, **options):
    """Read one malignant image with these shapes."""
    write_outlines(root, *((f"{NAME}.jpg", shape) for shape in shapes))
    write_workbook(root, row())
    return read(root, **options)


def test_an_outlined_image_becomes_a_record(tmp_path):
    (record,), skipped = read_shapes(tmp_path, CIRCLE)

    assert skipped == []
    assert record.source == "Low energy images of CDD-CESM/P1_L_DM_MLO.jpg"
    assert (record.image_id, record.patient_id, record.study_id) == (NAME, "P1", "P1")
    assert (record.laterality, record.view, record.density) == ("L", "MLO", "C")
    assert (record.lesion_free, record.size, record.split) == (False, None, "")
    assert record.findings[0].label == "malignant"
    assert record.findings[0].source == f"{OUTLINES} row 2"
    assert record.findings[0].attributes == {
        "shape": "circle",
        "pathology": "Malignant",
        "birads": ["4"],
        "findings": ["Mass", "Scar"],
        "tags": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("shape", "outline"),
    [
        (CIRCLE, Ellipse(50, 60, 7, 7)),
        ({"name": "ellipse", "cx": 713, "cy": 2236, "rx": 177, "ry": 153}, Ellipse(713, 2236, 177, 153)),
        ({"name": "ellipse", "cx": 1, "cy": 2, "rx": 3, "ry": 4, "theta": 0.5}, Ellipse(1, 2, 3, 4, 0.5)),
        (RING, Polygon(((-3, 1), (9, 1), (9, 5), (-3, 1)))),
        ({"name": "point", "cx": 456, "cy": 687}, Stroke(((456, 687),), POINT_DIAMETER)),
        (
            {"name": "polyline", "all_points_x": [0, 30], "all_points_y": [0, 0]},
            Stroke(((0, 0), (30, 0)), LINE_WIDTH),
        ),
        ({"name": "polyline", "all_points_x": [7], "all_points_y": [8]}, Stroke(((7, 8),), LINE_WIDTH)),
        (
            {"name": "polyline", "all_points_x": [0, 30, 30, 0], "all_points_y": [0, 0, 30, 1]},
            Polygon(((0, 0), (30, 0), (30, 30), (0, 1))),
        ),
    ],
    ids=["circle", "ellipse", "turned", "polygon", "point", "line", "dot", "ring"],
)
def test_every_shape_of_via(tmp_path, shape, outline):
    (record,), skipped = read_shapes(tmp_path, shape)

    assert record.findings[0].shape == outline
    assert record.findings[0].attributes["shape"] == shape["name"]
    assert ("drawn_width" in record.findings[0].attributes) is isinstance(outline, Stroke)
    assert skipped == []


@pytest.mark.parametrize(
    "shape",
    [
        "",
        "[1]",
        '{"name":"polygon","all_points_x":[1,2',
        "[" * 5000,
        {"name": "rect", "x": 1},
        {"name": "circle", "cx": 1, "cy": 2},
        {"name": "circle", "cx": 1, "cy": 2, "r": 0},
        {"name": "ellipse", "cx": 1, "cy": 2, "rx": -3, "ry": 4},
        {"name": "circle", "cx": "1", "cy": 2, "r": 3},
        {"name": "circle", "cx": True, "cy": 2, "r": 3},
        {"name": "point", "cx": math.nan, "cy": 2},
        {"name": "point", "cx": 10**400, "cy": 2},
        {"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]},
        {"name": "polygon", "all_points_x": 3, "all_points_y": 3},
        {"name": "polygon", "all_points_x": [1, None, 3], "all_points_y": [1, 2, 3]},
        {"name": "polygon", "all_points_x": [1, 2, 1], "all_points_y": [1, 2, 1]},
        {"name": "polyline", "all_points_x": [], "all_points_y": []},
    ],
    ids=lambda shape: str(shape)[:50],
)
def test_a_malformed_shape_is_listed_and_the_rest_goes_on(tmp_path, shape):
    (record,), skipped = read_shapes(tmp_path, CIRCLE, shape)

    assert [(item.source, item.stage) for item in skipped] == [(f"{OUTLINES} row 3", "finding")]
    assert [finding.source for finding in record.findings] == [f"{OUTLINES} row 2"]


def test_an_empty_shape_is_listed_where_regions_are_counted(tmp_path):
    write_workbook(tmp_path, row())
    (tmp_path / OUTLINES).write_text(
        f"#filename,region_count,region_shape_attributes\n{NAME}.jpg,0,{{}}\n{NAME}.jpg,1,{{}}\n"
    )
    _, skipped = read(tmp_path)

    assert [(item.source, item.stage) for item in skipped][:1] == [(f"{OUTLINES} row 3", "finding")]


def test_an_image_whose_outlines_all_fail_is_not_used(tmp_path):
    records, skipped = read_shapes(tmp_path, "{")

    assert records == []
    assert [item.stage for item in skipped] == ["finding", "selection"]


def test_exact_repeats_are_listed(tmp_path):
    (record,), skipped = read_shapes(tmp_path, CIRCLE, RING, dict(reversed(CIRCLE.items())))

    assert len(record.findings) == 2
    assert [(item.source, item.stage) for item in skipped] == [(f"{OUTLINES} row 4", "finding")]


def test_two_images_may_share_an_outline(tmp_path):
    write_outlines(tmp_path, ("P1_L_DM_MLO.jpg", CIRCLE), ("P1_L_CM_MLO.jpg", CIRCLE))
    write_workbook(tmp_path, row(), row("P1_L_CM_MLO"))
    records, skipped = read(tmp_path)

    assert [len(record.findings) for record in records] == [1, 1]
    assert skipped == []


def test_the_header_may_lack_its_hash_and_the_tables_have_other_names(tmp_path):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE), name=cdd_cesm.OUTLINES[1], header=("filename", *VIA[1:]))
    write_workbook(tmp_path, row(), name="Radiology-manual-annotations.xlsx")
    records, _ = read(tmp_path)

    assert [record.image_id for record in records] == [NAME]
    assert cdd_cesm.tables(tmp_path) == (
        tmp_path / cdd_cesm.OUTLINES[1],
        tmp_path / "Radiology-manual-annotations.xlsx",
    )


def test_the_workbook_may_be_saved_as_csv(tmp_path):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE))
    with (tmp_path / cdd_cesm.WORKBOOK[1]).open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows((SHEET, row(BIRADS="5.0")))
    (record,), skipped = read(tmp_path, labels="birads")

    assert record.findings[0].label == "BI-RADS 5"
    assert skipped == []


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        (5, "BI-RADS 5"),
        ("3$2", "BI-RADS 3"),
        ("2$4", "BI-RADS 4"),
        ("3$2$2", "BI-RADS 3"),
        ("", None),
        ("x", None),
        (0, None),
    ],
)
def test_of_several_birads_the_worst_holds(tmp_path, cell, label):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE), (f"{NAME}.jpg", RING))
    write_workbook(tmp_path, row(BIRADS=cell))
    (record,), _ = read(tmp_path, labels="birads")

    assert [finding.label for finding in record.findings] == [label, label]
    assert record.findings[0].attributes["birads"] == [part for part in str(cell).split("$") if part]


def test_names_with_blanks_are_joined_and_sources_are_spelled_as_on_disk(tmp_path):
    write_outlines(tmp_path, (" P4_L_CM_MLO.jpg", CIRCLE))
    write_workbook(tmp_path, row("P4_L_CM_MLO "))
    write_files(tmp_path, "P4_L_CM_MLO .JPG")
    (record,), skipped = read(tmp_path)

    assert record.image_id == "P4_L_CM_MLO"
    assert record.source == "Subtracted images of CDD-CESM/P4_L_CM_MLO .JPG"
    assert skipped == []


@pytest.mark.parametrize("name", ["P281_L_DM_MLO2", "P99_L_DM_MLO_2"])
def test_a_second_exposure_takes_the_second_row_of_its_name(tmp_path, name):
    first = name.removesuffix("2").removesuffix("_")
    write_outlines(tmp_path, (f"{first}.jpg", CIRCLE), (f"{name}.jpg", CIRCLE))
    write_workbook(tmp_path, row(first, "Benign"), row(first, "Malignant"))
    records, skipped = read(tmp_path)

    assert [(record.image_id, record.view, record.findings[0].label) for record in records] == [
        (first, "MLO", "benign"),
        (name, "MLO", "malignant"),
    ]
    assert skipped == []


def test_a_second_exposure_without_a_row_takes_the_first_ones(tmp_path):
    write_outlines(tmp_path, ("P281_L_DM_MLO2.jpg", CIRCLE))
    write_workbook(tmp_path, row("P281_L_DM_MLO", "Benign"))
    (record,), _ = read(tmp_path)

    assert (record.image_id, record.patient_id, record.findings[0].label) == ("P281_L_DM_MLO2", "P281", "benign")


def test_a_second_exposure_with_its_own_row_takes_it(tmp_path):
    write_outlines(tmp_path, ("P281_L_DM_MLO2.jpg", CIRCLE))
    write_workbook(tmp_path, row("P281_L_DM_MLO", "Benign"), row("P281_L_DM_MLO2", "Malignant"))
    (record,), _ = read(tmp_path)

    assert record.findings[0].label == "malignant"


def test_a_repeated_row_of_one_image_is_listed(tmp_path):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE))
    write_workbook(tmp_path, row(), row())
    records, skipped = read(tmp_path)

    assert len(records) == 1
    assert [(item.source, item.stage) for item in skipped] == [(f"{WORKBOOK} row 3", "table")]


def test_normal_images_wait_for_normals(tmp_path):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE), ("P2_R_CM_CC.jpg", "{}"))
    write_workbook(tmp_path, row(), row("P2_R_CM_CC", "Normal"))
    without, skipped = read(tmp_path)
    records, nothing = read(tmp_path, normals=True)

    assert [record.image_id for record in without] == [NAME]
    assert [(item.source, item.stage) for item in skipped] == [
        ("Subtracted images of CDD-CESM/P2_R_CM_CC.jpg", "selection")
    ]
    assert [(record.image_id, record.lesion_free) for record in records] == [(NAME, False), ("P2_R_CM_CC", True)]
    assert nothing == []


@pytest.mark.parametrize("pathology", ["Benign", "Malignant", "", "unknown"])
def test_an_abnormal_image_without_outlines_is_never_normal(tmp_path, pathology):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE))
    write_workbook(tmp_path, row(), row("P2_R_CM_CC", pathology))
    records, skipped = read(tmp_path, normals=True)

    assert [record.image_id for record in records] == [NAME]
    assert [(item.stage, item.reason) for item in skipped] == [
        ("selection", "not labelled Normal, yet without outlines")
    ]


@pytest.mark.parametrize(("labels", "label"), [("pathology", None), ("birads", "BI-RADS 4")])
def test_an_outline_on_a_normal_image_is_no_lesion_free_image(tmp_path, labels, label):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE))
    write_workbook(tmp_path, row(pathology="Normal"))
    (record,), _ = read(tmp_path, normals=True, labels=labels)

    assert record.lesion_free is False
    assert [finding.label for finding in record.findings] == [label]


@pytest.mark.parametrize(
    ("modality", "kinds"), [("both", ["CM", "DM"]), ("low-energy", ["DM"]), ("subtracted", ["CM"])]
)
def test_modality(tmp_path, modality, kinds):
    write_outlines(tmp_path, ("P1_L_DM_MLO.jpg", CIRCLE), ("P1_L_CM_MLO.jpg", CIRCLE))
    write_workbook(tmp_path, row(), row("P1_L_CM_MLO"))
    records, skipped = read(tmp_path, modality=modality)

    assert [record.image_id.split("_")[2] for record in records] == kinds
    assert [item.stage for item in skipped] == ["selection"] * (2 - len(kinds))


def test_an_image_that_the_workbook_lacks_is_listed_outline_by_outline(tmp_path):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE), ("P2_L_DM_CC.jpg", CIRCLE), ("P2_L_DM_CC.jpg", RING))
    write_workbook(tmp_path, row())
    records, skipped = read(tmp_path)

    assert len(records) == 1
    assert [(item.source, item.stage) for item in skipped] == [(f"{OUTLINES} row {n}", "table") for n in (3, 4)]


@pytest.mark.parametrize("name", ["../../P1_L_DM_MLO", "P1_X_DM_MLO", "scan 7", ""])
def test_a_name_that_is_no_image_is_listed(tmp_path, name):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE), (f"{name}.jpg", CIRCLE))
    write_workbook(tmp_path, row(), row(Image_name=name))
    records, skipped = read(tmp_path)

    assert [record.image_id for record in records] == [NAME]
    assert [(item.source, item.stage) for item in skipped] == [
        (f"{OUTLINES} row 3", "table"),
        (f"{WORKBOOK} row 3", "table"),
    ]


def test_files_that_no_table_names_are_listed(tmp_path):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE))
    write_workbook(tmp_path, row())
    write_files(tmp_path, f"{NAME}.jpg", "P7_L_DM_CC.jpg", "holiday.png", "Thumbs.db", f"{NAME}.jpeg")
    _, skipped = read(tmp_path)

    assert sorted(Path(item.source).name for item in skipped) == ["P1_L_DM_MLO.jpg", "P7_L_DM_CC.jpg", "holiday.png"]


def test_the_name_holds_where_the_workbook_says_otherwise(tmp_path):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE))
    write_workbook(tmp_path, row(Patient_ID=2, Side="R", View="CC"))
    (record,), skipped = read(tmp_path)

    assert (record.patient_id, record.laterality, record.view) == ("P1", "L", "MLO")
    assert [item.reason.split()[0] for item in skipped] == ["Patient_ID", "Side", "View"]


def test_density_is_a_letter_or_nothing(tmp_path):
    column = SHEET[5]
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE))
    write_workbook(tmp_path, row(**{column: "_"}))
    (record,), _ = read(tmp_path)

    assert record.density == ""


@pytest.mark.parametrize("missing", [OUTLINES, WORKBOOK])
def test_a_missing_table_is_one_line(tmp_path, missing):
    write_outlines(tmp_path, (f"{NAME}.jpg", CIRCLE))
    write_workbook(tmp_path, row())
    (tmp_path / missing).unlink()

    with pytest.raises(MammoprepError, match=f"{missing} does not exist"):
        read(tmp_path)


def test_unknown_options_suggest_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'pathology'"):
        read(tmp_path, labels="pathlogy")
    with pytest.raises(UnknownNameError, match="Did you mean 'subtracted'"):
        read(tmp_path, modality="substracted")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real test files are not beside the project")
@pytest.mark.parametrize(
    ("folder", "regions", "images", "repeats"), [("cdd-cesm", 2971, 1233, 6), ("cdd-cesm-mini", 532, 143, 4)]
)
def test_every_real_outline_is_accounted_for(folder, regions, images, repeats):
    records, skipped = read(SHARED / folder)
    drawn = [finding.source for record in records for finding in record.findings]
    listed = [item.source for item in skipped if item.source.startswith(OUTLINES)]

    assert len(records) == images
    assert len(listed) == repeats
    assert len({*drawn, *listed}) == len(drawn) + len(listed) == regions


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real test files are not beside the project")
def test_the_real_annotations_have_the_published_counts():
    records, skipped = read(SHARED / "cdd-cesm", normals=True)
    findings = [finding for record in records for finding in record.findings]

    assert Counter(finding.label for finding in findings) == {"malignant": 1739, "benign": 1218, None: 8}
    assert Counter(type(finding.shape) for finding in findings) == {Polygon: 2033, Ellipse: 928, Stroke: 4}
    assert sum(record.lesion_free for record in records) == 745
    assert Counter(item.stage for item in skipped) == {"finding": 6, "selection": 24, "table": 4}
    assert len({record.patient_id for record in records}) <= 326
