"""An export is whole or not there, the same each time, and says what is wrong in one line."""

import json
import typing
from pathlib import Path

import pytest

from mammoprep import panoptic, targets
from mammoprep.cli.export import To
from mammoprep.errors import MammoprepError, MissingFileError
from mammoprep.targets import source

OPTIONS = {"yolo": {"fold": 0}}


def export(dataset, out, to, **options):
    return targets.export(dataset, out, options=targets.Options(to, **options))


def test_the_command_knows_every_target():
    assert typing.get_args(To) == tuple(targets.TARGETS)


@pytest.mark.parametrize("to", ["coco", "yolo", "nnunet", "cvat", "labelme", "hf"])
def test_the_same_bytes_for_any_number_of_workers(dataset, tmp_path, contents, monkeypatch, to):
    for count, name in ((1, "Dataset001_a"), (3, "Dataset001_b")):
        monkeypatch.setattr("mammoprep.targets.run.cpu_count", lambda count=count: count)
        export(dataset, tmp_path / name, to, **OPTIONS.get(to, {}))
    assert contents(tmp_path / "Dataset001_a") == contents(tmp_path / "Dataset001_b")


def test_the_folder_says_what_it_is(dataset, tmp_path):
    seen = []
    report = export(dataset, tmp_path / "out", "hf", fold=1, on_progress=lambda *done: seen.append(done))
    said = json.loads((tmp_path / "out" / "export.json").read_text())
    assert said.items() >= {"to": "hf", "fold": 1, "images": 4, "lesions": 6, "not_held": {}}.items()
    assert said["manifest_sha256"] == panoptic.file_hash(dataset / "manifest.json")
    assert (report.to_json().items() <= said.items(), seen) == (True, [(1, 4), (2, 4), (3, 4), (4, 4)])


def test_what_is_there_is_replaced_only_when_asked_for(dataset, tmp_path):
    export(dataset, tmp_path / "out", "cvat")
    with pytest.raises(MammoprepError, match="is not empty"):
        export(dataset, tmp_path / "out", "labelme")
    assert (tmp_path / "out" / "annotations.xml").is_file()
    export(dataset, tmp_path / "out", "labelme", overwrite=True)
    assert not (tmp_path / "out" / "annotations.xml").exists()


@pytest.mark.parametrize("missing", ["images/größe.png", "panoptic/größe.png", "cases.csv", "instances.json"])
def test_a_file_that_is_not_there_is_named_and_nothing_is_left(dataset, tmp_path, missing):
    (dataset / missing).unlink()
    with pytest.raises(MissingFileError, match=missing):
        export(dataset, tmp_path / "out", "coco")
    assert [path.name for path in tmp_path.iterdir()] == ["DATASET"]


@pytest.mark.parametrize(
    ("to", "options", "says"),
    [
        ("yolo", {}, "say --fold 0"),
        ("yolo", {"fold": 2}, "has no fold 2. Folds: 0 … 1"),
        ("nnunet", {"fold": 0}, "Leave out --fold. It gets all folds"),
        ("cvat", {"fold": 0}, "Leave out --fold"),
        ("coco", {"raw": Path("raw")}, "--raw is for dicom-seg alone"),
        ("dicom-seg", {}, "--raw is for dicom-seg alone"),
        ("nnunet", {}, "Call out like Dataset001_NAME"),
        ("coca", {}, "Did you mean 'coco'"),
    ],
)
def test_options_that_do_not_fit_are_refused(dataset, tmp_path, to, options, says):
    with pytest.raises(MammoprepError, match=says):
        export(dataset, tmp_path / "out", to, **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_inside_the_data_set_is_refused(dataset, tmp_path):
    for out in (dataset / "out", tmp_path):
        with pytest.raises(MammoprepError, match="hold one another"):
            export(dataset, out, "coco", overwrite=True)


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        export(tmp_path / "nowhere", tmp_path / "out", "coco")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_id": 99}, "99"),
        ({"category_id": 3}, "3"),
        ({"segmentation": [[1, 1, 5, 1, 5, 5]]}, "list indices"),
        ({"segmentation": {"size": [24, 20], "counts": "1"}}, "do not add up"),
        ({"segmentation": {"size": [20, 24], "counts": "1"}}, "of another size"),
        ({"segmentation": {"size": [24, 20], "counts": "P?"}}, "has no pixel"),
    ],
)
def test_a_lesion_that_cannot_be_drawn_is_named(dataset, tmp_path, change, says):
    content = panoptic.load_instances(dataset)
    content["annotations"][1] |= change
    panoptic.write_json(dataset / "instances.json", content)
    with pytest.raises(MammoprepError, match=rf"annotation 2 cannot be drawn \(.*{says}.*\)"):
        export(dataset, tmp_path / "out", "cvat")


def test_an_image_without_a_row_is_named(dataset):
    path = dataset / "cases.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("free,", "other,"), encoding="utf-8")
    with pytest.raises(MammoprepError, match="no row of the image free"):
        source.load(dataset)


def test_two_images_of_one_name_are_refused(dataset):
    path = dataset / "panoptic.json"
    path.write_text(path.read_text(encoding="utf-8").replace("free.png", "größe.png"), encoding="utf-8")
    with pytest.raises(MammoprepError, match="one file name to two images"):
        source.load(dataset)


def test_images_that_a_fold_leaves_out_are_counted(dataset, tmp_path):
    (dataset / "folds.json").write_text(json.dumps({"folds": [{"train": [1], "val": [2, 4]}]}))
    report = export(dataset, tmp_path / "out", "coco", fold=0)
    assert (report.images, report.not_held) == (3, {"images in neither part of the fold are left out": 1})


def test_a_split_without_a_lesion_is_refused_where_it_could_not_be_loaded(dataset, tmp_path):
    (dataset / "folds.json").write_text(json.dumps({"folds": [{"train": [1, 2, 4], "val": [3]}]}))
    with pytest.raises(MammoprepError, match="val has no lesion"):
        export(dataset, tmp_path / "out", "hf", fold=0)
    assert export(dataset, tmp_path / "out", "yolo", fold=0).lesions == 6


def test_the_command_says_on_stderr_what_is_not_held(dataset, tmp_path, capsys):
    from mammoprep.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(["export", str(dataset), str(tmp_path / "out"), "--to", "cvat", "--json"])
    printed = capsys.readouterr()
    assert stopped.value.code == 0
    assert json.loads(printed.out)["not_held"] == {
        "lesions lose the data set's facts (attributes)": 6,
        "segments of stuff (breast, background) are left out": 7,
    }
    assert printed.err.splitlines()[1] == (
        "cvat does not hold everything: 7 segments of stuff (breast, background) are left out."
    )


def test_without_json_it_says_what_was_written(dataset, tmp_path, capsys):
    from mammoprep.cli import main

    with pytest.raises(SystemExit):
        main(["export", str(dataset), str(tmp_path / "out"), "--to", "hf", "--fold", "0"])
    assert capsys.readouterr().out == f"4 images with 6 lesions for hf, fold 0: {tmp_path / 'out'}\n"
