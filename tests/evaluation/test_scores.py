import json
from dataclasses import replace

import numpy as np
import pytest
from hotcoco.panoptic import PanopticEval
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.evaluation.matching import THRESHOLDS
from mammoprep.evaluation.scores import over_folds, score
from mammoprep.evaluation.tally import tally

BLANK = ["....."] * 5
SQUARE = ["mmmm.", "mmmm.", "mmmm.", "mmmm.", "....."]
QUARTERS = ["mmnn.", "mmnn.", "oopp.", "oopp.", "....."]


@pytest.fixture
def report(write, scene):
    """Score scenes drawn as (truth, prediction)."""

    def score_scenes(*drawn, matching="one-to-one"):
        return score(tally(*write(*(scene(truth, predicted) for truth, predicted in drawn))), matching=matching)

    return score_scenes


def at(report, threshold, name="mass"):
    """Give TP, FP, FN, PQ, RQ, SQ of one class at one threshold."""
    entry, level = report.scores.per_class[name], THRESHOLDS.index(threshold)
    return tuple(getattr(entry, key)[level] for key in ("TP", "FP", "FN", "PQ", "RQ", "SQ"))


def test_perfect_prediction_scores_one_everywhere(report):
    scores = report((SQUARE, SQUARE)).scores
    assert scores.sweep.PQ == scores.sweep.RQ == scores.sweep.SQ == (1.0,) * 18
    assert min(scores.sweep.AP) == pytest.approx(1.0)
    assert scores.dice.pooled == scores.dice.per_image == scores.iou.pooled == scores.iou.per_image == 1.0


def test_missed_lesion_is_a_false_negative(report):
    found = report((SQUARE, BLANK))
    assert at(found, 0.05) == (0, 0, 1, 0.0, 0.0, 0.0)
    assert found.scores.sweep.AP[0] == 0.0


def test_false_lesion_on_healthy_tissue_is_a_false_positive(report):
    found = report((BLANK, SQUARE))
    assert at(found, 0.05) == (0, 1, 0, 0.0, 0.0, 0.0)
    assert found.scores.sweep.PQ == (0.0,) * 18
    assert found.scores.sweep.AP is None
    assert found.not_given["AP"] == "nothing of it is annotated"


def test_stuff_pays_for_a_lesion_beside_the_mean(report):
    """The background has 25 pixels, 9 of them found: IoU 9/25."""
    found = report((BLANK, SQUARE)).scores
    assert found.stuff.PQ[:7] == (9 / 25,) * 7
    assert found.stuff.per_class["background"].TP[7] == 0


def test_split_lesion_counts_once(report):
    """Four quarters of IoU 1/4: one is the lesion, three are false."""
    assert at(report((SQUARE, QUARTERS)), 0.1) == (1, 3, 0, pytest.approx(0.1), pytest.approx(0.4), 0.25)


def test_split_lesion_counts_four_times_as_published(report):
    assert at(report((SQUARE, QUARTERS), matching="paper"), 0.1) == (4, 0, 0, 0.25, 1.0, 0.25)


def test_merged_lesions_count_once(report):
    found = report((["mm...", "mm...", "nn...", "nn...", "....."], ["mm...", "mm...", "mm...", "mm...", "....."]))
    assert at(found, 0.05) == (1, 0, 1, pytest.approx(1 / 3), pytest.approx(2 / 3), 0.5)
    assert at(found, 0.5)[:3] == (0, 1, 2)


def test_right_place_in_the_wrong_class_is_missed_and_false(report):
    found = report((SQUARE, [row.replace("m", "c") for row in SQUARE]))
    assert at(found, 0.05)[:3] == (0, 0, 1)
    assert at(found, 0.05, "calc")[:3] == (0, 1, 0)
    assert found.scores.sweep.PQ[0] == 0.0


def test_mean_is_over_the_classes_that_occur(report):
    found = report((SQUARE, SQUARE))
    assert found.scores.per_class["calc"].PQ is None
    assert found.scores.per_class["calc"].TP == (0,) * 18
    assert found.not_given["per_class.calc.PQ"]
    assert found.scores.sweep.PQ[0] == 1.0


def test_empty_images_give_no_quality(report):
    found = report((BLANK, BLANK))
    assert found.scores.sweep.PQ is None
    assert found.best is None
    assert found.to_json()["best"] is None
    assert {"PQ", "best", "AP", "dice.pooled", "iou.pooled"} <= found.not_given.keys()
    assert found.scores.dice.per_image == 1.0


