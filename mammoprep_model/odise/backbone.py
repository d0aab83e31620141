"""The diffusion backbone: a UNet's and a VAE's activations become feature maps at strides 4, 8, 16 and 32."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
TAPS = {
    "encoder_5": ("vae.encoder.down_blocks.2.resnets.1", 4),
    "encoder_7": ("vae.encoder.down_blocks.3.resnets.1", 8),
    "unet_2": ("unet.up_blocks.0.resnets.2", 32),
    "unet_5": ("unet.up_blocks.1.resnets.2", 32),
    "unet_8": ("unet.up_blocks.2.resnets.2", 16),
    "unet_11": ("unet.up_blocks.3.resnets.2", 8),
    "decoder_2": ("vae.decoder.up_blocks.0.resnets.2", 8),
    "decoder_5": ("vae.decoder.up_blocks.1.resnets.2", 4),
}
"""The blocks whose inputs are the features, numbered as in latent-diffusion, and the stride of the map they go to."""
_BETA = 0.00085
"""The first step of Stable Diffusion's noise schedule: at t = 0 the signal's variance is 1 - beta."""
_NOISE_SEED = 42


class Backbone(nn.Module):
    """Turn windows into features. The taps are the inputs of eight residual blocks, seen at t = 0 with a fixed noise.

    `frozen` keeps UNet and VAE as they are: the VAE then runs without gradients, the UNet lets them through to the
    captioner's prompt.
    """

    noise: Tensor

    def __init__(self, unet: Any, vae: Any, *, frozen: bool, projection: int, window: int, checkpointing: bool) -> None:
        super().__init__()
        self.unet = unet
        self.vae = vae
        self.frozen = frozen
        self.channels = (projection,) * len(STRIDES)
        # The identity makes the UNet add what it gets as class_labels to its time embedding.
        self.unet.class_embedding = nn.Identity()
        _cut_decoder(vae)
        _cut_unet(unet)
        if frozen:
            self.unet.requires_grad_(False)
            self.vae.requires_grad_(False)
        if checkpointing:
            self.unet.enable_gradient_checkpointing()
        blocks = self._blocks().items()
        self.projections = nn.ModuleDict({name: Bottleneck(block.in_channels, projection) for name, block in blocks})
        generator = torch.Generator("cpu").manual_seed(_NOISE_SEED)
        channels = vae.config.latent_channels
        noise = torch.randn(1, channels, window // 8, window // 8, generator=generator, device="cpu")
        self.register_buffer("noise", noise, persistent=False)

    def forward(
        self, windows: Tensor, tokens: Tensor, time: Tensor | None, *, encoded: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """Map windows (B, 3, h, w) in [0, 1] to features (B, projection, h/s, w/s), s = 4, 8, 16, 32.

        `tokens` (B, T, D) is the prompt's encoding, `time` (B, E) is added to the UNet's time embedding. `encoded` is
        what `encode` gives, where it is known.
        """
        seen = dict(encoded or self.encode(windows))
        with inputs_of(self._blocks("unet.")) as from_unet:
            self._denoise(seen["latent"] * self.vae.config.scaling_factor, tokens, time)
        seen |= from_unet
        height, width = windows.shape[-2:]
        features: dict[int, list[Tensor]] = {stride: [] for stride in STRIDES}
        for name, (_, stride) in TAPS.items():
            resized = F.interpolate(seen[name], (height // stride, width // stride), mode="nearest")
            features[stride].append(self.projections[name](resized))
        return tuple(torch.stack(maps).sum(0) for maps in features.values())

    def encode(self, windows: Tensor) -> dict[str, Tensor]:
        """Give the VAE's taps of windows (B, 3, h, w) and their `latent` (B, 4, h/8, w/8), without graph if frozen."""
        with (
            inputs_of(self._blocks("vae.")) as seen,
            torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen),
        ):
            latent: Tensor = self.vae.encode(windows * 2 - 1).latent_dist.mean
            self.vae.decode(latent)
        return {**seen, "latent": latent}

    def _denoise(self, latent: Tensor, tokens: Tensor, time: Tensor | None) -> None:
        """Run the UNet at t = 0 for the sake of its taps; what it predicts is not used."""
        noise = self.noise
        if noise.shape[-2:] != latent.shape[-2:]:
            noise = F.interpolate(noise, latent.shape[-2:], mode="bicubic")
        noisy = (1 - _BETA) ** 0.5 * latent + _BETA**0.5 * noise
        if time is None:
            time = noisy.new_zeros(())
        self.unet(noisy, 0, tokens, class_labels=time)

    def _blocks(self, part: str = "") -> dict[str, Any]:
        return {name: self.get_submodule(path) for name, (path, _) in TAPS.items() if path.startswith(part)}


