from math import fsum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep import panoptic
from mammoprep.evaluation.matching import LESION, THRESHOLDS, Scene, judge, pair, scenes
from mammoprep.evaluation.matching import overlaps as overlaps_of_runs
from mammoprep.panoptic import Segment

SEEDS = st.integers(0, 2**32 - 1)


def overlaps(first, second):
    return overlaps_of_runs(panoptic.runs_of(first), panoptic.runs_of(second))


def scene_of(ious):
    """A scene of segments with these IoUs (G, P), none of them ignored."""
    truths, guesses = (tuple(Segment(i + 1, 1, 1, (0, 0, 1, 1)) for i in range(n)) for n in ious.shape)
    return Scene(truths, guesses, ious, np.zeros(ious.shape[1], dtype=bool))


def totals(ious, matching="one-to-one"):
    """Give TP, FP, FN and the summed IoU (T,) each."""
    found = judge([scene_of(ious)], matching=matching)[0]
    return (
        found.pairs.sum(axis=0),
        found.false.sum(axis=0),
        (found.pairs == 0).sum(axis=0),
        np.array([fsum(level) for level in found.iou.T.tolist()]),
    )


def segments(ids, classes, crowds=()):
    return [
        Segment(int(i), classes[int(i)], int((ids == i).sum()), (0, 0, 0, 0), int(i) in crowds)
        for i in np.unique(ids)
        if i
    ]


def random_map(generator, *, most=6, side=9):
    """Up to `most` overlapping boxes on a background, so that some are cut to pieces of any shape."""
    ids = np.ones((side, side), dtype=np.int32)
    for i in range(generator.integers(0, most + 1)):
        y, x, height, width = (*generator.integers(0, side - 1, 2), *generator.integers(1, 6, 2))
        ids[y : y + height, x : x + width] = i + 2
    return ids


def random_ious(seed):
    """IoUs (G, P) of two random maps of one class, at most 6 x 6."""
    generator = np.random.default_rng(seed)
    truth, predicted = random_map(generator), random_map(generator)
    classes = {1: 9, **dict.fromkeys(range(2, 8), 1)}
    found = scenes(segments(truth, classes), segments(predicted, classes), overlaps(truth, predicted))
    return found[1].ious if 1 in found else np.zeros((0, 0))


def best_sum(ious, threshold, row=0, taken=frozenset()):
    """Try every assignment."""
    if row == len(ious):
        return 0.0
    sums = [best_sum(ious, threshold, row + 1, taken)]
    for column, iou in enumerate(ious[row]):
        if iou > threshold and column not in taken:
            sums.append(iou + best_sum(ious, threshold, row + 1, taken | {column}))
    return max(sums)


def matched(ious, threshold, matching="one-to-one"):
    """Give the matched (row, column) pairs at one threshold."""
    return [tuple(p) for p in np.argwhere(pair(np.array(ious)[None], matching=matching, thresholds=[threshold])[0, 0])]


def test_thresholds_are_exact_decimals():
    assert len(THRESHOLDS) == 18
    assert THRESHOLDS[:3] == (0.05, 0.1, 0.15)
    assert THRESHOLDS[-1] == 0.9


def test_overlaps_count_the_pixels_of_each_pair():
    first, second = np.array([[0, 5, 5], [5, 5, 2**24 - 1]]), np.array([[1, 1, 7], [7, 7, 7]], dtype=np.uint8)
    assert overlaps(first, second) == {(0, 1): 1, (5, 1): 1, (5, 7): 3, (2**24 - 1, 7): 1}


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_overlaps_equal_a_count_of_unique_pairs(seed):
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 2**24, (2, 3)), generator.integers(0, 4, (2, 7, 5))
    one, two = first[0][generator.integers(0, 3, (7, 5))], second[1]
    values, counts = np.unique(np.stack([one.ravel(), two.ravel()]), axis=1, return_counts=True)
    assert overlaps(one, two) == {tuple(map(int, v)): int(n) for v, n in zip(values.T, counts, strict=True)}


def test_pairs_below_the_threshold_are_dropped_before_the_assignment():
    """An assignment over all IoUs takes .09 + .09 > .12, which the threshold then deletes: 0 matches in place of 1."""
    assert matched([[0.12, 0.09], [0.09, 0.0]], 0.1) == [(0, 0)]


