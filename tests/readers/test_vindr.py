"""VinDr-Mammo in its real layout, one quirk a test."""

import csv

import pytest

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.readers import vindr
from mammoprep.records import Box, Record, Skipped

STUDY, SERIES, IMAGE = "48575a27" * 4, "26de4993" * 4, "4e3a578f" * 4
ROW = {
    "study_id": STUDY,
    "series_id": SERIES,
    "image_id": IMAGE,
    "laterality": "R",
    "view_position": "CC",
    "height": "3518",
    "width": "2800",
    "breast_birads": "BI-RADS 4",
    "breast_density": "DENSITY C",
    "finding_categories": "['Mass']",
    "finding_birads": "BI-RADS 5",
    "xmin": "2355.5",
    "ymin": "1731.25",
    "xmax": "2482.75",
    "ymax": "1852.0",
    "split": "training",
}
NO_BOX = dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), "")
FREE = {"finding_categories": "['No Finding']", "finding_birads": "", **NO_BOX}
BOX = Box(2355.5, 1731.25, 2482.75, 1852.0)


def write(root, *changes, name=vindr.FINDING_TABLE, columns=tuple(ROW)):
    """Write a table with one row a dictionary of changes to ROW."""
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**ROW, **change} for change in changes)
    return root


def read(root, *changes, labels="birads"):
    """Give the records and what was left out."""
    items = list(vindr.read(write(root, *changes) if changes else root, labels=labels))
    return [item for item in items if isinstance(item, Record)], [item for item in items if isinstance(item, Skipped)]


def listed(skipped):
    return [(item.source.removeprefix("finding_annotations.csv "), item.stage) for item in skipped]


def test_a_row_becomes_a_record_with_its_box(tmp_path):
    (record,), skipped = read(tmp_path, {})

    assert skipped == []
    assert record.source == f"images/{STUDY}/{IMAGE}.dicom"
    assert (record.image_id, record.patient_id, record.study_id) == (IMAGE, STUDY, STUDY)
    assert (record.laterality, record.view, record.density, record.split) == ("R", "CC", "C", "training")
    assert (record.size, record.lesion_free) == ((3518, 2800), False)
    assert record.findings[0].shape == BOX
    assert record.findings[0].label == "BI-RADS 5"
    assert record.findings[0].source == "finding_annotations.csv row 2"
    assert record.findings[0].attributes == {
        "finding_categories": ["Mass"],
        "finding_birads": "BI-RADS 5",
        "breast_birads": "BI-RADS 4",
    }


def test_classes_stand_in_the_documented_order():
    assert list(vindr.LABELS) == ["birads", "breast-birads", "finding"]
    assert vindr.LABELS["birads"] == ("BI-RADS 3", "BI-RADS 4", "BI-RADS 5")
    assert len(vindr.LABELS["finding"]) == 10
    assert vindr.LABELS["finding"][0] == "Mass"
    assert list(vindr.FINDING_COUNTS.values()) == sorted(vindr.FINDING_COUNTS.values(), reverse=True)


def test_breast_birads_are_the_class_of_the_breast(tmp_path):
    (record,), _ = read(tmp_path, {}, {"breast_birads": "", "xmin": "1"}, labels="breast-birads")

    assert [finding.label for finding in record.findings] == ["BI-RADS 4", "BI-RADS 4"]


def test_a_box_on_a_benign_breast_has_no_class(tmp_path):
    (record,), _ = read(tmp_path, {"breast_birads": "BI-RADS 2"}, labels="breast-birads")

    assert record.findings[0].label is None


@pytest.mark.parametrize(
    ("cell", "names", "label"),
    [
        ("['Mass']", ["Mass"], "Mass"),
        ("['Suspicious Calcification', 'Mass']", ["Suspicious Calcification", "Mass"], "Suspicious Calcification"),
        ("Mass, Skin Retraction, Asymmetry", ["Mass", "Skin Retraction", "Asymmetry"], "Skin Retraction"),
        ('["mass",  "SKIN  thickening"]', ["Mass", "Skin Thickening"], "Skin Thickening"),
        ("[‘Global Asymmetry’; ‘Nipple Retraction’]", ["Global Asymmetry", "Nipple Retraction"], "Global Asymmetry"),
    ],
    ids=["one", "rarest", "unquoted", "case", "curly"],
)
def test_a_box_with_several_names_takes_the_rarest(tmp_path, cell, names, label):
    (record,), skipped = read(tmp_path, {"finding_categories": cell}, labels="finding")

    assert skipped == []
    assert record.findings[0].attributes["finding_categories"] == names
    assert record.findings[0].label == label


