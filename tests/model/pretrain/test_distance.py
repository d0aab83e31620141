"""The Fréchet distance against values by hand, and what it compares."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mammoprep import panoptic
from mammoprep_model.pretrain import distance, images, pipeline, samples
from mammoprep_model.pretrain.recipe import PretrainConfig

SQUARE = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
"""Mean 0, covariance 4/3 of the identity (divided by n - 1)."""


def test_a_set_is_no_way_from_itself() -> None:
    features = np.random.default_rng(0).normal(size=(50, 6))
    assert distance.frechet(features, features[::-1]) == pytest.approx(0, abs=1e-9)


def test_a_shift_counts_as_its_square() -> None:
    assert distance.frechet(SQUARE, SQUARE + (3, 4)) == pytest.approx(25)


def test_a_spread_counts_as_the_difference_of_standard_deviations() -> None:
    """Along each of two axes sqrt(4/3) against three times that: 2 (2 sqrt(4/3))^2."""
    assert distance.frechet(SQUARE, 3 * SQUARE) == pytest.approx(2 * 4 * 4 / 3)


def test_covariances_that_do_not_commute() -> None:
    """C1 = diag(4/3, 16/3), C2 the same turned by 45°: tr C = 20/3 each; the root's trace by 2 x 2 matrices.

    For these tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)), M = C1 C2.
    """
    one = SQUARE * (1, 2)
    turn = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    product = np.diag([4 / 3, 16 / 3]) @ (turn.T @ np.diag([4 / 3, 16 / 3]) @ turn)
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert distance.frechet(one, one @ turn) == pytest.approx(40 / 3 - 2 * root)


def test_features_are_means_over_a_sixteenth_of_the_latent(backbone: Path) -> None:
    made = pipeline.load(backbone)
    shown = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = distance.of_images(made, [shown[:2], shown[2:]], seed=0)
    assert found.shape == (3, 64)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        said = made.vae.encode(2 * shown - 1).latent_dist
    drawn = torch.cat([torch.randn(2, 4, 8, 8, generator=random), torch.randn(1, 4, 8, 8, generator=random)])
    latents = (said.mean + said.std * drawn) * made.vae.config.scaling_factor
    first = [latents[1, 0, :2, :2].mean().item(), latents[1, 0, :2, 2:4].mean().item()]
    assert found[1][:2] == pytest.approx(first, abs=1e-5)


def test_samples_are_drawn_without_guidance_each_from_its_own_noise(backbone: Path) -> None:
    made = pipeline.load(backbone)
    config = PretrainConfig(size=64, sample_steps=1, guidance=7.0)
    found = distance.of_samples(made, ["a", "b"] * 5, config=config)
    plain = PretrainConfig(size=64, sample_steps=1, guidance=1.0)
    with torch.no_grad():
        latents = samples.sample(made, ["a", "b"] * 5, config=plain)
    assert found[9][0] == pytest.approx(latents[9, 0, :2, :2].mean().item(), abs=1e-4)


def test_samples_and_learnt_images_are_compared_with_images_that_were_left_out(
    mammograms: Path, backbone: Path
) -> None:
    made, source = pipeline.load(backbone), panoptic.load(mammograms)
    config = PretrainConfig(size=64, sample_steps=1, distance_images=4)
    chosen = images.choose(source, fold=0)
    found = distance.measure(made, source.root, chosen, config=config, device="cpu")
    assert found["counts"] == {"samples": 4, "learnt_images": 4, "real_images": 2}
    learnt = [chosen.images[place] for place in (0, 4, 7, 11)]
    shown = [images.read(source.root, which, config=config) for which in (learnt, chosen.held_out)]
    features = [distance.of_images(made, [each], seed=seed) for each, seed in zip(shown, (1, 0), strict=True)]
    assert found["frechet_distance"]["learnt_images"] == pytest.approx(distance.frechet(*features), rel=1e-4)
    assert found["frechet_distance"]["samples"] > 10 * found["frechet_distance"]["learnt_images"]


def test_without_a_fold_two_halves_are_compared(mammograms: Path, backbone: Path) -> None:
    source = panoptic.load(mammograms)
    chosen = images.choose(source, fold=None)
    config = PretrainConfig(size=64, sample_steps=1, distance_images=100)
    found = distance.measure(pipeline.load(backbone), source.root, chosen, config=config, device="cpu")
    assert found["counts"] == {"samples": 7, "learnt_images": 7, "real_images": 7}
    assert found["frechet_distance"]["learnt_images"] > 0
