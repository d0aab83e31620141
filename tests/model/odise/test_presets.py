"""The six systems of the paper's tables, wired as their presets say, on small parts in the published formats."""

from collections.abc import Mapping
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category
from mammoprep_model import parts, weights, zoo
from mammoprep_model.config import ModelConfig, TrainConfig
from mammoprep_model.odise.captioner import Captioner, EmptyPrompt
from mammoprep_model.odise.class_head import ClassHead, LinearHead
from mammoprep_model.odise.network import Odise, build
from mammoprep_model.odise.swin import MEAN, STD
from mammoprep_model.optimizer import make_optimizer, set_rate
from mammoprep_model.pretrain import recipe
from mammoprep_model.segmenter import Batch

PAPER = [name for name, preset in zoo.PRESETS.items() if preset.published]
SIZES = (
    *("window", "projection", "hidden", "heads", "queries", "encoder_layers", "encoder_feedforward"),
    *("decoder_layers", "decoder_feedforward", "points"),
)


@pytest.fixture(scope="session")
def all_places(places, clip_folder, diffusers_folder, swin_folder) -> Mapping[str, str]:
    """Where each part of the paper's systems lies; Stable Diffusion has MAM-E's format."""
    return {**places, "sd-1.3": str(diffusers_folder), "clip": str(clip_folder), "swin-l": str(swin_folder)}


@pytest.fixture
def make(small: ModelConfig, categories: tuple[Category, ...], all_places: Mapping[str, str]):
    """Build a preset in the smallest sizes."""

    def build_small(name: str) -> Odise:
        torch.manual_seed(0)
        config = replace(zoo.preset(name).model, **{size: getattr(small, size) for size in SIZES})
        return build(config, categories=categories, weights={part: all_places[part] for part in config.parts})

    return build_small


@pytest.fixture(scope="module")
def batch() -> Batch:
    """One image of 64 x 128 with a bright square of class 1 on breast."""
    images = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(5)) / 4
    lesion = torch.zeros(64, 128)
    lesion[16:40, 32:64] = 1
    images[0] += lesion / 2
    return Batch(images, (torch.stack([lesion, 1 - lesion]),), (torch.tensor([1, 2]),), (1,))


def total(network: Odise, batch: Batch) -> Tensor:
    torch.manual_seed(0)
    return torch.stack(list(network.loss(batch).values())).sum()


@pytest.mark.parametrize("name", PAPER)
def test_loss_falls_on_a_fixed_batch(make, batch: Batch, name: str):
    network = make(name)
    optimizer = make_optimizer(network, replace(zoo.preset(name).train, learning_rate=3e-3, weight_decay=0.0))
    set_rate(optimizer, 3e-3)
    first = total(network, batch).item()
    for _ in range(20):
        optimizer.zero_grad()
        total(network, batch).backward()
        optimizer.step()
    assert total(network, batch).item() < 0.8 * first


@pytest.mark.parametrize("name", PAPER)
def test_every_trained_parameter_gets_a_gradient_and_no_frozen_one(make, batch: Batch, name: str):
    network = make(name)
    with torch.no_grad():  # a captioner starts unconditional: until alpha moves, its other parameters have no gradient
        for parameter in (p for n, p in network.named_parameters() if n.endswith("alpha")):
            parameter.fill_(0.1)
    total(network, batch).backward()
    missing = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert all(p.grad is None for p in network.parameters() if not p.requires_grad)


@pytest.mark.parametrize("name", PAPER)
def test_what_is_saved_predicts_the_same(make, batch: Batch, name: str):
    network, rebuilt = make(name), make(name)
    with torch.no_grad():
        for parameter in (p for p in network.parameters() if p.requires_grad):
            parameter.add_(0.01 * torch.randn_like(parameter))
    expected, before = network.eval().predict(batch.images)[0], rebuilt.eval().predict(batch.images)[0]
    assert not torch.equal(expected.masks, before.masks)
    rebuilt.load_trained(network.trained_state())
    found = rebuilt.predict(batch.images)[0]
    assert torch.equal(found.masks, expected.masks)
    assert torch.equal(found.scores, expected.scores)


@pytest.mark.parametrize(
    ("name", "captioner", "head"),
    [
        ("m2f-swin-l", type(None), LinearHead),
        ("m2f-sd", EmptyPrompt, LinearHead),
        ("odise", Captioner, ClassHead),
        ("odise-biomedclip", Captioner, ClassHead),
        ("odise-mam-e", Captioner, ClassHead),
        ("m-odise", Captioner, ClassHead),
    ],
)
def test_each_system_has_its_captioner_and_class_head(make, name: str, captioner: type, head: type):
    network = make(name)
    assert type(network.captioner) is captioner
    assert type(network.class_head) is head


def test_mask2former_on_diffusion_features_sees_every_image_with_the_empty_prompt(make, batch: Batch):
    network = make("m2f-sd")
    prompt, time = network.captioner(torch.cat([batch.images, batch.images]))
    assert prompt.shape[0] == 2
    assert torch.equal(prompt[0], network.captioner.empty_prompt[0])
    assert time is None


