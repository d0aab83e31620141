"""Maps of uncertainty scored: areas and errors worked out by hand, and one line for each map that cannot be."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.cli import main
from mammoprep.errors import MammoprepError
from mammoprep.evaluation import runs
from mammoprep.evaluation.uncertainty import LEVELS, flagged, score


def counts(right: Sequence[int], wrong: Sequence[int]) -> np.ndarray:
    """Pixels at the first levels."""
    table = np.zeros((2, LEVELS), dtype=np.int64)
    table[0, : len(right)], table[1, : len(wrong)] = right, wrong
    return table


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    """Right 2, 1, 1 and wrong 0, 1, 1 at levels 0 to 2: of 8 pairs 2 + 3 are in order, 1 + 1 are ties."""
    found = flagged(counts([2, 1, 1], [0, 1, 1]))
    assert found.AUROC == 6 / 8


def test_the_most_certain_pixels_have_fewer_errors():
    """Ten pixels, errors at the last two levels: none of 5, of 8 half of the level that has one in two."""
    found = flagged(counts([7, 1, 0], [0, 1, 1]))
    assert found.error == pytest.approx(0.2)
    assert found.error_kept["0.5"] == 0
    assert found.error_kept["0.8"] == pytest.approx(0.5 / 8)
    assert found.error_kept["0.9"] == pytest.approx(1 / 9)


def test_without_errors_there_is_no_area():
    found = flagged(counts([4], []))
    assert (found.error, found.AUROC, found.error_kept["0.9"]) == (0, None, 0)


def test_one_level_tells_nothing():
    found = flagged(counts([6], [2]))
    assert found.AUROC == 0.5
    assert set(found.error_kept.values()) == {0.25}


@pytest.fixture
def scored(write: Callable[..., tuple[Path, Path]], scene: type) -> tuple[Path, Path]:
    """A mass of which one pixel was missed and one called calcification; a pixel of void and one of a crowd."""
    dataset, predictions = write(scene(["mmm.", "..M_"], ["m.c.", "...."]))
    (predictions / "uncertainty").mkdir()
    levels = np.array([[0, 9, 5, 0], [0, 0, 255, 255]], dtype=np.uint8)
    panoptic.write_png(predictions / "uncertainty" / "case-1.png", levels)
    return dataset, predictions


def test_lesion_classes_of_another_collection_are_one(scored: tuple[Path, Path]):
    """The mass that is called `cancer` is right, the pixel called `cyst` too; the missed one is wrong."""
    dataset, predictions = scored
    text = (predictions / "panoptic.json").read_text()
    (predictions / "panoptic.json").write_text(text.replace('"mass"', '"cancer"').replace('"calc"', '"cyst"'))
    found = score(dataset, predictions, across=True)
    assert found
    assert (found.pixels, found.classes.error, found.lesions.error) == (6, pytest.approx(1 / 6), pytest.approx(1 / 6))
    with pytest.raises(MammoprepError, match="lacks the category"):
        score(dataset, predictions)


def test_wrong_classes_and_wrong_lesions_are_counted_apart(scored: tuple[Path, Path]):
    found = score(*scored)
    assert found is not None
    assert found.pixels == 6
    assert found.classes.error == pytest.approx(2 / 6)
    assert found.lesions.error == pytest.approx(1 / 6)
    assert (found.classes.AUROC, found.lesions.AUROC) == (1, 1)


def test_classes_are_known_by_name(scored: tuple[Path, Path], edit: Callable[..., None]):
    """Predictions that number background 7 are read so."""
    dataset, predictions = scored
    path = predictions / "semantic" / "case-1.png"
    labels = panoptic.read_png(path)
    panoptic.write_classes(path, np.where(labels == 3, 7, labels).astype(np.uint8))

    def renumber(content: dict) -> None:
        content["categories"][2]["id"] = 7

    edit(predictions / "panoptic.json", renumber)
    assert score(dataset, predictions) == score(*scored)


def test_predictions_without_maps_have_no_such_score(write: Callable[..., tuple[Path, Path]], scene: type):
    dataset, predictions = write(scene(["m."], ["m."]))
    assert score(dataset, predictions) is None
    assert "uncertainty" not in runs.evaluate(dataset, predictions).report.to_json()


def test_the_report_has_it_and_the_table_says_it(scored: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *map(str, scored), "--resamples", "0"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "pixels of a wrong class 33.33, AUROC 100.00, left among the most certain 50%: 0.00" in text
    found = runs.evaluate(*scored).report.to_json()["uncertainty"]
    assert found["lesions"]["error_kept"]["0.99"] == pytest.approx((1 / 6 - 0.01) / 0.99)
    json.dumps(found, allow_nan=False)


def test_a_missing_map_is_an_error_unless_it_may_be(scored: tuple[Path, Path]):
    dataset, predictions = scored
    (predictions / "uncertainty" / "case-1.png").unlink()
    with pytest.raises(MammoprepError, match=r"uncertainty.case-1\.png does not exist"):
        score(dataset, predictions)
    found = score(dataset, predictions, missing_as_empty=True)
    assert found is not None
    assert (found.pixels, found.classes.error, found.classes.error_kept) == (0, None, {})


def test_a_map_of_another_size_is_an_error(scored: tuple[Path, Path]):
    dataset, predictions = scored
    panoptic.write_png(predictions / "uncertainty" / "case-1.png", np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(MammoprepError, match="no grey PNG of 8 bits and 2 x 4 pixels"):
        score(dataset, predictions)
