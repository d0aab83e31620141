"""COCO from anyone, and a DATASET of ours that comes back as it was."""

import csv
import json

import cv2
import numpy as np
import pytest

from mammoprep import panoptic, phantom
from mammoprep.convert import Options, Work, convert
from mammoprep.errors import MammoprepError
from mammoprep.readers import coco, vindr
from mammoprep.records import Classes, PanopticSegment, Polygon, Record, Skipped

ONE = Work(workers=1)
TRIANGLE = [2, 2, 8, 2, 2, 8]
CHANGED = {"manifest.json", "skipped.csv", "SHA256SUMS"}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def again(dataset, out, **options):
    convert(coco.READER, dataset, out=out, options=Options(labels="data", **options), work=ONE)
    return contents(out)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six phantom patients in 8 bits, whose images were made smaller."""
    root = tmp_path_factory.mktemp("coco")
    phantom.write(root / "raw", patients=6, long_side=300)
    convert(vindr.READER, root / "raw", out=root / "dataset", options=Options(labels="birads", long_side=200), work=ONE)
    return root / "dataset"


def test_a_dataset_comes_back_byte_for_byte(dataset, tmp_path):
    before, after = contents(dataset), again(dataset, tmp_path / "again")

    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == CHANGED
    assert len(before) == 6 + 2 * 24
    assert b"pseudo_mask" in before["panoptic.json"]


def test_a_dataset_of_16_bits_without_breast_comes_back_too(dataset, tmp_path):
    how = {"long_side": 150, "bits": 16, "stuff": ("background",)}
    options = Options(labels="finding", **how)
    convert(vindr.READER, dataset.parent / "raw", out=tmp_path / "first", options=options, work=ONE)
    before, after = contents(tmp_path / "first"), again(tmp_path / "first", tmp_path / "again", **how)

    assert {name for name in before if before[name] != after[name]} == {"manifest.json"}


def test_folds_of_the_dataset_still_fit(dataset, tmp_path):
    again(dataset, tmp_path / "again")

    names = [{image.id: image.name for image in panoptic.load(root).images} for root in (dataset, tmp_path / "again")]
    assert names[0] == names[1]
    assert list(names[0].values()) != sorted(names[0].values())  # their order is that of the raw files


def test_a_smaller_copy_keeps_the_map_to_the_native_image(dataset, tmp_path):
    again(dataset, tmp_path / "again", long_side=100)

    first, second = panoptic.load_cases(dataset)[0], panoptic.load_cases(tmp_path / "again")[0]
    assert (second["native_height"], second["source"]) == (first["native_height"], first["source"])
    assert float(second["scale_y"]) == pytest.approx(100 / 300)


@pytest.fixture
def raw(tmp_path):
    """Two images of COCO's usual layout: one with a triangle and a square, one without annotations."""
    (tmp_path / "val").mkdir()
    (tmp_path / "annotations").mkdir()
    for name in ("P1_b.png", "P2_a.png"):
        cv2.imwrite(str(tmp_path / "val" / name), np.full((12, 10), 90, dtype=np.uint8))
    return tmp_path


IMAGES = [
    {"id": 30, "file_name": "P1_b.png", "height": 12, "width": 10},
    {"id": 20, "file_name": "val/P2_a.png", "height": 12, "width": 10},
]
CATEGORIES = [{"id": 9, "name": "mass"}, {"id": 4, "name": "calcification"}]


