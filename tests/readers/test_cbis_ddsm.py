"""CBIS-DDSM in its real layouts, one quirk a test; its real tables to the last row."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mammoprep import convert, folds, panoptic
from mammoprep.convert import Options
from mammoprep.errors import MammoprepError, MissingFileError, UnknownNameError
from mammoprep.phantom import cbis_ddsm as films
from mammoprep.phantom import truth
from mammoprep.readers import cbis_ddsm
from mammoprep.records import MaskFile, Record, Skipped

REAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "cbis-ddsm"
MASS, CALC = "mass_case_description_train_set.csv", "calc_case_description_test_set.csv"
COLUMNS = ("patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "abnormality type")
COLUMNS = (*COLUMNS, "mass shape", "mass margins", "assessment", "pathology", "subtlety")
COLUMNS = (*COLUMNS, "image file path", "cropped image file path", "ROI mask file path")
NAME = "Mass-Training_P_00001_LEFT_CC"
FULL, ROI, SECOND = "1.3.6.1.4.12345", "1.3.6.1.4.67890", "1.3.6.1.4.55555"
IMAGE_PATH, CROP_PATH, MASK_PATH = (
    f"{NAME}/1.2.3.4.1/{FULL}/000000.dcm",
    f"{NAME}_1/1.2.3.4.2/{ROI}/000000.dcm",
    f"{NAME}_1/1.2.3.4.2/{ROI}/000001.dcm",
)


def row(**changes):
    """Give a row of the mass table; blanks in the columns' names are written as underscores."""
    cells = ("P_00001", 3, "LEFT", "CC", 1, "mass", "OVAL", "", 4, "MALIGNANT", 5, IMAGE_PATH, CROP_PATH)
    cells = (*cells, f"{MASK_PATH}\n")
    return tuple(changes.get(column.replace(" ", "_"), cell) for column, cell in zip(COLUMNS, cells, strict=True))


def write_table(root, *rows, name=MASS, columns=COLUMNS, ends="\n"):
    root.mkdir(parents=True, exist_ok=True)
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator=ends).writerows((columns, *rows))


def write_files(root, *sources):
    for source in sources:
        (root / source).parent.mkdir(parents=True, exist_ok=True)
        (root / source).touch()


def read(root, **options):
    items = list(cbis_ddsm.read(root, **options))
    records = [item for item in items if isinstance(item, Record)]
    absent = "the table is not there, and its images are not used"
    return records, [item for item in items if isinstance(item, Skipped) and item.reason != absent]


