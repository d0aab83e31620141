"""Epochs end where their images do; the rate falls as torch's ReduceLROnPlateau lets it; training stops in time."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint, trainer
from mammoprep_model.config import Preset, TrainConfig
from mammoprep_model.interrupts import Stopped
from mammoprep_model.log import Step
from mammoprep_model.schedule import Schedule
from mammoprep_model.trainer import Session
from mammoprep_model.validation import Validation

PLATEAU = TrainConfig(schedule="plateau", plateau_patience=2, learning_rate=1.0, warmup_steps=0, batch_size=4)
CPU = Session(device="cpu")


def rates(losses: Sequence[float], config: TrainConfig = PLATEAU) -> list[float]:
    """Give the rate of the epoch after each validation loss, an epoch being one step of four images."""
    schedule = Schedule(config, images=4)
    found = []
    for number, loss in enumerate(losses, start=1):
        assert schedule.add(1.0, position=4 * number)
        schedule.close_epoch(loss)
        found.append(schedule.rate(number + 1))
    return found


def test_the_rate_falls_with_the_third_epoch_that_is_not_lower() -> None:
    """Patience 2: epochs 2, 3 and 4 are no lower than the first; then epoch 5 is, and the next fall is at 8."""
    found = rates([1.0, 1.1, 1.0, 1.2, 0.5, 0.6, 0.6, 0.6, 0.6])
    assert found == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_the_rate_is_that_of_torch() -> None:
    losses = (torch.rand(60, generator=torch.Generator().manual_seed(0)) + torch.linspace(1, 0, 60)).tolist()
    losses[3] = losses[2] * (1 - 5e-5)  # lower, but by less than counts
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    witness = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2, factor=0.1, eps=0)
    expected = []
    for loss in losses:
        witness.step(loss)
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(losses) == pytest.approx(expected)
    assert expected[-1] < 1e-3


def test_milestones_do_not_look_at_losses() -> None:
    config = replace(PLATEAU, schedule="milestones", milestones=(0.5, 1.0), steps=4)
    assert rates([1.0] * 5, config) == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


def test_a_plateau_has_a_warm_up_but_no_milestones() -> None:
    schedule = Schedule(replace(PLATEAU, warmup_steps=2, warmup_factor=0.5, milestones=(0.0, 0.0)), images=9)
    assert [schedule.rate(step) for step in (1, 2, 3)] == [0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("images", "ends"),
    [
        (4, [True, True, True, True]),
        (6, [False, True, True, False]),  # after images 8 and 12
        (10, [False, False, True, False]),
        (3, [True, True, True, True]),
    ],
)
def test_an_epoch_ends_with_the_step_that_completes_it(images: int, ends: list[bool]) -> None:
    schedule = Schedule(PLATEAU, images=images)
    assert [schedule.add(1.0, position=4 * step) for step in (1, 2, 3, 4)] == ends


def test_training_is_over_when_its_mean_loss_stays_up() -> None:
    """Epochs of two steps: means 2, 1.5, 1.5, 3. The second of those without a lower mean is the end."""
    schedule = Schedule(TrainConfig(early_stop=2, batch_size=4), images=8)
    over = []
    for step, loss in enumerate([1.0, 3.0, 1.0, 2.0, 2.0, 1.0, 3.0, 3.0], start=1):
        if schedule.add(loss, position=4 * step):
            schedule.close_epoch(None)
            over.append(schedule.is_over)
    assert over == [False, False, False, True]


def test_a_state_goes_on_in_the_middle_of_an_epoch() -> None:
    whole, halved = (Schedule(replace(PLATEAU, early_stop=3), images=8) for _ in range(2))
    for step in range(1, 12):
        if step in (3, 8):
            state = json.loads(json.dumps(halved.state()))
            halved = Schedule(replace(PLATEAU, early_stop=3), images=8)
            halved.restore(state)
        for each in (whole, halved):
            if each.add(1.0 / step if step < 4 else 1.0, position=4 * step):
                each.close_epoch(1.0)
    assert halved.state() == whole.state()
    assert halved.is_over


# In a training

FOUR = Session(device="cpu", on_step=lambda step: os.kill(os.getpid(), signal.SIGINT) if step.number == 4 else None)


def changed(preset: Preset, **values: Any) -> Preset:
    return replace(preset, train=replace(preset.train, **{"warmup_steps": 0, "steps": 12, **values}))


def column(run: Path, name: str, *, of: str = "log.csv") -> list[float]:
    header, *rows = [line.split(",") for line in (run / of).read_text().splitlines()]
    return [float(row[header.index(name)]) for row in rows]


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch):
    """Let the validation images have the losses that the test says."""

    def say(values: Sequence[float]) -> None:
        left = list(values)
        measured = Validation.measure

        def measure(self: Validation, network: Any, **options: Any) -> float:
            with monkeypatch.context() as patch:
                patch.setattr(type(network), "loss", lambda *_: {"mask": torch.tensor(left[0])})
                loss = measured(self, network, **options)
            left.pop(0)
            return loss

        monkeypatch.setattr(Validation, "measure", measure)

    return say


@pytest.mark.usefixtures("fake_network")
def test_the_rate_of_a_run_falls_on_a_plateau(dataset: Path, tmp_path: Path, small_preset: Preset, losses) -> None:
    """Four images in batches of two: six epochs of two steps. With the second that is no lower it falls."""
    losses([1.0, 2.0, 2.0, 0.5, 0.5, 0.5])
    preset = changed(small_preset, schedule="plateau", plateau_patience=1, learning_rate=0.01)
    run = trainer.train(dataset, out=tmp_path / "run", preset=preset, session=CPU)
    assert column(run, "lr") == pytest.approx([0.01] * 6 + [0.001] * 6)
    assert column(run, "step", of="validation.csv") == [2, 4, 6, 8, 10, 12]
    assert column(run, "loss", of="validation.csv") == [1.0, 2.0, 2.0, 0.5, 0.5, 0.5]


@pytest.mark.usefixtures("fake_network")
def test_the_weights_of_the_lowest_validation_loss_predict_where_they_are_to_be_kept(
    dataset: Path, tmp_path: Path, small_preset: Preset, losses
) -> None:
    """Lowest after step 4: model.safetensors is that of a run of four steps, and not that of the last."""
    losses([0.5, 0.1, 0.3] * 2)
    best = trainer.train(
        dataset, out=tmp_path / "best", preset=changed(small_preset, keep="best", steps=6), session=CPU
    )
    last = trainer.train(dataset, out=tmp_path / "last", preset=changed(small_preset, steps=6), session=CPU)
    with pytest.raises(Stopped):
        trainer.train(dataset, out=tmp_path / "four", preset=changed(small_preset, steps=6), session=FOUR)
    kept = [(run / "model.safetensors").read_bytes() for run in (best, last, tmp_path / "four")]
    assert kept[0] == kept[2] != kept[1]
    assert column(best, "total") == column(last, "total")


@pytest.mark.usefixtures("fake_network")
def test_a_run_stops_early_and_is_not_taken_up_again(
    dataset: Path, tmp_path: Path, small_preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its training loss never falls below that of the first epoch; two more are waited out."""
    monkeypatch.setattr(Step, "total", 1.0)
    preset = changed(small_preset, early_stop=2, steps=40)
    notes: list[str] = []
    run = trainer.train(dataset, out=tmp_path / "run", preset=preset, session=replace(CPU, on_note=notes.append))
    assert notes[-1] == "Fold 0: training ends after step 6 of 40, for it got no better."
    assert column(run, "step") == [1, 2, 3, 4, 5, 6]
    assert (run / "fold-0" / "predictions" / "panoptic.json").is_file()
    (run / "fold-0" / "predictions" / "panoptic.json").unlink()
    trainer.train(dataset, out=run, preset=preset, session=replace(CPU, resume=True))
    assert column(run, "step") == [1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("fake_network")
@pytest.mark.parametrize("at", [3, 4])
def test_a_stopped_run_resumes_its_schedule_without_a_trace(
    dataset: Path, tmp_path: Path, small_preset: Preset, at: int
) -> None:
    """In the middle of an epoch and at its end, with a rate that falls at once and an average that is measured."""

    def stop(step: Step) -> None:
        if step.number == at:
            os.kill(os.getpid(), signal.SIGINT)

    values = {"schedule": "plateau", "plateau_patience": 0, "keep": "best", "ema": 0.5, "learning_rate": 0.3}
    whole, halved, preset = tmp_path / "whole", tmp_path / "halved", changed(small_preset, **values)
    trainer.train(dataset, out=whole, preset=preset, session=CPU)
    with pytest.raises(Stopped):
        trainer.train(dataset, out=halved, preset=preset, session=replace(CPU, on_step=stop))
    trainer.train(dataset, out=halved, preset=preset, session=replace(CPU, resume=True))
    assert min(column(whole, "lr")) < 0.3
    assert column(whole, "lr") == column(halved, "lr")
    assert column(whole, "total") == column(halved, "total")
    for name in ("validation.csv", "model.safetensors", "fold-0/predictions/semantic/case-1.png"):
        assert (whole / name).read_bytes() == (halved / name).read_bytes()


@pytest.mark.usefixtures("fake_network")
def test_measuring_does_not_change_the_training(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    """The loss draws random numbers, and the last batch is smaller."""
    preset = changed(small_preset, steps=6, batch_size=3)
    plain = trainer.train(dataset, out=tmp_path / "plain", preset=preset, session=CPU)
    preset = changed(small_preset, steps=6, batch_size=3, keep="best")
    run = trainer.train(dataset, out=tmp_path / "run", preset=preset, session=CPU)
    states = [checkpoint.load_state(each)["network"] for each in (plain, run)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert column(run, "step", of="validation.csv") == [2, 3, 4, 6]


@pytest.mark.usefixtures("fake_network")
def test_a_fold_without_validation_images_has_no_loss_to_watch(
    dataset: Path, tmp_path: Path, small_preset: Preset
) -> None:
    (dataset / "folds.json").write_text(json.dumps({"folds": [{"train": [1, 2, 3, 4, 5, 6], "val": []}]}))
    with pytest.raises(MammoprepError, match="fold 0 has no validation images.*train.schedule=milestones"):
        trainer.train(dataset, out=tmp_path / "run", preset=changed(small_preset, schedule="plateau"), session=CPU)
    assert not (tmp_path / "run").exists()
