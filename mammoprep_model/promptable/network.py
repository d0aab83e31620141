"""A promptable network, built and wired: points on lesions in training, masks at prompts or on a grid at prediction."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mammoprep.errors import MammoprepError, UnknownNameError
from mammoprep.panoptic import Category
from mammoprep_model.config import RANDOM, Architecture
from mammoprep_model.promptable import grid, losses, sam
from mammoprep_model.promptable.config import SamConfig
from mammoprep_model.saved import Saved
from mammoprep_model.segmenter import Batch, Prediction, Prompts, Whole

_STEEP = 100.0
"""Factor that keeps what is no lesion from taking a lesion's edge, whatever the lesion's score."""


class Promptable(Saved):
    """Outline what prompts point at; it keeps the contracts of `segmenter.Segmenter` and `segmenter.Promptable`.

    The class of a mask is its prompt's. Of stuff it knows nothing: what is no lesion is the last category that is
    stuff, `background`, and no other.
    """

    pretrained = ("sam.",)
    """Names below which the network keeps the weights that it comes with."""

    def __init__(self, network: sam.Sam, *, config: SamConfig, categories: Sequence[Category]) -> None:
        super().__init__()
        self.sam = network
        self.given = self.pretrained if config.backbone_frozen and config.backbone != RANDOM else ()
        self._config = config
        self._is_thing = tuple(category.isthing for category in categories)
        self._lesions = tuple(label for label, thing in enumerate(self._is_thing) if thing)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Give `focal`, `dice` and `iou`: means over the prompts of each image, averaged over images.

        A prompt is `points` random pixels of a lesion, each whole lesion its mask; of an image without lesion, random
        pixels, with nothing to outline.
        """
        whole = batch.whole or Whole(batch.labels, 0)
        counts = [max(1, int(self._things(labels).sum())) for labels in whole.labels]
        chances = torch.rand(sum(counts), self._config.points, device=batch.images.device)
        drawn = torch.split_with_sizes(chances, counts)[whole.first :]
        terms: list[dict[str, Tensor]] = []
        embeddings = self.sam.encode(batch.images)
        for embedding, masks, labels, own in zip(embeddings, batch.masks, batch.labels, drawn, strict=False):
            lesions = masks[self._things(labels)]
            truth = lesions if len(lesions) else batch.images.new_zeros(1, *batch.images.shape[2:])
            logits, qualities = self.sam.outline(embedding, random_points(lesions, own, size=self.sam.size))
            enlarged = _enlarge(logits.float(), self.sam.size)
            terms.append(losses.loss(enlarged, qualities.float(), truth, iou_on_all=self._config.iou_on_all))
        return {name: sum((each[name] for each in terms[1:]), terms[0][name]) / len(counts) for name in terms[0]}

    @torch.no_grad()
    def predict_at(self, images: Tensor, prompts: Sequence[Prompts]) -> list[Prediction]:
        """Segment images (B, 3, S, S) in [0, 1]: for each prompt the mask that says it is the best of its three.

        A mask's score is its prompt's; where that has none, (1 + q) / 2 with the quality q that it says it has, so that
        each such mask takes part in the panoptic map.
        """
        found = []
        for embedding, prompt in zip(self.sam.encode(images), prompts, strict=True):
            points = prompt.points.to(images)
            starts = range(0, max(1, len(points)), grid.AT_ONCE)
            parts = [self._best(embedding, points[start : start + grid.AT_ONCE]) for start in starts]
            masks, qualities = (torch.cat(each) for each in zip(*parts, strict=True))
            scores = (1 + qualities) / 2 if prompt.scores is None else prompt.scores.to(qualities)
            found.append(self._predict(masks, scores, labels=prompt.labels.to(images.device)))
        return found

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Segment images (B, 3, S, S) in [0, 1]: whatever a grid of points finds is a lesion of the only class."""
        if len(self._lesions) > 1:
            raise MammoprepError(
                f"A grid of points tells no class, and there are {len(self._lesions)} lesion classes. Say --prompts"
                " ground-truth or --prompts detections:RUN, or convert the data set with one class."
            )
        found = []
        for embedding in self.sam.encode(images):
            masks, scores = grid.find(self.sam.outline, embedding, config=self._config)
            labels = torch.full((len(masks),), self._lesions[0], device=images.device)
            found.append(self._predict(masks, scores, labels=labels))
        return found

    def _things(self, labels: Tensor) -> Tensor:
        return torch.tensor(self._is_thing, device=labels.device)[labels]

    def _best(self, embedding: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Give the best mask (N, S/4, S/4) of each point (N, 2), and the quality (N,) that it says it has."""
        if not len(points):
            return embedding.new_zeros(0, *(4 * side for side in embedding.shape[1:])).float(), points[:, 0]
        masks, qualities = self.sam.outline(embedding, points[:, None])
        best = qualities.argmax(dim=1)
        rows = torch.arange(len(best), device=best.device)
        return masks[rows, best].float(), qualities[rows, best].float().clamp(0, 1)

    def _predict(self, masks: Tensor, scores: Tensor, *, labels: Tensor) -> Prediction:
        """Put masks (N, S/4, S/4) with scores and labels (N,) together, enlarged; what is no lesion is background."""
        masks = _enlarge(masks[None], self.sam.size)[0]
        rated = masks.new_zeros(len(masks), len(self._is_thing))
        rated[torch.arange(len(masks), device=masks.device), labels] = scores
        sure = scores > 0.5  # which alone beat "no object", here as in the panoptic map
        probability = masks.sigmoid() * torch.where(sure, 1.0, scores)[:, None, None]
        maps = masks.new_zeros(len(self._is_thing), *masks.shape[1:])
        for label in set(labels.tolist()):
            maps[label] = probability[labels == label].amax(dim=0)
        if all(self._is_thing):
            return Prediction(masks, rated, maps)
        background = max(label for label, thing in enumerate(self._is_thing) if not thing)
        maps[background] = 1 - maps.amax(dim=0)
        rest = masks.new_full((1, *masks.shape[1:]), 1.0) if not sure.any() else -masks[sure].amax(dim=0, keepdim=True)
        row = torch.eye(len(self._is_thing), device=masks.device)[background][None]
        return Prediction(torch.cat([masks, _STEEP * rest]), torch.cat([rated, row]), maps)


