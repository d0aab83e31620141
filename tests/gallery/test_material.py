"""What is shown: the images that have a prediction, known by name, with classes known by name."""

import json

import numpy as np
import pytest

from mammoprep import gallery, panoptic
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.gallery.material import MOST_INSTANCES


def guess_of(material, name):
    return next(item.guess for item in material.items if item.image.name == name)


def test_data_set_alone_shows_every_image(dataset):
    material = gallery.load(dataset)
    assert [item.image.id for item in material.items] == [1, 2, 3, 4, 5]
    assert {item.guess for item in material.items} == {None}
    assert {item.fold for item in material.items} == {None}
    assert material.items[0].row["view"] == "CC"


def test_images_without_a_prediction_are_counted_and_left_out(dataset, predictions):
    content = json.loads((predictions / "panoptic.json").read_text())
    content["images"], content["annotations"] = content["images"][:2], content["annotations"][:2]
    panoptic.write_json(predictions / "panoptic.json", content)
    for path in (predictions / "heatmaps").iterdir():
        path.unlink()
    material = gallery.load(dataset, [predictions])
    assert len(material.items) == 2
    assert material.unpredicted == 3


def test_fold_that_holds_an_image_out_is_known(dataset):
    folds = [{"train": [2, 3, 4, 5], "val": [1]}, {"train": [1], "val": [2, 3, 4, 5]}]
    panoptic.write_json(dataset / "folds.json", {"folds": folds})
    assert [item.fold for item in gallery.load(dataset).items] == [0, 1, 1, 1, 1]


def test_classes_are_known_by_name(dataset, predictions):
    content = json.loads((predictions / "panoptic.json").read_text())
    for category in content["categories"]:
        category["id"] += 10
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["category_id"] += 10
    panoptic.write_json(predictions / "panoptic.json", content)
    (predictions / "instances.json").unlink()
    assert [s.category_id for s in guess_of(gallery.load(dataset, [predictions]), "first").segments] == [1, 3, 4]


def test_class_that_the_data_set_lacks_is_refused(dataset, predictions):
    content = json.loads((predictions / "panoptic.json").read_text())
    content["categories"][0]["name"] = "cyst"
    panoptic.write_json(predictions / "panoptic.json", content)
    with pytest.raises(MammoprepError, match="'cyst', which .* lacks"):
        gallery.load(dataset, [predictions])


def test_best_detections_are_kept(dataset, predictions):
    code = panoptic.encode_rle(np.ones((64, 48), dtype=bool))
    scores = [k / 20 for k in range(20)]
    entries = [{"image_id": 2, "category_id": 1, "segmentation": code, "score": score} for score in scores]
    panoptic.write_json(predictions / "instances.json", entries)
    found = guess_of(gallery.load(dataset, [predictions]), gallery.load(dataset).items[1].image.name).detections
    assert [entry["score"] for entry in found] == scores[: -MOST_INSTANCES - 1 : -1]


@pytest.mark.parametrize("content", ['[{"image_id": 1}]', '[{"image_id": 1, "category_id": 9, "score": 1}]', "[3]"])
def test_damaged_result_list_is_refused(dataset, predictions, content):
    (predictions / "instances.json").write_text(content)
    with pytest.raises(MammoprepError, match="no COCO result list"):
        gallery.load(dataset, [predictions])


def test_heat_maps_alone_are_predictions(dataset, predictions):
    (predictions / "panoptic.json").unlink()
    (predictions / "instances.json").unlink()
    material = gallery.load(dataset, [predictions])
    assert len(material.items) == 5
    assert guess_of(material, "first").segments is None


def test_folder_without_predictions_is_refused(dataset, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(MammoprepError, match="holds no predictions"):
        gallery.load(dataset, [tmp_path / "nothing"])
    with pytest.raises(MissingFileError, match="PREDICTIONS"):
        gallery.load(dataset, [tmp_path / "not there"])


def test_predictions_of_other_images_are_refused(dataset, predictions):
    text = (predictions / "panoptic.json").read_text()
    (predictions / "panoptic.json").write_text(text.replace('.png"', ' of others.png"'))
    (predictions / "instances.json").unlink()
    for path in (predictions / "heatmaps").iterdir():
        path.unlink()
    with pytest.raises(MammoprepError, match="has no image of"):
        gallery.load(dataset, [predictions])


def test_data_set_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(MammoprepError, match="does not exist"):
        gallery.load(tmp_path)


def test_manifest_that_is_none_is_refused(dataset):
    (dataset / "manifest.json").write_text("[]")
    with pytest.raises(MammoprepError, match="not written by"):
        gallery.load(dataset)


def test_marks_of_the_review_that_was_applied_are_known(dataset):
    marks = [{"image": "first", "finding": None, "mark": "accept", "comment": "as it is"}]
    panoptic.write_json(dataset / "review.json", {"format": 1, "dataset": "0", "marks": marks})
    assert gallery.load(dataset).marks == (panoptic.Mark("first", "", "accept", "as it is"),)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda content: content["images"][0].update(id=2), "twice"),
        (lambda content: content["images"][1].update(file_name="first.png"), "twice"),
        (lambda content: content["annotations"][0]["segments_info"][0].update(category_id=9), "not listed"),
        (lambda content: content["annotations"][0]["segments_info"][0].update(score="high"), "no number"),
    ],
)
@pytest.mark.parametrize("side", ["data set", "predictions"])
def test_panoptic_that_contradicts_itself_is_refused(dataset, predictions, side, change, why):
    path = dataset.parent / side / "panoptic.json"
    content = json.loads(path.read_text())
    change(content)
    panoptic.write_json(path, content)
    with pytest.raises(MammoprepError, match=why):
        gallery.load(dataset, [predictions])


def test_image_id_that_is_a_path_is_refused(dataset):
    content = json.loads((dataset / "panoptic.json").read_text())
    content["images"][0]["id"] = content["annotations"][0]["image_id"] = "../../x"
    panoptic.write_json(dataset / "panoptic.json", content)
    with pytest.raises(MammoprepError, match="of another type"):
        gallery.load(dataset)
