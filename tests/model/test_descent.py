"""A step is the same in one go or in several; where memory lacks, all processes try again with half as many images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint, data, plan, trainer
from mammoprep_model.caches import Cache
from mammoprep_model.config import ModelConfig, Preset
from mammoprep_model.descent import Descent
from mammoprep_model.log import PeakMemory
from mammoprep_model.odise import network as odise
from mammoprep_model.optimizer import make_optimizer
from mammoprep_model.ranks import Ranks
from mammoprep_model.schedule import Schedule
from mammoprep_model.segmenter import Batch, Whole
from mammoprep_model.state import Kept
from mammoprep_model.trainer import Session
from mammoprep_model.validation import Validation


class Setting:
    """A fold of the small data set, the tiny network and what has been said."""

    def __init__(self, dataset: Path, preset: Preset, tmp_path: Path) -> None:
        source = panoptic.load(dataset)
        session = Session(device="cpu")
        (self.job,) = plan.plan(source, out=tmp_path / "run", preset=preset, fold=0, seed=0, session=session)
        self.batch = data.TrainingImages(source, image_ids=self.job.train_ids, config=preset.train, seed=0).batch(0)
        self.validation = Validation(source, self.job.val_ids, config=self.job.config, run=self.job.run)
        self.notes: list[str] = []

    def descent(self, micro_batch: int = 0, ranks: Ranks | None = None) -> tuple[Descent, Any]:
        """Start at the seed's weights."""
        network = checkpoint.untrained(self.job.config)
        train = self.job.config.preset.train
        schedule = Schedule(train, images=4)
        kept = Kept(network, make_optimizer(network, train), None, schedule, self.validation, "cpu")
        train = replace(self.job.config.preset.train, micro_batch=micro_batch)
        config = replace(self.job.config, preset=replace(self.job.config.preset, train=train))
        job = replace(self.job, config=config)
        memory = PeakMemory("cpu")
        return Descent(
            kept, job=job, memory=memory, ranks=ranks or Ranks(), cache=Cache(), note=self.notes.append
        ), network


@pytest.fixture
def setting(dataset: Path, tmp_path: Path, small_preset: Preset, tiny_config: ModelConfig) -> Setting:
    preset = Preset("tiny", "", tiny_config, replace(small_preset.train, batch_size=4, clip_norm=1e9))
    return Setting(dataset, preset, tmp_path)


def gradients(network: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def short_of(network: Any, *, beyond: int) -> None:
    """Let the GPU's memory suffice for so many images, no more."""
    loss: Callable[[Batch], Any] = network.loss

    def limited(batch: Batch) -> Any:
        if len(batch.images) > beyond:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss(batch)

    network.loss = limited


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_gradients_are_the_same_in_several_goes(setting: Setting, micro_batch: int) -> None:
    whole, network = setting.descent()
    terms = whole.step(setting.batch, number=1)
    expected, random = gradients(network), torch.get_rng_state()
    parts, network = setting.descent(micro_batch)
    assert parts.step(setting.batch, number=1) == pytest.approx(terms, rel=1e-5)
    assert torch.equal(torch.get_rng_state(), random)
    found = gradients(network)
    assert found.keys() == expected.keys()
    scale = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5 * float(scale)), name


def test_where_memory_lacks_half_as_many_images_are_tried(setting: Setting) -> None:
    whole, _ = setting.descent()
    terms = whole.step(setting.batch, number=1)
    random = torch.get_rng_state()
    short, network = setting.descent()
    short_of(network, beyond=1)
    assert short.step(setting.batch, number=1) == pytest.approx(terms, rel=1e-5)
    assert torch.equal(torch.get_rng_state(), random)
    assert len(setting.notes) == 2
    assert "with 4 images at a time (peak " in setting.notes[0]
    assert setting.notes[1].endswith("--set train.micro_batch=1 starts so.")


