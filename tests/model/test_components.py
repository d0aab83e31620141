"""Components by hand: which pixels are one lesion, how sure it is, where its edge lies at another size."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mammoprep import panoptic
from mammoprep_model import segments
from mammoprep_model.components import MOST, margins, predict
from mammoprep_model.config import TrainConfig
from mammoprep_model.segments import Answer

CATEGORIES = panoptic.make_categories(["benign", "malignant"])[:2] + panoptic.make_categories(["benign"])[-1:]
THINGS = (True, True, False)
RULES = TrainConfig()


def logits(*maps: Any) -> Tensor:
    return torch.logit(torch.tensor(maps, dtype=torch.float64)).float()


def test_each_component_of_a_lesion_class_is_a_mask_and_stuff_is_one() -> None:
    """Two benign lesions, of which one is two pixels that touch at a corner; a malignant one; the rest background."""
    benign = [[0.9, 0.1, 0.1, 0.1], [0.1, 0.9, 0.1, 0.8]]
    malignant = [[0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.1]]
    background = [[0.1, 0.9, 0.3, 0.9], [0.9, 0.1, 0.9, 0.2]]
    found = predict(logits(benign, malignant, background), is_thing=THINGS)
    assert (found.masks > 0).int().tolist() == [
        [[1, 0, 0, 0], [0, 1, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 1]],
        [[0, 0, 1, 0], [0, 0, 0, 0]],
        [[0, 1, 0, 1], [1, 0, 1, 0]],
    ]
    assert found.scores.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert torch.allclose(found.maps, torch.tensor([benign, malignant, background]))


def test_the_score_of_an_instance_is_the_mean_probability_of_its_component() -> None:
    """A lesion before a background that is what it is not: probabilities are the lesion's own, 0.9, 0.7 and 0.6."""
    lesion = torch.tensor([[0.9, 0.7, 0.2, 0.6]])
    prediction = predict(logits(lesion.tolist(), (1 - lesion).tolist()), is_thing=(True, False))
    categories = panoptic.make_categories(["lesion"])[::2]
    answer = Answer(prediction, (1, 4), (1, 4), (1, 4))
    found = segments.find_instances(answer, categories=categories)
    assert [instance.score for instance in found] == pytest.approx([0.8, 0.6])
    ids, kept = segments.merge(answer, categories=categories, train=RULES)
    assert ids.tolist() == [[1, 1, 3, 2]]
    assert [segment.score for segment in kept] == pytest.approx([0.8, 0.6, 0.8])


def test_an_unsure_lesion_in_a_sure_breast_keeps_its_pixels() -> None:
    """0.55 against 0.45 is more; every pixel of the panoptic map has an owner."""
    lesion = torch.full((6, 6), 0.02)
    lesion[2:4, 2:4] = 0.55
    prediction = predict(logits(lesion.tolist(), (1 - lesion).tolist()), is_thing=(True, False))
    answer = Answer(prediction, (6, 6), (6, 6), (6, 6))
    ids, _ = segments.merge(answer, categories=panoptic.make_categories(["lesion"])[::2], train=RULES)
    assert (ids == 1).sum() == 4
    assert (ids > 0).all()


def test_a_pixel_belongs_to_its_most_probable_category_even_below_one_half() -> None:
    found = predict(logits([[0.4, 0.3]], [[0.2, 0.2]], [[0.3, 0.4]]), is_thing=THINGS)
    assert (found.masks > 0).int().tolist() == [[[1, 0]], [[0, 1]]]
    assert found.scores.argmax(dim=1).tolist() == [0, 2]


def test_the_edge_of_a_component_lies_where_the_map_has_it_at_any_size() -> None:
    """Of two lesions the first: enlarged four times, it is what the enlarged margin has above 0 on its side."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(2, 8, 12, generator=generator) / 2 - 1
    values[1] = 0
    values[0, 2:5, 1:4], values[0, 1:6, 7:11] = 1.5, 0.4
    prediction = predict(values, is_thing=(True, False))
    answer = Answer(prediction, (8, 12), (8, 12), (32, 48))
    whole = torch.nn.functional.interpolate(margins(values)[None], (32, 48), mode="bilinear")[0, 0] > 0
    left = torch.arange(48) < 22
    assert torch.equal(answer.mask(0) > 0, whole & left)
    assert torch.equal(answer.mask(1) > 0, whole & ~left)


def test_margins_are_above_the_best_other_category() -> None:
    values = torch.tensor([3.0, 1.0, -2.0]).view(3, 1, 1)
    assert margins(values).flatten().tolist() == [2, -2, -5]
    assert margins(values[:1]).flatten().tolist() == [3]


def test_only_the_surest_of_many_components_become_masks() -> None:
    """200 single pixels, each a little surer than the one before: the last hundred, the surest first."""
    lesion = torch.full((1, 400), -1.0)
    lesion[0, ::2] = torch.linspace(0.1, 3.0, 200)
    found = predict(torch.stack([lesion, -lesion]), is_thing=(True, False))
    assert found.masks.shape == (MOST + 1, 1, 400)
    places = [int(torch.nonzero(mask[0] > 0)) for mask in found.masks[:MOST]]
    assert places == [*range(398, 198, -2)]


def test_an_image_without_a_lesion_has_its_stuff_alone() -> None:
    found = predict(torch.tensor([-1.0, -1.0, 1.0]).view(3, 1, 1).expand(3, 2, 2), is_thing=THINGS)
    assert found.scores.tolist() == [[0, 0, 1]]
    assert found.masks.shape == (1, 2, 2)


def test_where_nothing_is_above_anything_there_is_no_mask() -> None:
    found = predict(torch.zeros(3, 2, 2), is_thing=THINGS)
    assert (found.masks.shape, found.scores.shape) == ((0, 2, 2), (0, 3))
