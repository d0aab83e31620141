import numpy as np
import pytest
from hotcoco import COCO, COCOeval
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from mammoprep import panoptic
from mammoprep.evaluation.detections import Instance, covers, rank
from mammoprep.evaluation.detections import precision as precision_at_recalls
from mammoprep.evaluation.matching import LESION, THRESHOLDS


def boxes(*places, side=10):
    """Give the run-length code of each box (x, y, width, height)."""
    codes = []
    for x, y, width, height in places:
        box = np.zeros((side, side), dtype=bool)
        box[y : y + height, x : x + width] = True
        codes.append(panoptic.encode_rle(box))
    return codes


def lesion(code, *, crowd=False):
    return Instance(1, code, crowd)


def detection(code, score):
    return Instance(1, code, score=score)


def average_precision(rankings):
    found = precision_at_recalls(rankings)
    return None if found is None else tuple(found.mean(axis=1).tolist())


def precision(*images):
    """Give AP of class 1 from (lesions, detections) image by image."""
    return average_precision([ranking[1] for ranking in rank(images, things={1, 2}) if 1 in ranking])


def test_precision_falls_to_zero_above_the_iou():
    """4 of 8 pixels: IoU 1/2, which still counts at 0.5."""
    whole, half = boxes((0, 0, 2, 4), (0, 0, 2, 2))
    found = precision(([lesion(whole)], [detection(half, 0.9)]))
    assert found == pytest.approx([float(t <= 0.5) for t in THRESHOLDS])


def test_false_detection_ahead_halves_the_precision():
    code, elsewhere = boxes((0, 0, 3, 3), (6, 6, 3, 3))
    found = precision(([lesion(code)], [detection(code, 0.5), detection(elsewhere, 0.9)]))
    assert found[0] == pytest.approx(0.5)


def test_false_detection_behind_costs_nothing():
    code, elsewhere = boxes((0, 0, 3, 3), (6, 6, 3, 3))
    assert precision(([lesion(code)], [detection(code, 0.9), detection(elsewhere, 0.5)]))[0] == pytest.approx(1.0)


def test_equal_scores_keep_the_order_of_the_list():
    code, elsewhere = boxes((0, 0, 3, 3), (6, 6, 3, 3))
    first = [detection(code, 0.5), detection(elsewhere, 0.5)]
    assert precision(([lesion(code)], first))[0] == pytest.approx(1.0)
    assert precision(([lesion(code)], first[::-1]))[0] == pytest.approx(0.5)


def test_missed_lesion_leaves_recall_points_empty():
    """One of two lesions: recall reaches 0.5, that is 51 of 101 points."""
    one, other = boxes((0, 0, 3, 3), (6, 6, 3, 3))
    assert precision(([lesion(one), lesion(other)], [detection(one, 0.9)]))[0] == pytest.approx(51 / 101)


def test_no_detection_is_zero_and_no_lesion_is_none():
    (code,) = boxes((0, 0, 3, 3))
    assert precision(([lesion(code)], [])) == (0.0,) * 18
    assert precision(([], [detection(code, 0.5)])) is None
    assert precision(([lesion(code, crowd=True)], [])) is None
    assert average_precision([]) is None


def test_detection_on_a_crowd_is_ignored():
    whole, inside, lone = boxes((0, 0, 6, 6), (1, 1, 2, 2), (8, 8, 2, 2))
    lesions = [lesion(whole, crowd=True), lesion(lone)]
    assert precision((lesions, [detection(inside, 0.9), detection(lone, 0.5)]))[0] == pytest.approx(1.0)


def test_hundred_detections_an_image_count():
    code, elsewhere = boxes((0, 0, 3, 3), (6, 6, 3, 3))
    many = [detection(elsewhere, 0.9)] * 100
    assert precision(([lesion(code)], [*many, detection(code, 0.5)])) == (0.0,) * 18