def test_iou_equal_to_the_threshold_is_no_match():
    assert matched([[0.5]], 0.5) == []
    assert matched([[3 / 20]], 0.15) == []
    assert matched([[np.nextafter(0.5, 1)]], 0.5) == [(0, 0)]


def test_largest_sum_wins_over_most_matches():
    assert matched([[0.9, 0.2], [0.2, 0.0]], 0.1) == [(0, 0)]
    assert matched([[0.3, 0.25], [0.25, 0.0]], 0.1) == [(0, 1), (1, 0)]


def test_equal_sums_give_the_first_pairs():
    assert matched([[0.3, 0.3]], 0.1) == [(0, 0)]
    assert matched([[0.3], [0.3]], 0.1) == [(0, 0)]
    assert matched(np.full((3, 3), 0.2), 0.1) == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_equal_sums_give_most_pairs_in_any_numbering(order):
    """1/2 = 1/4 + 1/4: RQ and SQ would hang on the ids."""
    ious = np.array([[1 / 2, 1 / 4], [1 / 4, 0.0]])
    assert len(matched(ious[list(order)], 0.1)) == len(matched(ious[:, list(order)], 0.1)) == 2


def test_paper_counts_every_pair_above_the_threshold():
    assert matched([[0.25, 0.25, 0.05]], 0.1, matching="paper") == [(0, 0), (0, 1)]


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5]))
def test_assignment_is_the_optimum_over_all_assignments(seed, threshold):
    ious = random_ious(seed)
    pairs = pair(ious[None], matching="one-to-one", thresholds=[threshold])[0, 0]
    assert pairs.sum(axis=0).max(initial=0) <= 1
    assert pairs.sum(axis=1).max(initial=0) <= 1
    assert (ious[pairs] > threshold).all()
    assert ious[pairs].sum() == pytest.approx(best_sum(ious, threshold), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_ties_are_broken_by_count_then_by_order(seed):
    """IoUs of whole 24ths make ties common; their sums are compared as whole numbers."""
    generator = np.random.default_rng(seed)
    parts = generator.integers(0, 9, generator.integers(1, 5, 2))
    every = assignments([tuple(map(int, p)) for p in np.argwhere(parts > 1)])
    best = min(every, key=lambda pairs: (-sum(parts[p] for p in pairs), -len(pairs), pairs))
    assert matched(parts / 24, 0.05) == list(best)


def assignments(pairs):
    """Give every set of pairs that shares no row and no column, each in order."""
    if not pairs:
        return [()]
    first, *others = pairs
    free = [p for p in others if p[0] != first[0] and p[1] != first[1]]
    return [*assignments(others), *((first, *rest) for rest in assignments(free))]


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_counts_do_not_hang_on_the_numbering(seed):
    ious = random_ious(seed)
    generator = np.random.default_rng(seed)
    shuffled = ious[generator.permutation(ious.shape[0])][:, generator.permutation(ious.shape[1])]
    for matching in ("one-to-one", "paper"):
        for before, after in zip(totals(ious, matching), totals(shuffled, matching), strict=True):
            assert (before == after).all()


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_one_to_one_quality_never_rises_with_the_threshold(seed):
    ious = random_ious(seed)
    hits, false, missed, summed = totals(ious)
    weight = hits + false / 2 + missed / 2
    assert (weight == weight[0]).all()
    assert (np.diff(summed) <= 1e-12).all()


def test_void_is_taken_out_of_the_union():
    truth, predicted = np.array([[5, 5, 0, 0]]), np.array([[7, 7, 7, 9]])
    found = scenes(
        segments(truth, {5: 1}), segments(predicted, {7: 1, 9: 1}), overlaps(truth, predicted)
    )  # 7: 2 of 2 true pixels and 1 of void, 9: void alone
    assert found[1].ious.tolist() == [[1.0, 0.0]]
    assert found[1].ignored.tolist() == [False, True]


@pytest.mark.parametrize(("pixels", "ignored"), [(2, False), (3, True)])
def test_prediction_is_ignored_by_more_than_half_of_void(pixels, ignored):
    truth, predicted = np.array([[0] * pixels + [5] * (6 - pixels)]), np.array([[7, 7, 7, 7, 1, 1]])
    found = scenes(segments(truth, {5: 1}), segments(predicted, {7: 2, 1: 1}), overlaps(truth, predicted))
    assert found[2].ignored.tolist() == [ignored]
    assert found[2].ious.shape == (0, 1)


def test_crowd_excuses_its_own_class_and_is_never_missed():
    truth, predicted = np.array([[5, 5, 5, 6]]), np.array([[7, 7, 8, 8]])
    found = scenes(
        segments(truth, {5: 1, 6: 2}, crowds={5}), segments(predicted, {7: 1, 8: 2}), overlaps(truth, predicted)
    )
    assert found[1].ious.shape == (0, 1)
    assert found[1].ignored.tolist() == [True]
    assert found[2].ignored.tolist() == [False]


def test_of_two_crowds_of_a_class_the_last_listed_excuses():
    """As panopticapi, which keeps one crowd a class."""
    truth, predicted = np.array([[5, 6, 6, 6]]), np.array([[7, 7, 7, 7]])
    crowds = segments(truth, {5: 1, 6: 1}, crowds={5, 6})
    shared = overlaps(truth, predicted)
    assert scenes(crowds, segments(predicted, {7: 1}), shared)[1].ignored.tolist() == [True]
    assert scenes(crowds[::-1], segments(predicted, {7: 1}), shared)[1].ignored.tolist() == [False]


def test_scene_without_segments_counts_nothing():
    for shape in ((0, 0), (0, 2), (2, 0)):
        hits, false, missed, _ = totals(np.zeros(shape))
        assert hits.tolist() == [0] * 18
        assert (false.tolist(), missed.tolist()) == ([shape[1]] * 18, [shape[0]] * 18)


def test_pairs_of_any_class_are_compared_under_lesion():
    """A mass taken for a calcification: no pair of either class, one pair with the class ignored. Stuff stays out."""
    truth, predicted = np.array([[5, 5, 5, 6]]), np.array([[7, 7, 8, 8]])
    shared = overlaps(truth, predicted)
    found = scenes(segments(truth, {5: 1, 6: 3}), segments(predicted, {7: 2, 8: 3}), shared, things={1, 2})
    assert found[1].ious.shape == (1, 0)
    assert found[2].ious.shape == (0, 1)
    assert found[LESION].ious.tolist() == [[2 / 3]]
    assert [segment.category_id for segment in (*found[LESION].truths, *found[LESION].guesses)] == [1, 2]


def test_image_without_lesions_has_no_scene_for_them():
    ids = np.array([[5, 5]])
    assert LESION not in scenes(segments(ids, {5: 3}), segments(ids, {5: 3}), overlaps(ids, ids), things={1, 2})


def test_outcome_names_the_partner_and_what_is_taken_twice():
    """As published prediction 0 counts for both lesions, and lesion 1 is found twice."""
    ious = np.array([[0.3, 0.0], [0.2, 0.4]])
    found = judge([scene_of(ious)], matching="paper", thresholds=[0.1])[0]
    assert found.pairs[:, 0].tolist() == [1, 2]
    assert found.iou[:, 0].tolist() == pytest.approx([0.3, 0.6])
    assert found.partner[:, 0].tolist() == [0, 1]
    assert found.repeated[:, 0].tolist() == [1, 0]
    found = judge([scene_of(ious)], matching="one-to-one", thresholds=[0.1])[0]
    assert (found.partner[:, 0].tolist(), found.repeated.sum()) == ([0, 1], 0)


def test_segments_stand_in_the_order_of_their_first_pixels():
    """Segment 9 begins before 5, prediction 8 before 7; without places the ids decide."""
    truth, predicted = np.array([[9, 5, 9, 5]]), np.array([[8, 8, 7, 7]])
    sides = (segments(truth, {9: 1, 5: 1}), segments(predicted, {8: 1, 7: 1}))
    places = tuple(panoptic.runs_of(side).first_pixels for side in (truth, predicted))
    assert places == ({9: 0, 5: 1}, {8: 0, 7: 2})
    shared = overlaps(truth, predicted)
    by_place, by_id = scenes(*sides, shared, places=places)[1], scenes(*sides, shared)[1]
    assert [[s.id for s in side] for side in (by_place.truths, by_place.guesses)] == [[9, 5], [8, 7]]
    assert [[s.id for s in side] for side in (by_id.truths, by_id.guesses)] == [[5, 9], [7, 8]]
