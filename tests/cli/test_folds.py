"""`mammoprep folds` on the command line."""

import json

import pytest

from mammoprep.cli import main
from mammoprep.convert import case


@pytest.fixture
def folder(dataset):
    """The shared DATASET with one patient an image."""
    rows = [",".join(case.COLUMNS)]
    rows += [
        f"case-{n},patient-{n},,L,CC,B,{'test' if n < 3 else 'training'},48,32,0,0,1.0,1.0,,,1,0,x" for n in range(1, 7)
    ]
    (dataset / "cases.csv").write_text("\n".join(rows) + "\n")
    (dataset / "folds.json").unlink()
    return dataset


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["folds", *map(str, arguments)])
    return ended.value.code


def test_the_table_is_printed_and_folds_json_written(folder, capsys):
    assert run(folder, "-k", 3) == 0

    printed = capsys.readouterr().out
    assert "BI-RADS 3" in printed
    assert printed.count("fold ") == 3
    assert "spread" in printed
    assert json.loads((folder / "folds.json").read_text())["k"] == 3


def test_json_is_what_the_file_says(folder, capsys):
    assert run(folder, "-k", 2, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((folder / "folds.json").read_text())


def test_a_class_that_a_fold_lacks_is_told(folder, capsys):
    run(folder, "-k", 6)
    assert "fold 0 has no BI-RADS" in capsys.readouterr().err


def test_the_official_split_is_used_when_asked(folder, capsys):
    assert run(folder, "--official", "--json") == 0
    assert json.loads(capsys.readouterr().out)["folds"] == [{"train": [3, 4, 5, 6], "val": [1, 2]}]


def test_patients_on_both_sides_are_refused_until_they_are_allowed(folder, capsys):
    cases = folder / "cases.csv"
    cases.write_text(cases.read_text().replace("patient-1,", "patient-6,"))

    assert run(folder, "--official") == 2
    assert "1 patients are on both sides of the official split" in capsys.readouterr().err
    assert not (folder / "folds.json").exists()
    assert run(folder, "--official", "--allow-leak") == 0
    assert "1 patients are on both sides of the official split: a score on it flatters." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-k", 7), "7 folds cannot be made of 6 patients"),
        (("-k", 1), "1 folds cannot be made"),
        (("--official", "-k", 5), "--official is one fold"),
        (("--balance", "lable"), "'label'"),
        (("--allow-leak",), "Say --official too"),
    ],
)
def test_a_wrong_option_is_one_line(folder, capsys, arguments, text):
    assert run(folder, *arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert not (folder / "folds.json").exists()


def test_a_folder_that_is_no_dataset_is_one_line(tmp_path, capsys):
    assert run(tmp_path) == 2
    assert "does not exist. A DATASET is written by `mammoprep convert`" in capsys.readouterr().err
