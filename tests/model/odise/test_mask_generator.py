from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mammoprep_model import parts
from mammoprep_model.config import ModelConfig
from mammoprep_model.odise.mask_generator import MaskGenerator


@pytest.fixture(scope="module")
def features() -> tuple[torch.Tensor, ...]:
    """Give features of an image of 64 x 128 pixels."""
    torch.manual_seed(1)
    return tuple(torch.randn(2, 16, 64 // stride, 128 // stride) for stride in (4, 8, 16, 32))


def make(config: ModelConfig) -> MaskGenerator:
    torch.manual_seed(0)
    return MaskGenerator(config, [config.projection] * 4)


def test_there_is_one_set_of_masks_more_than_layers(small: ModelConfig, features: tuple[torch.Tensor, ...]):
    generated = make(small)(features)
    assert [tuple(masks.shape) for masks in generated.masks] == [(2, 5, 16, 32)] * 3
    assert [tuple(queries.shape) for queries in generated.queries] == [(2, 5, 32)] * 3
    assert generated.features.shape == (2, 32, 16, 32)


def test_masks_are_the_products_of_queries_and_features(small: ModelConfig, features: tuple[torch.Tensor, ...]):
    network = make(small)
    generated = network(features)
    embed = network.transformer.decoder.mask_predictor.mask_embedder
    for queries, masks in zip(generated.queries, generated.masks, strict=True):
        expected = torch.einsum("bqd,bdhw->bqhw", embed(queries), generated.features)
        assert torch.allclose(masks, expected, atol=1e-5)


def test_the_first_queries_are_the_same_for_every_image(small: ModelConfig, features: tuple[torch.Tensor, ...]):
    first, *_, last = make(small)(features).queries
    assert torch.equal(first[0], first[1])
    assert not torch.equal(last[0], last[1])


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Let torch fill memory that it hands out uninitialised with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned_memory")
def test_nothing_is_left_uninitialised(small: ModelConfig):
    assert torch.Tensor(2, 2).isnan().all()
    network = make(small)
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    assert 0.7 < network.pixel_decoder.level_embed.std() < 1.3


def test_the_same_seed_gives_the_same_weights(small: ModelConfig):
    first, second = make(small).state_dict(), make(small).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_starts_from_what_fits_and_names_the_rest(small: ModelConfig, mask2former_folder: Path):
    """The whole Mask2Former has a query more, and other channels at its four inputs."""
    network = make(small)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained = parts.load_mask_generator("m2f-coco", {"m2f-coco": str(mask2former_folder)})
    left = network.start_from(trained)
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name] if name in left else trained[name]) for name in after)
    inputs = [f"pixel_decoder.input_projections.{number}.0.weight" for number in range(3)]
    queries = ["transformer.queries_embedder.weight", "transformer.queries_features.weight"]
    assert {*queries, "pixel_decoder.adapter_1.0.weight"} <= set(left)
    assert set(left) <= {*inputs, *queries, "pixel_decoder.adapter_1.0.weight"}


def test_a_generator_of_the_same_sizes_fits_whole(small: ModelConfig):
    torch.manual_seed(5)
    other = MaskGenerator(small, [small.projection] * 4)
    network = make(small)
    assert network.start_from(other.state_dict()) == []
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())
