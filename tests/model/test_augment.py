"""A view shows what the settings say: whole image or window, rescaled or not, on a lesion where one is wanted."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mammoprep_model.augment import Sample, View, augment, variants
from mammoprep_model.config import TrainConfig

PLAIN = TrainConfig(size=4, crop=6, scale=(1, 1), flip=False, batch_size=2)
SAMPLE = Sample(
    grey=np.array([[0, 51, 102, 255]] * 4, dtype=np.uint8),
    index=np.array([[1, 1, 2, 2], [1, 1, 2, 2], [2, 2, 2, 2], [2, 2, 2, 0]], dtype=np.uint16),
    labels=np.array([2, 0]),
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_augmentation_a_view_is_the_image_padded_right_and_below() -> None:
    view = augment(SAMPLE, config=PLAIN, generator=generator())
    assert np.allclose(view.image[:4, :4], [[0, 0.2, 0.4, 1]] * 4)
    assert view.image.shape == (6, 6)
    assert not view.image[4:].any()
    assert not view.image[:, 4:].any()
    assert view.masks.shape == (2, 6, 6)
    assert view.masks.sum(axis=(1, 2)).tolist() == [4, 11]
    assert view.labels.tolist() == [2, 0]


def test_a_stretched_view_is_a_square_of_the_image_and_its_masks() -> None:
    """Four columns of a 4 x 2 image, the lesion in its right half."""
    sample = Sample(np.repeat([[0, 200]], 4, axis=0).astype(np.uint8), np.array([[1, 2]] * 4, np.uint16), SAMPLE.labels)
    view = augment(sample, config=replace(PLAIN, crop=4, fit="stretch"), generator=generator())
    assert np.allclose(view.image * 255, [[0, 50, 150, 200]] * 4)
    assert view.masks[1].tolist() == [[0, 0, 1, 1]] * 4


def test_contrast_is_equalised_locally_at_the_size_that_the_network_sees() -> None:
    grey = np.random.default_rng(0).integers(90, 110, (64, 64), dtype=np.uint8)
    sample = Sample(grey, np.ones((64, 64), np.uint16), np.array([0]))
    config = replace(PLAIN, size=32, crop=32, clahe=True)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    expected = cv2.createCLAHE(2.0, (8, 8)).apply(small)
    assert expected.std() > 1.5 * small.std()
    assert np.allclose(augment(sample, config=config, generator=generator()).image * 255, expected)


def test_flip_mirrors_image_and_masks_together() -> None:
    views = [augment(SAMPLE, config=replace(PLAIN, flip=True), generator=generator(seed)) for seed in range(20)]
    mirrored = [view for view in views if view.image[0, 0] == 1]
    assert 0 < len(mirrored) < 20
    assert np.allclose(mirrored[0].image[0, :4], [1, 0.4, 0.2, 0])
    assert mirrored[0].masks[0, 0, :4].tolist() == [0, 0, 1, 1]


def test_masks_outside_the_crop_are_dropped() -> None:
    views = [augment(SAMPLE, config=replace(PLAIN, crop=1), generator=generator(seed)) for seed in range(60)]
    assert {tuple(view.labels.tolist()) for view in views} == {(2,), (0,), ()}
    assert all(view.masks.any(axis=(1, 2)).all() for view in views)


def test_a_view_without_any_mask_keeps_the_shape_of_the_window() -> None:
    empty = replace(SAMPLE, index=np.zeros((4, 4), dtype=np.uint16), labels=np.zeros(0, dtype=np.int64))
    view = augment(empty, config=PLAIN, generator=generator())
    assert view.masks.shape == (0, 6, 6)
    assert view.masks.dtype == np.float32
    assert view.labels.dtype == np.int64


def test_rescaling_changes_image_and_masks_alike() -> None:
    view = augment(SAMPLE, config=replace(PLAIN, scale=(2, 2), crop=8), generator=generator())
    assert view.masks.sum(axis=(1, 2)).tolist() == [16, 44]
    assert view.masks[0, :4, :4].all()


def test_sixteen_bits_become_the_same_floats_as_eight() -> None:
    deep = replace(SAMPLE, grey=SAMPLE.grey.astype(np.uint16) * 257)
    views = [augment(sample, config=PLAIN, generator=generator()) for sample in (SAMPLE, deep)]
    assert np.allclose(views[0].image, views[1].image)


def views(config: TrainConfig, *, sample: Sample = SAMPLE, draws: int = 40) -> list[View]:
    return [augment(sample, config=config, generator=generator(seed)) for seed in range(draws)]


def test_the_default_draws_scale_corner_and_mirroring_in_this_order() -> None:
    """The stream of the large scale jitter never changes: a seed's run, the demo's too, hangs on it."""
    grey = np.arange(1200, dtype=np.uint16).reshape(40, 30)
    sample = replace(SAMPLE, grey=grey, index=np.ones((40, 30), np.uint16))
    for seed in range(10):
        drawn = generator(seed)
        height = round(40 * drawn.uniform(1, 2))
        width = round(30 * height / 40)
        top, left = (int(drawn.integers(side - 16, endpoint=True)) for side in (height, width))
        larger = cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR)[top : top + 16, left : left + 16]
        expected = larger[:, ::-1] if drawn.random() < 0.5 else larger
        view = augment(sample, config=TrainConfig(size=40, crop=16, scale=(1, 2)), generator=generator(seed))
        assert np.array_equal(np.round(view.image * 65535), expected)


def test_no_augmentation_gives_one_view_and_flip_two() -> None:
    config = replace(PLAIN, flip=True, scale=(0.1, 2))
    assert len({view.image.tobytes() for view in views(replace(config, augment="none"))}) == 1
    flipped = {view.image[:4, :4].tobytes() for view in views(replace(config, augment="flip"))}
    plain = augment(SAMPLE, config=replace(config, augment="none"), generator=generator()).image[:4, :4]
    assert flipped == {plain.tobytes(), plain[:, ::-1].tobytes()}


def test_crop_moves_the_window_at_one_scale() -> None:
    seen = views(replace(PLAIN, augment="crop", scale=(0.1, 2), crop=2))
    assert {tuple(view.image[0]) for view in seen} == {
        tuple(np.float32(row) / np.float32(255)) for row in ([0, 51], [51, 102], [102, 255])
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"augment": "none"}, 1),
        ({"augment": "flip"}, 2),
        ({"augment": "flip", "flip": False}, 1),
        ({"augment": "crop"}, 0),
        ({"augment": "lsj"}, 0),
        ({"augment": "none", "view": "windows"}, 0),
        ({"augment": "flip", "view": "both"}, 0),
    ],
)
def test_views_come_back_only_where_chance_has_no_more_than_two(values: dict, expected: int) -> None:
    assert variants(replace(TrainConfig(), **values)) == expected


LARGE = Sample(
    grey=np.arange(60 * 40, dtype=np.uint16).reshape(60, 40),
    index=np.pad(np.full((3, 2), 1, dtype=np.uint16), ((50, 7), (4, 34))),
    labels=np.array([0]),
    lesions=np.array([[4, 50, 2, 3]]),
)
"""60 x 40 pixels, the lesion in 3 rows and 2 columns from row 50, column 4."""


def test_a_window_shows_stored_pixels() -> None:
    config = replace(PLAIN, view="windows", size=10, crop=8)
    for view in views(config, sample=LARGE):
        values = np.round(view.image * 65535).astype(int)
        top, left = divmod(values[0, 0], 40)
        assert np.array_equal(values, LARGE.grey[top : top + 8, left : left + 8])


def test_both_views_come_in_turn_by_chance() -> None:
    seen = views(replace(PLAIN, view="both", size=8, crop=8), sample=LARGE)
    stored = [view for view in seen if np.array_equal(np.diff(view.image[0] * 65535).round(), np.ones(7))]
    assert 10 < len(stored) < 30


def test_a_share_of_the_windows_holds_a_lesion() -> None:
    config = replace(PLAIN, view="windows", crop=8)
    hits = [
        sum(view.masks.sum() == 6 for view in views(replace(config, lesion_crops=share), sample=LARGE, draws=200))
        for share in (0.0, 0.5, 1.0)
    ]
    assert hits[0] < 20
    assert 80 < hits[1] < 130
    assert hits[2] == 200


def test_a_lesion_is_held_whatever_the_scale() -> None:
    config = TrainConfig(size=60, crop=16, scale=(0.5, 2), lesion_crops=1.0)
    assert all(len(view.labels) == 1 for view in views(config, sample=LARGE, draws=200))


def test_a_window_smaller_than_its_lesion_lies_inside_it() -> None:
    sample = replace(LARGE, index=np.ones((60, 40), np.uint16), lesions=np.array([[0, 10, 40, 30]]))
    for view in views(replace(PLAIN, view="windows", crop=8, lesion_crops=1.0), sample=sample):
        top, _ = divmod(int(round(view.image[0, 0] * 65535)), 40)
        assert 10 <= top <= 32


def test_an_image_without_a_lesion_gives_any_window() -> None:
    sample = replace(LARGE, lesions=np.zeros((0, 4), dtype=np.int64))
    config = replace(PLAIN, view="windows", crop=8)
    wanted = views(replace(config, lesion_crops=1.0), sample=sample)
    assert [view.image.tobytes() for view in wanted] == [view.image.tobytes() for view in views(config, sample=sample)]
