import csv
import json
import shutil
from typing import get_args

import numpy as np
import pytest

from mammoprep.evaluation.explain import explain
from mammoprep.evaluation.matching import THRESHOLDS, Matching
from mammoprep.evaluation.runs import Options, evaluate
from mammoprep.evaluation.scores import score
from mammoprep.evaluation.tabulate import tabulate_each
from mammoprep.evaluation.tally import tally

BLANK = ["....."] * 5
SQUARE = ["mmmm.", "mmmm.", "mmmm.", "mmmm.", "....."]
QUARTERS = ["mmnn.", "mmnn.", "oopp.", "oopp.", "....."]
CALC = [row.replace("m", "c") for row in SQUARE]
SLIVER = ["nmmm.", "mmmm.", "mmmm.", "mmmm.", "....."]
BELOW = 4  # levels of the sweep under an IoU of 1/4: 0.05, 0.10, 0.15, 0.20


def explained(dataset, predictions):
    return explain(tabulate_each(tally(dataset, predictions), get_args(Matching)))


@pytest.fixture
def whole(write, scene):
    """Explain scenes drawn as (truth, prediction); give the entry of all lesions."""

    def explain_scenes(*drawn):
        return explained(*write(*(scene(truth, predicted) for truth, predicted in drawn)))["all"]

    return explain_scenes


def up_to(levels, value):
    """Give a curve that has a value at the first levels, then 0."""
    return [value] * levels + [0] * (len(THRESHOLDS) - levels)


def test_split_lesion_is_taken_twice_as_published(whole):
    """Four quarters of IoU 1/4: one pair and three false, 1/4 over 1 + 3/2; or four pairs, 4 · 1/4 over 4."""
    found = whole((SQUARE, QUARTERS))
    assert found.lesions == 1
    assert list(found.one_to_one) == pytest.approx(up_to(BELOW, 0.1))
    assert list(found.paper) == pytest.approx(up_to(BELOW, 0.25))
    assert list(found.extra_pairs) == up_to(BELOW, 3)
    assert list(found.lesions_taken_twice) == up_to(BELOW, 1)
    assert list(found.predictions_taken_twice) == up_to(BELOW, 0)


def test_merged_lesions_take_a_prediction_twice_as_published(whole):
    """One prediction over four lesions: one pair and three missed, 1/4 over 1 + 3/2; or four pairs."""
    found = whole((QUARTERS, SQUARE))
    assert found.lesions == 4
    assert list(found.one_to_one) == pytest.approx(up_to(BELOW, 0.1))
    assert list(found.paper) == pytest.approx(up_to(BELOW, 0.25))
    assert list(found.extra_pairs) == up_to(BELOW, 3)
    assert list(found.lesions_taken_twice) == up_to(BELOW, 0)
    assert list(found.predictions_taken_twice) == up_to(BELOW, 1)


def test_pairs_that_share_nothing_are_no_extra(whole):
    found = whole((SQUARE, SQUARE), (SQUARE, CALC), (BLANK, QUARTERS))
    assert found.one_to_one == found.paper
    assert sum(found.extra_pairs + found.lesions_taken_twice + found.predictions_taken_twice) == 0


def test_pairs_add_up_over_images_and_classes(whole):
    """Extra: 3 of a mass in four, 1 of a calcification half in two, 3 of four masses in one, 1 of two in one."""
    calcs = ["ccdd.", "ccdd.", "mmnn.", "mmnn.", "....."]
    halves, both = ["mm...", "mm...", "nn...", "nn...", "....."], ["mm...", "mm...", "mm...", "mm...", "....."]
    found = whole((SQUARE, QUARTERS), (CALC, calcs), (QUARTERS, SQUARE), (halves, both))
    assert found.lesions == 1 + 1 + 4 + 2
    assert found.extra_pairs[0] == 3 + 1 + 3 + 1
    assert found.lesions_taken_twice[0] == found.predictions_taken_twice[0] == 2


