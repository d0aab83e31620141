"""Copies of a picture are found, other pictures are not: on hand-made ones, phantoms and real mammograms."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mammoprep import phantom
from mammoprep.check import duplicates
from mammoprep.check.duplicates import NEAREST, distances, fingerprint
from mammoprep.phantom import studies

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "cdd-cesm-mini"


def prints(pictures):
    return np.stack([fingerprint(picture) for picture in pictures])


def nearest(pictures):
    apart = distances(prints(pictures), prints(pictures))
    return float(apart[np.triu_indices(len(pictures), 1)].min())


def copies(grey):
    """A copy in JPEG, one at half the size, one darker, one with noise."""
    jpeg = cv2.imdecode(cv2.imencode(".jpg", grey, (cv2.IMWRITE_JPEG_QUALITY, 50))[1], cv2.IMREAD_GRAYSCALE)
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    darker = (255 * (grey / 255.0) ** 1.6).astype(np.uint8)
    noisy = (grey + np.random.default_rng(0).normal(0, 3, grey.shape)).clip(0, 255).astype(np.uint8)
    return [jpeg, half, darker, noisy]


def test_a_fingerprint_says_where_a_picture_brightens():
    right = np.tile(np.arange(17, dtype=np.uint8) * 5, (17, 1))
    assert np.bitwise_count(fingerprint(right)).sum() == 256
    assert np.bitwise_count(fingerprint(right[:, ::-1])).sum() == 0
    assert np.bitwise_count(fingerprint(right + right.T)).sum() == 512


def test_the_distance_is_the_share_of_places_where_only_one_brightens():
    one, other = np.zeros((2, 8), dtype=np.uint64)
    one[0], other[0] = 0b0111, 0b1110  # four places in all, two in both
    other[7] = 0b11  # six in all
    assert distances(one[None], other[None]) == pytest.approx(np.array([[4 / 6]]))
    assert distances(one[None], one[None]) == 0


def test_the_same_pixels_and_the_same_picture_are_told_apart():
    digests = [b"a", b"a", b"b", b"c", b"d"]
    same, far = np.full(8, 7, np.uint64), np.full(8, 7 << 8, np.uint64)
    found = list(
        duplicates.find(
            ["one", "two", "three", "four", "five"],
            digests,
            [same, same, same, same, far],
            {"one": "p1", "two": "p1", "three": "p1", "four": "p2", "five": "p3"},
        )
    )
    assert [(problem.rule, problem.where) for problem in found] == [
        ("identical-images", "images/two.png"),
        ("near-duplicates", "images/four.png"),  # of one
        ("near-duplicates", "images/four.png"),  # of three, which is another picture of the same patient
    ]


def test_pairs_are_found_wherever_they_stand_in_a_long_list():
    """150 fingerprints are compared in three portions."""
    random = np.random.default_rng(0).integers(0, 2**63, (150, 8)).astype(np.uint64)
    random[149] = random[3]
    random[70] = random[69]
    assert [pair[:2] for pair in duplicates._pairs(random, np.arange(150))] == [(3, 149), (69, 70)]
    groups = np.arange(150)
    groups[149] = 3
    assert [pair[:2] for pair in duplicates._pairs(random, groups)] == [(69, 70)]


def test_phantoms_are_no_duplicates_and_their_copies_are():
    drawn = [phantom.draw(view)[0] for view in studies.plan(8, seed=3, long_side=256)]
    pictures = [(grey.astype(float) * 255 / grey.max()).astype(np.uint8) for grey in drawn]
    assert nearest(pictures) > NEAREST + 0.05
    for picture in pictures[::8]:
        assert distances(prints([picture]), prints(copies(picture))).max() < NEAREST


def test_views_of_real_patients_are_no_duplicates_and_their_copies_are():
    """Low-energy and subtracted image of a breast, and its two views, are different pictures."""
    paths = sorted(REAL.glob("*/*.jpg"))
    if not paths:
        pytest.skip(f"{REAL} is not there: real mammograms are needed")
    pictures = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    assert len(pictures) == 191
    assert nearest(pictures) > NEAREST + 0.05
    for picture in pictures[::20]:
        assert distances(prints([picture]), prints(copies(picture))).max() < NEAREST
