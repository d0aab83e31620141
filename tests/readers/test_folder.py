"""A folder of one's own: tables, masks and exports brought to the images, and no name in what comes out."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import openpyxl
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from mammoprep import panoptic
from mammoprep.convert import Options, Work, convert, pseudonymised
from mammoprep.errors import MammoprepError
from mammoprep.phantom import folder as phantom
from mammoprep.pseudonyms import Pseudonyms, listed, load_key, write_links
from mammoprep.readers import cdd_cesm, folder
from mammoprep.records import Box, Classes, MaskFile, Polygon, Record, Skipped

KEYED = Pseudonyms(b"k" * 32)


def image(root, name, *, value=0, size=(12, 10)):
    """Write a grey picture, or one of a value and a square of it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(size, 90, dtype=np.uint8)
    if value:
        pixels[:] = 0
        pixels[3:6, 2:5] = value
    cv2.imwrite(str(path), pixels)
    return root


def dicom(path, *, patient="MRN-77", modality="MG", **values):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = Dataset()
    content.PatientID, content.PatientName, content.Modality = patient, "Roe^Jane", modality
    content.StudyInstanceUID, content.SOPInstanceUID = "1.2.3.4", generate_uid(entropy_srcs=[path.name])
    content.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    content.Rows, content.Columns, content.SamplesPerPixel = 12, 10, 1
    content.BitsAllocated = content.BitsStored = 8
    content.HighBit, content.PixelRepresentation, content.PhotometricInterpretation = 7, 0, "MONOCHROME2"
    content.PixelData = bytes([90]) * 120
    for keyword, value in values.items():
        setattr(content, keyword, value)
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, content, enforce_file_format=True)
    return content


def table(root, *rows, name="lesions.csv"):
    with (root / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return root


BOX = {"xmin": "2", "ymin": "3", "xmax": "5", "ymax": "6.5"}
ROW = {"filename": "a.png", "patient_id": "p1", "label": "malignant", **BOX}


def read(root, **options):
    items = list(folder.read(root, **options))
    kinds = [[item for item in items if isinstance(item, kind)] for kind in (Record, Skipped, Classes)]
    return kinds[0], [(item.source, item.stage, item.reason) for item in kinds[1]], kinds[2][0].names


def test_a_table_of_boxes(tmp_path):
    image(tmp_path, "deep/down/a.png")
    facts = {"side": "Left", "view": "mlo", "density": "DENSITY C", "split": "test", "study_id": "s1"}
    (record,), skipped, classes = read(table(tmp_path, ROW | facts))

    assert (skipped, classes) == ([], ("malignant",))
    assert (record.source, record.image_id, record.patient_id) == ("deep/down/a.png", "a", "p1")
    assert (record.study_id, record.laterality, record.view) == ("s1", "L", "MLO")
    assert (record.density, record.split, record.lesion_free) == ("C", "test", False)
    assert [(f.shape, f.label, f.source) for f in record.findings] == [
        (Box(2, 3, 5, 6.5), "malignant", "lesions.csv row 2")
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"image": "a", "patient": "p1", "x": "2", "y": "3", "width": "3", "height": "3.5"},
        {"Image ID": "a.png", "PatientID": "p1", "left": "2", "upper": "3", "right": "5", "bottom": "6.5"},
        {"path": "x\\a.png", "Subject": "p1", "X0": "2", "Y0": "3", "X1": "5", "Y1": "6.5"},
    ],
)
def test_columns_are_known_by_their_usual_names(tmp_path, row):
    (record,), _, classes = read(table(image(tmp_path, "x/a.png"), row))

    assert ([finding.shape for finding in record.findings], record.patient_id) == ([Box(2, 3, 5, 6.5)], "p1")
    assert classes == ("lesion",)


