"""Small random parts with the interfaces of the pretrained ones: they need no weights and run on two CPU cores."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 64
"""Width of the tiny encoders' embeddings."""
IMAGE_SIZE = 64
PROMPT = (8, 32)
"""Tokens and width of the tiny empty-prompt encoding."""


def unet() -> nn.Module:
    """Give a random UNet with the blocks and strides of Stable Diffusion 1.x."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    network: nn.Module = UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 32, 64, 64),
        cross_attention_dim=PROMPT[1],
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return network


def vae() -> nn.Module:
    """Give a random VAE with the blocks and strides of Stable Diffusion 1.x."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    network: nn.Module = AutoencoderKL(
        block_out_channels=(8, 16, 16, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )
    return network


def swin() -> nn.Module:
    """Give a random Swin transformer with the outputs of its four stages, at the strides of the large one."""
    from transformers import SwinBackbone, SwinConfig

    config: dict[str, Any] = {
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 2, 4],
        "window_size": 4,
        "image_size": 64,
        "out_features": [f"stage{number}" for number in range(1, 5)],
    }
    network: nn.Module = SwinBackbone(SwinConfig(**config))
    return network


def empty_prompt() -> Tensor:
    """Give a random empty-prompt encoding (1, T, D)."""
    return torch.randn(1, *PROMPT)


class ImageModel(nn.Module):
    """Map images (B, 3, S, S) to embeddings (B, WIDTH) by two strided convolutions and a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=8, stride=8), nn.GELU(), nn.Conv2d(16, WIDTH, kernel_size=2, stride=2)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Give one embedding an image."""
        embeddings: Tensor = self.layers(images).mean(dim=(2, 3))
        return embeddings


class TextModel(nn.Module):
    """Map texts to embeddings (N, WIDTH): their UTF-8 bytes through a recurrent network."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = nn.Embedding(256, WIDTH)
        self.recurrent = nn.GRU(WIDTH, WIDTH, batch_first=True)
        nn.init.orthogonal_(self.recurrent.all_weights[0][1])

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        """Give one embedding a text; the empty one is the zero state."""
        return torch.stack([self._encode(text) for text in texts])

    def _encode(self, text: str) -> Tensor:
        if not text:
            return torch.zeros(WIDTH)
        states: Any
        states, _ = self.recurrent(self.bytes(torch.tensor([list(text.encode())])))
        return F.layer_norm(states[0, -1], (WIDTH,))
