"""Folds trained side by side are those of one after another, to the byte; they stop, resume and fail together."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from mammoprep.errors import MammoprepError
from mammoprep.evaluation import runs
from mammoprep_model import trainer
from mammoprep_model.config import ModelConfig, Preset
from mammoprep_model.interrupts import Stopped
from mammoprep_model.log import Step
from mammoprep_model.trainer import Session

CPU = Session(device="cpu")
TWO = replace(CPU, jobs=2)


@pytest.fixture
def preset(small_preset: Preset, tiny_config: ModelConfig) -> Preset:
    """Fresh processes cannot have the fake network."""
    return Preset("tiny", "", tiny_config, replace(small_preset.train, cpu_threads=1, steps=8))


def written(out: Path) -> dict[str, bytes]:
    """Read all files, without what is measured in seconds and bytes of memory."""
    files = {path for path in out.rglob("*") if path.is_file() and "tensorboard" not in path.parts}
    found = {str(path.relative_to(out)): path.read_bytes() for path in files if path.suffix != ".pt"}
    for name in (name for name in found if name.endswith("log.csv")):
        found[name] = b"\n".join(row.rpartition(b",")[0].rpartition(b",")[0] for row in found[name].splitlines())
    return found


def test_folds_side_by_side_stop_and_resume_to_the_bytes_of_one_after_another(
    dataset: Path, tmp_path: Path, preset: Preset
) -> None:
    def stop(step: Step) -> None:
        if (step.fold, step.number) == (0, 2):
            signal.raise_signal(signal.SIGINT)

    turn, side = tmp_path / "turn", tmp_path / "side"
    trainer.train(dataset, out=turn, preset=preset, fold="all", session=CPU)
    with pytest.raises(Stopped, match="every fold that was begun"):
        trainer.train(dataset, out=side, preset=preset, fold="all", session=replace(TWO, on_step=stop))
    assert not (side / "fold-2").exists()  # the first process would have taken it after fold 0

    steps: set[int] = set()
    predicted: list[tuple[int, int, int]] = []
    session = replace(
        TWO,
        resume=True,
        on_step=lambda step: steps.add(step.fold),
        on_predict=lambda *said: predicted.append(said),
    )
    trainer.train(dataset, out=side, preset=preset, fold="all", session=session)
    assert {0, 2} <= steps
    assert {(0, 2, 2), (2, 2, 2)} <= {*predicted}
    assert written(side) == written(turn)
    assert json.loads((side / "run.json").read_text())["folds"] == [0, 1, 2]
    report = runs.evaluate(side, options=runs.Options(resamples=0)).report
    assert [fold.fold for fold in report.folds] == [0, 1, 2]


def test_an_error_in_one_fold_ends_all(dataset: Path, tmp_path: Path, preset: Preset) -> None:
    """Image 1 is damaged: fold 0 keeps it for validation, the others meet it in training."""
    (dataset / "images" / "case-1.png").write_bytes(b"no picture")
    with pytest.raises(MammoprepError, match=r"case-1\.png"):
        trainer.train(dataset, out=tmp_path / "run", preset=preset, fold="all", session=TWO)
    assert not (tmp_path / "run" / "fold-1" / "predictions").exists()


def test_jobs_want_all_folds(dataset: Path, tmp_path: Path, preset: Preset) -> None:
    with pytest.raises(MammoprepError, match="Say --fold all with it"):
        trainer.train(dataset, out=tmp_path / "run", preset=preset, fold=0, session=TWO)
    assert not (tmp_path / "run").exists()
