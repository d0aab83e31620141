"""The stage in which a VAE learns to turn mammograms into latents and back, before a diffusion model learns these."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mammoprep_model.pretrain.pipeline import Pipeline

_KL_WEIGHT = 1e-6
"""Latent diffusion's (arXiv 2112.10752): of one nat of divergence beside an absolute difference of one pixel."""


class Autoencoder:
    """Rebuilds images from latents that are drawn around the encoder's mean.

    Latent diffusion adds a perceptual and an adversarial loss; both need a further network, and neither is here. So
    what is rebuilt is a little smooth.
    """

    name = "autoencoder"

    def __init__(self, pipeline: Pipeline, *, checkpointing: bool = False) -> None:
        self._vae = pipeline.vae
        self.module: nn.Module = nn.ModuleDict({"vae": pipeline.vae}).requires_grad_(True)
        if checkpointing:
            self._vae.enable_gradient_checkpointing()
        else:
            self._vae.disable_gradient_checkpointing()

    def loss(self, images: Tensor, prompts: Sequence[str], *, generator: torch.Generator) -> dict[str, Tensor]:
        """Give the mean absolute difference, and the divergence of the latents from standard normal ones.

        Pixels are in [-1, 1]; the divergence is divided by the number of an image's values, as the differences are.
        """
        pixels = 2 * images - 1
        found = self._vae.encode(pixels).latent_dist
        mean = found.mean.float()
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        rebuilt = self._vae.decode(mean + found.std.float() * noise).sample.float()
        divergence = (mean.square() + found.var.float() - 1 - found.logvar.float()).sum() / 2
        return {"l1": (rebuilt - pixels).abs().mean(), "kl": _KL_WEIGHT * divergence / pixels.numel()}

    @torch.no_grad()
    def finish(self, batches: Iterable[Tensor]) -> None:
        """Set the factor that gives drawn latents of these images a standard deviation of 1."""
        count, total, squares = 0, 0.0, 0.0
        for images in batches:
            found = self._vae.encode(2 * images - 1).latent_dist
            mean = found.mean.double()
            count += mean.numel()
            total += float(mean.sum())
            squares += float((mean.square() + found.var.double()).sum())
        variance = squares / count - (total / count) ** 2
        self._vae.register_to_config(scaling_factor=variance**-0.5)
