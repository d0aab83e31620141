import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mammoprep_model import losses
from mammoprep_model.config import ModelConfig
from mammoprep_model.losses import Targets
from mammoprep_model.segmenter import Batch, Whole

CONFIG = ModelConfig(points=64)
"""With 64 points."""


def half(side: str) -> Tensor:
    """Give a mask of 8 x 8 pixels whose left or right half is set."""
    mask = torch.zeros(8, 8)
    mask[:, slice(0, 4) if side == "left" else slice(4, 8)] = 1
    return mask


def logits_of(*masks: Tensor, sure: float = 20.0) -> Tensor:
    return torch.stack([sure * (2 * mask - 1) for mask in masks])


def batch_of(*images: tuple[Sequence[Tensor], Sequence[int]]) -> Batch:
    masks = tuple(torch.stack(list(m)) if m else torch.zeros(0, 8, 8) for m, _ in images)
    labels = tuple(torch.tensor(list(chosen), dtype=torch.int64) for _, chosen in images)
    return Batch(torch.zeros(len(images), 3, 8, 8), masks, labels, tuple(range(len(images))))


def random_sets(count: int, *, images: int = 2) -> tuple[list[Tensor], list[Tensor]]:
    """Draw sets of 5 masks of 8 x 8 and their logits of 3 classes and none."""
    torch.manual_seed(count)
    masks = [torch.randn(images, 5, 8, 8, requires_grad=True) for _ in range(count)]
    return masks, [torch.randn(images, 5, 4, requires_grad=True) for _ in range(count)]


def test_a_point_at_a_pixels_centre_reads_that_pixel():
    maps = torch.arange(8.0).view(1, 1, 2, 4)
    points = torch.tensor([[[0.125, 0.25], [0.875, 0.75]]])  # the first and the last of 2 x 4 pixels
    assert losses.sample(maps, points)[0, 0].tolist() == pytest.approx([0, 7])


def test_a_point_between_two_pixels_reads_their_mean():
    maps = torch.tensor([[[[2.0, 4.0]]]])
    assert losses.sample(maps, torch.tensor([[[0.5, 0.5]]])).item() == pytest.approx(3)


def test_masks_are_matched_with_the_segments_that_they_cover():
    targets = Targets(torch.stack([half("right"), half("left")]), torch.tensor([0, 0]))
    pairs = losses.match(
        logits_of(torch.zeros(8, 8), half("left"), half("right")), torch.zeros(3, 2), targets=targets, config=CONFIG
    )
    assert dict(zip(pairs.predictions.tolist(), pairs.segments.tolist(), strict=True)) == {1: 1, 2: 0}


def test_of_two_equal_masks_the_one_of_the_right_class_is_matched():
    targets = Targets(half("left")[None], torch.tensor([1]))
    logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    pairs = losses.match(logits_of(half("left"), half("left")), logits, targets=targets, config=CONFIG)
    assert pairs.predictions.tolist() == [1]


def test_more_segments_than_queries_leave_segments_over():
    targets = Targets(torch.stack([half("left"), half("right")]), torch.tensor([0, 1]))
    pairs = losses.match(logits_of(half("right")), torch.zeros(1, 3), targets=targets, config=CONFIG)
    assert (pairs.predictions.tolist(), pairs.segments.tolist()) == ([0], [1])


def test_a_prediction_that_is_not_finite_is_matched_last():
    targets = Targets(half("left")[None], torch.tensor([0]))
    masks = torch.stack([torch.full((8, 8), math.nan), torch.zeros(8, 8)])
    assert losses.match(masks, torch.zeros(2, 2), targets=targets, config=CONFIG).predictions.tolist() == [1]


def at_pixel_centres(masks: Tensor, *, config: ModelConfig, others: tuple[int, int] = (0, 0)) -> Tensor:
    """Give the 64 centres of 8 x 8 pixels: there nothing is interpolated."""
    centres = (torch.arange(8) + 0.5) / 8
    return torch.cartesian_prod(centres, centres).flip(1).expand(len(masks), -1, -1)


def test_right_masks_and_classes_cost_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(losses, "uncertain_points", at_pixel_centres)
    logits = torch.tensor([[[20.0, 0, 0], [0, 20.0, 0]]])
    batch = batch_of(([half("left"), half("right")], [0, 1]))
    terms = losses.loss([logits_of(half("left"), half("right"))[None]], [logits], batch=batch, config=CONFIG)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(dict.fromkeys(terms, 0), abs=1e-5)


