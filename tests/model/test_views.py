"""Views cover an image, and what is seen in them is joined: worked out by hand on a few cells."""

import pytest
import torch

from mammoprep_model.segmenter import Prediction
from mammoprep_model.views import Seen, View, join, see, views

IS_THING = (True, True, False)
LEFT, RIGHT = View(0, 0, 4, 16), View(0, 8, 4, 16)
"""Two windows of 4 cells in a row of 6: the middle two are seen by both.

The weights along 4 cells are 1/4, 3/4, 3/4, 1/4; across their one row 1.
"""
SHAPE = (4, 24)


def seen(view: View, masks: list[list[float]], scores: list[list[float]]) -> Seen:
    maps = torch.zeros(3, 1, view.width // 4)
    rows = torch.tensor(masks).reshape(len(masks), 1, view.width // 4).half()
    return Seen(view, rows, torch.tensor(scores).reshape(len(masks), 3), maps.half())


def probabilities(found: Prediction) -> list[list[float]]:
    return [[round(value, 3) for value in mask.float().sigmoid().flatten().tolist()] for mask in found.masks]


def scores(found: Prediction) -> list[list[float]]:
    return [[round(value, 4) for value in each] for each in found.scores.tolist()]


def test_windows_overlap_by_half_or_more_and_reach_every_edge() -> None:
    found = views((256, 192), side=128, flip=False)
    assert {(view.y, view.x) for view in found} == {(y, x) for y in (0, 64, 128) for x in (0, 64)}
    assert {(view.height, view.width) for view in found} == {(128, 128)}
    assert [view.x for view in views((64, 320), side=128, flip=False)] == [0, 64, 128, 192]
    assert [view.x for view in views((64, 192), side=128, flip=False)] == [0, 64]


def test_a_small_image_is_one_view_and_a_flip_another() -> None:
    assert views((64, 128), side=128, flip=False) == (View(0, 0, 64, 128),)
    assert views((64, 128), side=128, flip=True) == (View(0, 0, 64, 128), View(0, 0, 64, 128, mirrored=True))


def test_weights_fall_from_the_centre() -> None:
    assert View(0, 0, 8, 16).weights().tolist() == [[0.125, 0.375, 0.375, 0.125]] * 2
    assert View(0, 0, 4, 16).weights().tolist() == [[0.25, 0.75, 0.75, 0.25]]


def test_a_view_is_kept_in_quarters_upright_and_without_empty_masks() -> None:
    masks = torch.full((2, 4, 8), -50.0)
    masks[1, :, 4:] = 50.0
    maps = torch.zeros(3, 4, 8)
    maps[0, :, 4:] = 1
    kept = see(Prediction(masks, torch.tensor([[0.1, 0, 0], [0.7, 0, 0]]), maps), View(0, 0, 4, 8, mirrored=True))
    assert kept.masks.tolist() == [[[1, 0]]]
    assert kept.scores.tolist() == [[pytest.approx(0.7), 0, 0]]
    assert kept.maps[0].tolist() == [[1, 0]]


def test_a_view_without_masks_is_kept_too() -> None:
    nothing = Prediction(torch.full((2, 4, 8), -1.0), torch.zeros(2, 3), torch.zeros(3, 4, 8))
    assert see(nothing, View(0, 0, 4, 8)).masks.shape == (0, 1, 2)


def test_a_lesion_across_two_windows_is_one() -> None:
    found = join(
        [
            seen(LEFT, [[0.0, 0.9, 0.9, 0.8]], [[0.6, 0.2, 0]]),
            seen(RIGHT, [[0.7, 0.8, 0.9, 0.0]], [[0.2, 0.6, 0]]),
        ],
        shape=SHAPE,
        is_thing=IS_THING,
    )
    # third cell: (3/4 . 0.9 + 1/4 . 0.7) / 1 = 0.85; fourth: (1/4 . 0.8 + 3/4 . 0.8) / 1 = 0.8
    assert probabilities(found) == [[0, 0.9, 0.85, 0.8, 0.9, 0]]
    # each sees 3/4 . 0.9 + 3/4 . 0.85 + 1/4 . 0.8 = 3/4 . 0.9 + 3/4 . 0.8 + 1/4 . 0.85 of it, nearly:
    left, right = 0.675 + 0.6375 + 0.2, 0.2125 + 0.6 + 0.675
    first, second = (0.6 * left + 0.2 * right) / (left + right), (0.2 * left + 0.6 * right) / (left + right)
    assert found.scores[0].tolist() == pytest.approx([first, second, 0], abs=2e-3)


def test_a_window_that_sees_the_place_and_nothing_there_counts_as_0() -> None:
    nobody = seen(RIGHT, [], [])
    found = join([seen(LEFT, [[0, 0, 0.8, 0.8]], [[0.8, 0, 0]]), nobody], shape=SHAPE, is_thing=IS_THING)
    assert probabilities(found) == [[0, 0, 0.8, 0.8, 0, 0]]
    assert scores(found) == [[0.4, 0, 0]]  # both see 3/4 + 1/4 of it


def test_a_lesion_that_one_window_alone_can_see_keeps_its_score() -> None:
    found = join([seen(LEFT, [[1, 1, 0, 0]], [[0.8, 0, 0]]), seen(RIGHT, [], [])], shape=SHAPE, is_thing=IS_THING)
    assert scores(found) == [[0.8, 0, 0]]


def test_lesions_that_agree_in_less_than_half_stay_apart() -> None:
    # where both see, the left one covers cells 3 and 4, the right one cells 4 to 6: IoU 1/2 is enough, 0 is not
    left = seen(LEFT, [[0, 0, 1, 1]], [[0.8, 0, 0]])
    agrees = join([left, seen(RIGHT, [[0, 1, 1, 1]], [[0.8, 0, 0]])], shape=SHAPE, is_thing=IS_THING)
    assert len(agrees.masks) == 1
    apart = join([left, seen(RIGHT, [[0, 0, 1, 1]], [[0.6, 0, 0]])], shape=SHAPE, is_thing=IS_THING)
    assert probabilities(apart) == [[0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]


def test_of_two_masks_on_one_place_those_of_a_class_find_each_other() -> None:
    same = [0, 1, 1, 0]
    whole, mirrored = View(0, 0, 4, 16), View(0, 0, 4, 16, mirrored=True)
    one = seen(whole, [same, same], [[0.6, 0, 0], [0, 0.4, 0]])
    other = seen(mirrored, [same, same], [[0, 0.2, 0], [0.8, 0, 0]])
    found = join([one, other], shape=(4, 16), is_thing=IS_THING)
    assert scores(found) == [[0.7, 0, 0], [0, 0.3, 0]]


def test_views_that_see_one_lesion_as_two_classes_give_it_both() -> None:
    same = [[0, 1, 1, 0]]
    parts = [seen(View(0, 0, 4, 16), same, [[0.6, 0, 0]]), seen(View(0, 0, 4, 16, True), same, [[0, 0.5, 0]])]
    assert scores(join(parts, shape=(4, 16), is_thing=IS_THING)) == [[0.3, 0.25, 0]]


def test_a_lesion_and_a_breast_are_never_one() -> None:
    same = [[0, 1, 1, 0]]
    parts = [seen(View(0, 0, 4, 16), same, [[0.6, 0, 0]]), seen(View(0, 0, 4, 16, True), same, [[0, 0, 0.8]])]
    assert scores(join(parts, shape=(4, 16), is_thing=IS_THING)) == [[0, 0, 0.4], [0.3, 0, 0]]


def test_stuff_of_one_class_is_one_wherever_it_lies() -> None:
    parts = [
        seen(LEFT, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.9, 0]], [[0, 0, 0.9], [0, 0, 0.7], [0, 0, 0.3]]),
        seen(RIGHT, [[0, 0, 0, 1]], [[0, 0, 0.9]]),
    ]
    found = join(parts, shape=SHAPE, is_thing=IS_THING)
    # the third mask of the left window is more likely "no object", and stays alone
    assert probabilities(found)[0] == [1, 1, 0, 0, 0, 1]
    assert scores(found)[0] == [0, 0, 0.9]
    assert len(found.masks) == 2


def test_maps_are_averaged_by_the_weights() -> None:
    left, right = seen(LEFT, [], []), seen(RIGHT, [], [])
    left.maps[0], right.maps[0] = 1.0, 0.0
    found = join([left, right], shape=SHAPE, is_thing=IS_THING)
    assert found.maps[0].tolist() == [[1, 1, 0.75, 0.25, 0, 0]]
    assert found.masks.shape == (0, 1, 6)
    assert found.scores.shape == (0, 3)
