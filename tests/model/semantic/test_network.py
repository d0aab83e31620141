"""The semantic networks: sizes as published, the loss by hand, pretrained weights in the published format."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category
from mammoprep_model import checkpoint, parts, speed, zoo
from mammoprep_model.config import Preset
from mammoprep_model.optimizer import make_optimizer, set_rate
from mammoprep_model.segmenter import Batch, Whole
from mammoprep_model.semantic.config import SetrConfig, UNetConfig
from mammoprep_model.semantic.network import Semantic, build
from mammoprep_model.settings import change

NAMES = ("u-net", "setr-fs", "setr-ft", "setr-vpt")
UNET = ("model.width=4", "model.levels=3", "model.head=4")
SETR = ("model.width=16", "model.layers=2", "model.heads=2", "model.head=8")


def small(name: str) -> Preset:
    preset = change(zoo.preset(name), UNET if name == "u-net" else SETR)
    return change(preset, ["model.prompts=3"]) if name == "setr-vpt" else preset


@pytest.fixture
def make(categories: tuple[Category, ...], vit_folder: Path):
    """Build a preset in small sizes."""

    def build_small(name: str) -> Semantic:
        torch.manual_seed(0)
        model = small(name).model
        return build(model, categories=categories, weights={part: str(vit_folder) for part in model.parts})

    return build_small


@pytest.fixture
def batch() -> Batch:
    """Two images of 32 x 48: a bright lesion of class 1 on breast, and breast alone, of which a corner is VOID."""
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(5)) / 4
    lesion, breast = torch.zeros(32, 48), torch.ones(32, 48)
    lesion[8:20, 16:32] = 1
    images[0] += lesion / 2
    partly = breast.clone()
    partly[:8, :8] = 0
    return Batch(
        images,
        (torch.stack([lesion, breast - lesion]), partly[None]),
        (torch.tensor([1, 2]), torch.tensor([2])),
        (1, 2),
    )


# Sizes


def counts(name: str, categories: tuple[Category, ...]) -> tuple[int, int]:
    """Count trained and frozen parameters in full size; no weights are needed for that."""
    model = zoo.preset(name).model
    if isinstance(model, SetrConfig):
        model = replace(model, backbone="random")
    with torch.device("meta"):
        parameters = [*build(model, categories=categories).parameters()]
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return trained, sum(p.numel() for p in parameters) - trained


@pytest.mark.parametrize(
    ("name", "trained"),
    [("u-net", 28_986_690), ("setr-fs", 307_432_962), ("setr-ft", 307_432_962), ("setr-vpt", 5_362_178)],
)
def test_two_outputs_make_the_sizes_of_the_thesis(name: str, trained: int):
    """28.99, 307.43, 307.43 and 5.36 million."""
    two = panoptic.make_categories(["lesion"])[::2]
    assert counts(name, two)[0] == trained


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_has_as_many_parameters_as_it_says(name: str):
    trained, frozen = counts(name, panoptic.make_categories(["BI-RADS 3", "BI-RADS 4", "BI-RADS 5"]))
    preset = zoo.preset(name)
    assert (round(trained / 1e6, 3), round(frozen / 1e6, 3)) == (preset.trained, preset.frozen)


def test_the_recipe_is_the_thesis_s():
    for name in NAMES:
        train = zoo.preset(name).train
        assert (train.size, train.crop, train.fit, train.clahe, train.augment) == (224, 224, "stretch", True, "none")
        assert (train.schedule, train.plateau_patience, train.early_stop, train.keep) == ("plateau", 25, 40, "last")
        assert (train.batch_size, train.learning_rate * train.backbone_rate) == (16, pytest.approx(1e-4))


# Every network


@pytest.mark.parametrize("name", NAMES)
def test_loss_falls_on_a_fixed_batch(make, batch: Batch, name: str):
    network = make(name)
    optimizer = make_optimizer(network, replace(zoo.preset(name).train, learning_rate=1e-2, weight_decay=0.0))
    set_rate(optimizer, 1e-2)
    first = network.loss(batch)["pixels"].item()
    for _ in range(15):
        optimizer.zero_grad()
        network.loss(batch)["pixels"].backward()
        optimizer.step()
    assert network.loss(batch)["pixels"].item() < 0.8 * first


@pytest.mark.parametrize("name", NAMES)
def test_every_trained_parameter_gets_a_gradient_and_no_frozen_one(make, batch: Batch, name: str):
    network = make(name)
    network.loss(batch)["pixels"].backward()
    assert [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is None for p in network.parameters() if not p.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_predicts_the_same(make, batch: Batch, name: str):
    """Statistics of batch norm are saved too; what a frozen pretrained transformer gives back is not."""
    network, rebuilt = make(name), make(name)
    network.loss(batch)
    with torch.no_grad():
        for parameter in (p for p in network.parameters() if p.requires_grad):
            parameter.add_(0.01 * torch.randn_like(parameter))
    state = network.trained_state()
    assert any(key.startswith("pixels.backbone.") for key in state) == (name in ("setr-fs", "setr-ft"))
    rebuilt.load_trained(state)
    expected, found = (each.eval().predict(batch.images)[0] for each in (network, rebuilt))
    assert torch.equal(found.maps, expected.maps)
    assert not torch.equal(make(name).eval().predict(batch.images)[0].maps, expected.maps)


@pytest.mark.parametrize("name", NAMES)
def test_predictions_have_the_size_of_the_image(make, batch: Batch, name: str):
    found = make(name).eval().predict(batch.images)
    assert len(found) == 2
    assert found[0].maps.shape == (4, 32, 48)
    assert found[0].masks.shape[1:] == (32, 48)


# The loss


def test_the_loss_is_the_mean_binary_cross_entropy_of_the_labelled_pixels(make, batch: Batch, monkeypatch):
    """Logits of 0 cost ln 2 everywhere; a VOID pixel costs nothing, whatever it says."""
    network = make("u-net")
    logits = torch.zeros(2, 4, 32, 48)
    logits[1, :, :8, :8] = 50.0
    monkeypatch.setattr(network, "forward", lambda _: logits)
    assert network.loss(batch)["pixels"].item() == pytest.approx(0.693147, rel=1e-5)


def test_of_one_lesion_class_it_is_the_mean_of_two_outputs(make, batch: Batch, monkeypatch):
    truth = torch.zeros(2, 4, 32, 48)
    for image, (masks, labels) in enumerate(zip(batch.masks, batch.labels, strict=True)):
        truth[image, labels] = masks
    logits = torch.randn(2, 4, 32, 48, generator=torch.Generator().manual_seed(1))
    network = make("u-net")
    monkeypatch.setattr(network, "forward", lambda _: logits)
    full = replace(batch, images=batch.images[:1], masks=batch.masks[:1], labels=batch.labels[:1])
    monkeypatch.setattr(network, "forward", lambda _: logits[:1])
    expected = functional.binary_cross_entropy_with_logits(logits[:1], truth[:1])
    assert network.loss(full)["pixels"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_weights_of_classes_weigh_their_own_pixels(make, batch: Batch, monkeypatch):
    """Logits of 0: each error is ln 2, but three times that in the map of class 1 at the lesion's 192 pixels."""
    network = make("u-net")
    monkeypatch.setattr(network, "forward", lambda images: torch.zeros(len(images), 4, 32, 48))
    weighted = replace(batch, class_weights=torch.tensor([1.0, 3.0, 1.0, 1.0]))
    more = 2 * 192 / (4 * 32 * 48) / 2  # of the first of two images
    assert network.loss(weighted)["pixels"].item() == pytest.approx(0.693147 * (1 + more), rel=1e-5)


