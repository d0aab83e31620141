"""Doubts: what makes a case worth a second look, and in which order."""

import pytest

from mammoprep.gallery import doubts

CLASSES = {1: "mass", 2: "calcification"}


def lesion(**facts):
    return {"id": 1, "side": "truth", "class": 1, "area": 100, **facts}


def reasons(*lesions, others=()):
    rows = [{"lesions": list(lesions)}, *({"lesions": [each]} for each in others)]
    doubts.mark(rows, CLASSES)
    return [(doubt["kind"], doubt["why"]) for doubt in rows[0].get("doubts", ())]


def test_plain_lesion_is_not_doubtful():
    assert reasons(lesion(method="otsu", verdict="hit")) == []


@pytest.mark.parametrize(
    ("facts", "kind", "why"),
    [
        ({"method": "box (fallback)"}, "fallback", "pseudo-mask by a fallback: box"),
        ({"covered": 0.25}, "overlap", "25% lies under other findings"),
        ({"verdict": "missed"}, "disagreement", "the model shows no lesion here"),
        ({"side": "predicted", "verdict": "false"}, "disagreement", "the model shows a lesion here"),
        (
            {"side": "predicted", "verdict": "false", "score": 0.8},
            "disagreement",
            "the model shows a lesion here, score 0.80",
        ),
    ],
)
def test_doubt_says_why(facts, kind, why):
    assert reasons(lesion(**facts)) == [(kind, why)]


@pytest.mark.parametrize("facts", [{"covered": 0.05}, {"side": "predicted", "verdict": "false", "score": 0.3}])
def test_little_is_no_doubt(facts):
    assert reasons(lesion(**facts)) == []


def test_wrong_class_names_the_other():
    guess = lesion(id=5, side="predicted", verdict="wrong class", **{"class": 2})
    assert reasons(lesion(verdict="wrong class", partner=5), guess) == [
        ("disagreement", "the model says calcification")
    ]


def test_size_is_unusual_beyond_the_outer_fences():
    # Of 20 lesions of 160 and 20 of 320 the quartiles are 160 and 320: fences at 160 / 8 and 320 · 8.
    usual = [lesion(area=area) for area in [160] * 20 + [320] * 20]
    assert reasons(lesion(area=2500), others=usual) == []
    ((kind, why),) = reasons(lesion(area=2600), others=usual)
    assert (kind, why) == ("size", "unusual size: 2600 px, usual for mass are 20 to 2560 px")
    assert [kind for kind, _ in reasons(lesion(area=19), others=usual)] == ["size"]


def test_few_lesions_have_no_usual_size():
    assert reasons(lesion(area=10**6), others=[lesion(area=100)] * 18) == []


def test_kinds_weigh_more_than_numbers():
    missed, covered = lesion(verdict="missed"), lesion(covered=0.5)
    rows = [{"lesions": [covered, covered]}, {"lesions": [missed]}, {"lesions": [lesion()]}]
    doubts.mark(rows, CLASSES)
    assert [row.get("weight") for row in rows] == [1.02, 3.01, None]
