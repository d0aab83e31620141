"""Every semantic preset is trained, resumed, scored and used through the same commands, on small sizes."""

import csv
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mammoprep import panoptic
from mammoprep.cli import main
from mammoprep.evaluation.runs import Options, evaluate
from mammoprep_model import checkpoint, settings, trainer, zoo
from mammoprep_model.config import Preset
from mammoprep_model.interrupts import Stopped
from mammoprep_model.trainer import Session
from mammoprep_model.validation import Validation

SIZES = {
    "u-net": ("width=4", "levels=3", "head=4"),
    "setr-fs": ("width=16", "layers=2", "heads=2", "head=8"),
    "setr-ft": ("width=16", "layers=2", "heads=2", "head=8"),
    "setr-vpt": ("width=16", "layers=2", "heads=2", "head=8", "prompts=2"),
}
TRAIN = ("size=48", "crop=48", "epochs=3", "batch_size=2", "plateau_patience=0", "checkpoint_every=100")


def assignments(name: str) -> list[str]:
    return [f"model.{each}" for each in SIZES[name]] + [f"train.{each}" for each in TRAIN]


def preset(name: str, *more: str) -> Preset:
    return settings.change(zoo.preset(name), [*assignments(name), *more])


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_is_trained_resumed_scored_and_used(
    name: str, dataset: Path, vit_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Four images in batches of two: three epochs of two steps. It stops in the second, and goes on."""
    weights = {part: str(vit_folder) for part in zoo.preset(name).model.parts}
    whole, out = tmp_path / "whole", tmp_path / "run"
    options = [f"--set={each}" for each in assignments(name)] + [f"--weights={k}={v}" for k, v in weights.items()]
    assert run("train", dataset, "--model", name, "--out", whole, *options, "--json", "--device=cpu") == 0
    assert json.loads(capsys.readouterr().out)["folds"].keys() == {"0"}
    assert [float(row["loss"]) > 0 for row in rows(whole / "validation.csv")] == [True] * 3

    stop = Session(
        weights, "cpu", on_step=lambda step: os.kill(os.getpid(), signal.SIGINT) if step.number == 3 else None
    )
    with pytest.raises(Stopped):
        trainer.train(dataset, out=out, preset=preset(name), session=stop)
    assert run("train", dataset, "--out", out, "--resume", "--device=cpu") == 0
    for file in ("model.safetensors", "validation.csv", "fold-0/predictions/instances.json"):
        assert (out / file).read_bytes() == (whole / file).read_bytes()

    assert run("evaluate", out, "--iou-sweep") == 0
    capsys.readouterr()
    assert run("predict", out, dataset, tmp_path / "predictions", "--tiles=2", "--flip", "--json", "--device=cpu") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6


def test_it_learns_and_its_lesions_are_scored(dataset: Path, tmp_path: Path):
    """Bright squares, classes by brightness: the lesions of images that it has seen are found."""
    folds = {"folds": [{"train": [1, 2, 3, 4, 5, 6], "val": [1, 2, 3, 4, 5, 6]}]}
    (dataset / "folds.json").write_text(json.dumps(folds))
    more = ("model.width=8", "model.head=8", "train.epochs=50", "train.lr=1e-2", "train.schedule=milestones")
    learnt = preset("u-net", *more, "train.clahe=false")
    out = trainer.train(dataset, out=tmp_path / "run", preset=learnt, session=Session(device="cpu"))
    report = evaluate(out, on=dataset, options=Options(resamples=0)).report.to_json()
    assert report["dice"]["per_image"] > 0.8
    found = panoptic.load_instances(out / "fold-0" / "predictions")
    assert {each["image_id"] for each in found} == {1, 2, 3, 4, 5, 6}
    assert all(each["score"] >= 0.5 for each in found)


def test_a_validation_loss_is_the_same_in_several_goes(dataset: Path, tmp_path: Path):
    """Of two images in a batch of two, at once and one by one; statistics of batch norm stay as they are."""
    made = trainer.plan.plan(
        panoptic.load(dataset), out=tmp_path, preset=preset("u-net"), fold=0, seed=0, session=Session(device="cpu")
    )[0]
    network = checkpoint.untrained(made.config)
    before = checkpoint.tensors_of(network)
    validation = Validation(panoptic.load(dataset), made.val_ids, config=made.config, run=tmp_path)
    first, second = (validation.measure(network, step=step, size=step) for step in (1, 2))
    assert first == pytest.approx(second, rel=1e-5)
    after = checkpoint.tensors_of(network)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert checkpoint.module_of(network).training


def test_the_best_epoch_of_a_frozen_transformer_is_kept_and_rebuilt(dataset: Path, vit_folder: Path, tmp_path: Path):
    session = Session({"vit-l": str(vit_folder)}, "cpu")
    chosen = preset("setr-vpt", "train.keep=best")
    out = trainer.train(dataset, out=tmp_path / "run", preset=chosen, session=session)
    network, config = checkpoint.load(out, device="cpu")
    losses = [float(row["loss"]) for row in rows(out / "validation.csv")]
    validation = Validation(panoptic.load(dataset), {1, 4}, config=replace(config, device="cpu"), run=tmp_path)
    assert validation.measure(network, step=1, size=2) == pytest.approx(min(losses), rel=1e-5)
