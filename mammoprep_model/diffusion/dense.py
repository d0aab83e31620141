"""Features of the image by residual-in-residual dense blocks, from the published idea (ESRGAN, arXiv 1809.00219)."""

import torch
from torch import Tensor, nn

GROWTH = 32
"""Channels that each convolution of a dense block adds."""
SHARE = 0.2
"""Of what a block finds, before it is added to what came in."""
_LAYERS, _IN_A_BLOCK, _SLOPE = 5, 3, 0.2


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it gave."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [channels + GROWTH * place for place in range(_LAYERS)]
        given = [GROWTH] * (_LAYERS - 1) + [channels]
        self.layers = nn.ModuleList(
            nn.Conv2d(width, out, kernel_size=3, padding=1) for width, out in zip(widths, given, strict=True)
        )
        self.activation = nn.LeakyReLU(_SLOPE)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, H, W) to as many."""
        seen = features
        for layer in self.layers[:-1]:
            seen = torch.cat([seen, self.activation(layer(seen))], dim=1)
        found: Tensor = self.layers[-1](seen)
        return features + SHARE * found


class ResidualDense(nn.Module):
    """Three dense blocks and a way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(channels) for _ in range(_IN_A_BLOCK)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, H, W) to as many."""
        found: Tensor = self.blocks(features)
        return features + SHARE * found


class ImageFeatures(nn.Module):
    """Map an image (B, 1, H, W) to features (B, `out`, H, W)."""

    def __init__(self, *, blocks: int, channels: int, out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, kernel_size=3, padding=1)
        body = [ResidualDense(channels) for _ in range(blocks)]
        self.body = nn.Sequential(*body, nn.Conv2d(channels, channels, kernel_size=3, padding=1))
        self.last = nn.Conv2d(channels, out, kernel_size=3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Give the features."""
        first = self.first(images)
        features: Tensor = self.last(first + self.body(first))
        return features
