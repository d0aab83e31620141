from dataclasses import replace

import numpy as np
import pytest

from mammoprep import panoptic
from mammoprep.evaluation.cases import Facts
from mammoprep.evaluation.matching import THRESHOLDS
from mammoprep.evaluation.scores import over_folds, score
from mammoprep.evaluation.statistics import draw, intervals, limits, resampled, samples
from mammoprep.evaluation.tabulate import tabulate
from mammoprep.evaluation.tally import ImageTally, Tally, tally
from mammoprep.parallel import Workers

BLANK = ["......"] * 6
MASS = ["mmm...", "mmm...", "mmm...", "......", "......", "......"]
BOTH = ["mmm...", "mmm...", "mmm...", "......", "...ccc", "...ccc"]
PIECES = ("panoptic", "instances", "semantic")


@pytest.fixture
def drawn(write, scene):
    """Tally scenes drawn as (truth, prediction); patient-0 has the first image, patient-1 the next two, and so on."""
    return lambda *scenes: tally(*write(*(scene(*each) for each in scenes)))


def random_scenes(seed, count):
    """Draw boxes of all kinds, void, crowds and blank images among them; scores are equal across images only."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        truth, predicted = np.full((2, 8, 8), ".")
        for letter in generator.permutation(list("mncdMC_"))[: generator.integers(0, 5)]:
            y, x, height, width = (*generator.integers(0, 6, 2), *generator.integers(2, 5, 2))
            truth[y : y + height, x : x + width] = letter
            if generator.random() < 0.8:
                y, x = (y, x) + generator.integers(0, 2, 2)
                predicted[y : y + height, x : x + width] = generator.choice(list("mnocd_"))
        scores = dict(zip("mnocd", generator.permutation(6)[:5].tolist(), strict=True))
        found.append((*(["".join(row) for row in side] for side in (truth, predicted)), scores))
    return found


def tabulated(tally, *, matching="one-to-one"):
    return tabulate(tally, matching=matching)


def of_patients(*names):
    """Give a table of images of which no more than the patient is known."""
    images = tuple(
        ImageTally(
            i, str(i), Facts(name), {}, lesion_free=False, missing=False, scenes=None, rankings=None, confusion=None
        )
        for i, name in enumerate(names)
    )
    return tabulated(Tally(panoptic.make_categories(["mass"]), dict.fromkeys(PIECES, "not here"), images))


def written_out(tally, times):
    """Give a tally in which each image stands so many times in a row."""
    copies = [image for image, n in zip(tally.images, times, strict=True) for _ in range(n)]
    return replace(tally, images=tuple(replace(each, image_id=i, name=str(i)) for i, each in enumerate(copies)))


def at(content, key):
    """Give the score at a place in the JSON as an array, NaN for None."""
    for name in key:
        content = content[name]
    return np.array(content, dtype=np.float64)


def flat(values, key=()):
    """Yield each interval with its place."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from flat(value, (*key, name))
    elif isinstance(values[0], tuple):
        for value in values:
            yield from flat(value, key)
    else:
        yield key, values


def test_patients_are_drawn_with_all_their_images():
    (draws,) = draw(of_patients("b", "a", "b", "c", "b"), resamples=50, seed=(0,))
    weights = draws.times[:, draws.patient]
    assert (weights[:, [2, 4]] == weights[:, [0]]).all()
    assert (weights[:, 1] != weights[:, 0]).any()
    assert (weights[:, 3] != weights[:, 1]).any()


def test_as_many_patients_are_drawn_as_there_are():
    (draws,) = draw(of_patients(*"aabbbcd"), resamples=50, seed=(0,))
    assert draws.times.shape == (50, 4)
    assert (draws.times.sum(axis=1) == 4).all()


def test_patients_are_drawn_with_replacement_and_alike():
    """Of four patients one is left out of (3/4)^4 = 0.316 of the resamples, and drawn once on average."""
    times = np.concatenate([each.times for each in draw(of_patients(*"abcddddd"), resamples=4000, seed=(0,))])
    assert times.mean(axis=0) == pytest.approx([1.0] * 4, abs=0.06)
    assert (times == 0).mean(axis=0) == pytest.approx([0.316] * 4, abs=0.03)


def test_same_seed_gives_the_same_draws():
    first, again, other = (
        next(draw(of_patients(*"abcde"), resamples=20, seed=seed)).times for seed in ((1,), (1,), (2,))
    )
    assert (first == again).all()
    assert (first != other).any()


def test_draws_hang_on_the_patients_and_not_on_their_images():
    one, other = of_patients(*"abcde"), of_patients(*"eeadcbb")
    assert (next(draw(one, resamples=20, seed=(1,))).times == next(draw(other, resamples=20, seed=(1,))).times).all()


