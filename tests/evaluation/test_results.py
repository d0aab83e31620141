import io
import json
import shutil
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from mammoprep.errors import MammoprepError
from mammoprep.evaluation.matching import THRESHOLDS
from mammoprep.evaluation.results import FORMAT, SCORES, TABLES, load, save
from mammoprep.evaluation.runs import Options, evaluate
from mammoprep.evaluation.scores import report as report_of
from mammoprep.evaluation.statistics import samples
from mammoprep.evaluation.tabulate import tabulate
from mammoprep.evaluation.tally import tally

BLANK = ["....."] * 5
SQUARE = ["mmmm.", "mmmm.", "mmmm.", "mmmm.", "....."]
QUARTERS = ["mmnn.", "mmnn.", "oopp.", "oopp.", "....."]
CALC = [row.replace("m", "c") for row in SQUARE]
PATIENTS = ("Abel, Åse", "Miller-0815", "Abel, Åse")


@pytest.fixture
def data(write, scene):
    """Three images of two patients, with a view each and a spacing of the first; give DATASET and PREDICTIONS."""
    dataset, predictions = write(scene(SQUARE, QUARTERS), scene(BLANK, CALC), scene(CALC, SQUARE, {"m": 0.25}))
    facts = zip(PATIENTS, ("CC", "MLO", ""), ("0.1", "", ""), strict=True)
    rows = [f'case-{n},"{patient}",{view},{spacing},1,1' for n, (patient, view, spacing) in enumerate(facts, start=1)]
    text = "\n".join(["image_id,patient_id,view,pixel_spacing_mm,scale_x,scale_y", *rows, ""])
    (dataset / "cases.csv").write_text(text, encoding="utf-8")
    return dataset, predictions


def save_of(data, out, *, matching="one-to-one"):
    """Score and save; give the table that was saved."""
    tallied = tally(*data)
    table = tabulate(tallied, matching=matching)
    out.mkdir()
    save(out, report_of(table, not_given=tallied.not_given, matching=matching), [table], truth="hash")
    return table


def assert_same(table, other):
    for field in fields(table):
        one, two = getattr(table, field.name), getattr(other, field.name)
        if field.name in ("truths", "guesses", "detections"):
            assert (one is None) == (two is None)
            for column in fields(one) if one else ():
                assert_equal(getattr(one, column.name), getattr(two, column.name))
        elif field.name == "facts":
            assert one.keys() == two.keys()
            for name in one.keys() - {"patient_id"}:
                assert_equal(one[name], two[name])
        elif field.name in ("categories", "names") or one is None:
            assert one == two
        else:
            assert_equal(one, two)


def assert_equal(one, two):
    np.testing.assert_array_equal(one, two, strict=True)


@pytest.mark.parametrize("matching", ["one-to-one", "paper"])
def test_what_was_saved_is_loaded(data, tmp_path, matching):
    table = save_of(data, tmp_path / "result", matching=matching)
    found = load(tmp_path / "result")
    assert_same(table, found.tables[0])
    assert len(found.tables) == 1
    assert found.title == "result"
    assert found.matching == matching
    tallied = tally(*data)
    assert found.scores == report_of(table, not_given=tallied.not_given, matching=matching).to_json()


@pytest.mark.parametrize("gone", ["panoptic.json", "instances.json", "semantic"])
def test_piece_that_is_not_given_stays_so(data, tmp_path, gone):
    (data[1] / gone).rename(data[1] / "elsewhere")
    table = save_of(data, tmp_path / "result")
    found = load(tmp_path / "result").tables[0]
    assert_same(table, found)
    given = {"panoptic.json": found.truths, "instances.json": found.lesions, "semantic": found.confusion}
    assert [name for name, columns in given.items() if columns is None] == [gone]


def test_patients_are_numbers_in_the_order_of_their_images(data, tmp_path):
    save_of(data, tmp_path / "result")
    assert load(tmp_path / "result").tables[0].facts["patient_id"].tolist() == ["000001", "000002", "000001"]


