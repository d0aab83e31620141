"""Which images are learnt from, and how they are shown."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model.pretrain import images
from mammoprep_model.pretrain.images import Mammograms
from mammoprep_model.pretrain.recipe import PretrainConfig

FREE = PretrainConfig(size=64, empty_prompts=0.5)


def test_only_lesion_free_images_of_other_patients_are_chosen(mammograms: Path) -> None:
    """Of 14 lesion-free images patient 0 has two; fold 0 validates on one of them and on a patient with lesions."""
    source = panoptic.load(mammograms)
    everybody = images.choose(source, fold=None)
    assert [image.id for image in everybody.images] == list(range(1, 15))
    assert (everybody.patients, everybody.held_out, everybody.held_out_patients) == (7, (), 0)
    chosen = images.choose(source, fold=0)
    assert [image.id for image in chosen.images] == list(range(3, 15))
    assert (chosen.patients, chosen.held_out_patients) == (6, 2)
    assert [image.id for image in chosen.held_out] == [1, 2]


def test_prompts_come_with_the_images(mammograms: Path) -> None:
    chosen = images.choose(panoptic.load(mammograms), fold=None)
    assert chosen.prompts[0] == "a siemens mammogram in CC view with very low density and small area"
    assert chosen.prompts[-1] == "a hologic mammogram in MLO view with low density and big area"


def test_a_table_without_an_image_is_refused(mammograms: Path) -> None:
    path = mammograms / "cases.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(MammoprepError, match=r"cases\.csv has no row for 1 of 16 images, the first of them case-16"):
        images.choose(panoptic.load(mammograms), fold=None)


def test_a_batch_depends_on_seed_and_position_alone(mammograms: Path) -> None:
    chosen = images.choose(panoptic.load(mammograms), fold=None)
    first, second = (Mammograms(mammograms, chosen, config=FREE, micro_batch=4, seed=3) for _ in range(2))
    second.batch(0)
    one, other = first.batch(8), second.batch(8)
    assert one.images.shape == (4, 3, 64, 64)
    assert torch.equal(one.images, other.images)
    assert (one.prompts, one.position) == (other.prompts, 8)
    third = Mammograms(mammograms, chosen, config=FREE, micro_batch=4, seed=4)
    assert not torch.equal(one.images, third.batch(8).images)


def test_an_epoch_shows_every_image_once_and_half_of_them_without_words(mammograms: Path) -> None:
    chosen = images.choose(panoptic.load(mammograms), fold=None)
    epoch = Mammograms(mammograms, chosen, config=FREE, micro_batch=14, seed=0).batch(0)
    assert len({image.numpy().tobytes() for image in epoch.images}) == 14
    assert 3 <= epoch.prompts.count("") <= 11
    assert {*epoch.prompts} <= {"", *chosen.prompts}
    told = Mammograms(mammograms, chosen, config=PretrainConfig(size=64, empty_prompts=0), micro_batch=14, seed=0)
    assert sorted(told.batch(0).prompts) == sorted(chosen.prompts)


def test_all_breasts_face_right(mammograms: Path) -> None:
    """Even images of the data set have the chest wall on the right."""
    chosen = images.choose(panoptic.load(mammograms), fold=None)
    shown = Mammograms(mammograms, chosen, config=FREE, micro_batch=14, seed=0).batch(0).images
    assert (shown[..., :32].sum(dim=(1, 2, 3)) > 2 * shown[..., 32:].sum(dim=(1, 2, 3))).all()
    assert shown.min() == 0
    assert 0.4 < shown.max() <= 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_image_that_faces_left_is_mirrored(side: str) -> None:
    grey = np.zeros((2, 5), np.uint8)
    grey[:, 0 if side == "left" else 4] = 9
    assert images.facing_right(grey).tolist() == [[9, 0, 0, 0, 0]] * 2


def test_a_cut_square_is_the_middle_of_the_long_side() -> None:
    grey = np.repeat(np.arange(8, dtype=np.uint8)[:, None], 4, axis=1)
    assert images.square(grey, 4, fit="crop")[:, 0].tolist() == [2, 3, 4, 5]
    assert images.square(np.ascontiguousarray(grey.T), 4, fit="crop")[0].tolist() == [2, 3, 4, 5]


def test_a_padded_square_holds_the_whole_image() -> None:
    grey = np.full((8, 4), 7, np.uint8)
    padded = images.square(grey, 8, fit="pad")
    assert padded[:, :4].tolist() == [[7] * 4] * 8
    assert not padded[:, 4:].any()


def test_16_bits_are_brought_to_the_same_range(mammograms: Path) -> None:
    path = mammograms / "images" / "case-1.png"
    panoptic.write_png(path, panoptic.read_png(path).astype(np.uint16) * 257)
    chosen = images.choose(panoptic.load(mammograms), fold=None)
    shown = Mammograms(mammograms, chosen, config=FREE, micro_batch=14, seed=0).batch(0).images
    assert shown.amax(dim=(1, 2, 3)).min() > 0.4
    assert shown.max() <= 1
