"""`mammoprep benchmark` on the command line: the table, what it repeats, a line for each mistake."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mammoprep.cli import main
from mammoprep_model import benchmark, zoo
from mammoprep_model.config import Preset

pytestmark = pytest.mark.usefixtures("fake_network")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, small_preset: Preset, tmp_path: Path) -> None:
    """Two presets from scratch and two that need weights; every step takes half a second by decree."""
    parts = replace(small_preset.model, image_encoder="none", text_encoder="tiny")
    scratch = replace(small_preset, model=parts)
    slower = replace(scratch, name="other", train=replace(small_preset.train, learning_rate=1e-3))
    known = {"tiny": scratch, "other": slower, **{name: zoo.preset(name) for name in ("m-odise", "m-odise-compact")}}
    monkeypatch.setattr(zoo, "PRESETS", known)
    monkeypatch.setattr(benchmark, "_speed", lambda *_, **__: 0.5)
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in ("benchmark", *arguments)])
    return int(str(ended.value.code))


def test_presets_are_trained_scored_and_put_into_one_table(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """12 s for two presets on two folds are 3 s, six steps, three epochs of four images."""
    options = (dataset, "--models=tiny,other", "--folds=2", "--budget=0.2", "--out=out", "--device=cpu")
    assert run(*options, "--set=other:train.lr=5e-3") == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert [row[1:3] for row in rows if row[:1] in (["tiny"], ["other"]) and len(row) == 6] == 2 * [["6", "3.0"]]
    assert sum(row[:1] == ["tiny"] and row.count("±") >= 4 for row in rows) == 1
    assert {path.name for path in Path("out").iterdir()} == {
        *("tiny", "other", "benchmark.json"),
        *(f"comparison.{kind}" for kind in ("json", "csv", "md", "tex")),
    }
    told = json.loads(Path("out/benchmark.json").read_text())["task"]["models"]
    assert [told[name]["train"]["learning_rate"] for name in ("tiny", "other")] == [1e-2, 5e-3]
    times = {path: path.stat().st_mtime_ns for path in Path("out").glob("*/fold-*/model.safetensors")}
    assert len(times) == 4
    assert run(*options, "--set=other:train.lr=5e-3", "--resume", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in content["results"]] == ["tiny", "other"]
    assert content["cost"]["tiny"]["steps"] == 6
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert run(*options, "--resume") == 2
    assert "models other train learning_rate = 0.005, now 0.001" in capsys.readouterr().err


def test_all_takes_what_needs_no_weights(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mammoprep_model.weights.cached", lambda part: None)
    assert run(dataset, "--models=all", "--budget=0.2", "--out=out", "--device=cpu") == 0
    printed = capsys.readouterr()
    assert "m-odise is left out: it lacks mam-e, biomedclip." in printed.err
    assert "m-odise-compact is left out: it lacks compact, biomedclip." in printed.err
    assert not Path("out/m-odise").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--models=tiny,othr",), "There is no model 'othr'. Did you mean 'other'?"),
        (("--models=tiny",), "One preset cannot be compared."),
        (("--models=tiny,m-odise",), "Weights are missing: m-odise lacks mam-e, biomedclip."),
        (("--models=tiny,other", "--weights=mam-e=x"), "There is no part of these models 'mam-e'."),
        (("--models=tiny,m-odise", "--weights=mam-e=empty"), "is not a whole mam-e"),
        (("--models=tiny,m-odise", "--weights=mam-e=made/{fold}"), "there is no made/0, which fold 0 needs."),
        (("--models=tiny,other", "--budget=0.01"), "one epoch would take tiny 1.0 s, other 1.0 s. Say --budget 0.1"),
        (("--models=tiny,other", "--budget=0"), "--budget 0 is no time."),
        (("--models=tiny,other", "--folds=9"), "has 3 folds, not 9."),
        (("--models=tiny,other", "--set=train.epochs=3"), "--budget decides how long each preset trains"),
        (("--models=tiny,other", "--set=othr:train.lr=1"), "There is no model of this benchmark 'othr'. Did you mean"),
        (("--models=tiny,other", "--threshold=0.12"), "--threshold 0.12 is not of the sweep."),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: tuple[str], line: str
) -> None:
    monkeypatch.setattr("mammoprep_model.weights.cached", lambda part: None)
    Path("empty").mkdir()
    assert run(dataset, "--budget=1", "--out=out", *options) == 2
    error = [text for text in capsys.readouterr().err.splitlines() if "measuring its speed" not in text]
    assert len(error) == 1
    assert line in error[0]
    assert not Path("out").exists()
