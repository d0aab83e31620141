"""Two processes under torchrun train the network of one; what ends one of them ends both, and is said once."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from mammoprep.errors import MammoprepError
from mammoprep_model import checkpoint, settings, trainer, zoo
from mammoprep_model.config import Preset
from mammoprep_model.ranks import Ranks
from mammoprep_model.trainer import Session

SETTINGS = (
    *("train.size=64", "train.crop=64", "train.batch_size=2", "train.warmup_steps=0", "train.lr=1e-4"),
    *("model.window=64", "model.projection=16", "model.hidden=32", "model.queries=4", "model.decoder_layers=1"),
    *("model.decoder_feedforward=16", "model.encoder_feedforward=16", "model.points=64"),
)
STEPS = 5


def preset(*more: str) -> Preset:
    return settings.change(zoo.preset("tiny"), [*SETTINGS, f"train.steps={STEPS}", *more])


def torchrun(dataset: Path, run: Path, *options: str) -> subprocess.Popen[str]:
    """Start what README says, on this machine, on the CPU."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "mammoprep", "train"]
    return subprocess.Popen(
        [sys.executable, *launcher, str(dataset), f"--out={run}", "--device=cpu", *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def new(*more: str) -> list[str]:
    chosen = (*SETTINGS, f"train.steps={STEPS}", *more)
    return ["--model=tiny", *(f"--set={setting}" for setting in chosen)]


def losses(run: Path) -> list[dict[str, float]]:
    with (run / "log.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    return [{name: float(row[name]) for name in ("step", "class", "mask", "dice", "lr")} for row in rows]


def assert_same_training(run: Path, whole: Path) -> None:
    """Compare to float error; where a gradient is as good as 0, AdamW's first steps turn its last digit into a step."""
    assert [row["step"] for row in losses(run)] == [row["step"] for row in losses(whole)]
    for ours, theirs in zip(losses(run), losses(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5 if theirs["step"] <= 2 else 2e-2)
    states = [checkpoint.load_state(each) for each in (run, whole)]
    apart = [(states[0]["network"][name] - tensor).abs().flatten() for name, tensor in states[1]["network"].items()]
    assert torch.cat(apart).mean() < 0.02 * STEPS * 1e-4  # of the way that a weight has gone at most
    assert states[0]["position"] == states[1]["position"] == STEPS * 2
    assert (states[0]["random"]["cpu"] == states[1]["random"]["cpu"]).all()


def test_two_processes_train_as_one_and_one_goes_on_from_two(dataset: Path, tmp_path: Path) -> None:
    """SIGTERM to the second process stops both after a step; a single process resumes what they have left."""
    whole = trainer.train(dataset, out=tmp_path / "whole", preset=preset(), session=Session(device="cpu"))
    run = tmp_path / "run"
    both = torchrun(dataset, run, *new("train.steps=4000"))
    while not (run / "log.csv").is_file() or len(losses(run)) < 2:
        assert both.poll() is None, both.communicate()
        time.sleep(0.02)
    second = [
        process
        for process in psutil.Process(both.pid).children(recursive=True)
        if process.environ().get("RANK") == "1" and process.environ().get("WORLD_SIZE") == "2"
    ]
    second[0].send_signal(signal.SIGTERM)
    _, errors = both.communicate(timeout=120)
    assert errors.count("Continue with: mammoprep train") == 1
    assert errors.count("Stopped after step") == 1
    state = checkpoint.load_state(run)
    assert state is not None
    assert 2 <= state["step"] == len(losses(run)) < 4000

    done = state["step"]
    preset_ = preset(f"train.steps={done + 2}", "train.milestones=1,1")
    trainer.train(dataset, out=run, preset=preset_, session=Session(device="cpu", resume=True))
    assert [row["step"] for row in losses(run)] == [*range(1, done + 3)]
    first = zip(losses(run)[:2], losses(whole)[:2], strict=True)
    assert all(ours == pytest.approx(theirs, rel=1e-5) for ours, theirs in first)


def test_two_processes_go_on_from_one(dataset: Path, tmp_path: Path) -> None:
    """Losses and weights are those of a single process from its first step to its last, but for float error.

    So are the losses of the validation images after epochs of two steps, which the first process measures.
    """
    watching = preset("train.schedule=plateau")
    whole = trainer.train(dataset, out=tmp_path / "whole", preset=watching, session=Session(device="cpu"))
    run, stop = tmp_path / "run", Session(device="cpu", on_step=lambda step: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        trainer.train(dataset, out=run, preset=watching, session=stop)
    assert len(losses(run)) == 1
    both = torchrun(dataset, run, "--resume")
    output, errors = both.communicate(timeout=120)
    assert both.returncode == 0, errors
    assert output.count("fold 0: PQ") == 1
    assert errors.count("train fold 0: step 5/5") == 1
    assert_same_training(run, whole)
    validations = [(each / "validation.csv").read_text().splitlines() for each in (run, whole)]
    rows = [[tuple(map(float, line.split(","))) for line in lines[1:]] for lines in validations]
    assert [step for step, _ in rows[0]] == [2, 4]
    assert [loss for _, loss in rows[0]] == pytest.approx([loss for _, loss in rows[1]], rel=2e-2)
    assert len(list((run / "fold-0" / "predictions" / "panoptic").iterdir())) == 2


def test_an_error_in_one_process_ends_both_with_one_line(dataset: Path, tmp_path: Path) -> None:
    for number in (2, 3, 5, 6):  # fold 0 trains on these
        (dataset / "images" / f"case-{number}.png").write_bytes(b"no picture")
    both = torchrun(dataset, tmp_path / "run", *new())
    _, errors = both.communicate(timeout=120)
    assert both.returncode != 0
    lines = [line for line in errors.splitlines() if line.startswith("mammoprep: ")]
    assert len(lines) == 1
    assert ".png" in lines[0]
    assert not (tmp_path / "run" / "state.pt").exists()


def test_a_batch_that_cannot_be_dealt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(MammoprepError, match=r"batch_size = 4 cannot be dealt to 3 .* --set train.batch_size=3"):
        Ranks().share(4)
    with pytest.raises(MammoprepError, match="train.batch_size=3"):
        Ranks().share(2)
    assert Ranks().share(6) == 2


def test_processes_that_nobody_started_together_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster may set WORLD_SIZE for its own purposes."""
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(MammoprepError, match="4 processes of WORLD_SIZE do not meet: .* or unset WORLD_SIZE"):
        Ranks().__enter__()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "4"), ("LOCAL_RANK", "3"), ("RANK", "3")):
        monkeypatch.setenv(name, value)
    with pytest.raises(MammoprepError, match="4 processes cannot share 2 GPUs"):
        Ranks("auto").__enter__()


def test_alone_everything_is_said_to_oneself() -> None:
    with Ranks() as ranks:
        assert ranks.is_first
        assert ranks.gather("word") == ["word"]
        assert ranks.any(True, False) == (True, False)
        assert ranks.share(5) == 5