def shapes(record):
    return [finding.shape for finding in record.findings]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Phantom films in each layout."""
    root = tmp_path_factory.mktemp("cbis")
    for layout in ("tcia", "tcia-names", "kaggle"):
        films.write(root / layout, long_side=256, layout=layout)
    return root


@pytest.mark.parametrize("layout", ["tcia", "tcia-names", "kaggle"])
def test_every_layout_gives_the_same_images_and_all_their_files(raw, layout):
    records, skipped = read(raw / layout)

    assert skipped == []
    assert len(records) == len({record.image_id for record in records}) == 20
    planned = {film.name: film for film in films.plan(8)}
    for record in records:
        film = planned[record.image_id]
        assert record.patient_id == film.patient
        assert len(record.findings) == len(film.lesions)
        assert all(len(shape.sources) == 2 for shape in shapes(record))
        assert all((raw / layout / source).is_file() for shape in shapes(record) for source in shape.sources)
        assert (raw / layout / record.source).is_file()


@pytest.mark.parametrize("layout", ["tcia", "tcia-names", "kaggle"])
def test_the_masks_are_told_from_the_crops_and_lie_on_the_lesions(raw, layout, tmp_path):
    out = tmp_path / "out"
    options = Options(labels="pathology", long_side=0)

    summary = convert.convert(cbis_ddsm.READER, raw / layout, out=out, options=options)

    assert (summary.images, summary.patients, summary.findings) == (20, 8, {"benign": 20, "malignant": 8})
    assert summary.skipped == {"table": {"the table is not there, and its images are not used": 1}}
    assert summary.mask_files == {"of the image's size": 19, "brought to the image's size": 9}
    assert 0 < summary.residual < 0.01
    dice = [value for values in truth.dice(out, raw / f"{layout}-truth").values() for value in values]
    assert min(dice) > 0.93
    things = [
        segment for image in panoptic.load(out).images for segment in image.segments if "mask_file" in segment.extra
    ]
    assert Counter(round(segment.extra["mask_file"]["scale_x"], 2) for segment in things) == {1.0: 19, 1.15: 9}
    assert all(segment.extra["mask_file"]["residual"] < 0.01 for segment in things)


def test_the_same_arguments_write_the_same_bytes(tmp_path):
    contents = []
    for name in "ab":
        films.write(tmp_path / name, patients=1, long_side=128, layout="kaggle")
        paths = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        contents.append({path.relative_to(tmp_path / name): path.read_bytes() for path in paths})
    assert len(contents[0]) == 2 + 2 * 5  # tables; of each film itself and, twice, crop and mask
    assert contents[0] == contents[1]


@pytest.mark.parametrize("changes", [{"patients": 0}, {"long_side": 20}])
def test_films_that_cannot_be_drawn_are_refused(tmp_path, changes):
    with pytest.raises(MammoprepError, match="Ask for"):
        films.write(tmp_path / "raw", **changes)
    assert not list(tmp_path.iterdir())


def test_a_row_says_what_the_table_says(tmp_path):
    write_table(tmp_path, row())
    write_files(tmp_path, IMAGE_PATH, CROP_PATH, MASK_PATH)

    (record,), skipped = read(tmp_path)

    assert skipped == []
    (finding,) = record.findings
    assert replace(record, findings=()) == Record(
        IMAGE_PATH, NAME, "P_00001", "P_00001", laterality="L", view="CC", density="C", split="training"
    )
    assert (finding.shape, finding.label) == (MaskFile(MASK_PATH, others=(CROP_PATH,)), "malignant")
    assert finding.source == f"{MASS} row 2"
    assert finding.attributes == {
        "pathology": "MALIGNANT",
        "abnormality_type": "mass",
        "abnormality_id": "1",
        "birads": "4",
        "subtlety": "5",
        "mass_shape": "OVAL",
    }


@pytest.mark.parametrize(
    ("labels", "pathology", "label"),
    [
        ("pathology", "BENIGN_WITHOUT_CALLBACK", "benign"),
        ("pathology", "BENIGN", "benign"),
        ("pathology3", "BENIGN_WITHOUT_CALLBACK", "benign without callback"),
        ("pathology3", "MALIGNANT", "malignant"),
        ("type", "BENIGN_WITHOUT_CALLBACK", "mass"),
        ("pathology", "", None),
        ("pathology3", "UNPROVEN", None),
    ],
)
def test_label_schemes(tmp_path, labels, pathology, label):
    write_table(tmp_path, row(pathology=pathology))

    (record,), _ = read(tmp_path, labels=labels)

    assert record.findings[0].label == label
    assert label is None or label in cbis_ddsm.LABELS[labels]


def test_an_unknown_scheme_names_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'pathology'"):
        read(tmp_path, labels="pathologies")


@pytest.mark.parametrize(("column", "cell", "density"), [("breast density", 1, "A"), ("breast_density", 0, "")])
def test_density_in_either_spelling(tmp_path, column, cell, density):
    columns = tuple(column if name == "breast_density" else name for name in COLUMNS)
    write_table(tmp_path, row(breast_density=cell), columns=columns)

    (record,), skipped = read(tmp_path)

    assert (record.density, skipped) == (density, [])


def test_the_split_and_the_type_are_the_tables(tmp_path):
    name = "Calc-Test_P_00001_LEFT_CC"
    write_table(
        tmp_path, row(image_file_path=IMAGE_PATH.replace(NAME, name), abnormality_type="calcification"), name=CALC
    )

    (record,), skipped = read(tmp_path, labels="type")

    assert (record.image_id, record.split, record.findings[0].label) == (name, "test", "calcification")
    assert skipped == []


def test_abnormalities_of_one_film_are_findings_of_one_image(tmp_path):
    second = MASK_PATH.replace(ROI, SECOND)
    write_table(tmp_path, row(), row(abnormality_id=2, ROI_mask_file_path=second, cropped_image_file_path=second))

    (record,), _ = read(tmp_path)

    assert [finding.attributes["abnormality_id"] for finding in record.findings] == ["1", "2"]
    assert [shape.source for shape in shapes(record)] == [MASK_PATH, second]


def test_crop_and_mask_in_two_series_are_both_handed_on(tmp_path):
    mask = MASK_PATH.replace(ROI, SECOND).replace("000001", "000000")
    write_table(tmp_path, row(ROI_mask_file_path=mask))
    write_files(tmp_path, IMAGE_PATH, CROP_PATH, mask)

    (record,), skipped = read(tmp_path)

    assert shapes(record) == [MaskFile(mask, others=(CROP_PATH,))]
    assert skipped == []


def test_descriptive_folders_are_found_by_the_last_five_digits(tmp_path):
    place = "TCIA/CBIS-DDSM/{}/08-29-2017-DDSM-NA-96009/1.000000-{}-{}/1-{}.dcm"
    image = place.format(NAME, "full mammogram images", FULL[-5:], 1)
    rois = [place.format(f"{NAME}_1", "ROI mask images", ROI[-5:], number) for number in (1, 2)]
    stranger = place.format("Mass-Training_P_00002_LEFT_CC_1", "ROI mask images", ROI[-5:], 1)
    write_table(tmp_path, row())
    write_files(tmp_path, image, *rois, stranger)

    (record,), skipped = read(tmp_path)

    assert (record.source, shapes(record)) == (image, [MaskFile(rois[0], others=(rois[1],))])
    assert skipped == [Skipped(stranger, "table", "no table names the file")]


def test_backslashes_and_crlf(tmp_path):
    paths = {"image_file_path": IMAGE_PATH, "cropped_image_file_path": CROP_PATH, "ROI_mask_file_path": MASK_PATH}
    write_table(tmp_path, row(**{name: path.replace("/", "\\") for name, path in paths.items()}), ends="\r\n")
    write_files(tmp_path, f"jpeg/{FULL}/1-001.jpg", f"jpeg/{ROI}/1-002.jpg")

    (record,), skipped = read(tmp_path)

    assert (record.source, shapes(record)[0].source) == (f"jpeg/{FULL}/1-001.jpg", f"jpeg/{ROI}/1-002.jpg")
    assert skipped == []


def test_what_is_not_there_keeps_the_tables_path(tmp_path):
    write_table(tmp_path, row())

    (record,), _ = read(tmp_path)

    assert (record.source, shapes(record)) == (IMAGE_PATH, [MaskFile(MASK_PATH)])


def test_a_film_that_cannot_be_told_is_listed(tmp_path):
    write_table(tmp_path, row())
    write_files(tmp_path, f"jpeg/{FULL}/1-001.jpg", f"jpeg/{FULL}/1-002.jpg")

    records, skipped = read(tmp_path)

    assert records == []
    assert skipped[0].stage == "image"
    assert skipped[0].reason == "one of 2 files of its series, and nothing says which is the film"


def test_dicom_info_finds_files_in_other_folders(tmp_path):
    write_table(tmp_path / "csv", row())
    write_files(tmp_path, "jpeg/a/1.jpg", "jpeg/b/1.jpg", "jpeg/b/2.jpg")
    listed = [("CBIS-DDSM/jpeg/a/1.jpg", FULL), ("CBIS-DDSM/jpeg/b/1.jpg", ROI), ("jpeg/b/2.jpg", ROI)]
    listed += [("CBIS-DDSM/../../secret.jpg", ROI), ("CBIS-DDSM/jpeg/c/1.jpg", ROI)]
    write_table(tmp_path / "csv", *listed, name="dicom_info.csv", columns=("image_path", "SeriesInstanceUID"))

    (record,), skipped = read(tmp_path)

    assert (record.source, shapes(record)) == ("jpeg/a/1.jpg", [MaskFile("jpeg/b/1.jpg", others=("jpeg/b/2.jpg",))])
    assert skipped == [
        Skipped("dicom_info.csv row 5", "table", "the path leaves the raw folder"),
        Skipped("dicom_info.csv row 6", "table", "the file is not there"),
    ]
    assert [path.name for path in cbis_ddsm.tables(tmp_path)] == [MASS, "dicom_info.csv"]


@pytest.mark.parametrize(
    ("changes", "stage", "reason"),
    [
        ({"left_or_right_breast": "BOTH"}, "image", "'left or right breast' is neither LEFT nor RIGHT"),
        ({"patient_id": ""}, "image", "patient_id or image view is empty or not letters"),
        ({"patient_id": "../P_1"}, "image", "patient_id or image view is empty or not letters"),
        ({"image_file_path": ""}, "image", "'image file path' is empty"),
        ({"ROI_mask_file_path": "\n"}, "finding", "'ROI mask file path' is empty"),
        ({"patient_id": "P_00002"}, "table", "the name in 'image file path' differs from the row's columns"),
    ],
)
def test_a_row_that_cannot_be_used_as_it_stands_is_listed(tmp_path, changes, stage, reason):
    write_table(tmp_path, row(**changes))

    records, skipped = read(tmp_path)

    assert len(records) == (stage != "image")
    assert (skipped[0].source, skipped[0].stage) == (f"{MASS} row 2", stage)
    assert skipped[0].reason.startswith(reason)


def test_rows_that_repeat_or_disagree_are_listed(tmp_path):
    other = row(abnormality_id=2, breast_density=1, image_file_path=IMAGE_PATH.replace(FULL, SECOND))
    write_table(tmp_path, row(), row(), other)

    (record,), skipped = read(tmp_path)

    assert len(record.findings) == 2
    assert [(item.source, item.stage, item.reason) for item in skipped] == [
        (f"{MASS} row 6", "table", "'image file path' differs from an earlier row of the image, which holds"),
        (f"{MASS} row 6", "table", "'breast density' differs from an earlier row of the image, which holds"),
        (f"{MASS} row 4", "table", "the row repeats an earlier one"),
    ]


def test_paths_that_climb_out_are_refused_and_listed(tmp_path):
    root, secret = tmp_path / "raw", "../secret/000000.dcm"
    films.write(root, patients=1, long_side=128)
    write_files(root, secret)
    write_table(root, row(image_file_path=secret), row(image_view="MLO"), name=CALC)
    with (root / MASS).open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    lines[1][-2:] = secret, secret
    write_table(root, *lines[1:], columns=lines[0])

    summary = convert.convert(cbis_ddsm.READER, root, out=tmp_path / "out", options=Options(labels="pathology"))

    assert summary.images == 2
    assert summary.skipped["image"] == {"the file is not there": 1, "the path leaves the raw folder": 1}
    assert summary.skipped["finding"] == {"mask file: the path leaves the raw folder": 1}
    assert summary.findings == {"benign": 2, "malignant": 1}  # row 2 was malignant


def test_a_missing_table_is_listed_and_none_at_all_is_an_error(tmp_path):
    with pytest.raises(MissingFileError, match=f"{MASS} does not exist. Download the tables"):
        read(tmp_path)
    write_table(tmp_path, row())

    absent = [item.source for item in cbis_ddsm.read(tmp_path) if isinstance(item, Skipped)]

    assert absent == [name for name in cbis_ddsm.TABLES if name != MASS]


beside = pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not beside the project")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not REAL.is_dir():
        pytest.skip("the real tables are not beside the project")
    root = tmp_path_factory.mktemp("real")
    for name in cbis_ddsm.TABLES:
        (root / name).write_bytes((REAL / name).read_bytes())
    return root


def test_every_row_is_a_finding_of_an_image(real):
    records, skipped = read(real)

    assert skipped == []
    assert sum(len(record.findings) for record in records) == 1318 + 378 + 1546 + 326
    assert Counter(record.image_id.partition("_")[0] for record in records) == {
        "Mass-Training": 1231,
        "Mass-Test": 361,
        "Calc-Training": 1227,
        "Calc-Test": 284,
    }
    assert len({record.patient_id for record in records}) == 1566
    assert Counter(record.density for record in records)[""] == 2
    assert max(len(record.findings) for record in records) == 7
    sources = [shape.source for record in records for shape in shapes(record)]
    assert len(set(sources)) == 3568


@pytest.mark.parametrize(
    ("labels", "counts"),
    [
        ("pathology", {"benign": 2111, "malignant": 1457}),
        ("pathology3", {"benign": 1429, "benign without callback": 682, "malignant": 1457}),
        ("type", {"mass": 1696, "calcification": 1872}),
    ],
)
def test_labels(real, labels, counts):
    records, _ = read(real, labels=labels)

    assert Counter(finding.label for record in records for finding in record.findings) == counts


def test_crop_and_mask_stand_in_two_series_104_times(real, tmp_path):
    for name in cbis_ddsm.TABLES:
        (tmp_path / name).write_bytes((real / name).read_bytes())
        with (real / name).open(newline="", encoding="utf-8") as file:
            for cells in csv.DictReader(file):
                write_files(tmp_path, *(cells[column].strip() for column in COLUMNS[-3:]))

    records, skipped = read(tmp_path)

    assert skipped == []
    assert all((tmp_path / record.source).is_file() for record in records)
    found = [shape for record in records for shape in shapes(record)]
    assert Counter(len({source.rpartition("/")[0] for source in shape.sources}) for shape in found) == {1: 3464, 2: 104}
    assert {len(shape.sources) for shape in found} == {2}


def test_the_official_split_leaks_31_patients(real, tmp_path):
    records, _ = read(real)
    names = [record.image_id for record in records]
    images = [panoptic.Image(n, name, 1, 1, ()) for n, name in enumerate(names, start=1)]
    panoptic.write_panoptic(tmp_path, categories=panoptic.make_categories(("benign",)), images=images)
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        rows = [(record.image_id, record.patient_id, record.split) for record in records]
        csv.writer(file).writerows([("image_id", "patient_id", "split"), *rows])

    with pytest.raises(MammoprepError, match="31 patients are on both sides of the official split"):
        folds.make(tmp_path, official=True)
    folds.make(tmp_path, official=True, allow_leak=True)
    content = json.loads((tmp_path / "folds.json").read_text())

    assert (content["leaks"], len(content["folds"][0]["val"])) == (31, 361 + 284)
    assert len({record.patient_id for record in records}) == 1566
    assert folds.make(tmp_path, k=5).leaks == 0


@beside
def test_the_crlf_copy_reads_alike(tmp_path):
    (tmp_path / MASS).write_bytes((REAL / "variants" / f"crlf_{MASS}").read_bytes())

    records, skipped = read(tmp_path)

    assert skipped == []
    assert sum(len(record.findings) for record in records) == 1318
    assert len(records) == 1231


@beside
def test_the_copy_with_renamed_columns_is_one_line(tmp_path):
    (tmp_path / MASS).write_bytes((REAL / "variants" / f"renamed_columns_{MASS}").read_bytes())

    with pytest.raises(MammoprepError, match=r"has no column 'left or right breast' and 5 more[.;]"):
        read(tmp_path)
