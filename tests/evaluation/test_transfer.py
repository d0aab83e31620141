import json
import shutil

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.evaluation.inputs import ONE_SIDED
from mammoprep.evaluation.report import ClassScores
from mammoprep.evaluation.runs import Options, evaluate_across, is_other
from mammoprep.evaluation.transfer import overlaps, shared_patients

BLANK = ["....", "....", "...."]
LESION = ["mm..", "mm..", "...."]
HALF = ["cc..", "....", "...."]


@pytest.fixture
def other(write, scene, edit):
    """Three images, predicted with classes of another collection: half of a lesion; a false one; nothing, rightly."""
    dataset, predictions = write(scene(LESION, HALF), scene(BLANK, HALF), scene(BLANK, BLANK))
    edit(predictions / "panoptic.json", rename)
    return dataset, predictions


def rename(content):
    for category in content["categories"]:
        category["name"] = {"mass": "BI-RADS 3", "calc": "BI-RADS 4"}.get(category["name"], category["name"])
    return content


def test_classes_that_differ_are_scored_as_one_lesion(other):
    """The calcification lies on half of the mass: IoU 1/2, which counts; the second image has a false one."""
    dataset, predictions = other
    report = evaluate_across(dataset, {0: predictions}, options=Options(resamples=0)).report
    assert list(report.scores.per_class) == ["lesion"]
    lesion = report.scores.per_class["lesion"]
    assert (lesion.TP[0], lesion.FP[0], lesion.FN[0]) == (1, 1, 0)
    assert report.scores.sweep.SQ[0] == 0.5
    assert report.scores.sweep == report.scores.sweep.__class__(*(getattr(lesion, n) for n in ("PQ", "RQ", "SQ", "AP")))
    assert report.scores.dice.pooled == pytest.approx(2 * 2 / (4 + 4))
    assert report.scores.stuff.per_class.keys() == {"background"}


def test_stuff_that_one_side_alone_has_is_not_scored(other, edit):
    """It cannot be right: null with its reason, and no part of the mean; what both have, and lesions, keep theirs."""
    dataset, predictions = other
    before = evaluate_across(dataset, {0: predictions}, options=Options(resamples=0)).report

    def with_muscle(content):
        content["categories"].append({"id": 9, "name": "pectoral muscle", "isthing": 0, "color": [1, 2, 3]})
        muscle = next(segment for segment in content["annotations"][2]["segments_info"])
        muscle["category_id"] = 9  # all of the third image

    edit(predictions / "panoptic.json", with_muscle)
    panoptic.write_classes(predictions / "semantic" / "case-3.png", np.full((3, 4), 9, dtype=np.uint8))
    report = evaluate_across(dataset, {0: predictions}, options=Options(resamples=0)).report
    stuff = report.scores.stuff
    assert stuff.per_class["pectoral muscle"] == ClassScores(*[None] * 6)
    assert stuff.dice["pectoral muscle"] is stuff.iou["pectoral muscle"] is None
    assert (stuff.PQ, stuff.per_class["background"].FN[0]) == (stuff.per_class["background"].PQ, 1)
    assert stuff.dice["background"] == pytest.approx(2 * 18 / (32 + 20))  # of 8, 12, 12 true ones 8, 10, 0 are found
    assert report.scores.per_class == before.scores.per_class
    assert report.scores.dice == before.scores.dice
    reasons = {key for key, reason in report.not_given.items() if reason == ONE_SIDED}
    assert reasons == {"stuff.per_class.pectoral muscle.PQ", "stuff.dice.pectoral muscle", "stuff.iou.pectoral muscle"}


def test_classes_with_the_same_names_stay_apart(write, scene):
    dataset, predictions = write(scene(LESION, HALF), scene(LESION, LESION))
    report = evaluate_across(dataset, {0: predictions}, options=Options(resamples=0)).report
    assert list(report.scores.per_class) == ["mass", "calc"]
    assert report.scores.per_class["mass"].FN[0] == 1