@pytest.mark.parametrize("matching", ["one-to-one", "paper"])
@pytest.mark.parametrize("seed", range(4))
def test_resample_scores_like_its_images_written_out(drawn, seed, matching):
    whole = drawn(*random_scenes(seed, 9))
    table = tabulated(whole, matching=matching)
    (draws,) = draw(table, resamples=10, seed=(seed,))
    found = resampled(table, draws)
    for place, times in enumerate(draws.times[:, draws.patient]):
        content = score(written_out(whole, times), matching=matching).to_json()
        for key, values in found.items():
            expected = np.broadcast_to(at(content, key), values[place].shape)
            np.testing.assert_allclose(values[place], expected, rtol=0, atol=1e-12, err_msg=str(key))


def test_samples_by_hand(drawn):
    """One found lesion of one patient, two missed ones of the other: a of the first make 2 - a of the second.

    Of a + 2 (2 - a) lesions a are found: of three one, recall 1/3, which 34 of 101 points are. PQ a / (a + (2 - a)).
    """
    table = tabulated(drawn((MASS, MASS), (MASS, BLANK), (MASS, BLANK)))
    (draws,) = draw(table, resamples=30, seed=(0,))
    found, a = resampled(table, draws), draws.times[:, 0]
    assert set(a.tolist()) == {0, 1, 2}
    share = np.array([0, 1 / 3, 1])[a]
    assert found["sweep", "PQ"][:, 0].tolist() == (a / 2).tolist()
    assert found["sweep", "RQ"][:, 0].tolist() == (a / 2).tolist()
    assert found["sweep", "SQ"][:, 0].tolist() == (a > 0).tolist()
    assert found["sweep", "AP"][:, 0] == pytest.approx(np.array([0, 34 / 101, 1])[a])
    assert found["froc", "lesion", "sensitivity"][:, 0, 0] == pytest.approx(share)
    assert found["dice", "per_image"] == pytest.approx(share)
    assert found["dice", "pooled"] == pytest.approx(np.array([0, 2 * 9 / (27 + 9), 1])[a])
    assert found["iou", "pooled"] == pytest.approx(share)


def test_order_of_the_images_changes_no_sample(drawn):
    """But for AP, where equal scores go in the order of the images."""
    whole = drawn(*random_scenes(4, 9))
    first, other = (
        samples([tabulated(replace(whole, images=images))], resamples=20, seed=0)
        for images in (whole.images, whole.images[::-1])
    )
    for key in first:
        if key[-1] != "AP":
            np.testing.assert_allclose(other[key], first[key], rtol=0, atol=1e-12, err_msg=str(key))


def test_resamples_are_scored_alike_some_at_a_time(drawn, monkeypatch):
    table = tabulated(drawn(*random_scenes(0, 9)))
    at_once = samples([table], resamples=20, seed=0)
    monkeypatch.setattr("mammoprep.evaluation.statistics._AT_A_TIME", 7)
    monkeypatch.setattr("mammoprep.evaluation.statistics._CELLS", 100)
    for key, values in samples([table], resamples=20, seed=0).items():
        np.testing.assert_array_equal(values, at_once[key])


def test_what_is_not_given_has_no_samples(drawn):
    whole = drawn((BOTH, BOTH), (MASS, MASS))
    heads = {
        piece: {key[0] + key[-1] for key in samples([tabulated(without(whole, piece))], resamples=2, seed=0)}
        for piece in PIECES
    }
    assert "sweepPQ" not in heads["panoptic"]
    assert "sweepAP" not in heads["instances"]
    assert not {"frocsensitivity", "detectionAP"} & heads["instances"]
    assert not {"dicepooled", "ioupooled"} & heads["semantic"]
    assert {"sweepAP", "sweepPQ", "frocsensitivity"} <= heads["semantic"]


def without(tally, piece):
    name = {"panoptic": "scenes", "instances": "rankings", "semantic": "confusion"}[piece]
    images = tuple(replace(image, **{name: None}) for image in tally.images)
    return replace(tally, images=images, not_given={piece: "not here"})


@pytest.mark.parametrize(
    ("patients", "reason"), [("aaa", "needs more than one"), (["a", "", "b"], "does not give the patient")]
)
def test_patients_that_cannot_be_drawn_are_a_reason(patients, reason):
    assert reason in intervals([of_patients(*patients)])
    assert reason in intervals([of_patients(*"abc"), of_patients(*patients)])


def test_perfect_prediction_leaves_no_doubt(drawn):
    """A resample without calcifications has no score of theirs, so that it takes nothing from the others."""
    found = intervals([tabulated(drawn((BOTH, BOTH), (MASS, MASS), (BLANK, BLANK)))], resamples=50)
    assert np.array([each for _, each in flat(found.values)], dtype=float) == pytest.approx(1.0)
    assert (found.resamples, found.patients, found.level) == (50, 2, 0.95)


def test_intervals_stand_at_the_places_of_the_scores(drawn):
    table = tabulated(whole := drawn(*random_scenes(1, 9)))
    content, found = score(whole).to_json(), intervals([table], resamples=3).to_json()
    places = {key for key, _ in flat({key: value for key, value in found.items() if isinstance(value, dict)})}
    assert {("sweep", "AP"), ("per_class", "calc", "SQ"), ("detection", "PQ"), ("iou", "per_class", "mass")} <= places
    assert {("froc", "lesion", "sensitivity"), ("froc", "per_class", "mass", "sensitivity")} <= places
    for key in places:
        assert at(found, key).shape == (*at(content, key).shape, 2)


