"""The diffusion family: what its losses are, what it samples, that it learns, and the published sizes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import zoo
from mammoprep_model.diffusion.config import DiffusionConfig
from mammoprep_model.diffusion.network import DiffusionSegmenter, build
from mammoprep_model.diffusion.unet import make_unet
from mammoprep_model.optimizer import make_optimizer
from mammoprep_model.segmenter import Batch, Segmenter, Whole

Make = Callable[..., DiffusionSegmenter]
NAMES = ("segdiff", "ensemdiff", "medsegdiff")
BOTH = ("diffusion", "feed-forward")


def terms(network: DiffusionSegmenter, batch: Batch, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return network.loss(batch)


def parameters(network: torch.nn.Module) -> float:
    return round(sum(p.numel() for p in network.parameters()) / 1e6, 3)


@pytest.mark.parametrize("name", NAMES)
def test_millions_of_parameters_are_those_that_the_preset_says(name: str) -> None:
    """For three lesion classes, breast and background, as for all presets."""
    categories = panoptic.make_categories(["3", "4", "5"])
    with torch.device("meta"):
        network = build(zoo.preset(name).model, categories=categories)
    assert parameters(network) == zoo.preset(name).trained


def test_ensemdiffs_unet_has_the_published_size() -> None:
    """Four channels of a brain and a mask in, noise and variance out: 113.67 million."""
    with torch.device("meta"):
        assert parameters(make_unet(zoo.preset("ensemdiff").model, given=5, out=2)) == 113.674


def test_presets_have_the_published_values() -> None:
    segdiff, ensemdiff, medsegdiff = (zoo.preset(name).model for name in NAMES)
    assert (segdiff.time_steps, ensemdiff.time_steps, medsegdiff.time_steps) == (100, 1000, 1000)
    assert (segdiff.samples, ensemdiff.samples, medsegdiff.samples) == (9, 5, 5)
    assert (segdiff.mask_range, ensemdiff.mask_range, medsegdiff.mask_range) == ("signed", "unit", "unit")
    assert (segdiff.loss, segdiff.learned_variance, segdiff.heads, segdiff.dense_blocks) == ("sum", False, 4, 12)
    assert (medsegdiff.fuse, medsegdiff.highway_weight, medsegdiff.sampler) == ("staple", 10, "dpm-solver")


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract(make: Make, batch: Batch, name: str) -> None:
    network = make(name)
    assert isinstance(network, Segmenter)
    found = network.predict(batch.images)
    assert [each.maps.shape for each in found] == [(4, 16, 24)] * 2
    assert torch.allclose(found[0].maps.sum(dim=0), torch.ones(16, 24))
    assert found[0].uncertainty is not None
    assert float(found[0].uncertainty.max()) > 0


@pytest.mark.parametrize("objective", BOTH)
@pytest.mark.parametrize("name", NAMES)
def test_loss_falls_and_every_parameter_has_a_gradient(make: Make, batch: Batch, name: str, objective: str) -> None:
    network = make(name, objective=objective)
    sum(terms(network, batch).values()).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    optimizer = make_optimizer(network, replace(zoo.preset(name).train, learning_rate=3e-3))
    first = float(sum(terms(network, batch).values()).detach())
    for _ in range(15):
        optimizer.zero_grad()
        sum(terms(network, batch).values()).backward()
        optimizer.step()
    assert float(sum(terms(network, batch).values()).detach()) < 0.8 * first


def learn(network: DiffusionSegmenter, batch: Batch, *, steps: int) -> None:
    optimizer = make_optimizer(network, replace(zoo.preset("ensemdiff").train, learning_rate=1e-2))
    for seed in range(steps):
        optimizer.zero_grad()
        sum(terms(network, batch, seed).values()).backward()
        optimizer.step()


def right(found: Tensor, truth: Tensor) -> float:
    return float((found.argmax(1) == truth.argmax(1)).float().mean())


def test_feed_forward_learns_two_images_by_heart(make: Make, batch: Batch) -> None:
    network = make("ensemdiff", objective="feed-forward")
    learn(network, batch, steps=50)
    found = torch.stack([prediction.maps for prediction in network.predict(batch.images)])
    assert right(found, network.encode(batch)) > 0.9


def test_diffusion_learns_to_clean_the_masks_of_two_images(make: Make, batch: Batch) -> None:
    """At t = 5 of 20 as much of x_t is noise as mask; where x_t alone is largest fewer pixels are right."""
    network, steps = make("ensemdiff"), torch.tensor([5, 5])
    learn(network, batch, steps=50)
    clean = network.encode(batch)
    noised = network.process.noised(clean, steps, torch.randn_like(clean))
    with torch.no_grad():
        found, _ = network.estimate(noised, steps, network.denoiser.condition(batch.images[:, :1]))
    assert right(found, clean) > right(noised, clean) + 0.05


def test_terms_are_those_of_the_table(make: Make, batch: Batch) -> None:
    assert terms(make("segdiff"), batch).keys() == {"error"}
    assert terms(make("ensemdiff"), batch).keys() == {"error", "bound"}
    assert terms(make("medsegdiff"), batch).keys() == {"error", "bound", "highway"}
    assert terms(make("ensemdiff", objective="feed-forward"), batch).keys() == {"error"}


def test_a_sum_is_the_mean_times_channels_and_pixels(make: Make, batch: Batch) -> None:
    summed, mean = (float(terms(make("segdiff", loss=loss), batch)["error"].detach()) for loss in ("sum", "mean"))
    assert summed == pytest.approx(mean * 4 * 16 * 24, rel=1e-5)


def test_an_answer_of_zeros_costs_what_it_should(make: Make, batch: Batch) -> None:
    """Feed-forward: a coded mask has a 1 in each pixel, so the mean of four channels is a quarter; the noise's is 1."""
    for objective, expected in (("feed-forward", 0.25), ("diffusion", 1.0)):
        network = make("ensemdiff", objective=objective)
        torch.nn.init.zeros_(network.denoiser.unet.conv_out.weight)
        torch.nn.init.zeros_(network.denoiser.unet.conv_out.bias)
        assert float(terms(network, batch)["error"].detach()) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("objective", BOTH)
