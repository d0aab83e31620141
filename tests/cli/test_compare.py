"""`mammoprep compare` on the command line: what it prints and writes, and one line for each mistake."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.cli import main
from mammoprep.evaluation.results import save
from mammoprep.evaluation.runs import Options, evaluate

HEAVY = ("numpy", "cv2", "scipy", "joblib", "matplotlib", "pandas", "torch")


def main_of(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in ("compare", *arguments)])
    return ended.value.code


@pytest.fixture
def results(dataset, tmp_path):
    """Give two result folders: `whole` has every lesion as it is, `half` the upper half of each, IoU 1/2.

    Each of the six images is a patient's own; there is neither instances.json nor semantic/.
    """
    rows = [f"case-{number},patient-{number}" for number in range(1, 7)]
    (dataset / "cases.csv").write_text("\n".join(["image_id,patient_id", *rows, ""]))
    return [score(dataset, predict(dataset, tmp_path / name, height), tmp_path) for name, height in SYSTEMS]


SYSTEMS = (("half", 4), ("whole", 8))


def predict(dataset, out, height):
    """Predict the lesions' upper rows, the others as the breast."""
    (out / "panoptic").mkdir(parents=True)
    truth = panoptic.load(dataset)
    images = []
    for image in truth.images:
        ids = truth.ids_of(image).copy()
        ids[4 * image.id + height : 4 * image.id + 8, 4:12] = 3
        panoptic.write_ids(out / "panoptic" / f"{image.name}.png", ids)
        segments = tuple(
            panoptic.Segment(s.id, s.category_id, int((ids == s.id).sum()), panoptic.mask_box(ids == s.id))
            for s in image.segments
        )
        images.append(panoptic.Image(image.id, image.name, image.height, image.width, segments))
    panoptic.write_panoptic(out, categories=truth.categories, images=images)
    return out


def score(dataset, predictions, tmp_path, **options):
    out = tmp_path / "results" / predictions.name
    out.mkdir(parents=True)
    found = evaluate(dataset, predictions, options=Options(resamples=0, **options))
    save(out, found.report, found.tables, truth="hash")
    return out


def words(text):
    return " ".join(text.split())


def test_table_has_a_line_a_result_in_per_cent(results, capsys):
    assert run(*results, "--resamples", 50) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 images, IoU 0.10, per cent, the best in bold"
    assert [line.split() for line in lines[1:4]] == [
        ["RQ", "SQ", "PQ", "AP", "Dice"],
        ["half", "100.00", "50.00", "50.00", "–", "–"],
        ["whole", "100.00", "100.00", "100.00", "–", "–"],
    ]
    assert max(map(len, lines[1:4])) <= 80


def test_differences_have_intervals_and_a_star(results, capsys):
    assert run(*results, "--resamples", 50) == 0
    text = capsys.readouterr().out
    assert "whole minus half, percentage points (95 % interval; * leaves out 0)" in text
    lines = [words(line) for line in text.splitlines()]
    assert "PQ +50.00 [+50.00, +50.00] *" in lines
    assert "RQ +0.00 [+0.00, +0.00]" in lines
    assert "Dice –" in lines


def test_first_result_is_the_base(results, capsys):
    assert run(*reversed(results), "--resamples", 50) == 0
    assert "half minus whole" in capsys.readouterr().out


