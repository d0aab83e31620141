"""What a backbone has learnt, to look at: a sheet of images drawn from noise, always the same noise and prompts."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mammoprep import panoptic
from mammoprep_model.pretrain.diffusion import encode
from mammoprep_model.pretrain.pipeline import Pipeline
from mammoprep_model.pretrain.recipe import PretrainConfig

PROMPTS = 4
"""Rows of a sheet."""


def most_frequent(prompts: Sequence[str]) -> tuple[str, ...]:
    """Give the most frequent prompts, in the order of the alphabet where they are as frequent."""
    counted = sorted(Counter(prompts).items(), key=lambda item: (-item[1], item[0]))
    return tuple(prompt for prompt, _ in counted[:PROMPTS])


def write_sheet(path: Path, pipeline: Pipeline, prompts: Sequence[str], *, config: PretrainConfig) -> None:
    """Write a grey PNG: a row of `config.samples` images for each prompt, the noise of a column the same."""
    rows = [np.concatenate([*images], axis=1) for images in (draw(pipeline, each, config=config) for each in prompts)]
    panoptic.write_png(path, np.concatenate(rows))


@torch.no_grad()
def draw(pipeline: Pipeline, prompt: str, *, config: PretrainConfig) -> NDArray[np.uint8]:
    """Draw images (N, S, S), 8 bit, for a prompt."""
    latents = sample(pipeline, [prompt] * config.samples, config=config) / pipeline.vae.config.scaling_factor
    images = [pipeline.vae.decode(latent[None]).sample.float().mean(dim=1)[0] for latent in latents]
    grey = (torch.stack(images) / 2 + 0.5).clamp(0, 1).mul(255).round()
    drawn: NDArray[np.uint8] = grey.to("cpu", torch.uint8).numpy()
    return drawn


@torch.no_grad()
def sample(pipeline: Pipeline, prompts: Sequence[str], *, config: PretrainConfig, first: int = 0) -> Tensor:
    """Draw latents (N, C, S/8, S/8), scaled as the UNet knows them, by DDIM with classifier-free guidance.

    The noise of a prompt depends on its place alone, counted from `first`.
    """
    from diffusers import DDIMScheduler

    schedulers: Any = DDIMScheduler
    scheduler = schedulers.from_config(pipeline.scheduler.config, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(config.sample_steps)
    is_guided = config.guidance != 1
    states = encode(pipeline, [*prompts, *[""] * (len(prompts) * is_guided)])
    shape = (pipeline.unet.config.in_channels, *2 * (config.size // _stride(pipeline),))
    seeds = range(first, first + len(prompts))
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    latents = torch.stack(noise).to(states.device)
    for step in scheduler.timesteps:
        told, *untold = (
            pipeline.unet(torch.cat([latents] * (1 + is_guided)), step, states).sample.float().split(len(prompts))
        )
        guided = untold[0] + config.guidance * (told - untold[0]) if untold else told
        latents = scheduler.step(guided, step, latents).prev_sample
    return latents


def _stride(pipeline: Pipeline) -> int:
    """Give the side in pixels of what the VAE makes one latent pixel of."""
    return 1 << (len(pipeline.vae.config.block_out_channels) - 1)
