"""The parts of the network one by one: the UNet beside diffusers' own, samplers beside an oracle, filters, features."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mammoprep_model.diffusion import sampler
from mammoprep_model.diffusion.config import DiffusionConfig
from mammoprep_model.diffusion.dense import DenseBlock, ImageFeatures
from mammoprep_model.diffusion.highway import FrequencyFilter, Highway
from mammoprep_model.diffusion.process import Process
from mammoprep_model.diffusion.unet import Denoiser, make_unet

CONFIG = DiffusionConfig(channels=8, multipliers=(1, 2), residual_blocks=1, attention=(2,), time_steps=20, samples=3)


def test_concatenated_it_is_the_unet_of_diffusers() -> None:
    torch.manual_seed(0)
    unet = make_unet(CONFIG, given=3, out=2)
    noised, steps, image = torch.randn(2, 2, 8, 12), torch.tensor([3, 17]), torch.rand(2, 1, 8, 12)
    found, mask = Denoiser(unet, features=None, highway=None)(noised, steps, image)
    assert torch.equal(found, unet(torch.cat([image, noised], dim=1), steps).sample)
    assert mask is None


def test_features_are_added_to_the_first_convolution() -> None:
    """Features that are 0 leave the UNet alone; others do not."""
    unet, noised, steps = make_unet(CONFIG, given=2, out=2), torch.randn(1, 2, 8, 8), torch.tensor([5])
    denoiser = Denoiser(unet, features=ImageFeatures(blocks=1, channels=4, out=8), highway=None)
    none, some = torch.zeros(1, 8, 8, 8), denoiser.condition(torch.rand(1, 1, 8, 8))
    assert some.shape == none.shape
    assert torch.equal(denoiser(noised, steps, none)[0], unet(noised, steps).sample)
    assert not torch.equal(denoiser(noised, steps, some)[0], unet(noised, steps).sample)


def test_heads_split_the_channels_and_change_the_answer() -> None:
    answers = []
    for heads in (1, 4):
        torch.manual_seed(0)
        unet = make_unet(replace(CONFIG, heads=heads), given=1, out=1)
        answers.append(unet(torch.ones(1, 1, 8, 8).cumsum(-1), 3).sample)
    assert not torch.allclose(*answers)


def test_a_dense_block_adds_a_fifth_of_what_it_finds() -> None:
    """With all weights 0 but the last bias, which is 1: x + 0.2."""
    block = DenseBlock(4)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(block.layers[-1].bias)
    assert torch.allclose(block(torch.ones(1, 4, 3, 3)), torch.full((1, 4, 3, 3), 1.2))


@pytest.mark.parametrize("size", [(8, 8), (12, 20), (64, 48)])
def test_a_new_filter_lets_everything_pass(size: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *size)
    assert torch.allclose(FrequencyFilter(3)(features), features, atol=1e-5)


def test_a_filter_of_the_middle_row_and_first_column_leaves_the_mean() -> None:
    """Frequency 0 stands in the middle of the rows; a side of GRID takes the weights as they are."""
    layer = FrequencyFilter(1)
    with torch.no_grad():
        layer.weights.zero_()
        layer.weights[0, 0, 16, 0] = 1
    features = torch.randn(1, 1, 32, 32)
    assert torch.allclose(layer(features), features.mean().expand_as(features), atol=1e-5)


def test_the_highway_ends_in_a_mask_and_meets_the_innermost_features() -> None:
    highway = Highway([8, 16], channels=4, masks=3)
    anchor, mask = highway(torch.rand(2, 1, 8, 12), [torch.randn(2, 8, 8, 12), torch.randn(2, 16, 4, 6)])
    assert anchor.shape == (2, 16, 4, 6)
    assert mask.shape == (2, 3, 8, 12)


def test_the_highway_looks_where_the_unet_says() -> None:
    highway, image = Highway([8, 16], channels=4, masks=3), torch.rand(1, 1, 8, 8)
    one, other = (highway(image, [torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)])[1] for _ in range(2))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm-solver"])
@pytest.mark.parametrize("learned", [False, True])
def test_every_sampler_finds_the_mask_that_an_oracle_knows(name: str, steps: int, learned: bool) -> None:
    """From t = T - 1 downwards, each t once; on the way x_t has the oracle's share of the mask, and of the noise.

    A learnt variance is the posterior's here, -1; DDPM's fixed one is larger, so that its x_t has more noise.
    """
    config = replace(CONFIG, sampler=name, sampling_steps=steps, learned_variance=learned)
    process, truth, seen = Process(20, low=0.0), torch.rand(3, 2, 4, 4).round(), list[int]()

    def oracle(noised: Tensor, at: Tensor) -> tuple[Tensor, Tensor | None]:
        seen.append(int(at[0]))
        kept = process.kept[seen[-1]]
        rest = (noised - kept.sqrt() * truth) / (1 - kept).sqrt()
        if learned or name != "ddpm":
            assert float(rest.std()) == pytest.approx(1, abs=0.4)
        return truth, -torch.ones_like(truth) if learned else None

    streams = sampler.generators(config)
    noise = sampler.start((2, 4, 4), streams, device=torch.device("cpu"))
    drawn = sampler.draw(oracle, noise, config=config, betas=process.betas, streams=streams)
    assert torch.equal(drawn, truth)
    assert seen[0] == 19
    assert len(seen) == (steps or 20)
    assert seen == sorted(set(seen), reverse=True)


def test_a_samples_noise_does_not_hang_on_the_number_of_samples() -> None:
    few, many = (
        sampler.start((1, 2, 2), sampler.generators(replace(CONFIG, samples=count)), device=torch.device("cpu"))
        for count in (2, 5)
    )
    assert torch.equal(many[:2], few)
