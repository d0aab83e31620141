"""Which file a name means, and what leaves the folder."""

import os

import pytest

from mammoprep.errors import MammoprepError
from mammoprep.exports import Files
from mammoprep.exports.files import image_ids, patient_of, patient_pattern, walk

FILES = Files(["p1/left/a.png", "p1/right/a.png", "p2/B.DCM", "p2/1.2.840", "c.png"])


@pytest.mark.parametrize(
    ("name", "beside", "found"),
    [
        ("p1/left/a.png", "", "p1/left/a.png"),
        ("p1\\left\\a.png", "", "p1/left/a.png"),
        ("left/a.png", "", "p1/left/a.png"),
        ("left/a", "", "p1/left/a.png"),
        ("a", "p1/right", "p1/right/a.png"),
        ("../left/a.png", "p1/right", "p1/left/a.png"),
        ("b", "", "p2/B.DCM"),
        ("b.dcm", "", "p2/B.DCM"),
        ("1.2.840", "", "p2/1.2.840"),
        ("./c.png", "", "c.png"),
    ],
)
def test_a_name_means_one_file(name, beside, found):
    assert FILES.find(name, beside=beside) == found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.png", "several files have that name"),
        ("z.png", "no image file has that name"),
        ("ight/a.png", "no image file has that name"),
        ("", "no image is named"),
        ("../c.png", "the path leaves the raw folder"),
        ("p1/../../c.png", "the path leaves the raw folder"),
        ("/etc/passwd", "the path leaves the raw folder"),
        ("C:\\data\\c.png", "the path leaves the raw folder"),
    ],
)
def test_a_name_that_means_none_says_why(name, reason):
    with pytest.raises(LookupError, match=reason):
        FILES.find(name)


def test_hidden_files_and_links_out_of_the_folder_are_told_apart(tmp_path):
    root = tmp_path / "raw"
    (root / "b" / ".git").mkdir(parents=True)
    for name in ("a.png", "b/c.png", ".DS_Store", "b/.git/x.png", "~$t.xlsx"):
        (root / name).touch()
    (tmp_path / "secret.png").touch()
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "in.png").symlink_to(root / "a.png")
    (root / "d").symlink_to(tmp_path, target_is_directory=True)

    assert walk(root) == (["a.png", "b/c.png", "in.png"], ["out.png"])


def test_ids_are_names_until_names_repeat():
    assert image_ids(["x/a b.png", "x/c.png"]) == {"x/a b.png": "a_b", "x/c.png": "c"}
    assert image_ids(["x/a.png", "y/A.png"]) == {"x/a.png": "x_a", "y/A.png": "y_A"}
    assert image_ids(["a.png", "a.dcm"]) == {"a.dcm": "000001", "a.png": "000002"}


def test_the_patient_is_the_first_group_of_the_pattern():
    assert patient_of(patient_pattern(r"(P\d+)_"), "x/P12_L.png") == "P12"
    assert patient_of(patient_pattern(r"P\d+"), "x/P12_L.png") == "P12"
    assert patient_of(patient_pattern(r"Q"), "x/P12_L.png") == ""
    assert patient_of(patient_pattern(""), "x/P12_L.png") == ""


def test_a_pattern_that_is_none_is_one_line():
    with pytest.raises(MammoprepError, match="is no regular expression"):
        patient_pattern("(")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "image")
    with pytest.raises(MammoprepError, match="image is no file, but a pipe or a device"):
        walk(tmp_path)


def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    assert walk(tmp_path) == (["a.png"], [])


def test_ids_that_no_file_can_be_called_by_are_numbers():
    folder = "/".join(["x" * 60] * 4)
    assert image_ids([f"{folder}/1/a.png", f"{folder}/2/a.png"]) == {
        f"{folder}/1/a.png": "000001",
        f"{folder}/2/a.png": "000002",
    }
