"""What makes a network faster leaves its results alone."""

import copy
from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from mammoprep.panoptic import Category
from mammoprep_model import checkpoint, speed
from mammoprep_model.config import ModelConfig
from mammoprep_model.odise.network import Odise, build
from mammoprep_model.segmenter import Batch


@pytest.fixture
def network(small: ModelConfig, categories: tuple[Category, ...], places: Mapping[str, str]) -> Odise:
    """M-ODISE on pretrained parts in miniature, its captioner no longer unconditional."""
    torch.manual_seed(0)
    network = build(small, categories=categories, weights=places)
    with torch.no_grad():
        network.captioner.tokens.alpha.fill_(0.5)
    return network


@pytest.fixture(scope="module")
def batch() -> Batch:
    images = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(5))
    masks = torch.zeros(1, 64, 128)
    masks[:, 16:40, 32:64] = 1
    return Batch(images, (masks,), (torch.tensor([1]),), (1,))


def results(network: Odise, batch: Batch, *, mixed: bool) -> list[Tensor]:
    """Give the losses, the captioner's gradient and a prediction."""
    network.zero_grad()
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        losses = torch.stack([*network.loss(batch).values()])
        prediction = network.eval().predict(batch.images)[0]
    network.train()
    losses.sum().backward()
    return [losses.detach(), network.captioner.tokens.linear.weight.grad.clone(), prediction.masks, prediction.scores]


def test_frozen_weights_in_bfloat16_change_nothing_under_autocast(network: Odise, batch: Batch):
    before = results(network, batch, mixed=True)
    kept = {name: value.clone() for name, value in checkpoint.tensors_of(network).items()}
    speed.to_bfloat16(network)
    after = results(network, batch, mixed=True)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    saved = checkpoint.tensors_of(network)
    assert all(torch.equal(saved[name], value) and saved[name].dtype == value.dtype for name, value in kept.items())


def test_bfloat16_takes_frozen_layers_alone(network: Odise):
    speed.to_bfloat16(network)
    assert network.backbone.unet.conv_in.weight.dtype == torch.bfloat16
    assert network.backbone.vae.encoder.conv_in.bias.dtype == torch.float32
    halves = {name for name, parameter in network.named_parameters() if parameter.dtype == torch.bfloat16}
    layers = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    assert halves == {name for name in layers if not network.get_parameter(name).requires_grad}


def test_channels_last_gives_the_same_and_is_saved_as_before(network: Odise, batch: Batch):
    before = results(network, batch, mixed=False)
    speed.to_channels_last(network)
    assert network.backbone.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(parameter.is_contiguous() for parameter in network.parameters() if parameter.requires_grad)
    after = results(network, batch, mixed=False)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(before, after, strict=True))
    assert all(value.is_contiguous() for value in checkpoint.tensors_of(network).values())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_blocks_give_the_same(network: Odise, batch: Batch, monkeypatch: pytest.MonkeyPatch):
    """Traced as torch.compile does it and then run as it stands, which needs no compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    plain = copy.deepcopy(network)
    speed.compile_blocks(network)
    compiled = [m for m in network.backbone.unet.modules() if m._compiled_call_impl is not None]
    assert {type(module).__name__ for module in compiled} == {"BasicTransformerBlock"}
    expected, found = (results(each, batch, mixed=False) for each in (plain, network))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found, strict=True))
    assert [*network.state_dict()] == [*plain.state_dict()]


def test_a_network_without_repeated_blocks_is_left_alone():
    network = nn.Sequential(nn.Linear(2, 2))
    speed.compile_blocks(network)
    assert network[0]._compiled_call_impl is None


def test_a_gpu_attends_without_weights_and_a_cpu_with(network: Odise):
    from mammoprep_model.odise.mask_generator import _without_weights

    class OnGpu:
        is_cuda = True

    attention = next(m for m in network.mask_generator.modules() if isinstance(m, nn.MultiheadAttention))
    states = torch.randn(3, 1, 32)
    assert attention(query=states, key=states, value=states)[1] is not None
    assert _without_weights(attention, (), {"query": OnGpu(), "key": states})[1]["need_weights"] is False
    fused, weights = nn.MultiheadAttention.forward(attention, states, states, states, need_weights=False)
    assert weights is None
    assert torch.allclose(fused, attention(query=states, key=states, value=states)[0], atol=1e-6)
