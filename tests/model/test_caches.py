"""What is kept is what would be computed; nothing torn or foreign is used; the limit holds."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mammoprep import panoptic
from mammoprep_model import caches, checkpoint, trainer
from mammoprep_model.caches import Cache, open_cache
from mammoprep_model.config import ModelConfig, Preset, TrainConfig
from mammoprep_model.odise.network import Odise, build
from mammoprep_model.plan import Session
from mammoprep_model.segmenter import Batch, Cacheable

CONFIG = TrainConfig(size=192, crop=192, augment="flip", cache_gib=1)


@pytest.fixture
def network(small: ModelConfig, categories: tuple[panoptic.Category, ...], places: Mapping[str, str]) -> Odise:
    """M-ODISE on pretrained parts in miniature, in float64, its captioner no longer unconditional."""
    torch.manual_seed(0)
    network = build(small, categories=categories, weights=places).double()
    with torch.no_grad():
        network.captioner.tokens.alpha.fill_(0.5)
    return network


def open_in_float64(network: Odise, folder: Path) -> tuple[Cache, str]:
    torch.set_default_dtype(torch.float64)
    try:
        return open_cache(network, folder=folder, config=CONFIG, images=5)
    finally:
        torch.set_default_dtype(torch.float32)


def batch_of(*seeds: int, side: int = 192, dtype: torch.dtype = torch.float64) -> Batch:
    """Give images of four windows each, with a lesion of class 1."""
    images = torch.stack(
        [torch.rand(3, side, side, generator=torch.Generator().manual_seed(s), dtype=dtype) for s in seeds]
    )
    masks = torch.zeros(1, side, side)
    masks[:, 16:60, 20:70] = 1
    return Batch(images, (masks,) * len(seeds), (torch.tensor([1]),) * len(seeds), seeds)


class Counting:
    """Frozen parts that give an image's mean, and count how often they are asked."""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = torch.tensor([weight])
        self.asked: list[int] = []

    def frozen(self, images: Tensor) -> list[dict[str, Tensor]]:
        self.asked.append(len(images))
        return [{"mean": self.weight * image.mean().float()} for image in images]

    def frozen_state(self) -> dict[str, Tensor]:
        return {"weight": self.weight}


def counting(folder: Path, *, weight: float = 1.0, limit: int = 10_000) -> tuple[Cache, Counting]:
    network = Counting(weight)
    cache, _ = open_cache(network, folder=folder, config=CONFIG, images=10)
    assert network.asked == [1]
    network.asked.clear()
    return Cache(network, folder=folder, key=cache._key, limit=limit), network


def through(cache: Cache, batch: Batch) -> list[float]:
    return [found["mean"].item() for found in cache.fill(cache.read(batch)).frozen if found]


def test_losses_and_gradients_are_the_same_with_and_without(network: Odise, tmp_path: Path):
    cache, line = open_in_float64(network, tmp_path / "cache")
    # 4 windows of 128: embedding 20, latent 4 x 16 x 16, taps of 8 channels, two at 32 x 32 and two at 16 x 16.
    size = 4 * 8 * (20 + 4 * 16**2 + 8 * 2 * (32**2 + 16**2)) / 2**20
    assert line == f"Cache: 10 views of {size:.1f} MiB, {10 * size / 1024:.2f} GiB in all, into {tmp_path / 'cache'}."
    assert not (tmp_path / "cache").exists()
    results = []
    for batch in (batch_of(1, 2), cache.fill(cache.read(batch_of(1, 2))), cache.read(batch_of(1, 2))):
        network.zero_grad()
        torch.manual_seed(0)
        losses = torch.stack([*network.loss(batch).values()])
        losses.sum().backward()
        results.append((losses.detach(), network.captioner.tokens.linear.weight.grad.clone()))
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2
    assert all(found is not None for found in cache.read(batch_of(1, 2)).frozen)
    for losses, gradient in results[1:]:
        assert torch.allclose(losses, results[0][0], rtol=1e-9)
        assert torch.allclose(gradient, results[0][1], rtol=1e-6)


