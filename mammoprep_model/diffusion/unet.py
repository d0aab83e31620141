"""The UNet that sees a noised mask, the time and the image; its blocks are those of diffusers."""

from math import gcd
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammoprep_model.diffusion.config import DiffusionConfig


class Denoiser(nn.Module):
    """diffusers' UNet, with the image as a channel, or as `features` that are added, and with a `highway` or none."""

    def __init__(self, unet: nn.Module, *, features: nn.Module | None, highway: nn.Module | None) -> None:
        super().__init__()
        self.unet: Any = unet
        self.features = features
        self.highway = highway

    def condition(self, images: Tensor) -> Tensor:
        """Give what the network sees of images (B, 1, H, W) at every time step."""
        seen: Tensor = images if self.features is None else self.features(images)
        return seen

    def forward(self, noised: Tensor, steps: Tensor, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map noised masks (B, C, H, W) at steps (B,) to what the UNet says of them, and to the highway's masks."""
        unet = self.unet
        time = unet.time_embedding(unet.time_proj(steps).to(noised.dtype))
        if self.features is None:
            hidden = unet.conv_in(torch.cat([condition, noised], dim=1))
        else:
            hidden = unet.conv_in(noised) + condition
        skips, stages, mask = (hidden,), [], None
        for block in unet.down_blocks:
            hidden, given = block(hidden_states=hidden, temb=time)
            skips += given
            stages.append(given[len(block.resnets) - 1])
        if self.highway is not None:
            anchor, mask = self.highway(condition, stages)
            hidden = hidden + anchor
        hidden = unet.mid_block(hidden, time)
        for block in unet.up_blocks:
            own = len(block.resnets)
            skips, taken = skips[:-own], skips[-own:]
            hidden = block(hidden, taken, time)
        return unet.conv_out(F.silu(unet.conv_norm_out(hidden))), mask


def make_unet(config: DiffusionConfig, *, given: int, out: int) -> nn.Module:
    """Build a UNet with random weights for so many channels in and out."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.unets.unet_2d import UNet2DModel

    attends = [2**level in config.attention for level in range(len(config.multipliers))]
    unet: Any = UNet2DModel(
        in_channels=given,
        out_channels=out,
        block_out_channels=tuple(config.channels * multiplier for multiplier in config.multipliers),
        down_block_types=tuple("AttnDownBlock2D" if each else "DownBlock2D" for each in attends),
        up_block_types=tuple("AttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)),
        layers_per_block=config.residual_blocks,
        attention_head_dim=None,
        norm_num_groups=gcd(32, config.channels),
    )
    for module in unet.modules():  # diffusers lets the width of a head be chosen; here it is the number
        if isinstance(module, Attention):
            module.heads = config.heads
            module.scale = (module.inner_dim / config.heads) ** -0.5
    if config.checkpointing:
        unet.enable_gradient_checkpointing()
    network: nn.Module = unet
    return network
