"""Folds by patient: nobody in two of them, the classes in balance."""

import csv
import json
from statistics import pstdev

import numpy as np
import pytest

from mammoprep import folds, panoptic
from mammoprep.errors import MammoprepError
from mammoprep.panoptic import Image, Segment

CLASSES = ("BI-RADS 3", "BI-RADS 4", "BI-RADS 5")


@pytest.fixture
def write(tmp_path):
    """Write a DATASET from (patient, class ids of the findings, split, lesion-free) an image."""

    def write_dataset(rows):
        images, cases = [], []
        for number, (patient, classes, split, lesion_free) in enumerate(rows, start=1):
            found = [Segment(i, label, 1, (0, 0, 1, 1)) for i, label in enumerate((*classes, 4, 5), start=1)]
            images.append(Image(number, f"case-{number}", 4, 4, tuple(found)))
            cases.append((f"case-{number}", patient, split, len(classes), int(lesion_free)))
        panoptic.write_panoptic(tmp_path, categories=panoptic.make_categories(CLASSES), images=images)
        with (tmp_path / "cases.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("image_id", "patient_id", "split", "n_findings", "lesion_free"), *cases])
        return tmp_path

    return write_dataset


def screening(patients, *, seed=0, split=""):
    """Four images a patient; one in ten images has findings, class 3 is rare."""
    random = np.random.default_rng(seed)
    for patient in range(patients):
        for _ in range(4):
            classes = [int(random.choice((1, 2, 3), p=(0.5, 0.4, 0.1)))] if random.random() < 0.1 else []
            yield f"p{patient}", classes, split, not classes


def test_every_image_is_validated_once_and_no_patient_is_on_both_sides(write):
    rows = list(screening(40))
    table = folds.make(write(rows), k=4)

    patients = {number: row[0] for number, row in enumerate(rows, start=1)}
    assert sorted(image for fold in table.folds for image in fold.val) == sorted(patients)
    for fold in table.folds:
        assert sorted((*fold.train, *fold.val)) == sorted(patients)
        assert {patients[i] for i in fold.train}.isdisjoint(patients[i] for i in fold.val)
        assert list(fold.train) == sorted(fold.train)
        assert list(fold.val) == sorted(fold.val)


def test_folds_json_is_what_the_contract_says(write):
    root = write(screening(12))

    table = folds.make(root, k=3, seed=5)

    content = json.loads((root / "folds.json").read_text())
    assert content.keys() == {"k", "seed", "group", "balance", "folds", "table"}
    assert (content["k"], content["seed"], content["group"], content["balance"]) == (3, 5, "patient_id", "label")
    assert content["folds"] == [{"train": list(fold.train), "val": list(fold.val)} for fold in table.folds]
    assert panoptic.load_fold(root, 2) == (table.folds[2].train, table.folds[2].val)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(write):
    root = write(screening(30))

    def made(seed):
        folds.make(root, seed=seed)
        return (root / "folds.json").read_bytes()

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_the_classes_are_in_balance(write):
    table = folds.make(write(screening(500)), k=5)

    assert [part.images for part in table.parts] == [400] * 5
    for name in CLASSES:
        showing = [part.showing[name] for part in table.parts]
        assert max(showing) - min(showing) <= 2


def test_balance_none_leaves_the_classes_to_chance(write):
    root = write(screening(500))
    assert folds.make(root, balance="none").spread["BI-RADS 3"] > folds.make(root).spread["BI-RADS 3"]


def test_an_image_counts_as_the_class_that_is_rarest_in_the_data_set():
    def row(*classes, lesion_free=False):
        return folds._Row(1, "p", "", lesion_free, classes)

    rows = [row("common", "rare"), row("common"), row("common", "common"), row(), row(lesion_free=True)]

    assert folds._strata(rows) == ["rare", "common", "common", "no drawn finding", "lesion-free"]


def test_the_table_counts_findings_images_and_patients(write):
    rows = [
        ("a", [1, 1, 3], "training", False),
        ("a", [], "training", True),
        ("b", [1], "test", False),
        ("c", [], "test", False),
    ]

    table = folds.make(write(rows), official=True)

    train, val = table.parts
    assert (train.name, train.images, train.patients, train.lesion_free) == ("train", 2, 1, 1)
    assert (val.name, val.images, val.patients, val.lesion_free) == ("val", 2, 2, 0)
    assert train.findings == {"BI-RADS 3": 2, "BI-RADS 4": 0, "BI-RADS 5": 1}
    assert train.showing == {"BI-RADS 3": 1, "BI-RADS 4": 0, "BI-RADS 5": 1}
    assert table.spread == {"BI-RADS 3": 0, "BI-RADS 4": None, "BI-RADS 5": pstdev([0.5, 0]) / 0.25}
    assert list(table.lacking()) == [("val", "BI-RADS 5")]


def test_the_official_split_is_one_fold(write):
    root = write([("a", [1], "test", False), ("b", [2], "training", False), ("c", [], "training", True)])

    table = folds.make(root, official=True, seed=9)

    assert table.folds == (folds.Fold(train=(2, 3), val=(1,)),)
    content = json.loads((root / "folds.json").read_text())
    assert (content["k"], content["seed"], content["balance"]) == (1, 0, "official")


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (
            [("a", [1], "test", False), ("a", [1], "training", False)],
            "1 patients are on both sides of the official split.*--allow-leak",
        ),
        ([("a", [1], "", False), ("b", [1], "", False)], "2 of 2 images have no official split"),
        ([("a", [1], "test", False), ("b", [1], "fold7", False)], "split is 'fold7'"),
        ([("a", [1], "test", False), ("b", [1], "test", False)], "train is empty"),
    ],
    ids=["leak", "no split", "unknown split", "one side"],
)
def test_an_official_split_that_cannot_be_used_is_one_line(write, rows, text):
    root = write(rows)
    with pytest.raises(MammoprepError, match=text):
        folds.make(root, official=True)
    assert not (root / "folds.json").exists()