def random_points(lesions: Tensor, chances: Tensor, *, size: int) -> Tensor:
    """Turn random numbers (N, P) in [0, 1) into pixels of lesions (N, H, W), or of the image where there are none.

    Gives x and y (N, P, 2) as shares of the image: the middle of a pixel.
    """
    if not len(lesions):
        lesions = chances.new_ones(1, size, size)
    points = []
    for lesion, chance in zip(lesions, chances, strict=True):
        pixels = torch.nonzero(lesion)
        points.append(pixels[(chance * len(pixels)).long().clamp(max=len(pixels) - 1)])
    return (torch.stack(points).flip(-1) + 0.5) / size


def _enlarge(masks: Tensor, size: int) -> Tensor:
    """Bring logits (N, M, h, w) to the image's size."""
    if not masks.numel():
        return masks.new_zeros(*masks.shape[:2], size, size)
    return F.interpolate(masks, (size, size), mode="bilinear", align_corners=False)


def build(
    config: Architecture, *, categories: Sequence[Category], weights: Mapping[str, str] | None = None
) -> Promptable:
    """Build a network for the categories of a data set. `weights` says where the pretrained part lies."""
    places = weights or {}
    for name in places:
        if name not in config.parts:
            raise UnknownNameError(name, kind="part of this model", known=sorted(config.parts))
    if not isinstance(config, SamConfig):
        raise TypeError(f"{type(config).__name__} is no promptable network's")
    return Promptable(sam.make(config, places), config=config, categories=categories)
