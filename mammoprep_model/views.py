"""One image seen several times: in windows that overlap, and mirrored. What the network says of each is joined.

A query network says of each view which lesions it sees, so joining must tell which of them are the same lesion.

- Two masks of two views are one where the views overlap and the masks' IoU there reaches 1/2; lesion goes with lesion,
  of whatever class, breast and background with their like. Each mask of a view finds at most one partner in another:
  the assignment with the largest sum of IoU x (1 + the class probability that both share). Chains of partners are one.
- The joined mask is the average of the partners' probabilities, weighted by how far inside its view a pixel lies.
- Its class probabilities are the average over all views that see its place, weighted alike. A view that sees the place
  and nothing there counts as 0: a lesion that one of two views finds has half the score.
- Stuff needs no partner: all masks of one class that beat "no object" are one.
- Maps of class probabilities, and of uncertainty, are averaged by the same weights.

Joining works at a quarter of the views' resolution, at which query networks make their masks; they are interpolated
from there as one view's are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from mammoprep_model.segmenter import Prediction

STRIDE = 4
"""Pixels of a view to one of the joined masks."""
SAME = 0.5
"""The IoU from which two masks are one."""
MOST = 100
"""Joined masks that are kept: those with the surest member. As many instances are written."""
_THING, _NOTHING = -1, -2


@dataclass(frozen=True)
class View:
    """What the network sees at once: `height` x `width` pixels from (y, x), all multiples of 4, perhaps mirrored."""

    y: int
    x: int
    height: int
    width: int
    mirrored: bool = False

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Give its rows and columns."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    @property
    def cells(self) -> tuple[slice, slice]:
        """Give its rows and columns in the joined masks."""
        rows, columns = (slice(span.start // STRIDE, span.stop // STRIDE) for span in self.pixels)
        return rows, columns

    def weights(self) -> Tensor:
        """Give the weight (h, w) of each cell in (0, 1]: it falls in straight lines from the centre to the edges."""
        rows, columns = (_slope(side // STRIDE) for side in (self.height, self.width))
        return rows[:, None] * columns


def _slope(length: int) -> Tensor:
    """Give the weights along one side, 1 in the middle."""
    place = torch.arange(length) + 0.5
    return torch.minimum(place, length - place) * 2 / length


def views(shape: tuple[int, int], *, side: int, flip: bool) -> tuple[View, ...]:
    """Cover an image (H, W) with windows of at most `side`, which overlap by half or more; with `flip` each twice."""
    corners = [(y, x) for y in _starts(shape[0], side) for x in _starts(shape[1], side)]
    sides = (min(side, shape[0]), min(side, shape[1]))
    return tuple(View(y, x, *sides, mirrored=mirrored) for y, x in corners for mirrored in (False, True)[: 1 + flip])


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    last = -(-2 * (length - side) // side)
    return [(length - side) * place // last // STRIDE * STRIDE for place in range(last + 1)]


@dataclass(frozen=True)
class Seen:
    """What a network says of a view, upright: `masks` (Q, h, w) and `maps` (C, h, w) in [0, 1], `scores` (Q, C).

    `uncertainty` (h, w) where the network gives one.
    """

    view: View
    masks: Tensor
    scores: Tensor
    maps: Tensor
    uncertainty: Tensor | None = None


def see(prediction: Prediction, view: View) -> Seen:
    """Keep of a view's prediction what joining needs, in half precision; empty masks go."""
    filled = (prediction.masks > 0).flatten(1).any(dim=1)
    masks = F.avg_pool2d(prediction.masks[filled].float()[:, None], STRIDE)[:, 0].sigmoid().half()
    maps = F.avg_pool2d(prediction.maps.float(), STRIDE).half()
    doubt = prediction.uncertainty
    doubt = None if doubt is None else F.avg_pool2d(doubt.float()[None], STRIDE)[0]
    if view.mirrored:
        masks, maps, doubt = masks.flip(-1), maps.flip(-1), None if doubt is None else doubt.flip(-1)
    return Seen(view, masks, prediction.scores[filled].float(), maps, doubt)


