"""Rare classes: how often their images are drawn and what they weigh, worked out by hand."""

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import balance

CATEGORIES = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4", "BI-RADS 5"])


def image(number: int, *classes: int, crowd: bool = False) -> panoptic.Image:
    """Give an image with a lesion of each of the classes, and breast (category 4)."""
    segments = [
        panoptic.Segment(id_, label, 1, (0, 0, 1, 1), iscrowd=crowd) for id_, label in enumerate((*classes, 4), start=1)
    ]
    return panoptic.Image(number, f"case-{number}", 4, 4, tuple(segments))


def test_each_class_is_drawn_alike_often() -> None:
    """Classes: 1 in two images, 2 in one, none in three. Weights 1/2, 1/2, 1, 1/3, 1/3, 1/3 of 3."""
    images = [image(1, 1), image(2, 1), image(3, 2), image(4), image(5), image(6, 2, crowd=True)]
    expected = np.array([1 / 2, 1 / 2, 1, 1 / 3, 1 / 3, 1 / 3]) / 3
    assert np.allclose(balance.odds(images, CATEGORIES), expected)


def test_an_image_counts_by_its_rarest_class() -> None:
    odds = balance.odds([image(1, 1), image(2, 1, 2), image(3, 1)], CATEGORIES)
    assert np.allclose(odds, np.array([1 / 3, 1, 1 / 3]) / (5 / 3))


def test_inverse_weights_are_one_on_average() -> None:
    """Three lesions of class 1, one of class 2, none of class 3: 1/3 and 1 over their mean of 2/3."""
    weights = balance.class_weights("inverse", images=[image(1, 1, 1), image(2, 1, 2)], categories=CATEGORIES)
    assert weights is not None
    assert np.allclose(weights, [0.5, 1.5, 1, 1, 1])


def test_a_fold_without_lesions_weighs_nothing() -> None:
    weights = balance.class_weights("inverse", images=[image(1)], categories=CATEGORIES)
    assert weights is not None
    assert weights.tolist() == [1] * 5


def test_numbers_are_those_of_the_lesion_classes() -> None:
    weights = balance.class_weights("1, 2.5,4", images=[], categories=CATEGORIES)
    assert weights is not None
    assert weights.tolist() == [1, 2.5, 4, 1, 1]
    assert balance.class_weights("none", images=[], categories=CATEGORIES) is None


def test_too_few_numbers_name_the_classes() -> None:
    with pytest.raises(MammoprepError, match="lists 2 numbers. Give 3: BI-RADS 3, BI-RADS 4, BI-RADS 5"):
        balance.class_weights("1,2", images=[], categories=CATEGORIES)


@pytest.mark.parametrize("text", ["", "balanced", "1,,2", "0,1", "-1", "nan", "inf"])
def test_other_words_and_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=".*"):
        balance.parse(text)
