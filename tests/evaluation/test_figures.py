import cv2
import numpy as np
import pytest

from mammoprep.errors import MammoprepError
from mammoprep.evaluation.figures import sweep
from mammoprep.evaluation.scores import over_folds, score
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
