import hashlib
import json
import shutil

import pytest

from mammoprep.errors import MammoprepError
from mammoprep.evaluation.runs import Options, evaluate
from mammoprep.evaluation.scores import score
from mammoprep.evaluation.tally import tally

BLANK = ["....", "....", "...."]
LESION = ["mm..", "mm..", "...."]


@pytest.fixture
def run(write, scene, tmp_path):
    """Two folds of two images each: in the first both lesions are found, in the second none."""
    dataset, predictions = write(
        scene(LESION, LESION), scene(LESION, BLANK), scene(LESION, LESION), scene(LESION, BLANK)
    )
    folds = [{"train": [2, 4], "val": [1, 3]}, {"train": [1, 3], "val": [2, 4]}]
    (dataset / "folds.json").write_text(json.dumps({"k": 2, "folds": folds}))
    for fold in range(2):
        shutil.copytree(predictions, tmp_path / "run" / f"fold-{fold}" / "predictions")
    describe(tmp_path / "run", dataset=str(dataset), folds=[0, 1])
    return tmp_path / "run"


def describe(run, **content):
    (run / "run.json").write_text(json.dumps(content))


def dataset_of(run):
    return json.loads((run / "run.json").read_text())["dataset"]


def test_each_fold_is_scored_on_its_validation_images(run):
    report = evaluate(run).report
    assert [fold.fold for fold in report.folds] == [0, 1]
    assert [fold.scores.sweep.PQ[0] for fold in report.folds] == [1.0, 0.0]
    assert report.scores.sweep.PQ[0] == 0.5
    assert report.std.sweep.PQ[0] == pytest.approx(0.5**0.5)
    assert report.images == 4


def test_single_fold_is_a_run_too(run):
    shutil.rmtree(run / "fold-0")
    describe(run, dataset=dataset_of(run), fold=1)
    report = evaluate(run).report
    assert [fold.fold for fold in report.folds] == [1]
    assert report.std is None


def test_fold_without_predictions_is_said(run):
    shutil.rmtree(run / "fold-0")
    assert evaluate(run).report.not_given["fold 0"] == "the run has no predictions of it"


def test_predictions_are_scored_whole(run):
    predictions = run / "fold-0" / "predictions"
    options = Options(matching="paper", resamples=0)
    whole = evaluate(run.parent / "0" / "dataset", predictions, options=options).report
    again = score(tally(run.parent / "0" / "dataset", predictions), matching="paper")
    assert whole.to_json() == again.to_json()
    assert whole.not_given["intervals"] == "no bootstrap was asked for"


def test_moved_data_set_is_named_by_hand(run):
    old = dataset_of(run)
    new = shutil.move(old, run.parent / "moved")
    with pytest.raises(MammoprepError, match="--on DATASET"):
        evaluate(run)
    assert evaluate(run, on=new).report.images == 4


def test_folds_made_again_since_are_refused(run):
    path = run.parent / "0" / "dataset" / "folds.json"
    trained = hashlib.sha256(path.read_bytes()).hexdigest()
    describe(run, dataset=dataset_of(run), folds=[0, 1], folds_sha256=trained)
    assert evaluate(run).report.images == 4
    path.write_text(path.read_text() + "\n")
    with pytest.raises(MammoprepError, match="not the one that"):
        evaluate(run)


@pytest.mark.parametrize(("content", "text"), [({}, "does not name its data set"), ([], "was not written by")])
def test_strange_run_json_is_refused(run, content, text):
    (run / "run.json").write_text(json.dumps(content))
    with pytest.raises(MammoprepError, match=text):
        evaluate(run)


def test_run_without_predictions_is_refused(run):
    for fold in range(2):
        shutil.rmtree(run / f"fold-{fold}")
    with pytest.raises(MammoprepError, match=r"holds no fold-\*/predictions"):
        evaluate(run)


def test_data_set_alone_is_no_run(run):
    with pytest.raises(MammoprepError, match="Name a RUN, or a DATASET and its PREDICTIONS"):
        evaluate(run.parent / "0" / "dataset")


def test_fold_that_the_data_set_lacks_is_named(run):
    shutil.copytree(run / "fold-0", run / "fold-5")
    with pytest.raises(MammoprepError, match="no fold 5"):
        evaluate(run)


def test_on_beside_predictions_is_refused(run):
    with pytest.raises(MammoprepError, match="--on names the data set of a RUN"):
        evaluate(run, run / "fold-0" / "predictions", on=run)


def test_json_of_a_whole_evaluation_comes_back_as_it_is(run):
    """Folds, intervals and the explanation: nothing that JSON would change."""
    cases = run.parent / "0" / "dataset" / "cases.csv"
    cases.write_text("image_id,patient_id\n" + "".join(f"case-{n},patient-{n}\n" for n in range(1, 5)))
    content = evaluate(run, options=Options(resamples=20, explain=True)).report.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["intervals"]["sweep"]["PQ"][0] == [0.5, 0.5]  # the mean of a fold of hits and a fold of misses
    assert content["explain_threshold"]["all"]["lesions"] == 4
