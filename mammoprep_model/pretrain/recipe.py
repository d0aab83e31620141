"""How a backbone is pretrained, as values that go to pretrain.json and come back. The defaults are MAM-E's recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mammoprep.errors import MammoprepError
from mammoprep_model.compact import DEFAULT, Sizes

STRIDE = 64
"""Pixels that the VAE (8) and the UNet (8) of Stable Diffusion turn into one: the side of an image is a multiple."""


@dataclass(frozen=True)
class StageConfig:
    """How the networks of one stage are trained."""

    steps: int = 10_000
    """Optimiser steps; 0: the stage is left out."""
    batch_size: int = 256
    """Images a step."""
    micro_batch: int = 16
    """Images that a process computes at a time; their gradients are added up. It divides `batch_size`."""
    learning_rate: float = 1e-6
    """It stays as it is."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """AdamW's; 0 for norms and biases."""
    clip_norm: float = 1.0
    """Limit of the gradient's L2 norm; 0: none."""
    ema: float = 0.999
    """Decay a step of the moving average of the weights that is the result; 0: the last weights are."""
    checkpointing: bool = True
    """Compute the UNet's activations anew in the backward pass instead of keeping them: less memory, more time."""
    mixed_precision: bool = True
    """bfloat16 autocast on a GPU, the weights in float32; a CPU computes in float32."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""


@dataclass(frozen=True)
class PretrainConfig:
    """What is shown, and how each stage is trained."""

    size: int = 512
    """Side of the square that the networks see, in pixels."""
    fit: Literal["crop", "pad"] = "crop"
    """How an image becomes a square: its short side at `size` and the middle of the long one, as MAM-E's; or its long
    side at `size` and black added on the right or below."""
    empty_prompts: float = 0.1
    """Share of the images that are shown with the empty prompt, which is what the segmenter asks with."""
    samples: int = 4
    """Images drawn for each of the four most frequent prompts on a sheet of samples; 0: no sheets."""
    sample_every: int = 1000
    """Steps of the diffusion stage between two sheets; the last step has one too."""
    sample_steps: int = 50
    """Steps from noise to an image (DDIM)."""
    guidance: float = 4.0
    """Weight of the prompt against the empty one in samples (classifier-free guidance); 1: the prompt alone."""
    distance_images: int = 256
    """Samples that are compared with real images at each sheet (Fréchet distance); 0: none."""
    diffusion: StageConfig = field(default_factory=StageConfig)


@dataclass(frozen=True)
class FromScratch(PretrainConfig):
    """The same for a small model that starts at random: it has sizes, and its autoencoder must be trained first."""

    sizes: Sizes = DEFAULT
    sample_every: int = 5000
    # For a GPU of 8 GB and some hours: the images computed at a time take 6 GiB at most in either stage, and the steps
    # 11 hours at 10 TFLOP/s (docs/training.md).
    autoencoder: StageConfig = field(
        default_factory=lambda: StageConfig(
            batch_size=16, micro_batch=8, learning_rate=1e-4, warmup_steps=1000, checkpoint_every=1000
        )
    )
    diffusion: StageConfig = field(
        default_factory=lambda: StageConfig(
            steps=25_000,
            batch_size=32,
            learning_rate=1e-4,
            warmup_steps=1000,
            checkpointing=False,
            checkpoint_every=1000,
        )
    )


BASES: Mapping[str, PretrainConfig] = {"sd-1.5": PretrainConfig(), "compact": FromScratch()}
"""What a pretraining may start from, with its values: a name of `weights.SOURCES`, or a model at random."""
STAGES = ("autoencoder", "diffusion")
"""In the order in which they are trained."""


def stages(config: PretrainConfig) -> dict[str, StageConfig]:
    """Give the stages that a config asks for, in their order."""
    found = {name: getattr(config, name) for name in STAGES if hasattr(config, name)}
    return {name: stage for name, stage in found.items() if stage.steps}


def check(config: PretrainConfig) -> None:
    """Refuse values with which no pretraining can run."""
    rules = {
        "size": (config.size > 0 and config.size % STRIDE == 0, f"a multiple of {STRIDE}"),
        "empty_prompts": (0 <= config.empty_prompts <= 1, "from 0 to 1"),
        "samples": (config.samples >= 0, "0 or more"),
        "distance_images": (config.distance_images == 0 or config.distance_images >= 2, "0, or 2 or more"),
        "guidance": (config.guidance >= 1, "1 or more"),
    }
    for name in ("sample_every", "sample_steps"):
        rules[name] = (getattr(config, name) >= 1, "1 or more")
    _refuse(config, rules, prefix="")
    if isinstance(config, FromScratch):
        _refuse(config.sizes, _size_rules(config.sizes), prefix="sizes.")
    for name in STAGES:
        if stage := getattr(config, name, None):
            _refuse(stage, _rules(stage), prefix=f"{name}.")


def _rules(stage: StageConfig) -> dict[str, tuple[bool, str]]:
    return {
        "batch_size": (stage.batch_size >= 1, "1 or more"),
        "micro_batch": (_divides(stage.micro_batch, stage.batch_size), f"a divisor of batch_size, {stage.batch_size}"),
        "learning_rate": (stage.learning_rate > 0, "positive"),
        "ema": (0 <= stage.ema < 1, "at least 0 and below 1"),
        "checkpoint_every": (stage.checkpoint_every >= 1, "1 or more"),
        **{
            name: (getattr(stage, name) >= 0, "0 or more")
            for name in ("steps", "warmup_steps", "weight_decay", "clip_norm")
        },
    }


def _size_rules(sizes: Sizes) -> dict[str, tuple[bool, str]]:
    both = (sizes.head, sizes.groups)
    return {
        "text_layers": (sizes.text_layers >= 1, "1 or more"),
        "unet": (all(_divides(part, width) for width in sizes.unet for part in both), "multiples of head and groups"),
        "vae": (all(_divides(sizes.groups, width) for width in sizes.vae), "multiples of groups"),
        "text": (_divides(sizes.text_heads, sizes.text), "a multiple of text_heads"),
    }


def _divides(part: int, whole: int) -> bool:
    return part >= 1 and whole >= part and whole % part == 0


def _refuse(config: object, rules: Mapping[str, tuple[bool, str]], *, prefix: str) -> None:
    for name, (kept, rule) in rules.items():
        if not kept:
            raise MammoprepError(f"{prefix}{name} = {getattr(config, name)} cannot be used: it must be {rule}.")