def test_columns_can_be_named(tmp_path):
    row = {"Bild": "a", "Wer": "p1", "filename": "?", "xmin": "2", "ymin": "3", "xmax": "5", "ymax": "6.5"}
    (record,), _, _ = read(table(image(tmp_path, "a.png"), row), column=("image=Bild", "patient = Wer"))

    assert (record.source, record.patient_id) == ("a.png", "p1")


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (("patient=PatID",), "--column patient=PatID: no table has that column. See their first lines."),
        (
            ("patient=patients_id",),
            "--column patient=patients_id: no table has that column; the nearest is",
        ),
        (("patent=filename",), "There is no --column 'patent'. Did you mean 'patient'?"),
        (("patient",), "--column patient is not WHAT=NAME. WHAT is one of image, patient"),
    ],
)
def test_a_wrong_column_is_one_line(tmp_path, column, text):
    with pytest.raises(MammoprepError) as caught:
        read(table(image(tmp_path, "a.png"), ROW), column=column)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("columns", "lacking"),
    [
        ({"xmin": "2", "ymin": "3", "right_end": "5", "ymax": "6"}, ["x1"]),
        ({"x": "2", "y": "3", "breite": "3", "hoehe": "3"}, ["width", "height"]),
        ({"x": "2", "y": "3", "width": "3", "height": "3", "left": "2"}, []),
        ({"width": "10", "height": "12"}, ["x", "y"]),
        ({"diameter": "3"}, []),
    ],
)
def test_a_box_that_columns_say_in_part_is_told(tmp_path, columns, lacking):
    _, skipped, _ = read(table(image(tmp_path, "a.png"), {"image": "a", "patient": "p", **columns}))

    told = [reason for source, _, reason in skipped if source == "lesions.csv"]
    names = ", ".join(lacking)
    text = f"columns of a box are there, but none for {names}; --column {names.partition(',')[0]}=NAME says which is"
    assert told == ([text] if lacking else [])


def test_a_workbook_and_several_tables_add_up(tmp_path):
    book = openpyxl.Workbook()
    for row in (("filename", "patient"), ("a.png", "p1"), ("a.png", "p2")):
        book.active.append(row)
    book.save(tmp_path / "who.xlsx")
    lesion = {"image": "a", **BOX}
    image(tmp_path, "a.png")
    (record,), skipped, _ = read(table(tmp_path, lesion, lesion, lesion | {"xmax": "9"}))

    assert record.patient_id == "p1"
    assert [finding.shape for finding in record.findings] == [Box(2, 3, 5, 6.5), Box(2, 3, 9, 6.5)]
    assert skipped == [
        ("lesions.csv row 3", "finding", "the outline repeats an earlier one of the image"),
        ("who.xlsx row 3", "table", "patient differs from an earlier one of the image, which holds"),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"xmin": ""}, "a corner of the box is missing or no number"),
        ({"xmin": "7"}, "the box is empty or inverted"),
        ({"lesion_free": "maybe"}, "lesion_free is neither yes nor no"),
        ({"region_shape_attributes": "{"}, "the shape is not JSON"),
    ],
)
def test_a_row_that_cannot_be_used_is_listed_and_its_image_is_not_lesion_free(tmp_path, change, reason):
    records, skipped, _ = read(table(image(tmp_path, "a.png"), ROW | change), empty="lesion-free")

    assert records == []
    assert skipped[0] == ("lesions.csv row 2", "finding", reason)
    assert skipped[1][:2] == ("a.png", "selection")


def test_a_via_table(tmp_path):
    shape = {"name": "polygon", "all_points_x": [1, 4, 4], "all_points_y": [1, 1, 4]}
    row = {
        "#filename": "a.png",
        "region_shape_attributes": json.dumps(shape),
        "region_attributes": json.dumps({"label": "benign"}),
    }
    (record,), _, classes = read(table(image(tmp_path, "a.png"), row), patient=".+")

    assert classes == ("benign",)
    assert [finding.shape for finding in record.findings] == [Polygon(((1, 1), (4, 1), (4, 4)))]


