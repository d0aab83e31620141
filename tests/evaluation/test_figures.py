from dataclasses import replace
from typing import get_args

import cv2
import numpy as np
import pytest

from mammoprep.errors import MammoprepError
from mammoprep.evaluation import figures
from mammoprep.evaluation.explain import explain
from mammoprep.evaluation.figures import sweep
from mammoprep.evaluation.matching import Matching
from mammoprep.evaluation.scores import over_folds, score
from mammoprep.evaluation.statistics import intervals
from mammoprep.evaluation.tabulate import tabulate, tabulate_each
from mammoprep.evaluation.tally import tally

LESION = ["mmmm", "mmmm", "...."]
HALF = ["mm..", "mm..", "...."]


@pytest.fixture
def reports(write, scene):
    return [score(tally(*write(scene(LESION, predicted)))) for predicted in (LESION, HALF)]


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_same_report_gives_the_same_bytes(reports, tmp_path, ending, start):
    for name in ("one", "two"):
        sweep(reports[1], tmp_path / f"{name}.{ending}")
    first, second = (tmp_path / f"{name}.{ending}" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(start)
    assert not list(tmp_path.glob("*.partial"))


def test_curves_are_drawn_in_their_colours(reports, tmp_path):
    sweep(reports[1], tmp_path / "sweep.png")
    pixels = cv2.imread(str(tmp_path / "sweep.png")).reshape(-1, 3)
    for red, green, blue in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert (pixels == (blue, green, red)).all(axis=1).sum() > 100


def test_folds_add_a_band(reports, tmp_path):
    sweep(reports[0], tmp_path / "one.png")
    sweep(over_folds(reports), tmp_path / "folds.png")
    one, folds = (cv2.imread(str(tmp_path / name)) for name in ("one.png", "folds.png"))
    assert np.any(one != 255, axis=2).sum() < np.any(folds != 255, axis=2).sum()


def test_report_without_curves_is_refused(write, scene, tmp_path):
    blank = ["....", "...."]
    report = score(tally(*write(scene(blank, blank))))
    with pytest.raises(MammoprepError, match="neither PQ nor AP"):
        sweep(report, tmp_path / "sweep.png")
    assert not (tmp_path / "sweep.png").exists()


def evaluated(write, scene, *drawn):
    tallied = tally(*write(*(scene(*pair) for pair in drawn)))
    table = tabulate(tallied, matching="one-to-one")
    report = score(tallied)
    found = intervals([table], resamples=50)
    return replace(report, intervals=found, explained=explain(tabulate_each(tallied, get_args(Matching)))), table


DRAWN = ((LESION, LESION), (LESION, HALF), (["cccc", "cccc", "...."], HALF), (["....", "....", "...."], HALF))


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_every_figure_is_drawn_and_gives_the_same_bytes(write, scene, tmp_path, ending):
    report, table = evaluated(write, scene, *DRAWN)
    for turn in ("one", "two"):
        (tmp_path / turn).mkdir()
        figures.sweep(report, tmp_path / turn / f"sweep.{ending}")
        figures.precision_recall(report, [table], tmp_path / turn / f"precision-recall.{ending}")
        figures.froc(report, [table, table], tmp_path / turn / f"froc.{ending}")
        figures.strata(report, tmp_path / turn / f"strata.{ending}")
        figures.explain(report, tmp_path / turn / f"explain.{ending}")
        panel = np.full((40, 30, 3), 90, np.uint8)
        rows = [("best", {"image": panel, "heat map": None}), ("worst", {"image": panel, "heat map": panel})]
        figures.cases(rows, tmp_path / turn / f"cases.{ending}")
    drawn = sorted((tmp_path / "one").iterdir())
    assert len(drawn) == 6
    assert all(path.read_bytes() == (tmp_path / "two" / path.name).read_bytes() for path in drawn)
    assert len({path.read_bytes() for path in drawn}) == 6


def test_a_footnote_stands_below_and_takes_the_room_that_it_needs(reports, tmp_path):
    """Dark pixels in the lowest twelfth at the left, where the axis has none of its own."""
    for name, report in (("plain", reports[1]), ("marked", replace(reports[1], knows_truth=True))):
        sweep(report, tmp_path / f"{name}.png")
    plain, marked = (cv2.imread(str(tmp_path / f"{name}.png"), cv2.IMREAD_GRAYSCALE) for name in ("plain", "marked"))
    assert plain.shape == marked.shape
    low, left = plain.shape[0] // 12, plain.shape[1] // 12
    dark = [int((picture[-low:, :left] < 128).sum()) for picture in (plain, marked)]
    assert dark[0] == 0 < 100 < dark[1]


def test_curves_of_folds_are_their_mean(write, scene):
    """The lesion is found in one fold (sensitivity 1 everywhere) and in the other not at all."""
    (_, hit), (_, missed) = (
        evaluated(write, scene, (LESION, guess), (LESION, guess)) for guess in (LESION, ["....", "....", "...."])
    )
    curves = dict(figures._each_class([hit, missed], figures._sensitivity_of))
    assert curves["mass"] == pytest.approx(0.5)
    assert curves.keys() == {"all lesions, class ignored", "mass"}  # of calc there is nothing
    assert dict(figures._each_class([hit], figures._precision_of))["mass"] == pytest.approx(1.0)


def test_strata_without_panoptic_predictions_are_refused(write, scene, tmp_path):
    dataset, predictions = write(scene(LESION, LESION))
    (predictions / "panoptic.json").unlink()
    with pytest.raises(MammoprepError, match="no PQ to draw"):
        figures.strata(score(tally(dataset, predictions)), tmp_path / "strata.png")
