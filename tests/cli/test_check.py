"""`mammoprep check` on the command line."""

import json

import pytest

from mammoprep import phantom
from mammoprep.check import RULES
from mammoprep.cli import main


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    home = tmp_path_factory.mktemp("check")
    phantom.write(home / "raw", patients=2, long_side=128)
    assert run("convert", "vindr", home / "raw", home / "dataset") == 0
    return home / "dataset"


@pytest.fixture
def broken(clean):
    """Wrong areas of five segments, for the time of a test."""
    path = clean / "panoptic.json"
    before = path.read_bytes()
    content = json.loads(before)
    for annotation in content["annotations"][:5]:
        annotation["segments_info"][0]["area"] = 1
    path.write_text(json.dumps(content))
    yield clean
    path.write_bytes(before)


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return ended.value.code


def test_a_clean_data_set_is_exit_0(clean, capsys):
    assert run("check", clean) == 0
    assert capsys.readouterr().out.endswith("no problem found.\n")


def test_a_problem_is_exit_1_with_rule_and_examples(broken, capsys):
    assert run("check", broken, "--workers", 1) == 1
    printed = capsys.readouterr().out
    assert "area: 5 found (5 for --fix)" in printed
    assert printed.count("the area is 1, in the map ") == 3
    assert "… and 2 more" in printed


def test_fix_mends_and_is_exit_0(broken, capsys):
    assert run("check", broken, "--fix") == 0
    assert "area: 5 mended, taken from the map." in capsys.readouterr().out
    assert run("check", broken) == 0


def test_json_lists_all(broken, capsys):
    assert run("check", broken, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 8
    assert found["problems"]["area"]["count"] == len(found["problems"]["area"]["found"]) == 5
    assert found["problems"]["area"]["rule"] == RULES["area"]


def test_ignored_problems_do_not_count(broken, capsys):
    assert run("check", broken, "--ignore", "area", "--ignore", "hashes") == 0
    assert "area: 5 ignored" in capsys.readouterr().out


def test_what_is_no_data_set_is_one_line(tmp_path, capsys):
    assert run("check", tmp_path / "nowhere") == 2
    assert capsys.readouterr().err.count("\n") == 1
