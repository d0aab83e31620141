"""Verdicts of single lesions: those that the scores with the class ignored count."""

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.evaluation import scores, tally
from mammoprep.evaluation.matching import FIXED_LEVELS, SHOWN
from mammoprep.evaluation.verdicts import Verdict, verdicts

CATEGORIES = panoptic.make_categories(["mass", "calc"], ["background"])
THINGS = (1, 2)


def side(*rows: str, crowd: str = ""):
    """Segments and runs of a map: m n o are masses, c d calcifications, `.` background; ids are code points."""
    grid = np.array([list(row) for row in rows])
    ids = np.vectorize(ord)(grid).astype(np.int32)
    segments = tuple(
        panoptic.Segment(
            ord(letter),
            1 if letter in "mno" else 2 if letter in "cd" else 3,
            int((grid == letter).sum()),
            panoptic.mask_box(grid == letter),
            iscrowd=letter == crowd,
        )
        for letter in sorted(set(grid.ravel()))
    )
    return segments, panoptic.runs_of(ids)


def judged(truth, predicted):
    true, guessed = verdicts(truth[0], predicted[0], maps=(truth[1], predicted[1]), things=THINGS)
    return [{chr(number): verdict for number, verdict in of.items()} for of in (true, guessed)]


def test_hit_names_its_partner_and_their_iou():
    true, guessed = judged(side("mm.."), side(".nn."))
    assert true == {"m": Verdict("hit", ord("n"), 1 / 3)}
    assert guessed == {"n": Verdict("hit", ord("m"), 1 / 3)}


def test_other_class_is_found_and_wrong():
    true, guessed = judged(side("mm.."), side("cc.."))
    assert (true["m"].word, guessed["c"].word) == ("wrong class", "wrong class")


def test_miss_and_false_lesion():
    true, guessed = judged(side("mm....nn"), side("...cc..."))
    assert true == {"m": Verdict("missed"), "n": Verdict("missed")}
    assert guessed == {"c": Verdict("false")}


def test_iou_of_just_the_threshold_is_none():
    true, _ = judged(side("m" + "." * 9), side("m" * 10))
    assert true["m"].word == "missed"  # 1 / 10, which is not above 0.1


def test_one_prediction_counts_once():
    true, guessed = judged(side("mm.nnn"), side("oooooo"))
    assert (true["m"].word, true["n"].word, guessed["o"].partner) == ("missed", "hit", ord("n"))


def test_prediction_on_a_crowd_is_neither_right_nor_false():
    true, guessed = judged(side("mmmm..", crowd="m"), side("nnn..."))
    assert true == {}
    assert guessed == {"n": Verdict("ignored")}


def test_image_without_lesions_has_no_verdicts():
    assert judged(side("...."), side("....")) == [{}, {}]


@pytest.fixture
def folders(tmp_path):
    """Ten maps of random squares on either side, as a DATASET and PREDICTIONS."""
    draw = np.random.default_rng(3)
    for name in ("truth", "predicted"):
        (tmp_path / name / "panoptic").mkdir(parents=True)
        images = []
        for number in range(1, 11):
            ids = np.full((30, 30), 9, np.int32)
            for label in range(1, 5):
                y, x = draw.integers(0, 22, 2)
                ids[y : y + 8, x : x + 8] = label
            kinds = {int(i): 3 if i == 9 else 1 + int(i) % 2 for i in np.unique(ids)}
            segments = (
                panoptic.Segment(i, kind, int((ids == i).sum()), panoptic.mask_box(ids == i))
                for i, kind in kinds.items()
            )
            images.append(panoptic.Image(number, f"image-{number}", 30, 30, tuple(segments)))
            panoptic.write_ids(tmp_path / name / "panoptic" / f"image-{number}.png", ids)
        panoptic.write_panoptic(tmp_path / name, categories=CATEGORIES, images=images)
    return panoptic.load(tmp_path / "truth"), panoptic.load(tmp_path / "predicted")


def test_counts_are_those_of_the_scores(folders):
    words = []
    for pair in zip(*(folder.images for folder in folders), strict=True):
        maps = [panoptic.read_id_runs(f.root / f"panoptic/{i.name}.png") for f, i in zip(folders, pair, strict=True)]
        true, guessed = verdicts(pair[0].segments, pair[1].segments, maps=tuple(maps), things=THINGS)
        words += [verdict.word for verdict in true.values()]
        words += [verdict.word for verdict in guessed.values() if verdict.word == "false"]
    report = scores.score(tally.tally(folders[0].root, folders[1].root))
    detection, level = report.scores.detection, FIXED_LEVELS[SHOWN]
    assert words.count("hit") + words.count("wrong class") == detection.TP[level] > 0
    assert words.count("missed") == detection.FN[level] > 0
    assert words.count("false") == detection.FP[level] > 0
    assert words.count("hit") == sum(detection.confusion[SHOWN][k][k] for k in (0, 1))
