import json
from collections.abc import Mapping
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Category, make_categories
from mammoprep_model import compact, parts, zoo
from mammoprep_model.config import ModelConfig
from mammoprep_model.odise.network import Odise, build, wire
from mammoprep_model.segmenter import Batch, Prediction, Segmenter

Categories = tuple[Category, ...]


@pytest.fixture
def tiny(tiny_config: ModelConfig, categories: Categories) -> Odise:
    torch.manual_seed(0)
    return build(tiny_config, categories=categories)


@pytest.fixture
def wired(small: ModelConfig, categories: Categories, places: Mapping[str, str]) -> Odise:
    """M-ODISE on pretrained parts in miniature."""
    torch.manual_seed(0)
    return build(small, categories=categories, weights=places)


@pytest.fixture(scope="module")
def batch() -> Batch:
    """One image of 64 x 128 with a bright square of class 1 on breast, one with nothing annotated."""
    images = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(5)) / 4
    lesion = torch.zeros(64, 128)
    lesion[16:40, 32:64] = 1
    images[0] += lesion / 2
    masks = (torch.stack([lesion, 1 - lesion]), torch.zeros(0, 64, 128))
    return Batch(images, masks, (torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64)), (1, 2))


def train(network: Odise, batch: Batch, *, steps: int, rate: float = 3e-3) -> list[float]:
    """Give the losses of some steps on one batch, its points drawn alike each time."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate)
    curve = []
    for _ in range(steps):
        torch.manual_seed(0)
        total = torch.stack(list(network.loss(batch).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        curve.append(total.item())
    return curve


def same(first: list[Prediction], second: list[Prediction]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a.masks, b.masks) and torch.equal(a.scores, b.scores) for a, b in pairs)


def test_it_keeps_the_contract(tiny: Odise):
    assert isinstance(tiny, Segmenter)


def test_losses_fall_on_a_fixed_batch(tiny: Odise, batch: Batch):
    curve = train(tiny, batch, steps=25)
    assert curve[-1] < 0.6 * curve[0]


def test_the_terms_are_scalars_with_gradients(tiny: Odise, batch: Batch):
    terms = tiny.loss(batch)
    assert list(terms) == ["class", "mask", "dice"]
    assert all(term.shape == () and term.requires_grad for term in terms.values())


def test_predictions_have_the_size_of_the_image(tiny: Odise, batch: Batch):
    first, second = tiny.predict(batch.images)
    assert (first.masks.shape, first.scores.shape, first.maps.shape) == ((5, 64, 128), (5, 4), (4, 64, 128))
    assert not first.masks.requires_grad
    assert not torch.equal(first.masks, second.masks)


def test_scores_leave_the_rest_to_no_object(tiny: Odise, batch: Batch):
    _, logits = tiny(batch.images)
    scores = torch.stack([prediction.scores for prediction in tiny.predict(batch.images)])
    assert torch.allclose(scores.sum(-1), 1 - logits[-1].softmax(-1)[..., -1], atol=1e-5)


def test_maps_are_masks_weighted_by_their_scores(tiny: Odise, batch: Batch):
    prediction = tiny.predict(batch.images)[0]
    at = sum(score * mask[10, 20].sigmoid() for score, mask in zip(prediction.scores, prediction.masks, strict=True))
    assert torch.allclose(prediction.maps[:, 10, 20], at.clamp(0, 1), atol=1e-5)
    assert 0 <= prediction.maps.min() <= prediction.maps.max() <= 1


def test_an_image_larger_than_the_window_is_seen_in_windows(tiny: Odise):
    images = torch.rand(1, 3, 192, 64)
    seen: list[int] = []
    tiny.captioner.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    assert tiny.predict(images)[0].masks.shape == (5, 192, 64)
    assert seen == [2]


def test_a_run_and_its_config_rebuild_a_tiny_network(tiny: Odise, batch: Batch, categories: Categories):
    train(tiny, batch, steps=2)
    config = ModelConfig(**json.loads(json.dumps(asdict(tiny.config))))
    torch.manual_seed(99)
    rebuilt = build(config, categories=categories)
    assert not same(rebuilt.predict(batch.images), tiny.predict(batch.images))
    rebuilt.load_trained(tiny.trained_state())
    assert same(rebuilt.predict(batch.images), tiny.predict(batch.images))


def test_a_run_and_the_pretrained_parts_rebuild_a_network(
    wired: Odise, batch: Batch, categories: Categories, places: Mapping[str, str]
):
    train(wired, batch, steps=2)
    torch.manual_seed(99)
    rebuilt = build(wired.config, categories=categories, weights=places)
    rebuilt.load_trained(wired.trained_state())
    assert same(rebuilt.predict(batch.images), wired.predict(batch.images))


def test_what_pretrained_parts_give_back_is_not_saved(wired: Odise):
    trained = {name for name, parameter in wired.named_parameters() if parameter.requires_grad}
    saved = wired.trained_state().keys()
    assert trained <= saved
    assert not any(name.startswith(("backbone.unet", "backbone.vae", "captioner.encoder")) for name in saved)
    assert not {"captioner.empty_prompt", "class_head.text"} & saved


def test_an_unfrozen_pretrained_unet_is_saved(small: ModelConfig, categories: Categories, places: Mapping[str, str]):
    network = build(replace(small, backbone_frozen=False), categories=categories, weights=places)
    assert "backbone.unet.conv_in.weight" in network.trained_state()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("class_head.null"), "only the model has class_head.null"),
        (lambda state: state.update(other=torch.zeros(1)), "only the saved weights has other"),
        (lambda state: state.update({"class_head.null": torch.zeros(3)}), r"class_head.null has the shape \(3,\)"),
    ],
)
def test_weights_of_another_model_are_refused(tiny: Odise, change, reason: str):
    state: dict[str, Tensor] = dict(tiny.trained_state())
    change(state)
    with pytest.raises(MammoprepError, match=reason):
        tiny.load_trained(state)


def test_frozen_parts_stay_in_use_mode_and_do_not_change(wired: Odise, batch: Batch):
    frozen = [wired.backbone.unet, wired.backbone.vae, wired.captioner.encoder]
    before = [tensor.clone() for part in frozen for tensor in part.state_dict().values()]
    wired.train()
    train(wired, batch, steps=1)
    after = [tensor for part in frozen for tensor in part.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert wired.training
    assert wired.mask_generator.training
    assert not any(module.training for part in frozen for module in part.modules())


def test_the_captioner_learns_through_the_frozen_unet(wired: Odise, batch: Batch):
    train(wired, batch, steps=1)
    torch.stack(list(wired.loss(batch).values())).sum().backward()
    learning = [name for name, p in wired.captioner.named_parameters() if p.grad is not None and p.grad.any()]
    terms = ("tokens", "time")
    assert learning == [
        f"{term}.{name}" for term in terms for name in ("position", "alpha", "linear.weight", "linear.bias")
    ]
    assert all(parameter.grad is None for parameter in wired.backbone.unet.parameters())


def test_every_trained_parameter_gets_a_gradient(wired: Odise, batch: Batch):
    train(wired, batch, steps=1)
    torch.stack(list(wired.loss(batch).values())).sum().backward()
    assert [name for name, p in wired.named_parameters() if p.requires_grad and p.grad is None] == []


def test_a_tiny_backbone_is_trained(tiny: Odise, batch: Batch):
    before = tiny.backbone.unet.conv_in.weight.clone()
    train(tiny, batch, steps=1)
    assert not torch.equal(tiny.backbone.unet.conv_in.weight, before)


def test_it_trains_and_predicts_in_mixed_precision(wired: Odise, batch: Batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = torch.stack(list(wired.loss(batch).values())).sum()
        prediction = wired.predict(batch.images)[0]
    total.backward()
    assert total.dtype == torch.float32
    assert total.isfinite()
    assert prediction.maps.isfinite().all()
    assert wired.captioner.tokens.alpha.grad.isfinite().all()


def test_classes_are_told_apart_by_their_encoded_names(wired: Odise, places: Mapping[str, str]):
    encoders = parts.load_encoders("biomedclip", places)
    expected = encoders.text(
        ["BI-RADS 3", "probably benign finding", "BI-RADS 4", "suspicious abnormality"]
        + ["breast", "normal breast tissue", "background", "black background"]
    )
    assert torch.allclose(wired.class_head.text, expected, atol=1e-5)
    assert torch.allclose(wired.class_head.null, encoders.text([""])[0], atol=1e-5)


def test_weights_for_a_part_that_the_model_lacks_are_refused(small: ModelConfig, categories: Categories):
    with pytest.raises(MammoprepError, match="There is no part of this model 'mame'. Did you mean 'mam-e'"):
        build(small, categories=categories, weights={"mame": "somewhere"})


def full_size(name: str) -> Odise:
    """Build a preset's full size without memory, from the published sizes of its parts."""
    model, categories = zoo.preset(name).model, make_categories(["BI-RADS 3", "BI-RADS 4", "BI-RADS 5"])
    with torch.device("meta"):
        source = SOURCES.get(model.backbone, stable_diffusion)()
        image, text = (
            None if part == "none" else ENCODERS[part]() for part in (model.image_encoder, model.text_encoder)
        )
        return wire(model, categories=categories, source=source, image=image, text=text)


