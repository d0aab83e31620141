"""Several samples become one answer, and what they disagree on becomes an uncertainty."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ROUNDS, _CLOSE = 100, 1e-7
_START = 0.99999
"""What every rater is taken to get right at first."""


def mean(samples: Tensor) -> Tensor:
    """Give the mean (C, H, W) of samples (S, C, H, W)."""
    return samples.mean(dim=0)


def spread(samples: Tensor) -> Tensor | None:
    """Give twice the samples' standard deviation at each pixel (H, W), of the channel where it is largest: 0 … 1.

    Half of the samples saying 0 and half 1 is 1. None for one sample, which cannot disagree.
    """
    if len(samples) < 2:
        return None
    return (2 * samples.std(dim=0, correction=0)).amax(dim=0).clamp(max=1)


def staple(samples: Tensor) -> Tensor:
    """Give the probabilities (C, H, W) that STAPLE finds for each channel, brought to a sum of 1 at each pixel.

    A rater of a channel is a sample's decision: the pixels at which that channel is its largest.
    """
    decided = samples.argmax(dim=1).cpu().numpy()
    found = np.stack([staple_binary(decided == channel)[0] for channel in range(samples.shape[1])])
    total = found.sum(axis=0)
    shares = np.where(total > 0, found / np.where(total > 0, total, 1), mean(samples).cpu().numpy())
    return torch.from_numpy(shares).to(samples)


def staple_binary(
    ratings: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give what raters (S, …) of a binary truth say together, and each rater's sensitivity and specificity (S,).

    Warfield, Zou and Wells 2004, IEEE TMI 23: expectation-maximisation, without a spatial prior; the truth's share of
    the pixels is that of all ratings. At most 16 raters: pixels with the same ratings are counted, not repeated.
    """
    raters = len(ratings)
    codes = sum(rating.astype(np.int64) << place for place, rating in enumerate(ratings))
    patterns, where, counts = np.unique(codes, return_inverse=True, return_counts=True)
    votes = (patterns >> np.arange(raters)[:, None]) & 1  # (S, P)
    prior = float((votes * counts).sum() / (raters * counts.sum()))
    sensitivity, specificity = np.full((2, raters), _START)
    truth = np.zeros(len(patterns))
    for _ in range(_ROUNDS):
        yes = prior * np.where(votes, sensitivity[:, None], 1 - sensitivity[:, None]).prod(axis=0)
        no = (1 - prior) * np.where(votes, 1 - specificity[:, None], specificity[:, None]).prod(axis=0)
        before, truth = truth, yes / np.maximum(yes + no, 1e-300)
        inside, outside = truth * counts, (1 - truth) * counts
        sensitivity = _share(votes @ inside, inside.sum(), otherwise=sensitivity)
        specificity = _share((1 - votes) @ outside, outside.sum(), otherwise=specificity)
        if np.abs(truth - before).max() < _CLOSE:
            break
    return truth[where].reshape(ratings.shape[1:]), sensitivity, specificity


def _share(part: NDArray[np.float64], whole: float, *, otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
    return part / whole if whole > 0 else otherwise
