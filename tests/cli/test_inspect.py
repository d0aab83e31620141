"""`mammoprep inspect` on the command line."""

import json

import pytest

from mammoprep import phantom
from mammoprep.cli import main


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("inspect") / "raw"
    phantom.write(root, patients=2, long_side=128)
    return root


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["inspect", *map(str, arguments)])
    return ended.value.code


def test_the_tables_are_printed(raw, capsys):
    assert run(raw) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("VinDr-Mammo (mammoprep convert vindr), classes by --labels birads\n")
    for text in ("patients", "laterality", "BI-RADS 5", "longer side, native pixels"):
        assert text in printed
    assert "longer side, mm" not in printed
    assert "manufacturer" not in printed


def test_pixels_add_manufacturer_and_millimetres(raw, capsys):
    assert run(raw, "--pixels", "--workers", 1) == 0
    printed = capsys.readouterr().out
    assert "longer side, mm" in printed
    assert "SIEMENS" in printed


def test_json_is_one_object(raw, capsys):
    assert run(raw, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["patients"]) == (8, 2)
    assert found["classes"].keys() == {"BI-RADS 3", "BI-RADS 4", "BI-RADS 5"}


def test_out_gets_the_figures(raw, tmp_path):
    assert run(raw, "--out", tmp_path / "figures") == 0
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["counts.png", "sizes.png"]


@pytest.mark.parametrize("arguments", [("--labels", "nothing"), ("--workers", 0)])
def test_a_wrong_option_is_one_line(raw, capsys, arguments):
    assert run(raw, *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_of_something_else_is_one_line(tmp_path, capsys):
    assert run(tmp_path) == 2
    assert "is neither a DATASET" in capsys.readouterr().err
