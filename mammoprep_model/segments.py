"""What a network says of one image becomes panoptic segments, instances, a semantic map and a heat map.

Masks come up to the size of the maps one at a time, so memory does not grow with their number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mammoprep import panoptic
from mammoprep.panoptic import Category, Ids, Rle, Segment
from mammoprep_model.config import TrainConfig
from mammoprep_model.segmenter import Prediction

MAX_INSTANCES = 100
Window = tuple[slice, slice]
"""Rows and columns of an image."""


@dataclass(frozen=True)
class Answer:
    """A Prediction, to be read mask by mask at `size` (height, width).

    The prediction, at whatever scale, covers the network's `padded` input; `content` (height, width) of it, from the
    upper left corner, is image. The padding is cut off and logits are interpolated before anything is decided.
    """

    prediction: Prediction
    padded: tuple[int, int]
    content: tuple[int, int]
    size: tuple[int, int]

    @property
    def scores(self) -> Tensor:
        """Give each mask's class probabilities (Q, C)."""
        return self.prediction.scores.float()

    def mask(self, query: int, window: Window | None = None) -> Tensor:
        """Give the logits of one mask at the final size, or of a window of it."""
        layer = self._cut(self.prediction.masks[query])
        return _interpolate(layer, self.size) if window is None else _interpolate_window(layer, self.size, window)

    def map(self, category: int) -> Tensor:
        """Give each pixel's probability of one category at the final size."""
        return _interpolate(self._cut(self.prediction.maps[category]), self.size)

    @property
    def uncertainty(self) -> Tensor | None:
        """Give each pixel's uncertainty at the final size, where the network gives one."""
        layer = self.prediction.uncertainty
        return None if layer is None else _interpolate(self._cut(layer), self.size)

    def window(self, query: int) -> Window | None:
        """Give the rows and columns outside which a mask has no pixel at the final size; None where it is empty."""
        positive = self.prediction.masks[query] > 0
        spans = []
        for axis in (0, 1):
            filled = torch.nonzero(positive.any(dim=1 - axis)).flatten().tolist()
            if not filled:
                return None
            step = self.padded[axis] / positive.shape[axis] * self.size[axis] / self.content[axis]
            # Interpolation reaches one place further, twice at most: to the network's input, and to the final size.
            first, last = math.floor((filled[0] - 2) * step), math.ceil((filled[-1] + 3) * step)
            spans.append(slice(max(0, min(first, self.size[axis])), min(self.size[axis], last)))
        return spans[0], spans[1]

    def _cut(self, layer: Tensor) -> Tensor:
        """Bring a layer to the network's input and cut the padding off."""
        return _interpolate(layer.float(), self.padded)[: self.content[0], : self.content[1]]


