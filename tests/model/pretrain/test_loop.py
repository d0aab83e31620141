"""The loop of a stage on a network of one weight: its steps worked out by hand, chance, and what stops it."""

import csv
import math
import signal
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mammoprep.errors import MammoprepError
from mammoprep_model.interrupts import Stopped
from mammoprep_model.log import Step
from mammoprep_model.pretrain import loop
from mammoprep_model.pretrain.images import Shown
from mammoprep_model.pretrain.loop import Work
from mammoprep_model.pretrain.recipe import StageConfig
from mammoprep_model.ranks import Ranks

CONFIG = StageConfig(
    steps=5,
    batch_size=4,
    micro_batch=2,
    learning_rate=0.1,
    weight_decay=0.0,
    ema=0.5,
    clip_norm=0.0,
    checkpoint_every=2,
)


class Weight:
    """A stage that draws its one weight to the images' mean, plus noise from the generator."""

    name = "weight"

    def __init__(self, *, noise: float = 0.0) -> None:
        self.module: nn.Module = nn.ParameterDict({"w": nn.Parameter(torch.zeros(1, 1))})
        self.noise = noise
        self.seen: list[tuple[float, ...]] = []

    def loss(self, images: Tensor, prompts: Sequence[str], *, generator: torch.Generator) -> dict[str, Tensor]:
        means = images.mean(dim=(1, 2, 3)) + self.noise * torch.randn(len(images), generator=generator)
        self.seen.append(tuple(means.tolist()))
        return {"square": (self.value - means).square().mean(), "half": 0 * self.value.sum()}

    def finish(self, batches: Iterable[Tensor]) -> None:
        raise AssertionError("the loop leaves this to its caller")

    @property
    def value(self) -> Tensor:
        return self.module.get_parameter("w")


class Numbers:
    """Images that are their position everywhere."""

    def batch(self, position: int) -> Shown:
        values = torch.arange(position, position + 2, dtype=torch.float32)
        return Shown(values.view(2, 1, 1, 1).expand(2, 3, 4, 4), ("", ""), position)


def work(folder: Path, **more: object) -> Work:
    folder.mkdir(exist_ok=True)
    made = Work(folder=folder, seed=0, device="cpu", ranks=Ranks())
    return replace(made, **more)  # type: ignore[arg-type]


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "log.csv").open(newline="") as file:
        return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def test_steps_are_those_of_all_their_images_at_once(tmp_path: Path) -> None:
    """Images of step n are 4n-4 … 4n-1. Adam's first step is the learning rate whatever the gradient."""
    stage, config = Weight(), replace(CONFIG, steps=2, ema=0.0)
    loop.train(stage, Numbers(), config=config, work=work(tmp_path))
    assert stage.seen == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert rows(tmp_path)[0]["square"] == pytest.approx((0 + 1 + 4 + 9) / 4)
    assert rows(tmp_path)[1]["square"] == pytest.approx(sum((0.1 - x) ** 2 for x in (4, 5, 6, 7)) / 4, rel=1e-5)
    first, second = 2 * (0 - 1.5), 2 * (0.1 - 5.5)  # gradients; Adam's moments and their corrections by hand
    mean = (0.9 * 0.1 * first + 0.1 * second) / (1 - 0.9**2)
    square = (0.999 * 0.001 * first**2 + 0.001 * second**2) / (1 - 0.999**2)
    assert stage.value.item() == pytest.approx(0.1 - 0.1 * mean / math.sqrt(square), rel=1e-5)


def test_the_result_is_the_moving_average(tmp_path: Path) -> None:
    averaged, last = Weight(), Weight()
    loop.train(averaged, Numbers(), config=replace(CONFIG, steps=1), work=work(tmp_path / "a"))
    loop.train(last, Numbers(), config=replace(CONFIG, steps=1, ema=0.0), work=work(tmp_path / "b"))
    assert (averaged.value.item(), last.value.item()) == (pytest.approx(0.05), pytest.approx(0.1))