def test_only_the_published_way_has_an_inner_maximum(whole):
    """The sliver's IoU of 1/16 is below half of PQ: counted at 0.05, (15/16 + 1/16) over 2; later 15/16 over 1.5."""
    found = whole((SQUARE, SLIVER))
    assert found.paper[0] == pytest.approx(1 / 2)
    assert found.paper[1] == pytest.approx(15 / 16 / 1.5)
    assert found.paper[0] < found.paper[1]
    assert list(found.extra_pairs) == up_to(1, 1)
    assert found.one_to_one == pytest.approx([15 / 16 / 1.5] * 18)


def random_scene(scene, generator):
    sides = []
    for _ in range(2):
        grid = np.full((12, 12), ".")
        for letter in generator.choice(list("mnopcd"), generator.integers(1, 7), replace=False):
            y, x, height, width = (*generator.integers(0, 11, 2), *generator.integers(2, 9, 2))
            grid[y : y + height, x : x + width] = letter
        sides.append(["".join(row) for row in grid])
    return scene(*sides)


@pytest.mark.parametrize("seed", range(4))
def test_curves_are_those_of_the_scores(write, scene, seed):
    """Each curve is that of its own matching."""
    generator = np.random.default_rng(seed)
    dataset, predictions = write(*(random_scene(scene, generator) for _ in range(8)))
    tallied = tally(dataset, predictions)
    found = explained(dataset, predictions)["all"]
    for name, curve in (("one-to-one", found.one_to_one), ("paper", found.paper)):
        assert curve == score(tallied, matching=name).scores.sweep.PQ
    assert found.one_to_one != found.paper
    assert list(found.one_to_one) == sorted(found.one_to_one, reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_extra_pairs_are_the_true_positives_of_one_way_only(write, scene, seed):
    generator = np.random.default_rng(seed)
    dataset, predictions = write(*(random_scene(scene, generator) for _ in range(8)))
    ours, theirs = (score(tally(dataset, predictions), matching=m).scores.per_class for m in ("one-to-one", "paper"))
    more = np.sum([np.subtract(theirs[name].TP, ours[name].TP) for name in ours], axis=0)
    found = explained(dataset, predictions)["all"]
    assert list(found.extra_pairs) == more.tolist()
    assert more[0] > 0


def test_each_lesion_is_of_one_size(write, scene):
    """Pixels of 20 mm²: quarters of 80 mm², squares of 320 mm²; a third image is of unknown spacing.

    Split and merged: an extra pair counts by its lesion's size, a prediction taken twice by its own.
    """
    dataset, predictions = write(scene(SQUARE, QUARTERS), scene(QUARTERS, SQUARE), scene(SQUARE, QUARTERS))
    with (dataset / "cases.csv").open("w", newline="") as file:
        rows = [(f"case-{number}", spacing, 1, 1) for number, spacing in enumerate((20**0.5, 20**0.5, ""), start=1)]
        csv.writer(file).writerows([("image_id", "pixel_spacing_mm", "scale_x", "scale_y"), *rows])
    found = explained(dataset, predictions)
    assert {name: entry.lesions for name, entry in found.items()} == {
        "all": 6,
        "79 to 314 mm2": 4,
        "314 mm2 and more": 1,
        "under 32 x 32 px": 1,
    }
    middle, large, pixels = list(found.values())[1:]
    assert [each.extra_pairs[0] for each in (middle, large, pixels)] == [3, 3, 3]
    assert [each.lesions_taken_twice[0] for each in (middle, large, pixels)] == [0, 1, 1]
    assert [each.predictions_taken_twice[0] for each in (middle, large, pixels)] == [0, 1, 0]
    assert found["all"].predictions_taken_twice[0] == 1


def test_curve_of_a_size_has_the_misses_of_the_size_and_its_own_false_ones(write, scene):
    """Of 5 mm² a pixel: the large lesion of 80 mm² is found, the small one missed; a small one beside it is false."""
    truth = ["mmmm.n", "mmmm.n", "mmmm..", "mmmm..", "......"]
    predicted = ["mmmm..", "mmmm..", "mmmm..", "mmmm..", "....nn"]
    dataset, predictions = write(scene(truth, predicted))
    text = "image_id,pixel_spacing_mm,scale_x,scale_y\ncase-1,2,1,0.8\n"
    (dataset / "cases.csv").write_text(text)
    found = explained(dataset, predictions)
    assert found["79 to 314 mm2"].one_to_one == found["79 to 314 mm2"].paper == (1.0,) * 18
    assert found["under 79 mm2"].one_to_one == found["under 79 mm2"].paper == (0.0,) * 18
    assert found["all"].one_to_one == (0.5,) * 18


@pytest.mark.parametrize("seed", range(2))
def test_counts_of_the_sizes_add_up_to_the_whole(write, scene, seed):
    generator = np.random.default_rng(seed)
    dataset, predictions = write(*(random_scene(scene, generator) for _ in range(8)))
    spacing = generator.choice(["", "2", "4"], 8).tolist()
    rows = [f"case-{number},{value},1,1" for number, value in enumerate(spacing, start=1)]
    (dataset / "cases.csv").write_text("\n".join(["image_id,pixel_spacing_mm,scale_x,scale_y", *rows, ""]))
    found = explained(dataset, predictions)
    parts = [entry for name, entry in found.items() if name != "all"]
    assert len(parts) > 2
    for key in ("lesions", "extra_pairs", "lesions_taken_twice"):
        assert np.sum([getattr(part, key) for part in parts], axis=0) == pytest.approx(getattr(found["all"], key))


def test_without_panoptic_predictions_there_is_nothing_to_explain(write, scene):
    dataset, predictions = write(scene(SQUARE, QUARTERS))
    (predictions / "panoptic.json").unlink()
    assert explained(dataset, predictions) is None


def test_nothing_annotated_and_nothing_predicted_has_no_curve(whole):
    found = whole((BLANK, BLANK))
    assert (found.lesions, found.one_to_one, found.paper) == (0, None, None)


def test_report_has_it_where_it_was_asked_for(write, scene):
    dataset, predictions = write(scene(SQUARE, QUARTERS))
    asked, plain = (
        evaluate(dataset, predictions, options=Options(resamples=0, explain=wanted)).report.to_json()
        for wanted in (True, False)
    )
    assert "explain_threshold" not in plain
    assert asked["explain_threshold"].keys() == {"all", "under 32 x 32 px"}
    assert asked["explain_threshold"]["all"]["extra_pairs"] == up_to(BELOW, 3)
    assert json.loads(json.dumps(asked, allow_nan=False)) == asked


def test_folds_have_the_mean_of_the_curves_and_the_sum_of_the_counts(write, scene, tmp_path):
    """Two split lesions in one fold, a merged and a found one in the other: 0.25 and (1/4 · 4 + 1) / 5 as published."""
    scenes = [scene(SQUARE, QUARTERS), scene(SQUARE, QUARTERS), scene(QUARTERS, SQUARE), scene(SQUARE, SQUARE)]
    dataset, predictions = write(*scenes)
    folds = [{"train": [3, 4], "val": [1, 2]}, {"train": [1, 2], "val": [3, 4]}]
    (dataset / "folds.json").write_text(json.dumps({"k": 2, "folds": folds}))
    for fold in range(2):
        shutil.copytree(predictions, tmp_path / "run" / f"fold-{fold}" / "predictions")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"dataset": str(dataset), "folds": [0, 1]}))
    found = evaluate(tmp_path / "run", options=Options(resamples=0, explain=True)).report.explained["all"]
    assert found.lesions == 2 + 5
    assert found.extra_pairs[0] == 6 + 3
    assert found.paper[0] == pytest.approx((0.25 + 2 / 5) / 2)
    assert found.one_to_one[0] == pytest.approx((0.1 + 1.25 / (2 + 3 / 2)) / 2)
