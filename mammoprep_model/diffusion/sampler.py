"""From noise to a mask, by the samplers of diffusers; every step's estimate of the mask is kept in its range."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mammoprep_model.diffusion.config import DiffusionConfig

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""Maps x_t (S, C, H, W) and t (S,) to x_0, as the network estimates it, and to the log variance's share or None."""


def generators(config: DiffusionConfig) -> list[torch.Generator]:
    """Give each sample its own stream of random numbers, on the CPU so that every device draws the same."""
    return [torch.Generator().manual_seed((config.sampling_seed << 16) + sample) for sample in range(config.samples)]


def start(shape: Sequence[int], streams: Sequence[torch.Generator], *, device: torch.device) -> Tensor:
    """Draw the noise (S, C, H, W) that S samples start from."""
    return torch.stack([torch.randn(*shape, generator=stream) for stream in streams]).to(device)


def draw(denoise: Denoise, noise: Tensor, *, config: DiffusionConfig, betas: Tensor, streams: Any) -> Tensor:
    """Go from noise to masks (S, C, H, W): the x_0 that the last step estimates."""
    scheduler = make_scheduler(config, betas=betas)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # DPM-Solver hands NumPy a tensor in an old way
        scheduler.set_timesteps(config.sampling_steps or config.time_steps, device=noise.device)
    places = scheduler.timesteps.tolist()
    takes_variance = config.sampler == "ddpm" and config.learns_variance
    takes_noise = {"generator": streams} if config.sampler == "ddpm" else {}
    noised = noise
    for place in places:
        clean, share = denoise(noised, torch.full((len(noised),), place, device=noised.device))
        if place == places[-1]:
            break
        output = torch.cat([clean, share], dim=1) if takes_variance and share is not None else clean
        noised = scheduler.step(output, place, noised, **takes_noise).prev_sample
    return clean


def make_scheduler(config: DiffusionConfig, *, betas: Tensor) -> Any:
    """Give diffusers' scheduler, told what x_0 is at every step; the first step is t = T - 1."""
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    kinds: dict[str, Any] = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler, "dpm-solver": DPMSolverMultistepScheduler}
    settings: dict[str, Any] = {
        "num_train_timesteps": config.time_steps,
        "trained_betas": betas.cpu().numpy(),
        "prediction_type": "sample",
        "timestep_spacing": "trailing",
    }
    if config.sampler != "dpm-solver":
        settings["clip_sample"] = False
    if config.sampler == "ddpm":
        settings["variance_type"] = "learned_range" if config.learns_variance else "fixed_large"
    return kinds[config.sampler](**settings)
