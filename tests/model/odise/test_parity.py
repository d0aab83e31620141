"""The network computes what the papers say, in float64 on tiny parts, against what is written out here step by step."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mammoprep import panoptic
from mammoprep_model import checkpoint, data, inference, losses, tiny, zoo
from mammoprep_model.checkpoint import RunConfig
from mammoprep_model.config import ModelConfig, TrainConfig
from mammoprep_model.odise.backbone import Backbone
from mammoprep_model.odise.captioner import Captioner
from mammoprep_model.odise.class_head import ClassHead, pool
from mammoprep_model.odise.network import Odise, build
from mammoprep_model.segmenter import Batch, Prediction
from mammoprep_model.segments import Answer, merge

VAE = {
    "encoder_5": ("encoder.down_blocks.2.resnets.1", 4),
    "encoder_7": ("encoder.down_blocks.3.resnets.1", 8),
    "decoder_2": ("decoder.up_blocks.0.resnets.2", 8),
    "decoder_5": ("decoder.up_blocks.1.resnets.2", 4),
}
UNET = {
    "unet_2": ("up_blocks.0.resnets.2", 32),
    "unet_5": ("up_blocks.1.resnets.2", 32),
    "unet_8": ("up_blocks.2.resnets.2", 16),
    "unet_11": ("up_blocks.3.resnets.2", 8),
}
"""The published taps: the inputs of these blocks, in diffusers' names, and the stride of the map they add to."""
SIGNAL = 1 - 0.00085
"""The signal's variance at t = 0 of Stable Diffusion's schedule."""


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """Make and compute everything in float64."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def close(found: Tensor, expected: Tensor) -> bool:
    return found.dtype == torch.float64 and torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


def watch(network: nn.Module, taps: Mapping[str, tuple[str, int]], call: Callable[[], Any]) -> dict[str, Tensor]:
    """Give what enters the tapped blocks while something is called."""
    seen: dict[str, Tensor] = {}
    blocks = {name: network.get_submodule(path) for name, (path, _) in taps.items()}
    handles = [
        block.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
        for name, block in blocks.items()
    ]
    call()
    for handle in handles:
        handle.remove()
    return seen


def features_by_hand(backbone: Backbone, windows: Tensor, tokens: Tensor) -> list[Tensor]:
    """Run VAE and UNet as the paper says, resize each tap to its stride by nearest pixels, project, and sum."""
    vae, unet = backbone.vae, backbone.unet
    latents: list[Tensor] = []

    def autoencode() -> None:
        latents.append(vae.encode((windows - 0.5) / 0.5).latent_dist.mean)
        vae.decode(latents[0])

    seen = watch(vae, VAE, autoencode)
    noise = torch.randn(latents[0].shape[1:], generator=torch.Generator().manual_seed(42), dtype=torch.float32)
    noisy = SIGNAL**0.5 * vae.config.scaling_factor * latents[0] + (1 - SIGNAL) ** 0.5 * noise.double()
    zero = torch.zeros(unet.time_embedding.linear_2.out_features)
    seen |= watch(unet, UNET, lambda: unet(noisy, 0, tokens, class_labels=zero))
    total: dict[int, Tensor] = {}
    for name, (_, stride) in (VAE | UNET).items():
        size = windows.shape[2] // stride, windows.shape[3] // stride
        resized = nn.functional.interpolate(seen[name], size, mode="nearest")
        total[stride] = total.get(stride, 0) + backbone.projections[name](resized)
    return [total[stride] for stride in (4, 8, 16, 32)]


@pytest.fixture
def network(tiny_config: ModelConfig, categories: tuple[panoptic.Category, ...]) -> Odise:
    return build(tiny_config, categories=categories).eval()


def test_the_signal_at_t_0_is_that_of_diffusers_schedule():
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    assert float(schedule.alphas_cumprod[0]) == pytest.approx(SIGNAL, rel=1e-6)  # they compute it in float32


def test_features_are_the_inputs_of_the_named_blocks_at_t_0_with_the_fixed_noise():
    backbone = Backbone(tiny.unet(), tiny.vae(), frozen=True, projection=16, window=64, checkpointing=False).eval()
    backbone.noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(42), dtype=torch.float32).double()
    windows, tokens = torch.rand(2, 3, 64, 64), torch.randn(2, *tiny.PROMPT)
    with torch.no_grad():
        found = backbone(windows, tokens, None)
        assert all(close(a, b) for a, b in zip(found, features_by_hand(backbone, windows, tokens), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(found, backbone(windows, tokens, None), strict=True))


def test_a_network_starts_exactly_unconditional(network: Odise):
    """Before its first step the captioner's features are those of the empty prompt, whatever it sees."""
    images = torch.rand(2, 3, 64, 128)
    assert isinstance(network.captioner, Captioner)
    with torch.no_grad():
        empty = network.backbone(images, network.captioner.empty_prompt.expand(2, -1, -1), None)
        assert all(torch.equal(a, b) for a, b in zip(network._features(images), empty, strict=True))
        network.captioner.tokens.alpha.fill_(0.5)
        assert not torch.equal(network._features(images)[1], empty[1])


