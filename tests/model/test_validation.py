"""The best weights so far predict; a run stops where nothing gets better, and resumes without a trace."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mammoprep.cli.train import draw
from mammoprep.errors import MammoprepError
from mammoprep.evaluation.matching import THRESHOLDS
from mammoprep.evaluation.runs import Options, evaluate
from mammoprep_model import checkpoint, trainer, validation
from mammoprep_model.config import Preset
from mammoprep_model.interrupts import Stopped
from mammoprep_model.log import Step
from mammoprep_model.trainer import Session

pytestmark = pytest.mark.usefixtures("fake_network")
CPU = Session(device="cpu")


def validating(preset: Preset, **values: Any) -> Preset:
    return replace(preset, train=replace(preset.train, **{"validate_every": 2, **values}))


def rows(run: Path) -> list[list[str]]:
    return [line.split(",") for line in (run / "validation.csv").read_text().splitlines()]


def steps(run: Path) -> list[str]:
    return [line.split(",")[0] for line in (run / "log.csv").read_text().splitlines()[1:]]


@pytest.fixture
def qualities(monkeypatch: pytest.MonkeyPatch):
    """Let the network score what the test says, time after time."""

    def say(values: Sequence[float]) -> list[float]:
        left = list(values)

        def score(_: object) -> Any:
            curve = [left.pop(0)] * len(THRESHOLDS)
            return SimpleNamespace(scores=SimpleNamespace(sweep=SimpleNamespace(PQ=curve, RQ=curve, SQ=None, AP=None)))

        monkeypatch.setattr(validation, "score", score)
        return left

    return say


def test_scores_are_those_of_the_evaluator(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    """The last row is the score of the predictions in the end, if the last weights are the best."""
    preset = validating(small_preset, steps=40, validate_every=40)
    run = trainer.train(dataset, out=tmp_path / "run", preset=preset, session=CPU)
    header, *found = rows(run)
    assert header == ["step", "PQ", "RQ", "SQ", "AP"]
    sweep = evaluate(run, options=Options(resamples=0)).report.scores.sweep
    level = THRESHOLDS.index(0.1)
    assert found == [
        ["40", *(str(getattr(sweep, name)[level]) for name in ("PQ", "RQ", "SQ")), ""]
    ]  # no instances.json


def test_looking_does_not_change_the_training(dataset: Path, tmp_path: Path, small_preset: Preset) -> None:
    plain = trainer.train(dataset, out=tmp_path / "plain", preset=small_preset, session=CPU)
    run = trainer.train(dataset, out=tmp_path / "run", preset=validating(small_preset), session=CPU)
    states = [checkpoint.load_state(each) for each in (plain, run)]
    assert all(torch.equal(states[0]["network"][name], states[1]["network"][name]) for name in states[0]["network"])
    assert [row[0] for row in rows(run)[1:]] == ["2", "4", "6"]
    assert not list(run.glob("validation-*"))


def test_the_best_weights_predict(dataset: Path, tmp_path: Path, small_preset: Preset, qualities) -> None:
    """Best after step 4: model.safetensors is that of a run of four steps with the same schedule."""
    qualities([0.1, 0.5, 0.3])
    run = trainer.train(dataset, out=tmp_path / "run", preset=validating(small_preset), session=CPU)
    stop = replace(CPU, on_step=lambda step: os.kill(os.getpid(), signal.SIGINT) if step.number == 4 else None)
    with pytest.raises(Stopped):
        trainer.train(dataset, out=tmp_path / "four", preset=small_preset, session=stop)
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "four" / "model.safetensors").read_bytes()
    state = checkpoint.load_state(run)
    assert state is not None
    assert (state["step"], state["validation"]["best"]["step"]) == (6, 4)


def test_of_equal_scores_the_first_weights_stay(dataset: Path, tmp_path: Path, small_preset: Preset, qualities) -> None:
    qualities([0.2, 0.2, 0.2])
    run = trainer.train(dataset, out=tmp_path / "run", preset=validating(small_preset), session=CPU)
    assert checkpoint.load_state(run)["validation"]["best"]["step"] == 2


def test_training_stops_when_patience_ends(dataset: Path, tmp_path: Path, small_preset: Preset, qualities) -> None:
    """Better at 4, then twice not: it ends after step 8 of 40, and is finished."""
    left = qualities([0.1, 0.5, 0.4, 0.5, 0.9])
    preset = validating(small_preset, steps=40, patience=2)
    run = trainer.train(dataset, out=tmp_path / "run", preset=preset, session=CPU)
    assert steps(run) == [str(step) for step in range(1, 9)]
    assert left == [0.9]
    assert (run / "fold-0" / "predictions" / "panoptic.json").is_file()


def test_a_run_that_patience_ended_is_not_taken_up_again(
    dataset: Path, tmp_path: Path, small_preset: Preset, qualities
) -> None:
    """The machine died after the last step, before the predictions."""
    import shutil

    left = qualities([0.5, 0.4, 0.9])
    preset = validating(small_preset, steps=40, patience=1)
    run = trainer.train(dataset, out=tmp_path / "run", preset=preset, session=CPU)
    before = (run / "fold-0" / "predictions" / "instances.json").read_bytes()
    shutil.rmtree(run / "fold-0")
    trainer.train(dataset, out=run, preset=preset, session=replace(CPU, resume=True))
    assert steps(run) == ["1", "2", "3", "4"]
    assert left == [0.9]
    assert (run / "fold-0" / "predictions" / "instances.json").read_bytes() == before


@pytest.mark.parametrize("ema", [0.0, 0.7])
@pytest.mark.parametrize("at", [3, 4])
def test_a_stopped_run_resumes_its_validation_without_a_trace(
    dataset: Path, tmp_path: Path, small_preset: Preset, ema: float, at: int
) -> None:
    def stop(step: Step) -> None:
        if step.number == at:
            os.kill(os.getpid(), signal.SIGINT)

    whole, halved, preset = tmp_path / "whole", tmp_path / "halved", validating(small_preset, ema=ema)
    trainer.train(dataset, out=whole, preset=preset, session=CPU)
    with pytest.raises(Stopped):
        trainer.train(dataset, out=halved, preset=preset, session=replace(CPU, on_step=stop))
    trainer.train(dataset, out=halved, preset=preset, session=replace(CPU, resume=True))
    for name in ("validation.csv", "model.safetensors", "fold-0/predictions/instances.json"):
        assert (whole / name).read_bytes() == (halved / name).read_bytes()


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (
            {"patience": 3, "validate_every": 0},
            "train.patience = 3 cannot be used: it must be 0 or more, and train.val",
        ),
        ({"validate_every": -1}, "train.validate_every = -1 cannot be used"),
    ],
)
def test_values_that_make_no_sense_are_refused(
    dataset: Path, tmp_path: Path, small_preset: Preset, values: dict[str, int], rule: str
) -> None:
    with pytest.raises(MammoprepError, match=rule):
        trainer.train(dataset, out=tmp_path / "run", preset=validating(small_preset, **values), session=CPU)


def test_tensorboard_shows_scores_and_pictures_of_each_time(
    dataset: Path, tmp_path: Path, small_preset: Preset
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = trainer.train(dataset, out=tmp_path / "run", preset=validating(small_preset), session=replace(CPU, draw=draw))
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {"validation/case-1", "validation/case-4"}
    assert [event.step for event in events.Images("validation/case-1")] == [2, 4, 6]
    assert events.Images("validation/case-1")[0].width > 3 * events.Images("validation/case-1")[0].height // 2
    assert [[str(event.step), f"{event.value:.5f}"] for event in events.Scalars("validation/PQ")] == [
        [row[0], f"{float(row[1]):.5f}"] for row in rows(run)[1:]
    ]
    assert {"mask", "class", "total", "lr", "images/s", "peak_memory_mib"} <= set(events.Tags()["scalars"])
    assert not [path for path in run.rglob("*overlays*")]