@pytest.mark.parametrize(
    ("mask", "label"),
    [
        ("x/a_mask.png", "lesion"),
        ("x/a-mask-2.png", "lesion"),
        ("x/A_MASK_malignant_2.png", "malignant"),
        ("x/a mask benign.tif", "benign"),
        ("masks/a.png", "lesion"),
        ("x/Mask/benign/a.png", "benign"),
        ("x/masks/BI-RADS 4/a_mask_2.png", "BI-RADS 4"),
        ("masks/a_mask_benign.png", "benign"),
    ],
)
def test_masks_are_known_by_their_names(tmp_path, mask, label):
    image(image(tmp_path, "x/a.png"), mask, value=255)
    (record,), skipped, _ = read(tmp_path, patient="x")

    assert skipped == []
    assert [(f.shape, f.label, f.source) for f in record.findings] == [(MaskFile(mask, may_be_empty=True), label, mask)]


def test_a_mask_without_an_image_and_an_image_without_a_mask_are_listed(tmp_path):
    image(image(tmp_path, "b.png"), "a_mask.png", value=1)
    records, skipped, _ = read(tmp_path, patient="x")

    assert records == []
    assert skipped == [
        ("a_mask.png", "image", "a mask: no image file has that name"),
        ("b.png", "selection", "no annotation names the image"),
    ]


def test_a_table_can_name_masks(tmp_path):
    image(image(tmp_path, "a.png"), "drawn/77.png", value=1)
    rows = ({"image": "a", "patient": "p", "mask": "77.png"}, {"image": "a", "patient": "p", "mask": "../b.png"})
    (record,), skipped, _ = read(table(tmp_path, *rows))

    assert [finding.shape for finding in record.findings] == [MaskFile("drawn/77.png", may_be_empty=True)]
    assert skipped == [("lesions.csv row 3", "finding", "the mask: the path leaves the raw folder")]


def labelme(root, name, *, path, shapes=1):
    shape = {"label": "cyst", "points": [[1, 1], [4, 1], [4, 4]], "shape_type": "polygon"}
    (root / name).write_text(json.dumps({"shapes": [shape] * shapes, "imagePath": path}))


def test_labelme_beside_its_image_even_with_a_path_of_another_machine(tmp_path):
    for name, path in (("x/a.png", "a.png"), ("y/a.png", "..\\..\\share\\a.png")):
        image(tmp_path, name)
        labelme(tmp_path, name.replace("png", "json"), path=path)
    records, skipped, classes = read(tmp_path, patient="^[xy]")

    assert (skipped, classes) == ([], ("cyst",))
    assert [(record.source, record.patient_id) for record in records] == [("x/a.png", "x"), ("y/a.png", "y")]
    assert [record.image_id for record in records] == ["x_a", "y_a"]


def test_what_an_image_without_outlines_is_must_be_said(tmp_path):
    for name in ("a", "b", "c", "d"):
        image(tmp_path, f"{name}.png")
    labelme(tmp_path, "a.json", path="a.png", shapes=0)
    rows = [{"image": name, "lesion_free": said} for name, said in (("b", "yes"), ("c", "no"))]
    table(tmp_path, *rows)

    records, skipped, _ = read(tmp_path, patient=".+")
    assert [(record.source, record.lesion_free) for record in records] == [("b.png", True)]
    assert [item[:2] for item in skipped] == [("d.png", "selection"), ("a.png", "selection"), ("c.png", "selection")]

    records, skipped, _ = read(tmp_path, patient=".+", empty="lesion-free")
    assert [(record.source, record.lesion_free) for record in records] == [("a.png", True), ("b.png", True)]


def test_a_label_of_no_lesion_says_lesion_free(tmp_path):
    row = {"image": "a", "patient": "p", "label": "Normal"}
    (record,), _, classes = read(table(image(tmp_path, "a.png"), row))

    assert (record.lesion_free, classes) == (True, ())


def test_outlines_hold_against_a_table_that_says_lesion_free(tmp_path):
    (record,), skipped, _ = read(table(image(tmp_path, "a.png"), ROW | {"lesion_free": "1"}))

    assert (len(record.findings), record.lesion_free) == (1, False)
    assert skipped == [("a.png", "table", "called lesion-free, yet outlined: the outlines hold")]