def test_threshold_is_the_one_asked_for(results, capsys):
    assert run(*results, "--threshold", "0.5", "--resamples", 50, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["threshold"] == 0.5
    assert [row["PQ"]["value"] for row in content["results"]] == [0.0, 1.0]


@pytest.mark.parametrize("form", ["csv", "markdown", "latex"])
def test_format_is_what_is_written(results, tmp_path, form, capsys):
    out = tmp_path / "out"
    ending = {"csv": "csv", "markdown": "md", "latex": "tex"}[form]
    assert run(*results, "--format", form, "--out", out, "--resamples", 50) == 0
    assert capsys.readouterr().out == (out / f"comparison.{ending}").read_text(encoding="utf-8")


def test_csv_has_the_numbers(results, capsys):
    assert run(*results, "--format", "csv", "--resamples", 50) == 0
    first, second = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (first["name"], first["PQ"], first["PQ_diff"], first["AP"]) == ("half", "0.5", "", "")
    assert [second[f"PQ{part}"] for part in ("", "_diff", "_diff_low", "_diff_high")] == ["1.0", "0.5", "0.5", "0.5"]


def test_markdown_and_latex_mark_the_best(results, capsys):
    assert run(*results, "--format", "markdown", "--resamples", 0) == 0
    assert "| whole | **100.00** | **100.00** | **100.00** | – | – |\n" in capsys.readouterr().out
    assert run(*results, "--format", "latex", "--resamples", 0) == 0
    assert "half & \\textbf{100.00} & 50.00 & 50.00 & -- & -- \\\\\n" in capsys.readouterr().out


def test_json_is_one_object(results, capsys):
    assert run(*results, "--json", "--resamples", 50) == 0
    printed = capsys.readouterr().out
    content = json.loads(printed)
    assert printed.count("\n") == 1
    assert [row["name"] for row in content["results"]] == ["half", "whole"]
    assert content["results"][1]["PQ"] == {"value": 1.0, "std": None, "best": True}
    assert {"name": "whole", "measure": "PQ", "value": 0.5, "interval": [0.5, 0.5]} in content["differences"]
    assert content["images"] == 6
    assert content["published"] == []
    assert content["not_given"] == {}


def test_out_holds_all_four(results, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert run(*results, "--out", out, "--json", "--resamples", 50) == 0
    printed = capsys.readouterr()
    assert sorted(path.name for path in out.iterdir()) == [f"comparison.{e}" for e in ("csv", "json", "md", "tex")]
    assert json.loads((out / "comparison.json").read_text()) == json.loads(printed.out)
    assert str(out / "comparison.json") in printed.err


def test_same_results_give_the_same_bytes(results, tmp_path, capsys):
    for name in ("one", "two"):
        assert run(*results, "--out", tmp_path / name, "--resamples", 50) == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_without_out_nothing_is_written(results, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert run(*results, "--resamples", 50) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_published_rows_stand_apart(results, capsys):
    assert run(*results, "--resamples", 0, "--published", "vindr") == 0
    ours, papers = capsys.readouterr().out.split("arXiv 2407.14326, IoU 0.05, published: ")
    assert "M-ODISE" not in ours
    row = next(line for line in papers.splitlines() if line.startswith("M-ODISE"))
    assert words(row) == "M-ODISE 46.26 ± 2.90 57.66 ± 1.27 26.92 ± 1.89 46.82 ± 2.97 40.92 ± 4.46"
    assert run(*results, "--resamples", 0, "--published", "vindr", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["published"]) == 6


def test_no_resamples_give_no_differences(results, capsys):
    assert run(*results, "--resamples", 0) == 0
    text = capsys.readouterr().out
    assert "minus" not in text
    assert "Not given: differences (--resamples 0 asked for none)." in words(text)


def test_seed_changes_the_draws(results, dataset, tmp_path, capsys):
    """A third result finds the lesions of three patients of six, so that its PQ hangs on who is drawn."""
    few = predict(dataset, tmp_path / "few", 8)
    content = json.loads((few / "panoptic.json").read_text())
    content = {**content, "images": content["images"][:3], "annotations": content["annotations"][:3]}
    (few / "panoptic.json").write_text(json.dumps(content))
    third = score(dataset, few, tmp_path, missing_as_empty=True)
    found = []
    for seed in (1, 1, 2):
        assert run(results[0], third, "--seed", seed, "--resamples", 20, "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["differences"])
    assert found[0] == found[1] != found[2]
    assert np.subtract(*found[0][2]["interval"]) < 0


def test_runs_are_compared_over_their_folds(dataset, results, tmp_path, capsys):
    """Both RUNs have the predictions of `half` and `whole`; only that of the second hits at IoU 0.5."""
    for name, _ in SYSTEMS:
        root = tmp_path / f"run-{name}"
        for fold in range(3):
            shutil.copytree(tmp_path / name, root / f"fold-{fold}" / "predictions")
        (root / "run.json").write_text(json.dumps({"dataset": str(dataset), "folds": [0, 1, 2]}))
        found = evaluate(root, options=Options(resamples=0))
        (root / "evaluation").mkdir()
        save(root / "evaluation", found.report, found.tables, truth="hash")
    assert run(tmp_path / "run-half", tmp_path / "run-whole", "--resamples", 50) == 0
    lines = [words(line) for line in capsys.readouterr().out.splitlines()]
    assert "run-half 100.00 ± 0.00 50.00 ± 0.00 50.00 ± 0.00 – –" in lines
    assert "run-whole minus run-half, percentage points (95 % interval; * leaves out 0)" in lines
    assert run(tmp_path / "run-half", results[1]) == 2
    assert "run-half and whole were scored on other folds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["{half}", "nowhere"], "nowhere does not exist. Name a RUN"),
        (["{half}", "{dataset}"], "dataset/scores.json does not exist. Score it: mammoprep evaluate RUN"),
        (["{half}"], "One result cannot be compared. Name two or more."),
        ([], "Missing argument 'RESULT"),
        (["{half}", "{whole}", "--threshold", "0.07"], "--threshold 0.07 is not of the sweep"),
        (["{half}", "{whole}", "--threshold", "much"], "--threshold"),
        (["{half}", "{whole}", "--published", "cdd-cesn"], "Did you mean 'cdd-cesm'?"),
        (["{half}", "{whole}", "--format", "markdwon"], "Did you mean 'markdown'?"),
        (["{half}", "{whole}", "--resamples", "-1"], "--resamples"),
        (["{half}", "{whole}", "--out", "{half}/scores.json"], "scores.json is a file. Name a folder."),
        (["{half}", "{whole}", "--out", "{half}/scores.json/deeper"], "could not be written"),
    ],
)
def test_wrong_input_is_one_line(dataset, results, arguments, text, capsys):
    half, whole = results
    assert run(*(argument.format(dataset=dataset, half=half, whole=whole) for argument in arguments)) == 2
    assert_one_line(capsys.readouterr(), text)


def assert_one_line(printed, text):
    assert text in printed.err
    assert printed.err.startswith("mammoprep: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(("name", "text"), [("tables.npz", "is no table of results"), ("scores.json", "not readable")])
def test_broken_file_is_one_line(results, name, text, capsys):
    (results[1] / name).write_bytes(b"{")
    assert run(*results) == 2
    assert_one_line(capsys.readouterr(), f"{results[1] / name} ")
    assert run(*results) == 2
    assert text in capsys.readouterr().err


def test_other_images_are_refused(dataset, results, tmp_path, capsys):
    few = shutil.copytree(dataset, tmp_path / "few")
    content = json.loads((few / "panoptic.json").read_text())
    content = {**content, "images": content["images"][:5], "annotations": content["annotations"][:5]}
    (few / "panoptic.json").write_text(json.dumps(content))
    other = score(few, shutil.copytree(few, tmp_path / "five"), tmp_path)
    assert run(results[0], other) == 2
    assert_one_line(capsys.readouterr(), "half and five were scored on other images.")


def test_other_matching_is_refused(dataset, results, tmp_path, capsys):
    other = score(dataset, predict(dataset, tmp_path / "lowered", 8), tmp_path, matching="paper")
    assert run(*results, other) == 2
    assert_one_line(capsys.readouterr(), "half and lowered were scored on other matching.")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mammoprep.cli import main\n"
        "try: main(['compare', '--help'])\n"
        f"except SystemExit: assert not set({HEAVY}) & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--published" in done.stdout


def test_names_are_shown_whole_and_as_they_are(results, tmp_path, capsys):
    """Neither cut to the screen nor read as markup."""
    long = tmp_path / "results" / f"m-odise[bold]-{'seed' * 20}[x]"
    results[0].rename(long)
    assert run(long, results[1], "--resamples", "20") == 0
    text = capsys.readouterr().out
    assert text.count(long.name) == 2  # in the table, and in the heading of the differences


def test_results_on_another_ground_truth_are_refused(dataset, results, tmp_path, capsys):
    """Same images, patients and classes, but the masks were made anew."""
    content = json.loads((dataset / "panoptic.json").read_text())
    other = tmp_path / "other"
    assert main_of("evaluate", dataset, tmp_path / "half", "--out", other, "--resamples", "0") == 0
    content["annotations"][0]["segments_info"][0]["bbox"] = [0, 0, 1, 1]
    (dataset / "panoptic.json").write_text(json.dumps(content))
    assert main_of("evaluate", dataset, tmp_path / "half", "--out", tmp_path / "new", "--resamples", "0") == 0
    capsys.readouterr()
    assert run(other, tmp_path / "new") == 2
    assert "were scored on other ground truth" in capsys.readouterr().err
