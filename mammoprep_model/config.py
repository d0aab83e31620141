"""What a network and its training are made of, as values: frozen dataclasses that go to run.json and come back."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained. The defaults are ODISE's, in steps instead of COCO epochs."""

    size: int = 1024
    """Long side of an image in pixels before augmentation, and at prediction."""
    crop: int = 1024
    """Side of the square training window, a multiple of 64."""
    scale: tuple[float, float] = (0.1, 2.0)
    """Range of the random rescaling (large scale jitter)."""
    flip: bool = True
    """Mirror half of the images left to right."""
    steps: int = 9000
    """Optimiser steps."""
    batch_size: int = 4
    """Images a step."""
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    """AdamW's; 0 for norms and biases."""
    warmup_steps: int = 250
    warmup_factor: float = 0.067
    milestones: tuple[float, float] = (0.889, 0.963)
    """Fractions of the steps after which the learning rate falls tenfold."""
    clip_norm: float = 0.01
    """Limit of the gradient's L2 norm over the trained parameters."""
    mixed_precision: bool = True
    """bfloat16 autocast on a GPU; a CPU computes in float32."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    object_threshold: float = 0.0
    """Score above which a mask enters the panoptic map."""
    overlap_threshold: float = 0.8
    """Share of a mask that must stay visible in the panoptic map."""