def join(seen: Sequence[Seen], *, shape: tuple[int, int], is_thing: Sequence[bool]) -> Prediction:
    """Join what was seen in the views of one image (H, W); masks and maps of the result are (H/4, W/4)."""
    cells = (shape[0] // STRIDE, shape[1] // STRIDE)
    weights = [part.view.weights().to(part.maps.device) for part in seen]
    maps, total, doubt = (weights[0].new_zeros(each) for each in ((len(is_thing), *cells), cells, cells))
    for part, weight in zip(seen, weights, strict=True):
        maps[:, *part.view.cells] += part.maps.float() * weight
        total[part.view.cells] += weight
        if part.uncertainty is not None:
            doubt[part.view.cells] += part.uncertainty * weight
    groups = _groups(seen, is_thing=is_thing)
    masks, scores = seen[0].masks.new_zeros(len(groups), *cells), maps.new_zeros(len(groups), len(is_thing))
    for place, group in enumerate(groups):
        mask = _average(seen, weights, group=group, cells=cells)
        masks[place] = torch.logit(mask, eps=1e-6).half()
        scores[place] = _vote(seen, weights, group=group, mask=mask)
    return Prediction(masks, scores, maps / total, None if seen[0].uncertainty is None else doubt / total)


Kinds = NDArray[np.int64]
Group = dict[int, list[int]]
"""The masks that are one: their places in each view, the surest first."""


def _groups(seen: Sequence[Seen], *, is_thing: Sequence[bool]) -> list[Group]:
    """Give the masks that are one, the group with the surest member first."""
    firsts = np.cumsum([0, *(len(part.masks) for part in seen)])
    if not firsts[-1]:
        return []
    kinds = [_kinds(part.scores, is_thing=is_thing) for part in seen]
    links = [
        (firsts[a] + one, firsts[b] + other)
        for a, b in combinations(range(len(seen)), 2)
        for one, other in _partners(seen[a], seen[b], kinds=(kinds[a], kinds[b]))
    ]
    every = np.concatenate(kinds)
    for kind in set(every[every >= 0].tolist()):
        links += pairwise(np.flatnonzero(every == kind).tolist())
    ends = np.array(links, dtype=np.intp).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(firsts[-1], firsts[-1]))
    labels = connected_components(graph, directed=False)[1]
    sureness = np.concatenate([part.scores.amax(dim=1).cpu().numpy() for part in seen])
    groups: dict[int, Group] = {}
    for node in np.argsort(-sureness, kind="stable").tolist():
        view = int(np.searchsorted(firsts, node, side="right")) - 1
        groups.setdefault(int(labels[node]), {}).setdefault(view, []).append(node - int(firsts[view]))
    return list(groups.values())[:MOST]


def _kinds(scores: Tensor, *, is_thing: Sequence[bool]) -> Kinds:
    """Give what each mask may be one with: lesions, the stuff of a class (its place), or nothing."""
    best, classes = scores.max(dim=1)
    stands = best > 1 - scores.sum(dim=1)
    return np.array(
        [
            _THING if is_thing[label] else label if stand else _NOTHING
            for label, stand in zip(classes.tolist(), stands.tolist(), strict=True)
        ],
        dtype=np.int64,
    )


def _partners(one: Seen, other: Seen, *, kinds: tuple[Kinds, Kinds]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of lesion masks of two views that are one."""
    spans = [
        (max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one.view.cells, other.view.cells, strict=True)
    ]
    places = [np.flatnonzero(kind == _THING) for kind in kinds]
    if any(start >= stop for start, stop in spans) or not all(place.size for place in places):
        return
    inside = [_inside(part, place, spans=spans) for part, place in zip((one, other), places, strict=True)]
    overlap = inside[0] @ inside[1].T
    union = inside[0].sum(dim=1)[:, None] + inside[1].sum(dim=1) - overlap
    iou = overlap / union.clamp(min=1)
    scores = [part.scores[torch.from_numpy(place)] for part, place in zip((one, other), places, strict=True)]
    shared = torch.minimum(scores[0][:, None], scores[1]).sum(dim=2)
    value = torch.where(iou >= SAME, iou * (1 + shared), 0).cpu().numpy()
    for row, column in zip(*linear_sum_assignment(value, maximize=True), strict=True):
        if value[row, column] > 0:
            yield int(places[0][row]), int(places[1][column])


def _inside(part: Seen, place: NDArray[np.intp], *, spans: Sequence[tuple[int, int]]) -> Tensor:
    """Give which of the cells that two views share each mask covers, as numbers (Q, cells)."""
    rows, columns = (
        slice(start - own.start, stop - own.start) for (start, stop), own in zip(spans, part.view.cells, strict=True)
    )
    return (part.masks[torch.from_numpy(place), rows, columns] >= 0.5).flatten(1).float()


def _average(seen: Sequence[Seen], weights: Sequence[Tensor], *, group: Group, cells: tuple[int, int]) -> Tensor:
    """Give the mean probability (H/4, W/4) over the views that have a mask in the group; 0 outside them."""
    mask = weights[0].new_zeros(cells)
    total = torch.zeros_like(mask)
    for number, members in group.items():
        where = seen[number].view.cells
        mask[where] += seen[number].masks[members].float().amax(dim=0) * weights[number]
        total[where] += weights[number]
    return mask / total.clamp(min=1e-9)


def _vote(seen: Sequence[Seen], weights: Sequence[Tensor], *, group: Group, mask: Tensor) -> Tensor:
    """Give the mean class probabilities (C,) over all views, by how much of the mask each sees and how well."""
    votes = torch.stack([(mask[part.view.cells] * weight).sum() for part, weight in zip(seen, weights, strict=True)])
    nothing = torch.zeros_like(seen[0].scores.sum(dim=0))
    given = torch.stack(
        [part.scores[group[number][0]] if number in group else nothing for number, part in enumerate(seen)]
    )
    return (votes[:, None] * given).sum(dim=0) / votes.sum().clamp(min=1e-9)
