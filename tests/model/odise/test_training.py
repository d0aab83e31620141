"""`mammoprep train`, `evaluate` and `predict` work for all six systems on small weights in real formats."""

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mammoprep.cli import main
from mammoprep_model import zoo
from mammoprep_model.compact import TINY

PAPER = [name for name, preset in zoo.PRESETS.items() if preset.published]
SIZES = ("window=64", "projection=16", "hidden=32", "heads=2", "queries=5", "encoder_layers=1", "encoder_feedforward=8")
SIZES += ("decoder_layers=2", "decoder_feedforward=8", "points=64")
STAGE = ("steps=2", "batch_size=2", "micro_batch=2", "ema=0")
TRAIN = ("steps=2", "size=64", "crop=64", "batch_size=1", "warmup_steps=1", "cpu_threads=1")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="session")
def collected(
    tmp_path_factory, diffusers_folder: Path, clip_folder: Path, biomedclip_folder: Path, swin_folder: Path
) -> Path:
    """All parts in one folder, as `mammoprep weights` collects them."""
    root = tmp_path_factory.mktemp("weights")
    folders = {"mam-e": diffusers_folder, "sd-1.3": diffusers_folder, "clip": clip_folder}
    for part, folder in {**folders, "biomedclip": biomedclip_folder, "swin-l": swin_folder}.items():
        shutil.copytree(folder, root / part)
    return root


@pytest.mark.parametrize("name", PAPER)
def test_a_preset_is_trained_scored_and_used(
    name: str, dataset: Path, collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings = [f"--set=model.{each}" for each in SIZES] + [f"--set=train.{each}" for each in TRAIN]
    out = tmp_path / "run"
    assert run("train", dataset, "--model", name, "--out", out, "--weights", collected, *settings, "--json") == 0
    assert json.loads(capsys.readouterr().out)["folds"].keys() == {"0"}
    assert run("evaluate", out, "--iou-sweep") == 0
    capsys.readouterr()
    # The run knows where its weights lay.
    assert run("predict", out, dataset, tmp_path / "predictions", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6


def test_a_small_backbone_is_made_and_m_odise_trained_on_it(
    mammograms: Path, biomedclip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """From a DATASET to scores; then the training goes on, and is scored again."""
    sizes = (f"sizes.{name}={str(value).strip('()')}" for name, value in asdict(TINY).items())
    stages = (f"{stage}.{each}" for stage in ("autoencoder", "diffusion") for each in STAGE)
    settings = [f"--set={each}" for each in ("size=64", "samples=0", "distance_images=0", *sizes, *stages)]
    weights, run_folder = tmp_path / "weights", tmp_path / "run"
    assert run("pretrain", mammograms, "--base=compact", "--out", weights / "compact", *settings) == 0
    shutil.copytree(biomedclip_folder, weights / "biomedclip")
    settings = [f"--set=model.{each}" for each in SIZES] + [f"--set=train.{each}" for each in TRAIN]
    train = ("train", mammograms, "--out", run_folder, "--weights", weights)
    assert run(*train, "--model=m-odise-compact", *settings) == 0
    before = load_file(run_folder / "model.safetensors")
    assert run("predict", run_folder, mammograms, tmp_path / "first") == 0
    assert run(*train, "--resume", "--set=train.steps=4") == 0
    after = load_file(run_folder / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    log = csv.DictReader((run_folder / "log.csv").read_text().splitlines())
    assert [row["step"] for row in log] == ["1", "2", "3", "4"]
    capsys.readouterr()
    assert run("evaluate", run_folder, "--iou-sweep", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 2
    assert run("predict", run_folder, mammograms, tmp_path / "second", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 16


def test_without_its_backbone_one_line_says_how_to_make_it(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mammoprep_model.weights._download", None)  # nothing is downloaded before that is said
    assert run("train", dataset, "--model=m-odise-compact", "--out", tmp_path / "run") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "No hub has compact, and no place is named for it. Make it by `mammoprep pretrain DATASET" in line
    assert not (tmp_path / "run").exists()