def write_instances(raw, *, images=IMAGES, **changes):
    annotation = {"id": 1, "image_id": 30, "category_id": 9, "segmentation": [TRIANGLE], "iscrowd": 0} | changes
    content = {"images": images, "annotations": [annotation], "categories": CATEGORIES}
    (raw / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return raw


def write_panoptic(raw):
    ids = np.full((12, 10), 1000, dtype=np.int32)
    ids[2:5, 2:6], ids[:, 8:] = 70_000, 3
    (raw / "annotations" / "panoptic_val").mkdir()
    panoptic.write_ids(raw / "annotations" / "panoptic_val" / "P1_b.png", ids)
    kinds = [("mass", 1), ("breast", 0), ("sky", 0)]
    content = {
        "images": IMAGES,
        "categories": [{"id": i, "name": name, "isthing": thing} for i, (name, thing) in enumerate(kinds, 1)],
        "annotations": [
            {
                "image_id": 30,
                "file_name": "P1_b.png",
                "segments_info": [{"id": 70_000, "category_id": 1}, {"id": 1000, "category_id": 2}],
            }
        ],
    }
    (raw / "annotations" / "panoptic_val.json").write_text(json.dumps(content))
    return raw


def read(raw, **options):
    items = list(coco.read(raw, **options))
    kinds = [[item for item in items if isinstance(item, kind)] for kind in (Record, Skipped, Classes)]
    return kinds[0], kinds[1], kinds[2][0].names


def test_instances_are_read_with_ids_sizes_and_classes_in_the_order_of_their_ids(raw):
    (first, second), skipped, classes = read(write_instances(raw), patient=r"P\d")

    assert (skipped, classes) == ([], ("calcification", "mass"))
    assert (first.source, first.number, first.patient_id, first.size) == ("val/P1_b.png", 30, "P1", (12, 10))
    assert [finding.shape for finding in first.findings] == [Polygon(((2, 2), (8, 2), (2, 8)))]
    assert (first.findings[0].label, first.lesion_free) == ("mass", False)
    assert (second.source, second.number, second.findings, second.lesion_free) == ("val/P2_a.png", 20, (), True)


def test_ids_below_1_or_repeated_are_not_kept(raw):
    images = [IMAGES[0], IMAGES[1] | {"id": 0}]
    records, _, _ = read(write_instances(raw, images=images), patient=r"P\d")

    assert [record.number for record in records] == [0, 0]


def test_an_image_whose_only_annotation_cannot_be_drawn_is_not_lesion_free(raw):
    (record, _), skipped, _ = read(write_instances(raw, iscrowd=1), patient=r"P\d")

    assert (record.findings, record.lesion_free) == ((), False)
    assert [item.stage for item in skipped] == ["finding"]


def test_an_image_without_a_patient_is_skipped(raw):
    records, skipped, _ = read(write_instances(raw))

    assert records == []
    assert [(item.source, item.stage) for item in skipped] == [("val/P1_b.png", "image"), ("val/P2_a.png", "image")]


def test_an_image_that_is_not_there_or_leaves_the_folder_is_listed(raw):
    images = [IMAGES[0] | {"file_name": "../P1_b.png"}, IMAGES[1] | {"file_name": "P9.png"}]
    records, skipped, _ = read(write_instances(raw, images=images), patient=r"P\d")

    assert records == []
    assert [item.reason for item in skipped] == ["the path leaves the raw folder", "no image file has that name"]


def test_panoptic_alone_gives_segments_and_the_breast(raw):
    (record,), skipped, classes = read(write_panoptic(raw), patient=r"P\d")

    png = "annotations/panoptic_val/P1_b.png"
    assert classes == ("mass",)
    assert [finding.shape for finding in record.findings] == [PanopticSegment(png, 70_000)]
    assert record.regions == {"breast": (PanopticSegment(png, 1000),)}
    assert [(item.source, item.stage) for item in skipped] == [
        ("annotations/panoptic_val.json category 3", "table"),
        ("annotations/panoptic_val.json image 20", "table"),
    ]


def test_foreign_panoptic_becomes_a_dataset(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "dataset"
    options = Options(labels="data", reader={"patient": r"P\d"})
    convert(coco.READER, write_panoptic(raw), out=out, options=options, work=ONE)

    content = panoptic.load(out)
    assert [(category.name, category.isthing) for category in content.categories] == [
        ("mass", True),
        ("breast", False),
        ("background", False),
    ]
    ids = content.ids_of(content.images[0])
    assert [(s.category_id, s.area) for s in content.images[0].segments] == [(1, 12), (2, 84), (3, 24)]
    assert (ids[2:5, 2:6] == 1).all()
    assert (ids[:, 8:] == 3).all()


def test_the_pectoral_muscle_is_taken_over_on_request(raw, tmp_path_factory):
    path = write_panoptic(raw) / "annotations" / "panoptic_val.json"
    content = json.loads(path.read_text().replace("sky", "pectoral muscle"))
    content["annotations"][0]["segments_info"].append({"id": 3, "category_id": 3})
    path.write_text(json.dumps(content))
    out = tmp_path_factory.mktemp("out") / "dataset"
    options = Options(labels="data", reader={"patient": r"P\d", "pectoral": True})
    convert(coco.READER, raw, out=out, options=options, work=ONE)

    found = panoptic.load(out)
    names = {category.id: category.name for category in found.categories}
    areas = {names[segment.category_id]: segment.area for segment in found.images[0].segments}
    assert areas == {"mass": 12, "pectoral muscle": 24, "breast": 84}


def test_a_png_of_another_size_makes_its_image_unusable(raw, tmp_path_factory):
    write_panoptic(raw)
    panoptic.write_ids(raw / "annotations" / "panoptic_val" / "P1_b.png", np.full((3, 3), 70_000, dtype=np.int32))
    out = tmp_path_factory.mktemp("out") / "dataset"

    with pytest.raises(MammoprepError, match="the panoptic PNG has 3x3 pixels, unlike the image"):
        convert(coco.READER, raw, out=out, options=Options(labels="data", reader={"patient": r"P\d"}), work=ONE)


@pytest.mark.parametrize(
    ("content", "text"), [("{", "is not readable JSON"), ('{"seed": 0}', "holds no COCO annotations")]
)
def test_a_folder_without_coco_is_one_line(tmp_path, content, text):
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(MammoprepError, match=text):
        list(coco.read(tmp_path))


def test_panoptic_of_another_shape_is_one_line(raw):
    path = write_panoptic(raw) / "annotations" / "panoptic_val.json"
    content = json.loads(path.read_text())
    del content["annotations"][0]["segments_info"][0]["category_id"]
    path.write_text(json.dumps(content))

    with pytest.raises(MammoprepError, match="is not COCO panoptic: 'category_id' is missing"):
        list(coco.read(raw, patient="P"))


def test_cases_csv_gives_what_it_says_of_an_image(raw):
    write_instances(raw)
    row = {"image_id": "P2_a", "patient_id": "x7", "laterality": "R", "view": "CC", "density": "B", "lesion_free": "0"}
    with (raw / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row)
    (record,), skipped, _ = read(raw)

    assert (record.patient_id, record.laterality, record.view, record.density) == ("x7", "R", "CC", "B")
    assert (record.lesion_free, record.given) == (False, row)
    assert [item.source for item in skipped] == ["val/P1_b.png"]


@pytest.mark.parametrize(
    ("key", "entries"),
    [
        ("annotations", [7]),
        ("categories", [7]),
        ("categories", [{"id": 1, "name": "a"}, {"id": "x", "name": "b"}]),
        ("categories", [{"name": "a"}]),
    ],
)
def test_lists_of_something_else_are_one_line(raw, key, entries):
    path = write_instances(raw) / "annotations" / "instances_val.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: entries}))
    with pytest.raises(MammoprepError, match="is not COCO"):
        read(raw)


def test_an_annotation_whose_attributes_cannot_be_written_again_is_listed(raw):
    write_instances(raw, attributes={"size": float("nan")})
    records, skipped, _ = read(raw, patient="(P.)")
    assert [record.findings for record in records] == [(), ()]
    assert "a number in it is none" in skipped[0].reason


def test_segments_whose_attributes_cannot_be_written_again_are_one_line(raw):
    path = write_panoptic(raw) / "annotations" / "panoptic_val.json"
    path.write_text(path.read_text().replace('"category_id": 1', '"category_id": 1, "pseudo_mask": {"threshold": NaN}'))
    with pytest.raises(MammoprepError, match="is not COCO panoptic: a number in it is none"):
        read(raw)


@pytest.mark.parametrize(
    ("column", "cell"), [("scale_x", "0"), ("scale_y", "x"), ("crop_x0", ""), ("source", "../a.dcm"), ("source", "")]
)
def test_a_damaged_row_of_cases_csv_is_named(dataset, tmp_path, column, cell):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("panoptic.json", "instances.json"):
        (copy / name).write_bytes((dataset / name).read_bytes())
    rows = panoptic.load_cases(dataset)
    rows[1][column] = cell
    with (copy / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(MammoprepError, match=r"cases.csv is damaged \(row 3\)"):
        read(copy)


def test_a_table_of_cases_that_breaks_off_is_one_line(dataset, tmp_path):
    for name in ("panoptic.json", "cases.csv"):
        (tmp_path / name).write_bytes((dataset / name).read_bytes())
    (tmp_path / "cases.csv").write_bytes((dataset / "cases.csv").read_bytes()[:-30])
    with pytest.raises(MammoprepError, match="cases.csv is damaged"):
        read(tmp_path)
