"""THE contract between the loop of pretraining and what it trains."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


class Stage(Protocol):
    """What is trained at a time: "diffusion", or before it the "autoencoder"."""

    name: str
    module: nn.Module
    """Holds the networks of the stage; parameters with requires_grad move."""

    def loss(self, images: Tensor, prompts: Sequence[str], *, generator: torch.Generator) -> dict[str, Tensor]:
        """Give the terms of the loss of images (B, 3, H, W) in [0, 1], means over the images; their sum is minimised.

        All chance comes from `generator`, on the CPU.
        """
        ...

    def finish(self, batches: Iterable[Tensor]) -> None:
        """Do what is to be done once, after the last step, with some images (B, 3, H, W) more."""
        ...