def test_the_rate_rises_and_stays(tmp_path: Path) -> None:
    loop.train(Weight(), Numbers(), config=replace(CONFIG, warmup_steps=4), work=work(tmp_path))
    assert [row["lr"] for row in rows(tmp_path)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


def test_chance_is_a_seed_and_a_place_whatever_is_computed_before(tmp_path: Path) -> None:
    whole, late, other = Weight(noise=1.0), Weight(noise=1.0), Weight(noise=1.0)
    loop.train(whole, Numbers(), config=CONFIG, work=work(tmp_path / "whole"))
    torch.manual_seed(99)
    loop.train(late, Numbers(), config=CONFIG, work=work(tmp_path / "late"))
    loop.train(other, Numbers(), config=CONFIG, work=work(tmp_path / "other", seed=1))
    assert whole.seen == late.seen
    assert torch.equal(whole.value, late.value)
    noise = [mean - place for place, mean in enumerate(mean for means in whole.seen for mean in means)]
    assert len({round(each, 4) for each in noise}) == len(noise)
    assert whole.seen[0] != other.seen[0]


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_a_stop_leaves_no_trace(tmp_path: Path, stop_after: int) -> None:
    """Also one after the last step: the next start has nothing left to do but to give the result."""

    def stop(step: Step) -> None:
        if step.number == stop_after:
            signal.raise_signal(signal.SIGINT)

    whole, first, second = Weight(noise=1.0), Weight(noise=1.0), Weight(noise=1.0)
    loop.train(whole, Numbers(), config=CONFIG, work=work(tmp_path / "whole"))
    stopped = work(tmp_path / "stopped", on_step=stop)
    with pytest.raises(Stopped, match=f"Stopped after step {stop_after} of 5 of the weight stage"):
        loop.train(first, Numbers(), config=CONFIG, work=stopped)
    loop.train(second, Numbers(), config=CONFIG, work=work(tmp_path / "stopped"))
    assert torch.equal(second.value, whole.value)
    assert first.seen + second.seen == whole.seen
    losses = [[(row["step"], row["square"]) for row in rows(tmp_path / name)] for name in ("whole", "stopped")]
    assert losses[0] == losses[1]


def test_an_average_that_begins_late_begins_at_the_weights(tmp_path: Path) -> None:
    loop.train(Weight(), Numbers(), config=replace(CONFIG, steps=2, ema=0.0), work=work(tmp_path))
    plain, averaged = Weight(), Weight()
    loop.train(averaged, Numbers(), config=replace(CONFIG, steps=2), work=work(tmp_path))
    loop.train(plain, Numbers(), config=replace(CONFIG, steps=2, ema=0.0), work=work(tmp_path))
    assert torch.equal(averaged.value, plain.value)


def test_looks_come_when_due_and_see_the_average(tmp_path: Path) -> None:
    stage, seen = Weight(), {}

    def look(step: int) -> None:
        seen[step] = stage.value.item()

    loop.train(stage, Numbers(), config=CONFIG, work=work(tmp_path, look=look, look_every=2))
    assert [*seen] == [2, 4, 5]
    assert seen[5] == pytest.approx(stage.value.item())


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path: Path) -> None:
    class Late(Numbers):
        def batch(self, position: int) -> Shown:
            shown = super().batch(position)
            return shown._replace(images=shown.images * (math.inf if position >= 12 else 1))

    stage = Weight()
    with pytest.raises(MammoprepError, match=r"Step 4 of the weight stage stopped: square, gradient not finite"):
        loop.train(stage, Late(), config=CONFIG, work=work(tmp_path))
    assert math.isfinite(stage.value.item())
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]


def test_parts_that_cannot_be_dealt_are_refused(tmp_path: Path) -> None:
    ranks = Ranks()
    ranks.size = 3
    with pytest.raises(MammoprepError, match=r"the 2 parts of a step cannot be dealt to 3 processes"):
        loop.train(Weight(), Numbers(), config=CONFIG, work=work(tmp_path, ranks=ranks))


def test_a_broken_checkpoint_is_said(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"PK")
    with pytest.raises(MammoprepError, match=r"state\.pt is not readable"):
        loop.train(Weight(), Numbers(), config=CONFIG, work=work(tmp_path))