def test_nothing_is_printed(capfd):
    (code,) = boxes((0, 0, 3, 3))
    assert precision(([lesion(code)], [detection(code, 0.9)]))
    assert capfd.readouterr() == ("", "")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_precision_equals_hotcoco(seed):
    generator = np.random.default_rng(seed)
    truths, results, images, drawn, rankings = [], [], [], [], {1: [], 2: []}
    for image_id in range(1, 7):
        kinds = generator.integers(1, 3, 12).tolist()
        places = np.concatenate([generator.integers(0, 7, (12, 2)), generator.integers(2, 5, (12, 2))], axis=1)
        codes = boxes(*places)
        scores = (generator.integers(0, 20, 12) / 20).tolist()
        crowds = (generator.random(4) < 0.2).tolist()
        truths += [entry(image_id, *each) for each in zip(kinds[:4], codes[:4], crowds, strict=True)]
        results += [entry(image_id, *each) for each in zip(kinds[4:], codes[4:], scores[4:], strict=True)]
        images.append({"id": image_id, "height": 10, "width": 10, "file_name": f"{image_id}.png"})
        lesions = [Instance(*each) for each in zip(kinds[:4], codes[:4], crowds, strict=True)]
        detections = [Instance(k, c, score=s) for k, c, s in zip(kinds[4:], codes[4:], scores[4:], strict=True)]
        drawn.append((lesions, detections))
    for found in rank(drawn, things={1, 2}):
        for label in rankings.keys() & found.keys():
            rankings[label].append(found[label])
    for label in (1, 2):
        assert (average_precision(rankings[label]) or (-1,) * 18) == pytest.approx(
            by_hotcoco(images, truths, results, label), abs=1e-12
        )


def entry(image_id, label, code, last):
    """Give a ground-truth entry where `last` is a bool, else a result."""
    kind = {"iscrowd": int(last)} if isinstance(last, bool) else {"score": last}
    area = int(mask.area(code))
    return {
        "image_id": image_id,
        "category_id": label,
        "segmentation": code,
        "area": area,
        "bbox": [0, 0, 1, 1],
        **kind,
    }


def by_hotcoco(images, truths, results, label):
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    annotations = [{**truth, "id": i} for i, truth in enumerate(truths, start=1)]
    truth = COCO({"images": images, "annotations": annotations, "categories": categories})
    evaluator = COCOeval(truth, truth.load_res(results), "segm")
    evaluator.params.iou_thrs = list(THRESHOLDS)
    evaluator.evaluate()
    evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"])[:, :, label - 1, 0, -1].mean(axis=1)


BROKEN = ["", "1", "abc", "zzzz", "é", " ", "P" * 30, "o" * 200]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_code_of_any_mask_covers_its_image(seed):
    """Broken codes before and after change nothing."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 90, 2).tolist()
    counts = panoptic.encode_rle(generator.random((height, width)) < generator.random())["counts"]
    pixels = height * width
    codes, sizes = (
        [BROKEN[seed % len(BROKEN)], counts, counts, counts[:-1], counts],
        [25, pixels, pixels + 1, pixels, pixels],
    )
    assert covers(codes, sizes).tolist() == [False, True, False, False, True]


@pytest.mark.parametrize("counts", BROKEN)
def test_broken_code_covers_nothing(counts):
    assert covers([counts], [25]).tolist() == [False]


def test_no_code_is_no_answer():
    assert covers([], []).shape == (0,)


def test_lesions_found_as_another_class_are_found_with_the_class_ignored():
    code, elsewhere = boxes((0, 0, 3, 3), (6, 6, 3, 3))
    found = rank(
        [([Instance(1, code)], [Instance(2, code, score=0.9), Instance(3, elsewhere, score=0.8)])], things={1, 2}
    )
    assert found[0][1].matched.shape == (18, 0)
    assert not found[0][2].matched.any()
    assert found[0][LESION].matched.all()
    assert found[0][LESION].scores.tolist() == [0.9]  # class 3 is stuff


def test_images_are_ranked_alike_alone_and_together():
    one, other = boxes((0, 0, 3, 3), (6, 6, 3, 3))
    images = [([lesion(one)], [detection(one, 0.5)]), ([], []), ([], [detection(other, 0.9)]), ([lesion(other)], [])]
    together = rank(images, things={1})
    for image, found in zip(images, together, strict=True):
        alone = rank([image], things={1})[0]
        assert alone.keys() == found.keys()
        for label in alone:
            assert (alone[label].matched == found[label].matched).all()
            assert (alone[label].scores.tolist(), alone[label].truths) == (
                found[label].scores.tolist(),
                found[label].truths,
            )
