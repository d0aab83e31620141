"""The recipes on radiologists' outlines: `adaptive` and the paper's score what the summary of a conversion says."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mammoprep.convert import RECIPES
from mammoprep.pseudo_mask import ADAPTIVE, DICE, LEARNED, segment
from mammoprep.records import Box

ROOT = Path(__file__).resolve().parents[2]
RAW = ROOT.parent / "shared" / "data" / "cdd-cesm-mini"
SOURCES = ROOT / "examples" / "benchmarks"


@pytest.fixture(scope="module")
def scripts():
    """The benchmark's own reader of outlines and table of recipes."""
    sys.path.insert(0, str(SOURCES))
    try:
        import outlined
        import pseudo_masks

        yield outlined, pseudo_masks
    finally:
        sys.path.remove(str(SOURCES))


def test_every_named_recipe_has_a_figure():
    assert DICE.keys() == set(RECIPES.values())
    assert next(iter(RECIPES.values())) == ADAPTIVE
    assert DICE[LEARNED] > DICE[ADAPTIVE] > 0.7


@pytest.mark.skipif(not RAW.is_dir(), reason=f"{RAW} is not there")
def test_the_figures_of_the_summary_are_those_of_real_outlines(scripts):
    outlined, pseudo_masks = scripts
    lesions = outlined.read(RAW)
    assert len(lesions) == 380
    assert len({lesion.image.patient for lesion in lesions}) == 42
    for named, recipe in ((RECIPES["paper"], pseudo_masks.SMALL), (ADAPTIVE, ADAPTIVE)):
        scores = [
            outlined.dice(
                segment(lesion.image.pixels, Box(*lesion.box), tissue=lesion.image.breast, recipe=recipe).mask,
                lesion.truth(),
            )
            for lesion in lesions
        ]
        assert np.mean(scores) == pytest.approx(DICE[named], abs=0.001)


@pytest.mark.skipif(not RAW.is_dir(), reason=f"{RAW} is not there")
def test_no_patient_stands_in_two_folds(scripts):
    outlined, _ = scripts
    lesions = outlined.read(RAW)
    fold = outlined.folds(lesions)
    assert len({(lesion.image.patient, int(number)) for lesion, number in zip(lesions, fold, strict=True)}) == 42
    assert np.bincount(fold).min() > 20


def test_jittered_boxes_move_by_what_is_said(scripts):
    outlined, _ = scripts
    image = outlined.Image(np.zeros((400, 400), np.uint16), np.ones((400, 400), bool), "p", "DM")
    mask = np.zeros((400, 400), bool)
    mask[100:300, 150:250] = True
    lesion = outlined.lesion_of(image, mask)
    assert (lesion.box, lesion.side) == ((150, 100, 250, 300), pytest.approx(np.sqrt(20_000)))
    rng = np.random.default_rng(0)
    boxes = [outlined.jittered(lesion, share=0.1, rng=rng) for _ in range(500)]
    edges = np.array([[box.x0, box.y0, box.x1, box.y1] for box in boxes])
    moves = (edges - lesion.box) / [100, 200, 100, 200]
    assert np.abs(moves).max() <= 0.205
    assert moves.std(axis=0) == pytest.approx([0.096] * 4, abs=0.01)