def test_presets_differ_in_their_parts_alone():
    """Sizes, losses and schedule are the same for all, but for Mask2Former's queries and rate."""
    named = {"backbone", "backbone_frozen", "image_encoder", "text_encoder", "synonyms", "time_embedding"}
    models = [{k: v for k, v in asdict(zoo.preset(n).model).items() if k not in named} for n in PAPER]
    assert [model.pop("queries") for model in models] == [200, 100, 100, 100, 100, 100]
    assert all(model == models[0] for model in models)
    assert [zoo.preset(name).train for name in PAPER[1:]] == [TrainConfig()] * 5
    assert zoo.preset("m2f-swin-l").train == TrainConfig(backbone_rate=0.1)


# Swin


def test_swin_gives_its_four_stages_of_normalised_pixels(make, all_places: Mapping[str, str], batch: Batch):
    """Pixels of ImageNet's mean are 0 for it; its features are those of transformers' own backbone."""
    network = make("m2f-swin-l").eval()
    features = network.backbone(batch.images)
    assert [tuple(part.shape) for part in features] == [
        (1, channels, 64 // stride, 128 // stride)
        for channels, stride in zip(network.backbone.channels, (4, 8, 16, 32), strict=True)
    ]
    own = parts.load_swin("swin-l", all_places).swin.eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    expected = own((batch.images - mean) / std).feature_maps
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(features, expected, strict=True))


def test_swin_moves_at_a_tenth_of_the_rate(make):
    network = make("m2f-swin-l")
    optimizer = make_optimizer(network, zoo.preset("m2f-swin-l").train)
    set_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        assert rates[id(parameter)] == (0.05 if name.startswith("backbone.swin.") else 0.5)
    assert len(rates) == len(list(network.parameters()))


def test_a_swin_folder_that_lacks_a_tensor_is_named(swin_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(swin_folder, tmp_path / "swin")
    tensors = load_file(tmp_path / "swin" / "model.safetensors")
    tensors.pop("swin.embeddings.norm.weight")
    save_file(tensors, tmp_path / "swin" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MammoprepError, match=r"swin-l.*swin.embeddings.norm.weight"):
        parts.load_swin("swin-l", {"swin-l": str(tmp_path / "swin")})


def test_a_part_in_the_wrong_place_is_refused(small: ModelConfig, categories: tuple[Category, ...]):
    with pytest.raises(MammoprepError, match="swin-l cannot be used here. Choose tiny, clip, biomedclip"):
        build(replace(small, image_encoder="swin-l"), categories=categories)


def test_tiny_swin_needs_no_weights(small: ModelConfig, categories: tuple[Category, ...], batch: Batch):
    config = replace(small, backbone="tiny-swin", backbone_frozen=False, image_encoder="none", text_encoder="none")
    network = build(config, categories=categories)
    assert total(network, batch).isfinite()
    assert any(name.startswith("backbone.swin") for name in network.trained_state())


def test_every_source_is_a_part_of_some_preset_or_what_something_starts_from():
    named = {part for preset in zoo.PRESETS.values() for part in preset.model.parts}
    starts = {source.name for source in weights.SOURCES.values() if source.layout == "mask2former"}
    assert set(weights.SOURCES) == named | starts | set(recipe.BASES)


@pytest.mark.parametrize(("name", "left"), [("m2f-swin-l", 0), ("odise", 6)])
def test_what_of_the_coco_trained_mask2former_fits_in_full_size(name: str, left: int):
    """All of it behind Swin-L; behind 512 channels and with 100 queries not those of the inputs and of the queries."""
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    from mammoprep_model.odise.mask_generator import MaskGenerator

    model = zoo.preset(name).model
    swin = {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12}
    stages = {"out_features": [f"stage{number}" for number in range(1, 5)]}
    channels = [192, 384, 768, 1536] if model.backbone == "swin-l" else [model.projection] * 4
    with torch.device("meta"):
        published = Mask2FormerForUniversalSegmentation(
            Mask2FormerConfig(backbone_config=SwinConfig(**swin, **stages), num_queries=200)
        ).model
        ours = MaskGenerator(model, channels).state_dict()
    halves = {"pixel_decoder": published.pixel_level_module.decoder, "transformer": published.transformer_module}
    theirs = {f"{half}.{key}": t for half, module in halves.items() for key, t in module.state_dict().items()}
    assert theirs.keys() == ours.keys()
    assert sum(theirs[key].shape != ours[key].shape for key in ours) == left


def test_clip_has_no_say_where_there_is_no_captioner(small: ModelConfig, categories, all_places: Mapping[str, str]):
    config = replace(small, backbone="tiny-swin", image_encoder="clip", text_encoder="clip", clip_share=0.3)
    with pytest.raises(MammoprepError, match="model.clip_share needs the captioner's CLIP"):
        build(config, categories=categories, weights={"clip": all_places["clip"]})
