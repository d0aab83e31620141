"""`mammoprep predict` on the command line: data sets, folders and single files."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from safetensors.torch import load_file, save_file

from mammoprep import panoptic
from mammoprep.cli import main
from mammoprep.pseudonyms import load_key
from mammoprep_model import trainer
from mammoprep_model.config import Preset

pytestmark = pytest.mark.usefixtures("fake_network")
PLAIN = "--no-pseudonymise"


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
    assert run(moved, picture, tmp_path / "out", PLAIN) == 0
    assert [image.name for image in panoptic.load(tmp_path / "out").images] == ["one"]


def test_a_folder_of_files_gets_names_of_its_own(trained: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(trained, pictures, out, PLAIN) == 0
    images = panoptic.load(out).images
    assert [(image.id, image.name) for image in images] == [(1, "a.jpg"), (2, "b"), (3, "large"), (4, "b-2")]
    assert [(image.height, image.width) for image in images] == [(60, 40), (60, 40), (1024, 500), (60, 40)]


def test_a_file_that_cannot_be_read_is_named(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run(trained, pictures, tmp_path / "out", PLAIN) == 2
    assert "broken.png could not be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_loose_files_get_the_pseudonyms_that_a_conversion_gives_them(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "house" / "key"
    key.parent.mkdir()
    assert run(trained, pictures, tmp_path / "out", "--key", key) == 0
    names = load_key(key)
    called = sorted(names.of_file(path) for path in ("a.jpg.png", "b.png", "large.png", "other/b.png"))
    assert [image.name for image in panoptic.load(tmp_path / "out").images] == called
    assert f"{called[0]}," in key.with_name("key.csv").read_text()

    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run(trained, pictures, tmp_path / "again", "--key", key) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"mammoprep: {names.of_file('broken.png')} could not be read")
    assert error.endswith(f"{key}.csv leads to the name.")


def test_a_data_set_keeps_its_names(
    dataset: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained, dataset, tmp_path / "out", "--pseudonymise") == 2
    assert "is a DATASET, whose names are kept" in capsys.readouterr().err


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


def mammogram(path: Path, *, frames: int = 1, **values: str) -> Path:
    """Write a mammogram of 60 x 40 pixels, bright in its lower half, as an archive has it."""
    content = Dataset()
    uids = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2", "SOPInstanceUID": "1.2.3.1"}
    uids |= {"StudyInstanceUID": "1.2.3.2", "SeriesInstanceUID": "1.2.3.3"}
    people: Mapping[str, str] = {"PatientName": "Doe^Jane", "PatientID": "PID-7", "PatientBirthDate": "19600101"}
    for keyword, value in {**uids, **people, "Modality": "MG", "ImageLaterality": "R", **values}.items():
        setattr(content, keyword, value)
    content.Rows, content.Columns, content.SamplesPerPixel, content.NumberOfFrames = 60, 40, 1, frames
    content.PhotometricInterpretation, content.PixelRepresentation = "MONOCHROME2", 0
    content.BitsAllocated = content.BitsStored = 8
    content.HighBit = 7
    content.PixelData = (bytes(30 * 40) + b"\xff" * 30 * 40) * frames
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.save_as(path, enforce_file_format=True)
    return path


def find_bright_pixels(trained: Path) -> None:
    """Change a run's weights: the first class is what is bright, in one mask, and no other mask has a pixel."""
    tensors = {name: torch.zeros_like(tensor) for name, tensor in load_file(trained / "model.safetensors").items()}
    tensors["0.weight"][0], tensors["0.weight"][1] = 1, -1  # the first group's mean is 0, whatever the image
    tensors["1.weight"][0] = 1
    tensors["2.weight"][0, 0] = 6
    tensors["2.bias"].copy_(torch.tensor([-6.0, -9, -9, -9]))
    save_file(tensors, trained / "model.safetensors")


def sizes(out: Path) -> dict[str, tuple[int, int]]:
    return {image.name: (image.height, image.width) for image in panoptic.load(out).images}


def test_native_writes_loose_files_at_their_own_size(trained: Path, pictures: Path, tmp_path: Path) -> None:
    assert run(trained, pictures, tmp_path / "out", "--native", PLAIN) == 0
    assert sizes(tmp_path / "out") == {"a.jpg": (60, 40), "b": (60, 40), "large": (2048, 1000), "b-2": (60, 40)}


