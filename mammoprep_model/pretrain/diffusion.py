"""The stage in which UNet and text encoder learn mammograms in the latent space of a frozen VAE."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammoprep.errors import MammoprepError
from mammoprep_model.pretrain.pipeline import Pipeline


class Diffusion:
    """Predicts the noise in a noised latent from its prompt; or v, or the latent, where the base was trained so."""

    name = "diffusion"

    def __init__(self, pipeline: Pipeline, *, checkpointing: bool = False) -> None:
        self._pipeline = pipeline
        networks = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder, "vae": pipeline.vae}
        self.module: nn.Module = nn.ModuleDict(networks).requires_grad_(True)
        pipeline.vae.requires_grad_(False)
        self._predicts = pipeline.scheduler.config.prediction_type
        if self._predicts not in ("epsilon", "v_prediction", "sample"):
            raise MammoprepError(
                f"A base that predicts {self._predicts!r} cannot be pretrained: epsilon, v_prediction and sample can."
            )
        if checkpointing:
            pipeline.unet.enable_gradient_checkpointing()

    def loss(self, images: Tensor, prompts: Sequence[str], *, generator: torch.Generator) -> dict[str, Tensor]:
        """Give the mean squared error of what is predicted at a random time step of each image (B, 3, H, W)."""
        latents = latents_of(self._pipeline, images, generator=generator)
        noise = _normal(latents, generator=generator)
        scheduler = self._pipeline.scheduler
        steps = torch.randint(scheduler.config.num_train_timesteps, (len(images),), generator=generator)
        steps = steps.to(images.device)
        noised = scheduler.add_noise(latents, noise, steps)
        predicted = self._pipeline.unet(noised, steps, encode(self._pipeline, prompts)).sample
        return {"mse": F.mse_loss(predicted.float(), self._target(latents, noise, steps))}

    def finish(self, batches: Iterable[Tensor]) -> None:
        """Do nothing: the networks are as they are to be."""

    def _target(self, latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        if self._predicts == "v_prediction":
            velocity: Tensor = self._pipeline.scheduler.get_velocity(latents, noise, steps)
            return velocity
        return noise if self._predicts == "epsilon" else latents


@torch.no_grad()
def latents_of(pipeline: Pipeline, images: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw the latents (B, C, H/8, W/8) of images (B, 3, H, W) in [0, 1] from what the VAE says of them."""
    found = pipeline.vae.encode(2 * images - 1).latent_dist
    mean = found.mean.float()
    drawn = mean + found.std.float() * _normal(mean, generator=generator)
    scaled: Tensor = drawn * pipeline.vae.config.scaling_factor
    return scaled


def encode(pipeline: Pipeline, prompts: Sequence[str]) -> Tensor:
    """Give the states (B, T, D) of prompts, each padded to the text encoder's length."""
    encoder = pipeline.text_encoder
    length = encoder.config.max_position_embeddings
    tokens = pipeline.tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    states: Tensor = encoder(tokens["input_ids"].to(encoder.device)).last_hidden_state
    return states


def _normal(like: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers, on the CPU so that every device has the same."""
    return torch.randn(like.shape, generator=generator).to(like.device)