def test_crowd_is_neither_missed_nor_paid_for(report):
    crowd = [row.replace("m", "M") for row in SQUARE]
    found = report((crowd, SQUARE), (SQUARE, SQUARE))
    assert at(found, 0.05)[:3] == (1, 0, 0)
    assert found.scores.sweep.AP[0] == pytest.approx(1.0)


def test_void_of_the_truth_is_left_out(report):
    """The prediction has 4 pixels beside the lesion on void: IoU 16/16. One wholly on void is ignored."""
    truth = ["mmmm_", "mmmm_", "mmmm_", "mmmm_", "....."]
    found = report((truth, ["mmmmm", "mmmmm", "mmmmm", "mmmmm", "....."]), (["_____"] * 5, SQUARE))
    assert at(found, 0.9) == (1, 0, 0, 1.0, 1.0, 1.0)
    assert found.scores.dice.pooled == 1.0


def test_void_of_the_prediction_is_a_miss(report):
    found = report((SQUARE, ["_____"] * 5))
    assert at(found, 0.05)[:3] == (0, 0, 1)
    assert found.scores.dice.pooled == 0.0


def test_chosen_threshold_is_the_smallest_of_the_highest(report):
    half = ["mm...", "mm...", "mm...", "mm...", "....."]  # IoU 8/16
    found = report((SQUARE, half), (SQUARE, SQUARE))
    assert found.best == 0.05
    assert found.to_json()["best"] == {"threshold": 0.05, "PQ": 0.75, "RQ": 1.0, "SQ": 0.75, "AP": 1.0}


def test_paper_matching_may_peak_inside(report):
    """The sliver of IoU 1/16 counts at 0.05 (PQ 1/2 of 15/16 + 1/16), above it is false: PQ 15/16 over 1.5."""
    sliver = ["nmmm.", "mmmm.", "mmmm.", "mmmm.", "....."]
    found = report((SQUARE, sliver), matching="paper")
    assert at(found, 0.05)[:3] == (2, 0, 0)
    assert found.scores.sweep.PQ[0] == pytest.approx(0.5)
    assert found.scores.sweep.PQ[1] == pytest.approx(15 / 16 / 1.5)
    assert found.best == 0.1


def test_ap_counts_equality_and_pq_does_not(report):
    half = ["mm...", "mm...", "mm...", "mm...", "....."]
    found, level = report((SQUARE, half)).scores, THRESHOLDS.index(0.5)
    assert found.sweep.AP[level] == pytest.approx(1.0)
    assert found.sweep.PQ[level] == 0.0


def test_dice_and_iou_by_hand(report):
    """Mass: 16 and 8 true, 8 and 12 predicted, 8 and 4 shared. Calcification: 4 predicted in place of a mass."""
    found = report(
        (SQUARE, ["mm...", "mm...", "mm...", "mm...", "....."]),
        (["mmmm.", "mmmm.", ".....", ".....", "....."], ["mmcc.", "mmcc.", "mmmm.", "mmmm.", "....."]),
    ).scores
    assert found.dice.per_class == {"mass": 2 * 12 / (24 + 20), "calc": 0.0}
    assert found.dice.pooled == pytest.approx(6 / 11 / 2)
    assert found.dice.per_image == pytest.approx((16 / 24 + 16 / 24) / 2)
    assert found.iou.per_class == {"mass": 12 / 32, "calc": 0.0}
    assert found.iou.pooled == pytest.approx(3 / 16)
    assert found.iou.per_image == 0.5


def test_dice_leaves_crowds_out_on_both_sides(report):
    truth = ["mmMM.", "mmMM.", ".....", ".....", "....."]
    assert report((truth, ["mmmm.", "mmmm.", ".....", ".....", "....."])).scores.dice.pooled == 1.0


def test_stuff_has_its_own_dice(report):
    found = report((SQUARE, BLANK)).scores
    assert found.stuff.dice == {"background": 2 * 9 / (9 + 25)}
    assert "background" not in found.dice.per_class


