"""The promptable presets are trained, resumed, scored and used through the same commands; scores bear their mark."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from mammoprep import panoptic
from mammoprep.cli import main
from mammoprep_model import trainer
from mammoprep_model.interrupts import Stopped
from mammoprep_model.trainer import Session

EPOCHS = ("train.epochs=3", "train.plateau_patience=0", "train.checkpoint_every=100")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def one_class(dataset: Path) -> Path:
    """Make all lesions of one class."""
    source = panoptic.load(dataset)
    numbers = {1: 1, 2: 1, 3: 2, 4: 3}
    images = []
    for image in source.images:
        segments = [{**each.to_json(), "category_id": numbers[each.category_id]} for each in image.segments]
        images.append(panoptic.Image.from_json(image.to_json(), segments))
    panoptic.write_panoptic(dataset, categories=panoptic.make_categories(["lesion"]), images=images)
    return dataset


def test_sam_ft_is_trained_resumed_scored_and_used(
    dataset: Path, sam_folder: Path, small, assignments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Four images one by one: three epochs of four steps. It stops in the second, and goes on."""
    weights = {"sam-vit-l": str(sam_folder)}
    whole, out, predictions = tmp_path / "whole", tmp_path / "run", tmp_path / "predictions"
    options = [*(f"--set={each}" for each in (*assignments, *EPOCHS)), f"--weights=sam-vit-l={sam_folder}"]
    assert run("train", dataset, "--model", "sam-ft", "--out", whole, *options, "--device=cpu") == 0
    said = capsys.readouterr().out
    assert said.startswith("†fold 0: ")
    assert "† Predicted with prompts from the ground truth" in said

    stop = Session(
        weights, "cpu", on_step=lambda step: os.kill(os.getpid(), signal.SIGINT) if step.number == 6 else None
    )
    with pytest.raises(Stopped):
        trainer.train(dataset, out=out, preset=small("sam-ft", *EPOCHS), session=stop)
    assert run("train", dataset, "--out", out, "--resume", "--device=cpu", "--json") == 0
    assert json.loads(capsys.readouterr().out)["knows_truth"] is True
    for file in ("model.safetensors", "validation.csv", "fold-0/predictions/instances.json"):
        assert (out / file).read_bytes() == (whole / file).read_bytes()

    assert run("evaluate", out) == 0
    said = capsys.readouterr().out
    assert said.startswith("† 2 images")
    assert "\n† IoU t " in said
    assert "† at t = " in said
    assert "† \n" not in said
    assert run("predict", out, dataset, predictions, "--device=cpu") == 0
    assert json.loads((predictions / "manifest.json").read_text())["prompts"] == "ground-truth"
    assert run("predict", out, dataset, tmp_path / "tiles", "--tiles=2", "--device=cpu") == 2
    assert "Leave out --tiles and --flip" in " ".join(capsys.readouterr().err.split())


