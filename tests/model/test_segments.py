"""Masks become segments, instances and maps by the published rules, worked out by hand on a few pixels."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mammoprep import panoptic
from mammoprep_model import segments as made
from mammoprep_model.config import TrainConfig
from mammoprep_model.segmenter import Prediction
from mammoprep_model.segments import Answer

CATEGORIES = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4"], ["breast"])
RULES = TrainConfig(object_threshold=0.0, overlap_threshold=0.8)


def prediction(masks: list[Any], scores: list[list[float]], maps: Any = None) -> Answer:
    """Build a prediction at its final size from probabilities (Q, H, W)."""
    logits = torch.logit(torch.tensor(masks, dtype=torch.float64)).float()
    maps = torch.zeros(3, *logits.shape[1:]) if maps is None else torch.tensor(maps)
    size = (logits.shape[1], logits.shape[2])
    return Answer(Prediction(logits, torch.tensor(scores).reshape(-1, 3), maps), size, size, size)


def merge(found: Answer, rules: TrainConfig = RULES) -> tuple[list[list[int]], list[tuple[int, int, float]]]:
    ids, segments = made.merge(found, categories=CATEGORIES, train=rules)
    return ids.tolist(), [(segment.id, segment.category_id, segment.score or 0) for segment in segments]


def test_each_pixel_goes_to_the_largest_score_times_probability() -> None:
    masks = [[[0.9, 0.9, 0.9, 0.9, 0.55, 0.1]], [[0.1, 0.1, 0.1, 0.1, 0.9, 0.9]]]
    ids, segments = merge(prediction(masks, [[0.9, 0, 0], [0, 0.8, 0]]))
    assert ids == [[1, 1, 1, 1, 2, 2]]
    means = (4 * 0.9 + 0.55) / 5, 0.9
    assert segments == [(1, 1, pytest.approx(0.9 * means[0])), (2, 2, pytest.approx(0.8 * means[1]))]


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
    assert segments[0][2] == pytest.approx(0.9 * 0.9)


def test_nothing_found_gives_an_empty_map() -> None:
    assert merge(prediction([[[0.9, 0.9]]], [[0.1, 0.1, 0.1]])) == ([[0, 0]], [])


def test_segments_carry_area_and_box() -> None:
    masks = [[[0.1, 0.9, 0.9], [0.1, 0.9, 0.1]]]
    _, (segment,) = made.merge(prediction(masks, [[0.9, 0, 0]]), categories=CATEGORIES, train=RULES)
    assert (segment.area, segment.bbox) == (3, (1, 0, 2, 2))


def test_an_instance_scores_class_times_mean_probability_inside() -> None:
    found = made.find_instances(prediction([[[0.9, 0.7, 0.2]]], [[0.5, 0.1, 0.4]]), categories=CATEGORIES)
    assert [instance.label for instance in found] == [0, 1]
    assert found[0].score == pytest.approx(0.5 * 0.8)
    assert found[1].score == pytest.approx(0.1 * 0.8)
    assert panoptic.decode_rle(found[0].code).tolist() == [[True, True, False]]


def test_instances_may_overlap_come_best_first_and_empty_ones_are_left_out() -> None:
    masks = [[[0.9, 0.9]], [[0.4, 0.4]], [[0.9, 0.9]]]
    found = made.find_instances(prediction(masks, [[0.2, 0.1, 0], [0.9, 0.1, 0], [0.3, 0.2, 0]]), categories=CATEGORIES)
    assert [(instance.label, round(instance.score, 2)) for instance in found] == [
        (0, 0.27),
        (0, 0.18),
        (1, 0.18),
        (1, 0.09),
    ]


def test_equal_scores_keep_the_order_of_the_masks() -> None:
    masks = np.full((80, 1, 80), 0.1)
    masks[np.arange(80), 0, np.arange(80)] = 0.9
    found = made.find_instances(prediction(masks.tolist(), [[0.5, 0.5, 0]] * 80), categories=CATEGORIES)
    assert len(found) == 100
    assert [panoptic.decode_rle(each.code).argmax() for each in found] == [place // 2 for place in range(100)]


def test_padding_is_cut_before_resizing() -> None:
    masks = torch.tensor([[[2.0, 2.0, -9.0], [2.0, 2.0, -9.0], [-9.0, -9.0, -9.0]]])
    answer = Answer(Prediction(masks, torch.ones(1, 1), masks), (3, 3), (2, 2), (4, 6))
    assert answer.mask(0).shape == answer.map(0).shape == (4, 6)
    assert answer.mask(0).unique().tolist() == [2.0]


def test_a_prediction_at_a_quarter_of_the_input_is_brought_to_it_before_padding_is_cut() -> None:
    masks = torch.tensor([[[0.0, 4.0]]])  # of an input of 4 x 8 pixels, whose last 2 columns are padding
    answer = Answer(Prediction(masks, torch.ones(1, 1), masks), (4, 8), (4, 6), (4, 6))
    assert answer.mask(0)[0].tolist() == [0.0, 0.0, 0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("shape", "padded", "content", "size"),
    [
        ((9, 7), (9, 7), (9, 7), (9, 7)),
        ((9, 7), (9, 7), (8, 5), (31, 18)),
        ((9, 7), (36, 28), (30, 25), (97, 83)),
        ((36, 28), (36, 28), (36, 28), (9, 5)),
    ],
)
def test_a_mask_has_no_pixel_outside_its_window(
    shape: tuple[int, int], padded: tuple[int, int], content: tuple[int, int], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    masks = torch.randn(200, *shape) - 2.2
    answer = Answer(Prediction(masks, torch.ones(200, 1), masks), padded, content, size)
    seen = 0
    for query in range(len(masks)):
        window, mask = answer.window(query), answer.mask(query) > 0
        assert mask.sum() == (mask[window].sum() if window else 0)
        if window:
            assert torch.allclose(answer.mask(query, window), answer.mask(query)[window], atol=1e-4)
        seen += window is not None and (window[0].stop - window[0].start) < size[0]
    assert seen > 20


def test_without_masks_nothing_is_found() -> None:
    answer = Answer(Prediction(torch.zeros(0, 1, 1), torch.zeros(0, 3), torch.zeros(3, 1, 1)), (4, 4), (4, 4), (4, 4))
    assert merge(answer) == ([[0] * 4] * 4, [])
    assert made.find_instances(answer, categories=CATEGORIES) == []


def test_of_equal_pixels_the_first_mask_and_the_first_class_win() -> None:
    same = [[0.9, 0.9]]
    answer = prediction([same, same], [[0.6, 0, 0], [0, 0.6, 0]], [[[0.4, 0.2]], [[0.4, 0.3]], [[0.1, 0.3]]])
    assert merge(answer) == ([[1, 1]], [(1, 1, pytest.approx(0.6 * 0.9))])
    assert made.semantic(answer, categories=CATEGORIES).tolist() == [[1, 2]]


def test_semantic_and_heat_map_read_the_maps() -> None:
    maps = [[[0.1, 0.6]], [[0.3, 0.2]], [[0.4, 0.2]]]
    found = prediction([[[0.5, 0.5]]], [[0, 0, 0]], maps)
    assert made.semantic(found, categories=CATEGORIES).tolist() == [[3, 1]]
    assert made.heatmap(found, categories=CATEGORIES).tolist() == [[102, 204]]


def test_a_mask_is_no_instance_of_a_class_that_it_has_no_probability_for() -> None:
    found = made.find_instances(prediction([[[0.9, 0.1]]], [[0.0, 0.8, 0.1]]), categories=CATEGORIES)
    assert [(instance.label, instance.score) for instance in found] == [(1, pytest.approx(0.72))]
