import json
import shutil

import pytest

from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.evaluation.inputs import load

LESION = ["mm..", "mm..", "...."]


@pytest.fixture
def pair(write, scene):
    return write(scene(LESION, LESION), scene(LESION, LESION))


def read(pair, **options):
    return load(*pair, **{"image_ids": None, "missing_as_empty": False, **options})[0]


def cases_of(pair, **options):
    return [*load(*pair, **{"image_ids": None, "missing_as_empty": False, **options})[1]]


def check_refused(pair, text, **options):
    with pytest.raises(MammoprepError, match=text) as caught:
        read(pair, **options)
    assert "\n" not in str(caught.value)


def test_cases_pair_truth_and_prediction(pair):
    cases = cases_of(pair)
    assert [case.truth.name for case in cases] == ["case-1", "case-2"]
    assert all(case.predicted.segments == case.truth.segments for case in cases)
    assert [len(case.lesions) for case in cases] == [len(case.detections) for case in cases] == [1, 1]
    assert [case.facts.patient_id for case in cases] == ["patient-0", "patient-1"]


def test_chosen_images_alone_are_loaded(pair):
    assert [case.truth.id for case in cases_of(pair, image_ids=[2])] == [2]


def test_unknown_chosen_image_is_named(pair):
    check_refused(pair, "no image 7", image_ids=[1, 7])


def test_no_chosen_image_is_refused(pair):
    check_refused(pair, "no image to score", image_ids=[])


def test_names_decide_and_ids_are_mapped(pair, edit):
    """The predictions number their classes from the end."""
    new = {1: 30, 2: 20, 3: 10}

    def renumber(content):
        for entry in content["categories"]:
            entry["id"] = new[entry["id"]]
        for annotation in content["annotations"]:
            for segment in annotation["segments_info"]:
                segment["category_id"] = new[segment["category_id"]]

    edit(pair[1] / "panoptic.json", renumber)
    edit(pair[1] / "instances.json", lambda results: [{**entry, "category_id": 30} for entry in results])
    assert read(pair).renumber == {30: 1, 20: 2, 10: 3}
    case = cases_of(pair)[0]
    assert case.predicted.segments == case.truth.segments
    assert case.detections[0].category_id == 1


def test_missing_piece_has_a_reason(pair):
    (pair[1] / "instances.json").unlink()
    shutil.rmtree(pair[1] / "semantic")
    found = read(pair)
    assert found.given == {"panoptic"}
    assert found.not_given["instances"] == "the predictions have no instances.json"


def test_data_set_without_instances_gives_no_ap(pair):
    (pair[0] / "instances.json").unlink()
    assert read(pair).not_given["instances"] == "the data set has no instances.json"


@pytest.mark.parametrize("side", [0, 1])
def test_wrong_path_is_named(pair, side, tmp_path):
    wrong = [*pair]
    wrong[side] = tmp_path / "nowhere"
    with pytest.raises(MissingFileError, match="nowhere"):
        read(wrong)


def test_folder_without_predictions_is_refused(pair, tmp_path):
    (tmp_path / "empty").mkdir()
    check_refused((pair[0], tmp_path / "empty"), "holds no predictions")


def test_data_set_in_the_place_of_predictions_is_refused(pair):
    check_refused((pair[0], pair[0]), "is no COCO result list")


def test_predictions_in_the_place_of_the_data_set_are_refused(pair):
    check_refused((pair[1], pair[1]), "is no COCO ground truth")


def test_prediction_of_another_image_is_named(pair, edit):
    def rename(content):
        content["images"][1]["file_name"] = "other.png"

    edit(pair[1] / "panoptic.json", rename)
    check_refused(pair, r"image 2 \(other\) is not in")


def test_semantic_map_of_another_image_is_named(pair):
    shutil.copy(pair[1] / "semantic" / "case-1.png", pair[1] / "semantic" / "other.png")
    check_refused(pair, "image other is not in")


def drop_second(content):
    content["images"].pop()
    content["annotations"].pop()


def test_missing_prediction_is_counted_and_named(pair, edit):
    edit(pair[1] / "panoptic.json", drop_second)
    check_refused(pair, "no prediction for 1 of 2 images, the first is case-2.*--missing-as-empty")
    assert cases_of(pair, missing_as_empty=True)[1].predicted is None
    assert cases_of(pair, image_ids=[1])[0].predicted


