"""Batches depend on seed and position alone; masks, labels and pixels are what the DATASET says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import data
from mammoprep_model.config import TrainConfig


def test_fit_makes_the_long_side_and_pads_to_multiples_of_64() -> None:
    image, content = data.fit(np.full((100, 70), 255, dtype=np.uint8), 130, config=TrainConfig())
    assert content == (130, 91)
    assert image.shape == (192, 128)
    assert image[:130, :91].min() == 1
    assert image[130:].max() == image[:, 91:].max() == 0


def test_fit_stretches_to_a_square_where_that_is_asked_for() -> None:
    """224 is no multiple of 64, but one of a vision transformer's patches."""
    grey = np.tile(np.arange(100, dtype=np.uint8)[:, None], (1, 70))
    image, content = data.fit(grey, 224, config=TrainConfig(fit="stretch", stride=16))
    assert (content, image.shape) == ((224, 224), (224, 224))
    assert np.allclose(image[:, :1], image)
    assert np.allclose(image[:, 0] * 255, ((np.arange(224) + 0.5) * 100 / 224 - 0.5).clip(0, 99).round(), atol=1)


def images_of(
    root: Path, *, seed: int = 0, ids: tuple[int, ...] = (1, 2, 3, 4, 5, 6), **values: Any
) -> data.TrainingImages:
    config = replace(TrainConfig(size=64, crop=64, batch_size=2), **values)
    return data.TrainingImages(panoptic.load(root), image_ids=ids, config=config, seed=seed)


def test_a_stream_that_comes_once_ends_with_a_smaller_batch(dataset: Path) -> None:
    config = TrainConfig(size=64, crop=64, batch_size=4, augment="none")
    images = data.TrainingImages(panoptic.load(dataset), image_ids=range(1, 7), config=config, seed=3, once=True)
    batches = [*data.stream(images, range(0, len(images), 4))]
    assert [len(batch.images) for batch in batches] == [4, 2]
    assert sorted(number for batch in batches for number in batch.image_ids) == [1, 2, 3, 4, 5, 6]


def test_a_sample_has_the_place_of_each_class_among_the_categories(dataset: Path) -> None:
    source = panoptic.load(dataset)
    sample = data.read_sample(source, source.images[0])
    assert sample.labels.tolist() == [1, 2, 3]
    assert sample.lesions.tolist() == [[4, 4, 8, 8]]
    assert (sample.index == 1).sum() == 64
    assert sample.grey[sample.index == 1].tolist() == [220] * 64


def test_crowd_segments_are_no_targets(dataset: Path) -> None:
    source = panoptic.load(dataset)
    first = source.images[0]
    crowd = replace(first, segments=(replace(first.segments[0], iscrowd=True), *first.segments[1:]))
    sample = data.read_sample(source, crowd)
    assert sample.labels.tolist() == [2, 3]
    assert (sample.index == 0).sum() == 64


@pytest.mark.parametrize("ids", [[[1, 9]] * 24, [[1, 3]] * 5])
def test_a_map_that_does_not_fit_panoptic_json_is_refused(dataset: Path, ids: list[list[int]]) -> None:
    panoptic.write_ids(dataset / "panoptic" / "case-1.png", np.repeat(np.array(ids, dtype=np.int32), 16, axis=1))
    source = panoptic.load(dataset)
    with pytest.raises(MammoprepError, match="case-1.*do not agree"):
        data.read_sample(source, source.images[0])


@pytest.mark.parametrize(
    ("pixels", "reason"), [(np.zeros((48, 32, 3), np.uint8), "no grey PNG"), (np.zeros((5, 5), np.uint8), "48 x 32")]
)
def test_an_image_of_another_kind_or_size_is_refused(dataset: Path, pixels: np.ndarray, reason: str) -> None:
    panoptic.write_png(dataset / "images" / "case-1.png", pixels)
    source = panoptic.load(dataset)
    with pytest.raises(MammoprepError, match=reason):
        data.read_grey(dataset, source.images[0])


def test_a_batch_keeps_the_contract(dataset: Path) -> None:
    batch = images_of(dataset).batch(0)
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.images.dtype == torch.float32
    assert [masks.shape[1:] for masks in batch.masks] == [(64, 64)] * 2
    assert [len(masks) for masks in batch.masks] == [len(labels) for labels in batch.labels]
    assert batch.labels[0].dtype == torch.int64


def test_an_epoch_shows_each_image_once_in_an_order_of_its_own(dataset: Path) -> None:
    images = images_of(dataset)
    epochs = [[i for at in range(6 * k, 6 * k + 6, 2) for i in images.batch(at).image_ids] for k in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [[1, 2, 3, 4, 5, 6]] * 3
    assert epochs[0] != epochs[1]


def test_position_and_seed_alone_decide_a_batch(dataset: Path) -> None:
    first, again, other = images_of(dataset), images_of(dataset), images_of(dataset, seed=1)
    first.batch(0)
    assert torch.equal(first.batch(8).images, again.batch(8).images)
    assert not torch.equal(first.batch(8).images, other.batch(8).images)


def test_threads_keep_the_order(dataset: Path) -> None:
    starts = range(0, 20, 2)
    one, three = (list(data.stream(images_of(dataset), starts, ahead=ahead)) for ahead in (1, 3))
    assert [batch.image_ids for batch in one] == [images_of(dataset).batch(start).image_ids for start in starts]
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, three, strict=True))


@pytest.mark.parametrize(("room", "reads"), [(2**20, 6), (0, 12)])
def test_images_are_decoded_once_while_there_is_room(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, room: int, reads: int
) -> None:
    monkeypatch.setattr(data, "CACHE_BYTES", room)
    read, calls = data.read_sample, []
    monkeypatch.setattr(data, "read_sample", lambda source, image: calls.append(image.id) or read(source, image))
    images = images_of(dataset)
    for position in range(0, 12, 2):
        images.batch(position)
    assert len(calls) == reads


def test_balanced_images_come_by_their_class(dataset: Path) -> None:
    """Of images 1, 2, 4, 6 only the first is of class 2: half of the draws are its own, else a quarter."""
    shares = []
    for balance in (False, True):
        images = images_of(dataset, ids=(1, 2, 4, 6), balance=balance)
        shown = [number for at in range(0, 400, 2) for number in images.batch(at).image_ids]
        shares.append(shown.count(1) / 400)
    assert shares[0] == 0.25
    assert 0.42 < shares[1] < 0.58


def test_class_weights_travel_with_the_batch(dataset: Path) -> None:
    """Three images of class 1 and one of class 2 weigh 1/3 and 1, over their mean."""
    batch = images_of(dataset, ids=(1, 2, 4, 6), class_weights="inverse").batch(0).to("cpu")
    assert batch.class_weights is not None
    assert batch.class_weights.tolist() == [0.5, 1.5, 1, 1]
    assert images_of(dataset).batch(0).class_weights is None


def test_threads_also_do_what_comes_then(dataset: Path) -> None:
    batches = data.stream(images_of(dataset), range(0, 8, 2), then=lambda batch: replace(batch, frozen=(None, None)))
    assert [batch.frozen for batch in batches] == [(None, None)] * 4


def test_a_fold_without_training_images_is_refused(dataset: Path) -> None:
    with pytest.raises(MammoprepError, match="no training images"):
        images_of(dataset, ids=())
