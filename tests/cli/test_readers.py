"""`mammoprep readers`, and readers that other packages bring by entry points."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.cli import main
from mammoprep.readers import READERS, sheet

PARTS = ("What", "Licence", "Get it", "Layout", "Labels", "Citation")
MODULE = '''"""My data: boxes in a table.

What      Two images.
Licence   Mine.
"""
from mammoprep.records import Box, Finding, Reader, Record

def read(root, *, labels="grade", side="both", flip=False):
    for row in (root / "t.csv").read_text().split():
        name, patient = row.split(",")
        finding = Finding(Box(2, 5, 15, 25), "high", "t.csv", {"side": side, "flip": int(flip)})
        yield Record(name, name[:-4], patient, findings=(finding,))

READER = Reader("my-data", "My data", {"grade": ("low", "high"), "one": ("high",)}, ("t.csv",),
                lambda root: (root / "t.csv",), read)
WRONG = 5
'''


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_every_reader_is_listed(capsys):
    code, out, err = run(capsys, "readers")

    assert (code, err) == (0, "")
    assert [name for name in READERS if f"{name} " not in out] == []


def test_the_list_as_json_says_what_where_and_which_labels(capsys):
    code, out, _ = run(capsys, "readers", "--json")
    entries = {entry["name"]: entry for entry in json.loads(out)["readers"]}

    assert (code, entries.keys()) == (0, READERS.keys())
    assert entries["cdd-cesm"]["licence"] == "CC BY 4.0"
    assert entries["vindr"]["get_it"].startswith("https://physionet.org/content/vindr-mammo/1.0.0/")
    assert entries["vindr"]["labels"]["birads"] == ["BI-RADS 3", "BI-RADS 4", "BI-RADS 5"]


@pytest.mark.parametrize("name", READERS)
def test_a_data_sheet_is_shown_whole_and_has_its_parts(capsys, name):
    code, out, _ = run(capsys, "readers", name)

    assert code == 0
    assert out.strip() == sheet(READERS[name])
    assert [part for part in PARTS if f"\n{part} " not in out] == []
    assert json.loads(run(capsys, "readers", name, "--json")[1])["sheet"] == sheet(READERS[name])


def test_an_unknown_reader_gets_the_nearest_name(capsys):
    code, out, err = run(capsys, "readers", "cdd-cesn")

    assert (code, out) == (2, "")
    assert err == "mammoprep: There is no reader 'cdd-cesn'. Did you mean 'cdd-cesm'?\n"


@pytest.fixture
def plugged(tmp_path):
    """Install a package with one good reader and three that are none; give a function that runs a command there."""
    site, raw = tmp_path / "site", tmp_path / "raw"
    (site / "my_data-1.0.dist-info").mkdir(parents=True)
    raw.mkdir()
    (site / "my_data.py").write_text(MODULE)
    (site / "my_data-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: my-data\nVersion: 1.0\n")
    points = ("my-data=my_data:READER", "wrong=my_data:WRONG", "gone=not_there:READER", "vindr=my_data:READER")
    (site / "my_data-1.0.dist-info" / "entry_points.txt").write_text("\n".join(("[mammoprep.readers]", *points)))
    cv2.imwrite(str(raw / "a.png"), np.pad(np.full((40, 20), 90, dtype=np.uint8), ((0, 0), (0, 20))))
    (raw / "t.csv").write_text("a.png,p1\n")

    def command(*arguments):
        path = os.pathsep.join((str(site), *sys.path))
        return subprocess.run(
            [sys.executable, "-m", "mammoprep", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "150", "TERM": "dumb"},
            capture_output=True,
            text=True,
            check=False,
        )

    return command


def test_a_reader_of_another_package_is_listed_and_broken_ones_are_named(plugged):
    done = plugged("readers", "--json")
    content = json.loads(done.stdout)

    assert [entry["licence"] for entry in content["readers"] if entry["name"] == "my-data"] == ["Mine."]
    assert content["faults"].keys() == {"wrong", "gone"}
    assert "cannot be loaded (ModuleNotFoundError)" in content["faults"]["gone"]
    assert "is no Reader of that name" in content["faults"]["wrong"]
    assert plugged("readers", "my-data").stdout.startswith("My data: boxes in a table.")


def test_a_reader_of_another_package_has_its_sub_command(plugged, tmp_path):
    shown = plugged("convert", "my-data", "--help")
    assert [
        word for word in ("--labels", "grade|one", "--side", "--flip", "--long-side") if word not in shown.stdout
    ] == []

    done = plugged("convert", "my-data", "raw", "out", "--side", "left", "--flip", "--workers", "1")
    assert done.returncode == 0, done.stderr
    (segment, *_) = panoptic.load(tmp_path / "out").images[0].segments
    assert segment.extra["attributes"] == {"side": "left", "flip": 1}
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["options"]["side"] == "left"


def test_a_broken_reader_of_another_package_harms_no_other_command(plugged):
    assert plugged("convert", "vindr", "--help").returncode == 0
    assert "my-data" in plugged("convert", "--help").stdout

    done = plugged("convert", "gone", "raw", "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "The reader gone cannot be loaded" in done.stderr