def test_classes_can_be_chosen(tmp_path):
    rows = [ROW | {"label": label, "xmax": str(5 + n)} for n, label in enumerate(("Cyst", "benign", "MALIGNANT"))]
    (record,), _, classes = read(table(image(tmp_path, "a.png"), *rows), classes="malignant, benign")

    assert classes == ("malignant", "benign")
    assert [finding.label for finding in record.findings] == [None, "benign", "malignant"]


def test_the_patient_comes_from_the_header_where_nothing_else_says_it(tmp_path):
    dicom(tmp_path / "a.dcm")
    dicom(tmp_path / "b", patient="MRN-78")
    dicom(tmp_path / "c.dcm", patient="")
    rows = [{key: value for key, value in ROW.items() if key != "patient_id"} | {"filename": name} for name in "abc"]
    records, skipped, _ = read(table(tmp_path, *rows))

    assert [(record.patient_id, record.study_id) for record in records] == [
        ("MRN-77", "1.2.3.4"),
        ("MRN-78", "1.2.3.4"),
    ]
    assert skipped == [("c.dcm", "image", "no patient is known: name a column, or say --patient")]


def test_a_header_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"\0" * 200)
    _, skipped, _ = read(table(tmp_path, ROW | {"filename": "a", "patient_id": ""}))

    assert skipped[0][:2] == ("a.dcm", "image")
    assert "the header has no identifiers" in skipped[0][2]


def test_what_is_no_image_and_what_leaves_the_folder_is_listed(tmp_path):
    root = image(tmp_path / "raw", "a.png")
    (root / "notes.txt").write_text("x")
    (root / "x").mkdir()
    table(root, ROW, name="x/lesions.csv")
    (tmp_path / "b.png").write_bytes((root / "a.png").read_bytes())
    (root / "b.png").symlink_to(tmp_path / "b.png")
    _, skipped, _ = read(table(root, ROW | {"filename": "../b.png"}, ROW | {"filename": "b.png"}))

    assert skipped == [
        ("lesions.csv row 2", "image", "the path leaves the raw folder"),
        ("lesions.csv row 3", "image", "no image file has that name"),
        ("a.png", "selection", "no annotation names the image"),
        ("b.png", "image", "a link that leaves the raw folder"),
        ("notes.txt", "table", "neither an image nor an annotation file that is read"),
        ("x/lesions.csv", "table", "neither an image nor an annotation file that is read"),
    ]


def test_a_table_without_a_column_for_the_image_is_listed(tmp_path):
    table(image(tmp_path, "a.png"), {"who": "p", "what": "x"}, name="who.csv")

    assert read(tmp_path)[1][0][:2] == ("who.csv", "table")


@pytest.mark.parametrize(
    ("options", "text"), [({"empty": "normal"}, "--empty"), ({"labels": "birads"}, "label scheme")]
)
def test_a_wrong_choice_is_one_line(tmp_path, options, text):
    with pytest.raises(MammoprepError, match=text):
        read(tmp_path, **options)


SECRETS = ("Roe", "Jane", "MRN-77", "1.2.3.4", "acc-91", "ward7", "mrs-x", "free text")


@pytest.fixture
def hospital(tmp_path):
    """A folder whose every name and cell holds something that must not come out."""
    root = tmp_path / "hospital"
    dicom(root / "ward7" / "mrs-x_L.dcm", PatientComments="free text", Manufacturer="SIEMENS")
    image(root, "ward7/mrs-x_R.png")
    image(root, "ward7/mrs-x_R_mask.png", value=255)
    dicom(root / "ward7" / "mrs-x_broken.dcm", PixelData=b"")
    labelme(root, "ward7/mrs-x_L.json", path="mrs-x_L.dcm")
    labelme(root, "ward7/mrs-x_broken.json", path="mrs-x_broken.dcm")
    labelme(root, "ward7/mrs-x_lost.json", path="mrs-x_lost.dcm")
    (root / "ward7" / "mrs-x.txt").write_text("free text")
    (root / "ward7" / "mrs-x_bad.xml").write_text("<mrs-x")
    row = {"image": "mrs-x_R", "patient": "MRN-77", "study": "acc-91", "comment": "free text"}
    return table(root, row, {"image": "mrs-x_gone", "patient": "MRN-77", "study": "", "comment": "Roe"})