def test_an_unknown_finding_name_is_listed_and_the_box_stays(tmp_path):
    (record,), skipped = read(tmp_path, {"finding_categories": "['Mass', 'Wart']"}, labels="finding")

    assert [(item.source, item.reason) for item in skipped] == [
        ("finding_annotations.csv row 2", "a finding name that is not one of the release's")
    ]
    assert record.findings[0].label == "Mass"


def test_code_in_a_category_cell_is_only_text(tmp_path):
    cell = f"[__import__('os').mkdir('{tmp_path}/made')]"
    (record,), skipped = read(tmp_path, {"finding_categories": cell}, labels="finding")

    assert not (tmp_path / "made").exists()
    assert record.findings[0].label is None
    assert skipped


def test_an_empty_finding_birads_has_no_class(tmp_path):
    change = {"finding_categories": "['Suspicious Lymph Node']", "finding_birads": ""}
    (record,), skipped = read(tmp_path, change)

    assert (record.findings[0].label, record.lesion_free, skipped) == (None, False, [])


@pytest.mark.parametrize(
    ("cell", "label"), [("4", "BI-RADS 4"), ("4.0", "BI-RADS 4"), ("birads 3", "BI-RADS 3"), ("2", None)]
)
def test_birads_as_spreadsheets_keep_it(tmp_path, cell, label):
    (record,), _ = read(tmp_path, {"finding_birads": cell})

    assert record.findings[0].label == label


def test_no_finding_is_lesion_free_whatever_the_breast(tmp_path):
    (record,), skipped = read(tmp_path, {**FREE, "breast_birads": "BI-RADS 5"})

    assert (record.findings, record.lesion_free, skipped) == ((), True, [])


def test_no_finding_beside_a_box_is_listed(tmp_path):
    (record,), skipped = read(tmp_path, {}, FREE)

    assert (len(record.findings), record.lesion_free) == (1, False)
    assert listed(skipped) == [("row 3", "table")]


def test_several_rows_are_one_image_and_studies_are_patients(tmp_path):
    other = {"image_id": "b" * 32, "series_id": "c" * 32, **FREE}
    records, _ = read(tmp_path, {}, other, {"xmin": "5", "finding_categories": "['Asymmetry']"})

    assert [(len(record.findings), record.patient_id) for record in records] == [(2, STUDY), (0, STUDY)]


def test_a_box_that_leaves_the_image_is_kept_as_it_is(tmp_path):
    (record,), skipped = read(tmp_path, {"xmin": "-26.8", "ymax": "3559.1"})

    assert record.findings[0].shape == Box(-26.8, 1731.25, 2482.75, 3559.1)
    assert skipped == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"xmin": "2800", "xmax": "2810"}, "the box lies outside the image"),
        ({"ymin": "-9", "ymax": "0"}, "the box lies outside the image"),
        ({"xmax": "2355.5"}, "the box is empty or inverted"),
        ({"ymax": "1"}, "the box is empty or inverted"),
        ({"ymax": ""}, "a corner of the box is missing or no number"),
        ({"xmin": "nan"}, "a corner of the box is missing or no number"),
        ({"xmin": "left"}, "a corner of the box is missing or no number"),
        (NO_BOX, "the row has no box"),
        ({**FREE, "finding_categories": ""}, "the row has no box"),
    ],
)
def test_a_box_that_cannot_be_used_is_listed(tmp_path, change, reason):
    (record,), skipped = read(tmp_path, change)

    assert (record.findings, record.lesion_free) == ((), False)
    assert skipped == [Skipped("finding_annotations.csv row 2", "finding", reason)]


def test_without_a_size_no_box_lies_outside(tmp_path):
    (record,), _ = read(tmp_path, {"height": "", "width": "wide", "xmin": "9000", "xmax": "9001"})

    assert (record.size, len(record.findings)) == (None, 1)


def test_duplicate_rows_are_listed(tmp_path):
    (first, second), skipped = read(
        tmp_path, {}, {}, {"finding_categories": "['Asymmetry']"}, *[{**FREE, "image_id": "b"}] * 2
    )

    assert (len(first.findings), second.lesion_free) == (2, True)
    assert listed(skipped) == [("row 3", "table"), ("row 6", "table")]


@pytest.mark.parametrize(
    ("column", "value"),
    [("breast_density", "DENSITY A"), ("split", "test"), ("laterality", "L"), ("study_id", "f" * 32), ("height", "9")],
)
def test_of_rows_that_disagree_the_first_holds(tmp_path, column, value):
    (expected,), _ = read(tmp_path, {}, {"xmin": "5"})
    (record,), skipped = read(tmp_path, {}, {"xmin": "5", column: value})

    assert record == expected
    assert listed(skipped) == [("row 3", "table")]
    assert column in skipped[0].reason


