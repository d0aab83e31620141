import csv
from math import pi

import numpy as np
import pytest

from mammoprep.evaluation.matching import FIXED, THRESHOLDS
from mammoprep.evaluation.scores import score
from mammoprep.evaluation.strata import missed, strata
from mammoprep.evaluation.tabulate import tabulate
from mammoprep.evaluation.tally import tally

BLANK = ["....."] * 5
SQUARE = ["mmmm.", "mmmm.", "mmmm.", "mmmm.", "....."]
QUARTERS = ["mmnn.", "mmnn.", "oopp.", "oopp.", "....."]
CALC = [row.replace("m", "c") for row in SQUARE]
SIZES = {
    "size_mm2": ["under 79 mm2", "79 to 314 mm2", "314 mm2 and more"],
    "size_px2": ["under 32 x 32 px", "32 x 32 to 96 x 96", "96 x 96 px and more"],
}


@pytest.fixture
def report(write, scene):
    """Score scenes drawn as (truth, prediction) with columns of cases.csv, a list of one value an image each."""

    def score_scenes(*drawn, **columns):
        dataset, predictions = write(*(scene(truth, predicted) for truth, predicted in drawn))
        describe(dataset, **columns)
        return score(tally(dataset, predictions))

    return score_scenes


def describe(dataset, **columns):
    """Write cases.csv; images are case-1, case-2 …"""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    with (dataset / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image_id", *columns])
        writer.writeheader()
        writer.writerows({"image_id": f"case-{number}", **row} for number, row in enumerate(rows, start=1))


def line(pixels, letter="m", width=400):
    """Draw a lesion of so many pixels in one row."""
    return [letter * pixels + "." * (width - pixels)]


def box(height, width):
    return ["m" * width + "." * (100 - width)] * height + ["." * 100] * (100 - height)


def test_images_are_parted_by_view_density_and_manufacturer(report):
    found = report(
        (SQUARE, SQUARE),
        (BLANK, BLANK),
        (SQUARE, BLANK),
        view=["MLO", "CC", "MLO"],
        density=["B", "", "A"],
        manufacturer=["", "Planmed", ""],
    ).scores.strata
    counts = {name: {title: (p.images, p.lesions) for title, p in found[name].items()} for name in found}
    assert list(counts["view"].items()) == [("CC", (1, 0)), ("MLO", (2, 2))]
    assert list(counts["density"].items()) == [("A", (1, 1)), ("B", (1, 1)), ("not given", (1, 0))]
    assert list(counts["manufacturer"].items()) == [("Planmed", (1, 0)), ("not given", (2, 2))]


def test_column_that_is_absent_or_empty_gives_no_stratum(report):
    found = report((SQUARE, SQUARE), (SQUARE, SQUARE), view=["CC", "MLO"], density=["", ""])
    assert found.scores.strata.keys() == {"view", "lesion_free", "class", "size_px2"}
    assert {"strata.density", "strata.manufacturer"} <= found.not_given.keys()
    assert "strata.view" not in found.not_given


def test_stratum_of_images_by_hand(report):
    """MLO: one lesion found whole, one in four quarters: IoU 1 + 1/4, TP 2, FP 3.

    From 1/4 on all four quarters are false and the lesion is missed: IoU 1, TP 1, FP 4, FN 1. Pixels are all right.
    """
    drawn = (SQUARE, SQUARE), (SQUARE, QUARTERS), (SQUARE, BLANK)
    found = report(*drawn, view=["MLO", "MLO", "CC"]).scores.strata["view"]["MLO"]
    assert found.PQ[:4] == (pytest.approx(1.25 / 3.5),) * 4
    assert found.RQ[0] == pytest.approx(2 / 3.5)
    assert found.SQ[0] == pytest.approx(1.25 / 2)
    assert found.sensitivity[:5] == (1.0, 1.0, 1.0, 1.0, 0.5)
    assert found.false_positives[:5] == (1.5, 1.5, 1.5, 1.5, 2.0)
    assert found.PQ[4] == pytest.approx(1 / 3.5)
    assert found.dice == 1.0


def test_stratum_without_lesions_has_no_sensitivity_but_false_positives(report):
    found = report((SQUARE, SQUARE), (BLANK, QUARTERS), (BLANK, BLANK), view=["MLO", "CC", "CC"]).scores.strata["view"]
    assert found["CC"].sensitivity is None
    assert found["CC"].AP is None
    assert found["CC"].false_positives == (2.0,) * 18
    assert found["CC"].dice == 0.0
    assert found["CC"].PQ == (0.0,) * 18


def random_scene(scene, generator):
    """Drop boxes of either class on a background, crowds among the true ones; scores in tenths, so that some tie."""
    sides = []
    for names in ("mnopcdMC", "mnopcd"):
        grid = np.full((12, 12), ".")
        for letter in generator.choice(list(names), generator.integers(0, 6), replace=False):
            y, x, height, width = (*generator.integers(0, 11, 2), *generator.integers(1, 9, 2))
            grid[y : y + height, x : x + width] = letter
        sides.append(["".join(row) for row in grid])
    return scene(*sides, {letter: float(generator.integers(1, 11)) / 10 for letter in "mnopcd"})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("matching", ["one-to-one", "paper"])
def test_stratum_of_images_scores_as_those_images_alone(write, scene, seed, matching):
    generator = np.random.default_rng(seed)
    dataset, predictions = write(*(random_scene(scene, generator) for _ in range(12)))
    views = generator.choice(["CC", "MLO", ""], 12)
    describe(dataset, view=views.tolist())
    parts = score(tally(dataset, predictions), matching=matching).scores.strata["view"]
    for title, part in parts.items():
        chosen = [int(n) for n in np.flatnonzero(views == title.replace("not given", "")) + 1]
        alone = score(tally(dataset, predictions, image_ids=chosen), matching=matching).scores
        for name in ("PQ", "RQ", "SQ", "AP"):
            assert getattr(part, name) == pytest.approx(getattr(alone.sweep, name), abs=1e-12)
        true, false, absent = (np.sum([getattr(c, n) for c in alone.per_class.values()], 0) for n in ("TP", "FP", "FN"))
        assert part.sensitivity == pytest.approx(tuple(true / (true + absent)))
        assert part.false_positives == pytest.approx(tuple(false / len(chosen)))
        assert part.dice == pytest.approx(alone.dice.pooled)
        if matching == "one-to-one":
            assert part.lesions == (true + absent)[0]
        assert part.images == len(chosen)


def test_classes_are_parts_with_their_own_scores(report):
    """Masses: one of two found, one false. A calcification is found, and called a mass in the last image."""
    found = report((SQUARE, SQUARE), (SQUARE, BLANK), (CALC, CALC), (CALC, SQUARE)).scores
    mass, calc = (found.strata["class"][name] for name in ("mass", "calc"))
    assert list(found.strata["class"]) == ["mass", "calc"]
    assert (mass.images, mass.lesions, calc.images, calc.lesions) == (2, 2, 2, 2)
    assert (mass.PQ[0], calc.PQ[0]) == (1 / 2, pytest.approx(1 / 1.5))
    assert (mass.sensitivity[0], calc.sensitivity[0]) == (0.5, 0.5)
    assert (mass.false_positives[0], calc.false_positives[0]) == (0.25, 0.0)
    for name, part in (("mass", mass), ("calc", calc)):
        assert list(part.AP) == pytest.approx(list(found.per_class[name].AP))
        assert part.dice == found.dice.per_class[name]


def test_finding_that_was_left_out_makes_an_image_not_lesion_free(report):
    """Nothing is drawn in any but the first image; the third has a finding by cases.csv, of no class here."""
    found = report((SQUARE, SQUARE), (BLANK, SQUARE), (BLANK, BLANK), (BLANK, BLANK), lesion_free=["0", "1", "0", ""])
    parts = found.scores.strata["lesion_free"]
    assert {title: (part.images, part.lesions) for title, part in parts.items()} == {
        "lesion-free": (2, 0),
        "with lesions": (2, 1),
    }
    assert parts["lesion-free"].false_positives[0] == 0.5
    assert parts["with lesions"].sensitivity == (1.0,) * 18
    free = found.scores.lesion_free
    assert (free.images, free.with_false_positive, free.false_positives_per_image) == (2, 1, 0.5)


def test_drawn_lesion_outweighs_the_table(report):
    assert report((SQUARE, SQUARE), lesion_free=["1"]).scores.strata["lesion_free"].keys() == {"with lesions"}


def test_sizes_in_square_millimetres_by_hand(report):
    """A stored pixel has 2² / (1 · 0.8) = 5 mm²: 15 pixels are 75 mm², 16 are 80, 62 are 310, 63 are 315."""
    drawn = [(line(pixels), line(pixels)) for pixels in (15, 16, 62, 63)]
    scale = {"pixel_spacing_mm": ["2"] * 4, "scale_x": ["1"] * 4, "scale_y": ["0.8"] * 4}
    found = report(*drawn, **scale).scores.strata
    assert {title: part.lesions for title, part in found["size_mm2"].items()} == dict(
        zip(SIZES["size_mm2"], (1, 2, 1), strict=True)
    )
    assert "size_px2" not in found


def test_edges_are_the_areas_of_discs_10_and_20_mm_across(report):
    """Four pixels are a disc 10 mm across, 16 one 20 mm across: 3 pixels are under, 5 and 15 between, 17 above."""
    spacing = str((pi * 25 / 4) ** 0.5)
    drawn = [(line(pixels), line(pixels)) for pixels in (3, 5, 15, 17)]
    ones = ["1"] * 4
    found = report(*drawn, pixel_spacing_mm=[spacing] * 4, scale_x=ones, scale_y=ones).scores.strata["size_mm2"]
    assert [part.lesions for part in found.values()] == [1, 2, 1]


def test_a_mirrored_image_has_the_area_of_the_image(report):
    plain, mirrored = (
        report((SQUARE, SQUARE), pixel_spacing_mm=["2"], scale_x=[scale], scale_y=["0.5"]).scores
        for scale in ("0.5", "-0.5")
    )
    assert mirrored.strata.keys() & SIZES.keys() == {"size_mm2"}
    assert mirrored.missed == plain.missed


@pytest.mark.parametrize(
    ("spacing", "right", "down"),
    [
        ("", "1", "1"),
        ("2", "", "1"),
        ("2", "1", "0"),
        ("0", "1", "1"),
        ("nan", "1", "1"),
        ("2", "1", "-1"),
        ("x", 1, 1),
    ],
)
def test_unknown_spacing_leaves_stored_pixels(report, spacing, right, down):
    found = report((SQUARE, SQUARE), pixel_spacing_mm=[spacing], scale_x=[right], scale_y=[down]).scores
    assert found.strata.keys() & SIZES.keys() == {"size_px2"}
    assert found.strata["size_px2"].keys() == {"under 32 x 32 px"}
    assert found.missed.unit == "px2"


def test_edges_in_stored_pixels_belong_to_the_larger_size(report):
    """31 x 33 are 1,023 pixels, 32 x 32 1,024; 95 x 97 are 9,215, 96 x 96 9,216."""
    drawn = [(box(*size), box(*size)) for size in ((31, 33), (32, 32), (95, 97), (96, 96))]
    found = report(*drawn).scores.strata["size_px2"]
    assert {title: part.lesions for title, part in found.items()} == dict(
        zip(SIZES["size_px2"], (1, 2, 1), strict=True)
    )


def test_images_with_and_without_spacing_are_measured_apart(report):
    """The first image has pixels of 9 mm², 16 of them 144; the second, with two lesions, is measured in pixels."""
    two = ["mm...", "mm...", "...nn", "...nn", "....."]
    columns = {"pixel_spacing_mm": ["3", ""], "scale_x": ["1", "1"], "scale_y": ["1", "1"]}
    found = report((SQUARE, SQUARE), (two, two), **columns).scores
    assert {title: p.lesions for title, p in found.strata["size_mm2"].items()} == {"79 to 314 mm2": 1}
    assert {title: p.lesions for title, p in found.strata["size_px2"].items()} == {"under 32 x 32 px": 2}
    assert found.missed.unit == "px2"


def test_miss_counts_by_the_lesion_and_a_false_one_by_itself(report):
    """Pixels of 5 mm²: a lesion of 80 mm² is missed, a false one of 20 mm² is on the image without a lesion."""
    ones = ["1"] * 2
    spacing = {"pixel_spacing_mm": [str(5**0.5)] * 2, "scale_x": ones, "scale_y": ones}
    found = report((SQUARE, BLANK), (BLANK, ["mm...", "mm...", *BLANK[2:]]), **spacing).scores.strata["size_mm2"]
    small, middle = (found[title] for title in SIZES["size_mm2"][:2])
    assert list(found) == SIZES["size_mm2"][:2]
    assert (small.lesions, small.sensitivity, small.false_positives[0]) == (0, None, 0.5)
    assert (middle.lesions, middle.sensitivity[0], middle.false_positives[0]) == (1, 0.0, 0.0)
    assert small.AP is small.dice is middle.AP is middle.dice is None


@pytest.mark.parametrize("matching", ["one-to-one", "paper"])
def test_counts_add_up_over_the_sizes(write, scene, matching):
    """Lesions, hits and false positives of all sizes, in mm² and in pixels, are those of the whole."""
    generator = np.random.default_rng(5)
    dataset, predictions = write(*(random_scene(scene, generator) for _ in range(12)))
    spacing = generator.choice(["", "1", "3", "6"], 12).tolist()
    describe(dataset, pixel_spacing_mm=spacing, scale_x=["1"] * 12, scale_y=["0.9"] * 12)
    scores = score(tally(dataset, predictions), matching=matching).scores
    parts = [part for name in SIZES for part in scores.strata[name].values()]
    assert len(parts) == 4
    true, false, absent = (np.sum([getattr(c, n) for c in scores.per_class.values()], 0) for n in ("TP", "FP", "FN"))
    assert np.sum([np.multiply(part.false_positives, 12) for part in parts], 0) == pytest.approx(false)
    if matching == "one-to-one":
        assert sum(part.lesions for part in parts) == (true + absent)[0]
        hits = [np.multiply(part.sensitivity, part.lesions) for part in parts if part.lesions]
        assert np.sum(hits, 0) == pytest.approx(true)


def test_sizes_of_missed_and_found_lesions_by_hand(report):
    """Pixels of 0.5² / (0.5 · 0.25) = 2 mm²: lesions of 1, 2, 3, 5 and 8 are missed, those of 4 and 7 found.

    The one of 4 is taken for the other class, which counts; the one of 7 has IoU 2/7, so that 0.5 misses it too.
    """
    drawn = [(line(pixels), line(0)) for pixels in (1, 2, 3, 5, 8)]
    drawn += [(line(4), line(4, "c")), (line(7), line(2))]
    scale = {"pixel_spacing_mm": ["0.5"] * 7, "scale_x": ["0.5"] * 7, "scale_y": ["0.25"] * 7}
    found = report(*drawn, **scale).scores.missed
    assert found.unit == "mm2"
    assert [sizes.count for sizes in found.missed] == [5, 5, 5, 6]
    assert found.missed[0].quartiles == pytest.approx((2, 4, 6, 10, 16))
    assert found.missed[FIXED.index(0.5)].quartiles == pytest.approx((2, 4.5, 8, 13, 16))
    assert found.found[0].quartiles == pytest.approx((8, 9.5, 11, 12.5, 14))
    assert found.found[FIXED.index(0.5)].quartiles == pytest.approx((8,) * 5)


def test_nothing_missed_has_no_quartiles(report):
    found = report((SQUARE, SQUARE)).scores.missed
    assert [(sizes.count, sizes.quartiles) for sizes in found.missed] == [(0, None)] * len(FIXED)
    assert found.found[0].quartiles == (16,) * 5


def test_detections_alone_give_lesions_and_precision_of_the_parts(write, scene):
    dataset, predictions = write(scene(SQUARE, SQUARE), scene(QUARTERS, BLANK))
    (predictions / "panoptic.json").unlink()
    describe(dataset, view=["CC", "MLO"])
    table = tabulate(tally(dataset, predictions), matching="one-to-one")
    parts = strata(table)
    assert parts.keys() == {"view", "lesion_free", "class"}
    assert [(part.images, part.lesions) for part in parts["view"].values()] == [(1, 1), (1, 4)]
    assert [part.AP[0] for part in parts["view"].values()] == pytest.approx([1.0, 0.0])
    assert parts["view"]["CC"].PQ is parts["view"]["CC"].sensitivity is parts["view"]["CC"].false_positives is None
    assert missed(table) is None
    assert len(parts["class"]["mass"].AP) == len(THRESHOLDS)
