"""How weights move: AdamW and its learning rate over the steps."""

import torch
from torch import nn

from mammoprep_model.config import TrainConfig


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Give AdamW over the trained parameters, without weight decay on norms and biases (those of one dimension)."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Give the rate of a step (from 1): a linear warm-up, then a tenth after each milestone that is passed."""
    progress = min(1.0, (step - 1) / config.warmup_steps) if config.warmup_steps else 1.0
    warmup = config.warmup_factor + (1 - config.warmup_factor) * progress
    passed = sum(step > milestone * config.steps for milestone in config.milestones)
    return config.learning_rate * warmup * 0.1**passed
