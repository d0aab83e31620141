"""`mammoprep gallery` on the command line: a DATASET, PREDICTIONS, a RUN; what is wrong in one line."""

import json
import shutil

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.cli import main


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


@pytest.fixture
def predictions(dataset, tmp_path):
    """The truth of the first fold's images as its prediction."""
    folder = tmp_path / "run/fold-0/predictions"
    shutil.copytree(dataset / "panoptic", folder / "panoptic")
    held_out, _ = panoptic.load_fold(dataset, 0)[::-1]
    data = panoptic.load(dataset)
    images = [image for image in data.images if image.id in held_out]
    panoptic.write_panoptic(folder, categories=data.categories, images=images)
    return folder


@pytest.fixture
def run_folder(dataset, predictions):
    folder = predictions.parents[1]
    panoptic.write_json(folder / "run.json", {"dataset": str(dataset), "folds": [0]})
    return folder


def test_data_set_gets_its_pages(dataset, capsys):
    assert run("gallery", dataset) == 0
    assert (dataset.parent / "dataset-gallery/index.html").is_file()
    printed = capsys.readouterr()
    assert "6" in printed.out
    assert "dataset-gallery/index.html written" in printed.err.replace("\n", "")


def test_run_shows_its_validation_images_and_scores(run_folder, capsys):
    assert run("evaluate", run_folder, "--resamples", 0) == 0
    capsys.readouterr()
    assert run("gallery", run_folder, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], result["unpredicted"], result["verdicts"]) == (2, 4, {"hit": 2})
    assert result["scores"] is True
    assert result["page"] == str(run_folder / "gallery/index.html")


def test_who_was_told_where_the_lesions_are_bears_a_footnote(dataset, predictions, tmp_path):
    for prompts, footnote in (("grid", "null"), ("ground-truth", '"\\u2020 Predicted with prompts')):
        (predictions / "manifest.json").write_text(json.dumps({"prompts": prompts}))
        assert run("gallery", dataset, predictions, "--out", tmp_path / prompts) == 0
        assert f'"footnote":{footnote}' in (tmp_path / prompts / "data" / "index.js").read_text()


def test_predictions_beside_their_data_set_or_on_it(dataset, predictions, tmp_path, capsys):
    assert run("gallery", dataset, predictions) == 0
    assert (predictions.parent / "predictions-gallery/index.html").is_file()
    assert run("gallery", predictions, "--on", dataset, "--out", tmp_path / "pages") == 0
    assert (tmp_path / "pages/index.html").is_file()
    assert "hit" in capsys.readouterr().out


def test_page_is_opened_where_that_is_asked_for(dataset, monkeypatch):
    import webbrowser

    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert run("gallery", dataset, "--open") == 0
    assert opened == [(dataset.parent / "dataset-gallery/index.html").as_uri()]


def test_marks_of_the_pages_reach_convert(tmp_path, capsys):
    from mammoprep import phantom

    phantom.write(tmp_path / "raw", patients=2, seed=0, long_side=160)
    assert run("convert", "vindr", tmp_path / "raw", tmp_path / "data", "--long-side", 64) == 0
    assert run("gallery", tmp_path / "data") == 0
    text = (tmp_path / "data-gallery/data/index.js").read_text()
    index = json.loads(text.removeprefix("window.GALLERY = ").removesuffix(";\n"))
    image = next(row for row in index["images"] if row["lesions"])
    mark = {"image": image["name"], "finding": image["lesions"][0]["source"], "mark": "reject", "comment": ""}
    marks = {"format": 1, "dataset": index["review"]["dataset"], "marks": [mark]}
    panoptic.write_json(tmp_path / "review.json", marks)
    arguments = ("convert", "vindr", tmp_path / "raw", tmp_path / "again", "--review", tmp_path / "review.json")
    assert run(*arguments, "--long-side", 80) == 0
    assert "rejected in review" in (tmp_path / "again/skipped.csv").read_text()
    before, after = (len(panoptic.load_instances(tmp_path / name)["annotations"]) for name in ("data", "again"))
    assert after == before - 1


def test_review_of_pseudonymised_data_needs_their_key(tmp_path, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    panoptic.write_png(raw / "anna.png", np.tile(np.arange(60, dtype=np.uint8), (80, 1)))
    (raw / "boxes.csv").write_text("image,patient,xmin,ymin,xmax,ymax,class\nanna.png,p1,5,5,40,40,mass\n")
    assert run("convert", "folder", raw, tmp_path / "data") == 0
    assert run("gallery", tmp_path / "data", "--raw", raw) == 0
    pages = b"".join(path.read_bytes() for path in (tmp_path / "data-gallery").rglob("*.js"))
    assert b"anna" not in pages
    index = json.loads(pages[pages.index(b"GALLERY = ") + 10 :].split(b";\n")[0])
    image = index["images"][0]
    mark = {"image": image["name"], "finding": image["lesions"][0]["source"], "mark": "reject"}
    panoptic.write_json(tmp_path / "r.json", {"format": 1, "dataset": index["review"]["dataset"], "marks": [mark]})
    again = ("convert", "folder", raw, tmp_path / "again", "--review", tmp_path / "r.json", "--dry-run", "--json")
    capsys.readouterr()
    assert run(*again) == 2
    assert "its --key if it has one" in capsys.readouterr().err
    assert run(*again, "--key", tmp_path / "data.key") == 0
    assert json.loads(capsys.readouterr().out)["skipped"]["selection"] == {"rejected in review": 1}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("{predictions}",), "say --on DATASET"),
        (("{dataset}", "{predictions}", "--on", "{dataset}"), "--on names the DATASET"),
        (("{dataset}", "{dataset}/images"), "holds no predictions"),
        (("{dataset}/nowhere",), "does not exist"),
        (("{dataset}", "--scores", "{dataset}"), "scores.json does not exist"),
        (("{dataset}", "--raw", "{dataset}/nowhere"), "does not exist"),
        (("{dataset}", "--out", "{dataset}"), "Name an --out of its own"),
        (("{dataset}", "--out", "{dataset}/panoptic.json"), "is a file"),
    ],
)
def test_wrong_input_is_one_line(dataset, predictions, capsys, arguments, text):
    places = {"dataset": dataset, "predictions": predictions}
    assert run("gallery", *(argument.format(**places) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not list(dataset.parent.glob("*gallery*"))
