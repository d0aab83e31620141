"""The journal: it survives a kill, and belongs to one set of options, and to one process at a time."""

import errno
import fcntl
import os
import subprocess
import sys
import zlib

import pytest

from mammoprep import panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Journal

HEADER = {"options": {"bits": 8, "stuff": ["breast"]}, "inputs": {"table.csv": "aa"}}


def written(path, *entries):
    """Append entries; give the path of the journal."""
    with panoptic.locked(path) as file:
        journal = Journal(file, path, header=HEADER)
        for entry in entries:
            journal.append(entry)
    return path


def reopened(path, header=HEADER):
    with panoptic.locked(path) as file:
        return list(Journal(file, path, header=header).entries())


def test_a_line_is_the_crc_of_its_json_and_the_json(tmp_path):
    path = written(tmp_path / "journal", {"number": 1})
    assert path.read_bytes().splitlines()[1] == b"%08x " % zlib.crc32(b'{"number": 1}') + b'{"number": 1}'


def test_entries_come_back_from_earlier_runs_and_this_one(tmp_path):
    path = written(tmp_path / "journal", {"number": 1}, {"number": 2, "text": "é\n"})
    written(path, {"number": 3})
    assert reopened(path) == [{"number": 1}, {"number": 2, "text": "é\n"}, {"number": 3}]


@pytest.mark.parametrize("cut", [1, 5, 22])
def test_a_torn_last_line_is_cut_off_and_written_anew(tmp_path, cut):
    path = written(tmp_path / "journal", {"number": 1}, {"number": 2})
    path.write_bytes(path.read_bytes()[:-cut])

    assert reopened(written(path, {"number": 9})) == [{"number": 1}, {"number": 9}]


@pytest.mark.parametrize("torn", [b"\0" * 4096, b"\0\0\n\0\n", b'00000000 {"number": 2}\n'])
def test_what_a_dying_machine_leaves_at_the_end_is_cut_off(tmp_path, torn):
    path = written(tmp_path / "journal", {"number": 1})
    with path.open("ab") as file:
        file.write(torn)

    assert reopened(written(path, {"number": 9})) == [{"number": 1}, {"number": 9}]


def test_damage_before_a_whole_line_is_refused_and_nothing_is_cut(tmp_path):
    path = written(tmp_path / "journal", {"number": 1}, {"number": 2})
    path.write_bytes(path.read_bytes().replace(b'"number": 1', b'"number": 7'))
    before = path.read_bytes()

    with pytest.raises(MammoprepError, match="journal is damaged in line 2"):
        reopened(path)
    assert path.read_bytes() == before


def test_a_line_that_a_full_disk_tore_is_no_entry(tmp_path):
    path = tmp_path / "journal"
    with panoptic.locked(path) as file:
        journal = Journal(file, path, header=HEADER)
        journal.append({"number": 1})
        with path.open("a") as other:
            other.write('0123abcd {"numb')
        assert list(journal.entries()) == [{"number": 1}]


def test_a_journal_whose_header_is_torn_begins_anew(tmp_path):
    path = tmp_path / "journal"
    path.write_text('0123abcd {"options": {"bi')
    assert reopened(path) == []


@pytest.mark.parametrize(
    ("header", "difference"),
    [
        (HEADER | {"options": {"bits": 16, "stuff": ["breast"]}}, "options bits = 8, now 16"),
        (HEADER | {"options": {"bits": 8}}, "options stuff = ['breast'], now None"),
        (HEADER | {"inputs": {"table.csv": "bb"}}, "inputs table.csv = aa, now bb"),
        (HEADER | {"labels": "finding"}, "labels = None, now finding"),
    ],
)
def test_another_header_is_refused_by_the_name_of_the_difference(tmp_path, header, difference):
    path = written(tmp_path / "journal", {"number": 1})

    with pytest.raises(MammoprepError) as refused:
        reopened(path, header)

    assert difference in str(refused.value)
    assert reopened(path) == [{"number": 1}]


def test_what_is_no_json_is_refused_before_it_is_written(tmp_path):
    path = tmp_path / "journal"
    with pytest.raises(ValueError, match="not JSON compliant"):
        written(path, {"area": float("nan")})
    assert reopened(path) == []


def test_a_second_process_is_refused_while_the_first_holds_the_folder(tmp_path):
    out = tmp_path / "out"
    with (
        panoptic.journaled(out, header=HEADER, existing="refuse"),
        pytest.raises(MammoprepError, match=r"^Another process is writing \S+/out\."),
        panoptic.journaled(out, header=HEADER, existing="overwrite"),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_killed_process_leaves_no_lock_and_its_work(tmp_path):
    script = f"""
import os, signal
from pathlib import Path
from mammoprep import panoptic
with panoptic.journaled(Path({str(tmp_path / "out")!r}), header={HEADER!r}, existing="refuse") as (folder, journal):
    (folder / "a").write_text("1")
    journal.append({{"image": 1}})
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    with panoptic.journaled(tmp_path / "out", header=HEADER, existing="resume") as (folder, journal):
        assert list(journal.entries()) == [{"image": 1}]
        (folder / "b").write_text("2")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_lock_on_a_file_that_was_deleted_meanwhile_is_none(tmp_path, monkeypatch):
    """The first process ends, and deletes the file, between the second one's opening and locking it."""
    path, genuine, left = tmp_path / "lock", fcntl.flock, [1]

    def flock(file, how):
        if left.pop() if left else 0:
            path.unlink()
        genuine(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with panoptic.locked(path) as file:
        assert os.path.samestat(os.fstat(file.fileno()), path.stat())


def test_a_share_that_knows_no_locks_is_written_without(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with panoptic.journaled(tmp_path / "out", header=HEADER, existing="refuse") as (folder, _):
        (folder / "a").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# The moments of a swap, in the order in which a kill can meet them.


@pytest.mark.parametrize("existing", ["resume", "overwrite"])
@pytest.mark.parametrize("moment", range(5))
def test_a_kill_at_any_rename_of_a_swap_leaves_one_whole_folder(tmp_path, moment, existing):
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text("old")
    script = f"""
import os, shutil, signal
from pathlib import Path
from mammoprep import panoptic
def killing(call, left=[{moment}]):
    def until(*arguments, **named):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return call(*arguments, **named)
    return until
with panoptic.journaled(Path({str(out)!r}), header={HEADER!r}, existing="overwrite") as (folder, journal):
    (folder / "run.json").write_text("new")
    journal.append({{"image": 1}})
    os.replace, shutil.rmtree = killing(os.replace), killing(shutil.rmtree)
"""
    subprocess.run([sys.executable, "-c", script], check=False)

    whole = (out / "run.json").read_text() if out.exists() else None
    assert whole in (None, "old", "new")
    panoptic.tidy(out)
    assert (out / "run.json").read_text() == (whole or "old")
    if whole != "new":
        with panoptic.journaled(out, header=HEADER, existing=existing) as (folder, journal):
            assert list(journal.entries()) == ([{"image": 1}] if existing == "resume" else [])
            (folder / "run.json").write_text("new")
    assert (out / "run.json").read_text() == "new"
    panoptic.tidy(out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_was_made_for_the_lock_alone_goes_with_it(tmp_path):
    with panoptic.locked(tmp_path / "a" / "b" / "lock"):
        pass
    assert not list(tmp_path.iterdir())
    with panoptic.locked(tmp_path / "a" / "b" / "lock"):
        (tmp_path / "a" / "result").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["result"]
