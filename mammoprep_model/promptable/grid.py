"""Masks without a prompt: points on a grid, of whose masks the sure and stable ones stay, each once."""

from collections.abc import Callable

import torch
from torch import Tensor

from mammoprep_model.promptable.config import SamConfig

Outline = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps an image's embedding (D, h, w) and points (N, 1, 2) to masks (N, 3, 4h, 4w) and their qualities (N, 3)."""
AT_ONCE = 64
"""Points that are outlined at a time."""
MOST = 100
"""Masks that are kept, the surest. As many instances are written."""
OFFSET = 1.0
"""Logits by which a stable mask may be moved."""


def find(outline: Outline, embedding: Tensor, *, config: SamConfig) -> tuple[Tensor, Tensor]:
    """Give masks (N, S/4, S/4), the surest first, and what IoU (N,) each says it has, for an embedding (D, h, w).

    SAM's automatic mask generation (arXiv 2304.02643, appendix B) on one scale. Stability and overlap are those of the
    masks, at their own size and not at the image's.
    """
    kept = [_stay(*outline(embedding, points[:, None]), config) for points in _points(embedding, config.grid)]
    masks, qualities = (torch.cat(each) for each in zip(*kept, strict=True))
    order = qualities.argsort(descending=True, stable=True)
    chosen = apart(masks[order] > 0, most=config.grid_overlap)
    return masks[order][chosen], qualities[order][chosen].clamp(0, 1)


def _points(embedding: Tensor, side: int) -> list[Tensor]:
    """Give the points (side², 2) in the middles of as many cells, some at a time."""
    middles = (torch.arange(side, device=embedding.device, dtype=torch.float32) + 0.5) / side
    points = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=-1).reshape(-1, 2)
    return [points[start : start + AT_ONCE] for start in range(0, len(points), AT_ONCE)]


def _stay(masks: Tensor, qualities: Tensor, config: SamConfig) -> tuple[Tensor, Tensor]:
    """Give the masks (M, h, w), and their qualities, that are not empty, sure and stable."""
    masks, qualities = masks.flatten(0, 1).float(), qualities.flatten().float()
    stays = (stability(masks) >= config.grid_stability) & (qualities >= config.grid_iou)
    stays &= (masks > 0).flatten(1).any(dim=1)
    return masks[stays], qualities[stays]


def stability(masks: Tensor) -> Tensor:
    """Give the IoU (N,) of each mask (N, h, w) drawn more and less generously."""
    inner, outer = ((masks > offset).flatten(1).sum(dim=1) for offset in (OFFSET, -OFFSET))
    return inner / outer.clamp(min=1)


def apart(masks: Tensor, *, most: float) -> list[int]:
    """Choose from masks (N, h, w) of truth values, the surest first, those whose IoU with each chosen is below `most`.

    No more than `MOST` are chosen.
    """
    chosen: list[int] = []
    flat = masks.flatten(1)
    for place, mask in enumerate(flat):
        if len(chosen) == MOST:
            break
        others = flat[chosen]
        ious = (others & mask).sum(dim=1) / (others | mask).sum(dim=1).clamp(min=1)
        if not bool((ious >= most).any()):
            chosen.append(place)
    return chosen
