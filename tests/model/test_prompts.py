"""Where promptable networks are told to look, by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import data
from mammoprep_model.promptable.config import SamConfig
from mammoprep_model.prompts import Prompted, centre, prompted
from mammoprep_model.semantic.config import SetrConfig


def ask(by: str, dataset: Path, *, loose: bool = False) -> Prompted:
    source = panoptic.load(dataset)
    model = SamConfig(prompts=by)
    found = data.pictures(source)
    return prompted(found, model, categories=source.categories, dataset=None if loose else source)


def predicted(dataset: Path, root: Path, boxes: dict[int, list[tuple[int, int, int, float]]]) -> Path:
    """PREDICTIONS of the data set's images: squares of 8 pixels (x, y, category, score) by image id."""
    source = panoptic.load(dataset)
    root.mkdir(parents=True)
    images = [panoptic.Image(each.id, each.name, 48, 32, ()) for each in source.images if each.id in boxes]
    panoptic.write_panoptic(root, categories=source.categories, images=images)
    entries = []
    for number, found in boxes.items():
        for x, y, category, score in found:
            mask = np.zeros((48, 32), dtype=bool)
            mask[y : y + 8, x : x + 8] = True
            code = panoptic.encode_rle(mask)
            entries.append({"image_id": number, "category_id": category, "segmentation": code, "score": score})
    panoptic.write_json(root / "instances.json", entries)
    return root


def test_the_centre_is_farthest_from_the_edge():
    """A T: the middle of its 3 x 3 block, column 2 and row 3 of 8 x 6, not its mean."""
    mask = np.zeros((8, 6), dtype=bool)
    mask[2:5, 1:4] = True
    mask[3, 4:6] = True
    assert centre(mask) == (2.5 / 6, 3.5 / 8)


def test_the_border_is_an_edge_too():
    assert centre(np.ones((3, 3), dtype=bool)) == (0.5, 0.5)


def test_the_ground_truth_s_lesions_are_prompts_of_their_class(dataset: Path):
    """Image 1 has a square of 8 from (4, 4) of class 2: the first of its four inmost pixels is (7, 7)."""
    found = ask("ground-truth", dataset)
    assert found.facts == {"prompts": "ground-truth"}
    prompts = found.pictures[0].prompts()
    assert prompts.points.tolist() == [pytest.approx([7.5 / 32, 7.5 / 48])]
    assert prompts.labels.tolist() == [1]
    assert prompts.scores is None


def test_an_image_without_a_lesion_is_prompted_at_its_centre(dataset: Path):
    content = json.loads((dataset / "panoptic.json").read_text())
    content["annotations"][0]["segments_info"] = content["annotations"][0]["segments_info"][1:]
    (dataset / "panoptic.json").write_text(json.dumps(content))
    prompts = ask("ground-truth", dataset).pictures[0].prompts()
    assert (prompts.points.tolist(), prompts.labels.tolist()) == ([[0.5, 0.5]], [0])


def test_another_model_s_detections_are_prompts_with_their_scores(dataset: Path, tmp_path: Path):
    boxes = {number: [] for number in range(1, 7)} | {2: [(0, 0, 1, 0.25), (8, 8, 2, 0.75)]}
    out = predicted(dataset, tmp_path / "predictions", boxes)
    found = ask(f"detections:{out}", dataset)
    assert found.facts == {"prompts": "detections", "detections": [panoptic.file_hash(out / "instances.json")]}
    prompts = found.pictures[1].prompts()
    assert prompts.points.tolist() == [pytest.approx([3.5 / 32, 3.5 / 48]), pytest.approx([11.5 / 32, 11.5 / 48])]
    assert (prompts.labels.tolist(), prompts.scores.tolist()) == ([0, 1], [0.25, 0.75])
    assert found.pictures[0].prompts().points.shape == (0, 2)


def test_the_folds_of_a_run_are_taken_together(dataset: Path, tmp_path: Path):
    run = tmp_path / "run"
    for fold, numbers in enumerate([(1, 2, 3), (4, 5, 6)]):
        predicted(dataset, run / f"fold-{fold}" / "predictions", {number: [(4, 4, 1, 0.5)] for number in numbers})
    (run / "run.json").write_text("{}")
    assert all(len(each.prompts().labels) == 1 for each in ask(f"detections:{run}", dataset).pictures)


def test_a_source_without_detections_is_refused(dataset: Path, tmp_path: Path):
    out = predicted(dataset, tmp_path / "predictions", {number: [] for number in range(1, 7)})
    with pytest.raises(MammoprepError, match="holds no detection at all"):
        ask(f"detections:{out}", dataset)
    with pytest.raises(MammoprepError, match="missing does not exist"):
        ask(f"detections:{tmp_path / 'missing'}", dataset)


def test_images_without_a_prediction_are_named(dataset: Path, tmp_path: Path):
    out = predicted(dataset, tmp_path / "predictions", {1: [(4, 4, 1, 0.5)]})
    with pytest.raises(MammoprepError, match="holds no prediction of case-2"):
        ask(f"detections:{out}", dataset)


def test_detections_that_knew_the_truth_are_refused(dataset: Path, tmp_path: Path):
    """Else a detour would take the mark away."""
    out = predicted(dataset, tmp_path / "predictions", {number: [(4, 4, 1, 0.5)] for number in range(1, 7)})
    (out / "manifest.json").write_text(json.dumps({"prompts": "ground-truth"}))
    with pytest.raises(MammoprepError, match="itself predicted with prompts from the ground truth"):
        ask(f"detections:{out}", dataset)


def test_detections_of_other_classes_are_refused(dataset: Path, tmp_path: Path):
    out = predicted(dataset, tmp_path / "predictions", {number: [(4, 4, 1, 0.5)] for number in range(1, 7)})
    source = panoptic.load(out)
    panoptic.write_panoptic(out, categories=panoptic.make_categories(["BI-RADS 3", "mass"]), images=source.images)
    with pytest.raises(MammoprepError, match="other lesion classes than the run: BI-RADS 4, mass"):
        ask(f"detections:{out}", dataset)


def test_loose_files_have_no_ground_truth(dataset: Path):
    with pytest.raises(MammoprepError, match="Loose files have no ground truth"):
        ask("ground-truth", dataset, loose=True)


@pytest.mark.parametrize("by", ["points", "detections:", "ground truth"])
def test_what_is_no_prompt_is_refused(dataset: Path, by: str):
    with pytest.raises(MammoprepError, match="prompts nothing. Choose ground-truth, grid, or detections:RUN"):
        ask(by, dataset)


def test_a_grid_tells_no_class(dataset: Path):
    with pytest.raises(MammoprepError, match="tells no class, and there are 2: BI-RADS 3, BI-RADS 4"):
        ask("grid", dataset)


def test_other_networks_are_told_nothing(dataset: Path):
    source = panoptic.load(dataset)
    found = prompted(data.pictures(source), SetrConfig(prompts=5), categories=source.categories, dataset=source)
    assert (found.facts, {each.prompts for each in found.pictures}) == ({}, {None})
