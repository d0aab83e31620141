"""The implicit captioner: an image's embedding becomes a prompt that nobody had to write."""

import torch
from torch import Tensor, nn


class Captioner(nn.Module):
    """Add what an image encoder sees to the encoding of the empty prompt.

    prompt = E("") + tanh(alpha) * (Linear(v) + position); alpha starts at 0, so training starts exactly unconditional.
    With `time_width` there is a second term of the same form for the UNet's time embedding.
    """

    empty_prompt: Tensor

    def __init__(self, encoder: nn.Module, *, width: int, empty_prompt: Tensor, time_width: int | None) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.register_buffer("empty_prompt", empty_prompt)
        self.tokens = _Term(width, (empty_prompt.shape[1], empty_prompt.shape[2]))
        self.time = None if time_width is None else _Term(width, (time_width,))

    @torch.no_grad()
    def embed(self, windows: Tensor) -> Tensor:
        """Give what the frozen encoder sees in windows (B, 3, H, W) in [0, 1]: (B, width)."""
        embeddings: Tensor = self.encoder(windows)
        return embeddings

    def forward(self, windows: Tensor, embeddings: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Map windows (B, 3, H, W) in [0, 1] to a prompt (B, T, D) and a time term (B, E), if there is one.

        `embeddings` is what `embed` gives, where it is known.
        """
        if embeddings is None:
            embeddings = self.embed(windows)
        prompt = self.empty_prompt + self.tokens(embeddings)
        return prompt, None if self.time is None else self.time(embeddings)


class EmptyPrompt(nn.Module):
    """Give every image the encoding of the empty prompt: no captioner."""

    empty_prompt: Tensor

    def __init__(self, empty_prompt: Tensor) -> None:
        super().__init__()
        self.register_buffer("empty_prompt", empty_prompt)

    def forward(self, windows: Tensor, embeddings: Tensor | None = None) -> tuple[Tensor, None]:
        """Map windows (B, 3, H, W) to a prompt (B, T, D), the same for all, and no time term."""
        return self.empty_prompt.expand(len(windows), -1, -1), None


class _Term(nn.Module):
    """tanh(alpha) * (Linear(v) + position) of the shape (…, D); all tokens share the linear layer's output."""

    def __init__(self, width: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(width, shape[-1])
        self.position = nn.Parameter(torch.zeros(shape).normal_(std=0.02))
        self.alpha = nn.Parameter(torch.zeros(shape))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map embeddings (B, width) to (B, *shape)."""
        projected: Tensor = self.linear(embeddings)
        between = [1] * (self.alpha.dim() - 1)
        projected = projected.view(len(projected), *between, projected.shape[-1])
        return torch.tanh(self.alpha) * (projected + self.position)