def test_missing_semantic_map_is_named(pair):
    (pair[1] / "semantic" / "case-2.png").unlink()
    check_refused(pair, "semantic has no prediction for 1 of 2 images")


@pytest.mark.parametrize("side", [0, 1])
def test_lacking_category_is_named(pair, edit, side):
    edit(pair[side] / "panoptic.json", lambda content: content["categories"].pop(1) and None)
    check_refused(pair, "lacks the category 'calc'")


def change_segment(**new):
    def change(content):
        content["annotations"][0]["segments_info"][0].update(new)

    return change


def change_image(**new):
    def change(content):
        content["images"][0].update(new)

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (change_segment(category_id=9), "image case-1 has category 9"),
        (change_segment(id=1.5), "segment of image case-1 1.5. Ids are whole numbers"),
        (change_segment(id="7"), "segment of image case-1 '7'. Ids are whole numbers"),
        (lambda c: c["categories"][0].update(id=1.0), "category 1.0. Ids are whole numbers"),
        (change_segment(id=0), "segment of image case-1 0. Ids are whole numbers"),
        (change_segment(area=4.0), "image case-1 has a size or area"),
        (change_segment(area=0), "image case-1 has a size or area"),
        (change_image(id=2), "has the image 2 twice"),
        (change_image(file_name="case-2.png"), "image name 'case-2' twice"),
        (change_image(height="3"), "image case-1 has a size or area"),
        (lambda c: c["annotations"].append(c["annotations"][0]), "annotates an image twice"),
        (lambda c: c["categories"][0].update(name="calc"), "category name 'calc' twice"),
        (lambda c: c["categories"][0].update(id=2), "category 2 twice"),
        (lambda c: c["annotations"][0]["segments_info"].append(c["annotations"][0]["segments_info"][0]), "twice"),
        (lambda c: c.pop("annotations") and None, "is not COCO panoptic"),
        (lambda c: [c], "is not COCO panoptic"),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_broken_panoptic_json_is_named(pair, edit, change, text, side):
    edit(pair[side] / "panoptic.json", change)
    check_refused(pair, text)


def change_result(**new):
    return lambda results: results[1].update(new)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (change_result(score=float("nan")), "a number in it is none"),
        (change_result(score="0.5"), "entry 2 has no finite score"),
        (change_result(score=True), "entry 2 has no finite score"),
        (change_result(score=None), "entry 2 has no finite score"),
        (change_result(image_id=9), "entry 2 has the image_id 9, which"),
        (change_result(image_id=1.0), "entry 2 has the image_id 1.0"),
        (change_result(image_id="case-1"), "entry 2 has the image_id 'case-1'"),
        (change_result(category_id=9), "entry 2 has the category_id 9, which"),
        (change_result(category_id="mass"), "entry 2 has the category_id 'mass'"),
        (change_result(segmentation=[[0, 0, 1, 1, 2, 2]]), "entry 2 has a segmentation that is no compressed RLE"),
        (change_result(segmentation={"size": [4, 3], "counts": "0"}), r"has a mask of \[4, 3\], its image is \[3, 4\]"),
        (change_result(segmentation={"size": [3, 4], "counts": "zz"}), "entry 2 has a broken RLE"),
        (lambda results: results[1].pop("segmentation") and None, "entry 2 lacks"),
        (lambda results: [results[0], "second"], "entry 2 has no finite score"),
    ],
)
def test_broken_result_is_named(pair, edit, change, text):
    edit(pair[1] / "instances.json", change)
    check_refused(pair, text)


def test_broken_lesion_of_the_data_set_is_named(pair, edit):
    edit(pair[0] / "instances.json", lambda content: content["annotations"][0].update(category_id=9))
    check_refused(pair, "dataset/instances.json: entry 1 has the category_id 9")


def test_unreadable_json_is_one_line(pair):
    (pair[1] / "instances.json").write_text("[{")
    check_refused(pair, "is not readable JSON")


def test_empty_result_list_is_given(pair):
    (pair[1] / "instances.json").write_text(json.dumps([]))
    assert cases_of(pair)[0].detections == ()
    assert "instances" in read(pair).given