def test_the_shares_of_parts_add_up_where_batch_norm_is_at_rest(make, batch: Batch):
    network = make("u-net").eval()
    whole = network.loss(batch)["pixels"].item()
    parts_ = [*batch.parts(1, whole=Whole(batch.labels, 0))]
    assert sum(network.loss(part)["pixels"].item() for part in parts_) == pytest.approx(whole, rel=1e-5)


# The transformer


def test_the_backbone_is_the_pretrained_transformer_without_its_class_token(make, vit_folder: Path):
    """Its tokens are what transformers' own layers and norm make of the patches and their places alone."""
    own = parts.load_vit("vit-l", {"vit-l": str(vit_folder)}, width=16, layers=2, heads=2).eval()
    backbone = make("setr-ft").pixels.backbone
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    tokens = own.embeddings(pixels)[:, 1:]
    for layer in own.layers:
        tokens = layer(tokens)
    assert torch.equal(backbone(pixels), own.layernorm(tokens))
    assert backbone.positions.shape == (1, 196, 16)


def test_places_of_another_grid_are_interpolated(make):
    """A slope across the grid stays one, with the same mean, on a grid of half the height."""
    backbone = make("setr-ft").pixels.backbone
    slope = torch.arange(14.0).expand(14, 14).reshape(1, 196, 1).expand(1, 196, 16)
    backbone.positions.data = slope.clone()
    places = backbone._places((7, 14))
    assert places.shape == (1, 98, 16)
    assert torch.allclose(places[0, :14, 0], torch.arange(14.0), atol=1e-5)


def test_every_layer_sees_prompts_of_its_own_and_only_there(make, batch: Batch):
    network = make("setr-vpt")
    backbone, pixels = network.pixels.backbone, batch.images
    with torch.no_grad():
        network.pixels.prompts.normal_()
        plain, prompted = backbone(pixels), backbone(pixels, network.pixels.prompts)
        moved = network.pixels.prompts.clone()
        moved[1] = -moved[1]
        other = backbone(pixels, moved)
    assert plain.shape == prompted.shape == (2, 6, 16)
    assert not torch.allclose(plain, prompted)
    assert not torch.allclose(prompted, other)


