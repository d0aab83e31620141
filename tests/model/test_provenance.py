"""What a run was made from is named exactly, and code outside a checkout has no commit."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from mammoprep_model import provenance


def test_the_manifest_is_hashed_and_panoptic_json_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "panoptic.json").write_bytes(b"p")
    assert provenance.data_hash(tmp_path) == hashlib.sha256(b"p").hexdigest()
    (tmp_path / "manifest.json").write_bytes(b"m")
    assert provenance.data_hash(tmp_path) == hashlib.sha256(b"m").hexdigest()


def test_versions_name_python_and_torch() -> None:
    assert {"python", "torch", "numpy"} <= set(provenance.versions())


def test_a_folder_without_git_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "mammoprep_model" / "provenance.py"))
    assert provenance.git_commit() is None
    (tmp_path / ".git").mkdir()
    assert provenance.git_commit() is None


def test_a_checkout_gives_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "mammoprep_model" / "provenance.py"))
    done = subprocess.CompletedProcess([], 0, stdout="abc\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert provenance.git_commit() == "abc"