def test_no_name_comes_out(hospital, tmp_path):
    reader, options = pseudonymised(folder.READER, KEYED), Options(labels="data")
    summary = convert(reader, hospital, out=tmp_path / "out", options=options, work=Work(workers=1))

    assert (summary.images, summary.patients, summary.findings) == (2, 1, {"cyst": 1, "lesion": 1})
    for path in (tmp_path / "out").rglob("*"):
        name, data = path.name.encode(), path.read_bytes() if path.is_file() else b""
        assert [secret for secret in SECRETS if secret.encode() in name + data] == [], path


def test_pseudonyms_are_those_of_the_key_and_lead_back(hospital, tmp_path):
    items = list(pseudonymised(folder.READER, KEYED).read(hospital))
    records = [item for item in items if isinstance(item, Record)]
    write_links(tmp_path / "links.csv", KEYED, listed(hospital))

    with (tmp_path / "links.csv").open(newline="") as file:
        back = {row["pseudonym"]: row["file"] for row in csv.DictReader(file)}
    assert {back[record.image_id] for record in records} == {record.source for record in records}
    assert {record.patient_id for record in records} == {KEYED.of("patient", "MRN-77")}
    assert len(KEYED.of("patient", "MRN-77")) == 16
    assert KEYED.of("patient", "MRN-77") != KEYED.of("study", "MRN-77") != Pseudonyms(b"other").of("study", "MRN-77")
    assert (tmp_path / "links.csv").stat().st_mode & 0o077 == 0


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    first = load_key(tmp_path / "key")

    assert (first, len(first.key)) == (load_key(tmp_path / "key"), 32)
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert load_key(tmp_path / "other").fingerprint != first.fingerprint


def test_a_file_that_is_no_key_is_refused(tmp_path):
    (tmp_path / "key").write_text("secret")
    with pytest.raises(MammoprepError, match="is no key: 64 hexadecimal digits"):
        load_key(tmp_path / "key")
    with pytest.raises(MammoprepError, match="could not be written"):
        load_key(tmp_path / "no" / "key")


def test_everything_becomes_a_dataset(tmp_path):
    root = image(image(tmp_path / "raw", "a.png"), "a_mask_cyst.png", value=1)
    labelme(image(root, "b.png"), "b.json", path="b.png")
    table(image(root, "c.png"), {"image": "c", "lesion_free": "yes"})
    reader = {"patient": "(.)[.]png", "classes": "cyst"}
    convert(
        folder.READER, root, out=tmp_path / "out", options=Options(labels="data", reader=reader), work=Work(workers=1)
    )

    content, cases = panoptic.load(tmp_path / "out"), panoptic.load_cases(tmp_path / "out")
    assert [(image.name, [s.area for s in image.segments][0]) for image in content.images[:2]] == [("a", 9), ("b", 6)]
    assert [(row["patient_id"], row["lesion_free"], row["source"]) for row in cases] == [
        ("a", "0", "a.png"),
        ("b", "0", "b.png"),
        ("c", "1", "c.png"),
    ]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert sorted(manifest["inputs"]) == ["a_mask_cyst.png", "b.json", "lesions.csv"]
    assert Path(tmp_path / "out" / "images" / "c.png").is_file()


