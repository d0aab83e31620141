"""Who was told where the lesions are is marked in the benchmark's table, in figures, on pages and on other data."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from mammoprep.cli import main
from mammoprep.evaluation import figures
from mammoprep.evaluation.marks import FOOTNOTE
from mammoprep_model import benchmark, trainer
from mammoprep_model.trainer import Session


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def test_a_benchmark_marks_who_knew_the_truth_and_gives_no_time_to_who_takes_no_step(
    dataset: Path,
    sam_folder: Path,
    assignments,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """All 6 s are for the one that trains, of 0.6 s a step, 0.75 with the loss of half as many images: 8 steps."""
    asked: list[str] = []

    def speed(task: object, preset: Any, **_: object) -> float:
        asked.append(preset.name)
        return 0.6

    monkeypatch.setattr(benchmark, "_speed", speed)
    out = tmp_path / "out"
    options = [*(f"--set={each}" for each in assignments), f"--weights=sam-vit-l={sam_folder}", "--device=cpu"]
    assert run("benchmark", dataset, "--models=sam-zs,sam-ft", "--budget=0.1", "--out", out, *options) == 0
    said = capsys.readouterr().out
    assert asked == ["sam-ft"]
    steps = {name: each["steps"] for name, each in json.loads((out / "benchmark.json").read_text())["lengths"].items()}
    assert steps == {"sam-zs": 0, "sam-ft": 8}
    for title in ("sam-zs †", "sam-ft †", FOOTNOTE):
        assert title in said
    content = json.loads((out / "comparison.json").read_text())
    assert [(row["name"], row["knows_truth"]) for row in content["results"]] == [
        ("sam-zs †", True),
        ("sam-ft †", True),
    ]
    assert content["footnote"] == FOOTNOTE
    with (out / "comparison.csv").open(encoding="utf-8") as file:
        assert [(row["name"], row["knows_truth"]) for row in csv.DictReader(file)] == [
            ("sam-zs †", "1"),
            ("sam-ft †", "1"),
        ]


def test_figures_and_pages_of_a_prompted_run_bear_the_footnote(
    dataset: Path, sam_folder: Path, small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [f"case-{number},p{number}" for number in range(1, 7)]
    (dataset / "cases.csv").write_text("\n".join(("image_id,patient_id", *rows)) + "\n")
    session = Session({"sam-vit-l": str(sam_folder)}, "cpu")
    out = trainer.train(dataset, out=tmp_path / "sam", preset=small("sam-zs"), session=session)
    drawn: dict[str, str | None] = {}
    save = figures.save

    def seen(figure: Any, path: Path, *, footnote: str | None = None) -> None:
        drawn[path.stem] = footnote
        save(figure, path, footnote=footnote)

    monkeypatch.setattr(figures, "save", seen)
    monkeypatch.setattr("mammoprep.cli.evaluate.KINDS", ("png",))
    assert run("evaluate", out, "--figures", "--explain-threshold", "--resamples=0") == 0
    assert drawn == dict.fromkeys(("sweep", "explain-threshold", "strata", "cases"), FOOTNOTE)  # no AP: no instances
    assert run("gallery", out) == 0
    text = (out / "gallery" / "data" / "index.js").read_text(encoding="ascii")
    index = json.loads(text.removeprefix("window.GALLERY = ").removesuffix(";\n"))
    assert index["footnote"] == FOOTNOTE
    assert index["scores"]["knows_truth"] is True
