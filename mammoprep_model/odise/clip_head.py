"""What the untrained CLIP says of each mask, mixed into the class probabilities at prediction (ODISE's ensemble)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClipHead(nn.Module):
    """Mix a CLIP's classes of masks into those of the trained head; nothing here is trained or saved.

    `texts` holds the embeddings (S, D) of each class, `scale` is the factor of CLIP's cosines, `share` in [0, 1] what
    its opinion counts.
    """

    text: Tensor

    def __init__(self, texts: Sequence[Tensor], *, scale: float, share: float) -> None:
        super().__init__()
        self.counts = [len(rows) for rows in texts]
        self.scale = scale
        self.share = share
        self.register_buffer("text", F.normalize(torch.cat(list(texts)), dim=-1), persistent=False)

    def forward(self, scores: Tensor, embeddings: Tensor) -> Tensor:
        """Map probabilities (B, Q, C) and CLIP's embeddings of the masks (B, Q, D) to probabilities (B, Q, C).

        The classes' geometric mean p^(1 - share) · q^share is brought back to their old sum, so that "no object" keeps
        the probability that the trained head gives it.
        """
        cosines = F.normalize(embeddings.float(), dim=-1) @ self.text.float().T
        classes = torch.split(cosines, self.counts, dim=-1)
        best = torch.stack([texts.amax(dim=-1) for texts in classes], dim=-1)
        mixed = scores ** (1 - self.share) * (self.scale * best).softmax(-1) ** self.share
        tiniest = torch.finfo(mixed.dtype).tiny
        return mixed / mixed.sum(-1, keepdim=True).clamp(min=tiniest) * scores.sum(-1, keepdim=True)