def test_patient_that_is_not_given_stays_empty(data, tmp_path):
    path = data[0] / "cases.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("Miller-0815", ""), encoding="utf-8")
    save_of(data, tmp_path / "result")
    assert load(tmp_path / "result").tables[0].facts["patient_id"].tolist() == ["000001", "", "000001"]


def test_names_of_patients_are_written_nowhere(data, tmp_path):
    """Neither file has them, not as text, not inside the compressed arrays, which numpy writes as UTF-32."""
    save_of(data, tmp_path / "result")
    with zipfile.ZipFile(tmp_path / "result" / TABLES) as archive:
        inside = b"".join(archive.read(name) + name.encode() for name in archive.namelist())
    written = inside + b"".join(path.read_bytes() for path in (tmp_path / "result").iterdir())
    assert "case-1".encode("utf-32-le") in written
    for name in PATIENTS:
        codes = (name.encode(), name.encode("utf-32-le"), json.dumps(name)[1:-1].encode())
        assert not any(code in written for code in codes)


def test_resamples_of_what_was_loaded_are_those_of_the_table(data, tmp_path):
    table = save_of(data, tmp_path / "result")
    before, after = (samples(t, resamples=50, seed=3) for t in ([table], load(tmp_path / "result").tables))
    assert before.keys() == after.keys()
    for key, drawn in before.items():
        assert_equal(drawn, after[key])
    assert len(np.unique(before["sweep", "PQ"][:, 0])) > 1


def test_same_input_gives_the_same_bytes(data, tmp_path):
    for name in ("one", "two"):
        save_of(data, tmp_path / name)
    for name in (SCORES, TABLES):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.fixture
def run(data, tmp_path):
    """A RUN of two folds, evaluated."""
    dataset, predictions = data
    folds = [{"train": [2], "val": [3, 1]}, {"train": [1, 3], "val": [2]}]
    (dataset / "folds.json").write_text(json.dumps({"k": 2, "folds": folds}))
    root = tmp_path / "run-7"
    for fold in range(2):
        shutil.copytree(predictions, root / f"fold-{fold}" / "predictions")
    (root / "run.json").write_text(json.dumps({"dataset": str(dataset), "folds": [0, 1]}))
    found = evaluate(root, options=Options(resamples=0))
    (root / "evaluation").mkdir()
    save(root / "evaluation", found.report, found.tables, truth="hash")
    return root


def test_run_is_loaded_from_its_evaluation(run):
    found = load(run)
    assert [table.names for table in found.tables] == [("case-1", "case-3"), ("case-2",)]
    for table, other in zip(evaluate(run, options=Options(resamples=0)).tables, found.tables, strict=True):
        assert_same(table, other)
    assert [fold["images"] for fold in found.scores["folds"]] == [2, 1]


@pytest.mark.parametrize("place", ["", "evaluation"])
def test_run_gives_its_name_as_title(run, place):
    assert load(run / place).title == "run-7"


def test_name_of_the_folder_one_stands_in_is_the_title(run, monkeypatch):
    monkeypatch.chdir(run / "evaluation")
    assert load(Path(".")).title == "run-7"
    assert load(Path("..")).title == "run-7"


def line_of(folder):
    """Give the error's text, which is one line."""
    with pytest.raises(MammoprepError) as caught:
        load(folder)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_folder_that_does_not_exist_is_named(tmp_path):
    text = line_of(tmp_path / "nowhere")
    assert text.startswith(f"{tmp_path / 'nowhere'} does not exist.")
    assert "`mammoprep evaluate --out`" in text


def test_file_is_no_result(data, tmp_path):
    assert str(data[0] / "cases.csv") in line_of(data[0] / "cases.csv")


@pytest.mark.parametrize("name", [SCORES, TABLES])
def test_missing_file_is_named(data, tmp_path, name):
    save_of(data, tmp_path / "result")
    (tmp_path / "result" / name).unlink()
    text = line_of(tmp_path / "result")
    assert text.startswith(f"{tmp_path / 'result' / name} does not exist.")
    assert "Score it: mammoprep evaluate RUN, " in text


