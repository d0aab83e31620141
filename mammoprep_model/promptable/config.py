"""What promptable networks are made of, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mammoprep_model.config import RANDOM, Architecture, keep

PATCH = 16
"""Side of a patch in pixels."""


@dataclass(frozen=True)
class SamConfig(Architecture):
    """A Segment Anything Model (arXiv 2304.02643). The defaults are its ViT-L's sizes, and the Twente thesis's loss.

    Where SAM's paper and the thesis are silent: how many points lie on a lesion in training (one), and the focal loss's
    alpha and gamma (0.25 and 2, arXiv 1708.02002).
    """

    backbone: str = "sam-vit-l"
    """What the whole network starts from: a name of `weights.SOURCES`, or `random`."""
    backbone_frozen: bool = False
    """False trains all of it."""
    prompts: str = "ground-truth"
    """What tells it where to look at prediction: `ground-truth`, `grid`, or `detections:` and a RUN or PREDICTIONS."""
    size: int = 1024
    """Side of the square images that it sees, a multiple of 16."""
    width: int = 1024
    """Width of the image encoder's tokens."""
    layers: int = 24
    """Layers of the image encoder; at the end of each quarter one sees the whole image, the others windows."""
    heads: int = 16
    """Attention heads of a layer."""
    hidden: int = 256
    """Width of prompts and mask decoder, a multiple of 32."""
    feedforward: int = 2048
    """Width inside the mask decoder's layers."""
    points: int = 1
    """Random points on each lesion in training."""
    iou_on_all: bool = False
    """Learn to tell the quality of all three masks of a prompt; False: only that of the best, as the thesis did."""
    grid: int = 32
    """Points along a side of the grid of `grid`."""
    grid_iou: float = 0.88
    """Quality that a mask of the grid must say of itself to stay."""
    grid_stability: float = 0.95
    """Its least IoU between logits above 1 and above -1."""
    grid_overlap: float = 0.7
    """IoU with a surer mask from which a mask of the grid goes."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Give the pretrained network, unless it starts at random."""
        return () if self.backbone == RANDOM else (self.backbone,)

    @property
    def shown(self) -> Mapping[str, str]:
        """Give the network, with a star where it is trained, and that the prompt brings the class."""
        return {"backbone": self.backbone + " *" * (not self.backbone_frozen), "class head": "prompt's"}

    @property
    def trained(self) -> "SamConfig":
        """Give it with a network that starts anywhere, if it was trained."""
        return self if self.backbone_frozen else replace(self, backbone=RANDOM)

    @property
    def prompted_by(self) -> str:
        """Give what tells it where to look."""
        return self.prompts

    def __post_init__(self) -> None:
        sizes = (self.size, self.width, self.layers, self.heads, self.hidden, self.feedforward, self.points, self.grid)
        rules = {
            "sizes, layers, points and grid must be at least 1": min(sizes) >= 1,
            f"size must be a multiple of {PATCH}": self.size % PATCH == 0,
            "width must be a multiple of heads": self.width % max(self.heads, 1) == 0,
            "hidden must be a multiple of 32": self.hidden % 32 == 0,
            "grid_iou, grid_stability and grid_overlap must lie in 0 … 1": all(
                0 <= share <= 1 for share in (self.grid_iou, self.grid_stability, self.grid_overlap)
            ),
        }
        keep(rules)
