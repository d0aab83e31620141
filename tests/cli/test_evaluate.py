"""`mammoprep evaluate` on the command line: what it prints and writes, and one line for each mistake."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.cli import main

HEAVY = ("numpy", "cv2", "scipy", "joblib", "matplotlib", "pandas", "torch")


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in ("evaluate", *arguments)])
    return ended.value.code


@pytest.fixture
def predictions(dataset, tmp_path):
    """Predictions equal to the truth, but for image 3, whose lesion is of the other class. No instances.json."""
    out = tmp_path / "predictions"
    out.mkdir()
    shutil.copytree(dataset / "panoptic", out / "panoptic")
    content = json.loads((dataset / "panoptic.json").read_text())
    lesion = content["annotations"][2]["segments_info"][0]
    lesion["category_id"] = 3 - lesion["category_id"]
    (out / "panoptic.json").write_text(json.dumps(content))
    (out / "semantic").mkdir()
    for image in panoptic.load(out).images:
        classes = {segment.id: segment.category_id for segment in image.segments}
        labels = np.vectorize(classes.get)(panoptic.load(out).ids_of(image))
        panoptic.write_png(out / "semantic" / f"{image.name}.png", labels.astype(np.uint8))
    return out


@pytest.fixture
def trained(dataset, predictions, tmp_path):
    """A RUN of three folds."""
    root = tmp_path / "run"
    for fold in range(3):
        shutil.copytree(predictions, root / f"fold-{fold}" / "predictions")
    (root / "run.json").write_text(json.dumps({"dataset": str(dataset), "folds": [0, 1, 2]}))
    return root


def test_table_shows_the_fixed_thresholds_in_per_cent(dataset, predictions, capsys):
    """BI-RADS 3 is hit 2 of 3 times, BI-RADS 4 3 times beside a false one: RQ 2/2.5 and 3/3.5."""
    assert run(dataset, predictions) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = [line for line in lines if line and line[0] in ("0.05", "0.10", "0.25", "0.50", "0.15")]
    assert [line[0] for line in shown] == 3 * ["0.05", "0.10", "0.25", "0.50"]  # all, class ignored, missed
    assert shown[0] == ["0.05", "*", "82.86", "100.00", "82.86", "not", "given", "82.86"]
    assert ["background", "6/0/0", "100.00", "100.00", "100.00", "100.00"] in lines


def test_report_says_why_the_curve_has_no_inner_maximum(dataset, predictions, capsys):
    assert run(dataset, predictions) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "PQ has no inner maximum" in text
    assert "AP counts a detection at IoU >= t, PQ a pair at IoU > t." in text
    assert "Not given: AP, detection.AP, froc (the predictions have no instances.json)." in text


def test_sweep_shows_all_thresholds_and_draws_the_figure(dataset, predictions, tmp_path, capsys):
    assert run(dataset, predictions, "--iou-sweep", "--out", tmp_path / "scores") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line[:2] == "0." for line in lines) == 18 + 2 * 4
    names = sorted(p.name for p in (tmp_path / "scores").iterdir())
    assert names == ["scores.json", "sweep.pdf", "sweep.png", "tables.npz"]


def test_figures_and_explanation_are_drawn_and_printed(trained, dataset, capsys):
    """Two patients a fold: image k and k + 3 are of one patient each."""
    rows = [f"case-{n},patient-{n},CC" for n in range(1, 7)]
    (dataset / "cases.csv").write_text("\n".join(["image_id,patient_id,view", *rows, ""]))
    assert run(trained, "--figures", "--explain-threshold", "--resamples", "20") == 0
    text = capsys.readouterr().out
    for title in ("95 % intervals, 20 bootstraps over 6 patients", "class ignored", "BI-RADS 3", "view CC"):
        assert title in text
    assert "PQ(t) under both matchings, all: 6 lesions" in text
    names = {path.name for path in (trained / "evaluation").iterdir()}
    drawn = {f"{name}.{kind}" for name in ("sweep", "strata", "explain-threshold", "cases") for kind in ("png", "pdf")}
    assert names == drawn | {"scores.json", "tables.npz"}  # no FROC and no precision-recall: there are no instances
    content = json.loads((trained / "evaluation" / "scores.json").read_text())
    low, high = content["intervals"]["sweep"]["PQ"][0]
    assert low <= content["sweep"]["PQ"][0] <= high
    assert content["intervals"]["resamples"] == 20


def test_figures_of_an_earlier_time_do_not_stand_beside_new_scores(dataset, predictions, tmp_path, capsys):
    out = tmp_path / "scores"
    assert run(dataset, predictions, "--figures", "--out", out) == 0
    (out / "notes.txt").write_text("mine")
    assert {"sweep.png", "strata.pdf"} <= {path.name for path in out.iterdir()}
    assert run(dataset, predictions, "--out", out) == 0
    assert {path.name for path in out.iterdir()} == {"scores.json", "tables.npz", "notes.txt"}


def test_no_bootstrap_is_said(dataset, predictions, capsys):
    assert run(dataset, predictions, "--resamples", "0", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["intervals"], content["not_given"]["intervals"]) == (None, "no bootstrap was asked for")


def test_intervals_without_patients_are_said(dataset, predictions, capsys):
    assert run(dataset, predictions) == 0
    assert "intervals (cases.csv does not give the patient of every image)" in " ".join(capsys.readouterr().out.split())


def test_without_out_nothing_is_written(dataset, predictions, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert run(dataset, predictions, "--json") == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert json.loads(capsys.readouterr().out)["matching"] == "one-to-one"


def test_run_is_scored_over_its_folds(trained, capsys):
    """Image 3 is in fold 2, beside image 6: there BI-RADS 4 is hit, and missed of BI-RADS 3 or the reverse."""
    assert run(trained, "--matching", "paper", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content == json.loads((trained / "evaluation" / "scores.json").read_text())
    assert [fold["images"] for fold in content["folds"]] == [2, 2, 2]
    values = [fold["sweep"]["PQ"][0] for fold in content["folds"]]
    assert content["sweep"]["PQ"][0] == pytest.approx(np.mean(values))
    assert content["std"]["sweep"]["PQ"][0] == pytest.approx(np.std(values, ddof=1))
    assert not (trained / "evaluation" / "sweep.png").exists()


def test_table_of_a_run_shows_the_deviation(trained, capsys):
    assert run(trained) == 0
    first = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("0.05"))
    assert first.count("±") == 4
    assert max(map(len, first.splitlines())) <= 80


def test_moved_data_set_is_named_by_on(trained, dataset, tmp_path, capsys):
    shutil.move(dataset, tmp_path / "moved")
    assert run(trained) == 2
    assert "Say --on DATASET" in capsys.readouterr().err
    assert run(trained, "--on", tmp_path / "moved") == 0


def test_predictions_of_a_part_need_a_word(dataset, predictions, capsys):
    content = json.loads((predictions / "panoptic.json").read_text())
    content = {**content, "images": content["images"][:4], "annotations": content["annotations"][:4]}
    (predictions / "panoptic.json").write_text(json.dumps(content))
    assert run(dataset, predictions) == 2
    assert "--missing-as-empty" in capsys.readouterr().err
    assert run(dataset, predictions, "--missing-as-empty", "--workers", 2, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["missing"] == 2
    assert sum(content["per_class"][name]["FN"][0] for name in ("BI-RADS 3", "BI-RADS 4")) == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere"], "run.json does not exist. Name a RUN, or a DATASET and its PREDICTIONS."),
        (["{dataset}"], "run.json does not exist."),
        (["{dataset}", "nowhere"], "nowhere does not exist."),
        (["nowhere", "{predictions}"], "panoptic.json does not exist."),
        (["{dataset}", "{dataset}/panoptic"], "holds no predictions"),
        (["{dataset}", "{predictions}", "--on", "{dataset}"], "--on names the data set of a RUN"),
        (["{dataset}", "{predictions}", "--matching", "papers"], "paper"),
        (["{dataset}", "{predictions}", "--workers", "0"], "--workers"),
        (["{dataset}", "{predictions}", "--resamples", "-1"], "--resamples"),
        (["{dataset}", "{predictions}", "--figures"], "--figures needs a folder to draw into. Say --out DIR."),
        (["{dataset}", "{predictions}", "--cluster", "here"], "No Dask scheduler answers at here"),
        (["{dataset}", "{predictions}", "--out", "{dataset}/panoptic.json"], "is a file"),
        (["{dataset}", "{predictions}", "--out", "{dataset}/panoptic.json/deeper"], "could not be written"),
    ],
)
def test_wrong_input_is_one_line(dataset, predictions, arguments, text, capsys):
    filled = [argument.format(dataset=dataset, predictions=predictions) for argument in arguments]
    assert run(*filled) == 2
    printed = capsys.readouterr()
    assert text in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_same_input_gives_the_same_bytes(dataset, predictions, tmp_path, capsys):
    for name in ("one", "two"):
        assert run(dataset, predictions, "--iou-sweep", "--out", tmp_path / name) == 0
    capsys.readouterr()
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mammoprep.cli import main\n"
        "try: main(['evaluate', '--help'])\n"
        f"except SystemExit: assert not set({HEAVY}) & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--iou-sweep" in done.stdout
