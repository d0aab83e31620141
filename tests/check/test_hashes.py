"""What the disk, or a hand, changed since it was written is told by its hash; what was mended gets a new one."""

import json
import shutil

import pytest

from mammoprep import panoptic
from mammoprep.check import check, hashes
from mammoprep.errors import MammoprepError
from mammoprep.parallel import Workers


@pytest.fixture
def copied(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "copied")


def found(root, **options):
    return [(problem.rule, problem.where, problem.what) for problem in check(root, **options).problems]


@pytest.mark.parametrize("name", ["images/two.png", "panoptic/three.png", "skipped.csv"])
def test_a_changed_byte_is_found_whatever_the_file_still_says(copied, name):
    content = (copied / name).read_bytes()
    ending = b"\n" if name.endswith(".csv") else content[-12:]  # a chunk of text more, which no rule reads
    chunk = b"\0\0\0\2tEXta\0" + bytes.fromhex("00000000")
    changed = content.replace(b"no image", b"no  image") if ending == b"\n" else content[:-12] + chunk + ending
    (copied / name).write_bytes(changed)
    assert ("hashes", name, "it is not what was written: its SHA-256 differs") in found(copied, workers=Workers(2))


def test_a_list_of_hashes_that_was_changed_or_is_gone_is_found(copied):
    lines = (copied / "SHA256SUMS").read_text().splitlines(keepends=True)
    (copied / "SHA256SUMS").write_text("".join(lines[1:]))
    assert found(copied) == [("hashes", "SHA256SUMS", "its SHA-256 is not that of manifest.json")]
    (copied / "SHA256SUMS").unlink()
    assert found(copied) == [("hashes", "SHA256SUMS", "it is missing, and manifest.json has its SHA-256")]


def test_a_file_that_is_listed_and_gone_is_found(copied):
    (copied / "skipped.csv").unlink()
    assert ("hashes", "skipped.csv", "it is missing, and SHA256SUMS lists it") in found(copied)


def test_a_file_that_was_mended_gets_its_new_hash(copied, change_csv):
    change_csv(copied / "cases.csv", lambda rows: rows[2].update(n_findings="5"))
    hashes.sign(copied, ["cases.csv"])
    assert found(copied, fix=True) == []


def test_a_file_that_was_changed_by_hand_gets_none_by_being_mended(copied, change_csv):
    change_csv(copied / "cases.csv", lambda rows: rows[2].update(n_findings="5", density="D"))
    assert [problem[:2] for problem in found(copied, fix=True)] == [("hashes", "cases.csv")]


def test_a_data_set_that_is_not_there_yet_is_called_unfinished(tmp_path):
    panoptic.partial_of(tmp_path / "out").mkdir()
    with pytest.raises(MammoprepError, match=r"out is unfinished: \S+out\.partial holds an interrupted run.*--resume"):
        check(tmp_path / "out")


def test_a_run_that_has_not_ended_is_called_unfinished(tmp_path):
    (tmp_path / "fold-0" / "predictions").mkdir(parents=True)
    (tmp_path / "fold-0" / "predictions" / "panoptic.json").touch()
    (tmp_path / "run.json").write_text(json.dumps({"folds": [0, 1, 2]}))
    with pytest.raises(MammoprepError, match=r"is unfinished: training has not ended: fold 1, 2 has no predictions"):
        check(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"fold": 0}))
    with pytest.raises(MammoprepError, match=r"panoptic\.json does not exist"):
        check(tmp_path)
