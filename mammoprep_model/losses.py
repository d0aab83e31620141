"""What a set of masks and classes costs: Hungarian matching, then class, mask and Dice losses on sampled points."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mammoprep_model.config import ModelConfig
from mammoprep_model.segmenter import Batch, Whole


@dataclass(frozen=True)
class Targets:
    """The segments of one image: `masks` (G, H, W) of 0 and 1, none of them empty, and `labels` (G,)."""

    masks: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Pairs:
    """Which prediction was matched to which segment of an image: min(Q, G) indices each."""

    predictions: Tensor
    segments: Tensor


def loss(masks: Sequence[Tensor], logits: Sequence[Tensor], *, batch: Batch, config: ModelConfig) -> dict[str, Tensor]:
    """Give the weighted terms `class`, `mask` and `dice`, each summed over all sets of predictions.

    `masks` (B, Q, h, w) and `logits` (B, Q, C + 1), "no object" last, hold one tensor a set; each set is matched anew.
    Mask terms are divided by the number of segments in the batch (at least 1). The batch's class weights enter the
    cross-entropy alone. Computed in float32 or better. A part of a step's images gives its share of the terms: it draws
    the random points of all of them and looks at its own.
    """
    precision = torch.promote_types(masks[0].dtype, torch.float32)
    targets = [_present(mask.to(precision), labels) for mask, labels in zip(batch.masks, batch.labels, strict=True)]
    whole = batch.whole or Whole(tuple(target.labels for target in targets), first=0)
    weight = _class_weights(batch, classes=logits[0].shape[-1], no_object_weight=config.no_object_weight)
    own = slice(whole.first, whole.first + len(targets))
    masses = _masses(whole, weight=weight, queries=masks[0].shape[1])
    share = sum(masses[own]) / sum(masses)
    with torch.autocast(batch.images.device.type, enabled=False):
        sets = [
            _set_loss(
                set_masks.to(precision),
                set_logits.to(precision),
                targets=targets,
                whole=whole,
                weight=weight,
                config=config,
            )
            for set_masks, set_logits in zip(masks, logits, strict=True)
        ]
    factors = {"class": config.class_weight, "mask": config.mask_weight, "dice": config.dice_weight}
    total = {name: factor * torch.stack([terms[name] for terms in sets]).sum() for name, factor in factors.items()}
    return {**total, "class": total["class"] * share}


def _present(masks: Tensor, labels: Tensor) -> Targets:
    """Leave out masks without a pixel: a crop may have emptied them, and they would be learnt as lesions."""
    keep = masks.flatten(1).any(dim=1)
    return Targets(masks[keep], labels[keep])


def _class_weights(batch: Batch, *, classes: int, no_object_weight: float) -> Tensor:
    """Give the weights of the classes (C + 1,): the batch's, else 1, and that of "no object"."""
    weight = torch.ones(classes, device=batch.images.device)
    if batch.class_weights is not None:
        weight[:-1] = batch.class_weights
    weight[-1] = no_object_weight
    return weight


def _masses(whole: Whole, *, weight: Tensor, queries: int) -> list[float]:
    """Give the summed weights, in the mean of the cross-entropy, of the predictions of each image of a step."""
    given = weight.cpu()
    masses = []
    for labels in whole.labels:
        matched = min(queries, len(labels))
        mean = float(given[labels.cpu()].mean()) if matched else 0.0
        masses.append(matched * mean + float(given[-1]) * (queries - matched))
    return masses


def _set_loss(
    masks: Tensor, logits: Tensor, *, targets: Sequence[Targets], whole: Whole, weight: Tensor, config: ModelConfig
) -> dict[str, Tensor]:
    """Give the unweighted terms of one set of predictions."""
    pairs = _match_all(masks, logits, targets=targets, whole=whole, config=config)
    matched = torch.cat([masks[index, pair.predictions] for index, pair in enumerate(pairs)])[:, None]
    wanted = torch.cat([target.masks[pair.segments] for target, pair in zip(targets, pairs, strict=True)])[:, None]
    counts = [min(masks.shape[1], len(labels)) for labels in whole.labels]  # matched in each image
    others = (sum(counts[: whole.first]), sum(counts[whole.first + len(targets) :]))
    points = uncertain_points(matched.detach(), config=config, others=others)
    predicted, truth = sample(matched, points)[:, 0], sample(wanted, points)[:, 0]
    segments = max(sum(len(labels) for labels in whole.labels), 1)
    cross_entropy = F.binary_cross_entropy_with_logits(predicted, truth, reduction="none").mean(dim=1)
    probability = predicted.sigmoid()
    dice = 1 - (2 * (probability * truth).sum(1) + 1) / (probability.sum(1) + truth.sum(1) + 1)
    return {
        "class": _class_loss(logits, targets=targets, pairs=pairs, weight=weight),
        "mask": cross_entropy.sum() / segments,
        "dice": dice.sum() / segments,
    }


