"""Which data set a raw folder looks like, and what is said of a wrong one."""

import subprocess
import sys
from pathlib import Path

import pytest

from mammoprep.errors import MammoprepError
from mammoprep.readers import READERS, check_root, recognise

VINDR, CDD_CESM = READERS["vindr"], READERS["cdd-cesm"]
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def error_of(reader, root):
    with pytest.raises(MammoprepError) as caught:
        check_root(reader, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def folder(root, *names):
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).touch() if "." in name else (root / name).mkdir()
    return root


def test_readers_are_listed_by_their_names():
    assert {name: reader.name for name, reader in READERS.items()} == {name: name for name in READERS}
    assert READERS.keys() >= {
        "vindr",
        "cdd-cesm",
        "cbis-ddsm",
        "inbreast",
        "csaw-cc",
        "mini-mias",
        "cmmd",
        "folder",
        "coco",
    }


def test_the_first_scheme_is_the_default():
    assert tuple(VINDR.labels) == ("birads", "breast-birads", "finding")
    assert tuple(CDD_CESM.labels) == ("pathology", "birads")


def test_importing_the_readers_imports_nothing_heavy():
    heavy = "pandas", "cv2", "openpyxl", "numpy", "torch"
    code = f"import sys, mammoprep.readers; sys.exit(sum(name in sys.modules for name in {heavy!r}))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("finding_annotations.csv", "vindr"),
        ("Finding Annotations.CSV", "vindr"),
        ("breast-level_annotations.csv", "vindr"),
        ("Radiology_hand_drawn_segmentations_v2.csv", "cdd-cesm"),
        ("Radiology-manual-annotations.xlsx", "cdd-cesm"),
        ("Radiology manual annotations.xlsx", "cdd-cesm"),
        ("Low energy images of CDD-CESM", "cdd-cesm"),
        ("INbreast.csv", "inbreast"),
        ("INbreast.xls", "inbreast"),
        ("AllXML", "inbreast"),
        ("CSAW-CC_mask_annotations.csv", "csaw-cc"),
        ("mdb001.pgm", "mini-mias"),
        ("all-mias", "mini-mias"),
        ("CMMD_clinicaldata_revision.xlsx", "cmmd"),
        ("calc_case_description_test_set.csv", "cbis-ddsm"),
    ],
)
def test_a_raw_folder_is_recognised_by_the_names_in_it(tmp_path, name, reader):
    found = recognise(folder(tmp_path, name))

    assert found is not None
    assert found.name == reader


def test_kaggles_copy_of_cbis_ddsm_is_recognised_by_its_tables(tmp_path):
    folder(tmp_path / "csv", "mass_case_description_train_set.csv", "dicom_info.csv")

    assert recognise(folder(tmp_path, "jpeg")) is READERS["cbis-ddsm"]
    assert check_root(READERS["cbis-ddsm"], tmp_path) is None


def test_other_folders_are_not_recognised(tmp_path):
    assert recognise(tmp_path) is None
    assert recognise(tmp_path / "nowhere") is None


def test_the_right_folder_passes(tmp_path):
    assert check_root(VINDR, folder(tmp_path, "finding_annotations.csv")) is None


def test_a_wrong_path(tmp_path):
    assert error_of(VINDR, tmp_path / "nowhere").endswith(
        "nowhere does not exist. Name the folder of VinDr-Mammo that holds finding_annotations.csv."
    )


def test_a_wrong_path_where_any_folder_will_do(tmp_path):
    assert error_of(READERS["folder"], tmp_path / "nowhere").endswith(
        "nowhere does not exist. Name the folder that holds the images."
    )


def test_a_file(tmp_path):
    (tmp_path / "raw.zip").touch()

    assert "raw.zip is a file." in error_of(VINDR, tmp_path / "raw.zip")


def test_an_empty_folder(tmp_path):
    assert "is empty." in error_of(CDD_CESM, folder(tmp_path, ".DS_Store"))


def test_another_data_set_names_its_command(tmp_path):
    root = folder(tmp_path, "Radiology-manual-annotations.xlsx")

    assert error_of(VINDR, root).endswith("looks like CDD-CESM; use `mammoprep convert cdd-cesm`.")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("train_images", "RSNA"),
    ],
)
def test_a_data_set_without_a_reader_is_named(tmp_path, name, title):
    assert f"looks like {title}" in error_of(VINDR, folder(tmp_path, name))


def test_a_data_set_of_ours_is_named(tmp_path):
    assert "was written by mammoprep" in error_of(VINDR, folder(tmp_path, "panoptic.json", "cases.csv"))


def test_a_folder_too_high_names_the_right_one(tmp_path):
    folder(tmp_path / "1.0.0", "finding_annotations.csv")

    assert error_of(VINDR, tmp_path).endswith(f"Name {tmp_path / '1.0.0'}.")


def test_an_unknown_folder(tmp_path):
    assert "does not look like VinDr-Mammo." in error_of(VINDR, folder(tmp_path, "notes.txt"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real test files are not beside the project")
def test_real_folders_are_told_apart():
    assert recognise(SHARED / "cdd-cesm-mini") is CDD_CESM
    assert "looks like CBIS-DDSM" in error_of(VINDR, SHARED / "cbis-ddsm")
    assert error_of(CDD_CESM, SHARED / "cmmd").endswith("looks like CMMD; use `mammoprep convert cmmd`.")
