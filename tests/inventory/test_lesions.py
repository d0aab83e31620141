"""How far lesions reach: by hand for shapes, and in the files of masks."""

import math

import cv2
import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.inventory.counts import Lesion
from mammoprep.inventory.lesions import extent, lesions_of
from mammoprep.records import (
    Box,
    Ellipse,
    Finding,
    LabelMap,
    MaskFile,
    PanopticSegment,
    Polygon,
    RunLengths,
    SegmentFrames,
    Skipped,
    Stroke,
    Union,
)
from tests.pixels.test_segmentation import write as write_seg

SIZE = (20, 10)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (Box(1, 2, 3, 5), (1, 2, 3, 5)),
        (Polygon(((4, 1), (0, 3), (2, 7))), (0, 1, 4, 7)),
        (Stroke(((4, 4),), 6), (1, 1, 7, 7)),
        (Ellipse(10, 10, 4, 2), (6, 8, 14, 12)),
        (Ellipse(10, 10, 4, 2, math.pi / 2), (8, 6, 12, 14)),
        (RunLengths((4, 3), (5, 2, 5)), (1, 1, 2, 3)),
        (RunLengths((4, 3), (12,)), None),
        (Union((Polygon(((1, 2), (4, 2), (4, 9))), Ellipse(10, 5, 2, 3))), (1, 2, 12, 9)),
        (Union((Box(0, 0, 1, 1), MaskFile("m.png"))), None),
        (MaskFile("m.png"), None),
    ],
)
def test_bounding_boxes_of_shapes(shape, box):
    assert extent(shape) == (box and pytest.approx(box))


@pytest.fixture
def values():
    """A block of 4 x 2 at (3, 5) of value 1, one pixel of 2 at (9, 19)."""
    values = np.zeros(SIZE, dtype=np.uint8)
    values[5:9, 3:5], values[19, 9] = 1, 2
    return values


@pytest.fixture
def look(tmp_path, values):
    """Write files of masks and give what `lesions_of` says of a shape."""
    cv2.imwrite(str(tmp_path / "mask.png"), (values == 1) * np.uint8(255))
    cv2.imwrite(str(tmp_path / "map.png"), values)
    cv2.imwrite(str(tmp_path / "empty.png"), values * 0)
    panoptic.write_ids(tmp_path / "ids.png", values.astype(np.int32))
    write_seg(tmp_path / "seg.dcm")

    def look_at(shape, *, size=None, label="mass"):
        finding = Finding(shape, label, "row 1")
        return list(lesions_of(finding, root=tmp_path, labels="kind", size=size))

    return look_at


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (MaskFile("mask.png"), (3, 5, 5, 9)),
        (PanopticSegment("ids.png", 2), (9, 19, 10, 20)),
        (SegmentFrames("seg.dcm", (0, 2)), (2, 1, 7, 5)),
    ],
)
def test_files_of_masks_are_read_where_the_size_of_the_image_is_known(look, shape, box):
    assert look(shape) == [Lesion("mass", None)]
    assert look(shape, size=SIZE) == [Lesion("mass", box)]


def test_a_mask_is_brought_to_the_size_of_the_image(look):
    assert look(MaskFile("mask.png"), size=(40, 20)) == [Lesion("mass", (6, 10, 10, 18))]


def test_a_map_is_read_for_nothing_else_says_what_is_in_it(look):
    shape = LabelMap("map.png", {1: "cyst", 2: None})
    no_class = Skipped("row 1 value 2", "finding", "no class under --labels kind")
    assert look(shape) == [Lesion("cyst", (3, 5, 5, 9)), no_class]
    assert look(shape, size=(10, 5)) == [Lesion("cyst", (1, 2, 2, 4)), no_class]


def test_what_a_conversion_would_leave_out_is_listed(look):
    gone = [Skipped("row 1", "finding", "mask file: the file is not there")]
    assert look(MaskFile("gone.png")) == look(MaskFile("gone.png"), size=SIZE) == gone
    assert look(MaskFile("gone.png"), label=None) == [Skipped("row 1", "finding", "no class under --labels kind")]
    assert look(MaskFile("empty.png"), size=SIZE) == [Skipped("row 1", "finding", "the mask is empty")]
    damaged = "The run lengths do not add up to the image's pixels."
    assert look(RunLengths((4, 3), (1, 2))) == [Skipped("row 1", "finding", damaged)]


def test_a_mask_that_may_be_empty_gives_nothing_where_it_is(look):
    assert look(MaskFile("empty.png", may_be_empty=True), size=SIZE) == []
    assert look(LabelMap("empty.png", {1: "cyst"})) == []
