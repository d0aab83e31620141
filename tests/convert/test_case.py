"""One image: what is drawn, what lies on top, what is listed, and what cases.csv says."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mammoprep import panoptic, pixels, pseudo_mask
from mammoprep.convert import Options, case
from mammoprep.convert.case import COLUMNS, Case, Job
from mammoprep.pixels import Facts, Grey, PixelError
from mammoprep.records import Box, Ellipse, Finding, Polygon, Record

CLASSES = ("small", "large")


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Make the case of an image of 60 x 40 pixels, the left half breast; give it with its map of ids."""
    (tmp_path / "image.dcm").touch()

    def make_case(*findings, facts=None, shape=(60, 40), options=None, read=None, **columns):
        grey = np.zeros(shape, dtype=np.uint16)
        grey[:, : shape[1] // 2] = 30_000
        grey[20:30, 5:15] = 60_000
        monkeypatch.setattr(pixels, "read", read or (lambda path, *, window: Grey(grey, facts or Facts())))
        options = Options(labels="size", **(options or {}))
        out = tmp_path / "out"
        for folder in ("images", "panoptic"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        job = Job(tmp_path, out, options, panoptic.make_categories(CLASSES, options.stuff_classes))
        record = Record("image.dcm", "image", "patient", findings=findings, **columns)
        made = case.make(record, number=7, job=job)
        return made, panoptic.read_ids(out / "panoptic" / "image.png") if made.image else None

    return make_case


def square(x, y, side, *, label="small", source="row 2"):
    return rectangle(x, y, side, side, label=label, source=source)


def rectangle(x, y, width, height, *, label="small", source="row 2"):
    return Finding(Polygon(((x, y), (x + width, y), (x + width, y + height), (x, y + height))), label, source)


def things(made):
    return [segment for segment in made.image.segments if segment.category_id <= len(CLASSES)]


def test_a_finding_becomes_a_segment_and_an_instance(make):
    made, ids = make(square(4, 10, 6, label="large"))

    (segment,) = things(made)
    assert (segment.id, segment.category_id, segment.area, segment.bbox) == (1, 2, 36, (4, 10, 6, 6))
    assert np.argwhere(ids == 1).min(axis=0).tolist() == [10, 4]
    (instance,) = made.instances
    assert (instance["image_id"], instance["category_id"], instance["area"]) == (7, 2, 36)
    assert (instance["bbox"], instance["iscrowd"]) == ([4, 10, 6, 6], 0)
    assert made.skipped == ()


def test_every_pixel_is_labelled_and_segments_info_agrees_with_the_map(make):
    made, ids = make(square(4, 10, 6), square(22, 40, 8, label="large"))

    assert ids.min() == 1
    assert [segment.category_id for segment in made.image.segments] == [1, 2, 3, 4]  # things first
    for segment in made.image.segments:
        mask = ids == segment.id
        assert (segment.area, segment.bbox) == (mask.sum(), panoptic.mask_box(mask))
    assert sum(segment.area for segment in made.image.segments) == 60 * 40


def test_breast_is_where_the_image_is_bright(make):
    made, ids = make()

    breast, background = made.image.segments
    assert (breast.category_id, background.category_id) == (3, 4)
    assert (ids[:, :15] == breast.id).all()
    assert (ids[:, 25:] == background.id).all()


def test_without_breast_all_that_is_no_finding_is_background(make, monkeypatch):
    monkeypatch.setattr(case.anatomy, "find", lambda pixels: pytest.fail("nobody asked for the breast"))

    made, ids = make(square(4, 10, 6), options={"stuff": ("background",)})

    assert [(s.category_id, s.area) for s in made.image.segments] == [(1, 36), (3, 60 * 40 - 36)]
    assert sorted(np.unique(ids)) == [1, 2]


def test_outlined_stuff_lies_over_the_breast_and_under_the_findings(make):
    regions = {"pectoral muscle": (rectangle(0, 0, 6, 10).shape, rectangle(-9, 0, 12, 5).shape)}
    made, ids = make(square(4, 8, 4), options={"reader": {"pectoral": True}}, regions=regions)

    lesion, muscle, breast, background = made.image.segments
    assert [muscle.category_id, breast.category_id, background.category_id] == [3, 4, 5]
    assert (lesion.area, muscle.area) == (16, 60 - 4)
    assert (ids[0, 0], ids[8, 4], ids[9, 3]) == (muscle.id, lesion.id, muscle.id)


def test_outlined_stuff_is_left_out_where_it_is_not_asked_for(make):
    made, _ = make(regions={"pectoral muscle": (rectangle(0, 0, 6, 10).shape,)})

    assert [segment.category_id for segment in made.image.segments] == [3, 4]
    assert panoptic.make_categories(CLASSES)[2].name == "breast"


def test_an_image_without_outlined_stuff_has_none(make):
    made, _ = make(options={"reader": {"pectoral": True}})

    assert [segment.category_id for segment in made.image.segments] == [4, 5]


def test_the_smaller_finding_lies_on_top_and_the_covered_share_is_told(make):
    made, ids = make(square(2, 10, 20, label="large"), square(12, 20, 10))

    large, small = things(made)
    assert (large.area, small.area) == (300, 100)
    assert (large.extra["covered"], "covered" in small.extra) == (0.25, False)
    assert ids[25, 15] == small.id
    assert [instance["area"] for instance in made.instances] == [400, 100]
    whole = panoptic.decode_rle(made.instances[0]["segmentation"])
    assert whole[10:30, 2:22].all()
    assert whole.sum() == 400


def test_a_fully_covered_finding_is_listed_and_ids_stay_dense(make):
    made, ids = make(
        square(0, 0, 10, label="large", source="row 2"),
        rectangle(0, 0, 5, 10, source="row 3"),
        rectangle(5, 0, 5, 10, source="row 4"),
    )

    assert [(item.source, item.stage) for item in made.skipped] == [("row 2", "finding")]
    assert made.skipped[0].reason == "fully covered by smaller findings"
    assert [segment.id for segment in things(made)] == [1, 2]
    assert len(made.instances) == 2
    assert sorted(np.unique(ids)) == [1, 2, 3, 4]
    assert made.row["n_findings"] == 2


def test_an_exact_duplicate_is_listed_with_its_twin(make):
    made, _ = make(square(4, 10, 6, source="row 2"), square(4, 10, 6, label="large", source="row 3"))

    assert [(item.source, item.reason) for item in made.skipped] == [("row 3", "the same pixels as row 2")]
    assert [segment.category_id for segment in things(made)] == [1]


def test_a_finding_without_class_is_listed_not_drawn(make):
    made, _ = make(square(4, 10, 6, label=None))

    assert [(item.source, item.stage, item.reason) for item in made.skipped] == [
        ("row 2", "finding", "no class under --labels size")
    ]
    assert made.row["n_findings"] == 0


@pytest.mark.parametrize("shape", [Box(50, 5, 60, 9), Ellipse(-30, 5, 4, 4), Box(float("nan"), 0, 4, 4)])
def test_a_finding_outside_the_image_is_listed(make, shape):
    made, _ = make(Finding(shape, "small", "row 9"))

    assert [(item.source, item.stage) for item in made.skipped] == [("row 9", "finding")]
    assert things(made) == []


def test_a_box_tells_how_it_became_a_mask(make):
    made, _ = make(Finding(Box(1, 16, 19, 34), "small", "row 2", {"finding_birads": "BI-RADS 4"}))

    (segment,) = things(made)
    assert set(segment.extra["pseudo_mask"]) == {"method", "threshold", "fallback"}
    assert segment.extra["pseudo_mask"]["method"] in ("otsu", "multi-otsu", "ellipse")
    assert segment.extra["attributes"] == made.instances[0]["attributes"] == {"finding_birads": "BI-RADS 4"}
    assert segment.area < 18 * 18


def test_the_recipe_and_the_breast_reach_the_pseudo_mask(make, monkeypatch):
    seen = {}

    def segment(pixels, box, *, tissue, recipe):
        seen.update(tissue=tissue, recipe=recipe)
        return pseudo_mask.PseudoMask(tissue, "otsu", 12.5, fallback=True)

    monkeypatch.setattr(pseudo_mask, "segment", segment)
    recipe = pseudo_mask.Recipe(sigma=3)
    made, _ = make(Finding(Box(1, 1, 9, 9), "small", "row 2"), options={"recipe": recipe, "stuff": ("background",)})

    assert seen["recipe"] is recipe
    assert seen["tissue"].shape == (60, 40)
    assert things(made)[0].extra["pseudo_mask"] == {"method": "otsu", "threshold": 12.5, "fallback": True}


def test_masks_are_drawn_at_native_size_and_then_stored(make):
    made, ids = make(square(4, 10, 6), options={"long_side": 30})

    assert (made.image.height, made.image.width) == ids.shape == (30, 20)
    assert (things(made)[0].area, things(made)[0].bbox) == (9, (2, 5, 3, 3))


def test_a_speck_does_not_vanish_by_resizing(make):
    made, ids = make(square(21, 31, 1), options={"long_side": 6})

    assert things(made)[0].area == 1
    assert np.argwhere(ids == 1).tolist() == [[3, 2]]


def test_the_row_says_where_the_pixels_went(make):
    made, _ = make(
        shape=(60, 45), options={"long_side": 20}, study_id="study", density="C", split="test", lesion_free=True
    )

    assert tuple(made.row) == COLUMNS
    assert made.row | {"source": ""} == {
        "image_id": "image",
        "patient_id": "patient",
        "study_id": "study",
        "laterality": "",
        "view": "",
        "density": "C",
        "split": "test",
        "native_height": 60,
        "native_width": 45,
        "crop_x0": 0,
        "crop_y0": 0,
        "scale_x": 15 / 45,
        "scale_y": 20 / 60,
        "pixel_spacing_mm": "",
        "manufacturer": "",
        "n_findings": 0,
        "lesion_free": 1,
        "source": "",
        "attributes": "",
    }


def test_header_facts_fill_the_gaps_of_the_record(make):
    facts = Facts(manufacturer="SIEMENS", pixel_spacing_mm=0.085, laterality="R", view="CC")

    made, _ = make(facts=facts, laterality="L")

    row = made.row
    assert (row["laterality"], row["view"], row["manufacturer"], row["pixel_spacing_mm"]) == (
        "L",
        "CC",
        "SIEMENS",
        0.085,
    )


def test_the_spacing_is_the_header_s_or_else_the_record_s(make):
    known, _ = make(facts=Facts(pixel_spacing_mm=0.1), pixel_spacing_mm=0.07)
    unknown, _ = make(pixel_spacing_mm=0.07)

    assert (known.row["pixel_spacing_mm"], unknown.row["pixel_spacing_mm"]) == (0.1, 0.07)


def mapped(row, x, y):
    """Take a native point to the stored image by what cases.csv says."""
    return ((x - row["crop_x0"]) * row["scale_x"], (y - row["crop_y0"]) * row["scale_y"])


@pytest.mark.parametrize("options", [{"crop_breast": True}, {"flip_right": True}, {"crop_breast": 1, "flip_right": 1}])
@pytest.mark.parametrize("long_side", [0, 30])
def test_pixels_findings_and_the_breast_follow_the_map_of_cases_csv(make, tmp_path, options, long_side):
    grey = np.zeros((60, 40), dtype=np.uint16)
    grey[10:50, 20:] = 30_000  # faces left
    grey[20:28, 24:32] = 60_000
    read = lambda path, *, window: Grey(grey, Facts())  # noqa: E731
    made, ids = make(square(24, 20, 8), read=read, options=options | {"long_side": long_side})

    row, (segment, breast, _) = made.row, made.image.segments
    corners = [mapped(row, x, y) for x, y in ((24, 20), (32, 28))]
    left, right = sorted(x for x, _ in corners)
    x, y, width, height = segment.bbox
    assert (x, y, x + width, y + height) == pytest.approx((left, corners[0][1], right, corners[1][1]), abs=0.51)
    stored = panoptic.read_png(tmp_path / "out" / "images" / "image.png")
    assert stored.shape == ids.shape == (made.image.height, made.image.width)
    assert stored[y + height // 2, x + width // 2] == 60_000 // 257
    x, y = mapped(row, 36, 40)
    assert ids[int(y), int(x)] == breast.id
    if "flip_right" in options:
        assert row["scale_x"] < 0
        assert (ids == breast.id)[:, : made.image.width // 3].sum() > (ids == breast.id)[
            :, -made.image.width // 3 :
        ].sum()
    if "crop_breast" in options:
        assert (row["native_height"], row["native_width"]) == (60, 40)
        assert made.image.height < (60 if not long_side else 31)


LETTERS = ((5, 20), (15, 20), (25, 20))
"""Corners of letters in the background of an image that shows its breast on the right."""


def lettered(*, count):
    grey = np.zeros((200, 100), dtype=np.uint16)
    grey[:, 60:] = 30_000
    for y, x in LETTERS[:count]:
        grey[y + 100 : y + 106, x : x + 8] = 60_000
    return grey


@pytest.mark.parametrize(
    ("asked", "by_header", "letters", "attributes", "reason"),
    [
        ("list", True, 3, "burned-in text; text in the background", ""),
        ("list", False, 3, "text in the background", ""),
        ("list", False, 2, "", ""),
        ("keep", True, 3, "burned-in text", ""),
        ("keep", False, 3, "", ""),
        ("skip", True, 2, None, "burned-in text; --on-burned-in list takes it"),
        ("skip", False, 3, None, "text in the background; --on-burned-in list takes it"),
        ("skip", False, 2, "", ""),
    ],
)
def test_text_in_the_pixels_is_listed_skipped_or_kept(make, asked, by_header, letters, attributes, reason):
    facts = Facts(attributes=("burned-in text",) if by_header else ())
    read = lambda path, *, window: Grey(lettered(count=letters), facts)  # noqa: E731
    made, _ = make(read=read, options={"on_burned_in": asked})

    assert made.row.get("attributes") == attributes
    assert [(item.stage, item.reason) for item in made.skipped] == ([("selection", reason)] if reason else [])


def test_a_crop_holds_a_lesion_beside_the_breast(make):
    made, ids = make(square(34, 50, 4), options={"crop_breast": True})

    assert (things(made)[0].area, made.row["n_findings"]) == (16, 1)
    assert ids.shape[1] == 38
    assert made.skipped == ()


def test_a_black_image_is_neither_cropped_nor_mirrored_but_for_its_laterality(make):
    black = lambda path, *, window: Grey(np.zeros((60, 40), dtype=np.uint16), Facts())  # noqa: E731
    options = {"crop_breast": True, "flip_right": True}

    made, ids = make(read=black, options=options)
    assert (made.row["crop_x0"], made.row["scale_x"], ids.shape) == (0, 1, (60, 40))
    made, _ = make(read=black, options=options, laterality="R")
    assert (made.row["crop_x0"], made.row["scale_x"]) == (40, -1)


def test_what_the_header_says_of_the_image_is_kept(make):
    made, _ = make(facts=Facts(attributes=("implant", "spot compression", "burned-in text")))

    assert made.row["attributes"] == "implant; spot compression; burned-in text"


def test_raw_detector_values_are_listed_unless_they_are_asked_for(make):
    facts = Facts(attributes=("for processing",))

    made, _ = make(facts=facts)
    assert made.image is None
    assert [(item.stage, item.reason[:14]) for item in made.skipped] == [("selection", "FOR PROCESSING")]
    made, _ = make(facts=facts, options={"for_processing": True})
    assert made.row["attributes"] == "for processing"


def test_a_size_that_the_table_does_not_say_is_listed(make):
    made, _ = make(size=(60, 41))

    assert made.image is None
    assert [(item.source, item.stage) for item in made.skipped] == [("image.dcm", "image")]
    assert made.skipped[0].reason == "Rows/Columns are 60x40, the table says 60x41"


def test_a_missing_file_is_listed_without_its_path(make, tmp_path):
    (tmp_path / "image.dcm").unlink()

    made, _ = make()

    assert made.image is None
    assert made.skipped[0].reason == "the file is not there"


def test_a_file_that_cannot_be_read_is_listed_with_the_reason(make, tmp_path):
    def fail(path, *, window):
        raise PixelError("the pixel data is cut off")

    made, _ = make(read=fail)

    assert [(item.source, item.reason) for item in made.skipped] == [("image.dcm", "the pixel data is cut off")]
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_case_survives_the_journal(make):
    made, _ = make(square(2, 10, 20, label="large"), square(12, 20, 10), square(4, 10, 6, label=None))

    back = Case.from_json(json.loads(json.dumps(made.to_json())))

    assert back == made
    assert back.to_json() == made.to_json()


def test_instances_are_those_of_pycocotools(make):
    made, _ = make(square(3, 11, 7))

    mask = np.zeros((60, 40), dtype=np.uint8, order="F")
    mask[11:18, 3:10] = 1
    code = coco_mask.encode(mask)
    assert made.instances[0]["segmentation"] == {"size": [60, 40], "counts": code["counts"].decode()}
