"""`mammoprep train` on the command line: what it prints, its exit codes, and one line for each mistake."""

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from mammoprep.cli import extra, main, train
from mammoprep.errors import MammoprepError
from mammoprep.evaluation import runs
from mammoprep_model import trainer, zoo
from mammoprep_model.checkpoint import read_run
from mammoprep_model.config import Preset

pytestmark = pytest.mark.usefixtures("fake_network")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, small_preset: Preset, tmp_path: Path) -> None:
    monkeypatch.setattr(zoo, "PRESETS", {"tiny": small_preset, "m-odise": zoo.preset("m-odise")})
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in ("train", *arguments)])
    return int(str(ended.value.code))


def test_the_run_goes_to_a_folder_named_after_model_and_fold(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(dataset, "--model", "tiny", "--fold", 1) == 0
    assert read_run(Path("runs/tiny-fold-1")).fold == 1
    printed = capsys.readouterr()
    assert "runs/tiny-fold-1" in printed.out
    assert re.search(
        r"step 6/6  loss [\d.]+ \(mask [\d.]+  class [\d.]+\)  [\d.]+ images/s  [\d,]+ MiB  0:00:00 left", printed.err
    )


def test_json_prints_one_object(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(dataset, "--model", "tiny", "--out", "run", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["run"] == "run"
    assert content["folds"]["0"]["AP"] is None
    assert set(content["folds"]["0"]["PQ"]) == {"0.1", "0.25", "0.5"}


def test_a_run_that_cannot_be_scored_is_still_a_run(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unscored(*_: object, **__: object) -> None:
        raise MammoprepError("No ground truth.")

    monkeypatch.setattr(runs, "evaluate", unscored)
    assert run(dataset, "--model", "tiny", "--out", "run") == 1
    assert capsys.readouterr().err.endswith("run is trained, but could not be scored. No ground truth.\n")
    assert Path("run/model.safetensors").is_file()


def test_settings_reach_run_json(dataset: Path) -> None:
    changes = ("--set=train.lr=1e-3", "--set=train.steps=3", "--augment=flip", "--view=both")
    assert run(dataset, "--model=tiny", "--out=run", *changes, "--seed=4") == 0
    config = read_run(Path("run"))
    train = config.preset.train
    assert (train.learning_rate, train.steps, train.augment, train.view, config.seed) == (1e-3, 3, "flip", "both", 4)


def test_resume_needs_no_more_than_the_folder(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--model=tiny", "--fold=2", "--seed=3", "--set=train.steps=8", "--set=model.queries=9")
    assert run(dataset, "--out=whole", *options) == 0
    assert run(dataset, "--out=run", *options) == 0
    os.remove("run/fold-2/predictions/panoptic.json")
    assert run(dataset, "--out=run", "--resume") == 0
    assert read_run(Path("run")) == read_run(Path("whole"))


def test_ctrl_c_says_how_to_go_on(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = trainer.Step.row

    def interrupt(step: Any) -> Any:
        if step.number == 3:
            signal.raise_signal(signal.SIGINT)
        return report(step)

    monkeypatch.setattr(trainer.Step, "row", interrupt)
    assert run(dataset, "--model=tiny", "--out=run") == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert "Stopped after step 3 of 6" in last
    assert f"mammoprep train {dataset} --out run --resume" in last


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere", "--model=tiny"], "panoptic.json does not exist"),
        (["DATASET"], "Name a preset: --model tiny or --model m-odise"),
        (["DATASET", "--model=tinny"], "Did you mean 'tiny'"),
        (["DATASET", "--model=tiny", "--fold=7"], "no fold 7"),
        (["DATASET", "--model=tiny", "--fold=first"], "neither a number"),
        (["DATASET", "--model=tiny", "--set=train.stepps=7"], "Did you mean 'train.steps'"),
        (["DATASET", "--model=tiny", "--set=train.crop=100"], "multiple of train.stride, 64"),
        (["DATASET", "--model=tiny", "--weights=mam-e"], "mam-e=DIR"),
        (["DATASET", "--model=tiny", "--resume", "--out=nowhere"], "nothing to resume"),
        (["DATASET", "--model=tiny", "--out=DATASET"], "is not empty"),
        (["DATASET", "--model=tiny", "--device=tpu"], "tpu"),
        (["DATASET", "--model=tiny", "--jobs=2"], "--fold all"),
        (["DATASET", "--model=tiny", "--set=train.micro_batch=-1"], "0 or more"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    dataset: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    before = sorted(dataset.parent.rglob("*"))
    assert run(*[argument.replace("DATASET", str(dataset)) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert sorted(dataset.parent.rglob("*")) == before


def test_without_folds_the_next_command_is_named(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / "folds.json").unlink()
    assert run(dataset, "--model=tiny") == 2
    assert f"mammoprep folds {dataset}" in capsys.readouterr().err


def test_only_the_first_process_of_a_machine_speaks(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (dataset / "folds.json").unlink()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run(dataset, "--model=tiny") == 2
    assert capsys.readouterr().err == ""


def test_remarks_are_shown(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((dataset / "panoptic.json").read_text())
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["category_id"] += segment["category_id"] == 1
    (dataset / "panoptic.json").write_text(json.dumps(content))
    assert run(dataset, "--model=tiny", "--set=train.steps=1") == 0
    assert "Fold 0: no training image shows BI-RADS 3, which will not be learnt." in capsys.readouterr().err


def test_all_folds_give_the_table_of_the_paper(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(dataset, "--model=tiny", "--fold=all", "--out=runs/all") == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "runs/all", "--iou-sweep"])
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "±" in printed
    assert all(name in printed for name in ("PQ", "RQ", "SQ", "AP"))


def test_a_missing_extra_names_the_install_command(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == "torch" else sys)
    assert run(dataset, "--model=tiny") == 2
    assert capsys.readouterr().err == ('mammoprep: This command needs torch. Type: pip install "mammoprep[model]"\n')


def test_weights_are_read_part_by_part() -> None:
    assert train.parse_weights(["mam-e=a=b", "biomedclip=c"], ["mam-e"]) == {"mam-e": "a=b", "biomedclip": "c"}
