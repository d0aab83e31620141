"""Folds trained side by side are those of one after another, to the byte; they stop, resume and fail together."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.evaluation import runs
from mammoprep_model import plan, side_by_side, trainer
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


@pytest.mark.parametrize(("visible", "expected"), [(None, ["0", "1", "0"]), ("3,GPU-ab", ["3", "GPU-ab", "3"])])
def test_each_process_sees_one_gpu_from_its_start(
    dataset: Path,
    tmp_path: Path,
    preset: Preset,
    monkeypatch: pytest.MonkeyPatch,
    visible: str | None,
    expected: list[str],
) -> None:
    """Three folds at once on two GPUs; what a process would do is left out."""
    seen: list[str | None] = []

    class Process:
        exitcode = 0

        def __init__(self, **_: object) -> None: ...

        def start(self) -> None:
            seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))

        def join(self) -> None: ...

        kill = join

    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Process", Process)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    source = panoptic.load(dataset)
    jobs = plan.plan(source, out=tmp_path / "run", preset=preset, fold="all", seed=0, session=CPU)
    on_gpu = [replace(job, config=replace(job.config, device="cuda")) for job in jobs]
    with pytest.raises(MammoprepError, match=r"The process with fold 0 died \(exit code 0\)"):
        side_by_side.train(on_gpu, train_one=trainer._train_alone, session=replace(CPU, jobs=3))
    assert seen == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
