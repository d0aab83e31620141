"""The curves of a diffusion network: sums by hand, an oracle, and the command on two small runs."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mammoprep.cli import main
from mammoprep.errors import MammoprepError
from mammoprep_model import analysis, trainer, zoo
from mammoprep_model.config import Preset
from mammoprep_model.diffusion.network import DiffusionSegmenter
from mammoprep_model.segmenter import Batch
from mammoprep_model.trainer import Session

SMALL = {"channels": 4, "multipliers": (1, 2), "residual_blocks": 1, "attention": (2,), "samples": 2}
SMALL |= {"time_steps": 10, "sampling_steps": 2, "sampler": "ddim"}


def test_errors_and_lesions_add_up_by_hand() -> None:
    """One channel of lesions, one of background; of two estimated and two true lesion pixels one is both: Dice 1/2."""
    truth = torch.tensor([[[1.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 1.0]]])[None]
    found = torch.tensor([[[1.0, 0.0, 0.6, 0.0]], [[0.0, 1.0, 0.4, 1.0]]])[None]
    sums = analysis._Sums()
    for _ in range(2):
        sums.add(found, truth, things=torch.tensor([True, False]))
    curve = analysis._curve([sums])
    assert curve.error == pytest.approx(((1 + 0.36 + 1 + 0.36) / 8,))
    assert curve.dice == (0.5,)


def test_without_lesions_there_is_no_dice() -> None:
    background = torch.tensor([[[0.0]], [[1.0]]])[None]
    sums = analysis._Sums()
    sums.add(background, background, things=torch.tensor([True, False]))
    assert analysis._curve([sums]).dice == (None,)


def test_an_oracle_has_no_error_and_the_noised_mask_alone_has_more_with_time(
    make: Callable[..., DiffusionSegmenter], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, random = make("segdiff"), torch.Generator().manual_seed(0)

    def oracle(noised: Tensor, steps: Tensor, condition: Tensor) -> tuple[Tensor, None]:
        return network.encode(batch), None

    monkeypatch.setattr(network, "estimate", oracle)
    found = [analysis._at(network, [batch], step, random=random) for step in (0, 5, 10, 19)]
    for name in ("true", "noise"):
        curve = analysis._curve([each[name] for each in found])
        assert curve.error == (0, 0, 0, 0)
        assert curve.dice == (1, 1, 1, 1)
    given = analysis._curve([each["given"] for each in found])
    assert list(given.error) == sorted(given.error)
    assert (given.dice[0], given.error[-1]) == (1, pytest.approx(0.5, abs=0.05))


@pytest.fixture
def train(dataset: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Train a small network on the data set for one step."""

    def train_one(objective: str) -> Path:
        preset = zoo.preset("ensemdiff")
        sizes = {"size": 32, "crop": 32, "stride": 4, "steps": 1, "batch_size": 2, "cpu_threads": 1}
        small: Preset = replace(
            preset, model=replace(preset.model, objective=objective, **SMALL), train=replace(preset.train, **sizes)
        )
        return trainer.train(dataset, out=tmp_path / objective, preset=small, session=Session(device="cpu"))

    return train_one


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["analyse-diffusion", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_the_command_writes_curves_of_both_objectives(
    train: Callable[[str], Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = [train("diffusion"), train("feed-forward")], tmp_path / "analysis"
    assert run(*runs, "--out", out, "--points", 4, "--device", "cpu") == 0
    printed = capsys.readouterr().out
    assert "no network: noised mask" in printed
    shown = ("t = 0.00 T", "t = 0.33 T", "t = 0.67 T", "t = 1.00 T")
    assert [column.strip() for column in re.split(r"  +", printed.splitlines()[1]) if "T" in column] == [*shown]
    assert "noise, feed-forward" in printed
    names = {path.name for path in out.iterdir()}
    assert names == {"analysis.json", *(f"{name}.{kind}" for name in ("curves", "forward") for kind in ("png", "svg"))}
    diffusion, forward = json.loads((out / "analysis.json").read_text())["runs"]
    assert (diffusion["steps"], forward["steps"]) == ([0, 3, 6, 9], [9])
    assert (diffusion["images"], diffusion["time_steps"], diffusion["dataset"]) == (2, 10, "dataset")
    assert [len(diffusion[name]["error"]) for name in ("true", "noise", "given")] == [4, 4, 4]
    assert (forward["true"], len(forward["noise"]["dice"])) == (None, 1)
    first = analysis.analyse(runs[0], on=None, images=1, points=3, device="cpu")
    assert (first.images, first.forward.shape) == (1, (8, 32, 32))
    assert abs(first.forward[0] - first.forward[0].round()).mean() < 0.1
    (dataset / "folds.json").write_text((dataset / "folds.json").read_text() + " ")
    assert run(runs[0], "--out", out) == 2
    assert "is not the one that" in capsys.readouterr().err


def test_other_families_have_no_time_steps(
    dataset: Path, tmp_path: Path, small_preset: Preset, fake_network: Callable[..., object]
) -> None:
    made = trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=Session(device="cpu"))
    with pytest.raises(MammoprepError, match="is of the family odise, which has no time steps"):
        analysis.analyse(made, on=None, images=1, points=2, device="cpu")
