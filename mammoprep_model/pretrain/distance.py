"""How far samples are from real images: a Fréchet distance in the VAE's latents, a check on health and no result."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mammoprep_model.pretrain import images, samples
from mammoprep_model.pretrain.diffusion import latents_of
from mammoprep_model.pretrain.images import Chosen
from mammoprep_model.pretrain.pipeline import Pipeline
from mammoprep_model.pretrain.recipe import PretrainConfig

_Thing = TypeVar("_Thing")
Features = NDArray[np.float64]
"""(N, D): one row an image."""
SIDE = 4
"""Latents are averaged to so many places in each direction: with four channels 64 numbers an image."""
_AT_A_TIME = 8


def measure(pipeline: Pipeline, root: Path, chosen: Chosen, *, config: PretrainConfig, device: str) -> dict[str, Any]:
    """Give the distance of samples from real images that were not learnt, and that of learnt images from the same.

    Where no fold leaves images out, every second one is real and the others are learnt. There are as many samples as
    learnt images, for a distance between few is too long on the average.
    """
    has_held, count = len(chosen.held_out) > 1, config.distance_images
    real = chosen.held_out if has_held else chosen.images[::2]
    others = slice(None) if has_held else slice(1, None, 2)
    learnt, prompts = _spread(chosen.images[others], count), _spread(chosen.prompts[others], count)
    real_features, learnt_features = (
        of_images(pipeline, (images.read(root, some, config=config).to(device) for some in _parts(which)), seed=seed)
        for seed, which in enumerate((_spread(real, count), learnt))
    )
    drawn = of_samples(pipeline, prompts, config=config)
    return {
        "frechet_distance": {
            "samples": frechet(drawn, real_features),
            "learnt_images": frechet(learnt_features, real_features),
        },
        "counts": {"samples": len(drawn), "learnt_images": len(learnt_features), "real_images": len(real_features)},
    }


def of_images(pipeline: Pipeline, batches: Iterable[Tensor], *, seed: int) -> Features:
    """Give the features of images (B, 3, S, S) in [0, 1], of latents drawn as those that are learnt."""
    generator = torch.Generator().manual_seed(seed)
    return _pooled(torch.cat([latents_of(pipeline, shown, generator=generator) for shown in batches]))


def of_samples(pipeline: Pipeline, prompts: Sequence[str], *, config: PretrainConfig) -> Features:
    """Give the features of a sample for each prompt, without guidance, which would make samples alike."""
    plain, drawn = replace(config, guidance=1.0), list[Tensor]()
    for some in _parts(prompts):
        drawn.append(samples.sample(pipeline, some, config=plain, first=sum(map(len, drawn))))
    return _pooled(torch.cat(drawn))


def _parts(things: Sequence[_Thing]) -> Iterator[Sequence[_Thing]]:
    return (things[at : at + _AT_A_TIME] for at in range(0, len(things), _AT_A_TIME))


def _spread(things: Sequence[_Thing], count: int) -> Sequence[_Thing]:
    """Give so many things, evenly spread, or all where there are fewer."""
    places = np.linspace(0, len(things) - 1, min(count, len(things))).round().astype(int)
    return [things[place] for place in places]


def _pooled(latents: Tensor) -> Features:
    features: Features = F.adaptive_avg_pool2d(latents, SIDE).flatten(1).double().cpu().numpy()
    return features


def frechet(one: Features, other: Features) -> float:
    """Give the squared Fréchet distance of the normal distributions with the means and covariances of two sets.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); the root's trace is the sum of the roots of the eigenvalues of
    C1^(1/2) C2 C1^(1/2), which is symmetric.
    """
    means, covariances = zip(*((each.mean(axis=0), np.cov(each, rowvar=False)) for each in (one, other)), strict=True)
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ covariances[1] @ root).clip(min=0)
    apart = np.square(means[0] - means[1]).sum() + np.trace(covariances[0]) + np.trace(covariances[1])
    return float(apart - 2 * np.sqrt(shared).sum())
