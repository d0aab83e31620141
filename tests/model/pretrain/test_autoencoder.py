"""The autoencoder stage: its loss against the terms worked out apart, its fall on phantoms, the scale of latents."""

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from mammoprep.phantom import scene, studies
from mammoprep_model import compact
from mammoprep_model.pretrain.autoencoder import Autoencoder
from mammoprep_model.pretrain.pipeline import Pipeline


@pytest.fixture
def made() -> Pipeline:
    return compact.make(compact.TINY, seed=0)


def generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoding(mean: Tensor, variance: Tensor) -> Any:
    """Give a VAE's answer with this mean and variance."""
    latent = SimpleNamespace(mean=mean, var=variance, std=variance.sqrt(), logvar=variance.log())
    return SimpleNamespace(latent_dist=latent)


@torch.no_grad()
def test_the_loss_is_that_of_pixels_and_a_little_of_the_latents(made: Pipeline) -> None:
    images = torch.rand(2, 3, 64, 64, generator=generator())
    terms = Autoencoder(made).loss(images, ("", ""), generator=generator(3))
    found = made.vae.encode(2 * images - 1).latent_dist
    latents = found.mean + found.std * torch.randn(2, 4, 8, 8, generator=generator(3))
    rebuilt = (made.vae.decode(latents).sample + 1) / 2
    assert float(terms["l1"]) == pytest.approx(2 * float((rebuilt - images).abs().mean()), rel=1e-5)
    # Latent diffusion sums differences and divergence over an image, weighs the latter, and takes the mean over images.
    assert float(terms["kl"]) == pytest.approx(1e-6 * float(found.kl().mean()) / (3 * 64 * 64), rel=1e-4)


@torch.no_grad()
def test_the_divergence_of_a_latent_worked_out_by_hand(made: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """One latent of mean 2 and variance 1, one of mean 0 and variance e: (4 + 0 + 0 + e - 2) / 2 nats."""
    mean, variance = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1), torch.tensor([1.0, np.e]).view(1, 2, 1, 1)
    monkeypatch.setattr(made.vae, "encode", lambda pixels: encoding(mean, variance))
    monkeypatch.setattr(made.vae, "decode", lambda latents: SimpleNamespace(sample=torch.full((1, 3, 8, 8), 0.5)))
    terms = Autoencoder(made).loss(torch.ones(1, 3, 8, 8), ("",), generator=generator())
    assert float(terms["l1"]) == pytest.approx(0.5)
    assert float(terms["kl"]) == pytest.approx(1e-6 * (2 + np.e) / 2 / 192, rel=1e-5)


def test_chance_comes_from_the_generator_alone(made: Pipeline) -> None:
    stage, images = Autoencoder(made), torch.rand(1, 3, 64, 64, generator=generator())
    first, again, other = (stage.loss(images, ("",), generator=generator(seed))["l1"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_vae_alone_is_trained_and_checkpointing_changes_no_gradient(made: Pipeline) -> None:
    images, gradients = torch.rand(1, 3, 64, 64, generator=generator()), []
    for checkpointing in (False, True):
        stage = Autoencoder(made, checkpointing=checkpointing)
        assert made.vae.is_gradient_checkpointing == checkpointing
        stage.module.train().zero_grad()
        torch.stack([*stage.loss(images, ("",), generator=generator()).values()]).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in made.vae.parameters()])
    assert {id(parameter) for parameter in stage.module.parameters()} == {id(each) for each in made.vae.parameters()}
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(parameter.grad is None for parameter in made.unet.parameters())


def test_it_learns_to_rebuild_phantoms(made: Pipeline) -> None:
    views = studies.plan(1, seed=0, long_side=256)
    shown = [scene.draw(view, rng=np.random.default_rng(view.stream)).brightness for view in views]
    grey = np.stack([cv2.resize(each.astype(np.float32), (64, 64)) for each in shown])
    images = torch.from_numpy(grey).clamp(0, 1)[:, None].expand(-1, 3, -1, -1)
    stage, random = Autoencoder(made), generator()
    optimizer = torch.optim.AdamW(stage.module.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.stack([*stage.loss(images, ("",) * 4, generator=random).values()]).sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    flat = 2 * float((images - images.median()).abs().mean())  # of one grey for all
    assert losses[-1] < 0.75 * flat < losses[0]


@torch.no_grad()
def test_the_scale_makes_the_deviation_of_drawn_latents_one(made: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means 0, 2, 4, 6 have the variance 5, variances 1, 1, 6, 6 the mean 3.5: together 8.5, in batches of 1 and 3."""
    means = iter([torch.tensor([[0.0]]), torch.tensor([[2.0], [4.0], [6.0]])])
    variances = iter([torch.tensor([[1.0]]), torch.tensor([[1.0], [6.0], [6.0]])])
    monkeypatch.setattr(made.vae, "encode", lambda pixels: encoding(next(means), next(variances)))
    Autoencoder(made).finish(torch.zeros(size, 3, 8, 8) for size in (1, 3))
    assert made.vae.config.scaling_factor == pytest.approx(8.5**-0.5)


@torch.no_grad()
def test_latents_of_the_images_seen_have_the_deviation_one(made: Pipeline) -> None:
    images = torch.rand(4, 3, 64, 64, generator=generator())
    Autoencoder(made).finish(images.split(2))
    found = made.vae.encode(2 * images - 1).latent_dist
    drawn = found.mean + found.std * torch.randn(500, 1, 4, 8, 8, generator=generator())
    assert float((drawn * made.vae.config.scaling_factor).std()) == pytest.approx(1, abs=0.02)
