"""MedSegDiff's second network: it sees the image, takes in what the UNet makes of the noised mask, ends in a mask.

From the published idea (arXiv 2211.00611): features of the mask are freed of noise by a learnable filter over all of
frequency space (FF-Parser), and say where to look in those of the image (dynamic conditional encoding).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = 32
"""Rows of frequencies for which a filter has weights; those of other sizes lie between them."""


class FrequencyFilter(nn.Module):
    """Multiply each frequency of each channel by a learnt complex number: at first 1, which lets all pass."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        weights = torch.zeros(2, channels, GRID, GRID // 2 + 1)
        weights[0] = 1
        self.weights = nn.Parameter(weights)  # real and imaginary, frequency 0 in the middle of the rows

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, H, W) to as many."""
        height, width = features.shape[-2:]
        with torch.autocast(features.device.type, enabled=False):
            spectrum = torch.fft.rfft2(features.float(), norm="ortho")
            size = (height, width // 2 + 1)
            real, imaginary = F.interpolate(self.weights, size, mode="bilinear", align_corners=True)
            weights = torch.fft.ifftshift(torch.complex(real, imaginary), dim=-2)
            filtered: Tensor = torch.fft.irfft2(spectrum * weights, s=(height, width), norm="ortho")
        return filtered.to(features.dtype)


class Highway(nn.Module):
    """An encoder and decoder over the image, with the UNet's features (B, `stages[k]`, H/2^k, W/2^k) at each level."""

    def __init__(self, stages: Sequence[int], *, channels: int, masks: int) -> None:
        super().__init__()
        widths = [channels * min(2**level, 8) for level in range(len(stages))]
        self.encoders = nn.ModuleList(_convolutions(a, b) for a, b in pairwise([1, *widths]))
        self.parsers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(stage, width, 1), FrequencyFilter(width), nn.GroupNorm(1, width))
            for stage, width in zip(stages, widths, strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths)
        self.decoders = nn.ModuleList(_convolutions(a + b, a) for a, b in pairwise(widths))
        self.anchor = nn.Conv2d(widths[-1], stages[-1], 1)
        self.mask = nn.Conv2d(widths[0], masks, 1)

    def forward(self, images: Tensor, stages: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map images (B, 1, H, W) to what is added to the UNet's innermost features, and to masks (B, C, H, W)."""
        features, levels = images, list[Tensor]()
        for encode, parse, norm, stage in zip(self.encoders, self.parsers, self.norms, stages, strict=True):
            features = encode(F.max_pool2d(features, 2) if levels else features)
            features = features + norm(features) * parse(stage) * features
            levels.append(features)
        anchor: Tensor = self.anchor(features)
        for decode, level in zip(reversed(self.decoders), reversed(levels[:-1]), strict=True):
            features = decode(torch.cat([level, F.interpolate(features, scale_factor=2.0)], dim=1))
        return anchor, self.mask(features)


def _convolutions(channels: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (channels, out):
        layers += [nn.Conv2d(width, out, kernel_size=3, padding=1), nn.GroupNorm(1, out), nn.SiLU()]
    return nn.Sequential(*layers)
