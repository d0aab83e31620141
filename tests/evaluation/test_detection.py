"""Scores that ignore the class, FROC in the report, lesion-free images, and the thesis's smoothed overlap, by hand."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from mammoprep.evaluation.explain import explain
from mammoprep.evaluation.matching import THRESHOLDS, Matching
from mammoprep.evaluation.pixel_overlap import BETA
from mammoprep.evaluation.scores import over_folds, score
from mammoprep.evaluation.tabulate import tabulate_each
from mammoprep.evaluation.tally import tally

BLANK = ["....."] * 5
MASS = ["mmmm.", "mmmm.", "mmmm.", "mmmm.", "....."]
CALC = [row.replace("m", "c") for row in MASS]
HALF = ["mm...", "mm...", "mm...", "mm...", "....."]
NOWHERE = ["....m", "....m", ".....", ".....", "....."]


@pytest.fixture
def report(write, scene):
    def score_scenes(*drawn, matching="one-to-one", scores=()):
        scenes = [scene(*pair, dict(scores)) for pair in drawn]
        return score(tally(*write(*scenes)), matching=matching)

    return score_scenes


def test_right_place_in_the_wrong_class_is_right_with_the_class_ignored(report):
    found = report((MASS, CALC)).scores
    assert (found.per_class["mass"].FN[0], found.per_class["calc"].FP[0]) == (1, 1)
    assert found.sweep.PQ[0] == 0.0
    assert (found.detection.TP[0], found.detection.FP[0], found.detection.FN[0]) == (1, 0, 0)
    assert found.detection.PQ == found.detection.RQ == found.detection.SQ == (1.0,) * 18
    assert min(found.detection.AP) == pytest.approx(1.0)


def test_two_predictions_of_other_classes_on_one_lesion_count_once_with_the_class_ignored(report):
    """The mass is found by its left half (IoU 1/2); its right half, taken for calcification, is false."""
    found = report((MASS, ["mmcc.", "mmcc.", "mmcc.", "mmcc.", "....."])).scores.detection
    assert (found.TP[0], found.FP[0], found.FN[0]) == (1, 1, 0)
    assert found.PQ[0] == pytest.approx(0.5 / 1.5)


def test_stuff_is_no_lesion(report):
    found = report((BLANK, BLANK))
    assert found.scores.detection.PQ is None
    assert found.scores.detection.TP == (0,) * 18
    assert found.not_given["detection.PQ"] == "nothing of it is annotated or predicted"


def test_confusion_counts_what_was_taken_for_what(report):
    """A mass hit, a mass taken for a calcification, a calcification missed, a mass where nothing is."""
    found = report((MASS, MASS), (MASS, CALC), (CALC, BLANK), (BLANK, MASS)).to_json()["detection"]
    assert found["classes"] == ["mass", "calc", "none"]
    assert found["fixed_thresholds"] == [0.05, 0.1, 0.25, 0.5]
    assert found["confusion"] == [[[1, 1, 0], [0, 0, 1], [1, 0, 0]]] * 4


def test_confusion_follows_the_threshold(report):
    """IoU 8/16 is no match at 0.5: missed and false."""
    found = report((MASS, HALF)).scores.detection.confusion
    assert found[2] == ((1, 0, 0), (0, 0, 0), (0, 0, 0))
    assert found[3] == ((0, 0, 1), (0, 0, 0), (1, 0, 0))


def test_confusion_agrees_with_the_counts_of_random_scenes(report):
    generator = np.random.default_rng(5)
    letters = np.array(list("....mnop..cd"))
    drawn = [["".join(row) for row in letters[generator.integers(0, 12, (5, 5))]] for _ in range(12)]
    found = report(*zip(drawn[::2], drawn[1::2], strict=True)).scores.detection
    for place, threshold in enumerate((0.05, 0.1, 0.25, 0.5)):
        counts, level = np.array(found.confusion[place]), THRESHOLDS.index(threshold)
        assert counts[:-1, :-1].sum() == found.TP[level]
        assert counts[:-1, -1].sum() == found.FN[level]
        assert counts[-1].sum() == found.FP[level]


@pytest.mark.parametrize("swap", [False, True])
def test_of_two_equal_predictions_the_first_in_the_image_counts_whatever_its_number(report, swap):
    """Either half of the mass has IoU 1/2; ids follow the letters, m before c or n after c."""
    left, right = ("c", "m") if swap else ("m", "c")
    found = report((MASS, [2 * left + 2 * right + "."] * 4 + ["....."])).to_json()["detection"]["confusion"][0]
    assert found == ([[0, 1, 0], [0, 0, 0], [1, 0, 0]] if swap else [[1, 0, 0], [0, 0, 0], [0, 1, 0]])


def test_lesion_free_images_pay_for_false_lesions(report):
    two = ["m...n", "m...n", ".....", ".....", "....."]
    found = report((BLANK, two), (BLANK, BLANK), (BLANK, MASS), (MASS, two)).scores.lesion_free
    assert (found.images, found.with_false_positive, found.false_positives_per_image) == (3, 2, 1.0)


def test_without_lesion_free_images_there_is_no_rate(report):
    found = report((MASS, MASS)).scores.lesion_free
    assert (found.images, found.with_false_positive, found.false_positives_per_image) == (0, 0, None)


def test_froc_by_hand(report):
    """Four images, two lesions. Scores fall 0.9 hit, 0.8 false, 0.5 hit: the second hit costs 1/4 false an image."""
    other, second = [row.replace("m", "o") for row in NOWHERE], [row.replace("m", "n") for row in MASS]
    drawn = ((MASS, MASS), (BLANK, other), (BLANK, BLANK), (MASS, second))
    found = report(*drawn, scores={"m": 0.9, "o": 0.8, "n": 0.5}).to_json()["froc"]
    assert found["false_positives_per_image"] == [0.125, 0.25, 0.5, 1.0, 2.0, 4.0]
    assert found["lesion"]["sensitivity"] == [[0.5, 1.0, 1.0, 1.0, 1.0, 1.0]] * 4
    assert found["lesion"]["score"] == [[0.9, 0.5, 0.5, 0.5, 0.5, 0.5]] * 4
    assert found["lesion"]["lesion_free"] == [[0.0, 0.5, 0.5, 0.5, 0.5, 0.5]] * 4
    assert found["per_class"]["mass"] == found["lesion"]
    assert found["per_class"]["calc"]["sensitivity"] is None


def test_order_of_equal_scores_is_told_where_it_matters(report):
    """A hit and a false one of one score on one lesion: AP is 1 or 1/2 by their order in the list; the hit leads."""
    both = ["mmmmn", "mmmmn", "mmmm.", "mmmm.", "....."]
    found = report((MASS, both), scores={"m": 0.5, "n": 0.5})
    assert found.scores.sweep.AP[0] == pytest.approx(1.0)
    assert (found.scores.ties.low[0], found.scores.ties.high[0]) == (pytest.approx(0.5), pytest.approx(1.0))
    assert (
        "by the order of equal ones AP at 0.1 could lie anywhere from 50.00 to 100.00 %" in found.to_json()["notes"][-1]
    )


def test_different_scores_leave_nothing_to_tell(report):
    both = ["mmmmn", "mmmmn", "mmmm.", "mmmm.", "....."]
    found = report((MASS, both), scores={"m": 0.5, "n": 0.6})
    assert found.scores.ties.low == found.scores.ties.high == found.scores.sweep.AP
    assert len(found.to_json()["notes"]) == 2


def test_smoothed_overlap_is_the_formula_of_the_thesis(report):
    """Dice (2·8 + β) / (16 + 8 + β) and, nothing on nothing, β / β."""
    found = report((MASS, HALF), (BLANK, BLANK), (BLANK, MASS)).scores
    dice = [(2 * 8 + BETA) / (16 + 8 + BETA), BETA / BETA, BETA / (16 + BETA)]
    iou = [(8 + BETA) / (16 + BETA), BETA / BETA, BETA / (16 + BETA)]
    assert found.dice.smoothed == pytest.approx(sum(dice) / 3, abs=1e-15)
    assert found.iou.smoothed == pytest.approx(sum(iou) / 3, abs=1e-15)
    assert found.dice.per_image == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.dice.smoothed == pytest.approx(found.dice.per_image, abs=1e-7)


def test_over_folds_counts_are_summed_and_rates_averaged(report):
    hit, missed = report((MASS, MASS), (BLANK, MASS)), report((MASS, BLANK), (BLANK, BLANK))
    found = over_folds([hit, missed])
    assert found.scores.detection.confusion[0] == ((1, 0, 1), (0, 0, 0), (1, 0, 0))
    assert found.scores.lesion_free.images == 2
    assert found.scores.lesion_free.false_positives_per_image == 0.5
    assert found.scores.froc.lesion.sensitivity[0][3] == 0.5
    assert found.std.froc.lesion.sensitivity[0][3] == pytest.approx(0.5**0.5)
    assert found.scores.strata["class"]["mass"].sensitivity[0] == 0.5
    assert found.scores.missed.unit == "px2"


def test_strata_that_one_fold_lacks_are_averaged_over_the_others(report):
    found = over_folds([report((MASS, MASS), (BLANK, BLANK)), report((MASS, HALF))])
    assert found.scores.strata["lesion_free"]["lesion-free"].images == 1
    assert found.scores.strata["lesion_free"]["with lesions"].PQ[0] == 0.75


def test_sizes_of_folds_stand_in_their_order(write, scene):
    """The first fold has a large lesion alone, the second a small one."""
    reports = []
    for rows in (["m" * 120] * 100, ["m" * 10 + "." * 110] * 10 + ["." * 120] * 90):
        tallied = tally(*write(scene(rows, rows)))
        reports.append(replace(score(tallied), explained=explain(tabulate_each(tallied, get_args(Matching)))))
    found = over_folds(reports)
    assert list(found.scores.strata["size_px2"]) == ["under 32 x 32 px", "96 x 96 px and more"]
    assert list(found.explained) == ["all", "under 32 x 32 px", "96 x 96 px and more"]
    assert found.explained["all"].lesions == 2
