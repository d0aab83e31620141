"""The forward process and its way back: Ho et al. 2020 (arXiv 2006.11239), Nichol and Dhariwal 2021 (2102.09672)."""

import math

import torch
from torch import Tensor, nn

BINS = 255
"""Levels of the last step's discretised normal distribution, on an interval of length 2."""


class Process(nn.Module):
    """Noise added to a mask in T steps, t = 0 … T - 1; beta rises linearly, scaled so that T hardly changes the end.

    Of T = 1000 beta goes from 0.0001 to 0.02, of others from 0.1 / T to 20 / T. A mask lies in `low` … 1. Tables are
    float64 and not saved.
    """

    betas: Tensor
    kept: Tensor

    def __init__(self, time_steps: int, *, low: float) -> None:
        super().__init__()
        self.time_steps = time_steps
        self.low = low
        first, last = 0.1 / time_steps, min(20 / time_steps, 0.999)
        betas = torch.linspace(first, last, time_steps, dtype=torch.float64, device="cpu")
        self.register_buffer("betas", betas, persistent=False)
        self.register_buffer("kept", (1 - betas).cumprod(0), persistent=False)  # alpha-bar

    def noised(self, clean: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        """Give x_t (B, C, H, W) of x_0 at steps (B,): sqrt(alpha-bar) x_0 + sqrt(1 - alpha-bar) noise."""
        signal, disturbance = self._shares(steps, clean)
        return signal * clean + disturbance * noise

    def clean(self, noised: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        """Give the x_0 that x_t and its noise say."""
        signal, disturbance = self._shares(steps, noised)
        return (noised - disturbance * noise) / signal

    def _shares(self, steps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Give what x_t has of x_0 and of the noise, (B, 1, 1, 1) each."""
        kept = self._at(self.kept, steps)
        return kept.sqrt().to(like.dtype), (1 - kept).sqrt().to(like.dtype)

    def log_variances(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Give the least and the largest log variance (B, 1, 1, 1) of a step back: the posterior's, and log beta.

        The posterior has none at t = 0; there it is that of t = 1.
        """
        place = steps.clamp(min=1)
        beta, kept, before = self._at(self.betas, place), self._at(self.kept, place), self._at(self.kept, place - 1)
        return (beta * (1 - before) / (1 - kept)).log(), self._at(self.betas, steps).log()

    def bound(self, clean: Tensor, noised: Tensor, steps: Tensor, *, noise: Tensor, share: Tensor) -> Tensor:
        """Give T / 1000 times each image's term (B,) of the variational bound, in bits a dimension.

        The step back has the mean that `noise`, the predicted one, says, and a log variance that lies `share` of the
        way, -1 … 1, from the least to the largest; the bound teaches `share` alone.
        """
        least, largest = self.log_variances(steps)
        weight = (share.double() + 1) / 2
        log_variance = weight * largest + (1 - weight) * least
        target, predicted = clean.double(), self.clean(noised, steps, noise.detach()).double()
        true_mean, mean = (self._posterior_mean(x, noised.double(), steps) for x in (target, predicted))
        ratio, distance = least - log_variance, (true_mean - mean).square()
        divergence = 0.5 * (-1 - ratio + ratio.exp() + distance * (-log_variance).exp())
        likelihood = -_log_likelihood(target, mean, log_variance, low=self.low)
        terms = torch.where(steps.view(-1, 1, 1, 1) == 0, likelihood, divergence)
        bits: Tensor = terms.flatten(1).mean(dim=1) / math.log(2) * (self.time_steps / 1000)
        return bits.to(clean.dtype)

    def _posterior_mean(self, clean: Tensor, noised: Tensor, steps: Tensor) -> Tensor:
        """Give the mean of q(x_(t-1) | x_t, x_0), x_0 itself at t = 0."""
        beta, kept = self._at(self.betas, steps), self._at(self.kept, steps)
        before = torch.where(steps.view(-1, 1, 1, 1) > 0, self._at(self.kept, (steps - 1).clamp(min=0)), 1.0)
        return (before.sqrt() * beta * clean + (1 - beta).sqrt() * (1 - before) * noised) / (1 - kept)

    def _at(self, table: Tensor, steps: Tensor) -> Tensor:
        return table[steps].view(-1, 1, 1, 1)


def _log_likelihood(clean: Tensor, mean: Tensor, log_variance: Tensor, *, low: float) -> Tensor:
    """Give the log probability of the bin around x_0; the outermost bins reach to infinity."""
    scale = (-0.5 * log_variance).exp()
    above, below = (torch.special.ndtr((clean + edge / BINS - mean) * scale) for edge in (1, -1))
    above = torch.where(clean >= 1, 1.0, above)
    below = torch.where(clean <= low, 0.0, below)
    return (above - below).clamp(min=1e-12).log()
