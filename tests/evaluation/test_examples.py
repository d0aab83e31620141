import pytest

from mammoprep.evaluation.examples import Example, caption, examples
from mammoprep.evaluation.matching import FIXED, SHOWN
from mammoprep.evaluation.tabulate import tabulate
from mammoprep.evaluation.tally import tally

BLANK = ["....."] * 5
SQUARE = ["mmmm.", "mmmm.", "mmmm.", "mmmm.", "....."]
HALF = ["mm...", "mm...", "mm...", "mm...", "....."]
TRACE = ["m....", ".....", ".....", ".....", "....."]
QUARTERS = ["mmnn.", "mmnn.", "oopp.", "oopp.", "....."]
CALC = [row.replace("m", "c") for row in SQUARE]


@pytest.fixture
def table_of(write, scene):
    """Tabulate scenes drawn as (patient, truth, prediction); the images are case-1, case-2 …"""

    def tabulate_scenes(*drawn, matching="one-to-one"):
        dataset, predictions = write(*(scene(truth, predicted) for _, truth, predicted in drawn))
        rows = [f"case-{number},{patient}" for number, (patient, *_) in enumerate(drawn, start=1)]
        (dataset / "cases.csv").write_text("\n".join(["image_id,patient_id", *rows, ""]))
        return tabulate(tally(dataset, predictions), matching=matching)

    return tabulate_scenes


@pytest.fixture
def choose(table_of):
    """Choose among drawn scenes."""
    return lambda *drawn, matching="one-to-one": examples([table_of(*drawn, matching=matching)])


def test_best_median_and_worst_patient_are_shown(choose):
    """PQ at 0.1: 1, 1/4 over 1 + 3/2, 1/2, 0, and 1/16 is no pair: sorted 0, 0, 0.1, 0.5, 1."""
    found = choose(
        ("a", SQUARE, SQUARE),
        ("b", SQUARE, QUARTERS),
        ("c", SQUARE, HALF),
        ("d", SQUARE, TRACE),
        ("e", SQUARE, BLANK),
    )
    assert [example.rank for example in found] == ["best", "median", "worst"]
    assert [example.name for example in found] == ["case-1", "case-2", "case-4"]
    assert [example.quality for example in found] == pytest.approx([1.0, 0.1, 0.0])


def test_quality_is_that_of_all_images_of_the_patient(choose):
    """Patient a: IoU 1 and 0.5 over two pairs, 0.75; b: one pair, one false beside it on another image, 1 over 1.5."""
    found = choose(("a", SQUARE, SQUARE), ("b", SQUARE, SQUARE), ("a", SQUARE, HALF), ("b", BLANK, SQUARE))
    assert [(example.rank, example.quality) for example in found] == [
        ("best", 0.75),
        ("worst", pytest.approx(1 / 1.5)),
    ]


def test_class_is_ignored(choose):
    found = choose(("a", CALC, SQUARE), ("b", SQUARE, HALF))
    assert [(example.name, example.quality) for example in found] == [("case-1", 1.0), ("case-2", 0.5)]


def test_iou_threshold_is_a_tenth(choose):
    """Two of 20 pixels are 1/10, which is not above it; two of 19 are."""
    twenty, nineteen = (["m" * pixels + "." * (25 - pixels)] for pixels in (20, 19))
    two = ["mm" + "." * 23]
    found = choose(("a", twenty, two), ("b", nineteen, two))
    assert FIXED[SHOWN] == 0.1
    assert [(example.name, example.quality) for example in found] == [
        ("case-2", pytest.approx(2 / 19)),
        ("case-1", 0.0),
    ]


def test_matching_of_the_table_is_used(choose):
    """Four quarters of IoU 1/4 are four pairs as published: above the half lesion of IoU 1/8."""
    eighth = ["mm...", *BLANK[1:]]
    drawn = ("a", SQUARE, QUARTERS), ("b", SQUARE, eighth)
    assert [example.quality for example in choose(*drawn, matching="paper")] == [0.25, 0.125]
    assert [example.quality for example in choose(*drawn)] == pytest.approx([0.125, 0.1])


def test_image_with_most_lesions_is_shown(choose):
    """The patient's first image has one lesion, the second four, the third four as well: the second is shown."""
    found = choose(("a", SQUARE, SQUARE), ("a", QUARTERS, BLANK), ("a", QUARTERS, BLANK), ("b", SQUARE, BLANK))
    assert [example.name for example in found] == ["case-2", "case-4"]


def test_predicted_lesions_do_not_choose_the_image(choose):
    assert [e.name for e in choose(("a", BLANK, QUARTERS), ("a", SQUARE, SQUARE))] == ["case-2"]


@pytest.mark.parametrize(("count", "ranks"), [(1, ["best"]), (2, ["best", "worst"]), (3, ["best", "median", "worst"])])
def test_few_patients_give_few_rows(choose, count, ranks):
    found = choose(*(("abc"[place], SQUARE, [SQUARE, HALF, BLANK][place]) for place in range(count)))
    assert [example.rank for example in found] == ranks
    assert len({example.name for example in found}) == count


def test_patient_without_a_lesion_is_not_shown(choose):
    found = choose(("a", BLANK, SQUARE), ("b", SQUARE, HALF), ("c", BLANK, BLANK))
    assert found == (Example("best", "case-2", 0, 0.5),)


def test_image_of_no_patient_is_not_shown(choose):
    assert [example.name for example in choose(("", SQUARE, SQUARE), ("a", SQUARE, HALF))] == ["case-2"]


def test_without_patients_nothing_is_shown(choose):
    assert choose(("", SQUARE, SQUARE), ("", SQUARE, HALF)) == ()


def test_without_lesions_nothing_is_shown(choose):
    assert choose(("a", BLANK, SQUARE), ("b", BLANK, BLANK)) == ()


def test_without_panoptic_predictions_nothing_is_shown(write, scene):
    dataset, predictions = write(scene(SQUARE, SQUARE))
    (predictions / "panoptic.json").unlink()
    assert examples([tabulate(tally(dataset, predictions), matching="one-to-one")]) == ()


def test_example_says_in_which_table_it_is(table_of):
    """Over folds the patients of all validation parts are ranked together."""
    first = table_of(("a", SQUARE, HALF))
    second = table_of(("b", SQUARE, SQUARE), ("c", SQUARE, BLANK))
    assert [(e.rank, e.name, e.table) for e in examples([first, second])] == [
        ("best", "case-1", 1),
        ("median", "case-1", 0),
        ("worst", "case-2", 1),
    ]


def test_equal_patients_are_in_the_order_of_their_images(choose):
    """Of two equally bad patients the one of the earlier image is the worst."""
    drawn = [("b", SQUARE, BLANK), ("a", SQUARE, BLANK), ("c", SQUARE, SQUARE)]
    assert [example.name for example in choose(*drawn)] == ["case-3", "case-2", "case-1"]


def test_caption_says_rank_and_quality():
    assert caption(Example("worst", "case-1", 0, 0.054)) == "worst patient, PQ 5 % at IoU 0.1"


def test_equal_patients_stand_in_the_order_of_their_first_image(choose):
    """All missed: the first one is the worst, and shows the image with most lesions."""
    two = ["mm.nn", "mm.nn", ".....", ".....", "....."]
    found = choose(("b", SQUARE, BLANK), ("a", SQUARE, BLANK), ("b", two, BLANK))
    assert [(example.rank, example.name) for example in found] == [("best", "case-2"), ("worst", "case-3")]
