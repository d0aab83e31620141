"""Label maps in a folder of one's own: what their values mean, and what becomes of them and of empty masks."""

import csv
import json

import cv2
import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.convert import Options, Work, convert, preview, pseudonymised
from mammoprep.errors import MammoprepError
from mammoprep.phantom import folder as phantoms
from mammoprep.pseudonyms import Pseudonyms
from mammoprep.readers import folder
from mammoprep.records import Classes, LabelMap, MaskFile, Record, Skipped

SIZE = (12, 10)
BOTH = {1: "benign", 2: "malignant"}


def image(root, name, *blocks):
    """Write a grey picture; or a map with blocks (value, x, y) of 3 x 3 pixels."""
    values = np.full(SIZE, 0 if blocks else 90, dtype=np.uint8)
    for value, x, y in blocks:
        values[y : y + 3, x : x + 3] = value
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / name), values)
    return root


def read(root, **options):
    items = list(folder.read(root, patient=".", **options))
    records = [item for item in items if isinstance(item, Record)]
    skipped = [(item.source, item.reason) for item in items if isinstance(item, Skipped)]
    return records, skipped, next(item.names for item in items if isinstance(item, Classes))


def converted(root, out, **options):
    """Convert and give lesions by image (class, box), lesion_free by image, and what is listed."""
    chosen = Options(labels="data", reader={"patient": "(.)[.]", **options})
    convert(folder.READER, root, out=out, options=chosen, work=Work(workers=1))
    content = panoptic.load(out)
    names = {category.id: category.name for category in content.things}
    lesions = {
        shown.name: [(names[s.category_id], s.bbox) for s in shown.segments if s.category_id in names]
        for shown in content.images
    }
    with (out / "skipped.csv").open(newline="") as file:
        listed = [(row["source"], row["stage"], row["reason"]) for row in csv.DictReader(file)]
    free = {row["image_id"]: row["lesion_free"] for row in panoptic.load_cases(out)}
    return lesions, free, listed


def test_masks_without_a_class_are_maps_where_values_are_said(tmp_path):
    for name in "abc":
        image(tmp_path, f"{name}.png")
    image(image(tmp_path, "a_mask.png", (1, 0, 0)), "b_mask_cyst.png", (1, 0, 0))
    image(tmp_path, "drawn/3.png", (1, 0, 0))
    (tmp_path / "t.csv").write_text("image,mask,label\nc.png,3.png,\na.png,3.png,cyst\n")
    records, skipped, classes = read(tmp_path, values="2=malignant, 1=benign,3=Background")

    known = BOTH | {3: ""}
    assert skipped == []
    assert classes == ("benign", "cyst", "malignant")
    assert [[finding.shape for finding in record.findings] for record in records] == [
        [MaskFile("drawn/3.png", may_be_empty=True), LabelMap("a_mask.png", known)],
        [MaskFile("b_mask_cyst.png", may_be_empty=True)],
        [LabelMap("drawn/3.png", known)],
    ]


def test_six_hexadecimal_digits_are_a_colour(tmp_path):
    image(image(tmp_path, "a.png"), "masks/a.png", (1, 0, 0))
    (record,), _, classes = read(tmp_path, values="#ff0000=malignant,00FF00=benign", classes="malignant")

    assert classes == ("malignant",)
    assert record.findings[0].shape == LabelMap("masks/a.png", {0xFF0000: "malignant", 0x00FF00: None}, in_colour=True)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ("1=benign,2", "--values 2 is not VALUE=CLASS, such as 1=benign or ff0000=malignant."),
        ("-1=benign", "--values -1=benign is not VALUE=CLASS"),
        ("65536=benign", "--values 65536=benign is not VALUE=CLASS"),
        ("gg0000=benign", "--values gg0000=benign is not VALUE=CLASS"),
        ("0=benign", "--values 0=benign: the value 0 is always background. Take it out."),
        ("1=benign,1=cyst", "--values 1=cyst: the value 1 is there twice. Take it out."),
        ("1=benign,ff0000=cyst", "--values has numbers and colours (six hexadecimal digits). Say one kind."),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path, values, text):
    with pytest.raises(MammoprepError) as caught:
        read(image(image(tmp_path, "a.png"), "a_mask.png", (1, 0, 0)), values=values)
    assert str(caught.value).startswith(text)


