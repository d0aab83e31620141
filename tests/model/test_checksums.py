"""A file is read where nothing is known of it or where it is what is known; else one line says who knows better."""

import hashlib
from pathlib import Path

import pytest

from mammoprep.errors import MammoprepError
from mammoprep_model import checksums

RIGHT = hashlib.sha256(b"right").hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "all" / "mam-e" / "unet" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"right")
    return path


def test_of_an_unknown_file_nothing_is_asked(file: Path):
    checksums.check([file])


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("mark", ["  ", " *"])
def test_sums_beside_or_above_are_believed(file: Path, at: int, mark: str):
    folder = file.parents[at]
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  other\n{RIGHT}{mark}{file.relative_to(folder).as_posix()}\n")
    checksums.check([file])
    file.write_bytes(b"wrong")
    with pytest.raises(
        MammoprepError, match=f"is damaged or another file: .* with {RIGHT[:12]} according to .*SHA256SUMS"
    ):
        checksums.check([file])


def test_the_hubs_cache_names_a_file_by_its_hash(tmp_path: Path):
    blob = tmp_path / "models--a--b" / "blobs" / RIGHT
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"right")
    link = tmp_path / "models--a--b" / "snapshots" / "abc" / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    checksums.check([link])
    blob.write_bytes(b"wrong!")
    with pytest.raises(MammoprepError, match="model.safetensors is damaged.*according to the Hugging Face hub"):
        checksums.check([link])


@pytest.mark.parametrize(("etag", "known"), [(RIGHT, True), ("a" * 40, False)])
def test_the_hubs_note_beside_a_download_is_believed_where_it_is_a_sha256(file: Path, etag: str, known: bool):
    note = file.parents[1] / ".cache" / "huggingface" / "download" / "unet" / "model.safetensors.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{'c' * 40}\n{etag}\n1700000000.0\n")
    file.write_bytes(b"other")
    if not known:  # small files have git's own hash there
        checksums.check([file])
        return
    with pytest.raises(MammoprepError, match="according to the Hugging Face hub"):
        checksums.check([file])


def test_a_file_is_hashed_once(file: Path, monkeypatch: pytest.MonkeyPatch):
    (file.parent / "SHA256SUMS").write_text(f"{RIGHT}  {file.name}\n")
    checksums.check([file])
    monkeypatch.setattr(checksums.panoptic, "file_hash", lambda _: pytest.fail("read again"))
    checksums.check([file])
