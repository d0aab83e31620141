"""Counts worked out by hand."""

import pytest

from mammoprep.inventory.counts import Lesion, Look, OfClass, count, is_known
from mammoprep.records import Skipped

LOOKS = [
    Look("p1", "s1", "L", "CC", "B", "training", lesions=(Lesion("a", (0, 0, 40, 10)), Lesion("b", (39, 9, 50, 50)))),
    Look("p1", "s1", "R", "CC", "B", "training", lesion_free=True),
    Look("p2", "s2", "L", "MLO", "", "test", spacing_mm=0.1, lesions=(Lesion("a", (5, 5, 105, 25)), Lesion("a", None))),
    Look("p3", "", "", "CC", "", "test"),
]


@pytest.fixture
def found():
    skipped = [Skipped("x", "finding", "later"), Skipped("y", "table", "rare")] + [Skipped("z", "table", "often")] * 2
    return count(LOOKS, source="here", labels="kind", classes=("a", "b", "c"), files=3, skipped=skipped)


def test_totals(found):
    assert (found.images, found.files, found.patients, found.studies) == (4, 3, 3, 2)
    assert (found.lesion_free, found.without_finding) == (1, 1)


def test_classes(found):
    assert found.classes == {"a": OfClass(3, 2, 2), "b": OfClass(1, 1, 1), "c": OfClass(0, 0, 0)}


def test_images_by_what_is_known_of_them(found):
    assert found.images_by["laterality"] == {"L": 2, "R": 1, "not stated": 1}
    assert found.images_by["view"] == {"CC": 3, "MLO": 1}
    assert found.images_by["density"] == {"B": 2, "not stated": 2}
    assert found.images_by["manufacturer"] == {"not stated": 4}
    assert found.findings_per_image == {"0": 2, "1": 0, "2": 2}


def test_sizes_are_of_the_longer_side(found):
    """40, 41 and 100 pixels, the last of 0.1 mm; one of no known size."""
    assert found.sizes_px["32-64"] == {"a": 1, "b": 1, "c": 0}
    assert found.sizes_px["64-128"] == {"a": 1, "b": 0, "c": 0}
    assert found.sizes_px["not stated"] == {"a": 1, "b": 0, "c": 0}
    assert sum(sum(counts.values()) for counts in found.sizes_px.values()) == 4
    assert found.sizes_mm["10-20"] == {"a": 1, "b": 0, "c": 0}
    assert found.sizes_mm["not stated"] == {"a": 2, "b": 1, "c": 0}


def test_sizes_that_nobody_knows_are_told_apart(found):
    assert is_known(found.sizes_mm)
    nothing = count(LOOKS[:2], source="", labels="", classes=("a", "b"), files=0, skipped=())
    assert not is_known(nothing.sizes_mm)
    assert "not stated" not in nothing.sizes_px


@pytest.mark.parametrize(
    ("other", "pairs"), [((9, 9, 20, 20), 1), ((10, 0, 20, 10), 0), ((0, 0, 10, 10), 1), ((2, 2, 3, 3), 1), (None, 0)]
)
def test_boxes_that_share_pixels_overlap(other, pairs):
    looks = [Look("p", lesions=(Lesion("a", (0, 0, 10, 10)), Lesion("a", other)))]
    found = count(looks, source="", labels="", classes=("a",), files=1, skipped=())
    assert (found.overlapping, found.overlapping_images) == (pairs, pairs)


def test_many_findings_are_one_row():
    looks = [Look("p", lesions=(Lesion("a", None),) * number) for number in (5, 7)]
    found = count(looks, source="", labels="", classes=("a",), files=2, skipped=())
    assert found.findings_per_image == {"0": 0, "1": 0, "2": 0, "3": 0, "4": 0, "5 or more": 2}


def test_reasons_stand_by_stage_the_frequent_first(found):
    assert list(found.skipped) == ["table", "finding"]
    assert list(found.skipped["table"].items()) == [("often", 2), ("rare", 1)]