def test_logits_are_scaled_cosines_with_null_last():
    head = ClassHead([torch.randn(2, 6), torch.randn(1, 6)], empty=torch.randn(6), hidden=8)
    queries, masks, features = torch.randn(2, 5, 8), torch.randn(2, 5, 4, 4), torch.randn(2, 8, 4, 4)
    embedded = head.embed(head.project_pooled(pool(features, masks)) + queries)
    texts = head.project_text(torch.cat([head.text, head.null[None]]))
    cosines = nn.functional.cosine_similarity(embedded[:, :, None], texts, dim=-1)
    expected = torch.stack([cosines[..., :2].amax(-1), cosines[..., 2], cosines[..., 3]], dim=-1) / 0.07
    assert torch.allclose(head(queries, masks, features), expected, rtol=1e-6)  # 1 / 0.07 is kept as a logarithm


def fixed(*shape: int, device: Any = None) -> Tensor:
    """Stand in for torch.rand: an even sequence in the unit square."""
    steps = torch.arange(1, shape[-2] + 1) + 0.0
    return torch.stack([steps * 0.7548777 % 1, steps * 0.5698403 % 1], dim=-1).expand(shape).contiguous()


def test_the_loss_is_that_of_transformers_with_the_published_weights(monkeypatch: pytest.MonkeyPatch):
    from transformers.models.mask2former.configuration_mask2former import Mask2FormerConfig
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

    config = zoo.preset("m-odise").model
    masks = [torch.randn(2, 6, 16, 16) for _ in range(3)]
    logits = [torch.randn(2, 6, 4) for _ in range(3)]
    segments = (torch.rand(3, 32, 32).gt(0.5).double(), torch.rand(1, 32, 32).gt(0.5).double())
    labels = (torch.tensor([2, 0, 1]), torch.tensor([1]))
    monkeypatch.setattr(torch, "rand", fixed)
    theirs = Mask2FormerLoss(Mask2FormerConfig(num_labels=3, train_num_points=config.points), {})(
        masks[-1],
        logits[-1],
        list(segments),
        list(labels),
        [{"masks_queries_logits": m, "class_queries_logits": c} for m, c in zip(masks[:-1], logits[:-1], strict=True)],
    )
    ours = losses.loss(masks, logits, batch=Batch(torch.zeros(2, 3, 32, 32), segments, labels, (1, 2)), config=config)
    for name, theirs_name, weight in (("class", "cross_entropy", 2), ("mask", "mask", 5), ("dice", "dice", 5)):
        total = sum(value for key, value in theirs.items() if key.startswith(f"loss_{theirs_name}"))
        assert ours[name].item() == pytest.approx(weight * total.item(), rel=1e-10)


