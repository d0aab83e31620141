"""A map of categories becomes masks: each connected component of a lesion class, and one mask of each stuff class."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from mammoprep_model.segmenter import Prediction

MOST = 100
"""Components that become masks: those with the highest mean probability. As many instances are written."""
_EIGHT = np.ones((3, 3), dtype=np.int8)
"""Pixels that touch at a corner are connected."""


def predict(logits: Tensor, *, is_thing: Sequence[bool]) -> Prediction:
    """Give the masks of an image from the logits (C, H, W) of its categories, each for itself.

    A pixel belongs to its most probable category; a single pixel is a component too. A mask's logits are half of what
    its category's are above those of the best other one: of a lesion before a background that is what it is not, the
    lesion's own. Outside its component they are made negative and keep their size, so that a mask's edge lies where
    the map's does, at whatever size it is drawn. Every score is 1, so that the mean probability of a mask is the
    score of its lesion.
    """
    halves, things = margins(logits) / 2, [label for label, thing in enumerate(is_thing) if thing]
    rows = [
        (label, torch.where(torch.from_numpy(own).to(logits.device), halves[label], -halves[label].abs()))
        for label, own in _components(halves[things].cpu().numpy(), labels=things)
    ]
    stuff = [label for label, thing in enumerate(is_thing) if not thing and bool((halves[label] > 0).any())]
    rows += [(label, halves[label]) for label in stuff]
    masks = torch.stack([mask for _, mask in rows]) if rows else halves[:0]
    scores = logits.new_zeros(len(rows), len(is_thing))
    for row, (label, _) in enumerate(rows):
        scores[row, label] = 1
    return Prediction(masks, scores, logits.sigmoid())


def margins(logits: Tensor) -> Tensor:
    """Give by how much each logit (C, H, W) is above the best other one; of a single category, above 0."""
    if len(logits) == 1:
        return logits
    best, places = logits.topk(2, dim=0)
    others = best[0].expand_as(logits).scatter(0, places[:1], best[1:])
    return logits - others


def _components(logits: NDArray[np.float32], *, labels: Sequence[int]) -> list[tuple[int, NDArray[np.bool_]]]:
    """Give the label and the pixels (H, W) of each component of the classes' masks (C, H, W), the surest first."""
    found: list[tuple[float, int, NDArray[np.int32], int]] = []
    for label, layer in zip(labels, logits, strict=True):
        numbered, count = ndimage.label(layer > 0, _EIGHT)
        means = ndimage.mean(1 / (1 + np.exp(-layer)), numbered, range(1, count + 1))
        found += [(float(mean), label, numbered, number) for number, mean in enumerate(means, start=1)]
    surest = sorted(found, key=lambda each: -each[0])[:MOST]
    return [(label, numbered == number) for _, label, numbered, number in surest]
