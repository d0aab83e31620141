"""The schedule's values by hand; weight decay spares norms and biases."""

import pytest
import torch
from torch import nn

from mammoprep_model.config import TrainConfig
from mammoprep_model.optimizer import learning_rate, make_optimizer

CONFIG = TrainConfig(steps=100, learning_rate=1.0, warmup_steps=10, warmup_factor=0.2, milestones=(0.5, 0.9))


@pytest.mark.parametrize(
    ("step", "rate"), [(1, 0.2), (6, 0.6), (11, 1.0), (50, 1.0), (51, 0.1), (90, 0.1), (91, 0.01), (100, 0.01)]
)
def test_the_rate_warms_up_and_falls_at_the_milestones(step: int, rate: float) -> None:
    assert learning_rate(step, CONFIG) == pytest.approx(rate)


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert learning_rate(1, TrainConfig(learning_rate=0.5, warmup_steps=0)) == 0.5


def test_norms_and_biases_do_not_decay_and_frozen_weights_do_not_move() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LayerNorm(4), nn.Linear(4, 4).requires_grad_(False))
    decaying, others = make_optimizer(module, TrainConfig(weight_decay=0.3)).param_groups
    assert [parameter.shape for parameter in decaying["params"]] == [torch.Size([2, 1, 3, 3])]
    assert len(others["params"]) == 3
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.3, 0)