def test_json_has_the_keys_of_the_contract(report):
    content = report((SQUARE, QUARTERS)).to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["images"] == content["patients"] == 1
    assert content["thresholds"] == list(THRESHOLDS)
    assert content["sweep"].keys() == {"PQ", "RQ", "SQ", "AP"}
    assert content["best"].keys() == {"threshold", "PQ", "RQ", "SQ", "AP"}
    assert content["per_class"].keys() == {"mass", "calc"}
    assert content["per_class"]["mass"].keys() == {"PQ", "RQ", "SQ", "AP", "TP", "FP", "FN"}
    assert content["stuff"]["PQ"] == content["stuff"]["per_class"]["background"]["PQ"]
    assert content["dice"].keys() == content["iou"].keys() == {"pooled", "per_image", "smoothed", "per_class"}
    assert content["folds"] == []
    assert content["std"] is None
    assert content["intervals"] is None
    assert content["froc"]["false_positives_per_image"] == [0.125, 0.25, 0.5, 1, 2, 4]
    assert content["froc"]["lesion"].keys() == {"sensitivity", "score", "lesion_free"}
    assert content["strata"].keys() == {"lesion_free", "class", "size_px2"}
    assert "inner maximum" in content["notes"][0]
    assert "IoU >= t" in content["notes"][1]


@pytest.mark.parametrize(
    ("gone", "keys"),
    [("panoptic.json", ("PQ", "best", "stuff")), ("instances.json", ("AP",)), ("semantic", ("dice", "iou"))],
)
def test_missing_piece_is_not_given(write, scene, gone, keys):
    dataset, predictions = write(scene(SQUARE, SQUARE))
    (predictions / gone).rename(predictions / "elsewhere")
    found = score(tally(dataset, predictions))
    content = found.to_json()
    assert all(gone in found.not_given[key] for key in keys)
    assert {"PQ": content["sweep"]["PQ"], "AP": content["sweep"]["AP"], **content}[keys[0]] is None
    others = {"PQ": content["sweep"]["PQ"], "AP": content["sweep"]["AP"], "dice": content["dice"]}.items()
    assert all(value is not None for key, value in others if key not in keys)


def test_patients_are_not_given_without_cases(write, scene):
    dataset, predictions = write(scene(SQUARE, SQUARE))
    (dataset / "cases.csv").unlink()
    found = score(tally(dataset, predictions))
    assert found.patients is None
    assert "patient" in found.not_given["patients"]


def test_folds_give_mean_and_sample_deviation(report):
    """PQ 1, 0.25 / 2.5 = 0.1 and 0.1: mean 0.4, squared deviations .36 + .09 + .09 = .54 over 2."""
    split = report((SQUARE, QUARTERS), (SQUARE, QUARTERS))
    found = over_folds([report((SQUARE, SQUARE)), split, split])
    assert found.scores.sweep.PQ[0] == pytest.approx(0.4)
    assert found.std.sweep.PQ[0] == pytest.approx(0.27**0.5)
    assert found.scores.per_class["mass"].TP[0] == 1 + 2 + 2
    assert (found.images, found.patients) == (5, 1 + 2 + 2)
    content = found.to_json()
    assert [fold["sweep"]["PQ"][0] for fold in content["folds"]] == pytest.approx([1.0, 0.1, 0.1])
    assert content["std"]["sweep"].keys() == content["sweep"].keys()
    assert content["std"]["best"]["PQ"] == content["std"]["sweep"]["PQ"][0]
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_class_absent_in_a_fold_is_averaged_over_the_others(report):
    calc = [row.replace("m", "c") for row in SQUARE]
    found = over_folds([report((SQUARE, SQUARE)), report((SQUARE, QUARTERS), (calc, calc))])
    assert found.scores.per_class["calc"].PQ[0] == 1.0
    assert found.std.per_class["calc"].PQ is None
    assert "per_class.calc.PQ" not in found.not_given


def test_single_fold_has_no_deviation(report):
    found = over_folds([replace(report((SQUARE, SQUARE)), fold=3)])
    assert found.std is None
    assert found.to_json()["folds"][0]["fold"] == 3
    assert found.scores.sweep.PQ[0] == 1.0


def test_folds_scored_differently_have_no_mean(report):
    with pytest.raises(MammoprepError, match="no mean"):
        over_folds([report((SQUARE, SQUARE)), report((SQUARE, SQUARE), matching="paper")])


def random_side(generator, *, crowds, void):
    """Give ids, and class and crowd of each, of boxes dropped on a background."""
    ids = np.full((12, 12), int(generator.integers(1, 2**24)), dtype=np.int32)
    info = {int(ids[0, 0]): (3, False)}
    for _ in range(generator.integers(0, 7)):
        y, x, height, width = (*generator.integers(0, 11, 2), *generator.integers(1, 8, 2))
        number = int(generator.integers(1, 2**24))
        ids[y : y + height, x : x + width] = number
        info[number] = (int(generator.integers(1, 3)), bool(crowds and generator.random() < 0.25))
    if void:
        ids[generator.integers(0, 12) :, generator.integers(6, 12) :] = 0
    return ids, {number: info[number] for number in np.unique(ids).tolist() if number}


