"""Semantic networks, built and wired: the logits of every pixel, their loss, and the masks that they become."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammoprep.errors import UnknownNameError
from mammoprep.panoptic import Category
from mammoprep_model.components import predict
from mammoprep_model.config import RANDOM, Architecture
from mammoprep_model.parts import load_vit, random_vit
from mammoprep_model.saved import Saved
from mammoprep_model.segmenter import Batch, Prediction
from mammoprep_model.semantic.config import SetrConfig, UNetConfig
from mammoprep_model.semantic.setr import Setr
from mammoprep_model.semantic.unet import UNet


class Semantic(Saved):
    """Segment images by a probability of each category at each pixel; it keeps the contract of `segmenter.Segmenter`.

    The categories do not exclude one another: a pixel has a probability of each. With one lesion class and a
    background this is the thesis's network.
    """

    pretrained = ("pixels.backbone.",)
    """Names below which the backbone keeps the weights that it comes with."""

    def __init__(self, pixels: nn.Module, *, categories: Sequence[Category], given: bool) -> None:
        super().__init__()
        self.pixels = pixels
        self.given = self.pretrained if given else ()
        self._is_thing = tuple(category.isthing for category in categories)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1] to logits (B, C, H, W)."""
        logits: Tensor = self.pixels(images)
        return logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Give `pixels`, the binary cross-entropy: its mean over the categories and labelled pixels of each image.

        It is averaged over images. Weights of classes weigh their own pixels in their own category.
        """
        weights = None if batch.class_weights is None else batch.class_weights[:, None, None]
        total = torch.zeros((), device=batch.images.device)
        for logits, masks, labels in zip(self(batch.images).float(), batch.masks, batch.labels, strict=True):
            truth = torch.zeros_like(logits).index_add_(0, labels, masks)
            errors = F.binary_cross_entropy_with_logits(logits, truth, pos_weight=weights, reduction="none")
            labelled = truth.sum(dim=0)
            total = total + (errors.mean(dim=0) * labelled).sum() / labelled.sum().clamp(min=1)
        images = len(batch.whole.labels) if batch.whole else len(batch.images)
        return {"pixels": total / images}

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        """Segment images (B, 3, H, W) in [0, 1]."""
        return [predict(logits, is_thing=self._is_thing) for logits in self(images).float()]


def build(
    config: Architecture, *, categories: Sequence[Category], weights: Mapping[str, str] | None = None
) -> Semantic:
    """Build a network for the categories of a data set. `weights` says where pretrained parts lie."""
    places = weights or {}
    for name in places:
        if name not in config.parts:
            raise UnknownNameError(name, kind="part of this model", known=sorted(config.parts))
    if isinstance(config, UNetConfig):
        return Semantic(UNet(config, categories=len(categories)), categories=categories, given=False)
    if not isinstance(config, SetrConfig):
        raise TypeError(f"{type(config).__name__} is no semantic network's")
    sizes = {"width": config.width, "layers": config.layers, "heads": config.heads}
    vit = random_vit(**sizes) if config.backbone == RANDOM else load_vit(config.backbone, places, **sizes)
    pixels = Setr(config, vit, categories=len(categories))
    return Semantic(pixels, categories=categories, given=config.backbone != RANDOM)