def test_the_error_says_which_setting_to_lower(setting: Setting) -> None:
    short, network = setting.descent(micro_batch=2)
    short_of(network, beyond=0)
    line = (
        r"Out of memory with 1 image at a time: peak [\d,]+ of [\d,]+ MiB. Lower train.crop \(now 64\) .*checkpointing"
    )
    with pytest.raises(MammoprepError, match=line):
        short.step(setting.batch, number=1)
    assert len(setting.notes) == 1


def test_a_run_that_lacks_memory_goes_on_and_says_so(
    dataset: Path, tmp_path: Path, small_preset: Preset, fake_network: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = odise.build

    def build_short(*arguments: Any, **named: Any) -> Any:
        network: Any = build(*arguments, **named)
        short_of(network, beyond=1)
        return network

    monkeypatch.setattr("mammoprep_model.odise.network.build", build_short)
    notes: list[str] = []
    session = Session(device="cpu", on_note=notes.append)
    run = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=session)
    assert len((run / "log.csv").read_text().splitlines()) == 1 + 6
    assert len(notes) == 1
    assert "with 2 images at a time" in notes[0]


def test_memory_that_lacks_elsewhere_in_training_is_one_line_too(
    dataset: Path, tmp_path: Path, small_preset: Preset, fake_network: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(trainer.inference.Runner, "_run", lacking)
    with pytest.raises(MammoprepError, match="Out of memory with 1 image at a time: peak.*Lower train.crop"):
        trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=Session(device="cpu"))
    assert (tmp_path / "run" / "state.pt").is_file()


class Pair(Ranks):
    """Two processes, of which the other one is played: it says what it is told to, and has the same gradients."""

    def __init__(self, others: Sequence[object]) -> None:
        super().__init__()
        self.size = 2
        self.others = [*others]
        self.added = 0

    def gather(self, word: Any) -> list[Any]:
        return [word, self.others.pop(0)]

    def add(self, tensors: Any) -> None:
        self.added = sum(tensor.mul_(2).numel() for tensor in tensors)


def test_memory_that_lacks_in_one_process_makes_both_try_again(setting: Setting) -> None:
    """The other one has no room for its two images, then it has; its terms are 1 each."""
    labels, ids = setting.batch.labels, setting.batch.image_ids
    own = replace(next(setting.batch.parts(2, whole=Whole(labels, 0))), whole=None)
    ranks = Pair([(labels[2:], ids[2:]), (None, set()), ({"class": 1.0, "mask": 1.0, "dice": 1.0}, {0})])
    both, network = setting.descent(ranks=ranks)
    terms = both.step(own, number=1)
    assert ranks.others == []
    assert len(setting.notes) == 1
    assert "with 2 images at a time" in setting.notes[0]
    assert all(value > 1 for value in terms.values())
    assert ranks.added == sum(gradient.numel() for gradient in gradients(network).values())


def test_a_gradient_that_only_another_process_has_is_taken_over(setting: Setting) -> None:
    labels, ids = setting.batch.labels, setting.batch.image_ids
    own = replace(next(setting.batch.parts(2, whole=Whole(labels, 0))), whole=None)
    ranks = Pair([(labels[2:], ids[2:]), ({"class": 0.0, "mask": 0.0, "dice": 0.0}, {0, 1})])
    both, network = setting.descent(ranks=ranks)
    first, second, *_ = (parameter for parameter in network.parameters() if parameter.requires_grad)
    loss = network.loss

    def without_the_first(batch: Batch) -> Any:
        first.requires_grad_(False)
        terms = loss(batch)
        first.requires_grad_(True)
        return terms

    network.loss = without_the_first
    both.step(own, number=1)
    assert first.grad is not None
    assert not first.grad.any()
    assert second.grad.any()


def test_a_gradient_that_is_not_finite_changes_no_weight(setting: Setting) -> None:
    broken, network = setting.descent()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    loss = network.loss
    network.loss = lambda batch: {name: term * float("inf") for name, term in loss(batch).items()}
    with pytest.raises(MammoprepError, match=r"Step 7 stopped: class, mask, dice not finite on images \d, \d, \d, \d;"):
        broken.step(setting.batch, number=7)
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())