def write_random(root, sides):
    (root / "panoptic").mkdir(parents=True)
    categories = panoptic.make_categories(["mass", "calc"], ["background"])
    images = []
    for k, (ids, info) in enumerate(sides, start=1):
        panoptic.write_ids(root / "panoptic" / f"case-{k}.png", ids)
        segments = [
            panoptic.Segment(n, label, int((ids == n).sum()), panoptic.mask_box(ids == n), crowd)
            for n, (label, crowd) in info.items()
        ]
        images.append(panoptic.Image(k, f"case-{k}", *ids.shape, tuple(segments)))
    panoptic.write_panoptic(root, categories=categories, images=images)


def by_panopticapi(truths, predictions):
    """Follow panopticapi's loop pixel by pixel: {class: [TP, FP, FN, summed IoU]} at IoU > 0.5."""
    counts = {label: [0, 0, 0, 0.0] for label in (1, 2, 3)}
    for (truth, true_info), (predicted, info) in zip(truths, predictions, strict=True):
        matched, crowds = set(), {}
        for number, (label, crowd) in true_info.items():
            mask = truth == number
            if crowd:
                crowds[label] = mask
                continue
            hit = False
            for other, (other_label, _) in info.items():
                guess = predicted == other
                iou = (mask & guess).sum() / (mask | (guess & (truth != 0))).sum()
                if label == other_label and iou > 0.5:
                    hit = True
                    matched.add(other)
                    counts[label][0] += 1
                    counts[label][3] += iou
            counts[label][2] += not hit
        for other, (label, _) in info.items():
            guess = predicted == other
            excused = (guess & ((truth == 0) | crowds.get(label, np.zeros_like(guess)))).sum()
            counts[label][1] += other not in matched and excused / guess.sum() <= 0.5
    return counts


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), matching=st.sampled_from(["one-to-one", "paper"]))
def test_quality_at_a_half_equals_panopticapi_and_hotcoco(tmp_path_factory, seed, matching):
    root, generator = tmp_path_factory.mktemp("random"), np.random.default_rng(seed)
    truths = [random_side(generator, crowds=True, void=k % 2) for k in range(4)]
    predictions = [random_side(generator, crowds=False, void=k % 3 == 0) for k in range(4)]
    write_random(root / "truth", truths)
    write_random(root / "predicted", predictions)
    found = score(tally(root / "truth", root / "predicted"), matching=matching).scores
    classes, level = {**found.per_class, **found.stuff.per_class}, THRESHOLDS.index(0.5)
    sides = [[root / side / f for f in ("panoptic.json", "panoptic")] for side in ("truth", "predicted")]
    witness = PanopticEval(sides[0][0], sides[1][0], gt_folder=sides[0][1], pred_folder=sides[1][1])
    witness.evaluate()
    loop = by_panopticapi(truths, predictions)
    for label, name in ((1, "mass"), (2, "calc"), (3, "background")):
        entry, other = classes[name], witness.results()["per_class"][label]
        assert [entry.TP[level], entry.FP[level], entry.FN[level]] == loop[label][:3]
        assert [entry.TP[level], entry.FP[level], entry.FN[level]] == [other["tp"], other["fp"], other["fn"]]
        if entry.PQ:
            quality = [entry.PQ[level], entry.RQ[level], entry.SQ[level]]
            assert quality == pytest.approx([other["pq"], other["rq"], other["sq"]], abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), matching=st.sampled_from(["one-to-one", "paper"]))
@example(seed=417290, matching="one-to-one")  # two predictions of other classes with one IoU
def test_renumbered_segments_and_reordered_images_score_the_same(tmp_path_factory, seed, matching):
    root, generator = tmp_path_factory.mktemp("random"), np.random.default_rng(seed)
    pairs = [[random_side(generator, crowds=False, void=False) for _ in range(2)] for _ in range(4)]
    reports = []
    for turn in range(2):
        for side in range(2):
            write_random(root / f"{turn}{side}", [pair[side] for pair in pairs])
        reports.append(score(tally(root / f"{turn}0", root / f"{turn}1"), matching=matching).to_json())
        pairs = [[renumbered(side, generator) for side in pair] for pair in reversed(pairs)]
    assert reports[0] == reports[1]


def renumbered(side, generator):
    ids, info = side
    new = dict(zip(info, generator.permutation(1000)[: len(info)].tolist(), strict=True))
    order = generator.permutation(list(info)).tolist()
    return np.vectorize(lambda n: new[n] + 1)(ids), {new[n] + 1: info[n] for n in order}