def test_a_mask_twice_as_large_costs_the_dice_that_one_works_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(losses, "uncertain_points", at_pixel_centres)
    batch = batch_of(([half("left")], [0]))
    terms = losses.loss([logits_of(torch.ones(8, 8))[None]], [torch.zeros(1, 1, 2)], batch=batch, config=CONFIG)
    assert terms["dice"].item() == pytest.approx(5 * (1 - (2 * 32 + 1) / (64 + 32 + 1)))
    assert terms["mask"].item() == pytest.approx(5 * 20 / 2)  # half of the points are wrong by a logit of 20


def test_undecided_classes_cost_the_logarithm_of_their_number_times_the_weight():
    batch = batch_of(([half("left")], [0]))
    terms = losses.loss([torch.zeros(1, 3, 8, 8)], [torch.zeros(1, 3, 4)], batch=batch, config=CONFIG)
    assert terms["class"].item() == pytest.approx(2 * math.log(4))


def test_no_object_counts_a_tenth():
    # One query is matched and right (cost 0), one is not matched and undecided: (1 * 0 + 0.1 * ln 2) / 1.1.
    logits = torch.tensor([[[60.0, 0.0], [0.0, 0.0]]])
    batch = batch_of(([half("left")], [0]))
    terms = losses.loss([logits_of(half("left"), half("right"))[None]], [logits], batch=batch, config=CONFIG)
    assert terms["class"].item() == pytest.approx(2 * 0.1 * math.log(2) / 1.1, rel=1e-5)


def test_undecided_masks_cost_the_logarithm_of_two_per_segment():
    batch = batch_of(([half("left"), half("right")], [0, 1]))
    terms = losses.loss([torch.zeros(1, 3, 8, 8)], [torch.zeros(1, 3, 3)], batch=batch, config=CONFIG)
    assert terms["mask"].item() == pytest.approx(5 * math.log(2))


def test_sets_of_predictions_add_up():
    batch = batch_of(([torch.ones(8, 8)], [0]))
    one = losses.loss([torch.zeros(1, 3, 8, 8)], [torch.zeros(1, 3, 3)], batch=batch, config=CONFIG)
    two = losses.loss([torch.zeros(1, 3, 8, 8)] * 2, [torch.zeros(1, 3, 3)] * 2, batch=batch, config=CONFIG)
    assert two["class"].item() == pytest.approx(2 * one["class"].item())


def test_images_without_segments_teach_no_object_alone():
    masks, logits = random_sets(1)
    terms = losses.loss(masks, logits, batch=batch_of(([], []), ([], [])), config=CONFIG)
    sum(terms.values()).backward()
    assert (terms["mask"].item(), terms["dice"].item()) == (0, 0)
    assert terms["class"].item() > 0
    assert not masks[0].grad.any()


def test_a_mask_without_a_pixel_is_no_segment():
    masks, logits = random_sets(1, images=1)
    torch.manual_seed(0)
    without = losses.loss(masks, logits, batch=batch_of(([half("left")], [1])), config=CONFIG)
    torch.manual_seed(0)
    with_it = losses.loss(masks, logits, batch=batch_of(([torch.zeros(8, 8), half("left")], [2, 1])), config=CONFIG)
    assert {name: term.item() for name, term in with_it.items()} == {
        name: term.item() for name, term in without.items()
    }


def test_under_autocast_it_is_computed_in_float32():
    masks, logits = random_sets(1, images=1)
    batch = batch_of(([half("left")], [1]))
    torch.manual_seed(0)
    plain = losses.loss(masks, logits, batch=batch, config=CONFIG)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = losses.loss(masks, logits, batch=batch, config=CONFIG)
    assert {name: term.item() for name, term in mixed.items()} == {name: term.item() for name, term in plain.items()}


