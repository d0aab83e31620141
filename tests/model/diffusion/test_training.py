"""`mammoprep train`, `predict` and `evaluate` work for the diffusion family as for any other; a stopped run goes on."""

import json
from pathlib import Path

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.cli import main

SIZES = ("channels=4", "multipliers=1,2", "residual_blocks=1", "attention=2", "dense_blocks=1", "dense_channels=4")
SIZES += ("highway_channels=4", "time_steps=10", "sampling_steps=3", "samples=3", "heads=1")
TRAIN = ("steps=4", "size=32", "crop=32", "stride=4", "batch_size=2", "ema=0.9", "cpu_threads=1", "checkpoint_every=2")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("name", "objective"), [("segdiff", "diffusion"), ("ensemdiff", "feed-forward"), ("medsegdiff", "diffusion")]
)
def test_a_preset_is_trained_resumed_scored_and_used(
    name: str, objective: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"--set=model.{each}" for each in (*SIZES, f"objective={objective}")]
    settings += [f"--set=train.{each}" for each in TRAIN]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert run("train", dataset, "--model", name, "--out", whole, *settings, "--json") == 0
    assert json.loads(capsys.readouterr().out)["folds"].keys() == {"0"}
    assert run("train", dataset, "--model", name, "--out", halves, *settings, "--set=train.steps=2") == 0
    assert run("train", dataset, "--out", halves, "--resume", "--set=train.steps=4") == 0
    for file in ("model.safetensors", "fold-0/predictions/SHA256SUMS"):
        assert (whole / file).read_bytes() == (halves / file).read_bytes()
    assert run("evaluate", whole, "--json") == 0
    capsys.readouterr()
    out = tmp_path / "predictions"
    assert run("predict", whole, dataset, out, "--flip", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6
    doubt = panoptic.read_png(out / "uncertainty" / "case-1.png")
    assert doubt.shape == (48, 32)
    assert doubt.dtype == np.uint8
    assert "uncertainty/case-1.png" in (out / "SHA256SUMS").read_text()
