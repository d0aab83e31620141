"""A map of categories becomes masks: each connected component of a lesion class, and one mask of each stuff class."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    components = _components(halves[things].cpu().numpy(), labels=things)
    stuff = [label for label, thing in enumerate(is_thing) if not thing and bool((halves[label] > 0).any())]
    labels = [component.label for component in components] + stuff
    masks = halves[labels]
    for mask, component in zip(masks, components, strict=False):
        own = torch.from_numpy(component.numbered == component.number).to(logits.device)
        mask.copy_(torch.where(own, mask, -mask.abs()))
    scores = torch.eye(len(is_thing), device=logits.device)[labels]
    return Prediction(masks, scores, logits.sigmoid())


def margins(logits: Tensor) -> Tensor:
    """Give by how much each logit (C, H, W) is above the best other one; of a single category, above 0."""
    if len(logits) == 1:
        return logits
    best, places = logits.topk(2, dim=0)
    others = best[0].expand_as(logits).scatter(0, places[:1], best[1:])
    return logits - others


@dataclass(frozen=True)
class _Component:
    """Where a class's map of numbered components (H, W) has this number, and its mean probability there."""

    label: int
    numbered: NDArray[np.int32]
    number: int
    mean: float


def _components(logits: NDArray[np.float32], *, labels: Sequence[int]) -> list[_Component]:
    """Give the components of the classes' masks (C, H, W), the surest first."""
    found: list[_Component] = []
    for label, layer in zip(labels, logits, strict=True):
        numbered, count = ndimage.label(layer > 0, _EIGHT)
        means = ndimage.mean(1 / (1 + np.exp(-layer)), numbered, range(1, count + 1))
        found += [_Component(label, numbered, number, float(mean)) for number, mean in enumerate(means, start=1)]
    return sorted(found, key=lambda component: -component.mean)[:MOST]
