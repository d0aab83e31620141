"""A vision transformer whose patches a decoder of convolutions enlarges to pixels, with or without prompts."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammoprep.errors import MammoprepError
from mammoprep_model.semantic.config import SetrConfig

PATCH = 16
"""Side of a patch, which the decoder's four doublings undo."""
MEAN = STD = 0.5
"""Of images in [0, 1]: what the transformer was pretrained with."""


class Setr(nn.Module):
    """Tell the category of each pixel. `vit` is transformers' ViTModel, of which the class token and its place go."""

    def __init__(self, config: SetrConfig, vit: Any, *, categories: int) -> None:
        super().__init__()
        self.backbone = Backbone(vit).requires_grad_(not config.backbone_frozen)
        self.prompts = prompts(config) if config.prompts else None
        widths = [config.width, *[config.head] * 4]
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.decoder = nn.Sequential(*(_enlarge(a, b) for a, b in zip(widths, widths[1:], strict=False)))
        self.head = nn.Conv2d(config.head, categories, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [0, 1], H and W multiples of 16, to logits (B, C, H, W)."""
        if images.shape[2] % PATCH or images.shape[3] % PATCH:
            raise MammoprepError(f"SETR sees sides that are multiples of {PATCH}. Say --set train.stride={PATCH}.")
        tokens = self.norm(self.backbone((images - MEAN) / STD, self.prompts))
        features = tokens.transpose(1, 2).reshape(len(images), -1, images.shape[2] // PATCH, images.shape[3] // PATCH)
        logits: Tensor = self.head(self.decoder(features))
        return logits


class Backbone(nn.Module):
    """A vision transformer without class token: patches with their places, layers, a norm."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.patches: nn.Conv2d = vit.embeddings.patch_embeddings.projection
        self.positions = nn.Parameter(vit.embeddings.position_embeddings[:, 1:].detach().clone())
        self.layers: nn.ModuleList = vit.layers
        self.norm: nn.LayerNorm = vit.layernorm

    def forward(self, pixels: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Map normalised pixels (B, 3, H, W) to tokens (B, H/16 · W/16, D).

        Each layer sees prompts of its own, (layers, T, D), before the image's tokens; what it makes of them goes.
        """
        patches = self.patches(pixels)
        tokens = patches.flatten(2).transpose(1, 2) + self._places((patches.shape[2], patches.shape[3]))
        own = 0 if prompts is None else prompts.shape[1]
        for number, layer in enumerate(self.layers):
            if prompts is not None:
                tokens = torch.cat([prompts[number].expand(len(tokens), -1, -1), tokens], dim=1)
            tokens = layer(tokens)[:, own:]
        states: Tensor = self.norm(tokens)
        return states

    def _places(self, grid: tuple[int, int]) -> Tensor:
        """Give the position embeddings of a grid of patches (1, h · w, D), interpolated where it is no 14 x 14."""
        side = math.isqrt(self.positions.shape[1])
        if grid == (side, side):
            return self.positions
        places = self.positions.transpose(1, 2).reshape(1, -1, side, side)
        places = F.interpolate(places, grid, mode="bicubic", align_corners=False)
        return places.flatten(2).transpose(1, 2)


def prompts(config: SetrConfig) -> nn.Parameter:
    """Give random prompts (layers, T, D), spread as those of VPT are."""
    limit = math.sqrt(6 / (3 * PATCH**2 + config.width))
    return nn.Parameter(torch.empty(config.layers, config.prompts, config.width).uniform_(-limit, limit))


def _enlarge(inputs: int, outputs: int) -> nn.Sequential:
    """Give a convolution with batch norm and ReLU that doubles the size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
    )