class Bottleneck(nn.Module):
    """The residual block of a deep ResNet with group normalisation: `channels` in, `projection` out."""

    def __init__(self, channels: int, projection: int) -> None:
        super().__init__()
        width = projection // 4
        self.layers = nn.Sequential(
            *_convolution(channels, width, size=1),
            nn.ReLU(),
            *_convolution(width, width, size=3),
            nn.ReLU(),
            *_convolution(width, projection, size=1),
        )
        self.shortcut = nn.Sequential(*(_convolution(channels, projection, size=1) if channels != projection else ()))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, projection, H, W)."""
        return F.relu(self.layers(features) + self.shortcut(features))


def _convolution(inputs: int, outputs: int, *, size: int) -> tuple[nn.Module, nn.Module]:
    """Give a convolution without bias and its group normalisation: 32 groups, fewer where channels are few."""
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution, nn.GroupNorm(math.gcd(32, outputs // 4), outputs)


@contextmanager
def inputs_of(blocks: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collect what enters each block while the context is open.

    The hooks go with the context, so that a checkpoint's recomputation in the backward pass leaves no trace.
    """
    seen: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _, inputs: seen.update({name: inputs[0]})

    handles = [block.register_forward_pre_hook(watch(name)) for name, block in blocks.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _cut_decoder(vae: Any) -> None:
    """Drop the VAE decoder's layers behind its last tap: no feature needs them, and they are its most expensive."""
    decoder = vae.decoder
    decoder.up_blocks = decoder.up_blocks[:2]
    decoder.up_blocks[1].upsamplers = None
    decoder.conv_norm_out = decoder.conv_act = decoder.conv_out = nn.Identity()


def _cut_unet(unet: Any) -> None:
    """Drop the UNet's layers behind its last tap, the input of the last residual block: what they predict is not used.

    They work at the full size of the latent, and where the UNet is trained no gradient reaches them.
    """
    last = unet.up_blocks[-1]
    last.resnets[-1] = _End(last.resnets[-1].in_channels)
    if hasattr(last, "attentions"):
        last.attentions[-1] = _Unattended()
    unet.conv_norm_out = unet.conv_act = unet.conv_out = nn.Identity()


class _End(nn.Module):
    """Stands where a tapped block stood that nothing needs to run."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        """Give back what enters."""
        return features


class _Unattended(nn.Module):
    """Stands where an attention block stood."""

    def forward(self, features: Tensor, **_: Any) -> tuple[Tensor]:
        """Give back what enters, as diffusers' transformers do without `return_dict`."""
        return (features,)


def origins(size: tuple[int, int], *, window: int) -> list[tuple[int, int]]:
    """Give the upper left corners (y, x) of the windows that cover an image (H, W).

    They lie side by side; the last row and column are shifted back to end with the image.
    """
    rows, columns = ([min(at, max(side - window, 0)) for at in range(0, side, window)] for side in size)
    return [(row, column) for row in rows for column in columns]


def cut(images: Tensor, *, window: int) -> Tensor:
    """Cut images (B, C, H, W) into windows (N * B, C, h, w), window by window of `origins`; h, w <= `window`."""
    corners = origins((images.shape[2], images.shape[3]), window=window)
    return torch.cat([images[:, :, y : y + window, x : x + window] for y, x in corners])


def merge(features: Tensor, size: tuple[int, int], *, window: int) -> Tensor:
    """Lay the features (N * B, D, h/s, w/s) of windows side by side: (B, D, H/s, W/s). Overlaps are averaged."""
    corners = origins(size, window=window)
    if len(corners) == 1:
        return features
    stride = min(size[0], window) // features.shape[2]
    parts = features.chunk(len(corners))
    total = features.new_zeros(*parts[0].shape[:2], size[0] // stride, size[1] // stride)
    count = features.new_zeros(total.shape[2:])
    for part, (y, x) in zip(parts, corners, strict=True):
        rows = slice(y // stride, y // stride + part.shape[2])
        columns = slice(x // stride, x // stride + part.shape[3])
        total[:, :, rows, columns] += part
        count[rows, columns] += 1
    return total / count