def test_values_that_change_nothing_are_refused(tmp_path):
    with pytest.raises(MammoprepError, match="holds no mask, or each has a class by its name. Leave it out."):
        read(image(image(tmp_path, "a.png"), "a_mask_cyst.png", (1, 0, 0)), values="1=benign")


def nnunet(root, labels, **content):
    image(root, "set/imagesTr/a_0000.png")
    image(root, "set/labelsTr/a.png", (1, 0, 0), (2, 4, 4))
    content = {"channel_names": {"0": "MG"}, "labels": labels, "file_ending": ".png"} | content
    (root / "set" / "dataset.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "benign": 1, "malignant": 2, "ignore": 3},
        {"0": "background", "1": "benign", "2": "malignant"},
    ],
    ids=["version 2", "version 1"],
)
def test_nnunet_s_folder_says_its_classes_itself(tmp_path, labels):
    image(nnunet(tmp_path, labels), "other/imagesTr/a_0000.png")
    (record,), skipped, classes = read(tmp_path)

    assert (record.source, classes) == ("set/imagesTr/a_0000.png", ("benign", "malignant"))
    assert record.findings[0].shape == LabelMap("set/labelsTr/a.png", {0: "", **BOTH})
    assert skipped == [("other/imagesTr/a_0000.png", "no annotation names the image")]


def test_what_is_said_holds_against_nnunet_s_file(tmp_path):
    (record,), _, _ = read(nnunet(tmp_path, {"background": 0, "x": 1}), values="2=cyst")

    assert record.findings[0].shape == LabelMap("set/labelsTr/a.png", {2: "cyst"})


def test_nnunet_s_regions_are_listed_and_the_map_is_no_mask(tmp_path):
    root = nnunet(tmp_path / "raw", {"background": 0, "whole": [1, 2], "core": 2})
    image(root, "b.png")
    image(root, "b_mask.png", (255, 0, 0))
    lesions, _, listed = converted(root, tmp_path / "out", patient=".")

    assert lesions == {"a_0000": [], "b": [("lesion", (0, 0, 3, 3))]}
    assert ("set/dataset.json", "table", "written by none of LabelMe, CVAT, VIA, COCO") in listed
    reason = "mask file: a label map of the values 1, 2; `convert folder --values` gives them classes"
    assert ("set/labelsTr/a.png", "finding", reason) in listed


def test_a_map_becomes_lesions_and_every_value_is_accounted_for(tmp_path):
    root = image(image(tmp_path / "raw", "a.png"), "a_mask.png", (2, 0, 0), (1, 4, 4), (2, 7, 9), (7, 0, 9))
    lesions, free, listed = converted(root, tmp_path / "out", values="1=benign,2=malignant", empty="lesion-free")

    assert lesions == {"a": [("benign", (4, 4, 3, 3)), ("malignant", (0, 0, 3, 3)), ("malignant", (7, 9, 3, 3))]}
    assert (free, listed) == ({"a": "0"}, [("a_mask.png value 7", "finding", "the label map's value 7 has no class")])
    (segment, *_) = panoptic.load(tmp_path / "out").images[0].segments
    assert segment.extra["mask_file"] == {"source": "a_mask.png", "scale_x": 1.0, "scale_y": 1.0, "residual": 0.0}
    assert segment.extra["attributes"] == {"shape": "label map"}


def test_the_name_of_a_map_does_not_come_out(tmp_path):
    root = image(image(tmp_path / "raw", "roe.png"), "roe_mask.png", (2, 0, 0), (7, 0, 9))
    names = Pseudonyms(b"k" * 32)
    chosen = Options(labels="data", reader={"patient": "(.)[.]", "values": "2=malignant"})
    convert(pseudonymised(folder.READER, names), root, out=tmp_path / "out", options=chosen, work=Work(workers=1))

    (segment, *_) = panoptic.load(tmp_path / "out").images[0].segments
    assert segment.extra["mask_file"]["source"] == names.of_file("roe_mask.png")
    assert segment.extra["attributes"] == {"shape": "label map"}
    assert f"{names.of_file('roe_mask.png')} value 7,finding" in (tmp_path / "out" / "skipped.csv").read_text()
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert [path for path in written if b"roe" in path.name.encode() + path.read_bytes()] == []


