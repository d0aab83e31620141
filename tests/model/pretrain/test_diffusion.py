"""The loss of the diffusion stage against its terms worked out apart, and samples from noise."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model.pretrain import pipeline, samples
from mammoprep_model.pretrain.diffusion import Diffusion, encode
from mammoprep_model.pretrain.pipeline import Pipeline
from mammoprep_model.pretrain.recipe import PretrainConfig

IMAGES = torch.linspace(0, 1, 2 * 3 * 64 * 64).view(2, 3, 64, 64)
PROMPTS = ("a mammogram", "")


@pytest.fixture
def made(backbone: Path) -> Pipeline:
    return pipeline.load(backbone)


def generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def predicting(made: Pipeline, what: str) -> Pipeline:
    return replace(made, scheduler=type(made.scheduler).from_config(made.scheduler.config, prediction_type=what))


def drawn(made: Pipeline) -> tuple[Tensor, Tensor, Tensor]:
    """Give latents, noise and steps as the stage draws them: the VAE's noise, the step's noise, the steps."""
    random = generator()
    found = made.vae.encode(2 * IMAGES - 1).latent_dist
    latents = 0.18215 * (found.mean + found.std * torch.randn(2, 4, 8, 8, generator=random))
    return latents, torch.randn(2, 4, 8, 8, generator=random), torch.randint(1000, (2,), generator=random)


@pytest.mark.parametrize("what", ["epsilon", "v_prediction", "sample"])
@torch.no_grad()
def test_the_loss_is_the_error_of_what_the_base_predicts(made: Pipeline, what: str) -> None:
    latents, noise, steps = drawn(made)
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
    kept = (1 - roots.square()).cumprod(0)[steps].view(-1, 1, 1, 1)
    signal, disturbance = kept.sqrt().float(), (1 - kept).sqrt().float()
    noised = signal * latents + disturbance * noise
    target = {"epsilon": noise, "v_prediction": signal * noise - disturbance * latents, "sample": latents}[what]
    predicted = made.unet(noised, steps, encode(made, PROMPTS)).sample
    loss = Diffusion(predicting(made, what)).loss(IMAGES, PROMPTS, generator=generator())
    assert loss.keys() == {"mse"}
    assert float(loss["mse"]) == pytest.approx(float((predicted - target).square().mean()), rel=1e-4)


def test_unet_and_text_encoder_learn_and_the_vae_does_not(made: Pipeline) -> None:
    stage = Diffusion(made)
    stage.loss(IMAGES, PROMPTS, generator=generator())["mse"].backward()
    assert all(each.grad is not None for each in made.unet.parameters())
    assert all(each.grad is not None for each in made.text_encoder.parameters())
    assert all(each.grad is None and not each.requires_grad for each in made.vae.parameters())
    assert {id(each) for each in stage.module.parameters()} >= {id(each) for each in made.vae.parameters()}


def test_the_same_noise_is_learnt(made: Pipeline) -> None:
    stage = Diffusion(made)
    optimizer = torch.optim.Adam([each for each in stage.module.parameters() if each.requires_grad], lr=1e-2)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = stage.loss(IMAGES, PROMPTS, generator=generator())["mse"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_checkpointing_changes_no_gradient(made: Pipeline) -> None:
    gradients = []
    for checkpointing in (False, True):
        stage = Diffusion(made, checkpointing=checkpointing)
        stage.module.train().zero_grad()
        stage.loss(IMAGES, PROMPTS, generator=generator())["mse"].backward()
        gradients.append(torch.cat([each.grad.flatten() for each in made.unet.parameters()]))
    assert made.unet.is_gradient_checkpointing
    assert torch.equal(*gradients)


def test_a_base_that_predicts_something_else_is_refused(made: Pipeline) -> None:
    flow: Any = SimpleNamespace(config=SimpleNamespace(prediction_type="flow_prediction"))
    with pytest.raises(MammoprepError, match="flow_prediction"):
        Diffusion(replace(made, scheduler=flow))


class Denoiser(torch.nn.Module):
    """Knows the noise of an image that is `value` everywhere."""

    def __init__(self, made: Pipeline, value: float) -> None:
        super().__init__()
        self.config, self.value, self.kept = made.unet.config, value, made.scheduler.alphas_cumprod

    def forward(self, noised: Tensor, step: Tensor, states: Tensor) -> SimpleNamespace:
        kept = self.kept[step]
        return SimpleNamespace(sample=(noised - kept.sqrt() * self.value) / (1 - kept).sqrt())


def test_samples_are_what_the_unet_believes_in(made: Pipeline) -> None:
    """A UNet that sees one latent behind all noise leads there, from every noise and with any guidance."""
    config = PretrainConfig(size=64, samples=3, sample_steps=5)
    latents = samples.sample(replace(made, unet=Denoiser(made, 0.25)), ["a mammogram"] * 3, config=config)
    assert latents.shape == (3, 4, 8, 8)
    assert latents.numpy() == pytest.approx(np.full((3, 4, 8, 8), 0.25), abs=1e-3)


def test_guidance_goes_from_the_empty_prompt_beyond_the_prompt(made: Pipeline) -> None:
    one, four = (
        samples.sample(made, ["a mammogram"], config=PretrainConfig(size=64, sample_steps=1, guidance=weight))
        for weight in (1.0, 4.0)
    )
    none = samples.sample(made, [""], config=PretrainConfig(size=64, sample_steps=1))
    assert (four - none).numpy() == pytest.approx((4 * (one - none)).numpy(), abs=2e-3 * float(none.abs().max()))


def test_a_sheet_has_a_row_a_prompt_and_is_always_the_same(made: Pipeline, tmp_path: Path) -> None:
    config = PretrainConfig(size=64, samples=3, sample_steps=2)
    for name in ("one.png", "two.png"):
        samples.write_sheet(tmp_path / name, made, ["a", "b c"], config=config)
    sheet = panoptic.read_png(tmp_path / "one.png")
    assert (sheet.shape, sheet.dtype) == ((128, 192), np.uint8)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_the_most_frequent_prompts_are_shown() -> None:
    assert samples.most_frequent(["b", "c", "a", "c", "d", "e", "b"]) == ("b", "c", "a", "d")
