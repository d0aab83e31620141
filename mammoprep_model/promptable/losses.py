"""What the three masks of a prompt cost: 20 · focal + Dice + the error of the IoU that they say they have."""

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHA, GAMMA = 0.25, 2.0
"""The focal loss's (arXiv 1708.02002)."""
FOCAL = 20.0
"""Weight of the focal loss (arXiv 2304.02643)."""
_EMPTY = 1e-7
"""The thesis's: two empty masks have an IoU of 1."""


def loss(logits: Tensor, qualities: Tensor, truth: Tensor, *, iou_on_all: bool) -> dict[str, Tensor]:
    """Give the terms, means over N prompts, for masks (N, 3, H, W), qualities (N, 3) and lesions (N, H, W) of 0 and 1.

    Of each prompt's masks only the one with the smallest sum of terms counts; with `iou_on_all` the error of the IoU is
    the mean over all three.
    """
    truths = truth[:, None].expand_as(logits)
    focals, dices = FOCAL * focal(logits, truths), dice(logits, truths)
    errors = (qualities - iou(logits, truths)) ** 2
    best = (focals + dices + errors).detach().argmin(dim=1, keepdim=True)
    errors = errors.mean(dim=1) if iou_on_all else errors.gather(1, best)
    return {"focal": focals.gather(1, best).mean(), "dice": dices.gather(1, best).mean(), "iou": errors.mean()}


def focal(logits: Tensor, truth: Tensor) -> Tensor:
    """Give the mean focal loss of each mask (…, H, W)."""
    probability = logits.sigmoid()
    missing = probability + truth - 2 * probability * truth  # 1 - the probability of what is true
    weight = ALPHA * truth + (1 - ALPHA) * (1 - truth)
    errors = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (weight * missing**GAMMA * errors).mean(dim=(-2, -1))


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Give 1 - the Dice of each mask's probabilities (…, H, W), with 1 added above and below the line."""
    probability = logits.sigmoid()
    shared, both = (probability * truth).sum(dim=(-2, -1)), (probability + truth).sum(dim=(-2, -1))
    return 1 - (2 * shared + 1) / (both + 1)


@torch.no_grad()
def iou(logits: Tensor, truth: Tensor) -> Tensor:
    """Give the IoU of each mask (…, H, W) above 0."""
    mask = (logits > 0).to(truth.dtype)
    shared = (mask * truth).sum(dim=(-2, -1))
    return (shared + _EMPTY) / ((mask + truth).sum(dim=(-2, -1)) - shared + _EMPTY)