def test_native_writes_a_data_set_at_the_size_of_its_originals(dataset: Path, trained: Path, tmp_path: Path) -> None:
    lines = [f"case-{number},144,96,0,0" for number in range(1, 7)]
    heading = "image_id,native_height,native_width,crop_x0,crop_y0"
    (dataset / "cases.csv").write_text("\n".join([heading, *lines]))
    assert run(trained, dataset, tmp_path / "out", "--native") == 0
    assert set(sizes(tmp_path / "out").values()) == {(144, 96)}


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("case-1,144,96,5,0", "case-1 is a part of its original"),
        ("case-1,144,,0,0", "does not give the native size of case-1"),
        ("case-7,144,96,0,0", "does not give the native size of case-1"),
    ],
)
def test_a_data_set_that_does_not_know_its_originals_is_refused(
    dataset: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: str, line: str
) -> None:
    (dataset / "cases.csv").write_text(f"image_id,native_height,native_width,crop_x0,crop_y0\n{row}\n")
    assert run(trained, dataset, tmp_path / "out", "--native") == 2
    assert line in capsys.readouterr().err


def test_views_are_joined_and_windows_larger_than_trained_are_noted(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained, pictures / "b.png", tmp_path / "out", "--tiles=2", "--flip", "--device=cpu", PLAIN) == 0
    assert sizes(tmp_path / "out") == {"b": (60, 40)}
    assert "--tiles 2 shows lesions larger than the run saw in training (up to 1.2 times)" in capsys.readouterr().err


def test_a_cpu_says_how_long_it_will_take(
    dataset: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained, dataset, tmp_path / "out", "--device=cpu", "--batch-size=2") == 0
    assert "for 6 images on this CPU" in capsys.readouterr().err
    assert run(trained, dataset, tmp_path / "more", "--device=cpu", "--batch-size=6") == 0
    assert "on this CPU" not in capsys.readouterr().err


def test_dicom_seg_says_what_the_panoptic_map_says(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = mammogram(tmp_path / "right.dcm"), tmp_path / "out"
    find_bright_pixels(trained)
    assert run(trained, source, out, "--dicom-seg", "--tiles=2", "--json", PLAIN) == 0
    printed = capsys.readouterr()
    (image,) = panoptic.load(out).images
    lesions = [segment for segment in image.segments if segment.category_id <= 2]
    assert json.loads(printed.out)["dicom_seg"] == len(lesions) == 1
    assert "Doe" not in printed.out + printed.err
    content = pydicom.dcmread(out / "dicom-seg" / "right.dcm")
    ids = panoptic.load(out).ids_of(image)
    assert [int(content.pixel_array[row, 20]) for row in (2, 27, 32, 57)] == [0, 0, 1, 1]
    assert (content.pixel_array == (ids == lesions[0].id)).all()
    algorithm = content.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == trained.name
    assert algorithm.AlgorithmVersion.startswith("0.1.0+")
    assert content.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.1"
    assert {path.name for path in out.iterdir()} >= {"panoptic.json", "instances.json", "dicom-seg"}


@pytest.mark.parametrize(
    ("which", "line"),
    [
        ("png", "b.png is no DICOM file"),
        ("dataset", "is a DATASET, which holds no DICOM files"),
        ("study", "no valid StudyInstanceUID"),
    ],
)
def test_without_a_mammogram_to_refer_to_there_is_no_dicom_seg(
    dataset: Path,
    trained: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    which: str,
    line: str,
) -> None:
    sources = {"png": pictures / "b.png", "dataset": dataset}
    (dataset / "cases.csv").write_text(
        "image_id,native_height,native_width,crop_x0,crop_y0\n" + "".join(f"case-{n},96,64,0,0\n" for n in range(1, 7))
    )
    source = sources.get(which) or mammogram(tmp_path / "one.dcm", StudyInstanceUID="")
    assert run(trained, source, tmp_path / "out", "--dicom-seg", PLAIN) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_more_than_one_frame_is_named(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = mammogram(tmp_path / "tomo.dcm", frames=2)
    assert run(trained, source, tmp_path / "out", PLAIN) == 2
    assert capsys.readouterr().err == (
        f"mammoprep: {source} could not be read: the file has more than one frame. Take it out of the folder.\n"
    )
