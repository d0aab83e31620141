"""Each format is what its tool documents, and gives the very pixels of every lesion back."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from pycocotools.coco import COCO

from mammoprep import convert, outlines, panoptic, targets
from mammoprep.evaluation.runs import evaluate
from mammoprep.readers import READERS
from mammoprep.records import Polygon

CLASSES = {1: "BI-RADS 3", 2: "müll & <b>"}
STUFF = "segments of stuff (breast, background) are left out"
FACTS = "lesions lose the data set's facts (attributes)"
HOLES = "lesions with holes: bridges without width lead to them"


def export(dataset, out, to, **options):
    return targets.export(dataset, out, options=targets.Options(to, **options))


def home(reader: str, raw: Path, out: Path, **own: str) -> Path:
    """Convert what was exported."""
    options = convert.Options(labels="data", long_side=0, reader=own)
    convert.convert(READERS[reader], raw, out=out, options=options, work=convert.Work(workers=1))
    return out


def masks(dataset: Path) -> dict[str, list]:
    """Give the class name and the code of each lesion, sorted, by image."""
    content = panoptic.load_instances(dataset)
    names = {image["id"]: image["file_name"].removesuffix(".png") for image in content["images"]}
    classes = {category["id"]: category["name"] for category in content["categories"]}
    found = {name: [] for name in names.values()}
    for each in content["annotations"]:
        found[names[each["image_id"]]].append((classes[each["category_id"]], each["segmentation"]["counts"]))
    return {name: sorted(codes) for name, codes in found.items()}


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools' own, under NumPy 2
def test_coco_loads_in_pycocotools(dataset, lesions, tmp_path):
    report = export(dataset, tmp_path / "out", "coco")
    loaded = COCO(tmp_path / "out" / "annotations" / "instances_default.json")
    assert (report.images, report.lesions, report.not_held) == (4, 6, {})
    for number, (name, expected) in enumerate(lesions.items(), start=1):
        found = loaded.loadAnns(loaded.getAnnIds(imgIds=[number]))
        assert (tmp_path / "out" / "images" / "default" / loaded.imgs[number]["file_name"]).is_file()
        assert loaded.imgs[number]["file_name"] == f"{name}.png"
        assert [each["category_id"] for each in found] == [label for label, _ in expected]
        assert all((loaded.annToMask(each) == mask).all() for each, (_, mask) in zip(found, expected, strict=True))


def test_coco_comes_home_byte_for_byte(dataset, tmp_path, contents):
    export(dataset, tmp_path / "coco", "coco")
    back = home("coco", tmp_path / "coco", tmp_path / "back")
    before, after = contents(dataset), contents(back)
    for name in ("instances.json", "panoptic.json", *(f"{folder}/a b.png" for folder in ("images", "panoptic"))):
        assert after[name] == before[name]


def test_coco_of_a_fold_has_two_of_everything_and_comes_home(dataset, tmp_path):
    report = export(dataset, tmp_path / "coco", "coco", fold=0)
    for part, numbers in (("train", [1, 3]), ("val", [2, 4])):
        for kind in ("instances", "panoptic"):
            listed = json.loads((tmp_path / "coco" / "annotations" / f"{kind}_{part}.json").read_text())
            assert [image["id"] for image in listed["images"]] == numbers
            assert {each["image_id"] for each in listed["annotations"]} <= set(numbers)
        assert len(list((tmp_path / "coco" / "images" / part).iterdir())) == 2
    assert (report.fold, report.images) == (0, 4)
    assert masks(home("coco", tmp_path / "coco", tmp_path / "back")) == masks(dataset)


def yolo_masks(text: str, *, height: int, width: int):
    """Read label lines as their documentation has it: class x1 y1 x2 y2 …, in fractions of width and height."""
    for line in text.splitlines():
        label, *numbers = line.split()
        points = np.array(numbers, dtype=float).reshape(-1, 2)
        assert ((points >= 0) & (points <= 1)).all()
        ring = Polygon(tuple(map(tuple, points * (width, height))))
        yield int(label) + 1, outlines.draw(ring, height=height, width=width)


def test_yolo_lines_are_the_lesions(dataset, lesions, tmp_path):
    report = export(dataset, tmp_path / "out", "yolo", fold=1)
    parts = {"größe": "train", "<x>&'\"": "train", "a b": "val", "free": "val"}
    for name, part in parts.items():
        assert (tmp_path / "out" / "images" / part / f"{name}.png").is_file()
        text = (tmp_path / "out" / "labels" / part / f"{name}.txt").read_text()
        found = list(yolo_masks(text, height=24, width=20))
        assert [label for label, _ in found] == [label for label, _ in lesions[name]]
        assert all((drawn == mask).all() for (_, drawn), (_, mask) in zip(found, lesions[name], strict=True))
    parts_tied = "lesions in several parts: bridges without width tie them"
    assert report.not_held == {FACTS: 6, STUFF: 7, HOLES: 2, parts_tied: 1}


def test_yolo_names_its_classes_in_yaml(dataset, tmp_path):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    export(dataset, tmp_path / "out", "yolo", fold=0)
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text(encoding="utf-8"))
    assert content == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "BI-RADS 3", 1: "müll & <b>"},
    }


def test_nnunet_layout(dataset, lesions, tmp_path):
    out = tmp_path / "Dataset042_Mammo"
    report = export(dataset, out, "nnunet")
    content = json.loads((out / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "BI-RADS 3": 1, "müll & <b>": 2, "breast": 3}
    assert (content["numTraining"], content["file_ending"]) == (4, ".png")
    assert json.loads((out / "splits_final.json").read_text())[0] == {
        "train": ["a b", "free"],
        "val": ["größe", "<x>&'\""],
    }
    for name, expected in lesions.items():
        labels = panoptic.read_png(out / "labelsTr" / f"{name}.png")
        assert (out / "imagesTr" / f"{name}_0000.png").is_file()
        truth = np.where(np.arange(20) < 10, 3, 0) * np.ones((24, 1), dtype=int)
        for label, mask in expected:
            truth[mask] = label
        assert (labels == truth).all()
    assert report.not_held == {
        FACTS: 6,
        "lesions become pixels of their class, no longer told apart": 6,
        "lesions lie in part under a smaller one": 1,
    }


def test_nnunet_label_maps_are_scored_as_they_come_back(dataset, tmp_path):
    export(dataset, tmp_path / "Dataset001_x", "nnunet")
    (tmp_path / "predictions").mkdir()
    (tmp_path / "Dataset001_x" / "labelsTr").rename(tmp_path / "predictions" / "semantic")
    content = evaluate(dataset, tmp_path / "predictions").report.to_json()
    assert (content["dice"]["pooled"], content["iou"]["pooled"]) == (1, 1)


def test_cvat_has_a_mask_a_lesion(dataset, tmp_path):
    report = export(dataset, tmp_path / "out", "cvat")
    root = ElementTree.parse(tmp_path / "out" / "annotations.xml").getroot()
    assert [image.get("name") for image in root.iter("image")] == ["a b.png", "größe.png", "free.png", "<x>&'\".png"]
    assert [label.findtext("name") for label in root.iter("label")] == list(CLASSES.values())
    ringed = next(root.iter("mask"))
    expected = {"label": "BI-RADS 3", "left": "2", "top": "3", "width": "6", "height": "5", "z_order": "0"}
    assert expected.items() <= ringed.attrib.items()
    assert ringed.get("rle") == "0, 14, 2, 14"  # two rows and two pixels, the hole, the rest
    labels = json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8"))
    assert labels[0] == {"name": "BI-RADS 3", "color": "#e69f00", "attributes": []}
    assert report.not_held == {FACTS: 6, STUFF: 7}


def test_labelme_has_polygons_and_groups_for_parts(dataset, tmp_path):
    report = export(dataset, tmp_path / "out", "labelme")
    content = json.loads((tmp_path / "out" / "images" / "a b.json").read_text(encoding="utf-8"))
    assert [(shape["label"], shape["group_id"]) for shape in content["shapes"]] == [
        ("BI-RADS 3", None),
        *[("müll & <b>", 2)] * 3,
    ]
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == ("a b.png", 24, 20)
    assert report.not_held == {FACTS: 6, STUFF: 7, HOLES: 2}


@pytest.mark.parametrize("tool", ["cvat", "labelme"])
def test_what_was_annotated_comes_home_to_the_pixel(dataset, tmp_path, tool):
    export(dataset, tmp_path / "out", tool)
    back = home("folder", tmp_path / "out", tmp_path / "back", classes=",".join(CLASSES.values()))
    assert sorted(masks(back).values()) == sorted(masks(dataset).values())
    patients = {row["source"]: row["patient_id"] for row in panoptic.read_cases(back)}
    assert patients == {f"images/{name}.png": f"p{number}" for number, name in enumerate(masks(dataset), start=1)}


def test_an_outline_that_was_corrected_comes_home(dataset, tmp_path):
    export(dataset, tmp_path / "out", "cvat")
    path = tmp_path / "out" / "annotations.xml"
    tree = ElementTree.parse(path)
    image = next(tree.iter("image"))
    image.remove(image[1])
    corrected = ElementTree.SubElement(image, "polygon", label="müll & <b>", points="10,10;16,10;16,14;10,14")
    assert corrected is not None
    tree.write(path, encoding="utf-8", xml_declaration=True)
    back = home("folder", tmp_path / "out", tmp_path / "back", classes=",".join(CLASSES.values()))
    drawn = np.zeros((24, 20), dtype=bool)
    drawn[10:14, 10:16] = True
    before, after = masks(dataset)["a b"], masks(back)
    (image_id,) = (row["image_id"] for row in panoptic.read_cases(back) if row["patient_id"] == "p1")
    assert after[image_id] == sorted([before[0], ("müll & <b>", panoptic.encode_rle(drawn)["counts"])])


@pytest.mark.parametrize(
    ("to", "options"), [("yolo", {"fold": 0}), ("cvat", {}), ("labelme", {}), ("coco", {}), ("nnunet", {}), ("hf", {})]
)
def test_16_bits_become_8_only_where_the_tool_needs_it(make_dataset, tmp_path, to, options):
    dataset = make_dataset(bits=16)
    report = export(dataset, tmp_path / "Dataset001_x", to, **options)
    places = {
        "hf": "train/a b.png",
        "nnunet": "imagesTr/a b_0000.png",
        "yolo": "images/train/a b.png",
        "coco": "images/default/a b.png",
    }

    written = panoptic.read_png(tmp_path / "Dataset001_x" / places.get(to, "images/a b.png"))
    stored = panoptic.read_png(dataset / "images" / "a b.png")
    if to in ("yolo", "cvat", "labelme"):
        assert report.not_held["images of 16 bits became 8 bits"] == 4
        assert (written == stored >> 8).all()
        assert written.dtype == np.uint8
    else:
        assert "images of 16 bits became 8 bits" not in report.not_held
        assert (written == stored).all()


def test_hugging_face_rows_say_all(dataset, tmp_path):
    report = export(dataset, tmp_path / "out", "hf")
    lines = (tmp_path / "out" / "train" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert (report.not_held, len(lines), first["patient_id"], first["file_name"]) == ({}, 4, "p1", "a b.png")
    lesion = {"category": "BI-RADS 3", "bbox": [2, 3, 6, 5], "area": 28, "attributes": '{"birads": "3"}'}
    assert lesion.items() <= first["lesions"][0].items()
    assert [(segment["category"], segment["isthing"]) for segment in first["segments"]][1:] == [
        ("müll & <b>", True),
        ("breast", False),
        ("background", False),
    ]
    written = panoptic.read_ids(tmp_path / "out" / "train" / first["panoptic_file_name"])
    assert (written == panoptic.read_ids(dataset / "panoptic" / "a b.png")).all()
