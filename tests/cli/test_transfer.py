"""`mammoprep evaluate RUN --on OTHER_DATASET`: what is predicted, printed, kept and refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.cli import main
from mammoprep.evaluation import results
from mammoprep_model import checkpoint, trainer
from mammoprep_model.config import Preset

pytestmark = pytest.mark.usefixtures("fake_network")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in ("evaluate", *arguments, "--resamples=0", "--workers=1")])
    return int(str(ended.value.code))


@pytest.fixture
def trained(dataset: Path, tmp_path: Path, small_preset: Preset) -> Path:
    session = trainer.Session(device="cpu")
    return trainer.train(dataset, out=tmp_path / "run", preset=small_preset, fold="all", session=session)


@pytest.fixture
def other(dataset: Path, tmp_path: Path) -> Path:
    """The same scenes a shade darker, one lesion class, images 5 and 6 without a lesion."""
    root = shutil.copytree(dataset, tmp_path / "other")
    (root / "folds.json").unlink()
    images = []
    for image in panoptic.load(dataset).images:
        path, ids = root / "images" / f"{image.name}.png", panoptic.load(dataset).ids_of(image)
        panoptic.write_png(path, panoptic.read_png(path) - 1)
        ids = np.where((ids == 1) & (image.id > 4), 3, ids)
        panoptic.write_ids(root / "panoptic" / f"{image.name}.png", ids)
        labels = {1: 1, 3: 2, 4: 3}
        segments = tuple(
            panoptic.Segment(number, label, int((ids == number).sum()), panoptic.mask_box(ids == number))
            for number, label in labels.items()
            if (ids == number).any()
        )
        images.append(panoptic.Image(image.id, image.name, 48, 32, segments))
    panoptic.write_panoptic(root, categories=panoptic.make_categories(["cancer"]), images=images)
    return root


def test_each_network_predicts_the_other_collection_and_is_scored_there(
    trained: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained, "--on", other, "--json", "--device=cpu") == 0
    content = json.loads(capsys.readouterr().out)
    out, told = trained / "on" / "other", content["transfer"]
    assert told == json.loads((out / "transfer.json").read_text())
    assert {kind: row["images"] for kind, row in told["overlap"].items()} == {
        "all": 6,
        "with lesions": 4,
        "lesion-free": 2,
    }
    assert told["overlap"]["all"]["Dice"]["value"] == pytest.approx(content["dice"]["per_image"])
    assert (told["classes"], told["merged"], told["networks"], told["shared_patients"]) == (["lesion"], True, 3, 0)
    assert (content["images"], [fold["images"] for fold in content["folds"]]) == (6, [6, 6, 6])
    assert list(content["per_class"]) == ["lesion"]
    moved = 3 * 8 * 16 + 8 + 2 * 8 + (8 + 1) * 4  # the trained layers of the small network
    assert told["cost"] == {"parameters": moved, "gpu_memory": None, "seconds": told["cost"]["seconds"]}
    assert told["cost"]["seconds"] > 0
    assert results.load(out).title == "run on other"


def test_what_is_predicted_is_not_predicted_again(
    trained: Path, other: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(trained, "--on", other, "--device=cpu") == 0
    first = capsys.readouterr().out
    shutil.rmtree(trained / "on" / "other" / "fold-1")
    loaded: list[Path] = []
    load: Callable[..., object] = checkpoint.load

    def note(path: Path, **more: object) -> object:
        loaded.append(path)
        return load(path, **more)

    monkeypatch.setattr(checkpoint, "load", note)
    assert run(trained, "--on", other, "--device=cpu") == 0
    assert loaded == [trained / "fold-1"]
    assert capsys.readouterr().out == first
    for line in (
        "lesion-free * 2",
        "trained (M) GPU (GiB)",
        "all of them are one, called lesion",
        "counts sums over",
    ):
        assert line in " ".join(first.split()), line


def test_stuff_of_one_side_and_findings_of_no_class_are_said(
    trained: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Image 5 has a finding, of no class here: it is neither with lesions nor without."""
    content = json.loads((other / "panoptic.json").read_text())
    content["categories"][1]["name"] = "pectoral muscle"
    (other / "panoptic.json").write_text(json.dumps(content))
    (other / "cases.csv").write_text("image_id,patient_id,lesion_free\ncase-5,p5,0\n")
    assert run(trained / "fold-0", "--on", other, "--out", trained / "mine", "--device=cpu") == 0
    said = " ".join(capsys.readouterr().out.split())
    for line in (
        "all 6 ",
        "with lesions 4 ",
        "lesion-free * 1 ",
        "Images whose findings have no class here count in the first row alone: 1.",
        "Only one side has the class breast, pectoral muscle: it is not scored",
        "breast not given not given",
        "Not given: stuff.per_class.pectoral muscle.PQ, stuff.per_class.breast.PQ, stuff.dice.pectoral muscle,",
        "(only one of the two collections has this class)",
    ):
        assert line in said, line


def test_predictions_of_other_weights_are_not_taken_for_these(
    trained: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained / "fold-1", "--on", other, "--out", trained / "mine") == 0
    assert run(trained / "fold-1", "--on", other, "--out", trained / "mine") == 0
    shutil.copy(trained / "fold-2" / "model.safetensors", trained / "fold-1")
    capsys.readouterr()
    assert run(trained / "fold-1", "--on", other, "--out", trained / "mine") == 2
    assert (
        "predictions of other weights, other prompts or another data set. Name another --out."
        in capsys.readouterr().err
    )


def test_shared_patients_are_counted_and_refused(
    trained: Path, other: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two images are those of the training set, to the byte."""
    for name in ("case-1", "case-4"):
        shutil.copy(dataset / "images" / f"{name}.png", other / "images")
    assert run(trained, "--on", other) == 2
    error = capsys.readouterr().err
    assert "shares 2 patients with what the RUN was trained on" in error
    assert error.count("\n") == 1
    assert not (trained / "on").exists()
    assert run(trained, "--on", other, "--allow-overlap", "--device=cpu") == 0
    assert "2 patients are shared with what the networks were trained on: no fair score." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        ("unfinished", "is not finished: fold 2 has not been trained to its end. End it first: mammoprep train"),
        ("empty", "has no lesion, so nothing can be found in it."),
        ("weights", "fold-0/model.safetensors is not readable"),
        ("raw", "panoptic.json does not exist. Name a DATASET, as `mammoprep convert` writes it."),
        ("gone", "Without the data set of the RUN shared patients cannot be counted."),
        ("folds", "is not the one that"),
        ("needless", "--allow-overlap, --weights and --prompts are for a RUN --on another DATASET."),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_scores(
    trained: Path, other: Path, dataset: Path, capsys: pytest.CaptureFixture[str], damage: str, line: str
) -> None:
    if damage == "unfinished":
        shutil.rmtree(trained / "fold-2" / "predictions")
    if damage == "empty":
        content = json.loads((other / "panoptic.json").read_text())
        for entry in content["annotations"]:
            entry["segments_info"] = [s for s in entry["segments_info"] if s["category_id"] != 1]
        (other / "panoptic.json").write_text(json.dumps(content))
    if damage == "weights":
        (trained / "fold-0" / "model.safetensors").write_bytes(b"torn")
    if damage == "raw":
        other = dataset.parent
    if damage == "gone":
        shutil.move(dataset, dataset.with_name("elsewhere"))
    if damage == "folds":
        (dataset / "folds.json").write_text((dataset / "folds.json").read_text() + " ")
    capsys.readouterr()
    assert run(trained, *(("--allow-overlap",) if damage == "needless" else ("--on", other))) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not list(trained.glob("**/scores.json"))
