"""LabelMe, CVAT, VIA and COCO files, each shape with its value worked out by hand."""

import base64
import json
import math
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mammoprep import exports, outlines
from mammoprep.errors import MammoprepError
from mammoprep.exports import Entry
from mammoprep.exports.entry import LINE_WIDTH, POINT_DIAMETER
from mammoprep.records import Box, Ellipse, Polygon, RunLengths, Skipped, Stroke, Union

SQUARE = ((1.0, 1.0), (4.0, 1.0), (4.0, 4.0), (1.0, 4.0))


def read(path, content):
    """Write a file and give its entries and what was left out."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    items = list(exports.read(path, name=path.name))
    return [item for item in items if isinstance(item, Entry)], [item for item in items if isinstance(item, Skipped)]


def shapes(entry):
    return [finding.shape for finding in entry.findings]


def png(mask):
    file = BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def labelme(*found, **changes):
    return {
        "version": "5.4.1",
        "shapes": list(found),
        "imagePath": "a.png",
        "imageHeight": 9,
        "imageWidth": 8,
    } | changes


def labelme_shape(kind, points, **changes):
    return {"label": "mass", "points": points, "shape_type": kind, "group_id": None, "flags": {}} | changes


@pytest.mark.parametrize(
    ("kind", "points", "shape"),
    [
        ("polygon", SQUARE, Polygon(SQUARE)),
        ("rectangle", [[4, 3], [1, 2]], Box(1, 2, 4, 3)),
        ("rectangle", [[1, 2], [4, 2], [4, 3], [1, 3]], Box(1, 2, 4, 3)),
        ("circle", [[5, 5], [8, 9]], Ellipse(5, 5, 5, 5)),
        ("line", [[0, 0], [3, 0]], Stroke(((0, 0), (3, 0)), LINE_WIDTH)),
        ("linestrip", [[0, 0], [3, 0]], Stroke(((0, 0), (3, 0)), LINE_WIDTH)),
        ("point", [[2, 3]], Stroke(((2, 3),), POINT_DIAMETER)),
        ("points", [[2, 3], [4, 5]], Union((Stroke(((2, 3),), POINT_DIAMETER), Stroke(((4, 5),), POINT_DIAMETER)))),
    ],
)
def test_labelme_shapes(tmp_path, kind, points, shape):
    (entry,), skipped = read(tmp_path / "a.json", labelme(labelme_shape(kind, points)))

    assert skipped == []
    assert (entry.image, entry.where, entry.size) == ("a.png", "a.json", (9, 8))
    assert shapes(entry) == [shape]
    assert (entry.findings[0].label, entry.findings[0].source) == ("mass", "a.json shape 1")


def test_labelme_masks_lie_at_their_corner(tmp_path):
    mask = np.array([[1, 0], [1, 1]], dtype=bool)
    shape = labelme_shape("mask", [[3, 5], [4, 6]], mask=png(mask))
    (entry,), _ = read(tmp_path / "a.json", labelme(shape))

    drawn = outlines.draw(entry.findings[0].shape, height=9, width=8)
    assert np.argwhere(drawn).tolist() == [[5, 3], [6, 3], [6, 4]]


def test_labelme_shapes_of_one_group_and_label_are_one_finding(tmp_path):
    first, second = labelme_shape("polygon", SQUARE, group_id=3), labelme_shape("circle", [[5, 5], [6, 5]], group_id=3)
    other = labelme_shape("polygon", SQUARE, group_id=3, label="calcification")
    (entry,), _ = read(tmp_path / "a.json", labelme(first, other, second))

    assert shapes(entry) == [Union((Polygon(SQUARE), Ellipse(5, 5, 1, 1))), Polygon(SQUARE)]


@pytest.mark.parametrize(
    "shape",
    [
        "mass",
        {"label": "mass"},
        labelme_shape("polygon", [[1, 2], [3, 4]]),
        labelme_shape("polygon", [[1, "x"], [3, 4], [5, 5]]),
        labelme_shape("polygon", [[1, 2, 3]]),
        labelme_shape("polygon", []),
        labelme_shape("circle", [[1, 2], [1, 2]]),
        labelme_shape("rectangle", [[1, 2], [1, 4]]),
        labelme_shape("cuboid", SQUARE),
        labelme_shape("polygon", [[1, 2], [math.inf, 2], [3, 3]]),
        labelme_shape("mask", [[7, 8], [9, 9]], mask=png(np.ones((2, 2)))),
        labelme_shape("mask", [[0, 0]], mask=png(np.ones((99, 99)))),
        labelme_shape("mask", [[0, 0]], mask="AAAA"),
        labelme_shape("mask", [[0, 0]]),
    ],
)
def test_labelme_shapes_that_cannot_be_drawn_are_listed_and_the_image_is_not_lesion_free(tmp_path, shape):
    (entry,), skipped = read(tmp_path / "a.json", labelme(shape))

    assert entry.findings == ()
    assert entry.facts == {"lesion_free": "no"}
    assert [(item.source, item.stage) for item in skipped] == [("a.json shape 1", "finding")]


def cvat(shape, *, size='width="8" height="9"'):
    image = f'<image id="0" name="x/a.png" {size}>{shape}</image>'
    return f'<?xml version="1.0" encoding="utf-8"?><annotations>{image}</annotations>'


@pytest.mark.parametrize(
    ("xml", "shape"),
    [
        ('<polygon label="m" points="1.0,1.0;4,1;4,4;1,4"/>', Polygon(SQUARE)),
        ('<box label="m" xtl="1" ytl="2" xbr="4" ybr="3.5"/>', Box(1, 2, 4, 3.5)),
        ('<ellipse label="m" cx="5" cy="4" rx="3" ry="2" rotation="90"/>', Ellipse(5, 4, 3, 2, math.pi / 2)),
        ('<polyline label="m" points="0,0;3,0"/>', Stroke(((0, 0), (3, 0)), LINE_WIDTH)),
        ('<points label="m" points="2,3"/>', Union((Stroke(((2, 3),), POINT_DIAMETER),))),
    ],
)
def test_cvat_shapes(tmp_path, xml, shape):
    (entry,), skipped = read(tmp_path / "c.xml", cvat(xml))

    assert skipped == []
    assert (entry.image, entry.where, entry.size) == ("x/a.png", "c.xml image 1", (9, 8))
    assert shapes(entry) == [shape]
    assert (entry.findings[0].label, entry.findings[0].source) == ("m", "c.xml image 1 shape 1")


def test_cvat_masks_are_runs_along_the_rows_of_their_box(tmp_path):
    xml = '<mask label="m" rle="1, 2, 1, 2" left="3" top="5" width="2" height="3"/>'  # 0 1 / 1 0 / 1 1
    (entry,), _ = read(tmp_path / "c.xml", cvat(xml))

    drawn = outlines.draw(entry.findings[0].shape, height=9, width=8)
    assert np.argwhere(drawn).tolist() == [[5, 4], [6, 3], [7, 3], [7, 4]]


@pytest.mark.parametrize(
    "xml",
    [
        '<box label="m" xtl="1" ytl="2" xbr="4" ybr="3" rotation="30"/>',
        '<box label="m" xtl="4" ytl="2" xbr="1" ybr="3"/>',
        '<box label="m" xtl="1" ytl="2" xbr="4"/>',
        '<ellipse label="m" cx="1" cy="2" rx="0" ry="3"/>',
        '<polygon label="m" points="1,1;2,2"/>',
        '<polygon label="m" points=""/>',
        '<polygon label="m" points="1,1,1;2,2;3,3"/>',
        '<polygon label="m" points="1,nan;2,2;3,3"/>',
        '<mask label="m" rle="1,2" left="3" top="5" width="2" height="3"/>',
        '<mask label="m" rle="0,6" left="7" top="5" width="2" height="3"/>',
        '<cuboid label="m" xtl1="1"/>',
    ],
)
def test_cvat_shapes_that_cannot_be_drawn_are_listed(tmp_path, xml):
    (entry,), skipped = read(tmp_path / "c.xml", cvat(xml))

    assert (entry.findings, entry.facts) == ((), {"lesion_free": "no"})
    assert [(item.source, item.stage) for item in skipped] == [("c.xml image 1 shape 1", "finding")]


def test_a_video_s_tracks_are_listed(tmp_path):
    xml = '<annotations><meta/><track id="7" label="m"><box frame="0"/></track></annotations>'

    assert read(tmp_path / "c.xml", xml) == ([], [Skipped("c.xml track 7", "finding", "a track of a video")])


VIA_SHAPE = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_via_projects_and_exports(tmp_path, wrapped, listed):
    region = {"shape_attributes": VIA_SHAPE, "region_attributes": {"label": "mass"}}
    images = {"a.png12": {"filename": "a.png", "size": 12, "regions": [region] if listed else {"0": region}}}
    (entry,), skipped = read(tmp_path / "v.json", {"_via_img_metadata": images} if wrapped else images)

    assert skipped == []
    assert (entry.image, shapes(entry), entry.findings[0].label) == ("a.png", [Box(1, 2, 4, 6)], "mass")


@pytest.mark.parametrize(
    ("attributes", "label"),
    [
        ({}, ""),
        ({"Type": "mass"}, "mass"),
        ({"side": "L", "class": "benign"}, "benign"),
        ({"anything": "calcification"}, "calcification"),
        ({"a": "1", "b": "2"}, ""),
        ({"kind": {"mass": False, "cyst": True}}, "cyst"),
    ],
)
def test_via_labels(tmp_path, attributes, label):
    region = {"shape_attributes": VIA_SHAPE, "region_attributes": attributes}
    (entry,), _ = read(tmp_path / "v.json", {"k": {"filename": "a.png", "regions": [region]}})

    assert entry.findings[0].label == label


def test_via_regions_that_cannot_be_drawn_are_listed(tmp_path):
    regions = [{"shape_attributes": VIA_SHAPE | {"width": 0}}, {"shape_attributes": None}, 5]
    (entry,), skipped = read(tmp_path / "v.json", {"k": {"filename": "a.png", "regions": regions}})

    assert (entry.findings, entry.facts) == ((), {"lesion_free": "no"})
    assert [item.source for item in skipped] == [f"v.json image 1 region {n}" for n in (1, 2, 3)]


def coco(*annotations, categories=({"id": 5, "name": "mass"},)):
    listed = [{"id": n, "image_id": 7, "category_id": 5, "iscrowd": 0} | each for n, each in enumerate(annotations, 1)]
    images = [{"id": 7, "file_name": "x/a.png", "height": 9, "width": 8}]
    return {"images": images, "annotations": listed, "categories": list(categories)}


FLAT = [1, 1, 4, 1, 4, 4, 1, 4]


@pytest.mark.parametrize(
    ("annotation", "shape"),
    [
        ({"segmentation": [FLAT]}, Polygon(SQUARE)),
        ({"segmentation": [FLAT, FLAT]}, Union((Polygon(SQUARE), Polygon(SQUARE)))),
        ({"segmentation": {"size": [9, 8], "counts": [10, 2, 60]}}, RunLengths((9, 8), (10, 2, 60))),
        ({"segmentation": {"size": [9, 8], "counts": ":2l1"}}, RunLengths((9, 8), ":2l1")),
        ({"segmentation": [], "bbox": [1, 2, 3, 4.5]}, Box(1, 2, 4, 6.5)),
        ({"bbox": [1, 2, 3, 4.5]}, Box(1, 2, 4, 6.5)),
    ],
)
def test_coco_annotations(tmp_path, annotation, shape):
    (entry,), skipped = read(tmp_path / "i.json", coco(annotation))

    assert skipped == []
    assert (entry.image, entry.number, entry.size, shapes(entry)) == ("x/a.png", 7, (9, 8), [shape])
    assert (entry.findings[0].label, entry.findings[0].source) == ("mass", "i.json annotation 1")


@pytest.mark.parametrize(
    "annotation",
    [
        {},
        {"segmentation": [FLAT], "iscrowd": 1},
        {"segmentation": [[1, 2, 3]]},
        {"segmentation": [["x", 2]]},
        {"segmentation": {"counts": ":2l1"}},
        {"segmentation": {"size": [9, 8]}},
        {"bbox": [1, 2, 0, 4]},
        {"bbox": "1 2 3 4"},
    ],
)
def test_coco_annotations_that_cannot_be_drawn_are_listed(tmp_path, annotation):
    (entry,), skipped = read(tmp_path / "i.json", coco(annotation))

    assert (entry.findings, entry.facts) == ((), {"lesion_free": "no"})
    assert [(item.source, item.stage) for item in skipped] == [("i.json annotation 1", "finding")]


def test_coco_annotations_of_no_image_or_class_are_listed(tmp_path):
    _, skipped = read(tmp_path / "i.json", coco({"image_id": 8}, {"category_id": 6}))

    assert [item.source for item in skipped] == ["i.json annotation 1", "i.json annotation 2"]


def test_coco_of_another_shape_is_one_line(tmp_path):
    (tmp_path / "i.json").write_text(json.dumps(coco({}) | {"images": [{"id": 7}]}))

    with pytest.raises(MammoprepError, match="i.json is not COCO instances: 'file_name' is missing"):
        list(exports.read(tmp_path / "i.json", name="i.json"))


BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]><annotations><image name="&y;"/></annotations>'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", ""),
        ("a.json", "{"),
        ("a.json", "[" * 100_000),
        ("a.json", "[1, 2]"),
        ("a.json", '{"seed": 0}'),
        ("a.xml", "<annotations>"),
        ("a.xml", "<plist/>"),
        ("a.xml", BOMB),
    ],
)
def test_other_and_broken_files_are_listed_whole(tmp_path, name, content):
    entries, skipped = read(tmp_path / name, content)

    assert entries == []
    assert [(item.source, item.stage) for item in skipped] == [(name, "table")]


def test_a_file_that_is_no_text_is_listed(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00\x80")

    assert [item.stage for item in exports.read(tmp_path / "a.json", name="a.json")] == ["table"]


def test_no_mask_is_made_for_an_image_larger_than_any(tmp_path):
    shape = {"shape_type": "mask", "label": "a", "points": [[1, 2], [3, 4]], "mask": png(np.ones((3, 3)))}
    (entry,), (skipped,) = read(tmp_path / "a.json", labelme(shape, imageHeight=10**6, imageWidth=10**6))
    assert (entry.size, entry.findings) == (None, ())
    assert "does not say the image's size" in skipped.reason


def test_an_outline_of_too_many_points_is_listed(tmp_path):
    shape = {"shape_type": "polygon", "label": "a", "points": [[n % 7, n % 5] for n in range(100_001)]}
    (entry,), (skipped,) = read(tmp_path / "a.json", labelme(shape))
    assert (entry.findings, skipped.reason) == ((), "the outline has more than 100000 points")


def test_what_cannot_be_written_again_is_not_read(tmp_path):
    shape = {"shape_type": "polygon", "label": "\ud800", "points": [[0, 0], [3, 0], [3, 3]]}
    entries, (skipped,) = read(tmp_path / "a.json", json.dumps(labelme(shape)))
    assert (entries, skipped.reason) == ([], "the file is not readable JSON or XML, or not in UTF-8")


@pytest.mark.parametrize("annotations", [[5], [None], ["segments_info"], [[]]])
def test_coco_whose_annotations_are_none_is_one_line(tmp_path, annotations):
    with pytest.raises(MammoprepError, match="is not COCO instances"):
        read(tmp_path / "a.json", {"images": [], "annotations": annotations, "categories": []})