def stable_diffusion() -> parts.Diffusion:
    """Stable Diffusion 1.x: 859.52 and 83.65 million parameters."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet = UNet2DConditionModel(cross_attention_dim=768)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    )
    return parts.Diffusion(unet, vae, torch.zeros(1, 77, 768), pretrained=True)


def swin_l() -> parts.SwinSource:
    from transformers import SwinBackbone, SwinConfig

    config = SwinConfig(
        image_size=384,
        embed_dim=192,
        depths=[2, 2, 18, 2],
        num_heads=[6, 12, 24, 48],
        window_size=12,
        **{"out_features": [f"stage{number}" for number in range(1, 5)]},
    )
    return parts.SwinSource(SwinBackbone(config), pretrained=True)


def small_diffusion() -> parts.Diffusion:
    made = compact.make(seed=0)
    return parts.Diffusion(made.unet, made.vae, torch.zeros(1, 77, compact.DEFAULT.text), pretrained=True)


def clip() -> parts.Encoders:
    """CLIP ViT-L/14 at 336 pixels; its text half holds no parameter of the network."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    vision = CLIPVisionConfig(**sizes, image_size=336, patch_size=14, projection_dim=768)
    image = parts.ImageEncoder(CLIPVisionModelWithProjection(vision), size=336)
    return parts.Encoders(image, lambda texts: torch.zeros(len(texts), 768), 768, pretrained=True)


