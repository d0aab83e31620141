"""One image: what is measured in its map, and which instance is whose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoprep import panoptic
from mammoprep.check import pixels
from mammoprep.check.entries import Drawn, Instance


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_areas_and_boxes_are_those_of_the_masks(seed):
    random = np.random.default_rng(seed)
    ids = random.choice([1, 2, 70_000], p=random.dirichlet((1, 1, 1)), size=random.integers(1, 12, 2)).astype(np.int32)
    measured = pixels._measure(panoptic.runs_of(ids))
    assert measured == {
        int(label): (int((ids == label).sum()), panoptic.mask_box(ids == label)) for label in np.unique(ids)
    }


def square(top, left, side):
    mask = np.zeros((24, 24), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.fixture
def job(tmp_path):
    """Three squares of one class inside one another, the largest first; give what must be looked at, in any order."""
    masks = [square(0, 0, 20), square(2, 2, 12), square(4, 4, 5)]
    ids = np.full((24, 24), 9, dtype=np.int32)
    for number, mask in enumerate(masks, start=1):
        ids[mask] = number
    for folder in ("images", "panoptic"):
        (tmp_path / folder).mkdir()
    panoptic.write_ids(tmp_path / "panoptic" / "one.png", ids)
    panoptic.write_png(tmp_path / "images" / "one.png", (ids * 20).astype(np.uint8))
    wholes = {1: masks[0].sum(), 2: masks[1].sum(), 3: masks[2].sum()}

    def make(order):
        segments = []
        for number in (1, 2, 3, 9):
            own = ids == number
            covered = {} if number in (3, 9) else {"covered": round(float(1 - own.sum() / wholes[number]), 6)}
            label = 2 if number == 9 else 1
            segments.append(panoptic.Segment(number, label, int(own.sum()), panoptic.mask_box(own), extra=covered))
        instances = [
            Instance(i, 1, panoptic.encode_rle(masks[n]), panoptic.mask_box(masks[n]), int(masks[n].sum()))
            for i, n in enumerate(order)
        ]
        image = panoptic.Image(1, "one", 24, 24, tuple(segments))
        drawn = Drawn(image, positions=(0, 1, 2, 3), instances=tuple(instances))
        return pixels.Job(tmp_path, drawn, frozenset({1}), 8, has_instances=True)

    return make


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_lesions_inside_one_another_find_their_own_instance(job, order):
    assert pixels.look(job(order)).problems == ()


def test_an_instance_too_few_is_missed_by_its_segment_alone(job):
    """Segment 3 has none; on the other two lies what is no finding then."""
    found = pixels.look(job((0, 1))).problems
    assert [problem.rule for problem in found] == ["instance-segment", "overlap", "overlap"]
    assert "segment 3" in found[0].where


def test_the_digest_is_of_the_pixels_and_not_of_the_file(job, tmp_path):
    import cv2

    before = pixels.look(job((0, 1, 2)))
    grey = panoptic.read_png(tmp_path / "images" / "one.png")
    cv2.imwrite(str(tmp_path / "images" / "one.png"), grey, (cv2.IMWRITE_PNG_COMPRESSION, 0))
    assert pixels.look(job((0, 1, 2))).digest == before.digest
    panoptic.write_png(tmp_path / "images" / "one.png", grey[::-1].copy())
    assert pixels.look(job((0, 1, 2))).digest != before.digest
