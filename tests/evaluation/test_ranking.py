import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep import panoptic
from mammoprep.evaluation import detections
from mammoprep.evaluation.cases import Facts
from mammoprep.evaluation.detections import Instance, Ranking, rank
from mammoprep.evaluation.matching import FIXED_LEVELS, LESION, LEVELS
from mammoprep.evaluation.ranking import (
    RATES,
    Ranked,
    at_level,
    average_precision,
    operating_points,
    precision,
    ranked,
    sensitivity,
    weigh,
)
from mammoprep.evaluation.tabulate import pack, tabulate
from mammoprep.evaluation.tally import ImageTally, Tally

SEEDS = st.integers(0, 2**32 - 1)
CLASSES = (1, 2, LESION)
IMAGES = 5


def random_instances(generator, count, scores):
    """Give boxes of two classes, close enough to overlap by any share; truths have no `scores`."""
    found = []
    for i in range(count):
        box = np.zeros((9, 9), dtype=bool)
        (y, x), (height, width) = generator.integers(0, 6, 2), generator.integers(2, 5, 2)
        box[y : y + height, x : x + width] = True
        crowd = scores is None and generator.random() < 0.3
        score = 1.0 if scores is None else float(scores[i])
        found.append(Instance(int(generator.integers(1, 3)), panoptic.encode_rle(box), bool(crowd), score))
    return found


def random_rankings(generator, *, ties):
    """Match random scenes by COCOeval; scores are equal across images and, with `ties`, within an image too."""
    images = []
    for _ in range(IMAGES):
        scores = generator.integers(0, 3, 8) if ties else generator.permutation(9)[:8]
        lesions = random_instances(generator, generator.integers(0, 4), None)
        images.append((lesions, random_instances(generator, generator.integers(0, 9), scores / 10)))
    return rank(images, things={1, 2})


def in_columns(rankings):
    """Give the detections of each class of `CLASSES` on these images."""
    images = tuple(
        ImageTally(i, str(i), Facts(), {}, lesion_free=False, missing=False, scenes=None, rankings=each, confusion=None)
        for i, each in enumerate(rankings)
    )
    others = {"panoptic": "not here", "semantic": "not here"}
    table = tabulate(Tally(panoptic.make_categories(["mass", "calc"]), others, images), matching="one-to-one")
    return {category: ranked(table, n) for category, n in zip(CLASSES, (0, 1, len(table.categories)), strict=True)}


def by_cocoeval(rankings, weights, category):
    """Give the precision (T, 101) on a data set in which each image stands `weights` times in a row, NaN for none."""
    repeated = [each[category] for each, w in zip(rankings, weights, strict=True) for _ in range(w) if category in each]
    found = detections.precision(repeated)
    return np.full((LEVELS, 101), np.nan) if found is None else found


def drawn(*rows, lesions):
    """Give Ranked from (image, score, kind) with kind hit, false or crowd; a number is the levels at which it hits."""
    levels = [{"hit": LEVELS, "crowd": LEVELS, "false": 0}.get(kind, kind) for *_, kind in rows]
    return Ranked(
        image=np.array([image for image, *_ in rows], dtype=np.int32),
        score=np.array([score for _, score, _ in rows], dtype=np.float64),
        matched=pack(np.arange(LEVELS) < np.array(levels, dtype=int)[:, None]),
        ignored=pack(np.array([[kind == "crowd"] * LEVELS for *_, kind in rows], dtype=bool).reshape(-1, LEVELS)),
        lesions=np.array(lesions, dtype=np.int32),
    )


