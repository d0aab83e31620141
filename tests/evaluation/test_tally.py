import itertools

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.evaluation.scores import score
from mammoprep.evaluation.tally import tally
from mammoprep.parallel import Workers

BLANK = ["....", "....", "...."]
LESION = ["mm..", "mm..", "...."]
SHIFTED = [".mm.", ".mm.", "...."]


@pytest.fixture
def pair(write, scene):
    """Four images: hit, shifted, missed, falsely found."""
    return write(scene(LESION, LESION), scene(LESION, SHIFTED), scene(LESION, BLANK), scene(BLANK, LESION))


def drop_third(content):
    content["images"].pop(2)
    content["annotations"].pop(2)


def test_image_tally_holds_the_tables(pair):
    """Image 2 shares 2 of 4 + 4 mass pixels: IoU 1/3; 6 of 8 background pixels."""
    image = tally(*pair).images[1]
    assert image.scenes[1].ious.tolist() == [[1 / 3]]
    assert image.scenes[3].ious.tolist() == [[6 / 10]]
    assert image.confusion.tolist() == [[0, 0, 0, 0], [0, 2, 0, 2], [0, 0, 0, 0], [0, 2, 0, 6]]
    assert image.rankings[1].truths == 1
    assert image.rankings[1].matched.sum() == 6  # 0.05 … 0.30


def test_stuff_among_the_detections_changes_no_ap(pair, edit):
    before = score(tally(*pair)).scores.sweep.AP
    edit(pair[1] / "instances.json", lambda results: [*results, {**results[0], "category_id": 3, "score": 0.99}])
    assert score(tally(*pair)).scores.sweep.AP[:] == before


def test_parts_add_up_to_the_whole_in_any_order(pair):
    whole = score(tally(*pair)).to_json()
    parts = [tally(*pair, image_ids=[number]) for number in (1, 2, 3, 4)]
    for first, *others in itertools.permutations(parts):
        total = first
        for other in others:
            total = total + other
        assert score(total).to_json() == whole


def test_same_image_is_not_added_twice(pair):
    with pytest.raises(MammoprepError, match="same image"):
        tally(*pair, image_ids=[1, 2]) + tally(*pair, image_ids=[2, 3])


def test_tallies_of_other_pieces_do_not_add(pair):
    whole = tally(*pair, image_ids=[1])
    (pair[1] / "instances.json").unlink()
    with pytest.raises(MammoprepError, match="do not add up"):
        whole + tally(*pair, image_ids=[2])


def test_workers_change_nothing(pair):
    assert score(tally(*pair, workers=Workers(3))).to_json() == score(tally(*pair)).to_json()


def test_progress_counts_the_images(pair, monkeypatch):
    monkeypatch.setattr("mammoprep.evaluation.tally.CHUNK", 3)
    calls = []
    tally(*pair, on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(3, 4), (4, 4)]


def test_missing_image_counts_as_empty_everywhere(pair, edit):
    edit(pair[1] / "panoptic.json", drop_third)
    (pair[1] / "semantic" / "case-3.png").unlink()
    with pytest.raises(MammoprepError, match="case-3"):
        tally(*pair)
    found = score(tally(*pair, missing_as_empty=True))
    assert found.missing == 1
    entry = found.scores.per_class["mass"]
    assert (entry.TP[0], entry.FP[0], entry.FN[0]) == (2, 1, 1)
    assert found.scores.dice.per_class["mass"] == 2 * 6 / (12 + 12)
    assert found.scores.dice.per_image == pytest.approx((1 + 0.5 + 0 + 0) / 4)


@pytest.mark.parametrize("folder", ["panoptic", "semantic"])
@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_unreadable_prediction_is_named_or_counts_as_empty(pair, folder, content, capfd):
    path = pair[1] / folder / "case-1.png"
    if content is None:
        panoptic.write_png(path, np.zeros((3, 4), dtype=np.uint16))
    else:
        path.write_bytes(content)
    with pytest.raises(MammoprepError, match=r"case-1\.png"):
        tally(*pair)
    assert tally(*pair, missing_as_empty=True).images[0].missing
    capfd.readouterr()  # OpenCV's own complaints


@pytest.mark.parametrize(("side", "folder"), [(0, "panoptic"), (1, "panoptic"), (1, "semantic")])
def test_map_of_another_size_is_named_and_never_empty(pair, side, folder):
    path = pair[side] / folder / "case-2.png"
    panoptic.write_png(path, panoptic.read_png(path)[:2])
    with pytest.raises(MammoprepError, match=r"image case-2 is 2 x 4 pixels, the data set says 3 x 4"):
        tally(*pair, missing_as_empty=side == 1)


@pytest.mark.parametrize("side", [0, 1])
def test_segment_in_the_png_alone_is_named(pair, edit, side):
    edit(pair[side] / "panoptic.json", lambda content: content["annotations"][0]["segments_info"].pop() and None)
    with pytest.raises(MammoprepError, match=r"of image case-1 has 0 pixels in panoptic\.json and 4 in the PNG"):
        tally(*pair)