def test_shares_of_a_step_add_up(make: Make, batch: Batch, objective: str) -> None:
    network, total = make("medsegdiff", objective=objective), dict[str, float]()
    for part in batch.parts(1, whole=Whole(batch.labels, first=0)):
        for name, value in terms(network, part).items():
            total[name] = total.get(name, 0) + float(value.detach())
    assert total == pytest.approx({name: float(value.detach()) for name, value in terms(network, batch).items()})


def test_class_weights_weigh_channels(make: Make, batch: Batch) -> None:
    network = make("ensemdiff")
    plain, doubled = (
        float(terms(network, replace(batch, class_weights=factor * torch.ones(4)))["error"].detach())
        for factor in (1, 2)
    )
    assert doubled == pytest.approx(2 * plain)


def test_masks_are_coded_in_their_range(make: Make, batch: Batch) -> None:
    """Nothing is 1 where no segment is; of class 1 on the first image 36 pixels are."""
    bare = replace(batch, masks=(batch.masks[0], batch.masks[1][:0]), labels=(batch.labels[0], batch.labels[1][:0]))
    for name, low in (("segdiff", -1.0), ("ensemdiff", 0.0)):
        coded = make(name).encode(bare)
        assert coded.unique().tolist() == [low, 1]
        assert int((coded[0, 1] == 1).sum()) == 36
        assert bool((coded[1] == low).all())


def test_claims_become_shares_and_what_nobody_claims_is_the_last_categorys(make: Make) -> None:
    clean = torch.tensor([[0.5, -1.0], [0.5, -1.0], [-1.0, -1.0], [-1.0, -1.0]]).view(1, 4, 1, 2)
    found = make("segdiff").decode(clean)[0, :, 0].T.tolist()
    assert found == [[0.5, 0.5, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver"])
def test_an_image_has_the_same_bytes_in_every_batch(make: Make, batch: Batch, sampler: str) -> None:
    network = make("ensemdiff", sampler=sampler)
    (alone,), (_, beside) = network.predict(batch.images[1:]), network.predict(batch.images)
    torch.rand(5)
    (again,) = network.predict(batch.images[1:])
    for other in (beside, again):
        assert torch.equal(alone.maps, other.maps)
        assert torch.equal(alone.masks, other.masks)


def test_another_seed_draws_other_masks_and_samples_differ(make: Make, batch: Batch) -> None:
    one, other = (make("ensemdiff", sampling_seed=seed).samples(batch.images[:1, :1]) for seed in (0, 1))
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


def test_one_sample_gives_no_uncertainty(make: Make, batch: Batch) -> None:
    assert make("segdiff", samples=1).predict(batch.images)[0].uncertainty is None


def test_what_is_saved_predicts_the_same_and_another_model_is_refused(make: Make, batch: Batch) -> None:
    network, rebuilt = make("medsegdiff"), make("medsegdiff")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    rebuilt.load_trained(network.trained_state())
    assert torch.equal(rebuilt.predict(batch.images)[0].maps, network.predict(batch.images)[0].maps)
    with pytest.raises(MammoprepError, match=r"another model's: only the saved weights has denoiser\.highway"):
        make("ensemdiff").load_trained(network.trained_state())


def test_recomputing_activations_changes_no_gradient(make: Make, batch: Batch) -> None:
    gradients = []
    for checkpointing in (False, True):
        network = make("ensemdiff", checkpointing=checkpointing).train()
        sum(terms(network, batch).values()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"channels": 6}, "a multiple of 4"),
        ({"samples": 0}, "at least 1"),
        ({"multipliers": (1,)}, "2 levels or more"),
        ({"time_steps": 1}, "at least 2"),
        ({"attention": (3,)}, "strides of the levels, 1 … 2"),
        ({"heads": 3}, "a multiple of heads"),
        ({"sampling_steps": 21}, "0 … time_steps"),
        ({"samples": 17, "fuse": "staple"}, "at most 16"),
    ],
)
def test_values_that_make_no_network_are_refused(make: Make, values: dict[str, int], rule: str) -> None:
    with pytest.raises(MammoprepError, match=rule):
        make("ensemdiff", **values)


def test_sides_that_cannot_be_halved_are_refused(make: Make, batch: Batch) -> None:
    network = make("ensemdiff", multipliers=(1, 1, 1, 1, 1))
    with pytest.raises(MammoprepError, match=r"multiples of 16\. Say --set train\.stride=16"):
        network.loss(batch)
    with pytest.raises(MammoprepError, match="multiples of 16"):
        network.predict(batch.images)


def test_there_is_no_part_to_bring(categories: tuple[panoptic.Category, ...]) -> None:
    with pytest.raises(MammoprepError, match="no part 'mam-e'"):
        build(DiffusionConfig(channels=8), categories=categories, weights={"mam-e": "somewhere"})
