"""How weights move: AdamW and its learning rate over the steps."""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil

import torch
from torch import Tensor, nn

from mammoprep_model.config import TrainConfig


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Give AdamW over the trained parameters, without weight decay on norms and biases (those of one dimension).

    Each group has a `factor` of the learning rate: `backbone_rate` for the weights that the backbone comes with, whose
    names start with one of the network's `pretrained`, where it has such; else 1.
    """
    own: tuple[str, ...] = getattr(module, "pretrained", ())
    trained = [(name.startswith(own), p) for name, p in module.named_parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for is_own, p in trained if is_own == of_backbone and (p.ndim > 1) == decays],
            "weight_decay": config.weight_decay if decays else 0.0,
            "factor": config.backbone_rate if of_backbone else 1.0,
        }
        for of_backbone in (False, True)
        for decays in (True, False)
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate, times each group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


class Average:
    """The moving average of a network's trained weights: average = decay · average + (1 - decay) · weights."""

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self._trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._decay = decay
        self.weights = {name: parameter.detach().clone() for name, parameter in self._trained.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take a step's weights in."""
        for name, parameter in self._trained.items():
            self.weights[name].lerp_(parameter, 1 - self._decay)

    @torch.no_grad()
    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the average of a checkpoint."""
        for name, average in self.weights.items():
            average.copy_(weights[name])

    @torch.no_grad()
    def put_in(self) -> dict[str, Tensor]:
        """Put the average in the place of the weights; give these back."""
        last = {name: parameter.detach().clone() for name, parameter in self._trained.items()}
        self._set(self.weights)
        return last

    @torch.no_grad()
    def take_out(self, last: Mapping[str, Tensor]) -> None:
        """Put the weights back."""
        self._set(last)

    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._trained.items():
            parameter.copy_(weights[name])


def with_steps(config: TrainConfig, *, images: int) -> TrainConfig:
    """Give the config with the steps that its epochs make on so many training images."""
    if not config.epochs:
        return config
    return replace(config, steps=max(1, ceil(config.epochs * images / config.batch_size)))


def learning_rate(step: int, config: TrainConfig) -> float:
    """Give the rate of a step (from 1): a linear warm-up, then a tenth after each milestone that is passed.

    Where the schedule has no milestones it is the rate that `Schedule` lets fall.
    """
    progress = min(1.0, (step - 1) / config.warmup_steps) if config.warmup_steps else 1.0
    warmup = config.warmup_factor + (1 - config.warmup_factor) * progress
    milestones = config.milestones if config.schedule == "milestones" else ()
    passed = sum(step > milestone * config.steps for milestone in milestones)
    return config.learning_rate * warmup * 0.1**passed
