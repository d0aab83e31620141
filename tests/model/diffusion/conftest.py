"""The three presets in the smallest sizes, and a batch to try them on."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from mammoprep import panoptic
from mammoprep_model import zoo
from mammoprep_model.diffusion.config import DiffusionConfig
from mammoprep_model.diffusion.network import DiffusionSegmenter, build
from mammoprep_model.segmenter import Batch

SMALL: Mapping[str, Any] = {
    **{"channels": 8, "multipliers": (1, 2), "residual_blocks": 1, "attention": (2,), "dense_blocks": 1},
    **{"dense_channels": 4, "highway_channels": 4, "samples": 3, "time_steps": 20, "sampling_steps": 4},
}


@pytest.fixture
def make(categories: tuple[panoptic.Category, ...]) -> Callable[..., DiffusionSegmenter]:
    """Build a preset in small sizes, with further values changed."""

    def build_small(name: str, **values: Any) -> DiffusionSegmenter:
        torch.manual_seed(0)
        model = zoo.preset(name).model
        assert isinstance(model, DiffusionConfig)
        return build(replace(model, **{**SMALL, **values}), categories=categories)

    return build_small


@pytest.fixture
def batch() -> Batch:
    """Two images of 16 x 24 with a bright lesion of class 1 or 0 on breast and background."""
    images, masks = torch.zeros(2, 3, 16, 24), torch.zeros(2, 3, 16, 24)
    for number, (top, left) in enumerate(((2, 3), (8, 4))):
        masks[number, 0, top : top + 6, left : left + 6] = 1
        masks[number, 1, :, :14] = 1 - masks[number, 0, :, :14]
        masks[number, 2, :, 14:] = 1
        images[number] = 0.9 * masks[number, 0] + 0.4 * masks[number, 1]
    return Batch(images, tuple(masks), (torch.tensor([1, 2, 3]), torch.tensor([0, 2, 3])), (1, 2))