@pytest.mark.parametrize("side", [0, 1])
def test_segment_in_the_json_alone_is_named(pair, edit, side):
    def add(content):
        content["annotations"][0]["segments_info"].append({"id": 5, "category_id": 1, "area": 9, "bbox": [0, 0, 3, 3]})

    edit(pair[side] / "panoptic.json", add)
    with pytest.raises(MammoprepError, match="segment 5 of image case-1 has 9 pixels"):
        tally(*pair, workers=Workers(2))


@pytest.mark.parametrize("side", [0, 1])
def test_area_that_the_png_does_not_show_is_named(pair, edit, side):
    edit(pair[side] / "panoptic.json", lambda c: c["annotations"][0]["segments_info"][0].update(area=3))
    with pytest.raises(MammoprepError, match="has 3 pixels"):
        tally(*pair)


def test_unknown_class_in_a_semantic_map_is_named(pair):
    panoptic.write_png(pair[1] / "semantic" / "case-2.png", np.full((3, 4), 7, dtype=np.uint8))
    with pytest.raises(MammoprepError, match=r"case-2\.png has the category id 7"):
        tally(*pair)


def test_semantic_maps_alone_are_checked_against_the_truth(pair, edit):
    (pair[1] / "panoptic.json").unlink()
    edit(pair[0] / "panoptic.json", lambda c: c["annotations"][0]["segments_info"][0].update(area=3))
    with pytest.raises(MammoprepError, match="has 3 pixels"):
        tally(*pair)


def test_results_alone_need_no_png(pair):
    before = score(tally(*pair)).scores.sweep
    for path in (pair[1] / "panoptic.json", *pair[0].glob("panoptic/*.png")):
        path.unlink()
    (pair[1] / "semantic").rename(pair[1] / "elsewhere")
    after = score(tally(*pair)).scores.sweep
    assert (after.PQ, after.AP) == (None, before.AP)


def test_classes_of_a_semantic_map_are_mapped_by_name(pair, edit):
    def swap(content):
        for entry, name in zip(content["categories"], ["calc", "mass", "background"], strict=True):
            entry["name"] = name

    edit(pair[1] / "panoptic.json", swap)
    found = score(tally(*pair)).scores
    assert found.dice.per_class == {"mass": 0.0, "calc": 0.0}
    assert found.dice.per_image == pytest.approx((1 + 0.5 + 0 + 0) / 4)


def test_prediction_without_areas_and_boxes_is_scored_alike(pair, edit):
    """detectron2 and Mask2Former write neither; the PNG tells."""
    before = score(tally(*pair)).to_json()

    def strip(content):
        for annotation in content["annotations"]:
            for segment in annotation["segments_info"]:
                segment.pop("area"), segment.pop("bbox")
                segment["isthing"] = segment["category_id"] != 3

    edit(pair[1] / "panoptic.json", strip)
    assert score(tally(*pair)).to_json() == before


def test_segment_without_area_that_the_png_lacks_is_named(pair, edit):
    def add(content):
        content["annotations"][0]["segments_info"].append({"id": 5, "category_id": 1})

    edit(pair[1] / "panoptic.json", add)
    with pytest.raises(MammoprepError, match="segment 5 of image case-1 is in panoptic.json and not in the PNG"):
        tally(*pair)


def test_data_set_without_areas_is_refused(pair, edit):
    edit(pair[0] / "panoptic.json", lambda c: c["annotations"][0]["segments_info"][0].pop("area") and None)
    with pytest.raises(MammoprepError, match="size or area that is no whole number above 0"):
        tally(*pair)


def test_order_of_the_files_entries_does_not_move_equal_scores(pair, edit):
    """All scores are 0.5: images in another order in either file, AP to the last digit the same."""
    before = score(tally(*pair)).to_json()

    def turn(content):
        return content[::-1]

    def turn_lists(content):
        return {key: value[::-1] for key, value in content.items()}

    edit(pair[1] / "instances.json", turn)
    for side in pair:
        edit(side / "panoptic.json", turn_lists)
    edit(pair[0] / "instances.json", turn_lists)
    assert score(tally(*pair)).to_json() == before


def test_lesion_free_is_what_has_no_finding_at_all(pair):
    """cases.csv tells of a finding of no class on image 4; image 3 is said to be lesion-free and is not."""
    (pair[0] / "cases.csv").write_text("image_id,lesion_free\ncase-3,1\ncase-4,0\n")
    assert [image.lesion_free for image in tally(*pair).images] == [False] * 4
    (pair[0] / "cases.csv").write_text("image_id,lesion_free\ncase-3,1\ncase-4,1\n")
    assert [image.lesion_free for image in tally(*pair).images] == [False, False, False, True]


@pytest.mark.parametrize(
    ("row", "square_mm"),
    [("0.085,0.5,0.25", 0.085**2 / 0.125), ("0.1,1,1", 0.1**2), (",1,1", None), ("0.1,0,1", None), ("x,1,1", None)],
)
def test_area_of_a_stored_pixel(pair, row, square_mm):
    """A native pixel has the spacing squared; stored = native · scale."""
    (pair[0] / "cases.csv").write_text(f"image_id,pixel_spacing_mm,scale_x,scale_y\ncase-1,{row}\n")
    found = tally(*pair, image_ids=[1]).images[0].facts.square_mm
    assert np.isnan(found) if square_mm is None else found == pytest.approx(square_mm)