def test_run_that_was_not_evaluated_says_what_to_type(run):
    shutil.rmtree(run / "evaluation")
    text = line_of(run)
    assert text.startswith(f"{run / SCORES} does not exist.")
    assert "Score it: mammoprep evaluate RUN, " in text


def test_broken_scores_are_named(data, tmp_path):
    save_of(data, tmp_path / "result")
    (tmp_path / "result" / SCORES).write_text("{")
    assert line_of(tmp_path / "result").startswith(f"{tmp_path / 'result' / SCORES} is not readable JSON")


def npz_of(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def header_of(**changed):
    entry = {"format": FORMAT, "matching": "paper", "categories": [], "tables": 1, "thresholds": [], **changed}
    return np.array(json.dumps(entry))


def pickled():
    """Objects would be unpickled, and run code: they are refused, not loaded."""
    return npz_of(header=np.array([{"format": 1}], dtype=object))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        pickled(),
        npz_of(other=np.zeros(3)),
        npz_of(header=np.array("no JSON")),
        npz_of(header=np.array("[]")),
        npz_of(header=header_of(thresholds=THRESHOLDS, tables=0)),
        npz_of(header=header_of(thresholds=THRESHOLDS, categories=[1])),
    ],
    ids=["empty", "garbage", "pickled", "no header", "no JSON", "no dictionary", "no table", "no classes"],
)
def test_strange_tables_are_named(data, tmp_path, content):
    save_of(data, tmp_path / "result")
    path = tmp_path / "result" / TABLES
    path.write_bytes(content)
    assert line_of(tmp_path / "result").startswith(f"{path} is no table of results.")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_tables_are_named(data, tmp_path, share):
    save_of(data, tmp_path / "result")
    path = tmp_path / "result" / TABLES
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert line_of(tmp_path / "result").startswith(f"{path} is no table of results.")


def test_table_that_lacks_a_column_is_named(data, tmp_path):
    save_of(data, tmp_path / "result")
    path = tmp_path / "result" / TABLES
    with np.load(path) as arrays:
        kept = {name: values for name, values in arrays.items() if name != "0/square_mm"}
    path.write_bytes(npz_of(**kept))
    assert line_of(tmp_path / "result").startswith(f"{path} is no table of results.")


@pytest.mark.parametrize("changed", [{"format": FORMAT - 1}, {"thresholds": [0.5]}])
def test_tables_of_another_version_are_refused(data, tmp_path, changed):
    save_of(data, tmp_path / "result")
    path = tmp_path / "result" / TABLES
    with np.load(path) as arrays:
        kept = dict(arrays)
    kept["header"] = np.array(json.dumps({**json.loads(str(kept["header"])), **changed}))
    path.write_bytes(npz_of(**kept))
    text = line_of(tmp_path / "result")
    assert text.startswith(f"{path} was written by another version of mammoprep.")
    assert "Score it: mammoprep evaluate RUN, " in text


def test_damaged_tables_are_named_or_read(data, tmp_path):
    """Eight bytes overwritten anywhere: zip, zlib and NumPy each complain in their own way."""
    save_of(data, tmp_path / "result")
    path = tmp_path / "result" / TABLES
    content, named = path.read_bytes(), 0
    for place in range(0, len(content) - 8, max(1, len(content) // 60)):
        path.write_bytes(content[:place] + b"\xff" * 8 + content[place + 8 :])
        try:
            load(tmp_path / "result")
        except MammoprepError as error:
            named += 1
            assert str(error).startswith(str(path))  # noqa: PT017
    assert named > 20


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"sweep": null, "dice": null, "std": null}'])
def test_scores_of_another_tool_are_named(data, tmp_path, content):
    save_of(data, tmp_path / "result")
    (tmp_path / "result" / SCORES).write_text(content)
    assert line_of(tmp_path / "result").startswith(f"{tmp_path / 'result' / SCORES} was not written by")
