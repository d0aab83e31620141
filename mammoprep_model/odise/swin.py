"""The backbone of Mask2Former: a Swin transformer that is trained too and sees the whole image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of images in [0, 1]: what Swin was pretrained with."""


class Swin(nn.Module):
    """Turn images into features with transformers' SwinBackbone; each stage's output has a norm of its own."""

    mean: Tensor
    std: Tensor

    def __init__(self, swin: Any, *, frozen: bool) -> None:
        super().__init__()
        self.swin = swin.requires_grad_(not frozen)
        self.swin.swin.layernorm = nn.Identity()  # behind the last stage, where nothing takes what it gives
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def channels(self) -> Sequence[int]:
        """Give the channels of the four feature maps."""
        channels: Sequence[int] = self.swin.channels
        return channels

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images (B, 3, H, W) in [0, 1] to features (B, channels, H/s, W/s), s = 4, 8, 16, 32."""
        features: tuple[Tensor, ...] = tuple(self.swin((images - self.mean) / self.std).feature_maps)
        return features