def test_what_is_known_is_not_computed(network: Odise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache, _ = open_in_float64(network, tmp_path)
    known = cache.fill(cache.read(batch_of(1, 2)))

    def fail(*_: object) -> None:
        raise AssertionError("a frozen part was asked")

    monkeypatch.setattr(network.captioner.encoder, "forward", fail)
    monkeypatch.setattr(network.backbone.vae.encoder, "forward", fail)
    assert torch.stack([*network.loss(known).values()]).isfinite().all()
    with pytest.raises(AssertionError, match="was asked"):
        network.loss(replace(known, frozen=(known.frozen[0], None)))


def test_only_what_is_missing_is_computed(tmp_path: Path):
    cache, network = counting(tmp_path)
    first = through(cache, batch_of(1, 2))
    second = through(cache, batch_of(2, 3, 1))
    assert network.asked == [2, 1]
    assert [second[2], second[0]] == first
    assert second[1] == pytest.approx(batch_of(3).images.mean().item())


def test_a_torn_file_is_computed_again(tmp_path: Path):
    cache, network = counting(tmp_path)
    expected = through(cache, batch_of(1))
    (path,) = tmp_path.rglob("*.safetensors")
    whole = path.read_bytes()
    for torn in (whole[:-1], whole[:4], b"", b"\xff" * 64):
        path.write_bytes(torn)
        assert through(cache, batch_of(1)) == expected
        assert path.read_bytes() == whole
    assert network.asked == [1] * 5


def test_a_file_of_another_key_is_not_used(tmp_path: Path):
    cache, _ = counting(tmp_path)
    other, network = counting(tmp_path, weight=2.0)
    through(cache, batch_of(1))
    (path,) = tmp_path.rglob("*.safetensors")
    assert through(other, batch_of(1)) == pytest.approx([2 * batch_of(1).images.mean().item()])
    (theirs,) = set(tmp_path.rglob("*.safetensors")) - {path}
    theirs.write_bytes(path.read_bytes())
    assert through(other, batch_of(1)) == pytest.approx([2 * batch_of(1).images.mean().item()])
    assert network.asked == [1, 1]


def test_the_limit_holds_over_starts(tmp_path: Path):
    cache, network = counting(tmp_path, limit=450)  # a file has some 200 bytes: two fit
    for _ in range(2):
        through(cache, batch_of(1, 2, 3, 4))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 450
    assert network.asked == [4, 2]
    again, network = counting(tmp_path, limit=450)
    through(again, batch_of(5, 1))
    assert network.asked == [1]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_a_cache_that_cannot_hold_all_says_so(tmp_path: Path):
    _, line = open_cache(Counting(), folder=tmp_path, config=replace(CONFIG, cache_gib=16 / 2**30), images=10)
    assert line.endswith(f"into {tmp_path}; 4 of them fit into 0.00 GiB.")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"augment": "lsj"}, "train.augment=lsj, view=whole makes ever new views"),
        ({"view": "windows"}, "train.augment=flip, view=windows makes ever new views"),
        ({"cache_gib": 0.0}, ""),
    ],
)
def test_where_views_do_not_come_back_there_is_no_cache(tmp_path: Path, changes: dict, reason: str):
    network = Counting()
    cache, line = open_cache(network, folder=tmp_path / "cache", config=replace(CONFIG, **changes), images=10)
    assert reason in line
    assert bool(line) == bool(reason)
    batch = batch_of(1)
    assert cache.fill(cache.read(batch)) is batch
    assert not (tmp_path / "cache").exists()


def test_a_model_without_frozen_parts_has_no_cache(tmp_path: Path, tiny_config: ModelConfig, categories):
    assert isinstance(Counting(), Cacheable)
    swin = replace(tiny_config, backbone="tiny-swin", image_encoder="none", text_encoder="none")
    network = build(swin, categories=categories)
    _, line = open_cache(network, folder=tmp_path, config=CONFIG, images=10)
    assert line == "No cache: this model has no frozen part that sees the image alone."


def test_a_trained_backbone_leaves_the_embeddings_alone_to_keep(tiny_config: ModelConfig, categories):
    network = build(tiny_config, categories=categories)
    assert [sorted(found) for found in network.frozen(torch.rand(2, 3, 64, 64))] == [["embedding"]] * 2
    batch = batch_of(1, 2, side=64, dtype=torch.float32)
    totals = []
    for frozen in ((), tuple(network.frozen(batch.images))):
        torch.manual_seed(0)
        totals.append(torch.stack([*network.loss(replace(batch, frozen=frozen)).values()]))
    assert torch.equal(*totals)


def test_a_run_with_a_cache_has_the_losses_of_one_without(
    dataset: Path, tmp_path: Path, small_preset: Preset, tiny_config: ModelConfig
):
    model = replace(tiny_config, backbone_frozen=True)
    notes: list[str] = []
    curves = []
    for name, gib in (("without", 0.0), ("with", 1.0)):
        train = replace(small_preset.train, augment="flip", cache_gib=gib, steps=8)
        steps: list[float] = []
        session = Session(
            device="cpu", on_step=lambda step, steps=steps: steps.append(step.total), on_note=notes.append
        )
        preset = replace(small_preset, model=model, train=train)
        trainer.train(dataset, out=tmp_path / name, preset=preset, session=session)
        curves.append(steps)
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)
    assert len(notes) == 1
    assert notes[0].startswith("Cache: 8 views of ")
    assert 4 <= len(list((tmp_path / "with" / "cache").rglob("*.safetensors"))) <= 8
    assert checkpoint.load(tmp_path / "with", device="cpu")
    assert caches.GIB == 2**30