def test_numbers_of_one_value_do_not_disagree(tmp_path):
    _, skipped = read(tmp_path, {}, {"height": "3518.0", "xmin": "5"})

    assert skipped == []


@pytest.mark.parametrize("value", ["../x", "", "a/b", "4e3ç8f", "..", "C:x", "a b"])
@pytest.mark.parametrize("column", ["image_id", "study_id"])
def test_an_id_that_no_file_can_have_is_listed(tmp_path, column, value):
    records, skipped = read(tmp_path, {column: value}, {"image_id": "fine"})

    assert [record.image_id for record in records] == ["fine"]
    assert listed(skipped) == [("row 2", "image")]


def test_a_stray_letter_in_a_series_id_is_listed_and_the_row_used(tmp_path):
    (record,), skipped = read(tmp_path, {"series_id": "26deç993"})

    assert len(record.findings) == 1
    assert listed(skipped) == [("row 2", "table")]


def test_a_row_that_is_cut_short_is_listed(tmp_path):
    with (write(tmp_path, {"image_id": "fine"}) / vindr.FINDING_TABLE).open("a") as file:
        file.write(f"{STUDY},{SERIES},{IMAGE},R,CC,3518")
    records, skipped = read(tmp_path)

    assert [record.image_id for record in records] == ["fine"]
    assert listed(skipped) == [("row 3", "table")]


def test_a_resave_with_semicolons_and_decimal_commas_reads_the_same(tmp_path):
    expected = read(tmp_path, {}, {"image_id": "b", **FREE})
    path = tmp_path / vindr.FINDING_TABLE
    lines = path.read_text().replace(",", ";").replace(".", ",")
    path.rename(tmp_path / "Finding_Annotations.CSV").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    records, skipped = read(tmp_path)

    assert [record.source for record in records] == [record.source for record in expected[0]]
    assert records[0].findings[0].shape == BOX
    assert skipped == []


def test_files_that_no_table_names_are_listed(tmp_path):
    folder = tmp_path / "images" / STUDY
    folder.mkdir(parents=True)
    for name in (f"{IMAGE}.dicom", "stray.dicom", "index.html", "._stray.dicom"):
        (folder / name).touch()
    _, skipped = read(tmp_path, {})

    assert skipped == [Skipped(f"images/{STUDY}/stray.dicom", "table", "no table names the file")]


@pytest.mark.parametrize(("birads", "free"), [("BI-RADS 1", [True]), ("BI-RADS 2", [True]), ("BI-RADS 4", [])])
def test_an_image_of_the_breast_table_alone_is_used_where_nothing_was_marked(tmp_path, birads, free):
    columns = [column for column in ROW if not column.startswith(("finding", "x", "y"))]
    change = {"image_id": "b", "breast_birads": birads}
    write(tmp_path, {}, change, change, name=vindr.BREAST_TABLE, columns=columns)
    records, skipped = read(tmp_path, {})

    assert [record.lesion_free for record in records[1:]] == free
    assert len(skipped) == 1 - len(free)


def test_tables_are_what_is_read(tmp_path):
    write(tmp_path, {})
    assert vindr.tables(tmp_path) == (tmp_path / vindr.FINDING_TABLE,)

    write(tmp_path, {}, name=vindr.BREAST_TABLE)
    assert vindr.tables(tmp_path) == (tmp_path / vindr.FINDING_TABLE, tmp_path / vindr.BREAST_TABLE)


def test_a_missing_table_is_one_line(tmp_path):
    with pytest.raises(MammoprepError, match="finding_annotations.csv does not exist. Download"):
        read(tmp_path)


def test_a_missing_column_is_one_line(tmp_path):
    write(tmp_path, {}, columns=[column for column in ROW if column != "xmin"])

    with pytest.raises(MammoprepError, match="no column 'xmin'; the nearest is '.min|xmax'"):
        read(tmp_path)


def test_an_unknown_scheme_suggests_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'birads'"):
        read(tmp_path, {}, labels="birad")


def test_rows_of_an_image_need_not_stand_together(tmp_path):
    changes = [{"image_id": name, "xmin": str(place)} for place, name in enumerate("abab")]
    records, _ = read(tmp_path, *changes)

    assert [record.image_id for record in records] == ["a", "b"]
    assert [len(record.findings) for record in records] == [2, 2]
