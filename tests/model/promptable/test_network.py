"""The promptable network: its size as published, points, masks, and pretrained weights in the published format."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import speed, zoo
from mammoprep_model.optimizer import make_optimizer
from mammoprep_model.promptable.config import SamConfig
from mammoprep_model.promptable.network import Promptable, build, random_points
from mammoprep_model.promptable.sam import MEAN
from mammoprep_model.segmenter import Batch, Prompts, Segmenter, Whole
from mammoprep_model.segmenter import Promptable as Contract

CENTRE = Prompts(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))


@pytest.fixture
def make(categories, small, sam_folder: Path):
    """Build a preset in small from the miniature's weights."""

    def build_small(name: str, *more: str, of=categories) -> Promptable:
        return build(small(name, *more).model, categories=of, weights={"sam-vit-l": str(sam_folder)})

    return build_small


@pytest.fixture
def batch() -> Batch:
    """Two images of 64 x 64: two lesions of class 1 and 0 on breast, and breast alone."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5)) / 4
    masks, breast = torch.zeros(2, 64, 64), torch.ones(64, 64)
    masks[0, 8:24, 16:40] = masks[1, 40:50, 4:20] = 1
    images[0] += masks.sum(dim=0) / 2
    first = torch.cat([masks, breast[None] - masks.sum(dim=0)])
    return Batch(images, (first, breast[None]), (torch.tensor([1, 0, 2]), torch.tensor([2])), (1, 2))


@pytest.mark.parametrize(("frozen", "expected"), [(False, (312_342_832, 256)), (True, (0, 312_343_088))])
def test_it_has_the_size_of_the_thesis_s(categories, frozen: bool, expected: tuple[int, int]):
    """312.34 million; 256 of them say what waves points are told by, and never move."""
    config = replace(zoo.preset("sam-ft").model, backbone="random", backbone_frozen=frozen)
    with torch.device("meta"):
        parameters = [*build(config, categories=categories).parameters()]
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    assert (trained, sum(each.numel() for each in parameters) - trained) == expected
    preset = zoo.preset("sam-zs" if frozen else "sam-ft")
    assert (preset.trained, preset.frozen) == tuple(round(count / 1e6, 3) for count in expected)


def test_the_recipe_is_the_thesis_s():
    train = zoo.preset("sam-ft").train
    assert (train.size, train.fit, train.clahe, train.augment, train.batch_size) == (1024, "stretch", False, "none", 1)
    assert (train.learning_rate, train.plateau_patience, train.early_stop, train.keep) == (1e-4, 25, 40, "last")
    assert zoo.preset("sam-zs").train.steps == 0


def test_images_are_normalised_as_sa_1b_s(make):
    network = make("sam-ft")
    seen: list[Tensor] = []
    network.sam.model.vision_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.predict_at(torch.tensor(MEAN)[None, :, None, None].expand(1, 3, 64, 64), [CENTRE])
    assert seen[0].abs().max() < 1e-6


def test_it_keeps_both_contracts(make):
    assert isinstance(make("sam-ft"), Segmenter)
    assert isinstance(make("sam-ft"), Contract)


def test_loss_falls_on_a_fixed_batch(make, batch: Batch):
    network = make("sam-ft")
    optimizer = make_optimizer(network, replace(zoo.preset("sam-ft").train, learning_rate=1e-2))
    totals = []
    for _ in range(40):
        torch.manual_seed(0)
        total = sum(network.loss(batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.8 * totals[0]


def test_the_shares_of_parts_add_up(make, batch: Batch):
    """Whatever part an image is in, its points are the same: the first has two lesions, the second none."""
    network = make("sam-ft", "model.points=2")
    torch.manual_seed(3)
    whole = network.loss(batch)
    shares = []
    for part in batch.parts(1, whole=Whole(batch.labels, 0)):
        torch.manual_seed(3)
        shares.append(network.loss(part))
    for name, term in whole.items():
        assert sum(share[name].item() for share in shares) == pytest.approx(term.item(), rel=1e-4)


def test_random_points_are_pixels_of_the_lesion():
    """Of three pixels in a row a number of 0.4 takes the second: the middle of column 2, row 1 of 4."""
    lesion = torch.zeros(1, 4, 4)
    lesion[0, 1, 1:4] = 1
    points = random_points(lesion, torch.tensor([[0.0, 0.4, 0.999]]), size=4)
    assert points.tolist() == [[[0.375, 0.375], [0.625, 0.375], [0.875, 0.375]]]
    assert random_points(lesion[:0], torch.tensor([[0.0, 0.999]]), size=4).tolist() == [
        [[0.125, 0.125], [0.875, 0.875]]
    ]


def test_a_prompt_s_mask_has_its_class_and_the_rest_is_background(make, batch: Batch, monkeypatch):
    """Three masks say 0.2, 0.6 and 0.4 of themselves: the second counts, and scores (1 + 0.6) / 2."""
    network = make("sam-ft")
    masks = torch.full((1, 3, 16, 16), -4.0)
    masks[0, 1, 4:8, 4:8] = 4.0
    monkeypatch.setattr(network.sam, "outline", lambda *_: (masks, torch.tensor([[0.2, 0.6, 0.4]])))
    (found,) = network.predict_at(batch.images[:1], [CENTRE])
    assert found.scores.tolist() == [[0, pytest.approx(0.8), 0, 0], [0, 0, 0, 1]]
    lesion = found.masks[0] > 0
    assert lesion[18:30, 18:30].all()
    assert lesion.sum() == pytest.approx(256, abs=20)
    assert torch.equal(lesion, ~(found.masks[1] > 0))
    assert torch.equal(found.maps[1] > 0.5, lesion)
    assert torch.equal(found.maps.argmax(dim=0) == 3, ~lesion)


def test_a_prompt_s_own_score_counts_and_a_doubtful_one_takes_no_place(make, batch: Batch):
    network = make("sam-ft")
    doubtful = replace(CENTRE, scores=torch.tensor([0.3]))
    (found,) = network.predict_at(batch.images[:1], [doubtful])
    assert found.scores[0].tolist() == [0, pytest.approx(0.3), 0, 0]
    assert (found.masks[1] > 0).all()
    assert found.maps[1].max() <= 0.3


def test_an_image_without_a_prompt_has_no_lesion(make, batch: Batch):
    nothing = Prompts(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    found = make("sam-ft").predict_at(batch.images, [nothing, CENTRE])
    assert [len(each.masks) for each in found] == [1, 2]
    assert (found[0].maps[3] == 1).all()


def test_many_prompts_are_the_same_in_several_goes(make, batch: Batch):
    points = torch.rand(70, 2, generator=torch.Generator().manual_seed(1))
    network = make("sam-ft").eval()
    (all_at_once,) = network.predict_at(batch.images[:1], [Prompts(points, torch.zeros(70, dtype=torch.long))])
    (last,) = network.predict_at(batch.images[:1], [Prompts(points[69:], torch.zeros(1, dtype=torch.long))])
    assert torch.allclose(all_at_once.masks[69], last.masks[0], atol=1e-4)


def test_a_grid_tells_no_class(make, batch: Batch):
    with pytest.raises(MammoprepError, match="tells no class, and there are 2 lesion classes"):
        make("sam-ft").predict(batch.images)
    one = panoptic.make_categories(["lesion"], stuff=())
    network = make("sam-ft", "model.grid_iou=0", "model.grid_stability=0", of=one)
    (found, _) = network.predict(batch.images)
    assert found.scores.shape == (len(found.masks), 1)
    assert len(found.masks) > 0


def test_an_image_of_another_size_is_refused(make):
    with pytest.raises(MammoprepError, match="squares of 64 pixels, not 64 x 32"):
        make("sam-ft").predict_at(torch.zeros(1, 3, 64, 32), [CENTRE])


@pytest.mark.parametrize("name", ["sam-zs", "sam-ft"])
def test_it_runs_in_mixed_precision(make, batch: Batch, name: str):
    """Frozen weights lie in bfloat16 then; what it gives is float32, and near what full precision gives."""
    network = make(name).eval()
    (expected,) = network.predict_at(batch.images[:1], [CENTRE])
    speed.to_bfloat16(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = network.predict_at(batch.images[:1], [CENTRE])
        terms = network.loss(batch)
    assert {found.masks.dtype, found.scores.dtype, found.maps.dtype} == {torch.float32}
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    assert found.scores[0, 1].item() == pytest.approx(expected.scores[0, 1].item(), abs=0.05)


# Weights


def test_points_and_pixels_are_told_by_the_same_waves(make, categories, small):
    for network in (make("sam-ft"), build(small("sam-ft", "model.backbone=random").model, categories=categories)):
        model = network.sam.model
        waves = model.shared_image_embedding.positional_embedding
        assert model.prompt_encoder.shared_embedding.positional_embedding is waves
        assert not waves.requires_grad


def test_only_what_was_trained_is_saved(make, batch: Batch):
    assert make("sam-zs").trained_state() == {}
    network, rebuilt = make("sam-ft"), make("sam-ft")
    with torch.no_grad():
        for parameter in (each for each in network.parameters() if each.requires_grad):
            parameter.add_(0.01)
    rebuilt.load_trained(network.trained_state())
    expected, found = (each.eval().predict_at(batch.images[:1], [CENTRE])[0] for each in (network, rebuilt))
    assert torch.equal(found.masks, expected.masks)


def test_weights_are_those_of_the_folder(make, sam_folder: Path):
    state, own = load_file(sam_folder / "model.safetensors"), make("sam-zs").sam.model.state_dict()
    assert len(state) > 100
    assert all(torch.equal(own[name], value) for name, value in state.items())


def changed(folder: Path, out: Path) -> Path:
    return Path(shutil.copytree(folder, out / "sam-vit-l"))


def test_other_sizes_are_named(categories, sam_folder: Path):
    with pytest.raises(MammoprepError, match=r"other sizes than this model. Say --set model.size=64 .*heads=2"):
        build(SamConfig(), categories=categories, weights={"sam-vit-l": str(sam_folder)})


def test_another_model_is_refused(categories, small, sam_folder: Path, tmp_path: Path):
    folder = changed(sam_folder, tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(MammoprepError, match="is no sam-vit-l: it holds a vit"):
        build(small("sam-ft").model, categories=categories, weights={"sam-vit-l": str(folder)})


def test_a_tensor_that_is_missing_is_named(categories, small, sam_folder: Path, tmp_path: Path):
    folder = changed(sam_folder, tmp_path)
    state = load_file(folder / "model.safetensors")
    state.pop("mask_decoder.iou_token.weight")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(MammoprepError, match=r"sam-vit-l.*it has no mask_decoder.iou_token.weight"):
        build(small("sam-ft").model, categories=categories, weights={"sam-vit-l": str(folder)})


def test_a_part_in_the_wrong_place_is_refused(categories, small):
    with pytest.raises(MammoprepError, match=r"clip cannot be used here. Choose random, sam-vit-l\."):
        build(small("sam-ft", "model.backbone=clip").model, categories=categories)
    with pytest.raises(MammoprepError, match="no part of this model 'clip'"):
        build(small("sam-ft").model, categories=categories, weights={"clip": "x"})


@pytest.mark.parametrize(
    "values", [{"size": 100}, {"heads": 3}, {"hidden": 40}, {"points": 0}, {"grid_iou": 1.5}, {"layers": 0}]
)
def test_values_that_make_no_model_are_refused(values: dict[str, int]):
    with pytest.raises(MammoprepError, match="A model cannot have these values"):
        SamConfig(**values)