def test_prompts_start_spread_as_those_of_vpt():
    config = SetrConfig(backbone="random", prompts=50, width=64, layers=3, heads=2)
    network = build(config, categories=panoptic.make_categories(["lesion"]))
    prompts = network.pixels.prompts
    limit = (6 / (3 * 16 * 16 + 64)) ** 0.5
    assert prompts.shape == (3, 50, 64)
    assert 0.99 * limit < prompts.abs().max() <= limit
    assert prompts.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)


def test_the_decoder_moves_ten_times_as_fast_as_the_pretrained_transformer(make):
    network = make("setr-ft")
    train = zoo.preset("setr-ft").train
    optimizer = make_optimizer(network, train)
    set_rate(optimizer, train.learning_rate)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        assert rates[id(parameter)] == pytest.approx(1e-4 if name.startswith("pixels.backbone.") else 1e-3)


def test_frozen_weights_in_bfloat16_change_nothing_under_autocast(make, batch: Batch):
    def results(network: Semantic) -> list[Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = network.loss(batch)["pixels"]
        loss.backward()
        return [loss.detach(), network.pixels.prompts.grad.clone(), network.pixels.head.weight.grad.clone()]

    network = make("setr-vpt")
    before = results(network)
    speed.to_bfloat16(network)
    assert network.pixels.backbone.layers[0].mlp.fc1.weight.dtype == torch.bfloat16
    assert network.pixels.decoder[0][0].weight.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(before, results(network), strict=True))


def test_sides_that_are_no_multiples_of_a_patch_are_refused(make):
    with pytest.raises(MammoprepError, match="multiples of 16. Say --set train.stride=16"):
        make("setr-fs")(torch.zeros(1, 3, 40, 32))


# Weights


def changed_folder(vit_folder: Path, tmp_path: Path, **values: Any) -> Path:
    folder = tmp_path / "vit"
    shutil.copytree(vit_folder, folder)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **values}))
    return folder


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"num_attention_heads": 4}, "--set model.width=16 --set model.layers=2 --set model.heads=4"),
        ({"model_type": "swin"}, "it holds a swin"),
        ({"intermediate_size": 32}, "no readable vit-l"),
    ],
)
def test_another_transformer_is_refused(vit_folder: Path, tmp_path: Path, categories, values, reason: str):
    folder = changed_folder(vit_folder, tmp_path, **values)
    with pytest.raises(MammoprepError, match=reason):
        build(small("setr-ft").model, categories=categories, weights={"vit-l": str(folder)})


def test_a_transformer_for_another_size_is_refused(tmp_path: Path, categories):
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=384)).save_pretrained(
        tmp_path
    )
    with pytest.raises(MammoprepError, match="vit-l has patches of 16 pixels and images of 224"):
        build(small("setr-ft").model, categories=categories, weights={"vit-l": str(tmp_path)})


def test_a_tensor_that_is_missing_is_named(vit_folder: Path, tmp_path: Path, categories):
    folder = changed_folder(vit_folder, tmp_path)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    state.pop("embeddings.position_embeddings")
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(MammoprepError, match=r"vit-l.*it has no embeddings.position_embeddings"):
        build(small("setr-ft").model, categories=categories, weights={"vit-l": str(folder)})


@pytest.mark.parametrize(
    ("name", "weights", "reason"),
    [
        ("u-net", {"vit-l": "x"}, "no part of this model 'vit-l'"),
        ("setr-ft", {"clip": "x"}, "no part of this model 'clip'"),
    ],
)
def test_weights_of_another_family_are_refused(categories, name: str, weights: Mapping[str, str], reason: str):
    with pytest.raises(MammoprepError, match=reason):
        build(small(name).model, categories=categories, weights=weights)


def test_a_part_in_the_wrong_place_is_refused(categories):
    with pytest.raises(MammoprepError, match=r"clip cannot be used here. Choose random, vit-l\."):
        build(change(small("setr-ft"), ["model.backbone=clip"]).model, categories=categories)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (UNetConfig, {"width": 0}),
        (UNetConfig, {"levels": 0}),
        (SetrConfig, {"heads": 3}),
        (SetrConfig, {"heads": 0}),
        (SetrConfig, {"prompts": -1}),
    ],
)
def test_values_that_make_no_model_are_refused(kind: Any, values: dict[str, int]):
    with pytest.raises(MammoprepError, match="A model cannot have these values"):
        kind(**values)


def test_only_a_frozen_transformer_needs_its_weights_again():
    assert [zoo.preset(name).model.trained.parts for name in NAMES] == [(), (), (), ("vit-l",)]


def test_a_u_net_of_one_level_sees_odd_sides():
    network = build(UNetConfig(width=4, levels=1, head=4), categories=panoptic.make_categories(["lesion"]))
    assert network(torch.zeros(1, 3, 5, 7)).shape == (1, 3, 5, 7)
    assert isinstance(checkpoint.module_of(network), nn.Module)