def biomedclip() -> parts.Encoders:
    """BiomedCLIP's ViT-B/16 with its projection to 512 numbers."""
    from transformers import ViTConfig, ViTModel

    vision = nn.Sequential(ViTModel(ViTConfig(), add_pooling_layer=False), nn.Linear(768, 512, bias=False))
    image = parts.ImageEncoder(vision, size=224)
    return parts.Encoders(image, lambda texts: torch.zeros(len(texts), 512), 512, pretrained=True)


SOURCES = {"swin-l": swin_l, "compact": small_diffusion}
ENCODERS = {"clip": clip, "biomedclip": biomedclip}
PUBLISHED = {"odise": 28.067, "odise-biomedclip": 27.477, "odise-mam-e": 28.067, "m-odise": 27.477, "m2f-swin-l": 215.5}
"""Millions of trained parameters, to the digits that are published or follow from published sizes."""


COUNTED = [name for name, preset in zoo.PRESETS.items() if preset.trained and zoo.family_of(preset.model) == "odise"]


@pytest.mark.parametrize("name", COUNTED)
def test_a_preset_has_as_many_parameters_as_it_says(name: str):
    network, preset = full_size(name), zoo.preset(name)
    counts = {True: 0, False: 0}
    for parameter in network.parameters():
        counts[parameter.requires_grad] += parameter.numel()
    assert (round(counts[True] / 1e6, 3), round(counts[False] / 1e6, 3)) == (preset.trained, preset.frozen)
    if name in PUBLISHED:
        digits = len(str(PUBLISHED[name]).split(".")[1])
        assert round(preset.trained, digits) == PUBLISHED[name]