def test_a_dry_run_reads_maps(tmp_path):
    root = image(image(tmp_path, "a.png"), "a_mask.png", (2, 0, 0), (1, 4, 4), (2, 7, 9), (7, 0, 9))
    image(image(root, "b.png"), "b_mask.png", (0, 0, 0))
    options = {"patient": ".", "values": "1=benign,2=malignant,3=cyst", "classes": "cyst,malignant"}
    summary = preview(folder.READER, root, options=Options(labels="data", reader=options))

    assert (summary.images, summary.findings) == (1, {"cyst": 0, "malignant": 2})
    assert summary.skipped == {
        "finding": {"no class under --labels data": 1, "the label map's value 7 has no class": 1},
        "selection": {"its mask is empty, and nothing says lesion-free; --empty lesion-free says it": 1},
    }


def test_a_class_that_was_not_chosen_is_listed(tmp_path):
    root = image(image(tmp_path / "raw", "a.png"), "a_mask.png", (2, 0, 0), (1, 4, 4))
    lesions, _, listed = converted(root, tmp_path / "out", values="1=benign,2=malignant", classes="malignant")

    assert lesions == {"a": [("malignant", (0, 0, 3, 3))]}
    assert listed == [("a_mask.png value 1", "finding", "no class under --labels data")]


@pytest.mark.parametrize("options", [{}, {"values": "1=benign,2=malignant"}], ids=["masks", "maps"])
def test_what_an_image_with_an_empty_mask_is_must_be_said(tmp_path, options):
    root = tmp_path / "raw"
    for name in "abc":
        image(image(root, f"{name}.png"), f"{name}_mask.png", *[(1, 2, 2) if name == "a" else (0, 0, 0)])
    (root / "t.csv").write_text("image,lesion_free\nc,yes\n")
    reason = "its mask is empty, and nothing says lesion-free; --empty lesion-free says it"

    chosen = Options(labels="data", reader={"patient": "(.)[.]", **options})
    convert(folder.READER, root, out=tmp_path / "out", options=chosen, work=Work(workers=1))
    assert [(row["image_id"], row["lesion_free"]) for row in panoptic.load_cases(tmp_path / "out")] == [
        ("a", "0"),
        ("c", "1"),
    ]
    assert f'b.png,selection,"{reason}"' in (tmp_path / "out" / "skipped.csv").read_text()

    chosen = Options(labels="data", reader={"patient": "(.)[.]", "empty": "lesion-free", **options})
    convert(folder.READER, root, out=tmp_path / "all", options=chosen, work=Work(workers=1))
    free = [row["lesion_free"] for row in panoptic.load_cases(tmp_path / "all")]
    assert (free, len((tmp_path / "all" / "skipped.csv").read_text().splitlines())) == (["0", "1", "1"], 1)


def areas(out):
    """Give the pixels of each class in each image."""
    content = panoptic.load(out)
    names = {category.id: category.name for category in content.things}
    return {
        (shown.name, name): np.isin(
            content.ids_of(shown), [s.id for s in shown.segments if names.get(s.category_id) == name]
        )
        for shown in content.images
        for name in names.values()
    }


def test_phantom_maps_hold_the_lesions_of_phantom_masks(tmp_path):
    """A lesion whose pixels are not connected is several in a map: the pixels of each class are compared."""
    found = []
    for layout, values in (("masks", ""), ("label-maps", "3=BI-RADS 3,4=BI-RADS 4,5=BI-RADS 5")):
        phantoms.write(tmp_path / layout, layout=layout, patients=2, long_side=192)
        converted(tmp_path / layout, tmp_path / f"{layout}-out", patient="", values=values)
        found.append(areas(tmp_path / f"{layout}-out"))

    masks, maps = found
    assert sum(mask.any() for mask in masks.values()) >= 4
    assert all(np.array_equal(maps[key], mask) for key, mask in masks.items())
