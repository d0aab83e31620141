"""A U-Net (arXiv 1505.04597) with batch norm, bilinear enlargement and a head of one more convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammoprep_model.semantic.config import UNetConfig


def convolve(inputs: int, outputs: int, *, kernel: int = 3) -> nn.Sequential:
    """Give a convolution that keeps the size, batch norm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Tell the category of each pixel: two convolutions on each level on the way down, two on the way up."""

    def __init__(self, config: UNetConfig, *, categories: int) -> None:
        super().__init__()
        widths = [config.width * 2**level for level in range(config.levels)]
        pairs = list(zip([3, *widths], widths, strict=False))
        self.down = nn.ModuleList(nn.Sequential(convolve(a, b), convolve(b, b)) for a, b in pairs)
        steps = pairs[:0:-1]  # from the lowest level to the one above it, and so on
        self.enlarge = nn.ModuleList(convolve(b, a, kernel=1) for a, b in steps)
        self.up = nn.ModuleList(nn.Sequential(convolve(b, a), convolve(a, a)) for a, b in steps)
        self.head = nn.Sequential(convolve(config.width, config.head), nn.Conv2d(config.head, categories, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1] to logits (B, C, H, W)."""
        states = images
        levels: list[Tensor] = []
        for block in self.down:
            states = block(F.max_pool2d(states, 2) if levels else states)
            levels.append(states)
        for enlarge, block, level in zip(self.enlarge, self.up, levels[-2::-1], strict=True):
            large = F.interpolate(states, level.shape[2:], mode="bilinear", align_corners=False)
            states = block(torch.cat([level, enlarge(large)], dim=1))
        logits: Tensor = self.head(states)
        return logits
