"""What a network of the diffusion family is made of, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mammoprep_model.config import Architecture, keep


@dataclass(frozen=True)
class DiffusionConfig(Architecture):
    """A UNet that turns noise into masks, conditioned on the image. The defaults are EnsemDiff's.

    A mask has a channel for each category, things and stuff, so that every pixel is said to be something.
    """

    objective: Literal["diffusion", "feed-forward"] = "diffusion"
    """What is learnt: the noise in a noised mask; or, by the same network, the mask itself from noise alone."""
    condition: Literal["add", "concat", "highway"] = "concat"
    """How the image enters: features of it, by residual dense blocks, added after the UNet's first convolution; as one
    more input channel; so, and by a second network that ends in a mask of its own (MedSegDiff's highway)."""
    mask_range: Literal["signed", "unit"] = "unit"
    """What a mask is coded as: -1 and 1, or 0 and 1."""
    loss: Literal["sum", "mean"] = "mean"
    """Of the squared error over pixels and channels."""
    learned_variance: bool = True
    """Learn the variance of each step back too, by the variational bound; False: it is beta."""
    highway_weight: float = 10.0
    """Weight of the highway's squared error."""
    time_steps: int = 1000
    """Steps of the forward process, whose beta rises in a straight line."""
    channels: int = 128
    """Channels of the UNet at full resolution."""
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Times as many channels at each level, the sides halved from one to the next."""
    residual_blocks: int = 2
    """Of a level."""
    attention: tuple[int, ...] = (16,)
    """Strides of the levels with self-attention."""
    heads: int = 1
    dense_blocks: int = 12
    """Residual-in-residual dense blocks, where features are added."""
    dense_channels: int = 64
    highway_channels: int = 32
    """Channels of the highway at full resolution; they double from level to level, up to eight times as many."""
    samples: int = 5
    """Masks that are drawn for an image."""
    fuse: Literal["mean", "staple"] = "mean"
    """How they become one: by their mean, or by STAPLE."""
    sampler: Literal["ddpm", "ddim", "dpm-solver"] = "ddpm"
    sampling_steps: int = 0
    """Steps from noise to a mask; 0: as many as `time_steps`."""
    sampling_seed: int = 0
    """Start of the noise that masks are drawn from, the same for every image."""
    checkpointing: bool = False
    """Recompute the UNet's activations in the backward pass instead of keeping them."""

    @property
    def low(self) -> float:
        """Give the value that codes "not this class"."""
        return -1.0 if self.mask_range == "signed" else 0.0

    @property
    def learns_variance(self) -> bool:
        """Tell whether the network has a second output for each channel."""
        return self.learned_variance and self.objective == "diffusion"

    @property
    def stride(self) -> int:
        """Give what the sides of an image must be multiples of."""
        return 1 << (len(self.multipliers) - 1)

    @property
    def shown(self) -> Mapping[str, str]:
        """Give what `mammoprep models` says of it."""
        return {"backbone": "unet *", "class head": "pixels"}

    @property
    def leaner(self) -> str:
        """Give what recomputes activations instead of keeping them."""
        return "" if self.checkpointing else "model.checkpointing=true"

    def __post_init__(self) -> None:
        counts = (self.channels, self.residual_blocks, self.heads, self.samples, *self.multipliers)
        parts = (self.dense_blocks, self.dense_channels, self.highway_channels)
        keep(
            {
                "sizes, blocks, heads and samples must be at least 1": min(*counts, *parts) >= 1,
                "multipliers must name 2 levels or more": len(self.multipliers) >= 2,
                "channels must be a multiple of 4": self.channels % 4 == 0,
                "time_steps must be at least 2": self.time_steps >= 2,
                "sampling_seed must lie in 0 … 2^32 - 1": 0 <= self.sampling_seed < 2**32,
                "highway_weight must not be negative": self.highway_weight >= 0,
            }
        )

    def check(self) -> None:
        """Refuse values that do not go together; one at a time they may be set in any order."""
        strides = {1 << level for level in range(len(self.multipliers))}
        keep(
            {
                f"attention must name strides of the levels, {min(strides)} … {max(strides)}": {*self.attention}
                <= strides,
                "channels must be a multiple of heads": self.channels % self.heads == 0,
                "sampling_steps must lie in 0 … time_steps": 0 <= self.sampling_steps <= self.time_steps,
                "samples must be at most 16 for STAPLE": self.fuse == "mean" or self.samples <= 16,
            }
        )
