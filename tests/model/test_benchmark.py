"""How many steps each preset gets, and that nothing complete is repeated; speeds are given by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mammoprep.errors import MammoprepError
from mammoprep_model import benchmark, checkpoint, trainer
from mammoprep_model.benchmark import Length, Task
from mammoprep_model.config import Preset
from mammoprep_model.log import Step
from mammoprep_model.plan import Session
from mammoprep_model.zoo import PRESETS

pytestmark = pytest.mark.usefixtures("fake_network")
CPU = Session(device="cpu")


@pytest.fixture
def presets(small_preset: Preset) -> dict[str, Preset]:
    """The second one is twice as slow, and asks for the loss of the validation images."""
    loss = replace(small_preset.train, schedule="plateau")
    return {"tiny": small_preset, "other": replace(small_preset, name="other", train=loss)}


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def speed(task: Task, preset: Preset, **_: object) -> float:
        asked.append(preset.name)
        return {"tiny": 0.5, "other": 1.0}[preset.name]

    monkeypatch.setattr(benchmark, "_speed", speed)
    return asked


def test_each_preset_has_the_steps_of_its_share(
    dataset: Path, tmp_path: Path, presets: dict[str, Preset], speeds: list[str]
) -> None:
    """20 s for two presets on two folds: 5 s a fold; four training images, two validation ones, two images a step."""
    task = Task(dataset, tmp_path / "out", 2, 20)
    lengths = benchmark.begin(task, presets, session=CPU)
    assert lengths == {"tiny": Length(0.5, 2, 10), "other": Length(1.25, 2, 4)}
    assert speeds == ["tiny", "other"]
    again = benchmark.begin(task, presets, session=replace(CPU, resume=True))
    assert (again, len(speeds)) == (lengths, 2)
    with pytest.raises(MammoprepError, match=r"seconds = 20, now 30"):
        benchmark.begin(replace(task, seconds=30), presets, session=replace(CPU, resume=True))
    with pytest.raises(MammoprepError, match="is not empty. Say --resume"):
        benchmark.begin(task, presets, session=CPU)


def test_less_than_an_epoch_is_refused_with_what_it_takes(
    dataset: Path, tmp_path: Path, presets: dict[str, Preset], speeds: list[str]
) -> None:
    """An epoch of the slower one takes 2.5 s; two presets, two folds: 10 s, which is 0.2 minutes."""
    with pytest.raises(MammoprepError, match=r"gives each preset 2\.0 s a fold, and one epoch would take other 2\.5 s"):
        benchmark.begin(Task(dataset, tmp_path / "out", 2, 8), presets, session=CPU)
    with pytest.raises(MammoprepError, match=r"Say --budget 0\.2 or more"):
        benchmark.begin(Task(dataset, tmp_path / "out", 2, 8), presets, session=CPU)
    assert not (tmp_path / "out").exists()
    assert benchmark.begin(Task(dataset, tmp_path / "out", 2, 12), presets, session=CPU)


def test_what_is_complete_is_not_repeated(
    dataset: Path, tmp_path: Path, small_preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, presets, lengths = Task(dataset, tmp_path / "out", 2, 20), {"tiny": small_preset}, {"tiny": Length(0.5, 2, 5)}

    def stop(step: Any) -> None:
        if (step.fold, step.number) == (1, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmark.train(task, presets, lengths, sessions={"tiny": replace(CPU, on_step=stop)})
    weights = task.run("tiny", 0) / "model.safetensors"
    before = weights.stat().st_mtime_ns
    seen: list[tuple[int, int]] = []
    session = replace(CPU, on_step=lambda step: seen.append((step.fold, step.number)))
    benchmark.train(task, presets, lengths, sessions={"tiny": session})
    assert seen == [(1, 3), (1, 4), (1, 5)]  # a checkpoint a step, for four fit into five steps no wider
    assert weights.stat().st_mtime_ns == before
    assert [path.is_dir() for path in task.predictions("tiny").values()] == [True, True]
    train = checkpoint.read_run(task.run("tiny", 1)).preset.train
    assert (train.steps, train.warmup_steps, train.checkpoint_every) == (5, 0, 1)


def test_speed_is_that_of_the_steps_after_the_first(
    dataset: Path, tmp_path: Path, small_preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 9, 9, 9 and then 1, 2, 3, 4, 5 seconds, two images each: the median is 3 s. Nothing stays behind."""
    taken = [9, 9, 9, 1, 2, 3, 4, 5]
    train: Callable[..., object] = trainer.train

    def slowed(*arguments: Any, session: Session, **more: Any) -> object:
        on_step, seconds = session.on_step, iter(taken)
        assert on_step

        def see(step: Any) -> None:
            on_step(replace(step, images_per_second=2 / next(seconds)))

        return train(*arguments, session=replace(session, on_step=see), **more)

    monkeypatch.setattr(trainer, "train", slowed)
    lengths = benchmark.begin(Task(dataset, tmp_path / "out", 1, 60), {"tiny": small_preset}, session=CPU)
    assert lengths == {"tiny": Length(3.0, 2, 20)}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["benchmark.json"]
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text())["task"]["folds"] == 1


def test_more_folds_than_there_are(dataset: Path) -> None:
    with pytest.raises(MammoprepError, match="has 3 folds, not 4. Say --folds 3 or fewer."):
        benchmark.check_folds(dataset, 4)


def test_a_preset_is_given_the_places_of_its_own_parts_alone(
    dataset: Path, tmp_path: Path, small_preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One --weights names the parts of all presets; a network refuses what is none of its own."""
    needs = replace(small_preset, name="needs", model=PRESETS["m-odise"].model)
    told: list[tuple[str, set[str], bool]] = []

    def train(*_: object, preset: Preset, session: Session, **__: object) -> None:
        told.append((preset.name, set(session.weights), session.on_step is not None))
        for _number in range(benchmark.PROBED if session.on_step else 0):
            session.on_step(Step(0, 1, 1, {}, 0.1, 1e3, 0))

    monkeypatch.setattr(trainer, "train", train)
    presets = {"tiny": replace(small_preset, model=PRESETS["u-net"].model), "needs": needs}
    session = replace(CPU, weights={"mam-e": "here", "biomedclip": "there"})
    task = Task(dataset, tmp_path / "out", 1, 20)
    lengths = benchmark.begin(task, presets, session=session)
    benchmark.train(task, presets, lengths, sessions=dict.fromkeys(presets, session))
    parts = {"tiny": set(), "needs": {"mam-e", "biomedclip"}}
    assert told == [(name, parts[name], probed) for probed in (True, False) for name in presets]
