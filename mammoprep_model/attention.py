"""Attention of a vision transformer's class token to a part of the image."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend_within(tokens: Tensor, inside: Tensor, *, layers: Iterable[nn.Module]) -> Tensor:
    """Let a copy of the class token see only the patches that a mask touches, in every layer: (B, Q, W).

    `tokens` (B, 1 + P, W) are the class token and the patches before the first layer, `inside` (B, Q, S, S) the masks
    at the image's size, true inside. A copy sees the class token too, so that an empty mask sees something; nothing
    sees a copy, so that class token and patches stay what they are without it (MaskCLIP).
    """
    grid, own = math.isqrt(tokens.shape[1] - 1), tokens.shape[1]
    touched = F.max_pool2d(inside.float(), inside.shape[-1] // grid).flatten(2) > 0
    total = own + touched.shape[1]
    barred = torch.ones(len(tokens), 1, total, total, dtype=torch.bool, device=tokens.device)
    barred[..., :own, :own] = False
    barred[..., own:, 0] = False
    barred[:, 0, own:, 1:own] = ~touched
    mask = torch.zeros_like(barred, dtype=tokens.dtype).masked_fill(barred, -math.inf)
    states = torch.cat([tokens, tokens[:, :1].expand(-1, touched.shape[1], -1)], dim=1)
    for layer in layers:
        states = layer(states, attention_mask=mask)
    return states[:, own:]
