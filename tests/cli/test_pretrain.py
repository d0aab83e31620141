"""`mammoprep pretrain` on the command line: what it prints, a line for each mistake, what is built on its folder."""

import json
import signal
from pathlib import Path
from typing import get_args

import pytest

from mammoprep.cli import main, pretrain
from mammoprep.cli.pretrain import Base
from mammoprep_model.pretrain import loop
from mammoprep_model.pretrain.recipe import BASES

SMALL_STEP = ["DATASET", "--set=diffusion.batch_size=4", "--set=diffusion.micro_batch=4"]
SETTINGS = (
    *("size=64", "samples=1", "sample_steps=1", "distance_images=0", "diffusion.batch_size=2"),
    "diffusion.micro_batch=1",
    "diffusion.checkpointing=false",
)

SEGMENTER = (
    *("train.size=64", "train.crop=64", "train.batch_size=1", "train.steps=1", "model.window=64"),
    *("model.image_encoder=tiny", "model.text_encoder=tiny", "model.projection=16", "model.hidden=32"),
    *("model.queries=4", "model.heads=2", "model.encoder_layers=1", "model.decoder_layers=1", "model.points=64"),
    *("model.decoder_feedforward=16", "model.encoder_feedforward=16"),
)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object, command: str = "pretrain") -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in (command, *arguments)])
    return int(str(ended.value.code))


def test_the_bases_that_are_offered_are_those_there_are() -> None:
    assert set(get_args(Base)) == set(BASES)


def new(backbone: Path, *more: str) -> list[str]:
    words = [f"--set={setting}" for setting in SETTINGS]
    return ["--device=cpu", f"--weights=sd-1.5={backbone}", "--steps=2", *words, *more]


def test_a_backbone_is_made_and_the_segmenter_trains_on_it(
    mammograms: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(mammograms, *new(backbone), "--fold=1") == 0
    printed = capsys.readouterr()
    out = Path("backbones/sd-1.5-fold-1")
    assert f"train DATASET --model m-odise --fold 1 --weights mam-e={out}" in printed.out
    assert "14 lesion-free images of 7 patients; 1 patients of fold 1's validation set are left out" in printed.err
    assert "diffusion: step 2/2  loss" in printed.err
    words = ["--model=m-odise", "--device=cpu", *(f"--set={setting}" for setting in SEGMENTER)]
    assert run(mammograms, *words, "--fold=0", f"--weights=mam-e={out}", "--out=run", command="train") == 0
    assert "so its scores are flattered. Pretrain with --fold 0." in capsys.readouterr().err
    assert (Path("run") / "fold-0" / "predictions" / "panoptic.json").is_file()


def test_json_prints_one_object(mammograms: Path, backbone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(mammograms, *new(backbone, "--fold=none", "--out=out", "--json", "--steps=1")) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "backbone": "out",
        "base": "sd-1.5",
        "fold": None,
        "images": 14,
        "patients": 7,
    }
    assert "no patient is left out: scores of a segmenter on these patients would be flattered" in printed.err


def test_ctrl_c_says_how_to_go_on(
    mammograms: Path, backbone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = loop.Step.row

    def interrupt(step: loop.Step) -> dict[str, float]:
        if step.number == 1:
            signal.raise_signal(signal.SIGINT)
        return row(step)

    monkeypatch.setattr(loop.Step, "row", interrupt)
    assert run(mammograms, *new(backbone, "--out=out", "--seed=3", "--fold=1")) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "Stopped after step 1 of 2 of the diffusion stage. Continue with:"
        f" mammoprep pretrain {mammograms} --out out --resume"
    )
    monkeypatch.undo()
    monkeypatch.chdir(mammograms.parent)
    assert run(mammograms, "--out=out", "--resume", "--device=cpu", f"--weights=sd-1.5={backbone}") == 0
    facts = json.loads(Path("out/pretrain.json").read_text())
    assert (facts["seed"], facts["fold"], facts["config"]["diffusion"]["steps"]) == (3, 1, 2)


def test_a_backbone_from_nothing_carries_the_compact_segmenter(
    mammograms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("sizes.unet=16,16,32,32", "sizes.vae=8,8,16,16", "sizes.text=16", "sizes.text_heads=2", "sizes.head=8")
    stage = ("steps=1", "batch_size=2", "micro_batch=2")
    values = [f"--set={name}.{value}" for name in ("autoencoder", "diffusion") for value in stage]
    small = [f"--set={value}" for value in (*sizes, "sizes.groups=8", "size=64", "samples=0", "distance_images=0")]
    assert run(mammograms, "--base=compact", "--device=cpu", "--out=out", *values, *small) == 0
    assert "--model m-odise-compact --fold 0 --weights compact=out" in capsys.readouterr().out
    words = ["--model=m-odise-compact", "--device=cpu", *(f"--set={setting}" for setting in SEGMENTER)]
    assert run(mammograms, *words, "--weights=compact=out", "--out=run", command="train") == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "panoptic.json does not exist"),
        (["DATASET", "--base=sd-1.6"], "'sd-1.6' is not one of 'sd-1.5', 'compact'"),
        (["DATASET", "--fold=7"], "no fold 7"),
        (["DATASET", "--fold=first"], "neither a number from 0 nor none"),
        (["DATASET", "--set=diffusion.stepps=7"], "Did you mean 'diffusion.steps'"),
        (["DATASET", "--set=size=100"], "a multiple of 64"),
        (["DATASET", "--steps=0"], "No stage has a step"),
        (["DATASET"], "has 12 lesion-free images to learn from (2 more are of patients that the fold validates on)"),
        (["DATASET", "--set=diffusion.batch_size=16", "--fold=none"], "but 16 are needed: as many as a step takes"),
        (["DATASET", "--weights=sd-1.5"], "is no folder"),
        ([*SMALL_STEP, "--weights=sd-1.5=no/such/dir"], "There is no folder or file"),
        (["DATASET", "--resume", "--out=nowhere"], "nothing to resume"),
        (["DATASET", "--resume", "--overwrite"], "Say only --resume"),
        ([*SMALL_STEP, "--out=DATASET"], "is not empty"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    mammograms: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    before = sorted(mammograms.parent.rglob("*"))
    assert run(*[argument.replace("DATASET", str(mammograms)) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert sorted(mammograms.parent.rglob("*")) == before


def test_folds_are_asked_for_where_there_are_none(mammograms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mammograms / "folds.json").unlink()
    assert run(mammograms) == 2
    assert f"mammoprep folds {mammograms}" in capsys.readouterr().err


def test_only_the_first_of_many_processes_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not pretrain.is_first()