def test_sam_zs_predicts_as_it_is_with_every_kind_of_prompt(
    dataset: Path, sam_folder: Path, assignments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    one_class(dataset)
    out, by_truth, by_grid, again = (tmp_path / name for name in ("run", "truth", "grid", "again"))
    options = [*(f"--set={each}" for each in assignments), f"--weights=sam-vit-l={sam_folder}"]
    loose = ["--set=model.grid_iou=0", "--set=model.grid_stability=0"]
    assert run("train", dataset, "--model=sam-zs", "--out", out, *options, *loose, "--device=cpu") == 0
    assert (out / "fold-0" / "predictions" / "instances.json").is_file()
    assert run("train", dataset, "--out", out, "--resume", "--device=cpu") == 0

    assert run("predict", out, dataset, by_truth, "--device=cpu") == 0
    grid = ("predict", out, dataset, by_grid, "--prompts=grid", "--device=cpu")
    assert run(*grid, "--flip") == 0
    assert run("predict", out, dataset, again, f"--prompts=detections:{by_grid}", "--device=cpu") == 0
    capsys.readouterr()
    assert run(*grid, "--flip", "--resume") == 0
    assert "complete already" in capsys.readouterr().err
    assert len(panoptic.load_instances(again)) == len(panoptic.load_instances(by_grid)) > 0

    results = [tmp_path / f"{name}-scores" for name in ("truth", "grid", "again")]
    for predictions, scores in zip((by_truth, by_grid, again), results, strict=True):
        assert run("evaluate", dataset, predictions, "--out", scores, "--resamples=0") == 0
    marks = [json.loads((scores / "scores.json").read_text()).get("knows_truth", False) for scores in results]
    assert marks == [True, False, False]
    capsys.readouterr()
    assert run("compare", *results, "--resamples=0", "--out", tmp_path / "comparison") == 0
    said = capsys.readouterr().out
    assert said.count("truth-scores †") == 1
    assert "grid-scores †" not in said
    assert "† Predicted with prompts from the ground truth" in said
    assert "truth-scores $\\dagger$ &" in (tmp_path / "comparison" / "comparison.tex").read_text()
    assert "| truth-scores † |" in (tmp_path / "comparison" / "comparison.md").read_text()


def test_what_cannot_be_prompted_or_trained_is_one_line(
    dataset: Path, sam_folder: Path, assignments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = [*(f"--set={each}" for each in assignments), f"--weights=sam-vit-l={sam_folder}", "--device=cpu"]
    train = ("train", dataset, "--out", tmp_path / "run", *options)
    assert run(*train, "--model=sam-zs", "--set=train.steps=1") == 2
    assert "Nothing of this network is trained" in " ".join(capsys.readouterr().err.split())
    assert run(*train, "--model=sam-ft", "--set=model.prompts=grid") == 2
    assert "tells no class, and there are 2" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_another_collection_is_prompted_too(
    dataset: Path, sam_folder: Path, small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Its only class is not one of the two of the RUN: all lesions are one, and its own prompts mark the scores."""
    session = Session({"sam-vit-l": str(sam_folder)}, "cpu")
    out = trainer.train(dataset, out=tmp_path / "sam", preset=small("sam-zs"), session=session)
    other = Path(shutil.copytree(dataset, tmp_path / "other"))
    for image in panoptic.load(one_class(other)).images:
        path = other / "images" / f"{image.name}.png"
        panoptic.write_png(path, panoptic.read_png(path) // 2)
    asked = (
        "evaluate",
        out,
        "--on",
        other,
        "--resamples=0",
        "--workers=1",
        "--device=cpu",
        "--json",
        "--allow-overlap",
    )
    assert run(*asked) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["knows_truth"] is content["transfer"]["knows_truth"] is True
    assert content["transfer"]["classes"] == ["lesion"]
    assert run(*asked, "--prompts=grid") == 2
    assert "tells no class, and there are 2" in " ".join(capsys.readouterr().err.split())
    assert run(*asked, f"--prompts=detections:{out / 'on' / 'other' / 'fold-0' / 'predictions'}") == 2
    assert "itself predicted with prompts from the ground truth" in " ".join(capsys.readouterr().err.split())
    assert run(*asked[:-2]) == 0
    said = capsys.readouterr().out
    assert "† sam-zs" in said
    assert said.count("† Predicted with prompts from the ground truth") == 2  # below the table, and among the notes


def test_other_networks_and_absent_detections_are_one_line(
    dataset: Path, sam_folder: Path, small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sizes = ("model.width=4", "model.levels=2", "model.head=4", "train.size=32", "train.crop=32", "train.steps=0")
    out = tmp_path / "u-net"
    options = [f"--set={each}" for each in sizes]
    assert run("train", dataset, "--model=u-net", "--out", out, *options, "--device=cpu") == 0
    assert run("predict", out, dataset, tmp_path / "predictions", "--prompts=grid", "--device=cpu") == 2
    assert "u-net takes no prompts. Leave out --prompts." in " ".join(capsys.readouterr().err.split())

    session = Session({"sam-vit-l": str(sam_folder)}, "cpu")
    sam = trainer.train(dataset, out=tmp_path / "sam", preset=small("sam-zs"), session=session)
    nowhere = f"--prompts=detections:{tmp_path / 'nowhere'}"
    assert run("predict", sam, dataset, tmp_path / "predictions", nowhere, "--device=cpu") == 2
    assert "nowhere does not exist" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "predictions").exists()