def test_a_dicom_seg_goes_to_the_image_that_it_refers_to(tmp_path):
    from tests.pixels.test_segmentation import write as write_seg

    root = tmp_path / "raw"
    uid = dicom(root / "img" / "a.dcm", Rows=5, Columns=7, PixelData=bytes([90]) * 35 + b"\0").SOPInstanceUID
    write_seg(root / "seg.dcm", frames=((1, uid), (2, "1.2.404"), (1, uid)))
    convert(folder.READER, root, out=tmp_path / "out", options=Options(labels="data"), work=Work(workers=1))

    content = panoptic.load(tmp_path / "out")
    assert [(category.name, category.isthing) for category in content.categories][0] == ("mass", True)
    assert np.argwhere(content.ids_of(content.images[0]) == 1).tolist() == [[1, 2], [1, 3], [4, 6]]
    with (tmp_path / "out" / "skipped.csv").open(newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == ["seg.dcm segment 2"]


@pytest.fixture(scope="module")
def by_masks(tmp_path_factory):
    """What the phantom folder with mask files becomes: the true masks."""
    return converted(tmp_path_factory.mktemp("masks"), "masks")


def converted(place, layout):
    """Draw a folder in a layout and convert it; give each image's lesions: class and mask."""
    phantom.write(place / "raw", layout=layout, patients=2, long_side=192)
    options = Options(labels="data", reader={"empty": "lesion-free"})
    convert(folder.READER, place / "raw", out=place / "out", options=options, work=Work(workers=1))
    content = panoptic.load(place / "out")
    names = {category.id: category.name for category in content.things}
    lesions = {}
    for shown in content.images:
        ids = content.ids_of(shown)
        found = [(names[s.category_id], ids == s.id) for s in shown.segments if s.category_id in names]
        lesions[shown.name] = sorted(found, key=lambda lesion: lesion[0])  # no two of an image have one class here
    return lesions, {row["image_id"]: row for row in panoptic.load_cases(place / "out")}


@pytest.mark.parametrize(
    ("layout", "least"),
    [("dicom-seg", 1.0), ("coco", 1.0), ("labelme", 0.98), ("cvat", 0.98), ("via", 0.98), ("table", 0.4)],
)
def test_the_same_lesions_come_out_of_every_layout(tmp_path, by_masks, layout, least):
    (true, _), (found, cases) = by_masks, converted(tmp_path, layout)

    assert len(true) >= 4
    assert {name: [label for label, _ in found[name]] for name in true} == {
        name: [label for label, _ in lesions] for name, lesions in true.items()
    }
    dice = [
        2 * (mask & other).sum() / (mask.sum() + other.sum())
        for name, lesions in true.items()
        for (_, mask), (_, other) in zip(lesions, found[name], strict=True)
    ]
    assert min(dice) >= least
    free = {name for name, row in cases.items() if row["lesion_free"] == "1"}
    assert free == {name for name, lesions in found.items() if not lesions}
    assert len({row["patient_id"] for row in cases.values()}) == 2
    assert len(free) == (0 if layout == "dicom-seg" else 8 - len(true))


def test_a_workbook_of_several_sheets_is_one_line(tmp_path):
    book = openpyxl.Workbook()
    book.create_sheet("second").append(("image",))
    book.save(tmp_path / "who.xlsx")

    with pytest.raises(MammoprepError, match="has 2 sheets. Save the one that is meant"):
        read(image(tmp_path, "a.png"))


MINI = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "cdd-cesm-mini"


@pytest.mark.skipif(not MINI.is_dir(), reason="the real test files are not beside the project")
def test_every_row_of_a_real_via_table_is_accounted_for(tmp_path):
    for path in (*MINI.glob("*/*.jpg"), *MINI.glob("*.csv")):
        target = tmp_path / path.relative_to(MINI)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    records, skipped, classes = read(tmp_path, patient=r"(P\d+)_")
    of_the_release = [item for item in cdd_cesm.read(MINI) if isinstance(item, Record)]

    outlines = {record.image_id: [finding.shape for finding in record.findings] for record in records}
    assert outlines == {record.image_id: [finding.shape for finding in record.findings] for record in of_the_release}
    repeated = [item for item in skipped if item[2] == "the outline repeats an earlier one of the image"]
    assert sum(map(len, outlines.values())) + len(repeated) == 532
    assert (len(records), len(repeated), len(skipped), classes) == (143, 4, 4 + 48, ("lesion",))


def test_a_file_name_that_is_no_utf_8_has_a_pseudonym_too(tmp_path):
    root = image(tmp_path / "raw", "a.png")
    name = b"m\xfcller.png".decode(errors="surrogateescape")
    (root / "a.png").rename(root / name)
    write_links(tmp_path / "links.csv", KEYED, listed(root))

    assert (
        tmp_path / "links.csv"
    ).read_bytes() == f"pseudonym,file\n{KEYED.of('file', name)},".encode() + b"m\xfcller.png\n"
