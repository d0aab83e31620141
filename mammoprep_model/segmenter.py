"""The contract that every network here keeps: `loss(batch)` to train it, `predict(images)` to use it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Whole:
    """All images of an optimiser step, of which a batch holds those from place `first` on: `labels` (G,) of each."""

    labels: tuple[Tensor, ...]
    first: int


@dataclass(frozen=True)
class Batch:
    """Training images with their segments.

    `images` (B, 3, H, W) in [0, 1], H and W multiples of `train.stride`, padded right and below with 0. For each image
    `masks` (G, H, W) float32 of 0 and 1 and `labels` (G,) int64, an index into the data set's categories (things
    before stuff); G may be 0. `image_ids` are panoptic.json's. Where the batch is a part of a step's images, `whole`
    says which; none of its masks is empty then.

    `class_weights` (C,) weigh the categories in the cross-entropy. `frozen` holds, for each image, what the frozen
    parts of a network give for it, as `Cacheable.frozen` says; None or nothing at all where that is not known yet.
    """

    images: Tensor
    masks: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    image_ids: tuple[int, ...]
    class_weights: Tensor | None = None
    frozen: tuple[Mapping[str, Tensor] | None, ...] = ()
    whole: Whole | None = None

    def to(self, device: str) -> "Batch":
        """Copy the tensors to a device."""
        masks, labels = (tuple(tensor.to(device) for tensor in tensors) for tensors in (self.masks, self.labels))
        weights = None if self.class_weights is None else self.class_weights.to(device)
        frozen = tuple(found and {name: tensor.to(device) for name, tensor in found.items()} for found in self.frozen)
        return replace(
            self, images=self.images.to(device), masks=masks, labels=labels, class_weights=weights, frozen=frozen
        )

    def parts(self, size: int, *, whole: Whole) -> Iterator["Batch"]:
        """Cut the batch, which stands at `whole.first`, into parts of so many images (the last may have fewer)."""
        names = ("images", "masks", "labels", "image_ids", "frozen")
        for start in range(0, len(self.images), size):
            rows = slice(start, start + size)
            own: dict[str, Any] = {name: getattr(self, name)[rows] for name in names}
            yield replace(self, **own, whole=Whole(whole.labels, whole.first + start))


@dataclass(frozen=True)
class Prediction:
    """What a network says of one image of H x W pixels, with Q masks (overlaps allowed) and C categories.

    `masks` (Q, H, W) are logits: a mask is where they are above 0. `scores` (Q, C) in [0, 1] is each mask's
    probability for each category; what is missing to 1 is "no object". `maps` (C, H, W) in [0, 1] is the probability
    of each category at each pixel. `uncertainty` (H, W) in [0, 1] says where a network that answers more than once
    contradicts itself, None where it answers once. All are detached, on the network's device.
    """

    masks: Tensor
    scores: Tensor
    maps: Tensor
    uncertainty: Tensor | None = None


@runtime_checkable
class Segmenter(Protocol):
    """A network of any family. It is also a `torch.nn.Module`."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Give the weighted loss terms, scalars with gradients; their sum is minimised.

        Of a part of a step's images (`batch.whole`) they are its share: the shares of all parts, each computed from the
        same state of torch's random numbers, add up to the terms of the whole.
        """
        ...

    def predict(self, images: Tensor) -> list[Prediction]:
        """Segment images (B, 3, H, W) in [0, 1], H and W multiples of `train.stride`: one Prediction an image.

        There are no gradients.
        """
        ...

    def trained_state(self) -> dict[str, Tensor]:
        """Give what must be saved: trained parameters, and parts that no pretrained source can give back."""
        ...

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `trained_state` gave; a tensor too many, too few or of another shape is an error."""
        ...


@dataclass(frozen=True)
class Prompts:
    """Where a promptable network is told to look in one image, a point a lesion.

    `points` (N, 2) are x and y as shares of the image's width and height, `labels` (N,) the place of each one's class
    among the categories. `scores` (N,) in [0, 1] is how sure the source is of a lesion there; None: the network says.
    """

    points: Tensor
    labels: Tensor
    scores: Tensor | None = None


@runtime_checkable
class Promptable(Protocol):
    """A network that can be told where to look; `predict` finds places itself."""

    def predict_at(self, images: Tensor, prompts: Sequence[Prompts]) -> list[Prediction]:
        """Segment images as `predict` does: a mask for each prompt of an image. There are no gradients.

        Points are shares of the images that the network sees, padding and all.
        """
        ...


@runtime_checkable
class Cacheable(Protocol):
    """A network with frozen parts, whose answer to an image never changes: `caches` keeps it on disk."""

    def frozen(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Give the answers for images (B, 3, H, W), one mapping an image; empty ones where nothing is frozen."""
        ...

    def frozen_state(self) -> Mapping[str, Tensor]:
        """Give the tensors on which the answers depend."""
        ...