def test_lesion_free_images_stand_apart(other):
    """Dice 2·2/(4+2), 0 and 1; IoU 2/4, 0 and 1."""
    dataset, predictions = other
    found = overlaps(evaluate_across(dataset, {0: predictions}, options=Options(resamples=0)).tables)
    assert {kind: row["images"] for kind, row in found.items()} == {"all": 3, "with lesions": 1, "lesion-free": 2}
    assert found["with lesions"]["Dice"] == {"value": pytest.approx(2 / 3), "std": None}
    assert found["with lesions"]["IoU"]["value"] == 0.5
    assert found["lesion-free"]["Dice"]["value"] == found["lesion-free"]["IoU"]["value"] == 0.5
    assert found["all"]["Dice"]["value"] == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_networks_on_the_same_images_are_no_folds_of_them(other, tmp_path):
    """Both draw the same patients, so that two equal networks have the interval of one."""
    dataset, predictions = other
    again = shutil.copytree(predictions, tmp_path / "again")
    options = Options(resamples=50)
    one = evaluate_across(dataset, {0: predictions}, options=options)
    two = evaluate_across(dataset, {0: predictions, 1: again}, options=options)
    assert (two.report.images, two.report.patients) == (3, 2)
    assert two.report.intervals.patients == one.report.intervals.patients == 2
    assert two.report.intervals.values == one.report.intervals.values
    assert overlaps(two.tables)["all"]["Dice"]["std"] == 0
    empty = json.loads((again / "instances.json").read_text())
    assert empty
    assert two.report.scores.lesion_free.images == 4


def test_without_semantic_maps_there_is_no_overlap(other):
    dataset, predictions = other
    shutil.rmtree(predictions / "semantic")
    assert overlaps(evaluate_across(dataset, {0: predictions}, options=Options(resamples=0)).tables) is None


def collection(root, patients, *, reader=None, first=0):
    """Write a DATASET with an image of its own a patient."""
    (root / "images").mkdir(parents=True)
    names = [f"{root.name}-{number}" for number in range(1, len(patients) + 1)]
    for number, name in enumerate(names, start=1):
        panoptic.write_png(root / "images" / f"{name}.png", np.full((4, 4), first + number, dtype=np.uint8))
    images = [panoptic.Image(number, name, 4, 4) for number, name in enumerate(names, start=1)]
    panoptic.write_panoptic(root, categories=panoptic.make_categories(["mass"]), images=images)
    rows = [f"{name},{patient}" for name, patient in zip(names, patients, strict=True)]
    (root / "cases.csv").write_text("\n".join(["image_id,patient_id", *rows, ""]))
    if reader:
        (root / "manifest.json").write_text(json.dumps({"dataset": reader}))
    return panoptic.load(root)


def test_patients_are_shared_by_their_ids(tmp_path):
    trained = collection(tmp_path / "a", ["p1", "p2", "p3"], reader="vindr")
    other = collection(tmp_path / "b", ["p2", "p3", "p4"], reader="vindr", first=100)
    assert shared_patients(trained, {1, 2, 3}, other) == {"p2", "p3"}
    assert shared_patients(trained, {1, 2}, other) == {"p2"}


@pytest.mark.parametrize(("reader", "shared"), [("cbis-ddsm", set()), ("folder", {"p1"}), (None, {"p1"})])
def test_ids_of_two_collections_mean_other_people(tmp_path, reader, shared):
    trained = collection(tmp_path / "a", ["p1"], reader="vindr")
    other = collection(tmp_path / "b", ["p1"], reader=reader, first=100)
    assert shared_patients(trained, {1}, other) == shared


@pytest.mark.parametrize("listed", [True, False])
def test_the_same_file_is_the_same_patient_under_any_id(tmp_path, listed):
    trained = collection(tmp_path / "a", ["p1", "p2"], reader="vindr")
    other = collection(tmp_path / "b", ["x", ""], reader="cbis-ddsm", first=0)
    if listed:
        names = [f"images/b-{number}.png" for number in (1, 2)]
        panoptic.write_sums(other.root, [(name, panoptic.file_hash(other.root / name)) for name in names])
    assert shared_patients(trained, {1, 2}, other) == {"x", "b-2"}
    assert shared_patients(trained, {2}, other) == {"b-2"}


def test_a_moved_data_set_is_no_other(tmp_path):
    trained = collection(tmp_path / "a", ["p1"], reader="vindr").root
    other = collection(tmp_path / "b", ["p1"], reader="cbis-ddsm").root
    run = tmp_path / "run"
    run.mkdir()
    told = {"dataset": str(trained), "manifest_sha256": panoptic.file_hash(trained / "manifest.json")}
    (run / "run.json").write_text(json.dumps(told))
    moved = shutil.copytree(trained, tmp_path / "moved")
    assert [is_other(run, path) for path in (trained, moved, other)] == [False, False, True]
