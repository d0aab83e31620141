"""Masks become segments, instances and maps by the published rules, worked out by hand on a few pixels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint, data, inference
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.config import Preset, TrainConfig
from mammoprep_model.segmenter import Prediction

CATEGORIES = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4"], ["breast"])
RULES = TrainConfig(object_threshold=0.0, overlap_threshold=0.8)


def prediction(masks: list[Any], scores: list[list[float]], maps: Any = None) -> Prediction:
    """Build a prediction from probabilities (Q, H, W)."""
    logits = torch.logit(torch.tensor(masks, dtype=torch.float64)).float()
    maps = torch.zeros(3, *logits.shape[1:]) if maps is None else torch.tensor(maps)
    return Prediction(logits, torch.tensor(scores), maps)


def merge(found: Prediction, rules: TrainConfig = RULES) -> tuple[list[list[int]], list[tuple[int, int, float]]]:
    ids, segments = inference.merge(found, categories=CATEGORIES, train=rules)
    return ids.tolist(), [(segment.id, segment.category_id, segment.score or 0) for segment in segments]


def test_each_pixel_goes_to_the_largest_score_times_probability() -> None:
    masks = [[[0.9, 0.9, 0.9, 0.9, 0.55, 0.1]], [[0.1, 0.1, 0.1, 0.1, 0.9, 0.9]]]
    ids, segments = merge(prediction(masks, [[0.9, 0, 0], [0, 0.8, 0]]))
    assert ids == [[1, 1, 1, 1, 2, 2]]
    assert segments == [(1, 1, pytest.approx(0.9)), (2, 2, pytest.approx(0.8))]


def test_a_pixel_below_one_half_belongs_to_nobody() -> None:
    ids, _ = merge(prediction([[[0.9, 0.49, 0.5]]], [[0.9, 0, 0]]))
    assert ids == [[1, 0, 1]]


def test_a_mask_that_is_mostly_hidden_is_dropped_and_leaves_a_hole() -> None:
    masks = [[[0.9, 0.9, 0.9, 0.1]], [[0.1, 0.9, 0.9, 0.9]]]
    ids, segments = merge(prediction(masks, [[0.9, 0, 0], [0, 0.8, 0]]))
    assert ids == [[1, 1, 1, 0]]
    assert [number for number, _, _ in segments] == [1]
    kept, _ = merge(prediction(masks, [[0.9, 0, 0], [0, 0.8, 0]]), replace(RULES, overlap_threshold=0.3))
    assert kept == [[1, 1, 1, 2]]


def test_no_object_and_the_threshold_keep_masks_out() -> None:
    masks = [[[0.9, 0.1]], [[0.1, 0.9]]]
    ids, _ = merge(prediction(masks, [[0.3, 0.1, 0.1], [0.5, 0.1, 0.0]]))
    assert ids == [[0, 1]]
    ids, _ = merge(prediction(masks, [[0.9, 0, 0], [0.7, 0, 0]]), replace(RULES, object_threshold=0.8))
    assert ids == [[1, 0]]


def test_a_query_with_a_low_score_is_not_cut_by_its_score_alone() -> None:
    ids, _ = merge(prediction([[[0.6, 0.2]]], [[0.4, 0.3, 0.1]]))
    assert ids == [[1, 0]]


def test_stuff_of_one_class_is_one_segment_and_things_stay_apart() -> None:
    masks = [[[0.9, 0.1, 0.1, 0.1]], [[0.1, 0.9, 0.1, 0.1]], [[0.1, 0.1, 0.9, 0.1]], [[0.1, 0.1, 0.1, 0.9]]]
    stuff, thing = [0.0, 0.0, 0.8], [0.7, 0.0, 0.0]
    ids, segments = merge(prediction(masks, [stuff, thing, [0.0, 0.0, 0.9], thing]))
    assert ids == [[1, 2, 1, 3]]
    assert [(number, label) for number, label, _ in segments] == [(1, 3), (2, 1), (3, 1)]
    assert segments[0][2] == pytest.approx(0.9)


def test_nothing_found_gives_an_empty_map() -> None:
    assert merge(prediction([[[0.9, 0.9]]], [[0.1, 0.1, 0.1]])) == ([[0, 0]], [])


def test_segments_carry_area_and_box() -> None:
    masks = [[[0.1, 0.9, 0.9], [0.1, 0.9, 0.1]]]
    _, (segment,) = inference.merge(prediction(masks, [[0.9, 0, 0]]), categories=CATEGORIES, train=RULES)
    assert (segment.area, segment.bbox) == (3, (1, 0, 2, 2))


def test_an_instance_scores_class_times_mean_probability_inside() -> None:
    found = inference.find_instances(prediction([[[0.9, 0.7, 0.2]]], [[0.5, 0.1, 0.4]]), categories=CATEGORIES)
    assert [instance.label for instance in found] == [0, 1]
    assert found[0].score == pytest.approx(0.5 * 0.8)
    assert found[1].score == pytest.approx(0.1 * 0.8)
    assert found[0].mask.tolist() == [[True, True, False]]


def test_instances_may_overlap_come_best_first_and_empty_ones_are_left_out() -> None:
    masks = [[[0.9, 0.9]], [[0.4, 0.4]], [[0.9, 0.9]]]
    found = inference.find_instances(
        prediction(masks, [[0.2, 0.1, 0], [0.9, 0.1, 0], [0.3, 0.2, 0]]), categories=CATEGORIES
    )
    assert [(instance.label, round(instance.score, 2)) for instance in found] == [
        (0, 0.27),
        (0, 0.18),
        (1, 0.18),
        (1, 0.09),
    ]


def test_equal_scores_keep_the_order_of_the_masks() -> None:
    masks = np.full((80, 1, 80), 0.1)
    masks[np.arange(80), 0, np.arange(80)] = 0.9
    found = inference.find_instances(prediction(masks.tolist(), [[0.5, 0.5, 0]] * 80), categories=CATEGORIES)
    assert len(found) == 100
    assert [int(instance.mask.argmax()) for instance in found] == [place // 2 for place in range(100)]


def test_padding_is_cut_before_resizing() -> None:
    masks = torch.tensor([[[2.0, 2.0, -9.0], [2.0, 2.0, -9.0], [-9.0, -9.0, -9.0]]])
    resized = inference.resize(Prediction(masks, torch.ones(1, 1), masks), content=(2, 2), stored=(4, 6))
    assert resized.masks.shape == resized.maps.shape == (1, 4, 6)
    assert resized.masks.unique().tolist() == [2.0]


def test_semantic_and_heat_map_read_the_maps() -> None:
    maps = [[[0.1, 0.6]], [[0.3, 0.2]], [[0.4, 0.2]]]
    found = prediction([[[0.5, 0.5]]], [[0, 0, 0]], maps)
    assert inference.semantic(found, categories=CATEGORIES).tolist() == [[3, 1]]
    assert inference.heatmap(found, categories=CATEGORIES).tolist() == [[102, 204]]


def run_config(preset: Preset) -> RunConfig:
    categories = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4"])
    facts = {"dataset": "", "data_hash": "", "folds_hash": "", "fold": 0, "seed": 0, "weights": {}, "versions": {}}
    return RunConfig(preset=preset, categories=categories, device="cpu", git_commit=None, **facts)


@pytest.fixture
def config(small_preset: Preset, fake_network: Callable[..., Any]) -> RunConfig:
    torch.manual_seed(0)
    return run_config(small_preset)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_predictions_are_written_at_the_stored_size_in_the_order_of_ids(
    dataset: Path, config: RunConfig, tmp_path: Path
) -> None:
    source, out = panoptic.load(dataset), tmp_path / "out"
    pictures = data.pictures(source, [4, 2])
    progress: list[tuple[int, int]] = []
    options = inference.Options(on_progress=lambda done, total: progress.append((done, total)))
    inference.predict(checkpoint.assemble(config), pictures[::-1], out=out, config=config, options=options)
    written = panoptic.load(out)
    assert [image.id for image in written.images] == [2, 4]
    assert sorted(path.name for path in (out / "panoptic").iterdir()) == ["case-2.png", "case-4.png"]
    assert written.categories == config.categories
    for image in written.images:
        ids = written.ids_of(image)
        assert ids.shape == (48, 32)
        assert {segment.id: segment.area for segment in image.segments} == {
            int(number): int((ids == number).sum()) for number in np.unique(ids[ids > 0])
        }
        for folder in ("semantic", "heatmaps"):
            assert panoptic.read_png(out / folder / f"{image.name}.png").shape == (48, 32)
    results = panoptic.load_instances(out)
    assert {entry["image_id"] for entry in results} <= {2, 4}
    assert all(entry["segmentation"]["size"] == [48, 32] for entry in results)
    assert progress == [(1, 2), (2, 2)]


def test_the_batch_size_does_not_change_what_is_predicted(dataset: Path, config: RunConfig, tmp_path: Path) -> None:
    panoptic.write_png(dataset / "images" / "wide.png", np.full((20, 90), 99, np.uint8))
    wide = data.Picture(9, "wide", lambda: panoptic.read_png(dataset / "images" / "wide.png"))
    pictures = [*data.pictures(panoptic.load(dataset)), wide]
    network = checkpoint.assemble(config)
    for size in (1, 4):
        options = inference.Options(batch_size=size)
        inference.predict(network, pictures, out=tmp_path / str(size), config=config, options=options)
    assert contents(tmp_path / "1") == contents(tmp_path / "4")
    assert panoptic.read_png(tmp_path / "1" / "semantic" / "wide.png").shape == (20, 90)


def test_a_picture_that_cannot_be_read_leaves_nothing_behind(dataset: Path, config: RunConfig, tmp_path: Path) -> None:
    (dataset / "images" / "case-5.png").write_bytes(b"")
    pictures = data.pictures(panoptic.load(dataset))
    with pytest.raises(MammoprepError, match=r"case-5\.png"):
        inference.predict(checkpoint.assemble(config), pictures, out=tmp_path / "out", config=config)
    assert not list(tmp_path.glob("out*"))
