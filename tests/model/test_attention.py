"""A copy of the class token sees what a mask touches, and nothing else changes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mammoprep_model.attention import attend_within


class Mean(nn.Module):
    """A layer in which each token becomes the mean of those that it may see."""

    def forward(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        return attention_mask[:, 0].softmax(-1) @ states


def test_a_copy_averages_the_class_token_and_the_patches_that_its_mask_touches():
    tokens = torch.tensor([[[10.0], [1.0], [2.0], [3.0], [4.0]]])  # the class token, then 2 x 2 patches
    inside = torch.zeros(1, 3, 4, 4, dtype=torch.bool)
    inside[0, 0, 1, 3] = True  # one pixel of the upper right patch
    inside[0, 1, 2:] = True  # both lower patches
    seen = attend_within(tokens, inside, layers=[Mean()])
    assert seen.flatten().tolist() == pytest.approx([(10 + 2) / 2, (10 + 3 + 4) / 3, 10])


def test_nothing_sees_a_copy():
    """After a second layer a copy averages what class token and patches became without it: all 4."""
    tokens = torch.tensor([[[10.0], [1.0], [2.0], [3.0], [4.0]]])
    inside = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    inside[0, 0, :2, 2:] = True
    assert attend_within(tokens, inside, layers=[Mean(), Mean()]).item() == pytest.approx(4)


@pytest.mark.parametrize("part", ["clip", "biomedclip"])
def test_a_mask_of_the_whole_image_gives_the_embedding_of_the_image(part: str, clip_folder, biomedclip_folder):
    from mammoprep_model import parts

    places = {"clip": str(clip_folder), "biomedclip": str(biomedclip_folder)}
    encoder: Any = parts.load_encoders(part, places).image.double()
    images = torch.rand(2, 3, 40, 64, dtype=torch.float64)
    masks = torch.cat([torch.ones(2, 1, 10, 16), -torch.ones(2, 1, 10, 16)], dim=1).double()
    with torch.no_grad():
        whole, nothing = encoder.within(images, masks).unbind(1)
        assert torch.allclose(whole, encoder(images), atol=1e-12)
    assert nothing.isfinite().all()
    assert not torch.allclose(nothing, whole)