def test_a_leak_is_told_without_the_patient(write):
    with pytest.raises(MammoprepError) as refused:
        folds.make(write([("MRN-4711", [1], "test", False), ("MRN-4711", [1], "training", False)]), official=True)
    assert "4711" not in str(refused.value)


def test_a_leak_that_is_allowed_is_counted_in_the_file(write):
    rows = [("a", [1], "test", False), ("a", [1], "training", False), ("b", [2], "training", False)]
    root = write(rows)

    table = folds.make(root, official=True, allow_leak=True)

    assert (table.leaks, table.folds) == (1, (folds.Fold(train=(2, 3), val=(1,)),))
    assert json.loads((root / "folds.json").read_text())["leaks"] == 1


def test_a_split_without_leaks_says_nothing_of_them(write):
    root = write([("a", [1], "test", False), ("b", [2], "training", False)])

    assert folds.make(root, official=True, allow_leak=True).leaks == 0
    assert "leaks" not in json.loads((root / "folds.json").read_text())


@pytest.mark.parametrize("k", [-1, 0, 1, 4])
def test_k_must_suit_the_patients(write, k):
    root = write([(patient, [1], "", False) for patient in "aabbc"])
    with pytest.raises(MammoprepError, match=f"{k} folds cannot be made of 3 patients"):
        folds.make(root, k=k)


def test_as_many_folds_as_patients_are_possible(write):
    table = folds.make(write([(patient, [1 + i % 3], "", False) for i, patient in enumerate("abcd")]), k=4)
    assert sorted(fold.val for fold in table.folds) == [(1,), (2,), (3,), (4,)]


def test_an_empty_fold_is_an_error(write, monkeypatch):
    class Lopsided:
        def __init__(self, *_, **__):
            pass

        def split(self, rows, *_):
            yield [], list(range(len(rows)))
            yield list(range(len(rows))), []

    monkeypatch.setattr(folds, "StratifiedGroupKFold", Lopsided)
    with pytest.raises(MammoprepError, match="fold 1 is empty. Try another --seed"):
        folds.make(write(screening(3)), k=2)


def test_a_patient_in_two_folds_is_an_error(write, monkeypatch):
    class Leaking:
        def __init__(self, *_, **__):
            pass

        def split(self, rows, *_):
            yield [], list(range(0, len(rows), 2))
            yield [], list(range(1, len(rows), 2))

    monkeypatch.setattr(folds, "StratifiedGroupKFold", Leaking)
    with pytest.raises(MammoprepError, match="3 patients are in two folds"):
        folds.make(write(screening(3)), k=2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda text: text.replace("p1,", ","), "gives 4 images no patient_id"),
        (lambda text: text.replace("case-1,", "case-x,"), "lacks 1 images"),
        (lambda text: text.replace("patient_id", "patient"), "has no column patient_id"),
    ],
    ids=["no patient", "another image", "no column"],
)
def test_cases_that_do_not_fit_the_images_are_an_error(write, change, text):
    root = write(screening(3))
    (root / "cases.csv").write_text(change((root / "cases.csv").read_text()))
    with pytest.raises(MammoprepError, match=text):
        folds.make(root, k=2)


def test_an_unknown_balance_names_the_nearest(write):
    with pytest.raises(MammoprepError, match="Did you mean 'label'"):
        folds.make(write(screening(9)), k=2, balance="labels")


def test_a_data_set_without_images_is_an_error(write):
    with pytest.raises(MammoprepError, match="of 0 patients"):
        folds.make(write([]))