def _interpolate(layer: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(layer.shape) == size:
        return layer
    return F.interpolate(layer[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def _interpolate_window(layer: Tensor, size: tuple[int, int], window: Window) -> Tensor:
    """Give a window of what `_interpolate` gives, within float error: most lesions are a small part of an image."""
    if tuple(layer.shape) == size:
        return layer[window]
    for axis, span in enumerate(window):
        length = layer.shape[axis]
        place = (torch.arange(span.start, span.stop, device=layer.device) + 0.5) * (length / size[axis]) - 0.5
        place = place.clamp(min=0)
        low = place.long()
        share = (place - low)[:, None] if axis == 0 else place - low
        high = (low + 1).clamp(max=length - 1)
        layer = torch.lerp(layer.index_select(axis, low), layer.index_select(axis, high), share)
    return layer


@dataclass(frozen=True)
class Instance:
    """One lesion: where, the place of its class among the categories, and how sure (0 … 1)."""

    code: Rle
    label: int
    score: float


def merge(answer: Answer, *, categories: Sequence[Category], train: TrainConfig) -> tuple[Ids, tuple[Segment, ...]]:
    """Merge masks to segments that do not overlap, ids from 1; pixels of no segment are 0.

    A mask takes part if its best class beats "no object" and scores above `object_threshold`. A pixel goes to the mask
    with the largest score x probability, and counts where that mask's probability reaches 1/2. A mask of which less
    than `overlap_threshold` stays is dropped; stuff of one class becomes one segment. (Mask2Former, arXiv 2112.01527)
    A segment's score is an instance's: the class probability x the mask's mean probability inside itself.
    """
    best, classes = answer.scores.max(dim=1)
    kept = torch.nonzero((best > 1 - answer.scores.sum(dim=1)) & (best > train.object_threshold)).flatten().tolist()
    owners, inside, areas, means = _share(answer, kept, weights=best)
    won = np.bincount(owners.ravel() + 1, minlength=len(best) + 1)[1:]
    ids: Ids = np.zeros(answer.size, dtype=np.int32)
    segments: dict[int, tuple[Category, float]] = {}
    stuff: dict[int, int] = {}
    for query, area, mean in zip(kept, areas, means, strict=True):
        visible = inside & (owners == query)
        if not visible.any() or int(won[query]) < train.overlap_threshold * area:
            continue
        label, score = int(classes[query]), float(best[query]) * mean
        category = categories[label]
        number = len(segments) + 1 if category.isthing else stuff.setdefault(label, len(segments) + 1)
        segments[number] = (category, max(score, segments[number][1]) if number in segments else score)
        ids[visible] = number
    return ids, tuple(_segment(ids, number, *found) for number, found in segments.items())


def _share(
    answer: Answer, queries: Sequence[int], *, weights: Tensor
) -> tuple[NDArray[np.int16], NDArray[np.bool_], list[int], list[float]]:
    """Give each pixel to the query with the largest weight x probability, the first of equals; -1 where there is none.

    Beside it: where the owner's probability reaches 1/2, in how many pixels each query's does, and its mean there.
    """
    device = answer.scores.device
    largest = torch.full(answer.size, -1.0, device=device)
    owners = torch.full(answer.size, -1, dtype=torch.int16, device=device)
    inside = torch.zeros(answer.size, dtype=torch.bool, device=device)
    areas, means = [], []
    for query in queries:
        probability = answer.mask(query).sigmoid()
        weighted = probability * weights[query]
        wins, solid = weighted > largest, probability >= 0.5
        largest = torch.where(wins, weighted, largest)
        owners[wins] = query
        inside = torch.where(wins, solid, inside)
        areas.append(int(solid.sum()))
        means.append(float((probability * solid).sum()) / max(areas[-1], 1))
    return owners.cpu().numpy(), inside.cpu().numpy(), areas, means


def _segment(ids: Ids, number: int, category: Category, score: float) -> Segment:
    mask = ids == number
    return Segment(number, category.id, int(mask.sum()), panoptic.mask_box(mask), score=round(score, 6))


def find_instances(answer: Answer, *, categories: Sequence[Category]) -> list[Instance]:
    """Give the best 100 (mask, thing class) pairs, best first; they may overlap. What is empty or scores 0 is left out.

    The score is the class probability x the mask's mean probability inside itself. Equal scores keep the order of
    the network's masks.
    """
    things = [place for place, category in enumerate(categories) if category.isthing]
    class_scores = answer.scores[:, things].flatten()
    pairs = class_scores.argsort(descending=True, stable=True)[:MAX_INSTANCES]
    found: list[Instance] = []
    shapes: dict[int, tuple[Rle, float] | None] = {}
    for pair, score in zip(pairs.tolist(), class_scores[pairs].tolist(), strict=True):
        query, thing = divmod(pair, len(things))
        if not score:
            break
        if query not in shapes:
            shapes[query] = _shape(answer, query)
        shape = shapes[query]
        if shape:
            found.append(Instance(shape[0], things[thing], score * shape[1]))
    return sorted(found, key=lambda instance: -instance.score)


def _shape(answer: Answer, query: int) -> tuple[Rle, float] | None:
    """Give a mask's run-length code and its mean probability inside; None where it is empty."""
    window = answer.window(query)
    if window is None:
        return None
    logits = answer.mask(query, window)
    mask = logits > 0
    area = int(mask.sum())
    if not area:
        return None
    y, x = (span.start for span in window)
    code = panoptic.encode_crop(mask.cpu().numpy(), x=x, y=y, size=answer.size)
    return code, float((logits.sigmoid() * mask).sum()) / area


def semantic(answer: Answer, *, categories: Sequence[Category]) -> NDArray[np.uint8]:
    """Give each pixel's most probable category id (H, W), the first of equals."""
    largest = answer.map(0)
    ids = torch.full(answer.size, categories[0].id, dtype=torch.uint8, device=largest.device)
    for place, category in enumerate(categories[1:], start=1):
        probability = answer.map(place)
        ids[probability > largest] = category.id
        largest = torch.maximum(largest, probability)
    numbers: NDArray[np.uint8] = ids.cpu().numpy()
    return numbers


def heatmap(answer: Answer, *, categories: Sequence[Category]) -> NDArray[np.uint8]:
    """Give each pixel's probability (0 … 255) to belong to a lesion of any class (H, W)."""
    lesion = sum(
        (answer.map(place) for place, category in enumerate(categories) if category.isthing),
        start=torch.zeros(answer.size, device=answer.scores.device),
    )
    return levels(lesion)


def levels(shares: Tensor) -> NDArray[np.uint8]:
    """Give values of 0 … 1 as 0 … 255."""
    of_255: NDArray[np.uint8] = (shares.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return of_255
