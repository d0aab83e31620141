"""`mammoprep predict` on the command line: data sets, folders and single files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.cli import main
from mammoprep_model import trainer
from mammoprep_model.config import Preset

pytestmark = pytest.mark.usefixtures("fake_network")


@pytest.fixture
def trained(dataset: Path, tmp_path: Path, small_preset: Preset) -> Path:
    return trainer.train(dataset, out=tmp_path / "run", preset=small_preset, session=trainer.Session(device="cpu"))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in ("predict", *arguments)])
    return int(str(ended.value.code))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    (root / "other").mkdir(parents=True)
    grey = np.full((60, 40), 90, dtype=np.uint8)
    for path in (root / "b.png", root / "a.jpg.png", root / "other" / "b.png"):
        panoptic.write_png(path, grey)
    panoptic.write_png(root / "large.png", np.full((2048, 1000), 90, dtype=np.uint8))
    (root / "notes.txt").write_text("no image")
    return root


def test_a_data_set_is_predicted_as_in_training(
    dataset: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(trained, dataset, out, "--device=cpu", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"predictions": str(out), "images": 6}
    assert [image.id for image in panoptic.load(out).images] == [1, 2, 3, 4, 5, 6]
    for path in (trained / "fold-0" / "predictions" / "panoptic").iterdir():
        assert path.read_bytes() == (out / "panoptic" / path.name).read_bytes()


def test_a_run_predicts_alone(dataset: Path, trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained, moved)
    (moved / "state.pt").unlink()
    shutil.rmtree(trained)
    picture = tmp_path / "one.png"
    shutil.copy(dataset / "images" / "case-1.png", picture)
    shutil.rmtree(dataset)
    assert run(moved, picture, tmp_path / "out") == 0
    assert [image.name for image in panoptic.load(tmp_path / "out").images] == ["one"]


def test_a_folder_of_files_gets_names_of_its_own(trained: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(trained, pictures, out) == 0
    images = panoptic.load(out).images
    assert [(image.id, image.name) for image in images] == [(1, "a.jpg"), (2, "b"), (3, "large"), (4, "b-2")]
    assert [(image.height, image.width) for image in images] == [(60, 40), (60, 40), (1024, 500), (60, 40)]


def test_a_file_that_cannot_be_read_is_named(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run(trained, pictures, tmp_path / "out") == 2
    assert "broken.png could not be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_categories_are_named(
    dataset: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    categories = panoptic.make_categories(["benign", "BI-RADS 4"])
    panoptic.write_panoptic(dataset, categories=categories, images=panoptic.load(dataset).images)
    assert run(trained, dataset, tmp_path / "out") == 2
    assert "it lacks BI-RADS 3 and it adds benign" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("which", "line"),
    [("run", "run.json does not exist"), ("source", "does not exist"), ("empty", "no DICOM"), ("out", "not empty")],
)
def test_a_mistake_is_one_line(
    trained: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], which: str, line: str
) -> None:
    (tmp_path / "empty").mkdir()
    run_folder = tmp_path if which == "run" else trained
    source = {"source": tmp_path / "nowhere", "empty": tmp_path / "empty"}.get(which, dataset)
    assert run(run_folder, source, dataset if which == "out" else tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
