"""Disks that are full or read-only, shares that are gone, processes that are killed: one line, and nothing lost."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mammoprep import panoptic, phantom
from mammoprep.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms") / "raw"
    phantom.write(root, patients=2, long_side=256)
    return root


@pytest.fixture
def disk(tmp_path):
    """A disk of its own of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or not mount(folder, "size=64k", kind="tmpfs"):
        pytest.skip("a small disk can be mounted by root alone, where the system lets him")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def mount(folder, options, *, kind):
    command = ["mount", "-o", options, *(("-t", kind, "tmpfs") if kind else ()), folder]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def convert(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["convert", "vindr", *map(str, arguments), "--long-side", "128", "--workers", "1"])
    return ended.value.code


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_disk_that_fills_up_is_one_line_and_resumed_when_there_is_room(raw, disk, tmp_path, capsys):
    assert convert(raw, tmp_path / "whole") == 0
    capsys.readouterr()

    assert convert(raw, disk / "out") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{disk / 'out'} could not be written: No space left on device. What is done is kept" in said
    assert not (disk / "out").exists()

    assert mount(disk, "remount,size=64m", kind="")
    assert convert(raw, disk / "out", "--resume") == 0
    assert contents(disk / "out") == contents(tmp_path / "whole")
    assert [path.name for path in disk.iterdir()] == ["out"]


def test_a_read_only_disk_is_one_line(raw, disk, capsys):
    assert mount(disk, "remount,ro", kind="")
    assert convert(raw, disk / "out") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Read-only file system" in said


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EHOSTDOWN])
def test_a_share_that_fails_anywhere_is_one_line_without_the_file_s_name(tmp_path, monkeypatch, capsys, number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number), "/mnt/share/Jane Doe.dcm")

    monkeypatch.setattr(panoptic, "read_json", fail)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(tmp_path)])
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1)
    assert os.strerror(number) in said
    assert "Doe" not in said


def test_killed_at_random_moments_commands_resume_to_the_bytes_of_a_run_left_alone(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    names = ("convert", "predict", "evaluate")  # train takes as long as these together: the script alone kills it
    script = [sys.executable, ROOT / "examples" / "benchmarks" / "kill.py", *names, "--kills=1"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ended in the bytes of a run left alone") == len(names)
