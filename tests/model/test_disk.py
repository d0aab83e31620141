"""A file is there whole or not at all, and a full disk is one line."""

from pathlib import Path

import pytest

from mammoprep.errors import MammoprepError
from mammoprep_model import disk


def test_a_file_is_replaced(tmp_path: Path) -> None:
    disk.write(tmp_path / "a", b"1")
    disk.write(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"2"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_keeps_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:1])
        raise error

    disk.write(tmp_path / "a", b"old")
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises((MammoprepError, KeyboardInterrupt), match=r"No space left|^$"):
        disk.write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