def _match_all(
    masks: Tensor, logits: Tensor, *, targets: Sequence[Targets], whole: Whole, config: ModelConfig
) -> list[Pairs]:
    """Match image by image; the points of images that are not here are drawn all the same."""
    pairs = []
    for place in range(len(whole.labels)):
        index = place - whole.first
        if 0 <= index < len(targets):
            pairs.append(match(masks[index], logits[index], targets=targets[index], config=config))
        else:
            torch.rand(1, config.points, 2, device=masks.device)
    return pairs


def _class_loss(logits: Tensor, *, targets: Sequence[Targets], pairs: Sequence[Pairs], weight: Tensor) -> Tensor:
    """Give the mean cross-entropy of the classes; what was not matched is to be "no object", the last class."""
    no_object = logits.shape[-1] - 1
    wanted = torch.full(logits.shape[:2], no_object, device=logits.device)
    for row, target, pair in zip(wanted, targets, pairs, strict=True):
        row[pair.predictions] = target.labels[pair.segments]
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weight=weight.to(logits.dtype))


@torch.no_grad()
def match(masks: Tensor, logits: Tensor, *, targets: Targets, config: ModelConfig) -> Pairs:
    """Pair predictions (Q, h, w), (Q, C + 1) one to one with the segments of an image at the least cost.

    The cost of a pair is its weighted losses, for the class minus its probability, on points drawn anew.
    """
    points = torch.rand(1, config.points, 2, device=masks.device)
    predicted, truth = sample(masks[None], points)[0], sample(targets.masks[None], points)[0]
    # softplus(x) - x * y is the cross-entropy of a logit x with its target y.
    cross_entropy = (F.softplus(predicted).sum(1, keepdim=True) - predicted @ truth.T) / config.points
    probability = predicted.sigmoid()
    areas = probability.sum(1, keepdim=True) + truth.sum(1)
    dice = 1 - (2 * probability @ truth.T + 1) / (areas + 1)
    right = logits.softmax(-1)[:, targets.labels]
    cost = config.mask_weight * cross_entropy + config.dice_weight * dice - config.class_weight * right
    # A prediction that is not finite is matched last; the trainer sees it in the loss.
    finite = torch.nan_to_num(cost, nan=1e9, posinf=1e9, neginf=1e9)
    predictions, segments = linear_sum_assignment(finite.cpu().numpy())
    return Pairs(torch.as_tensor(predictions, device=masks.device), torch.as_tensor(segments, device=masks.device))


@torch.no_grad()
def uncertain_points(masks: Tensor, *, config: ModelConfig, others: tuple[int, int] = (0, 0)) -> Tensor:
    """Draw the points (N, P, 2) in [0, 1] at which mask logits (N, 1, h, w) are judged.

    `importance_ratio` of them are those nearest to the border, logit 0, of `oversample_ratio` times P; the others
    are drawn evenly. Points are also drawn, and thrown away, for so many masks of `others` before and behind these.
    """
    before, behind = others
    rows = slice(before, before + len(masks))

    def draw(points: int) -> Tensor:
        return torch.rand(before + len(masks) + behind, points, 2, device=masks.device)[rows]

    drawn = draw(int(config.points * config.oversample_ratio))
    uncertain = int(config.points * config.importance_ratio)
    nearest = sample(masks, drawn)[:, 0].abs().topk(uncertain, dim=1, largest=False).indices
    chosen = drawn.gather(1, nearest[:, :, None].expand(-1, -1, 2))
    return torch.cat([chosen, draw(config.points - uncertain)], dim=1)


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Read maps (N, K, H, W) at points (N, P, 2), x and y in [0, 1], bilinearly: (N, K, P)."""
    return F.grid_sample(maps, 2 * points[:, :, None].to(maps.dtype) - 1, align_corners=False)[..., 0]