def merged_by_hand(prediction: Prediction, *, train: TrainConfig) -> dict[int, list[int]]:
    """Merge masks pixel by pixel as Mask2Former's paper says; give the pixels of each kept mask of a thing."""
    kept = []
    for query, scores in enumerate(prediction.scores):
        label, score = int(scores.argmax()), float(scores.max())
        if score > 1 - float(scores.sum()) and score > train.object_threshold:
            kept.append((query, label, score))
    probabilities = prediction.masks.sigmoid().flatten(1)
    owners = [
        max(kept, key=lambda each, at=at: each[2] * float(probabilities[each[0], at]))[0] if kept else -1
        for at in range(probabilities.shape[1])
    ]
    found = {}
    for query, _, _ in kept:
        won = [at for at, owner in enumerate(owners) if owner == query]
        inside = int((probabilities[query] >= 0.5).sum())
        visible = [at for at in won if probabilities[query, at] >= 0.5]
        if visible and len(won) / inside >= train.overlap_threshold:
            found[query] = visible
    return found


@pytest.mark.parametrize("object_threshold", [0.0, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_panoptic_maps_follow_both_papers_thresholds(object_threshold: float, seed: int):
    """ODISE takes every mask that is not "no object", Mask2Former those above 0.8; all classes are things here."""
    torch.manual_seed(seed)
    categories = panoptic.make_categories(["BI-RADS 3", "BI-RADS 4"], [])
    logits = nn.functional.interpolate(4 * torch.randn(1, 8, 3, 3), (12, 12), mode="bilinear")[0]
    prediction = Prediction(logits, (6 * torch.randn(8, 3)).softmax(-1)[:, :2], torch.zeros(2, 12, 12))
    train = replace(zoo.preset("odise").train, object_threshold=object_threshold)
    answer = Answer(prediction, (12, 12), (12, 12), (12, 12))
    ids, segments = merge(answer, categories=categories, train=train)
    expected = merged_by_hand(prediction, train=train)
    found = [np.flatnonzero(ids == segment.id).tolist() for segment in segments]
    assert sorted(found) == sorted(expected.values())


def test_semantic_maps_sum_class_times_mask_probability(network: Odise):
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        generated, logits = network(images)
    masks = nn.functional.interpolate(generated.masks[-1], (64, 64), mode="bilinear")[0].sigmoid()
    expected = torch.einsum("qc,qhw->chw", logits[-1][0].softmax(-1)[:, :-1], masks)
    assert torch.allclose(network.predict(images)[0].maps.double(), expected.clamp(0, 1), atol=1e-5)


@pytest.fixture
def run_config(tiny_config: ModelConfig, categories: tuple[panoptic.Category, ...]) -> RunConfig:
    preset = zoo.preset("tiny")
    preset = replace(preset, model=tiny_config, train=replace(preset.train, size=64, crop=64))
    facts = {"dataset": "", "data_hash": "", "folds_hash": "", "fold": 0, "seed": 0, "weights": {}, "versions": {}}
    return RunConfig(preset=preset, categories=categories, device="cpu", git_commit=None, **facts)


def test_a_model_saved_and_loaded_predicts_the_same_bytes(run_config: RunConfig, tmp_path: Path):
    torch.set_default_dtype(torch.float32)
    network = checkpoint.untrained(run_config)
    with torch.no_grad():
        for parameter in checkpoint.module_of(network).parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    checkpoint.write_run(tmp_path, run_config)
    checkpoint.save(tmp_path, checkpoint.tensors_of(network), state={})
    torch.manual_seed(99)
    loaded, config = checkpoint.load(tmp_path, device="cpu")
    grey = np.random.default_rng(0).integers(0, 256, (96, 64), dtype=np.uint8)
    pictures = [data.Picture(1, "one", lambda: grey)]
    for name, model in (("before", network), ("after", loaded)):
        inference.predict(model, pictures, out=tmp_path / name, config=config)
    files = [
        sorted(path.relative_to(folder) for path in folder.rglob("*.*"))
        for folder in (tmp_path / "before", tmp_path / "after")
    ]
    assert len(files[0]) == 6
    assert files[0] == files[1]
    assert all((tmp_path / "before" / f).read_bytes() == (tmp_path / "after" / f).read_bytes() for f in files[0])
