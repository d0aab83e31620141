"""The loss of a prompt's three masks, by hand."""

import math

import pytest
import torch

from mammoprep_model.promptable.losses import dice, focal, iou, loss

TRUTH = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
RIGHT, NOTHING, ALL = (torch.where(mask, 20.0, -20.0) for mask in (TRUTH > 0, TRUTH > 1, TRUTH > -1))


def test_focal_of_logits_of_0_is_a_quarter_of_the_weighted_cross_entropy():
    """One pixel of four is lesion: (0.25 + 3 · 0.75) / 4 · 0.5² · ln 2."""
    assert focal(torch.zeros(2, 2), TRUTH).item() == pytest.approx(0.625 * 0.25 * math.log(2))


def test_focal_forgives_what_is_sure_and_right():
    assert focal(RIGHT, TRUTH).item() == pytest.approx(0, abs=1e-9)
    assert focal(ALL, TRUTH).item() == pytest.approx(0.75 * 3 * 20 / 4)


def test_dice_of_logits_of_0():
    """Probabilities of 1/2: 1 - (2 · 0.5 + 1) / (2 + 1 + 1)."""
    assert dice(torch.zeros(2, 2), TRUTH).item() == pytest.approx(0.5)
    assert dice(RIGHT, TRUTH).item() == pytest.approx(0, abs=1e-6)


def test_iou_counts_pixels_above_0_and_two_empty_masks_agree():
    found = iou(torch.stack([RIGHT, ALL, NOTHING]), TRUTH.expand(3, 2, 2))
    assert found.tolist() == pytest.approx([1, 0.25, 0], abs=1e-6)
    assert iou(NOTHING, torch.zeros(2, 2)).item() == 1


def test_only_the_best_of_three_masks_is_learnt():
    logits = torch.stack([ALL, RIGHT, NOTHING])[None].requires_grad_()
    qualities = torch.tensor([[0.5, 0.5, 0.5]], requires_grad=True)
    terms = loss(logits, qualities, TRUTH[None], iou_on_all=False)
    assert terms["iou"].item() == pytest.approx(0.25)
    sum(terms.values()).backward()
    assert qualities.grad.tolist() == [[0, -1, 0]]
    assert logits.grad[0, [0, 2]].abs().max() == 0


def test_the_quality_of_all_three_is_learnt_on_request():
    """Errors of 0.5 - (0.25, 1, 0), squared: 0.0625, 0.25, 0.25."""
    logits, qualities = torch.stack([ALL, RIGHT, NOTHING])[None], torch.full((1, 3), 0.5)
    terms = loss(logits, qualities, TRUTH[None], iou_on_all=True)
    assert terms["iou"].item() == pytest.approx(0.5625 / 3)
    assert terms["dice"].item() == pytest.approx(0, abs=1e-6)


def test_a_mask_that_is_better_but_says_much_too_little_may_lose():
    """Equal masks: the one whose quality is right counts."""
    logits, qualities = torch.stack([RIGHT] * 3)[None], torch.tensor([[0.0, 0.9, 0.5]])
    assert loss(logits, qualities, TRUTH[None], iou_on_all=False)["iou"].item() == pytest.approx(0.01)