def test_most_points_lie_where_the_mask_is_uncertain():
    torch.manual_seed(0)
    ramp = torch.linspace(-8, 8, 16).expand(1, 1, 16, 16)
    points = losses.uncertain_points(ramp, config=ModelConfig(points=400))
    near = ((points[0, :, 0] - 0.5).abs() < 0.15).float().mean()
    assert points.shape == (1, 400, 2)
    assert near > 0.75  # even points alone would put 0.3 of them there


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.5, 3.0])])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shares_of_parts_add_up_to_the_whole(size: int, weights: Tensor | None):
    """Whatever is drawn at random is the same, and so are the numbers drawn afterwards."""
    masks, logits = random_sets(2, images=3)
    batch = batch_of(([half("left"), half("right")], [2, 0]), ([], []), ([half("right")], [1]))
    batch = replace(batch, class_weights=weights)
    torch.manual_seed(0)
    whole = losses.loss(masks, logits, batch=batch, config=CONFIG)
    sum(whole.values()).backward()
    expected, after = [each.grad.clone() for each in (*masks, *logits)], torch.rand(1)
    for each in (*masks, *logits):
        each.grad = None
    total = dict.fromkeys(whole, 0.0)
    for part in batch.parts(size, whole=Whole(batch.labels, 0)):
        rows = slice(part.whole.first, part.whole.first + size)
        torch.manual_seed(0)
        own = losses.loss([each[rows] for each in masks], [each[rows] for each in logits], batch=part, config=CONFIG)
        assert torch.rand(1) == after
        sum(own.values()).backward()
        total = {name: total[name] + own[name].item() for name in whole}
    assert total == pytest.approx({name: term.item() for name, term in whole.items()}, rel=1e-5)
    for each, gradient in zip((*masks, *logits), expected, strict=True):
        assert torch.allclose(each.grad, gradient, atol=1e-6)


def test_more_segments_than_masks_are_shared_too():
    masks, logits = random_sets(1)
    batch = batch_of(([half("left")] * 7, [0] * 7), ([half("right")], [1]))
    torch.manual_seed(0)
    whole = losses.loss(masks, logits, batch=batch, config=CONFIG)
    parts = []
    for place, part in enumerate(batch.parts(1, whole=Whole(batch.labels, 0))):
        torch.manual_seed(0)
        own = [[each[place : place + 1] for each in tensors] for tensors in (masks, logits)]
        parts.append(losses.loss(*own, batch=part, config=CONFIG))
    for name, term in whole.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(term.item(), rel=1e-5)


def test_it_equals_the_loss_of_transformers(monkeypatch: pytest.MonkeyPatch):
    """Both draw their points from the same fixed sequence."""
    from transformers.models.mask2former.configuration_mask2former import Mask2FormerConfig
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

    def fixed(*shape: int, device: Any = None) -> Tensor:
        steps = torch.arange(1, shape[-2] + 1, dtype=torch.float32)
        return torch.stack([steps * 0.7548777 % 1, steps * 0.5698403 % 1], dim=-1).expand(shape).contiguous()

    monkeypatch.setattr(torch, "rand", fixed)
    masks, logits = random_sets(3)
    batch = batch_of(([half("left"), half("right"), torch.ones(8, 8)], [2, 0, 1]), ([half("right")], [1]))
    config = Mask2FormerConfig(num_labels=3, train_num_points=CONFIG.points)
    theirs = Mask2FormerLoss(config, {})(
        masks[-1],
        logits[-1],
        list(batch.masks),
        list(batch.labels),
        [
            {"masks_queries_logits": mask, "class_queries_logits": scores}
            for mask, scores in zip(masks[:-1], logits[:-1], strict=True)
        ],
    )
    ours = losses.loss(masks, logits, batch=batch, config=CONFIG)
    names = {"class": ("loss_cross_entropy", 2), "mask": ("loss_mask", 5), "dice": ("loss_dice", 5)}
    for name, (prefix, weight) in names.items():
        total = sum(value.item() for key, value in theirs.items() if key.startswith(prefix))
        assert ours[name].item() == pytest.approx(weight * total, rel=1e-5)


def test_class_weights_weigh_the_cross_entropy_alone(monkeypatch: pytest.MonkeyPatch):
    """Two queries, matched with classes 0 and 1 at even logits over 3 and at 2 : 0 : 0; weights 1 and 3."""
    monkeypatch.setattr(losses, "uncertain_points", at_pixel_centres)
    logits = torch.tensor([[[0.0, 0, 0], [0.0, 2, 0]]])
    masks = logits_of(half("left"), half("right"))[None]
    batch = batch_of(([half("left"), half("right")], [0, 1]))
    weighted = replace(batch, class_weights=torch.tensor([1.0, 3.0]))
    first, second = math.log(3), math.log(1 + 2 * math.exp(-2))
    plain, heavy = [losses.loss([masks], [logits], batch=each, config=CONFIG) for each in (batch, weighted)]
    assert plain["class"].item() == pytest.approx(2 * (first + second) / 2)
    assert heavy["class"].item() == pytest.approx(2 * (first + 3 * second) / 4)
    assert heavy["dice"].item() == plain["dice"].item()
