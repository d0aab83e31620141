"""The schedule's values by hand; weight decay spares norms and biases."""

import pytest
import torch
from torch import nn

from mammoprep_model.config import TrainConfig
from mammoprep_model.optimizer import Average, learning_rate, make_optimizer, set_rate, with_steps

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


def test_a_backbone_moves_at_its_own_rate() -> None:
    module = nn.ModuleDict({"backbone": nn.ModuleDict({"swin": nn.Linear(2, 2)}), "head": nn.Linear(2, 2)})
    vars(module)["pretrained"] = ("backbone.swin.",)
    optimizer = make_optimizer(module, TrainConfig(backbone_rate=0.1, weight_decay=0.2))
    set_rate(optimizer, 0.5)
    found = [(len(g["params"]), g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert found == [(1, 0.5, 0.2), (1, 0.5, 0.0), (1, 0.05, 0.2), (1, 0.05, 0.0)]


@pytest.mark.parametrize(
    ("epochs", "images", "steps"), [(0.0, 7, 100), (1.0, 8, 2), (1.0, 9, 3), (2.5, 8, 5), (0.01, 4, 1)]
)
def test_epochs_become_steps(epochs: float, images: int, steps: int) -> None:
    """Batches of four: nine images take three steps."""
    assert with_steps(TrainConfig(steps=100, epochs=epochs, batch_size=4), images=images).steps == steps


def test_the_average_follows_the_weights_slowly() -> None:
    """From 0 to weights of 1 and 1: 0.1, then 0.1 + 0.1 · 0.9 = 0.19."""
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1).requires_grad_(False))
    nn.init.zeros_(module[0].weight)
    average = Average(module, decay=0.9)
    nn.init.ones_(module[0].weight)
    average.update()
    average.update()
    assert average.weights.keys() == {"0.weight"}
    assert average.weights["0.weight"].item() == pytest.approx(0.19)
    last = average.put_in()
    assert module[0].weight.item() == pytest.approx(0.19)
    average.take_out(last)
    assert module[0].weight.item() == 1.0
