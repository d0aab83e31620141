"""The class head: a mask's pooled features are compared with the encoded names of the classes."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_SCALE = 100.0
_SYNONYMS = {
    "BI-RADS 3": ("probably benign finding",),
    "BI-RADS 4": ("suspicious abnormality",),
    "BI-RADS 5": ("highly suggestive of malignancy",),
    "benign": ("benign lesion",),
    "malignant": ("malignant lesion", "breast cancer"),
    "breast": ("normal breast tissue",),
    "background": ("black background",),
}


def names_of(category: str, *, synonyms: bool) -> tuple[str, ...]:
    """Give the texts under which a class is found: its bare name, and its synonyms where they are wanted."""
    return (category, *(_SYNONYMS.get(category, ()) if synonyms else ()))


def encode(names: Sequence[str], *, prompt: str, text: Callable[[Sequence[str]], Tensor]) -> Tensor:
    """Give one embedding a name (N, D): the mean over the templates of a prompt, which are separated by |."""
    templates = [template.strip() for template in prompt.split("|")]
    embeddings = [text([template.replace("{}", name) for name in names]) for template in templates]
    return torch.stack(embeddings).mean(0)


class ClassHead(nn.Module):
    """Score masks against text embeddings: scaled cosines, the best of a class's texts, and "no object" last.

    `texts` holds the frozen embeddings (S, width) of each class; `empty` (width,) is the empty text's, from which the
    trained embedding of "no object" starts.
    """

    text: Tensor

    def __init__(self, texts: Sequence[Tensor], *, empty: Tensor, hidden: int) -> None:
        super().__init__()
        self.counts = [len(rows) for rows in texts]
        self.register_buffer("text", torch.cat(list(texts)))
        self.null = nn.Parameter(empty.clone())
        self.project_text = nn.Linear(len(empty), hidden)
        self.project_pooled = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden))
        self.embed = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, queries: Tensor, masks: Tensor, features: Tensor) -> Tensor:
        """Map queries (B, Q, D), mask logits (B, Q, H, W) and mask features (B, D, H, W) to logits (B, Q, C + 1)."""
        pooled = self.project_pooled(pool(features, masks))
        embedded = F.normalize(self.embed(pooled + queries), dim=-1)
        texts = F.normalize(self.project_text(torch.cat([self.text, self.null[None]])), dim=-1)
        scores = self.log_scale.exp().clamp(max=MAX_SCALE) * (embedded @ texts.T)
        classes = torch.split(scores, [*self.counts, 1], dim=-1)
        return torch.cat([texts.amax(dim=-1, keepdim=True) for texts in classes], dim=-1)


class LinearHead(nn.Module):
    """Score queries by one linear layer, as Mask2Former does: no texts, "no object" last."""

    def __init__(self, classes: int, *, hidden: int) -> None:
        super().__init__()
        self.classes = nn.Linear(hidden, classes + 1)

    def forward(self, queries: Tensor, masks: Tensor, features: Tensor) -> Tensor:
        """Map queries (B, Q, D) to logits (B, Q, C + 1); `masks` and `features` are not looked at."""
        logits: Tensor = self.classes(queries)
        return logits


def pool(features: Tensor, masks: Tensor) -> Tensor:
    """Average features (B, D, H, W) where mask logits (B, Q, H, W) are above 0: (B, Q, D); an empty mask gives 0.

    The masks are hard, so no gradient reaches them through here.
    """
    inside = (masks.detach() > 0).to(features.dtype)
    area = inside.sum(dim=(-2, -1), dtype=torch.float32)
    return torch.einsum("bdhw,bqhw->bqd", features, inside) / (area[..., None] + 1e-8)