def test_the_full_size_has_ten_sets_of_a_hundred_masks():
    head = full_size("m-odise")
    head.captioner.encoder.model = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 512, device="meta")
    )
    with torch.device("meta"):
        generated, logits = head.to("meta").eval()(torch.zeros(1, 3, 1024, 832))
    assert [tuple(masks.shape) for masks in generated.masks] == [(1, 100, 256, 208)] * 10
    assert [tuple(scores.shape) for scores in logits] == [(1, 100, 6)] * 10


def test_swin_l_has_two_hundred_masks():
    with torch.device("meta"):
        generated, logits = full_size("m2f-swin-l").to("meta").eval()(torch.zeros(1, 3, 384, 448))
    assert [tuple(masks.shape) for masks in generated.masks] == [(1, 200, 96, 112)] * 10
    assert tuple(logits[-1].shape) == (1, 200, 6)


def test_mask_generator_of_a_seed_is_the_same_with_either_class_head(tiny_config, categories):
    """The head is made last, and only the one that is used: a run's random start does not hang on the other."""
    starts = []
    for text_encoder in ("tiny", "none"):
        torch.manual_seed(0)
        network = build(replace(tiny_config, text_encoder=text_encoder), categories=categories)
        starts.append(network.mask_generator.state_dict())
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])


def test_a_prompt_changes_the_texts_of_the_classes(small, categories, places):
    network = build(replace(small, prompt="a {} | the {}", synonyms=False), categories=categories, weights=places)
    text = parts.load_encoders("biomedclip", places).text
    expected = (text(["a breast"]) + text(["the breast"])) / 2
    assert torch.allclose(network.class_head.text[2], expected[0], atol=1e-5)


def test_clip_has_its_say_at_prediction_alone(small, categories, places, batch: Batch):
    """With the whole share, scores are those of CLIP's own view of each mask; masks, losses and weights stay."""
    networks = []
    for share in (0.0, 1.0):
        torch.manual_seed(0)
        config = replace(small, clip_share=share, synonyms=False)
        networks.append(build(config, categories=categories, weights=places).eval())
    without, with_it = networks
    assert with_it.trained_state().keys() == without.trained_state().keys()
    before, after = (network.predict(batch.images)[0] for network in networks)
    assert torch.equal(after.masks, before.masks)
    encoders = parts.load_encoders("biomedclip", places)
    texts = encoders.text([f"a photo of a {category.name}." for category in categories])
    with torch.no_grad():
        seen = encoders.image.within(batch.images[:1], with_it(batch.images)[0].masks[-1][:1])[0]
    cosines = nn.functional.cosine_similarity(seen[:, None], texts[None], dim=-1)
    expected = (encoders.scale * cosines).softmax(-1) * before.scores.sum(-1, keepdim=True)
    assert torch.allclose(after.scores, expected, atol=1e-4)
    losses = []
    for network in networks:
        torch.manual_seed(0)
        losses.append(torch.stack(list(network.loss(batch).values())).sum().item())
    assert losses[0] == losses[1]


def test_a_run_that_started_from_a_mask2former_is_rebuilt_without_it(
    small, categories, places, mask2former_folder, caplog, batch: Batch
):
    config = replace(small, mask_generator="m2f-coco")
    network = build(config, categories=categories, weights={**places, "m2f-coco": str(mask2former_folder)})
    trained = parts.load_mask_generator("m2f-coco", {"m2f-coco": str(mask2former_folder)})
    name = "transformer.decoder.layernorm.weight"
    assert torch.equal(network.mask_generator.state_dict()[name], trained[name])
    assert "tensors from m2f-coco. Random: " in caplog.text
    assert "transformer.queries_features.weight" in caplog.text
    rebuilt = build(small, categories=categories, weights=places)
    rebuilt.load_trained(network.trained_state())
    assert same(rebuilt.eval().predict(batch.images), network.eval().predict(batch.images))
