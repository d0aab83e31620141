import math

import pytest
import torch
from torch import nn

from mammoprep_model.odise.captioner import Captioner

EMPTY = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
WINDOWS = torch.rand(2, 3, 8, 8)


class Encoder(nn.Module):
    """Embeds every image as (1, 2, 3, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2, 3, 4]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale.expand(len(images), 4)


@pytest.fixture
def captioner() -> Captioner:
    torch.manual_seed(0)
    return Captioner(Encoder(), width=4, empty_prompt=EMPTY, time_width=5)


def test_it_starts_exactly_unconditional(captioner: Captioner):
    prompt, time = captioner(WINDOWS)
    assert torch.equal(prompt, EMPTY.expand(2, -1, -1))
    assert torch.equal(time, torch.zeros(2, 5))


def test_the_prompt_is_the_empty_one_plus_a_gated_projection(captioner: Captioner):
    nn.init.constant_(captioner.tokens.linear.weight, 0.1)
    nn.init.constant_(captioner.tokens.linear.bias, 0.5)
    nn.init.constant_(captioner.tokens.position, 0.25)
    nn.init.zeros_(captioner.tokens.alpha)
    captioner.tokens.alpha.data[1, 0] = 2.0
    prompt, _ = captioner(WINDOWS)
    # tanh(2) * (0.1 * (1 + 2 + 3 + 4) + 0.5 + 0.25) at token 1, channel 0; elsewhere alpha is 0.
    expected = EMPTY.clone()
    expected[0, 1, 0] += math.tanh(2) * 1.75
    assert torch.allclose(prompt, expected.expand(2, -1, -1))


def test_alpha_learns_from_the_start_and_the_encoder_never(captioner: Captioner):
    prompt, time = captioner(WINDOWS)
    (prompt.sum() + time.sum()).backward()
    assert captioner.tokens.alpha.grad.abs().min() > 0
    assert captioner.time.alpha.grad.abs().min() > 0
    assert captioner.encoder.scale.grad is None
    assert not captioner.encoder.scale.requires_grad


def test_without_a_time_width_there_is_no_time_term():
    _, time = Captioner(Encoder(), width=4, empty_prompt=EMPTY, time_width=None)(WINDOWS)
    assert time is None


def test_the_published_size_has_the_published_parameters():
    network = Captioner(nn.Identity(), width=768, empty_prompt=torch.zeros(1, 77, 768), time_width=1280)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_695_744
