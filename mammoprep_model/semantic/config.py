"""What semantic networks are made of, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mammoprep_model.config import RANDOM, Architecture, keep


@dataclass(frozen=True)
class UNetConfig(Architecture):
    """A U-Net. The defaults are MMSegmentation's UNet-S5-D16, whose parameters the thesis's number counts."""

    width: int = 64
    """Channels of the first level; each further one has twice as many."""
    levels: int = 5
    """Resolutions, each half of the one before."""
    head: int = 64
    """Channels of the convolution before the logits."""

    @property
    def shown(self) -> Mapping[str, str]:
        """Give its name and its head."""
        return {"backbone": "u-net *", "class head": "pixels"}

    def __post_init__(self) -> None:
        keep({"width, levels and head must be at least 1": min(self.width, self.levels, self.head) >= 1})


@dataclass(frozen=True)
class SetrConfig(Architecture):
    """A vision transformer under a decoder of convolutions (SETR-PUP, arXiv 2012.15840). The defaults are ViT-L/16."""

    backbone: str = "vit-l"
    """What the transformer starts from: a name of `weights.SOURCES`, or `random`."""
    backbone_frozen: bool = False
    """False trains the transformer too."""
    prompts: int = 0
    """Trained tokens that each layer of the transformer sees beside the image's (VPT-deep, arXiv 2203.12119)."""
    width: int = 1024
    """Width of the transformer's tokens."""
    layers: int = 24
    """Layers of the transformer."""
    heads: int = 16
    """Attention heads of a layer."""
    head: int = 256
    """Channels of the decoder's convolutions."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Give the transformer, unless it starts at random."""
        return () if self.backbone == RANDOM else (self.backbone,)

    @property
    def shown(self) -> Mapping[str, str]:
        """Give the transformer, with a star where it is trained, and what prompts it."""
        prompts = {"captioner": f"{self.prompts} tokens"} if self.prompts else {}
        return {"backbone": self.backbone + " *" * (not self.backbone_frozen), **prompts, "class head": "pixels"}

    @property
    def trained(self) -> "SetrConfig":
        """Give it with a transformer that starts anywhere, if it was trained."""
        return self if self.backbone_frozen else replace(self, backbone=RANDOM)

    def __post_init__(self) -> None:
        sizes = (self.width, self.layers, self.heads, self.head)
        keep(
            {
                "width, layers, heads and head must be at least 1": min(sizes) >= 1,
                "width must be a multiple of heads": self.width % max(self.heads, 1) == 0,
                "prompts must be 0 or more": self.prompts >= 0,
            }
        )