@pytest.mark.parametrize("seed", range(3))
def test_score_lies_inside_its_interval(drawn, seed):
    whole = drawn(*random_scenes(seed, 20))
    content, found = score(whole).to_json(), intervals([tabulated(whole)], resamples=200).to_json()
    for key in (("sweep", "PQ"), ("sweep", "AP"), ("detection", "RQ"), ("dice", "per_image"), ("iou", "pooled")):
        low, high = np.moveaxis(at(found, key), -1, 0)
        assert (low <= at(content, key)).all(), key
        assert (at(content, key) <= high).all(), key
        assert np.ravel(low < high)[0], key


def test_intervals_hang_on_the_seed_alone(drawn):
    table = tabulated(drawn(*random_scenes(0, 9)))
    first, again, other = (intervals([table], resamples=20, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.values != other.values


def test_class_in_no_resample_has_no_interval(drawn):
    found = intervals([tabulated(drawn((MASS, MASS), (MASS, BLANK)))], resamples=20).values
    for quality in ("PQ", "RQ", "SQ", "AP"):
        assert found["per_class"]["calc"][quality] == ((None, None),) * len(THRESHOLDS)
    assert found["dice"]["per_class"]["calc"] == (None, None)
    assert found["froc"]["per_class"]["calc"]["sensitivity"] == (((None, None),) * 6,) * 4
    assert found["sweep"]["PQ"][0] == (0.0, 1.0)


def test_folds_are_averaged_in_each_resample(drawn):
    """A fold where all is found and one where all is missed: every mean is 1/2, that of a class in one fold its own."""
    parts = [drawn((BOTH, BOTH), (BOTH, BOTH), (MASS, MASS)), drawn((MASS, BLANK), (MASS, BLANK))]
    found = intervals([tabulated(part) for part in parts], resamples=20)
    content = over_folds([score(part) for part in parts]).to_json()
    for key in (("sweep", "PQ"), ("sweep", "AP"), ("detection", "SQ"), ("dice", "per_image"), ("iou", "pooled")):
        assert at(found.to_json(), key) == pytest.approx(0.5)
        assert at(content, key) == pytest.approx(0.5)
    assert found.values["per_class"]["calc"]["PQ"] == ((1.0, 1.0),) * len(THRESHOLDS)
    assert found.patients == 4


def test_patients_of_each_fold_are_drawn_on_their_own(drawn):
    """Images alike in two folds: the mean of two independent draws, half of the one that a lone fold has."""
    table = tabulated(drawn((MASS, MASS), (MASS, BLANK)))
    folds = [table, replace(table, names=("other-1", "other-2"))]
    alone, both = (samples(tables, resamples=100, seed=0)["dice", "per_image"] for tables in ([table], folds))
    assert set(alone.tolist()) == {0.0, 0.5, 1.0}
    assert set(both.tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert set((2 * both - alone).tolist()) == {0.0, 0.5, 1.0}


def test_limits_are_the_percentiles_of_what_is_given():
    drawn = np.array([*range(101), *[np.nan] * 50], dtype=float)
    assert limits(drawn) == pytest.approx((2.5, 97.5))
    assert limits(drawn[::-1] ** 2) == pytest.approx(tuple(np.percentile(np.arange(101) ** 2, (2.5, 97.5))))
    assert limits(np.array([np.nan, np.nan])) == (None, None)


def test_limits_are_nested_like_the_score():
    """Samples (B, 2, 3)."""
    found = limits(np.array([[[1, 2, 3], [4, 5, 6]]] * 7, dtype=float))
    assert found == (((1, 1), (2, 2), (3, 3)), ((4, 4), (5, 5), (6, 6)))


def test_workers_and_order_change_no_interval(write, scene, monkeypatch):
    monkeypatch.setattr("mammoprep.evaluation.tally.CHUNK", 2)
    paths = write(*(scene(*each) for each in random_scenes(3, 8)))
    others = [
        tally(*paths, workers=Workers(3)),
        tally(*paths, image_ids=[5, 2, 8]) + tally(*paths, image_ids=[7, 1, 6, 3, 4]),
    ]
    found = intervals([tabulated(tally(*paths))], resamples=20)
    assert found.values["sweep"]["PQ"][0] != (None, None)
    assert [intervals([tabulated(each)], resamples=20) for each in others] == [found] * 2


def test_data_set_without_lesion_classes_has_no_intervals():
    names = ("a", "b")
    images = tuple(
        ImageTally(i, name, Facts(name), {}, lesion_free=True, missing=False, scenes={}, rankings={}, confusion=None)
        for i, name in enumerate(names)
    )
    table = tabulated(Tally(panoptic.make_categories([], ["background"]), {"semantic": "not here"}, images))
    assert intervals([table]) == "the data set has no lesion classes"