def froc(found, weights=None, level=0):
    """Give the sensitivity at each rate at IoU 0.05."""
    weights = np.ones(found.lesions.size, dtype=int) if weights is None else np.array(weights)
    return sensitivity(weigh(found, weights[None]))[0, level].tolist()


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_precision_equals_cocoeval_with_equal_scores(seed):
    rankings = random_rankings(np.random.default_rng(seed), ties=True)
    ones = np.ones((1, IMAGES), dtype=np.int64)
    for category, found in in_columns(rankings).items():
        expected = by_cocoeval(rankings, ones[0], category)
        weighed = weigh(found, ones)
        np.testing.assert_array_equal(average_precision(weighed)[0], expected.mean(axis=1))
        if found.lesions.any():
            curves = [precision(weighed, level=level)[0] for level in range(LEVELS)]
            np.testing.assert_array_equal(curves, expected)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_weight_is_how_often_cocoeval_sees_the_image(seed):
    """Equal scores are those of different images: copies of one image would take turns where its own are equal."""
    generator = np.random.default_rng(seed)
    rankings, weights = random_rankings(generator, ties=False), generator.integers(0, 4, (3, IMAGES))
    for category, found in in_columns(rankings).items():
        weighed = weigh(found, weights)
        values, curve = average_precision(weighed), precision(weighed, level=3)
        for row, each in enumerate(weights.tolist()):
            expected = by_cocoeval(rankings, each, category)
            np.testing.assert_allclose(values[row], expected.mean(axis=1), rtol=0, atol=1e-12)
            if weighed.lesions[row]:
                np.testing.assert_allclose(curve[row], expected[3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [20, 25, 50, 100, 300])
def test_recalls_are_compared_as_cocoeval_does(count):
    """7 of 100 lesions are a recall of 0.07 though 0.07 * 100 > 7; after each hit comes a false one."""
    rows = [(i, 2 * count - 2 * i - k, kind) for i in range(count) for k, kind in enumerate(("hit", "false"))]
    found, pair = drawn(*rows, lesions=[1] * count), np.tile([True, False], (LEVELS, 1))
    expected = detections.precision([Ranking(found.score[2 * i :][:2], pair, pair & False, 1) for i in range(count)])
    np.testing.assert_array_equal(precision(weigh(found, np.ones((1, count), dtype=int)), level=0)[0], expected[0])


def test_precision_by_hand():
    """Hit, false, hit of 2 lesions: precision 1 up to recall 0.5, which 51 of 101 points are, then 2/3."""
    found = drawn((0, 0.9, "hit"), (1, 0.8, "false"), (1, 0.7, "hit"), lesions=[1, 1])
    weighed = weigh(found, np.array([[1, 1]]))
    assert precision(weighed, level=0)[0].tolist() == pytest.approx([1.0] * 51 + [2 / 3] * 50)
    assert average_precision(weighed)[0].tolist() == pytest.approx([(51 + 50 * 2 / 3) / 101] * LEVELS)


def test_heavier_image_pulls_the_precision():
    """Weights 1, 3: the false one counts thrice and so does the second hit, 1 + 3 of 4 lesions: 1, then 4/7."""
    found = drawn((0, 0.9, "hit"), (1, 0.8, "false"), (1, 0.7, "hit"), lesions=[1, 1])
    assert precision(weigh(found, np.array([[1, 3]])), level=0)[0].tolist() == pytest.approx([1.0] * 26 + [4 / 7] * 75)


def test_image_of_weight_zero_is_not_there():
    found = drawn((0, 0.9, "hit"), (1, 0.8, "false"), (1, 0.8, "hit"), (0, 0.7, "false"), lesions=[1, 2])
    one, other = average_precision(weigh(found, np.array([[1, 0], [0, 1]])))[:, 0]
    assert one == pytest.approx(1.0)
    assert other == pytest.approx(51 / 101 / 2)
    assert froc(found, [1, 0])[0] == 1.0
    assert froc(found, [0, 1])[:4] == [0.0, 0.0, 0.0, 0.5]


def test_without_a_lesion_there_is_no_score():
    found = drawn((0, 0.9, "hit"), (1, 0.8, "false"), lesions=[1, 0])
    weighed = weigh(found, np.array([[0, 2], [1, 1]]))
    assert np.isnan(average_precision(weighed)).tolist() == [[True] * LEVELS, [False] * LEVELS]
    assert np.isnan(sensitivity(weighed)).all(axis=(1, 2)).tolist() == [True, False]


def test_without_a_detection_every_score_is_zero():
    weighed = weigh(drawn(lesions=[1, 2]), np.array([[1, 1], [3, 0]]))
    assert average_precision(weighed).tolist() == [[0.0] * LEVELS] * 2
    assert sensitivity(weighed).tolist() == [[[0.0] * len(RATES)] * len(FIXED_LEVELS)] * 2


EIGHT = [
    (0, 0.9, "hit"),
    (5, 0.8, "false"),
    (1, 0.7, "hit"),
    (5, 0.6, "false"),
    (2, 0.5, "hit"),
    (6, 0.4, "false"),
    (6, 0.3, "false"),
    (6, 0.2, "false"),
    (3, 0.1, "hit"),
]
"""On eight images: rates 1/8, 1/4, 1/2, 1 … allow 1, 2, 4, 8 … false ones."""


def test_sensitivity_by_hand():
    assert froc(drawn(*EIGHT, lesions=[1, 1, 1, 2, 0, 0, 0, 0])) == [2 / 5, 3 / 5, 3 / 5, 4 / 5, 4 / 5, 4 / 5]


def test_sensitivity_counts_a_heavier_image_so_often():
    """Weights 2 on images 0 and 5, 0 on 1 and 6: two false ones at a time, hits 2, 3, 4 of 5 lesions on 8 images."""
    found = drawn(*EIGHT, lesions=[1, 1, 1, 1, 0, 0, 0, 0])
    weights = [2, 0, 1, 1, 1, 2, 0, 1]
    assert froc(found, weights) == [2 / 4, 2 / 4, 1.0, 1.0, 1.0, 1.0]


def test_rate_that_lets_nothing_in_finds_nothing():
    """Four images: 1/8 of a false one each is half a one, and a false one comes first."""
    found = drawn((0, 0.9, "false"), (1, 0.8, "hit"), lesions=[1, 1, 0, 0])
    assert froc(found) == [0.0, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_images_without_lesions_share_the_false_ones():
    rows = [(0, 0.9, "false"), (0, 0.8, "hit")]
    assert froc(drawn(*rows, lesions=[1])) == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert froc(drawn(*rows, lesions=[1, 0, 0, 0, 0, 0, 0, 0])) == [1.0] * 6


@pytest.mark.parametrize("kinds", [("hit", "false"), ("false", "hit")])
def test_equal_scores_go_in_together(kinds):
    """Two images: no false one is allowed up to 1/4, one from 1/2 on."""
    found = drawn(*((i, 0.9, kind) for i, kind in enumerate(kinds)), lesions=[1, 1])
    assert froc(found) == [0.0, 0.0, 0.5, 0.5, 0.5, 0.5]


def test_detections_on_a_crowd_cost_nothing():
    found = drawn((0, 0.9, "crowd"), (0, 0.9, "crowd"), (0, 0.8, "crowd"), (1, 0.8, "hit"), lesions=[0, 1])
    assert froc(found) == [1.0] * 6


def test_sensitivity_is_read_at_each_fixed_threshold():
    """The first detection has an IoU of 0.3 with its lesion, so that above it is a false one."""
    found = drawn((0, 0.9, 6), (1, 0.8, "hit"), lesions=[1, 1])
    shares = sensitivity(weigh(found, np.array([[1, 1]])), (0.0, 0.5))
    assert shares.tolist() == [[[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [0.0, 0.5]]]


def by_cut_offs(found, weights, level, rate):
    """Try every score as the lowest let in."""
    best = 0.0
    counted, matched = ~at_level(found.ignored, level), at_level(found.matched, level)
    for cut in set(found.score.tolist()):
        times = weights[found.image] * (found.score >= cut)
        if times[counted & ~matched].sum() <= rate * weights.sum():
            best = max(best, times[counted & matched].sum() / (weights @ found.lesions))
    return best


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_sensitivity_is_the_best_of_all_cut_offs(seed):
    generator = np.random.default_rng(seed)
    weights = np.concatenate([np.ones((1, IMAGES), dtype=int), generator.integers(0, 4, (3, IMAGES))])
    for found in in_columns(random_rankings(generator, ties=True)).values():
        shares = sensitivity(weigh(found, weights))
        for row, each in enumerate(weights):
            if each @ found.lesions:
                expected = [[by_cut_offs(found, each, level, rate) for rate in RATES] for level in FIXED_LEVELS]
                assert shares[row].tolist() == expected
            else:
                assert np.isnan(shares[row]).all()


def test_operating_points_by_hand():
    """Images 4 to 7 have no lesion. One false one is let in down to 0.7, two to 0.5, four to 0.3, all to 0.1."""
    points = operating_points(
        drawn(*EIGHT, lesions=[1, 1, 1, 2, 0, 0, 0, 0]), np.array([False] * 4 + [True] * 4), level=0
    )
    assert points.score == (0.7, 0.5, 0.3, 0.1, 0.1, 0.1)
    assert points.lesion_free == (1 / 4, 2 / 4, 4 / 4, 5 / 4, 5 / 4, 5 / 4)


def test_false_ones_beside_lesions_cost_lesion_free_images_nothing():
    found = drawn((0, 0.9, "false"), (1, 0.8, "false"), (1, 0.7, "crowd"), lesions=[1, 0])
    points = operating_points(found, np.array([False, True]), level=0)
    assert points.score == (None, None, 0.9, 0.7, 0.7, 0.7)
    assert points.lesion_free == (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)


def test_no_lesion_free_image_has_no_false_ones():
    points = operating_points(drawn((0, 0.9, "false"), lesions=[1]), np.array([False]), level=0)
    assert points.score == (None, None, None, 0.9, 0.9, 0.9)
    assert points.lesion_free == (None,) * 6


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_each_operating_point_gives_its_sensitivity_at_its_rate(seed):
    generator = np.random.default_rng(seed)
    free = generator.random(IMAGES) < 0.5
    for found in in_columns(random_rankings(generator, ties=True)).values():
        shares = sensitivity(weigh(found, np.ones((1, IMAGES), dtype=int)))[0]
        for share, level in zip(shares, FIXED_LEVELS, strict=True):
            points = operating_points(found, free, level=level)
            for place, rate in enumerate(RATES):
                check_point(found, level, points.score[place], rate, share[place])
                let_in = found.score >= (np.inf if points.score[place] is None else points.score[place])
                false = let_in & ~at_level(found.matched, level) & ~at_level(found.ignored, level) & free[found.image]
                assert points.lesion_free[place] == (false.sum() / free.sum() if free.any() else None)


def check_point(found, level, score, rate, share):
    """Recount at a score, and at the next one below, which must let in too many."""
    counted = ~at_level(found.ignored, level)
    let_in = found.score >= (np.inf if score is None else score)
    assert (let_in & counted & ~at_level(found.matched, level)).sum() <= rate * IMAGES
    if found.lesions.any():
        assert share == (let_in & counted & at_level(found.matched, level)).sum() / found.lesions.sum()
    if not let_in.all():
        lower = found.score >= found.score[~let_in].max()
        assert (lower & counted & ~at_level(found.matched, level)).sum() > rate * IMAGES
